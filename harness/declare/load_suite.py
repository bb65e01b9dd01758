"""The SUITE of a Python file."""

from __future__ import annotations

import importlib.util
from pathlib import Path


class SuiteFileError(ValueError):
    """A file that is not Python, or raises while it is imported."""


class NoSuiteError(SuiteFileError):
    """A file without a module-level SUITE."""


def load_suite(path: Path) -> object:
    """What the file calls SUITE, which need not be a Suite; the file is imported under a private name, each time again.

    Raises NoSuiteError, or SuiteFileError with the error that the file itself raised.
    """
    spec = importlib.util.spec_from_file_location(f"_sweetspot_suite_{path.stem}", path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise SuiteFileError(f"{path} is not a Python file; expected one with a module-level SUITE")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise SuiteFileError(f"{path.name}: {type(error).__name__}: {error}") from error
    if not hasattr(module, "SUITE"):
        raise NoSuiteError(f"{path.name} has no SUITE at module level")
    return module.SUITE
