"""Candidates of one runtime beside the same candidates on eager, and which runtime is the fastest."""

from __future__ import annotations

from dataclasses import dataclass, replace

from harness.declare.component_runtimes import EAGER, spelled_runtime
from harness.declare.swept_axis import asks_for_the_cheapest
from reports import formatting as words
from reports.read.run import Run
from reports.verdict.costs import speed


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A candidate, and the one that is declared alike but for its runtime, which is eager; "" where there is none."""

    name: str
    eager: str


def pairs_by_runtime(run: Run) -> dict[str, list[Pair]]:
    """The candidates of each runtime, in the order of declaration."""
    eager = {replace(c, runtime=EAGER).key: c.name for c in reversed(run.suite.candidates) if spelled_runtime(c.runtime) == EAGER}
    pairs: dict[str, list[Pair]] = {}
    for c in run.suite.candidates:
        pair = Pair(name=c.name, eager=eager.get(replace(c, runtime=EAGER).key, ""))
        pairs.setdefault(spelled_runtime(c.runtime), []).append(pair)
    return pairs


def fastest_runtime(run: Run) -> str:
    """A sentence, without its dot, on the runtime of the lowest seconds, of those with which every candidate is faster than on
    eager, round by round. Empty where candidates have one runtime, where that is the question of the suite, which its pick
    answers, and where nothing was timed beside eager."""
    by_runtime = pairs_by_runtime(run)
    if len(by_runtime) < 2 or asks_for_the_cheapest(run.suite):
        return ""
    timed = {runtime: [(ratio, pace) for pair in pairs if pair.eager and (of := speed(run, pair.name, pair.eager))
                       for ratio, pace in [of] if ratio is not None] for runtime, pairs in by_runtime.items() if runtime != EAGER}
    faster = {runtime: [ratio for ratio, _ in of] for runtime, of in timed.items() if of and all(p == "faster" for _, p in of)}
    if not faster:
        return "no runtime was measurably faster than eager" if any(timed.values()) else ""
    best = min(faster, key=lambda runtime: sum(faster[runtime]) / len(faster[runtime]))
    low, high = f"{min(faster[best]):.2f}", f"{max(faster[best]):.2f}"
    return (f"the runtime with the lowest seconds is {words.visible(best)}, with "
            f"{low if low == high else f'{low} to {high}'} times those of the same candidate on eager")
