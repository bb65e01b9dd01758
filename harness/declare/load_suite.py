"""The SUITE of a Python file."""

from __future__ import annotations

import hashlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Mapping, Set
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from harness.declare.beside import OWN_PACKAGES, importing_beside
from harness.declare.keywords import after_unknown_keyword
from harness.declare.suite import Suite
from harness.declare.suite_signs import own_names

_MENTION: Final = re.compile(r"\bSUITE\b")


class SuiteFileError(ValueError):
    """A file that is not Python, or raises while it is imported. The message names file, line and error."""


class NoSuiteError(SuiteFileError):
    """A file without a module-level SUITE. `others` says which suites it holds under other names, in words; empty if none."""

    def __init__(self, message: str, others: str = "") -> None:
        super().__init__(message)
        self.others = others


@dataclass(frozen=True, kw_only=True)
class LoadedSuite:
    """What a suite file gave: `declared` is its SUITE, which need not be a Suite, `imported` are the files beside it that it
    imported, and `others` says which further suites it makes under names without a leading underscore."""

    declared: object
    imported: frozenset[str]
    others: str


def load_suite(path: Path) -> object:
    """The object named SUITE in the file, which may not be a Suite.

    The file is run on every call, under a private module name. `__file__`, relative imports, and plain imports of the files next
    to it work as in any module. Raises NoSuiteError, or SuiteFileError with the error that the file itself raised.
    """
    return loaded_suite(path).declared


def loaded_suite(path: Path) -> LoadedSuite:
    """As `load_suite`, with what else the file holds and imports."""
    if not path.exists():
        raise SuiteFileError(f"{path} does not exist; expected a Python file with a module-level SUITE")
    if not path.is_file() or path.suffix != ".py":
        raise SuiteFileError(f"{path} is not a Python file; expected one with a module-level SUITE")
    module, spec = _private_module(path.absolute())
    try:
        assert spec.loader is not None  # there is one for every .py file
        with importing_beside(path.absolute().parent, Path.cwd()) as imported:
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise SuiteFileError(f"{path.name}{_line(error, path)}: {_in_words(error)}") from error
    values = {name: value for name, value in vars(module).items() if not name.startswith("__") and name != "SUITE"}
    if not hasattr(module, "SUITE"):
        others = _in_words_of_suites(values)
        why = f", but {others}" if others else _where_mentioned(path)
        what = "a file has one suite, called SUITE" if others else "expected SUITE = harness.Suite(...)"
        raise NoSuiteError(f"{path.name} has no SUITE at module level{why}; {what}", others)
    package = spec.name.rpartition(".")[0]
    relative = {str(getattr(sys.modules[name], "__file__", "")) for name in list(sys.modules) if name.startswith(f"{package}.")}
    own = own_names(path, values)
    modules = [value for value in vars(module).values() if isinstance(value, ModuleType)]
    elsewhere = [*(values[name] for name in values if name not in own), *(vars(other) for other in modules)]
    foreign = {id(suite) for suite in _suites_in(elsewhere)}
    public = {name: values[name] for name in own if not name.startswith("_")}
    return LoadedSuite(declared=module.SUITE, imported=frozenset(imported | relative - {str(path.absolute())}),
                       others=_in_words_of_suites(public, foreign | {id(module.SUITE)}))


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
    return f"{type(error).__name__}: {message}{_where_imports_look(error)}" if message else type(error).__name__


def _where_imports_look(error: BaseException) -> str:
    """The end of a message about a module or a name that cannot be imported."""
    if not isinstance(error, ImportError) or not error.name:
        return ""
    if error.name.partition(".")[0] in OWN_PACKAGES:
        return (f". {error.name.partition('.')[0]!r} is Sweetspot's own package, and hides a folder of that name; rename the "
                "folder")
    if isinstance(error, ModuleNotFoundError):
        return (". A suite file can import what is installed, the files in its own folder, and folders below the working "
                "directory")
    return ""


def _suites_in(value: object, depth: int = 3) -> list[Suite]:
    """The suites that a value is or holds, in collections of collections too."""
    if isinstance(value, Suite):
        return [value]
    if not depth or not isinstance(value, dict | list | tuple | set | frozenset):
        return []
    items = value.values() if isinstance(value, dict) else value
    return [suite for item in items for suite in _suites_in(item, depth - 1)]


def _in_words_of_suites(values: Mapping[str, Any], spared: Set[int] = frozenset()) -> str:
    """Which of the values are suites, or lists or mappings of suites: "'suite' is a Suite and 'SUITES' holds 3". `spared` are ids
    of suites that do not count."""
    phrases = []
    for name, value in values.items():
        count = sum(id(suite) not in spared for suite in _suites_in(value))
        if isinstance(value, Suite) and count:
            phrases.append(f"{name!r} is a Suite")
        elif count:
            phrases.append(f"{name!r} holds {count} Suite{'s' if count > 1 else ''}")
    return " and ".join(phrases)


def _where_mentioned(path: Path) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    first = next((number for number, line in enumerate(lines, start=1) if _MENTION.search(line)), None)
    return f", though line {first} mentions it" if first else ""
