"""What of a promoted candidate may be compared with a run: another version of a metric, other prompts, settings or machines
are refused for what they make incomparable, and the rest is used."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, TypeAlias

import pandas as pd

from harness.declare import DESIRABILITY, PROMOTED
from harness.records import Reading
from harness.records.baseline_file import PLACE, TO_RUN
from harness.records.values import AGREEMENT, BYTES
from reports import formatting as words
from reports.comparable import (
    costs_otherwise,
    last_bits,
    measured_in,
    measured_in_file,
    measured_otherwise,
    same_prompts,
    sampled_as,
    sampled_otherwise,
)
from reports.read.beside import beside
from reports.read.lacking import asked_places
from reports.read.objective import parts_of, with_objective
from reports.read.promoted_values import Promoted
from reports.read.prompts import pictures_of, prompts_of
from reports.read.run import Run
from reports.verdict.candidates import label
from reports.verdict.costs import UNEVEN, Seconds

NONE_YET: Final = "nothing was promoted from this suite yet"
Blocks: TypeAlias = tuple[Mapping[str, Any], Mapping[str, Any]]
"""A sampling block of what was promoted, and one of the run."""


def called(run: Run) -> str:
    """What was promoted, in words: "photo-anime version 3"."""
    p = run.promoted
    return NONE_YET if p is None else words.visible(f"{p.name} version {p.version}")


def named(run: Run, other: str) -> str:
    """The other of a comparison in words: a candidate, or what was promoted."""
    return called(run) if other == PROMOTED else label(run, other)


def comparable(run: Run, mine: pd.DataFrame, value: str) -> tuple[pd.DataFrame | None, str]:
    """The promoted images' values in the cells of `mine` that may be compared, and how many they are in words; or None and why
    nothing may be."""
    p, names = run.promoted, [str(name) for name in mine["candidate"].unique()]
    if p is None or (why := _refused(run, p, names) or next(_incomparable(run, p, value), "")):
        return None, NONE_YET if p is None else why
    same = same_prompts(p.prompts, prompts_of(run), (p.pictures, pictures_of(run)))
    # The objective is that of the suite as it is now, from the values that were measured then.
    table = with_objective(p.table, run.suite.objective)
    if value not in table.columns or table[value].isna().all():
        return None, f"{called(run)} was promoted without {value}"
    if value not in mine.columns:
        return None, f"{value} was not measured"
    table = table[table["prompt"].isin(same)]
    if _has_own_scales(run, mine):
        table = beside(table, p.table["guidance"].unique(), mine["guidance"].unique())
    both = mine[[*PLACE, value]].dropna().merge(table[[*PLACE, value]].dropna(), on=list(PLACE))
    note = f"{p.candidate}; {len(both)} of {words.plural(len(mine), 'cell')} comparable"
    if unpaired := sorted(set(mine["prompt"]) - set(same)):
        known = [name for name in unpaired if name in p.prompts]
        note += f"; {words.plural(len(known), 'prompt')} changed, {len(unpaired) - len(known)} new"
    if both.empty:
        return None, f"{called(run)}: {note}, no prompt of the same text and pictures with a seed and guidance that both have"
    if others := "; ".join(dict.fromkeys(filter(None, (_sampled_apart(run, p, name) for name in names)))):
        note += f"; sampled otherwise: {others}"
    return table, note + _elsewhere(run, p)


def _conditions(run: Run, p: Promoted, name: str) -> Blocks:
    """What has to be the same for candidate `name`: its own sampling where it was promoted, and the suite's for another
    candidate, because candidates may differ in how they are sampled."""
    if name == p.candidate:
        return p.sampled_as or p.sampling, sampled_as(run, name)
    return p.sampling, run.head.get("sampling", {})


def _sampled_apart(run: Run, p: Promoted, name: str) -> str:
    """In which settings candidate `name` is sampled otherwise than what was promoted, as both declare it; empty where in none."""
    return words.visible(sampled_otherwise(p.sampled_as or p.sampling, sampled_as(run, name)))


def _has_own_scales(run: Run, mine: pd.DataFrame) -> bool:
    """Whether images are of a candidate that declares its own guidance scales: then they have counterparts at others."""
    declared = [run.declared(name) for name in mine["candidate"].unique()]
    return any(c is not None and c.sampling is not None and c.sampling.scales is not None for c in declared)


def seconds_per_image(run: Run, name: str) -> Seconds:
    """The promoted candidate's latency, or none and why it may not be compared with that of candidate `name`."""
    figure, why = _figure(run, "seconds_per_image", name)
    record, yardstick = run.latency.get(name), _figure(run, "yardstick_seconds", name)[0]
    if not why and record is not None and record.yardstick and yardstick and (then := yardstick["mean"]):
        now = statistics.median(record.yardstick)
        if max(now, then) > UNEVEN * min(now, then):
            slower = "now" if now > then else f"when {called(run)} was timed"
            why = (f"not comparable: the machine was {max(now / then, then / now):.1f} times slower {slower}; run again with "
                   "--retime while it is idle, or promote again")
    if why:
        return Seconds(median=None, fastest=None, slowest=None, rounds=0, why=why)
    return Seconds(median=figure["mean"], fastest=figure["low"], slowest=figure["high"], rounds=figure["images"])


