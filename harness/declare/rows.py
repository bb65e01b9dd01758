"""Tables of rows by name that are open to their users: built-in rows, "package.module:NAME", and rows of installed packages."""

from __future__ import annotations

import hashlib
import importlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from harness.declare.imported_sources import imported_sources
from harness.declare.listing import first_of
from harness.declare.nearest import did_you_mean

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

Row = TypeVar("Row")


class RowError(KeyError, ValueError):
    """A name that gives no row of a table; the text says why."""

    def __str__(self) -> str:
        # A KeyError shows its text quoted.
        return str(self.args[0]) if self.args else ""


@dataclass(frozen=True, kw_only=True)
class OwnRow(Generic[Row]):
    """A row that is not built in: as its author wrote it, as the harness uses it, and the hash (16 hex digits) of its source."""

    written: Row
    row: Row
    source: str


class Rows(dict[str, Row]):
    """A table of rows by name. The dict itself holds the built-in rows; `table[name]` also gives rows of a user's own.

    A row of one's own is called "package.module:NAME", or by the name that an installed package registers in the entry points
    of `group`. A dotted name is code, and names also come from files that nobody has vouched for: the header of a model file, a
    run folder. So `table[name]` never imports a dotted name. Whoever has the name from the user calls `load` first.
    """

    def __init__(self, rows: Mapping[str, Row], *, word: str, kind: type[Row], group: str,
                 adopt: Callable[[str, Row], Row]) -> None:
        """`word` is what messages call a row ("merge method"), `kind` its record. `adopt` gives a row of one's own as the harness
        uses it, and raises ValueError for one that cannot be used."""
        super().__init__(rows)
        self.word, self.kind, self.group = word, kind, group
        self._adopt = adopt
        self._own: dict[str, OwnRow[Row]] = {}
        self._refused: dict[str, str] = {}

    def __missing__(self, name: str) -> Row:
        if name in self._own:
            return self._own[name].row
        if ":" not in name:
            return self.load(name)
        raise RowError(self._refused.get(name) or (
            f"{self.word} {name!r} names code that is not allowed: code is imported only where a suite file, a recipe file or "
            "the command line names it"))

    def load(self, name: str, folders: Sequence[Path] = ()) -> Row:
        """The row of a name that the user gave: a dotted one is imported, from the usual places or from `folders`.

        RowError where there is none, which `why_not` then says as well.
        """
        if name in self:
            return self[name]
        try:
            own = self._imported(name, folders) if ":" in name else self._installed(name)
        except RowError as error:
            self._own.pop(name, None)
            self._refused[name] = str(error)
            raise
        self._refused.pop(name, None)
        self._own[name] = own
        return own.row

    def find(self, name: str) -> Row | None:
        """The row of a name, or None where `table[name]` would raise."""
        try:
            return self[name]
        except RowError:
            return None

    def why_not(self, name: str) -> str:
        """Why there is no row of this name, or an empty string."""
        try:
            self[name]
        except RowError as error:
            return str(error)
        return ""

    def source(self, name: str) -> str:
        """Hash (16 hex digits) of the source of a row of one's own, empty for a built-in one: that has its version."""
        return "" if name in self or self.find(name) is None else self._own[name].source

    def identity(self, name: str) -> int | list[int | str]:
        """What a row's results are known by: its version, and for a row of one's own the hash of its source too."""
        version = int(getattr(self[name], "version"))  # noqa: B009  every kind of row has one
        return [version, self.source(name)] if self.source(name) else version

    def installed(self) -> dict[str, str]:
        """{name: "package.module:NAME"} of the rows that installed packages register. Clashing names are not among them."""
        return {name: points[0].value for name, points in self._points().items() if name not in self and len(points) == 1}

    def clashes(self) -> list[str]:
        """A sentence for each name that packages register although it is built in, or registered twice."""
        return [self._clash(name, points) for name, points in self._points().items() if name in self or len(points) > 1]

    def _points(self) -> dict[str, list[EntryPoint]]:
        from importlib.metadata import entry_points  # takes a while, and most declarations name built-in rows alone

        points_by_name: dict[str, list[EntryPoint]] = {}
        for point in entry_points(group=self.group):
            points_by_name.setdefault(point.name, []).append(point)
        return points_by_name

    def _clash(self, name: str, points: Sequence[EntryPoint]) -> str:
        packages = " and ".join(sorted({point.dist.name if point.dist else point.value for point in points}))
        other = f"the built-in {self.word} has this name" if name in self else "both register this name"
        return (f"{self.word} {name!r} of {packages}: {other}. Rename the entry point in the group {self.group!r}, or uninstall "
                "one of the packages")

    def _installed(self, name: str) -> OwnRow[Row]:
        points = self._points()
        if name not in points:
            known = sorted({*self, *(other for other in points if ":" not in other)})
            raise RowError(f"unknown {self.word} {name!r}; {did_you_mean(name, known)}. To use your own {self.word}, give its "
                           "name as 'package.module:NAME'")
        if len(points[name]) > 1:
            raise RowError(self._clash(name, points[name]))
        point = points[name][0]
        package = point.dist.name if point.dist else point.value
        return self._row(f"{self.word} {name!r} of {package}", name, f"{point.module}:{point.attr}", ())

    def _imported(self, name: str, folders: Sequence[Path]) -> OwnRow[Row]:
        return self._row(f"{self.word} {name!r}", name, name, folders)

    def _row(self, who: str, name: str, path: str, folders: Sequence[Path]) -> OwnRow[Row]:
        module_name, _, attribute = path.partition(":")
        if not attribute.isidentifier() or not all(part.isidentifier() for part in module_name.split(".")):
            raise RowError(f"{who} is not a name of the form 'package.module:NAME'")
        module = _module(who, module_name, folders)
        record = self.kind.__name__
        if not hasattr(module, attribute):
            rows = [other for other, value in vars(module).items() if isinstance(value, self.kind)]
            public = [other for other in vars(module) if not other.startswith("_")]
            kind_hint = f"Its rows are {first_of(sorted(rows), 8)}" if rows else f"It has no {record}"
            raise RowError(f"{who}: {module.__file__} has no {attribute!r}{_hint(attribute, rows or public)}{kind_hint}")
        written = getattr(module, attribute)
        if not isinstance(written, self.kind):
            raise RowError(f"{who}: {attribute} in {module.__file__} is a {type(written).__name__}; expected a {record}")
        source = _source_of(who, module, written, folders)
        before = self._own.get(name)
        if before is not None and before.written is written:
            if before.source != source:
                raise RowError(f"{who}: {module.__file__}, or a file that it imports, has changed since it was imported. Start "
                               "Python again")
            return before
        try:
            return OwnRow(written=written, row=self._adopt(name, written), source=source)
        except (ValueError, TypeError) as error:
            raise RowError(f"{who}: {error}") from error


