"""Imports of the files beside a suite file: they are found while it is loaded, whatever else has their names, and hide nothing
afterwards."""

from __future__ import annotations

import importlib
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Final

OWN_PACKAGES: Final = ("harness", "reports")


@contextmanager
def importing_beside(folder: Path, root: Path) -> Iterator[set[str]]:
    """While this is entered, `import name` finds the modules of `folder`, as in pytest's prepend mode, and `import suites.name`
    if the folder is in one called suites; where nothing else has the name, also those of `root`. Python's own modules and
    installed ones are never hidden. Yields the files that were found; on leaving, their modules are forgotten, so that another
    folder may have others of the same names.
    """
    first, last = _Finder(_beside(folder)), _Finder({}, root)
    taken_out = [name for name in list(sys.modules) if (top := name.partition(".")[0]) in first.places and _free(top)]
    hidden = {name: sys.modules.pop(name) for name in taken_out}
    importlib.invalidate_caches()
    sys.meta_path.insert(0, first)
    sys.meta_path.append(last)
    files: set[str] = set()
    try:
        yield files
    finally:
        sys.meta_path.remove(first)
        sys.meta_path.remove(last)
        for name in [name for name in list(sys.modules) if name.partition(".")[0] in first.names | last.names]:
            files.add(str(getattr(sys.modules.pop(name), "__file__", None)))
        sys.modules.update(hidden)


class _Finder:
    """Finds the top-level modules of `places` (name to folder), or any in `everywhere`."""

    def __init__(self, places: Mapping[str, Path], everywhere: Path | None = None) -> None:
        self.places, self._everywhere = places, everywhere
        self.names: set[str] = set()

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """What `sys.meta_path` asks of a finder."""
        del target
        folder = self.places.get(name, self._everywhere)
        if path is not None or folder is None or (self._everywhere is None and not _free(name)):
            return None
        spec = PathFinder.find_spec(name, [str(folder)])
        if spec is not None:
            self.names.add(name)
        return spec


def _beside(folder: Path) -> dict[str, Path]:
    """The folder of each module that can be imported from a file in `folder`: those in it, and the folders that it is in."""
    above = {place.name: place.parent for place in (folder, *folder.parents) if place.name.isidentifier()}
    files = {file.stem: folder for file in folder.glob("*.py")}
    return above | files | {file.parent.name: folder for file in folder.glob("*/__init__.py")}


def _free(name: str) -> bool:
    """Whether a name is neither that of Python's own modules nor of an installed one."""
    if name in sys.stdlib_module_names or name in OWN_PACKAGES:
        return False
    return PathFinder.find_spec(name, [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]) is None