def memory(run: Run, of: tuple[str, str], reading: str) -> Reading:
    """The promoted candidate's peak memory or weights, or None and why it may not be compared with a reading of that name. `of`
    are the value and the candidate of the run."""
    value, name = of
    figure, why = _figure(run, value, name)
    unit, _, kind = str(figure.get("unit")).partition(", ")
    if not why and value == BYTES.name and unit != TO_RUN:
        why = f"{called(run)} was promoted by an earlier version, which counted what making the candidate takes. Promote again"
    if not why and kind != reading:
        why = f"its reading was {words.reading(kind)}"
    return Reading(name=reading, unit="bytes", value=None if why else figure["mean"], why_missing=why)


def _figure(run: Run, value: str, name: str) -> tuple[Mapping[str, Any], str]:
    """A figure of what the promoted candidate cost, to be compared with that of candidate `name`; or nothing and why, such as
    another machine."""
    p = run.promoted
    if p is None or (why := p.why or _other_suite(run, p)):
        return {}, NONE_YET if p is None else why
    then, now = _conditions(run, p, name)
    # That of the promoted candidate is known where the suite still has it.
    runtimes = [c.runtime for c in run.suite.candidates if c.name in (name, p.candidate)]
    if differing := costs_otherwise((p.environment, then), (run.environment, now), runtimes):
        return {}, f"not comparable: {called(run)} was timed under other conditions ({words.visible(differing)})"
    figure = p.figures.get(value)
    numbers = ("mean", "low", "high", "images")
    if not isinstance(figure, dict) or not all(isinstance(figure.get(key), int | float) for key in numbers):
        return {}, f"{called(run)} was promoted without {words.title(run.row(value)).lower()}"
    return figure, ""


def machine(environment: Mapping[str, Any]) -> str:
    """The device by its model: the GPU's name, or the processor's where there is none."""
    gpu = str(environment.get("device_name", "")) or str(environment.get("device", "an unknown device")).partition(":")[0]
    return words.visible(str(environment.get("cpu") or "CPU") if gpu.lower() == "cpu" else gpu)


def _refused(run: Run, p: Promoted, names: Iterable[str]) -> str:
    """Why no image of it is comparable with those of candidates, or an empty string."""
    if p.why or (other := _other_suite(run, p)):
        return p.why or other
    differing = next(filter(None, (sampled_otherwise(*_conditions(run, p, name)) for name in names)), "")
    return f"{called(run)} was sampled with other settings ({words.visible(differing)}). Promote again" if differing else ""


def _other_suite(run: Run, p: Promoted) -> str:
    return "" if p.suite == run.suite.name else f"the baseline file is of suite {p.suite!r}, not of {run.suite.name!r}"


def _incomparable(run: Run, p: Promoted, value: str) -> Iterator[str]:
    """Why a value was measured otherwise then; that of an objective, for each of its parts."""
    if value in ("objective", DESIRABILITY):
        for part in parts_of(run.suite.objective):
            yield from _incomparable(run, p, part)
        return
    if value not in run.values:
        yield f"{value} was not measured"
    elif (then := measured_in_file(p, run, value)) is None:
        yield f"{called(run)} was promoted without the metric {run.row(value).metric}"
    elif why := measured_otherwise(then, measured_in(run, value)):
        yield f"{value}: {words.visible(why)}. Promote again"
    elif run.row(value).pooled and _places(p) != {place[1:] for place in asked_places(run, run.suite.baseline)}:
        yield (f"{value}: it depends on the other images of a prompt, and {called(run)} was measured at other seeds or guidance "
               "scales. Promote again")
    elif value == AGREEMENT.name and not set(p.prompts) == same_prompts(
            p.prompts, prompts_of(run), (p.pictures, pictures_of(run))) == set(prompts_of(run)):
        yield (f"{value}: it depends on the images of all prompts of a reference, and {called(run)} was measured at other "
               "prompts. Promote again")


def _places(p: Promoted) -> set[tuple[int, float]]:
    """The seeds and guidance scales of the promoted images."""
    return {(int(seed), float(scale)) for seed, scale in zip(p.table["seed"], p.table["guidance"], strict=True)}


def _elsewhere(run: Run, p: Promoted) -> str:
    """A word on noise where the images were made on another device, or in batches of another size."""
    then, now = machine(p.environment), machine(run.environment)
    made = f"made on {then}, here on {now}" if then != now else last_bits(p.sampling, run.head.get("sampling", {}))
    return f" ({made}: the last bits of images differ by that alone)" if made else ""