def error_text(error: BaseException) -> str:
    """An exception of a user's code as text, with the line that raised it: "KeyError: 'x' (brightness.py, line 7)"."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = "" if trace is None else f" ({Path(trace.tb_frame.f_code.co_filename).name}, line {trace.tb_lineno})"
    return f"{type(error).__name__}: {error}{place}"


def _hint(name: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown name: the nearest known names, if any are similar."""
    question = did_you_mean(name, known, list_known=False)
    return f"; {question} " if question else ". "


def _module(who: str, name: str, folders: Sequence[Path]) -> ModuleType:
    """The module of a dotted name. Raises RowError if it does not exist, exists twice, or cannot be imported."""
    importlib.invalidate_caches()
    _make_importable(who, name.partition(".")[0], folders)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        absent = error.name or ""
        if name != absent and not name.startswith(f"{absent}."):
            raise RowError(f"{who}: its module imports {absent!r}, which is not installed ({error_text(error)})") from error
        parent = sys.modules.get(absent.rpartition(".")[0])
        if parent is not None:
            beside = sorted(_submodules(parent))
            raise RowError(f"{who}: there is no module {absent!r}{_hint(absent, beside)}Its package has "
                           f"{first_of(beside, 8) or 'no modules'}") from error
        places = ", ".join(str(folder) for folder in folders)
        beside = sorted({file.stem for folder in folders if folder.is_dir() for file in folder.glob("*.py")})
        raise RowError(f"{who}: there is no module {absent!r}{_hint(absent, beside)}Put it into "
                       f"{places or 'a folder where Python looks'}, or install it") from error
    except (Exception, SystemExit) as error:  # the module is a user's code
        raise RowError(f"{who}: importing {name} failed with {error_text(error)}") from error


