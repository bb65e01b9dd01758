"""The page's section on cost as rows of ready-made text: one table of what every candidate costs, and the readings behind it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any, Final

from harness.records import Reading
from harness.records.costs import DENOISER_WEIGHTS, STORED, STORED_DENOISER, WRITTEN_DENOISER
from harness.records.values import BYTES, WEIGHTS
from reports import formatting as words
from reports.read.run import Run
from reports.statistics.order_statistics import Percentile
from reports.verdict.candidates import label_with_role
from reports.verdict.cells import uneven
from reports.verdict.costs import (
    FAILED,
    NO_SIZE,
    Seconds,
    bits_per_weight,
    comparable_bytes,
    denoiser_size,
    energy,
    incomparable,
    latency_percentiles,
    making_peak,
    peak_memory,
    phases,
    seconds_apart,
    seconds_per_image,
    size_on_disk,
    weights_size,
)
from reports.verdict.recommendation import Recommendation
from reports.verdict.unusable_images import RULE, broken

ABSENT: Final = "not measured: "
TOO_FEW: Final = "too few rounds, "
WIDEST: Final = 28
"""The longest reason, in characters, that stands in a cell."""
POWER: Final = {"energy_joules": "energy, all timed images", "sm_clock_start": "SM clock, start", "sm_clock_lowest":
                "SM clock, lowest", "sm_clock_end": "SM clock, end", "memory_clock_start": "memory clock, start",
                "memory_clock_end": "memory clock, end", "temperature_start": "temperature, start",
                "temperature_end": "temperature, end"}
NOTES: Final = (
    "p50 and p90 are those of n timed rounds; ≤ is an upper bound that holds with 95 % confidence, whatever the distribution.",
    "A step is one denoising step, its control networks included; reference pictures are encoded with the text. The first "
    "switch to a candidate may merge and read files; later ones need not. Load is that of the base model, which candidates may "
    "share. Energy is the whole board's, including its idle draw.",
    "Weights are counted from the tensors as they are stored, with adapters, controls, references and image encoders; "
    "a quantized one as its codes and scales, without what such a copy or that of a saver is made of. On disk is what `sweetspot "
    "quantize` writes of the denoiser. Peak memory also "
    "holds what is computed; that of the process also what was loaded before, so it compares nobody.",
    "To run: while one image is made at batch 1, with the candidate alone in place. To make: while it is merged, quantized and "
    "brought to the device, from what was there before. Where a system keeps only one peak of main memory, as macOS does, the "
    "first holds the second.",
    RULE)


@dataclass(frozen=True, kw_only=True)
class CostText:
    """One cell: what is said, and the lines of small print below it."""

    text: str
    below: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of the table: the group it stands in, its own head, and what it says of a candidate."""

    group: str
    head: str
    cell: Callable[[Run, str], CostText]


def cost_section(run: Run, rec: Recommendation) -> dict[str, Any]:
    """`groups` and `columns` are the two lines of heads, `rows` the cells, or what stands `instead` of them for a candidate that
    was not made; a column that nobody has, for one and the same reason, becomes a sentence of `absent`, and `footnotes` are what
    cells refer to. `readings` and `power` are the tables behind the fold."""
    names = [c.name for c in run.suite.candidates]
    measured = [name for name in names if not unmade(run, name)] or names
    columns: list[tuple[Column, list[CostText]]] = []
    absent: dict[tuple[str, str], list[str]] = {}
    for column in _columns(run):
        cells = [column.cell(run, name) for name in measured]
        if len({c.text for c in cells}) == 1 and cells[0].text.startswith((ABSENT, TOO_FEW)):
            absent.setdefault((column.group, cells[0].text), []).append(column.head)
        else:
            columns.append((column, cells))
    rows = [{"name": label_with_role(run, name), "pick": name == rec.pick,
             "instead": "" if name in measured else unmade(run, name),
             "cells": [cells[measured.index(name)] for _, cells in columns] if name in measured else []} for name in names]
    return {"groups": [(group, len(list(of))) for group, of in groupby(columns, key=lambda k: k[0].group)],
            "columns": [column.head for column, _ in columns], "notes": NOTES, **numbered(rows, " ".join(uneven(run))),
            "absent": [*(f"{group}{f' ({words.listed(heads, 99)})' if any(heads) else ''}: {why}."
                         for (group, why), heads in absent.items()), *mixed_readings(run)],
            "readings": memory_readings(run), "power": power_readings(run), "noise": noise_floor(run)}


