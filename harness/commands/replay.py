"""`sweetspot replay`: reproduces a merged file from the recipe in its header, and compares the two."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.commands.downloads import add_download, available
from harness.commands.terminal import ByteBar, add_examples, say
from harness.declare import Checkpoint, Model
from harness.declare.hub_names import file_name
from harness.hub import HubError, how_to_fetch, is_path, place
from harness.records.harmless_text import printable
from harness.version import __version__
from harness.weights import content_hash

if TYPE_CHECKING:
    from harness.materialise.provenance import Provenance

_SHOWN = 10
_BACKUP = re.compile(r"\.bak\d+$")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `replay`."""
    add_examples(parser, "replay merged.safetensors", "replay merged.safetensors --models /srv/models -o again.safetensors")
    parser.add_argument("file", type=Path, help="a file that `sweetspot merge` wrote")
    parser.add_argument("--models", type=Path, action="append", default=[], metavar="FOLDER",
                        help="a folder to search for the inputs, by name or content; may be repeated (the folder of the file and "
                             "the current one are always searched)")
    parser.add_argument("-o", "--output", type=Path, help="also write the file that is made again")
    parser.add_argument("--allow-code", action="append", default=[], metavar="MODULE:NAME",
                        help="a merge method that the header names and that may be imported; may be repeated. Anybody can write "
                             "a header: allow only code that you know")
    add_download(parser)


def run(given: argparse.Namespace) -> int:
    """Exit codes: 0 all tensors are the same bit for bit, 1 they differ or the file cannot be made again."""
    try:
        for name in given.allow_code:
            _allow(name)
        if absent := [folder for folder in given.models if not folder.is_dir()]:
            raise ValueError(f"--models {absent[0]}: no such folder. Check the path.")  # noqa: TRY301  reported like the others
        return _replay(given.file, [*given.models, *_beside(given.file), Path()], given.output,
                       allow_download=given.allow_download)
    except (ValueError, OSError, RecursionError) as error:
        print(f"sweetspot replay: {printable(str(error))}", file=sys.stderr)
        return 1


def _beside(file: Path) -> tuple[Path, ...]:
    """The folder of a file, and for a link that of its target."""
    # Path.resolve raises for links that lead in a circle.
    return tuple(dict.fromkeys((Path(os.path.realpath(file.parent)), Path(os.path.realpath(file)).parent)))


def _allow(name: str) -> None:
    """Imports a merge method that the user has allowed by name. Raises ValueError if it does not exist."""
    from harness.merge import MERGE_METHODS

    if ":" not in name:
        raise ValueError(f"--allow-code {name!r}: expected a name of the form 'package.module:NAME'")
    MERGE_METHODS.load(name, [Path()])


def _refuse_code(file: Path, methods: Iterable[str]) -> None:
    """Raises ModelFileError if a header names merge methods in code that the user has not allowed."""
    from harness.merge import MERGE_METHODS
    from harness.weights import ModelFileError

    if blocked := [name for name in methods if ":" in name and MERGE_METHODS.find(name) is None]:
        flags = " ".join(f"--allow-code {name}" for name in blocked)
        raise ModelFileError(f"{file}: its header names code, the merge method {' and '.join(map(repr, blocked))}. Anybody can "
                             f"write a header, so it is not imported by default. If you trust this code, add {flags}")


def _say_versions(made: Provenance) -> None:
    """Prints a note for each merge method that has changed since the file was written."""
    from harness.merge import MERGE_METHODS

    for method, version in made.methods.items():
        row = MERGE_METHODS.find(method)
        if row is not None and row.version != version:
            say(f"note: {printable(method)} has version {row.version} here, but the file was made with {version}")
        elif row is not None and made.sources.get(method, "") != MERGE_METHODS.source(method):
            say(f"note: the code of {printable(method)} has changed since the file was made")


