"""`sweetspot replay`: makes a merged file again from the recipe in its header, and says whether it is the same."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from harness.commands.terminal import ByteBar, say
from harness.declare import Model
from harness.records.text import printable
from harness.version import __version__

_SHOWN = 10
_BACKUP = re.compile(r"\.bak\d+$")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `replay`."""
    parser.add_argument("file", type=Path, help="a file that `sweetspot merge` wrote")
    parser.add_argument("--models", type=Path, action="append", default=[], metavar="FOLDER",
                        help="where its inputs are, by name or content; may be repeated (default: beside the file, and here)")
    parser.add_argument("-o", "--output", type=Path, help="write the file made again, too")


def run(given: argparse.Namespace) -> int:
    """Exit codes: 0 the same tensors bit for bit, 1 not the same or not to be made."""
    try:
        return _replay(given.file, [*given.models, given.file.resolve().parent, Path()], given.output)
    except (ValueError, OSError, RecursionError) as error:
        print(f"sweetspot replay: {printable(str(error))}", file=sys.stderr)
        return 1


def _replay(file: Path, folders: Sequence[Path], output: Path | None) -> int:
    from harness.check import model_problems
    from harness.materialise.file_layout import place
    from harness.materialise.library import Library
    from harness.materialise.provenance import read_provenance, renamed
    from harness.materialise.recipe import plan_recipe
    from harness.materialise.saving import compare, save
    from harness.merge import MERGE_METHODS
    from harness.weights import ModelFileError, open_tensors

    if not file.is_file():
        raise ModelFileError(f"{file}: no such file. Check the path.")
    header = open_tensors(file).metadata
    made = read_provenance(file, header)
    library = Library(Path())
    places = find_inputs(made.inputs, folders)
    for name, at in places.items():
        say(f"input {printable(name)}: {printable(at)}")
    if made.version != __version__:
        say(f"note: written by version {printable(made.version)}, made again by {__version__}")
    for method, version in made.methods.items():
        if method in MERGE_METHODS and MERGE_METHODS[method].version != version:
            say(f"note: {method} has version {MERGE_METHODS[method].version} here, the file was made with {version}")
    recipe: Model = renamed(made.recipe, places)
    if wrong := list(model_problems(recipe, Path().resolve())):
        raise ModelFileError(f"{file}: the recipe in its header cannot be carried out: {'; '.join(wrong)}")
    plan = place(plan_recipe(recipe, library))
    with ByteBar(plan.total, "comparing") as bar:
        compared = compare(plan, file, bar.advance)
    if output is not None:
        with ByteBar(plan.total, "merging") as bar:
            save(plan, library, output, header.get("modelspec.title", output.stem), bar.advance)
        say(f"wrote {printable(str(output))}")
    for said, names in (("lacks", compared.missing), ("has besides", compared.extra), ("declares otherwise", compared.declared),
                        ("holds other bytes in", compared.differing)):
        if names:
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            say(f"the file {said} {', '.join(printable(repr(name)) for name in names[:_SHOWN])}{more}")
    verdict = "identical" if compared.identical else "NOT identical"
    say(f"{verdict}: {compared.tensors} tensors made again and compared bit for bit")
    return 0 if compared.identical else 1


def find_inputs(inputs: Mapping[str, Mapping[str, object]], folders: Sequence[Path]) -> dict[str, str]:
    """{name in the recipe: path}: each input by its name, else by its content among the files of its size.

    Names are those of files in the folders, as `read_provenance` gives them. ModelFileError when one is not there or is
    another file than it was.
    """
    return {name: _of_zoo(name, said) if name.startswith("zoo:") else _find(name, said, folders) for name, said in inputs.items()}


def _of_zoo(name: str, said: Mapping[str, object]) -> str:
    from harness import zoo
    from harness.weights import ModelFileError, content_hash

    if content_hash(zoo.resolve(name)) != said["blake3"]:
        raise ModelFileError(f"input {name!r} (blake3 {said['blake3']}) is another model in this version of Sweetspot. Install "
                             "the version that the file was written by.")
    return name


def _find(name: str, said: Mapping[str, object], folders: Sequence[Path]) -> str:
    from harness.materialise.provenance import size_of
    from harness.weights import ModelFileError, content_hash

    # Of two inputs of one name the second is called "name (2)".
    names = [name, name.rpartition(" (")[0]] if name.endswith(")") else [name]
    named = [folder / word for folder in folders for word in names if word and (folder / word).exists()]
    tried = []
    for at in _unique([*named, *(at for folder in folders for at in _models(folder))]):
        if size_of(at) != said["bytes"]:
            continue
        if content_hash(at) == said["blake3"]:
            if _BACKUP.search(at.name):
                raise ModelFileError(f"input {name!r} is now {at}, kept when the file of its name was replaced. Copy it to "
                                     f"another folder as {name!r} and give that with --models FOLDER.")
            return str(at)
        tried.append(at)
    where = ", ".join(dict.fromkeys(str(folder) for folder in folders))
    changed = f"; {tried[0]} has its size but not its content" if tried else (
        f"; {named[0]} is another file than was merged" if named else "")
    raise ModelFileError(f"input {name!r} (blake3 {said['blake3']}) is not in {where}{changed}. Say where it is with "
                         "--models FOLDER.")


def _models(folder: Path) -> Iterable[Path]:
    if folder.is_dir():
        yield from sorted(at for at in folder.iterdir() if at.suffix in (".safetensors", ".ckpt", ".pt", ".pth")
                          or _BACKUP.search(at.name) or (at / "unet").is_dir())


def _unique(paths: Iterable[Path]) -> Iterable[Path]:
    return dict.fromkeys(path.resolve() for path in paths)