def numbered(rows: Sequence[Mapping[str, Any]], uneven: str = "") -> dict[str, Any]:
    """The rows with a number in place of every reason that is too long for a narrow column, and the reasons as `footnotes`, each
    once. `uneven` is said of all times that cannot be compared."""
    reasons: dict[str, int] = {}

    def cut(text: str, word: str, reason: str) -> str:
        if not text.startswith(f"{word}: ") or len(text) <= WIDEST:
            return text
        return f"{word} ({reasons.setdefault(reason or text.removeprefix(f'{word}: '), len(reasons) + 1)})"

    cut_rows = [{**row, "cells": [
        CostText(text=cut(cell.text, "not measured", ""), below=tuple(cut(line, "not comparable", uneven) for line in cell.below))
        for cell in row["cells"]]} for row in rows]
    return {"rows": cut_rows, "footnotes": [f"({number}) {reason[0].upper()}{reason[1:].rstrip('.')}."
                                            for reason, number in reasons.items()]}


def mixed_readings(run: Run) -> list[str]:
    """How peak memory is compared where the best reading is not of one kind for all, in one sentence."""
    kinds: dict[str, list[str]] = {}
    for c in run.suite.candidates:
        if (peak := peak_memory(run, c.name)).value is not None:
            kinds.setdefault(words.reading(peak.name), []).append(c.name)
    if len(kinds) < 2:
        return []
    names, base = [name for of in kinds.values() for name in of], run.suite.baseline
    apart = [name for name in names if base in names and len(
        {r.name for r in comparable_bytes((run, name), (run, base), BYTES.name)}) > 1]
    who = "; ".join(f"{kind}, of {words.listed([label_with_role(run, name) for name in of])}" for kind, of in kinds.items())
    others = words.listed([label_with_role(run, name) for name in apart])
    return [f"Peak memory was read in several ways, of which one counts more than another ({who}). Two candidates are compared "
            "by the best reading that both have" + (f"; the baseline has none in common with {others}." if apart else ".")]


def unmade(run: Run, name: str) -> str:
    """Why a candidate has no image, no timing and no memory reading, in one sentence; "" where it has any of them."""
    if name in run.latency or name in run.memory or name in run.power or (run.images["candidate"] == name).any():
        return ""
    why = run.failure_of(name) or run.why_missing(name, "image")
    return f"{ABSENT}{words.visible(why)}" if why else ""


def noise_floor(run: Run) -> str:
    """By how much two images of the same thing differ, in one sentence, from images that were made in a batch and once more
    alone; nothing where none was made twice."""
    if not run.floors:
        return ""
    names = words.listed([label_with_role(run, name) for name in dict.fromkeys(f.candidate for f in run.floors)])
    where = f"{words.plural(len(run.floors), 'image')} of {names}, each made in a batch of {run.floors[0].batch_size} and alone"
    levels, share = max(f.largest_levels for f in run.floors), max(f.changed_share for f in run.floors)
    if levels == 0:
        return f"Two runs of the same candidate gave the same image, bit for bit ({where})."
    return (f"Two runs of the same candidate differ by at most {levels} of 255 levels, in at most {100 * share:.2g} % of the "
            f"values ({where}): smaller differences between two candidates are noise.")