def _make_importable(who: str, top: str, folders: Sequence[Path]) -> None:
    """Appends to sys.path the folders that a top-level module is in, if it is found nowhere else. RowError where a name is taken
    by different modules, of which Python would silently take the first."""
    try:
        usual = find_spec(top)
    except ValueError:  # __main__ and the like, which have no spec
        usual = None
    beside = {folder: spec for folder in dict.fromkeys(folder.resolve() for folder in folders)
              if (spec := PathFinder.find_spec(top, [str(folder)])) is not None}
    files = list(dict.fromkeys(filter(None, map(_file_of, (usual, *beside.values())))))
    if len(files) > 1:
        raise RowError(f"{who}: there are several modules {top!r}: {' and '.join(files)}. Rename one of them")
    if usual is None or (not _file_of(usual) and files):
        # Last, so that nothing is hidden that could be imported before.
        sys.path.extend(str(folder) for folder, spec in beside.items()
                        if str(folder) not in sys.path and (_file_of(spec) or not files))
        importlib.invalidate_caches()


def _file_of(spec: ModuleSpec | None) -> str:
    """The file of a module; empty for a folder without __init__.py."""
    if spec is None or spec.origin is None:
        return ""
    return str(Path(spec.origin).resolve()) if spec.has_location else spec.origin


def _submodules(package: ModuleType) -> Iterator[str]:
    for folder in getattr(package, "__path__", ()):
        yield from (f"{package.__name__}.{file.stem}" for file in Path(folder).glob("*.py") if file.stem != "__init__")


def _source_of(who: str, module: ModuleType, row: Any, folders: Sequence[Path]) -> str:
    """Hash of the module that a row was found in, of those that define its functions, and of the user's own files that these
    import (see `imported_sources`)."""
    files: dict[str, Path] = {}
    own = module.__name__.partition(".")[0]
    for name in (module.__name__, *_modules_of(row)):
        file = getattr(sys.modules.get(name), "__file__", None)
        if file is None and name == module.__name__:
            raise RowError(f"{who}: the module {name!r} has no file, so its version cannot be known. Put the row into a file")
        if file is not None:
            files |= {name: Path(file), **imported_sources(name, Path(file), folders, own)}
    digests = {}
    for name, path in sorted(files.items()):
        try:
            digests[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise RowError(f"{who}: {path} cannot be read ({error})") from error
    return hashlib.sha256("\n".join(f"{name} {digest}" for name, digest in digests.items()).encode()).hexdigest()[:16]


def _modules_of(row: Any) -> Iterator[str]:
    """Modules that define the functions of a row. Those of the harness have versions of their own."""
    values = [getattr(row, field.name) for field in fields(row)] if is_dataclass(row) and not isinstance(row, type) else []
    for value in values:
        function = value
        while isinstance(function, partial):
            function = function.func
        if callable(function):
            name = getattr(function, "__module__", None) or type(function).__module__
            if isinstance(name, str) and name.partition(".")[0] != "harness":
                yield name
