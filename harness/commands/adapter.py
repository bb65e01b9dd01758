"""`sweetspot adapter`: combines adapters, extracts one from two models, reduces the rank of one, or converts its layout."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from harness.commands.downloads import add_download, available
from harness.commands.terminal import say, size_in_words
from harness.declare import Adapter
from harness.declare.hub_names import file_name
from harness.declare.syntax.parsed import LARGEST_WEIGHT
from harness.records.harmless_text import printable
from harness.version import __version__

if TYPE_CHECKING:
    from torch import Tensor

    from harness.adapters import Change, Reading
    from harness.adapters.algebra import Algebra, Cut, Pair
    from harness.weights import ModelFile

_EXAMPLES: Final = """examples:
  sweetspot adapter merge --model base.safetensors style.safetensors=0.7 detail.safetensors=0.4 -o both.safetensors
  sweetspot adapter extract --base base.safetensors --tuned tuned.safetensors --rank 32 -o difference.safetensors
  sweetspot adapter resize --model base.safetensors big.safetensors --error 0.05 -o small.safetensors
  sweetspot adapter convert --model base.safetensors kohya.safetensors --layout peft -o peft.safetensors"""
_SHOWN: Final = 5
PARTS: Final = ("unet", "transformer", "text_encoder", "text_encoder_2", "text_encoder_3", "vae")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `adapter`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _EXAMPLES
    ways = parser.add_subparsers(dest="way", required=True)
    for name, help_line in (("merge", "add several adapters, each with its weight, into one: exactly, or reduced to a rank"),
                            ("resize", "reduce an adapter to a rank, keeping its largest singular values"),
                            ("convert", "write an adapter in another tool's layout")):
        way = ways.add_parser(name, help=help_line, description=help_line, allow_abbrev=False)
        way.add_argument("adapter", nargs="+" if name == "merge" else 1, metavar="FILE[=WEIGHT]" if name == "merge" else "FILE",
                         help="an adapter file" + ", with its weight (default: 1)" * (name == "merge"))
        way.add_argument("--model", required=True, help="a model that the adapters are for; only its names and shapes are read")
        way.add_argument("--leave-out", action="store_true",
                         help="leave out tensors for components that the model does not have, and say how many")
        _add_output(way, cut=name != "convert", required=name == "resize")
    line = "write the difference of two models as an adapter"
    way = ways.add_parser("extract", help=line, description=line, allow_abbrev=False)
    way.add_argument("--base", required=True, help="the model that the adapter will be applied to")
    way.add_argument("--tuned", required=True, help="the model that base plus adapter should equal")
    way.add_argument("--parts", help="components, separated by commas (default: the denoiser and all text encoders)")
    way.add_argument("--leave-out", action="store_true",
                     help="leave out what no adapter can hold, and name it: modules whose shapes differ, as in an inpainting "
                          "model, and changed tensors that are neither weight nor bias")
    _add_output(way, cut=True, required=True)


def _add_output(way: argparse.ArgumentParser, *, cut: bool, required: bool) -> None:
    if cut:
        size = way.add_mutually_exclusive_group(required=required)
        size.add_argument("--rank", type=int, help="the largest rank of a module")
        size.add_argument("--error", type=float, help="use the smallest rank that keeps each module's relative error below this")
    way.add_argument("-o", "--output", type=Path, required=True, help="the .safetensors file to write")
    way.add_argument("--layout", choices=("kohya", "peft", "comfyui"), default="kohya",
                     help="the tool whose tensor names are used (default: kohya)")
    way.add_argument("--dtype", choices=("fp16", "bf16", "fp32"), default="fp16", help="the dtype to store (default: fp16)")
    way.add_argument("--report", action="store_true", help="list every module, not only the worst")
    add_download(way)


def run(given: argparse.Namespace) -> int:
    """Exit codes: 0 written, 1 refused."""
    try:
        return _extract(given) if given.way == "extract" else _from_files(given)
    except (ValueError, OSError) as error:
        print(f"sweetspot adapter {given.way}: {printable(str(error))}", file=sys.stderr)
        return 1


def _from_files(given: argparse.Namespace) -> int:
    from harness.adapters.algebra import add_nothing, combine_adapters
    from harness.materialise.library import Library, checkpoint_of, shapes_of

    library = Library(Path())
    weighed = [_weighed(text) if given.way == "merge" else (text, 1.0) for text in given.adapter]
    base, adapters = available((checkpoint_of(given.model), [Adapter(path=path) for path, _ in weighed]),
                               allow_download=given.allow_download)
    model = library.open(base)
    readings: list[tuple[Reading, float]] = []
    for path, weight in zip([adapter.path for adapter in adapters], [weight for _, weight in weighed], strict=True):
        reading = library.adapter(path, model)
        _refuse_losses(path, reading, given)
        _say_reading(path, weight, reading)
        readings.append((reading, weight))
    if given.way == "convert":
        return _write(given, readings[0][0].changes, model, f"{given.adapter[0]}")
    changes, shapes = [(reading.changes, weight) for reading, weight in readings], shapes_of(model)
    algebra = combine_adapters(changes, shapes, _cut(given))
    if add_nothing(changes, shapes):
        raise ValueError(f"nothing changes: {' and '.join(given.adapter)} {'add up to' if len(changes) > 1 else 'holds'} zeros "
                         "only, so the written file would have no effect. Give other weights, or another file")
    _say_algebra(algebra, given.report)
    if given.way == "resize" and all(module.rank == module.rank_before for module in algebra.modules):
        say("  note: nothing is reduced: no module has a larger rank, or needs a smaller one for this error")
    return _write(given, algebra.changes, model, " + ".join(given.adapter))


def _refuse_losses(path: str, reading: Reading, given: argparse.Namespace) -> None:
    """Raises ValueError for content that the written file could not hold: words, and tensors that cannot be applied."""
    if reading.format == "hypernetwork":
        raise ValueError(f"{path} is a hypernetwork: it changes the input of attention and no weights, so there is nothing to "
                         f"{given.way}. Give it to a candidate of a suite: adapters=(Adapter(path=...),)")
    if reading.embeddings:
        words = ", ".join(dict.fromkeys(ascii(word.token) for word in reading.embeddings))
        if not reading.changes:
            raise ValueError(f"{path} is a textual inversion ({words}): it holds vectors for words and changes no weights, so "
                             f"there is nothing to {given.way}. Use the file as it is")
        raise ValueError(f"{path} holds vectors for the words {words} besides its {len(reading.changes)} changes of weights, and "
                         "the written file would lack them. Save them as a separate textual inversion, and remove them from "
                         "the file first")
    absent = {component: len(at["absent_component"]) for component, at in reading.keys.items() if at.get("absent_component")}
    if absent and not given.leave_out:
        listed = " and ".join(f"{count} tensors are for {component}" for component, count in absent.items())
        raise ValueError(f"{path}: {listed}, which {given.model} does not have, and the written file would lack them. Give a "
                         "--model that has all parts, or --leave-out to go on without them")
    if refused := [key for at in reading.keys.values() for key in at.get("refused", ())]:
        raise ValueError(f"{path}: {refused[0]!r} cannot be applied ({reading.reasons.get(refused[0], '')}), and the written "
                         "file would lack it. Remove it from the file first")


def _extract(given: argparse.Namespace) -> int:
    from harness.adapters.algebra import extract_adapter
    from harness.adapters.writing import without_unheld
    from harness.declare import Merge
    from harness.materialise.encoder_files import encoders_in_place
    from harness.materialise.library import Library, checkpoint_of, name_of

    library = Library(Path())
    names = available([checkpoint_of(at) for at in (given.base, given.tuned)], allow_download=given.allow_download)
    opened = encoders_in_place(Merge(a=names[0], b=names[1], parts=_given_parts(given.parts)), library.open_alike(names))
    base, tuned = (opened[name_of(name)] for name in names)
    family = base.family or tuned.family
    if tuned.family not in ("", family):
        raise ValueError(f"{given.base} is {base.family}, {given.tuned} is {tuned.family}; give two models of the same family")
    cut = _cut(given)
    assert cut is not None  # the command line requires one
    misfits = _Misfits(allowed=given.leave_out)
    algebra = extract_adapter(_pairs(base, tuned, _parts(given.parts, base, tuned), misfits), cut)
    library.refuse_changed([name.path for name in names])
    changes, unheld = without_unheld(algebra.changes, given.layout)
    for tensor, largest in unheld.items():
        misfits.add(f"{tensor} changes by up to {largest:.3g}, which layout {given.layout!r} has no place for, and layout "
                    "'comfyui' has")
    _say_algebra(algebra, given.report)
    for misfit in misfits.found[:None if given.report else _SHOWN]:
        say(f"  left out: {printable(misfit)}")
    if len(misfits.found) > _SHOWN and not given.report:
        say(f"  left out: {len(misfits.found) - _SHOWN} more; --report lists all")
    # Of a text encoder alone only the other model shows the family, by which tools name it.
    return _write(given, changes, replace(base, family=family), f"{given.tuned} - {given.base}")


def _given_parts(given: str | None) -> tuple[str, ...]:
    return () if given is None else tuple(part.strip() for part in given.split(","))


def _parts(given: str | None, base: ModelFile, tuned: ModelFile) -> list[str]:
    """The components to take the difference of. Raises ValueError for one that is not in both models."""
    from harness.materialise.merged_parts import DENOISERS, guesses

    either = [part for part in PARTS if part in base.components or part in tuned.components]
    # Adapters have no names for the text encoders of an unknown architecture.
    usual = [part for part in either if part in DENOISERS or (part != "vae" and not base.structural)]
    parts = usual if given is None else list(_given_parts(given))
    if twice := next((part for part in parts if parts.count(part) > 1), None):
        raise ValueError(f"the part {twice!r} is given twice in --parts; remove one")
    if absent := [part for part in parts if part not in base.components or part not in tuned.components]:
        raise ValueError(f"the part {absent[0]!r} is not in both models; base has {', '.join(base.components)}, tuned has "
                         f"{', '.join(tuned.components)}. {guesses((base, tuned))}Name the parts to compare with --parts")
    if ignored := [part for part in either if part not in parts]:
        say(f"  note: not compared: {', '.join(ignored)}")
    return parts


class _Misfits:
    """What no adapter can hold, in words. Where that is not `allowed`, the first one is refused."""

    def __init__(self, *, allowed: bool) -> None:
        self.allowed = allowed
        self.found: list[str] = []

    def add(self, text: str) -> None:
        """Notes one, or raises ValueError."""
        if not self.allowed:
            raise ValueError(f"{text}: such an adapter cannot hold that. Give --leave-out to extract everything else, or --parts "
                             "to compare other components")
        self.found.append(text)


def _pairs(base: ModelFile, tuned: ModelFile, parts: list[str], misfits: _Misfits) -> Iterator[Pair]:
    """Every module of the parts in both models that an adapter can hold. Raises ValueError for keys that only one of the models
    has."""
    from harness.adapters.algebra import Pair
    from harness.weights.norm_scales import module_of
    from harness.weights.quantized_codes import refuse_codes

    for part in parts:
        for model in (base, tuned):
            refuse_codes(model, part)
            if odd := model.odd.get(part, ()):
                raise ValueError(f"{model.path}: {part}: {odd[0]!r} is not a tensor of this component, and would not be "
                                 "compared; remove it from the file first")
        one, two = base.tensors(part), tuned.tensors(part)
        if apart := sorted(one.keys() ^ two.keys()):
            whole = "" if two.keys() - one.keys() else (
                f", or first fill the tuned model up with the base's: sweetspot merge --a {base.path.name} --b {tuned.path.name} "
                f"--parts {part} --alpha 1 --missing keep_a -o whole.safetensors")
            raise ValueError(f"{part}: {apart[0]!r} and {len(apart) - 1} more keys are in only one of the models; give models "
                             f"with the same keys{whole}")
        for key in one:
            path, _, leaf = key.rpartition(".")
            bias = f"{path}.bias"
            if leaf == "bias" and f"{path}.weight" in one:
                continue
            unlike = [name for name in (key, bias) if name in one and one[name].shape != two[name].shape]
            if unlike:
                misfits.add(f"{part}: {unlike[0]!r} has shape {tuple(one[unlike[0]].shape)} in the base and "
                            f"{tuple(two[unlike[0]].shape)} in the tuned model")
            elif module_of(key):
                yield Pair(component=part, path=path, base=one[key], tuned=two[key], base_bias=one.get(bias),
                           tuned_bias=two.get(bias))
            elif (farthest := _farthest(one[key], two[key])) != 0:
                misfits.add(f"{part}: {key!r} differs between the models by up to {farthest:.3g}")


def _farthest(one: Tensor, two: Tensor) -> float:
    """The largest difference of two tensors of one shape, NaN if one holds NaN."""
    return float((one.double() - two.double()).abs().max()) if one.numel() else 0.0


def _write(given: argparse.Namespace, changes: Mapping[tuple[str, str], Change], model: ModelFile, made_of: str) -> int:
    from harness.adapters.layout_names import spelled, spelled_as_stored
    from harness.adapters.writing import Layout, rounded_away, write_adapter
    from harness.materialise.library import shapes_of
    from harness.weights import save_single_file

    written = (spelled_as_stored(changes, given.layout, folder=model.is_folder) if model.structural else
               spelled(changes, shapes_of(model), model.family, given.layout))
    header = {"modelspec.sai_model_spec": "1.0.1", "modelspec.title": given.output.stem,
              "sweetspot.adapter": f"{given.way} of {' + '.join(file_name(part) for part in made_of.split(' + '))}",
              "sweetspot.version": __version__}
    layout = Layout(name=given.layout, dtype=given.dtype, names=written.names)
    write_adapter(given.output, written.changes, layout, header, save_single_file)
    if lost := rounded_away(written.changes, layout):
        worst = max(lost, key=lambda key: lost[key])
        say(f"  warning: numbers too small for {given.dtype}: {len(lost)} tensors lose more than 1 %; {printable(worst)} loses "
            f"most, {lost[worst]:.3g} of it; use --dtype {'fp32' if given.dtype == 'bf16' else 'bf16 or fp32'}")
    say(f"wrote {printable(str(given.output))}: {len(written.changes)} modules, {size_in_words(given.output.stat().st_size)}, "
        f"{given.layout} layout in {given.dtype}")
    return 0


def _cut(given: argparse.Namespace) -> Cut | None:
    from harness.adapters.algebra import Cut

    if given.rank is None and given.error is None:
        return None
    return Cut(rank=given.rank) if given.rank is not None else Cut(relative_error=given.error)


def _weighed(text: str) -> tuple[str, float]:
    path, sign, weight = text.rpartition("=")
    try:
        number = float(weight) if sign and path else 1.0
    except ValueError:
        return text, 1.0
    if not abs(number) <= LARGEST_WEIGHT:  # NaN too
        raise ValueError(f"{text}: the weight is {number:g}; expected a number from {-LARGEST_WEIGHT:g} to {LARGEST_WEIGHT:g}")
    return (path, number) if sign and path else (text, 1.0)


def _say_reading(path: str, weight: float, reading: Reading) -> None:
    counts: dict[str, int] = {}
    for statuses in reading.keys.values():
        for status, keys in statuses.items():
            counts[status] = counts.get(status, 0) + len(keys)
    tensors = ", ".join(f"{count} {status.replace('_', ' ')}" for status, count in counts.items())
    say(f"{printable(path)} at {weight:g}: {printable(reading.format)}, {len(reading.changes)} modules; tensors: {tensors}")
    for component, at in reading.keys.items():
        if lost := at.get("absent_component", ()):
            say(f"  warning: {len(lost)} tensors are for {printable(component)}, which the model does not have; the written file "
                "will lack them")
    for note in (*reading.warnings, *reading.notes):
        say(f"  note: {printable(note)}")


def _say_algebra(algebra: Algebra, every: bool) -> None:
    """Ranks and relative errors: all modules, or the worst few."""
    worst = sorted(algebra.modules, key=lambda module: -module.residual)
    say(f"{len(algebra.changes)} modules, largest relative error {algebra.largest_residual:.3g}")
    for module in worst if every else [module for module in worst[:_SHOWN] if module.residual > 0]:
        say(f"  {module.component} {module.path}: {module.kind}, rank {module.rank_before} to {module.rank}, relative error "
            f"{module.residual:.3g}")