def _columns(run: Run) -> list[Column]:
    """Which reading and which batch size it is stands in the heads where it is the same for all, else in the cells."""
    sizes = {record.batch_size for record in run.latency.values()}
    image = f"Seconds per image, batch {next(iter(sizes))}" if len(sizes) == 1 else "Seconds per image"
    peaks = [peak_memory(run, c.name) for c in run.suite.candidates]
    probes = {words.reading(p.name) for p in peaks if p.value is not None}
    driver = bool(probes) and not any("rss" in p.name.lower() for p in peaks if p.value is not None)
    probe, peak = next(iter(probes)) if len(probes) == 1 else "", "Peak VRAM" if driver else "Peak memory"
    rounds = _alike(run, seconds_per_image)
    switches = _alike(run, lambda r, n: seconds_apart(r, n, "switch"))
    return [
        Column(group=peak, head=f"to run{f' ({probe})' if probe else ''}", cell=lambda r, n: _peak(r, n, named=not probe)),
        Column(group=peak, head="to make", cell=lambda r, n: _figure(making_peak(r, n), "")),
        Column(group=WEIGHTS.title, head="all parts", cell=lambda r, n: _figure(weights_size(r, n), "")),
        Column(group=WEIGHTS.title, head="denoiser", cell=lambda r, n: _figure(denoiser_size(r, n), "")),
        Column(group="Denoiser", head="bits per weight", cell=lambda r, n: _figure(bits_per_weight(r, n), "")),
        Column(group="Denoiser", head="on disk", cell=_on_disk),
        Column(group=image, head=f"p50{rounds}", cell=lambda r, n: _median(r, n, counted=not rounds, batch=len(sizes) > 1)),
        Column(group=image, head="p90", cell=_ninetieth),
        Column(group=image, head="text", cell=lambda r, n: _length(seconds_per_image(r, n, "text"))),
        Column(group=image, head="one step", cell=lambda r, n: _length(seconds_apart(r, n, "step"))),
        *(Column(group=image, head=words.phase(phase), cell=partial(_phase, phase)) for phase in _of_stages(run)),
        Column(group=image, head="decode", cell=lambda r, n: _length(seconds_per_image(r, n, "decode"))),
        *(Column(group=image, head=words.phase(phase), cell=partial(_phase, phase)) for phase in phases(run) if phase == "post"),
        Column(group="Style switch", head="first", cell=lambda r, n: _length(seconds_apart(r, n, "first_switch"))),
        Column(group="Style switch", head=f"later{switches}",
               cell=lambda r, n: _length(seconds_apart(r, n, "switch"), counted=not switches)),
        Column(group="Load", head="", cell=lambda r, n: _length(seconds_apart(r, n, "load"))),
        *(Column(group="Runtime", head=what, cell=partial(_apart, what)) for what in ("export", "open", "refresh")
          if any(what in record.seconds for record in run.durations.values())),
        Column(group="Energy", head="per image", cell=lambda r, n: _figure(energy(r, n, "joules_per_image"), "")),
        Column(group="Energy", head="mean power", cell=lambda r, n: _figure(energy(r, n, "mean_watts"), "")),
        Column(group="Failed images", head="", cell=_failed),
    ]


def _apart(what: str, run: Run, name: str) -> CostText:
    return _length(seconds_apart(run, name, what))


def _peak(run: Run, name: str, *, named: bool) -> CostText:
    reading = peak_memory(run, name)
    below = (words.reading(reading.name),) if named and reading.value is not None else ()
    return CostText(text=_figure(reading, "").text, below=below)


def _alike(run: Run, of: Callable[[Run, str], Seconds]) -> str:
    """ ", n=5" for a head, where all that were timed were timed as often; else nothing."""
    counts = {s.rounds for c in run.suite.candidates if (s := of(run, c.name)).rounds}
    return f", n={counts.pop()}" if len(counts) == 1 else ""


def _median(run: Run, name: str, *, counted: bool, batch: bool) -> CostText:
    seconds = seconds_per_image(run, name)
    if seconds.median is None:
        return _length(seconds)
    below = [*_bound(latency_percentiles(run, name)[0]), *([f"n={seconds.rounds}"] if counted else []),
             *([f"batch {run.latency[name].batch_size}"] if batch else [])]
    if why := incomparable(run, name, run.suite.baseline):
        below.append(why)
    return CostText(text=words.duration(seconds.median), below=tuple(below))


def _ninetieth(run: Run, name: str) -> CostText:
    percentile = latency_percentiles(run, name)[1]
    if not percentile.n:
        return _length(seconds_per_image(run, name))
    if percentile.value is None:
        return CostText(text=f"{TOO_FEW}needs {percentile.needed}")
    return CostText(text=words.duration(percentile.value), below=tuple(_bound(percentile)))


def _bound(of: Percentile) -> list[str]:
    return [] if of.at_most is None else [f"≤ {words.duration(of.at_most)}"]


def _length(of: Seconds, *, counted: bool = False) -> CostText:
    if of.median is None:
        return CostText(text=f"{ABSENT}{words.visible(of.why)}")
    return CostText(text=words.duration(of.median), below=(f"n={of.rounds}",) if counted else ())


def _of_stages(run: Run) -> list[str]:
    """The timed phases of later stages, and before them the denoising of the first, so that the stages can be compared."""
    later = [phase for phase in phases(run) if words.stage_and_phase(phase)[0] > 1]
    return ["denoise", *later] if later else []


