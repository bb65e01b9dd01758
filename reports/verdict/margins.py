"""The margins of a suite's gates from an A/A run: what equal candidates show, which margin they pass, which drop fails.
The maths is in statistics/margin_size.py."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.declare import BASELINE, PROMOTED, Gate, Suite
from harness.declare.effective_grid import whole_grid
from harness.declare.same_text import distinct, effective_prompts
from harness.records import ValueSpec
from harness.records.gate_kinds import gate_kind
from harness.records.values import costs
from reports import formatting as words
from reports.read.run import Run
from reports.statistics.intervals import CLUSTER, clustered
from reports.statistics.margin_size import (
    CONFIDENCE,
    POWER,
    Design,
    Spread,
    again,
    failing_drop,
    itself,
    pass_rate,
    prompts_needed,
    rounded_up,
    smallest_margin,
    smallest_that,
    tied_pairs,
    timed,
    wilson_widening,
)
from reports.statistics.order_statistics import median_interval, rounds_for_median
from reports.verdict.confirm_looks import gate_level
from reports.verdict.costs import comparable_bytes, incomparable

MOST_TIMES: Final = 99.0
"""The largest ratio less 1 that is looked for."""


@dataclass(frozen=True, kw_only=True)
class Margin:
    """One gate (or a value that has none: `gate` is "") under one estimate of the noise, all in the value's unit.

    `observed` is the baseline's mean, `error` the standard error of what the gate looks at when nothing differs. `margin` is the
    declared one (for a limit that is a number, how far the baseline's mean keeps from it), `passes` how often an equal candidate
    passes it; `smallest` is what it passes with the asked confidence, `drop` what fails in POWER of all cases,
    `prompts` how many the declared margin needs. None where it was not measured or means nothing, and `note` says why.
    `paste` is the gate to write into the suite.
    """

    gate: str
    value: str
    source: str
    observed: float | None = None
    error: float | None = None
    margin: float | None = None
    passes: float | None = None
    smallest: float | None = None
    drop: float | None = None
    prompts: int | None = None
    paste: str = ""
    note: str = ""
    spread: Spread | None = None
    design: Design | None = None


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a calibration goes by: the A/A run with the names of its two equal candidates, the suite that is calibrated, the
    guidance that the gates look at, and cells of a finished run that are tied, with its images and its words on the tie (none
    without such a run)."""

    run: Run
    names: tuple[str, str]
    suite: Suite
    guidance: float
    tied: tuple[tuple[str, float], ...] = ()
    images: pd.DataFrame | None = None
    tie: str = ""
    confidence: float = CONFIDENCE


def margins(of: Measured) -> list[Margin]:
    """Every gate of the suite, then every measured value that no gate holds against the baseline; each with the noise of the
    A/A run and, where there is a finished run, with that between its tied cells."""
    rows = [row for gate in of.suite.gates for row in _of_gate(of, gate)]
    gated = {gate.value for gate in of.suite.gates if gate.not_worse_than is not None}
    free = [value for value in (*_values(of.run), *costs()) if value not in gated]
    return rows + [replace(row, gate="", margin=None, passes=None, prompts=None, drop=None) for value in free
                    for row in _of_gate(of, Gate(value=value, not_worse_than=BASELINE))]


def _of_gate(of: Measured, gate: Gate) -> list[Margin]:
    noise = gate_kind(gate.value).noise
    if noise == "none":
        return [Margin(gate=of.suite.gate_name(gate), value=gate.value, source="exact",
                       note="counted, not sampled: equal candidates have equal counts")]
    if noise == "rounds":
        return [_seconds(of, gate)]
    if noise == "reading":
        return [_bytes(of, gate)]
    rows = _own(of)
    mean = None if gate.value not in rows.columns or rows[gate.value].isna().all() else float(
        clustered(rows).groupby(CLUSTER)[gate.value].mean().mean())
    spreads: list[Callable[[float], Spread | None]] = [lambda _: itself(rows, gate.value)] if gate.not_worse_than is None else [
        lambda ratio: again(rows, gate.value, ratio), lambda ratio: _tied(of, gate.value, ratio)]
    here = [_images(of, gate, spread, mean) for spread in spreads if spread(1.0) is not None]
    # A value that is taken against the baseline's own image is the same for all images of the baseline.
    here = here[1:] if len(here) > 1 and not here[0].error else here
    if not here:
        return [Margin(gate=of.suite.gate_name(gate), value=gate.value, source="A/A", observed=mean,
                       note=f"{gate.value} was not measured on two images of any prompt")]
    # What to paste comes from the estimate that pairs as the gate does, where there is one.
    return [*(replace(row, paste="") for row in here[:-1]), here[-1]]


def _images(of: Measured, gate: Gate, spread_at: Callable[[float], Spread | None], mean: float | None) -> Margin:
    """The gate under one estimate of the noise of its images; `spread_at` gives that of mine - ratio x other's."""
    suite = of.suite
    prompts = effective_prompts(whole_grid(suite), of.guidance)
    confirm = distinct(p for p in prompts if p.split == "confirm")
    count = confirm if not gate.candidates and confirm >= 2 else distinct(prompts)
    spread = spread_at(gate.ratio or 1.0)
    assert spread is not None
    row = Margin(gate=of.suite.gate_name(gate), value=gate.value, source=spread.source, observed=mean, spread=spread)
    if count < 2:
        return replace(row, note="one prompt: the gate has no interval")
    design = Design(prompts=count, seeds=len(suite.grid.seeds), level=gate_level(suite))
    test = _Test(gate=gate, value=of.run.row(gate.value), mean=mean, design=design, spread_at=spread_at)
    margin, error = _declared(gate, mean), spread.error(design.prompts, design.seeds)
    smallest = test.smallest(of.confidence)
    return replace(
        row, error=error, margin=margin, smallest=smallest, design=design,
        paste="" if smallest is None else _paste(of.run, gate, smallest, mean),
        passes=None if margin is None else test.passes(margin),
        drop=None if margin is None else test.drop(margin),
        prompts=None if margin is None else prompts_needed(margin, spread, design, of.confidence, test.widening(margin)),
        note="nothing varies between two samplings" if error == 0 else
        f"no limit is passed by {of.confidence:.0%} of equal candidates" if smallest is None else "")


@dataclass(frozen=True, kw_only=True)
class _Test:
    """What a gate decides by, as its margin varies: a ratio changes the spread with it, and a limit on a share has Wilson's
    interval."""

    gate: Gate
    value: ValueSpec
    mean: float | None
    design: Design
    spread_at: Callable[[float], Spread | None]

    def passes(self, margin: float) -> float:
        """How often an equal candidate passes a margin."""
        return pass_rate(margin, self._spread(margin), self.design, self.widening(margin))

    def smallest(self, confidence: float) -> float | None:
        """The smallest margin that an equal candidate passes so often."""
        mean = abs(self.mean or 0.0)
        if self.gate.not_worse_than is None and self._is_share:
            return smallest_that(lambda m: self.passes(m) >= confidence, self._room)
        if self.gate.not_worse_than is not None and self.gate.ratio is not None:
            return smallest_that(lambda m: self.passes(m) >= confidence, mean * (MOST_TIMES if self.value.fewer else 1.0))
        return smallest_margin(self._spread(0.0), self.design, confidence)

    def drop(self, margin: float) -> float | None:
        """The true drop that fails a margin in POWER of all cases; None for a share that cannot drop so far."""
        spread = self._spread(margin)
        if not (self.gate.not_worse_than is None and self._is_share):
            return failing_drop(margin, spread, self.design)
        limit, wide = self._limit(margin), self.widening(margin)
        beyond = smallest_that(lambda x: pass_rate(x, spread, self.design, wide) >= POWER,
                               1 - limit if self.gate.at_most is not None else limit)
        return None if beyond is None else margin + beyond

    def widening(self, margin: float) -> float:
        """That of the t interval, see `wilson_widening`."""
        of_share = self.gate.not_worse_than is None and self._is_share and self.mean is not None
        return wilson_widening(self.mean or 0.0, self._limit(margin)) if of_share else 1.0

    @property
    def _is_share(self) -> bool:
        return self.value.bounded_share and self.mean is not None and 0 < self.mean < 1

    @property
    def _room(self) -> float:
        mean = self.mean or 0.0
        return 1 - mean if self.gate.at_most is not None else mean

    def _limit(self, margin: float) -> float:
        return min(1.0, max(0.0, (self.mean or 0.0) + (margin if self.gate.at_most is not None else -margin)))

    def _spread(self, margin: float) -> Spread:
        """The spread of what the gate looks at where it has this margin."""
        times = margin / abs(self.mean) if self.gate.ratio is not None and self.mean else 0.0
        spread = self.spread_at(1 + times if self.value.fewer else 1 - times)
        assert spread is not None
        return spread


def _declared(gate: Gate, mean: float | None) -> float | None:
    """The declared margin in the value's unit: a ratio counts from the baseline's mean, a limit from how far that keeps from
    it (negative where it is beyond)."""
    if gate.not_worse_than is not None:
        return gate.margin if gate.ratio is None else None if mean is None else abs(1 - gate.ratio) * abs(mean)
    if mean is None:
        return None
    return mean - gate.at_least if gate.at_least is not None else gate.at_most - mean if gate.at_most is not None else None


def _paste(run: Run, gate: Gate, smallest: float, mean: float | None) -> str:
    """The gate as it may stand in the suite. Nothing for a limit that is a number: what is asked of quality is no matter of
    noise."""
    if gate.not_worse_than is None or (gate.ratio is not None and not mean):
        return ""
    fewer = run.row(gate.value).fewer
    named = {BASELINE: "BASELINE", PROMOTED: "PROMOTED"}.get(gate.not_worse_than, repr(gate.not_worse_than))
    setting = f"margin={rounded_up(smallest):.6g}"
    if gate.ratio is not None and mean:
        more = rounded_up(smallest / abs(mean))
        setting = f"ratio={1 + more:.6g}" if fewer else f"ratio={max(1 - more, 0):.6g}"
    only = f", candidates={gate.candidates!r}" if gate.candidates else ""
    return f'Gate(value="{gate.value}", not_worse_than={named}, {setting}{only})'


def _seconds(of: Measured, gate: Gate) -> Margin:
    """Latency: rounds of the two equal candidates, drawn again and again, under the interval that the gate has."""
    rounds = [of.run.latency[name].seconds["total"] for name in of.names if name in of.run.latency]
    row = Margin(gate=of.suite.gate_name(gate), value=gate.value, source="A/A, timed in turns")
    if len(rounds) < 2:
        return replace(row, note=of.run.why_missing(of.names[0], gate.value) or "the A/A run was not timed")
    # With a budget of seconds the number of rounds is known afterwards only.
    count = len(rounds[0]) if of.suite.latency_budget_seconds else of.suite.latency_rounds
    if count < (needed := rounds_for_median()):
        return replace(row, note=f"{words.plural(count, 'round')}: too few to decide the gate; set latency_rounds of the suite "
                                 f"to at least {needed}")
    mean = statistics.median([*rounds[0], *rounds[1]])

    def highest(mine: NDArray[np.float64], theirs: NDArray[np.float64]) -> float:
        if gate.not_worse_than is None:
            return float(mine.max()) - mean
        if gate.ratio is not None:
            return mean * ((median_interval((mine / theirs).tolist()).high or 0.0) - 1)
        return float(mine.max() - theirs.min())

    draws = timed(rounds, highest, count)
    smallest, margin = float(np.quantile(draws, of.confidence)), _declared(gate, mean)
    # The lower end of the difference is the upper end with the two exchanged, and a drop fails when it is beyond the margin.
    beyond = float(np.quantile(draws, POWER)) if gate.not_worse_than is not None else 0.0
    return replace(row, observed=mean, error=None, margin=margin, smallest=smallest, paste=_paste(of.run, gate, smallest, mean),
                   passes=None if margin is None else float((draws <= margin).mean()),
                   drop=None if margin is None else margin + beyond,
                   note=incomparable(of.run, *of.names) or f"from {len(rounds[0])} rounds of each; more of them (--repeats) can "
                                                            "show more")


def _bytes(of: Measured, gate: Gate) -> Margin:
    """Peak memory or weights: two numbers, one for each of the equal candidates."""
    one, other = comparable_bytes((of.run, of.names[0]), (of.run, of.names[1]), gate.value)
    row = Margin(gate=of.suite.gate_name(gate), value=gate.value, source="A/A, one after the other")
    if one.value is None or other.value is None:
        return replace(row, note=one.why_missing or other.why_missing)
    if one.name != other.name:
        return replace(row, note=f"not comparable: {one.name} and {other.name}")
    smallest, margin = abs(one.value - other.value), _declared(gate, one.value)
    return replace(row, observed=one.value, margin=margin, smallest=smallest, paste=_paste(of.run, gate, smallest, one.value),
                   passes=None if margin is None else float(smallest <= margin), drop=margin,
                   note=f"one pair of readings ({one.name}); equal candidates may exceed it")


def _own(of: Measured) -> pd.DataFrame:
    """The baseline's images of the A/A run at the guidance of the gates."""
    images = of.run.images
    return images[(images["candidate"] == of.names[0]) & (images["guidance"] == of.guidance)]


def _tied(of: Measured, value: str, ratio: float) -> Spread | None:
    if of.images is None or value not in of.images.columns:
        return None
    return tied_pairs(of.images, of.tied, value, ratio)


def _values(run: Run) -> Sequence[str]:
    """The measured numbers of the A/A run that have a better direction."""
    return [value for value in run.numeric_values
            if run.row(value).better in ("higher", "lower") and run.images[value].notna().any()]
