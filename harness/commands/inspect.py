"""`sweetspot inspect`: describes model files by their headers: family, parts, dtypes, EMA, markers, contradictions.
It reads no weights and, for .safetensors and GGUF, imports neither torch nor anything slow.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.commands.downloads import add_download, available
from harness.commands.terminal import add_examples, size_in_words
from harness.declare import Checkpoint
from harness.hub import place
from harness.records.harmless_text import printable
from harness.weights import ModelFile, ModelFileError, TensorInfo, content_hash, open_model
from harness.weights.content import GGUF
from harness.weights.families import IS_ADAPTER, UnknownArchitectureError
from harness.weights.gguf_header import types_of
from harness.weights.header_claims import position_ids_state, recipe_keys, short
from harness.weights.structural import open_any

if TYPE_CHECKING:
    from harness.adapters import Recognised

_SHOWN = 6
_METADATA_SHOWN = 16
_VALUE_LENGTH = 100


@dataclass(frozen=True, kw_only=True)
class Component:
    """One part of a model: how many tensors and parameters, how many tensors of each dtype or GGUF format, and its bytes on
    disk."""

    keys: int
    parameters: int
    dtypes: Mapping[str, int]
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Gguf:
    """What the weights of a GGUF file take on the disk, and how many of its tensors are in each format."""

    formats: Mapping[str, int]
    weight_bytes: int
    bits_per_weight: float


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """The description of a model file. `position_ids` has by name the problem of each, "" if there is none. `bytes` is the size
    of all files together. `gguf` is None for other files. The last two fields are empty unless requested."""

    path: str
    family: str
    architecture: str
    layout: str
    folder: bool
    bytes: int
    prediction: str
    channels: int
    markers: Sequence[str]
    components: Mapping[str, Component]
    ema: Component | None
    scaled: int
    position_ids: Mapping[str, str]
    known_extras: Sequence[str]
    unknown: Sequence[str]
    recipe: Sequence[str]
    metadata: Mapping[str, str]
    warnings: Sequence[str]
    gguf: Gguf | None = None
    hashes: Mapping[str, str] = field(default_factory=dict)
    keys: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `inspect`."""
    add_examples(parser, "inspect model.safetensors", "inspect zoo:photo --keys", "inspect models/sdxl --json --hash")
    parser.add_argument("file", nargs="+",
                        help="a .safetensors, .ckpt or .gguf file, a diffusers folder, a zoo: name or a hub: address")
    parser.add_argument("--json", action="store_true", help="print a JSON list with one complete object per file")
    parser.add_argument("--keys", action="store_true", help="list every tensor and all metadata")
    parser.add_argument("--hash", action="store_true", help="also print content hash and SHA-256, which reads the whole files")
    add_download(parser)


def run(given: argparse.Namespace) -> int:
    """Exit codes: 0 all files are models or adapters, 1 some could not be opened (standard error says why)."""
    results: list[dict[str, Any]] = []
    failed = False
    for reference in given.file:
        path = Path(reference)
        try:
            path = place(available(Checkpoint(path=reference), allow_download=given.allow_download).path, Path())
            data, text = _inspected(path, given)
        except (ValueError, OSError) as error:
            failed = True
            results.append({"path": str(path), "error": str(error)})
            print(f"sweetspot inspect: {printable(str(error))}", file=sys.stderr)
            continue
        results.append(data)
        if not given.json:
            print("\n".join(printable(line) for line in text), flush=True)
    if given.json:
        print(json.dumps(results, indent=1).replace("\x7f", "\\u007f"))
    return int(failed)


