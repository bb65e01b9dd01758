"""The SUITE of a Python file."""

from __future__ import annotations

import hashlib
import importlib.util
import re
import sys
import traceback
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Final

from harness.declare.keywords import after_unknown_keyword

_MENTION: Final = re.compile(r"\bSUITE\b")


class SuiteFileError(ValueError):
    """A file that is not Python, or raises while it is imported. The message names file, line and error."""


class NoSuiteError(SuiteFileError):
    """A file without a module-level SUITE."""


def load_suite(path: Path) -> object:
    """The object named SUITE in the file, which may not be a Suite.

    The file is run on every call, under a private module name. `__file__`, and relative imports of files next to it, work as in
    any module. Raises NoSuiteError, or SuiteFileError with the error that the file itself raised.
    """
    if not path.is_file() or path.suffix != ".py":
        raise SuiteFileError(f"{path} is not a Python file; expected one with a module-level SUITE")
    module, spec = _private_module(path.absolute())
    try:
        assert spec.loader is not None  # there is one for every .py file
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise SuiteFileError(f"{path.name}{_line(error, path)}: {_in_words(error)}") from error
    if not hasattr(module, "SUITE"):
        raise NoSuiteError(f"{path.name} has no SUITE at module level{_where_mentioned(path)}; expected "
                           "SUITE = harness.Suite(...)")
    return module.SUITE


def mentions_suite(path: Path) -> bool:
    """Whether the word SUITE occurs in a file, so that running it may be worth while."""
    return _MENTION.search(path.read_text(encoding="utf-8", errors="replace")) is not None


def _private_module(path: Path) -> tuple[ModuleType, ModuleSpec]:
    """A new module for the file, in a private package for the file's folder. Modules of an earlier load are removed."""
    package = f"_sweetspot_suite_{hashlib.sha256(str(path).encode(errors='surrogateescape')).hexdigest()[:12]}"
    for name in [name for name in sys.modules if name == package or name.startswith(f"{package}.")]:
        del sys.modules[name]
    folder = ModuleType(package)
    folder.__path__ = [str(path.parent)]
    spec = importlib.util.spec_from_file_location(f"{package}.{path.stem}", path)
    assert spec is not None  # there is one for every .py file
    module = importlib.util.module_from_spec(spec)
    # Dataclasses and relative imports look both up by name.
    sys.modules.update({package: folder, spec.name: module})
    return module, spec


def _line(error: BaseException, path: Path) -> str:
    """ ", line 7": where in the file itself the error arose; empty where nothing says so."""
    if isinstance(error, SyntaxError) and error.filename and Path(error.filename).name == path.name:
        return f", line {error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__)
             if Path(frame.filename) == path.absolute() and frame.lineno is not None]
    return f", line {lines[-1]}" if lines else ""


def _in_words(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"it calls sys.exit({error.code!r}); a suite file only declares"
    message = error.msg if isinstance(error, SyntaxError) else f"{error}{after_unknown_keyword(error)}"
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def _where_mentioned(path: Path) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    first = next((number for number, line in enumerate(lines, start=1) if _MENTION.search(line)), None)
    return f", though line {first} mentions it" if first else ""
