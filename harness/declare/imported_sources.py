"""The user's own source files that a module imports, found by reading them: nothing is imported here."""

from __future__ import annotations

import ast
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Final

from harness.declare.beside import OWN_PACKAGES

_INSTALLED: Final = ("site-packages", "dist-packages")


def imported_sources(name: str, file: Path, folders: Sequence[Path], own: str) -> dict[str, Path]:
    """{module name: file} of what the module `name` in `file` imports, also within functions, and what that imports in turn.

    Left out are Python's modules, those of Sweetspot, and installed packages other than `own`: these have versions.
    Imports that are not written as such (importlib, __import__) are not seen. Modules are looked for where Python looks, and in
    `folders`.
    """
    places = [*sys.path, *map(str, folders)]
    sources: dict[str, Path] = {}
    unread = [(name, file)] if name.partition(".")[0] == own or not _installed(file) else []
    while unread:
        of, source = unread.pop()
        for imported in _imports(of, source):
            if imported in sources or imported == name or imported.partition(".")[0] in (*OWN_PACKAGES, *sys.stdlib_module_names):
                continue
            place = _file_of(imported, places)
            if place is not None and (imported.partition(".")[0] == own or not _installed(place)):
                sources[imported] = place
                unread.append((imported, place))
    return sources


def _imports(name: str, file: Path) -> Iterator[str]:
    """The full names of the modules that a file may import, and of the packages around them: of `from a import b` also "a.b",
    which may be a module."""
    if file.suffix != ".py":
        return
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):  # what imports it fails, or it is never imported
        return
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.level and not package:
                continue
            above = package.split(".")[:len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            names = [base, *(f"{base}.{alias.name}" for alias in node.names)] if base else []
        for full in names:
            parts = full.split(".")
            yield from (".".join(parts[:end]) for end in range(1, len(parts) + 1))


def _file_of(name: str, places: Sequence[str]) -> Path | None:
    """The file of a module: as it was imported, else where it would be found. None for a folder without __init__.py, a built-in
    module, and a name that is not a module."""
    if (module := sys.modules.get(name)) is not None:
        file = getattr(module, "__file__", None)
        return Path(file) if isinstance(file, str) else None
    parts, where = name.split("."), list(places)
    spec = None
    for end in range(1, len(parts) + 1):
        spec = PathFinder.find_spec(".".join(parts[:end]), where)
        if spec is None:
            return None
        where = list(spec.submodule_search_locations or ())
    return Path(spec.origin) if spec is not None and spec.origin is not None and spec.has_location else None


def _installed(file: Path) -> bool:
    """Whether a file belongs to Python or to an installed package."""
    resolved = file.resolve()
    if any(part in _INSTALLED for part in resolved.parts):
        return True
    python = (sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"))
    return any(resolved.is_relative_to(Path(folder).resolve()) for folder in python if folder)