def _inspected(path: Path, given: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    """The inspection of a model or an adapter, as data and as lines. For a file that is neither, raises the error of opening it
    as a model."""
    from harness.adapters import AdapterError, recognise_file
    from harness.adapters.open_adapter import PEFT_CONFIG

    try:
        inspection = inspect_file(path, keys=given.keys, hashes=given.hash)
    except ModelFileError as error:
        try:
            adapter = recognise_file(path)
        except AdapterError as refused:
            if other := _of_other_use(path, error):
                return _of_adapter(path, other, given)
            if isinstance(error, UnknownArchitectureError) and not (path / PEFT_CONFIG).is_file():
                inspection = _described(open_any(path), keys=given.keys, hashes=given.hash)
                return asdict(inspection), list(lines(inspection, all_names=given.keys))
            # For a file that calls itself an adapter, the adapter's error says more.
            called_one = IS_ADAPTER in str(error) or (path / PEFT_CONFIG).is_file()
            raise (refused if called_one else error) from None
        return _of_adapter(path, adapter, given)
    return asdict(inspection), list(lines(inspection, all_names=given.keys))


def _of_adapter(path: Path, adapter: Recognised, given: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    hashes = _hashes(path) if given.hash else {}
    return {**asdict(adapter), "path": str(path), "hashes": hashes}, [*adapter_lines(path, adapter), *_hash_lines(hashes)]


def _of_other_use(path: Path, error: ModelFileError) -> Recognised | None:
    """A pickle that a candidate may use though it changes no weights: a hypernetwork, or an aesthetic gradient."""
    from harness.adapters.hypernetwork import is_hypernetwork, read_hypernetwork

    if is_hypernetwork(path):
        net = read_hypernetwork(path)
        widths = ", ".join(map(str, net.layers))
        return _changing_no_weights(path, "hypernetwork", f"hypernetwork, for keys and values of attention of width {widths}")
    if "an aesthetic gradient, " in str(error):
        return _changing_no_weights(path, "aesthetic gradient", "aesthetic gradient, for a candidate's "
                                    "aesthetic=AestheticGradient(path=...)")
    return None


def _changing_no_weights(path: Path, kind: str, says: str) -> Recognised:
    from harness.adapters import Recognised

    return Recognised(source=path.name, format=kind, says=says, tool="", base="", kinds=(kind,), modules={}, ranks=None,
                      alphas=None, alphas_missing=0, strength="", tokens=(), warnings=())


def adapter_lines(path: Path, adapter: Recognised) -> Iterator[str]:
    """The description of an adapter file, line by line."""
    from harness.adapters.reading import span

    yield str(path)
    yield f"  adapter: {adapter.says}, {size_in_words(path.stat().st_size) if path.is_file() else 'a folder'}"
    yield f"  trained by     {adapter.tool or 'not stated'}"
    yield f"  for            {adapter.base or 'not known'}"
    yield f"  kinds          {', '.join(adapter.kinds) or 'none'}"
    yield f"  modules        {', '.join(f'{part} {count}' for part, count in adapter.modules.items()) or 'none'}"
    if adapter.ranks:
        yield f"  rank           {span(adapter.ranks)}"
    if adapter.alphas:
        yield f"  alpha          {span(adapter.alphas)}"
    if adapter.alphas_missing and adapter.strength in ("", "alpha tensors"):
        yield f"  alpha missing  in {adapter.alphas_missing} modules; alpha = rank is assumed"
    if adapter.strength:
        yield f"  strength       in {adapter.strength}"
    if adapter.tokens:
        yield f"  tokens         {', '.join(map(repr, adapter.tokens))}"
    if adapter.file_word:
        yield f"  word in A1111  {short(adapter.file_word)}, the file's name; prompts may use either word"
    yield from (f"  warning: {warning}" for warning in adapter.warnings)


def inspect_file(path: Path, *, keys: bool = False, hashes: bool = False) -> Inspection:
    """Describes the model at `path`. Raises ModelFileError for a file that is not a model."""
    return _described(open_model(path, tolerant=True), keys=keys, hashes=hashes)


def _described(model: ModelFile, *, keys: bool, hashes: bool) -> Inspection:
    path = model.path
    ids = {name: position_ids_state(model.files[model.other[name].file], model.other[name].source) for name in model.position_ids}
    scaled = sum(bool(info.scale) for infos in model.components.values() for info in infos.values())
    return Inspection(
        path=str(path), family=model.family, architecture=model.architecture, layout=model.layout,
        folder=model.is_folder, prediction=model.prediction,
        bytes=sum(file.stat().st_size for file in model.files), channels=model.channels, markers=model.markers, scaled=scaled,
        components={name: _component(infos.values()) for name, infos in model.components.items()},
        ema=_component(model.ema_component.values()) if model.ema_component else None, position_ids=ids,
        known_extras=model.known_extras, unknown=model.strays, recipe=recipe_keys(model.metadata),
        metadata=dict(model.metadata), warnings=model.warnings, gguf=_gguf(model), hashes=_hashes(path) if hashes else {},
        keys=_keys(model) if keys else {})


def lines(inspection: Inspection, *, all_names: bool = False) -> Iterator[str]:
    """The inspection as text, line by line; names of the file are quoted and escaped."""
    yield inspection.path
    place = "diffusers folder" if inspection.folder else "file"
    known = f" ({inspection.architecture})" if inspection.family and inspection.architecture else ""
    family = inspection.family or inspection.architecture or "unknown family"
    yield f"  {family}{known}, layout {inspection.layout}, {place} of {size_in_words(inspection.bytes)}"
    for name, part in inspection.components.items():
        yield f"  {name:<15}{_words(part)}"
    if inspection.ema:
        yield f"  {'EMA of unet':<15}{_words(inspection.ema)}"
    prediction = inspection.prediction or "not stated"
    markers = f" (markers: {_named(inspection.markers, all_names=True)})" if inspection.markers else ""
    yield f"  prediction     {prediction}{markers}"
    if inspection.channels:
        yield f"  channels in    {inspection.channels}"
    if gguf := inspection.gguf:
        yield f"  GGUF           {gguf.bits_per_weight:.2f} bits per weight; all tensors: {_counted(gguf.formats)}"
    if inspection.scaled:
        yield f"  scaled weights {inspection.scaled} tensors must be multiplied by their scales"
    for name, wrong in inspection.position_ids.items():
        yield f"  position ids   {'wrong, see warnings' if wrong else 'integers in order'}: {short(name, 100)}"
    if inspection.known_extras:
        yield f"  known extras   {len(inspection.known_extras)}: {_named(inspection.known_extras, all_names)}"
    if inspection.unknown:
        yield f"  unknown        {len(inspection.unknown)}: {_named(inspection.unknown, all_names)}"
    if inspection.recipe:
        yield f"  recipe         holds a Sweetspot recipe ({_named(inspection.recipe, all_names=True)})"
    yield from _metadata(inspection.metadata, all_names)
    yield from _hash_lines(inspection.hashes)
    for warning in inspection.warnings:
        yield f"  warning: {warning}"
    for component, infos in inspection.keys.items():
        yield f"  tensors of {component}"
        for name, info in infos.items():
            yield f"    {short(name, 200)}  {info['packed'] or info['dtype']} {list(info['shape'])}  {short(info['source'], 200)}"


def _gguf(model: ModelFile) -> Gguf | None:
    files = [file for file in model.files.values() if file.kind == GGUF]
    infos = [info for part in model.components.values() for info in part.values()]
    if not files or not infos:
        return None
    size = sum(info.bytes for info in infos)
    return Gguf(formats=types_of(files[0].stored), weight_bytes=size,
                bits_per_weight=8 * size / max(1, sum(info.count for info in infos)))


def _component(infos: Iterable[TensorInfo]) -> Component:
    infos = list(infos)
    return Component(keys=len(infos), parameters=sum(i.count for i in infos), bytes=sum(i.bytes for i in infos),
                     dtypes=dict(Counter(i.packed or i.dtype for i in infos).most_common()))


def _keys(model: ModelFile) -> dict[str, dict[str, Any]]:
    """{component: {name: description of the tensor}}, with "other" for tensors that are not weights."""
    described: dict[str, dict[str, Any]] = {}
    for component, infos in {**model.components, "other": model.other}.items():
        described[component] = {
            name: {"source": i.source, "file": i.file.name, "dtype": i.dtype, "shape": i.shape, "rows": i.rows,
                   "transposed": i.transposed, "scale": i.scale, "packed": i.packed, "offset": i.offset}
            for name, i in infos.items()}
    return described


def _hashes(path: Path) -> dict[str, str]:
    """The hash that identifies a model in recipes and runs, and for a single file the SHA-256 that model sites list."""
    hashes = {"content_hash": content_hash(path)}
    if path.is_file():
        with path.open("rb") as file:
            hashes["sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
    return hashes


def _hash_lines(hashes: Mapping[str, str]) -> list[str]:
    return [f"  {kind:<15}{value}" for kind, value in hashes.items()]


def _words(part: Component) -> str:
    return (f"{part.keys:>5} keys {part.parameters:>14,} parameters  {size_in_words(part.bytes):>9}  "
            f"{_counted(part.dtypes)}")


def _counted(dtypes: Mapping[str, int]) -> str:
    return ", ".join(word if len(dtypes) == 1 else f"{word} x {count}" for word, count in dtypes.items())


def _named(names: Sequence[str], all_names: bool) -> str:
    shown = names if all_names else names[:_SHOWN]
    return ", ".join(short(name, 100) for name in shown) + (", ..." if len(shown) < len(names) else "")


def _metadata(metadata: Mapping[str, str], all_names: bool) -> Iterator[str]:
    """Lines of header texts. Long texts are cut, and after a maximum number of lines the rest is only counted."""
    if not metadata:
        return
    yield f"  metadata       {len(metadata)}"
    for number, (key, value) in enumerate(sorted(metadata.items())):
        if number == _METADATA_SHOWN and not all_names:
            yield f"    ... {len(metadata) - number} more"
            return
        length = f" ({len(value)} characters)" if len(value) > _VALUE_LENGTH else ""
        yield f"    {short(key)[1:-1]} = {short(value, _VALUE_LENGTH)}{length}"