def _replay(file: Path, folders: Sequence[Path], output: Path | None, *, allow_download: bool = False) -> int:
    from harness.check import model_problems
    from harness.materialise.file_layout import place
    from harness.materialise.library import Library, merges_of
    from harness.materialise.plan_recipe import plan_recipe
    from harness.materialise.provenance import read_provenance, renamed
    from harness.materialise.saving import compare, save
    from harness.weights import ModelFileError, open_tensors
    from harness.weights.content import content_of

    if not file.is_file():
        content = content_of(file)
        raise ModelFileError(f"{file}: {content.what}; expected a file that `sweetspot merge` wrote. {content.advice}")
    header = open_tensors(file).metadata
    provenance = read_provenance(file, header)
    _refuse_code(file, dict.fromkeys(merge.method for merge in merges_of(provenance.recipe)))
    library = Library(Path())
    if allow_download:
        available([Checkpoint(path=name) for name in provenance.inputs], allow_download=True)
    places = find_inputs(provenance.inputs, folders)
    for name, at in places.items():
        say(f"input {printable(name)}" + ("" if at == name else f": {printable(at)}"))
    if provenance.version != __version__:
        say(f"note: written by version {printable(provenance.version)}, made again by {__version__}")
    _say_versions(provenance)
    recipe: Model = renamed(provenance.recipe, places)
    if problems_found := list(model_problems(recipe, Path().resolve())):
        raise ModelFileError(f"{file}: the recipe in its header cannot be run: {'; '.join(problems_found)}")
    plan = place(plan_recipe(recipe, library))
    for name, at in places.items():
        if library.content(at) != provenance.inputs[name]["blake3"]:
            raise ModelFileError(f"input {name!r} was changed while it was read: {at}. Restore it, and run again once nothing "
                                 "writes to it.")
    with ByteBar(plan.total, "comparing") as bar:
        compared = compare(plan, file, bar.advance)
    library.refuse_changed(places.values())
    if output is not None:
        with ByteBar(plan.total, "merging") as bar:
            save(plan, library, output, header.get("modelspec.title", output.stem), bar.advance)
        say(f"wrote {printable(str(output))}")
    for relation, names in (("lacks", compared.missing), ("also has", compared.extra),
                            ("has another dtype or shape for", compared.declared), ("has other values in", compared.differing)):
        if names:
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            say(f"the file {relation} {', '.join(printable(repr(name)) for name in names[:_SHOWN])}{more}")
    for sentence in compared.equal:
        say(f"the result is {printable(sentence)}")
    verdict = "identical" if compared.identical else "NOT identical"
    say(f"{verdict}: {compared.tensors} tensors made again and compared bit for bit")
    return 0 if compared.identical else 1


def find_inputs(inputs: Mapping[str, Mapping[str, object]], folders: Sequence[Path]) -> dict[str, str]:
    """{name in the recipe: path}: each input, found by its name or else by its content among the files of its size.

    Names are those of files in the folders, as in `read_provenance`. Raises ModelFileError for an input that is missing or has
    changed.
    """
    places = {}
    for name, facts in inputs.items():
        known = _of_zoo(name, facts) if name.startswith("zoo:") else _of_hub(name, facts) if not is_path(name) else ""
        places[name] = known or _find(name, facts, folders)
    return places


def _of_hub(name: str, facts: Mapping[str, object]) -> str:
    """The address, if the cache has what it was; empty if it is to be searched for."""
    try:
        return name if content_hash(place(name, Path())) == facts["blake3"] else ""
    except HubError:
        return ""


def _of_zoo(name: str, facts: Mapping[str, object]) -> str:
    from harness import zoo
    from harness.weights import ModelFileError

    if content_hash(zoo.resolve(name)) != facts["blake3"]:
        raise ModelFileError(f"input {name!r} (blake3 {facts['blake3']}) is a different model in this version of Sweetspot. "
                             "Install the version that wrote the file.")
    return name


def _find(name: str, facts: Mapping[str, object], folders: Sequence[Path]) -> str:
    from harness.materialise.provenance import size_of
    from harness.weights import ModelFileError

    address, name = name, file_name(name)
    # The second of two inputs of the same name is called "name (2)".
    names = [name, name.rpartition(" (")[0]] if name.endswith(")") else [name]
    named = [folder / word for folder in folders for word in names if word and (folder / word).exists()]
    candidates = []
    for at in _unique([*named, *(at for folder in folders for at in _models(folder))]):
        if size_of(at) != facts["bytes"]:
            continue
        if content_hash(at) == facts["blake3"]:
            if _BACKUP.search(at.name):
                raise ModelFileError(f"input {name!r} is now the backup {at}, because the file of that name was replaced. Copy "
                                     f"it to another folder as {name!r} and give that folder with --models.")
            return str(at)
        candidates.append(at)
    where = ", ".join(dict.fromkeys(str(folder) for folder in folders))
    changed = f"; {candidates[0]} has its size but not its content" if candidates else (
        f"; {named[0]} is not the file that was merged" if named else "")
    fetching = "" if is_path(address) else f" {how_to_fetch([address])}."
    raise ModelFileError(f"input {address!r} (blake3 {facts['blake3']}) is not in {where}{changed}. Give its folder with "
                         f"--models FOLDER.{fetching}")


def _models(folder: Path) -> Iterable[Path]:
    if folder.is_dir():
        # Any file: the size and then the content decide, as names say nothing.
        yield from sorted(at for at in folder.iterdir() if at.is_file() or (at / "unet").is_dir()
                          or (at / "transformer").is_dir())


def _unique(paths: Iterable[Path]) -> Iterable[Path]:
    """Each file once, under the first of its names: that of a link, before that of its target."""
    by_place: dict[Path, Path] = {}
    for path in paths:
        by_place.setdefault(path.resolve(), path.absolute())
    return by_place.values()