def _phase(phase: str, run: Run, name: str) -> CostText:
    """The seconds of a phase that only some candidates have."""
    record = run.latency.get(name)
    return CostText(text="none") if record is not None and phase not in record.seconds else _length(
        seconds_per_image(run, name, phase))


def _failed(run: Run, name: str) -> CostText:
    """Images, with what is wrong with them, and the stages that failed."""
    failed = broken(run, name)
    stages = [f"failed at {words.visible(f.stage)}" for f in run.failures if f.candidate == name]
    if not failed.of:
        return CostText(text=f"{ABSENT}{FAILED if stages else words.visible(failed.why)}", below=tuple(stages))
    e = failed.share
    spread = [words.interval(e.low, e.high, run.row("failure_rate"))] if e is not None and e.low is not None else []
    kinds = [f"{count} {words.visible(kind)}" for kind, count in failed.kinds.items()]
    return CostText(text=f"{failed.count} of {failed.of}", below=(*spread, *kinds, *stages))


def memory_readings(run: Run) -> dict[str, Any]:
    """Every reading of peak memory of every candidate, the absent ones with their reason."""
    names = [name for name in dict.fromkeys(r.name for m in run.memory.values() for r in m.readings)
             if name not in (STORED, STORED_DENOISER, DENOISER_WEIGHTS, WRITTEN_DENOISER)]
    rows = []
    for c in run.suite.candidates:
        readings = {r.name: r for r in run.memory[c.name].readings} if c.name in run.memory else {}
        absent = FAILED if run.failure_of(c.name) else run.why_missing(c.name, "peak_bytes") or "no reading"
        rows.append({"name": label_with_role(run, c.name), "cells": [_figure(readings.get(name), absent) for name in names]})
    return _folded([words.reading(name) for name in names], rows)


def power_readings(run: Run) -> dict[str, Any]:
    """Energy, clocks and temperature over the timed images, and what held the clocks back; no rows where nobody has any."""
    if not any(r.value is not None for record in run.power.values() for r in record.readings):
        return _folded([], [])
    rows = []
    for c in run.suite.candidates:
        record = run.power.get(c.name)
        cells = [_figure(energy(run, c.name, name), "") for name in POWER]
        why = record.why_no_limits if record else energy(run, c.name, "mean_watts").why_missing
        limits = f"{ABSENT}{words.visible(why)}" if why or not record else words.visible("; ".join(record.limits)) or "nothing"
        rows.append({"name": label_with_role(run, c.name), "cells": [
            CostText(text=str(record.images) if record else f"{ABSENT}{words.visible(why)}"), *cells, CostText(text=limits)]})
    return _folded(["images", *POWER.values(), "clocks were held back by"], rows)


def _folded(heads: list[str], rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The table, with every column that all candidates lack for one reason as a sentence of `absent` instead."""
    columns, absent = [], []
    for at, head in enumerate(heads):
        texts = {row["cells"][at].text for row in rows}
        if len(texts) == 1 and (why := texts.pop()).startswith(ABSENT):
            absent.append(f"{head}: {why}.")
        else:
            columns.append(at)
    return {"columns": [heads[at] for at in columns], "absent": absent,
            "rows": [{**row, "cells": [row["cells"][at] for at in columns]} for row in rows]}


UNITS: Final[Mapping[str, str]] = {"celsius": "°C", "MHz": "MHz", "J": "J", "W": "W"}


def _on_disk(run: Run, name: str) -> CostText:
    """The size of the denoiser's file; what is not written is said in a word, with the reason below."""
    reading = size_on_disk(run, name)
    if reading.value is None and name in run.memory and reading.why_missing not in (NO_SIZE, FAILED):
        return CostText(text="not written", below=(words.visible(reading.why_missing),))
    return _figure(reading, "")


def _figure(reading: Reading | None, absent: str) -> CostText:
    """A reading in its unit; one that is missing says why."""
    if reading is None or reading.value is None:
        why = absent if reading is None else reading.why_missing
        return CostText(text=f"{ABSENT}{words.visible(why or 'no reason given')}")
    if reading.unit in ("bytes", "B"):
        return CostText(text=words.size(reading.value))
    digits = 0 if reading.unit in ("MHz", "celsius") or reading.value >= 100 else 1 if reading.value >= 10 else 2
    return CostText(text=f"{reading.value:.{digits}f} {UNITS.get(reading.unit, words.visible(reading.unit))}")
