"""What `sweetspot sensitivity` prints and writes: the table of layers, the Mixed as Python, the verdict on a recipe."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harness.commands.terminal import size_in_words
from harness.declare.mixed import Mixed, Mode, Quantization, beside_denoiser

if TYPE_CHECKING:
    from harness.sensitivity import Gauging, Judged, LayerOptions, Measured


def layer_lines(measured: Measured, gauging: Gauging, mode: str) -> Iterator[str]:
    """The table, the layers that cost most first."""
    modes = [*measured.layers[0].options]
    rows = [["rank", *(f"error in {name}" for name in modes), "saved", "parameters", "layer"]]
    for rank, layer in enumerate(ranked(measured, mode), 1):
        saved = measured.plain[layer.name] - layer.options[mode].bytes
        kept = " (kept as it is)" if layer.name in measured.kept[mode] else ""
        rows.append([str(rank), *(error_text(layer.options[name].error, gauging.kind) for name in modes), size_in_words(saved),
                     f"{layer.parameters:,}", f"{layer.name}{kept}"])
    yield from _aligned(rows)
    plain, stored = sum(measured.plain.values()), sum(layer.options[mode].bytes for layer in measured.layers)
    yield ""
    yield (f"{len(measured.layers)} layers alone in {mode}; all of them save {size_in_words(plain - stored)} of "
           f"{size_in_words(plain)}. Errors are {_meaning(gauging)}.")


def ranked(measured: Measured, mode: str) -> list[LayerOptions]:
    """The layers, those with the largest error in a mode first."""
    return sorted(measured.layers, key=lambda layer: (-layer.options[mode].error, layer.name))


def error_text(error: float, kind: str) -> str:
    """A squared error as a share of the prediction's norm, or as the PSNR of the pictures."""
    from harness.sensitivity import PICTURES

    if kind == PICTURES:
        return f"{-10 * math.log10(error):.1f} dB" if error else "∞ dB"
    return f"{100 * math.sqrt(error):.3g} %"


def _meaning(gauging: Gauging) -> str:
    from harness.sensitivity import PICTURES, STEPS

    on = f"{'prompt' if len(gauging.prompts) == 1 else 'prompts'} {', '.join(gauging.prompts)}, first seed"
    if gauging.kind == PICTURES:
        return f"the PSNR of whole pictures ({on})"
    return f"those of single forwards at up to {STEPS} steps of a run, as a share of the prediction ({on})"


def mixed_text(mixed: Mixed, declared: Quantization) -> Iterator[str]:
    """The argument of a Candidate as Python, with the modes that its other components have."""
    others = beside_denoiser(declared)
    opening, closing = ('{"denoiser": ', "}") if others else ("", "")
    texts = "".join(f", {quoted(part)}: {_python(mode)}" for part, mode in others.items())
    if not mixed.keys:
        yield f"quantization={opening}Mixed(default={quoted(mixed.default)}){texts}{closing},"
        return
    yield f"quantization={opening}Mixed(default={quoted(mixed.default)}, keys={{"
    yield from (f"    {quoted(pattern)}: {quoted(mode)}," for pattern, mode in mixed.keys.items())
    yield f"}}){texts}{closing},"


def _python(mode: Mode) -> str:
    if not isinstance(mode, Mixed):
        return quoted(mode)
    keys = ", ".join(f"{quoted(pattern)}: {quoted(of)}" for pattern, of in mode.keys.items())
    return f"Mixed(default={quoted(mode.default)}, keys={{{keys}}})"


def quoted(text: str) -> str:
    """A text as Python writes it, in double quotes."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def verdict_lines(results: Mapping[str, Judged], bits: Mapping[str, float], recipe: str, by_chance: str) -> Iterator[str]:
    """The held-out PSNR of the recipe, of the recipes by chance together, and of the uniform modes; and by how much the recipe is
    above chance."""
    from reports.statistics.order_statistics import median_interval

    draws = [name for name in results if name.startswith(by_chance)]
    chance = {prompt: sum(results[name].decibels[prompt] for name in draws) / len(draws) for prompt in results[recipe].decibels}
    listed: list[tuple[str, Mapping[str, float], float, str]] = [
        (recipe, results[recipe].decibels, bits[recipe], _equal(results[recipe])),
        (f"the same bits by chance, {len(draws)} draws", chance, sum(bits[name] for name in draws) / len(draws), "")]
    ends = [name for name in results if name not in (recipe, *draws)]
    listed += [(f"all {name}", results[name].decibels, bits[name], _equal(results[name])) for name in ends]
    rows = [["held-out pictures", "PSNR, median", "95 % interval", "bits"]]
    for name, decibels, count, equal in listed:
        median = median_interval([*decibels.values()])
        of_few = " (range: too few prompts)" if median.why else ""
        interval = f"{median.low:.1f} to {median.high:.1f} dB{of_few}" if len(decibels) > 1 else "no interval from one prompt"
        rows.append([name, f"{median.mean:.1f} dB", interval, f"{count:.2f}{equal}"])
    yield ""
    yield from _aligned(rows, left=(0,))
    yield ""
    yield _above_chance(results[recipe].decibels, chance)


def _equal(judged: Judged) -> str:
    return f" ({judged.equal} of {judged.pictures} pictures are equal)" if judged.equal else ""


def _above_chance(decibels: Mapping[str, float], chance: Mapping[str, float]) -> str:
    import numpy as np

    from reports.statistics.intervals import of_means

    apart = of_means(np.array([decibels[prompt] - chance[prompt] for prompt in decibels]))
    if apart.mean is None or apart.low is None or apart.high is None:
        return f"The recipe is {apart.mean:+.1f} dB from chance on the one held-out prompt, which gives no interval."
    verdict = {"better": "above chance", "worse": "BELOW chance", "tied": "not distinguishable from chance"}[apart.word]
    return (f"The recipe is {verdict}: {apart.mean:+.1f} dB ({apart.low:+.1f} to {apart.high:+.1f}) in the mean over "
            f"{apart.prompts} held-out prompts.")


def result_of(measured: Measured, gauging: Gauging) -> dict[str, Any]:
    """The table as data."""
    return {"gauge": gauging.kind, "prompts": list(gauging.prompts),
            "notes": {mode: list(of) for mode, of in measured.notes.items()},
            "layers": [{"name": layer.name, "parameters": layer.parameters, "bytes": measured.plain[layer.name], "modes": {
                mode: {"bytes": option.bytes, "squared_error": option.error, "kept": layer.name in measured.kept[mode]}
                for mode, option in layer.options.items()}} for layer in measured.layers]}


def _aligned(rows: Sequence[Sequence[str]], left: Sequence[int] = ()) -> Iterator[str]:
    """Lines of columns to the right, the last one and those of `left` to the left."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(text if column == len(row) - 1 else text.ljust(width) if column in left else text.rjust(width)
                        for column, (text, width) in enumerate(zip(row, widths, strict=True)))
