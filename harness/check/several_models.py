"""What is wrong with a relay or an ensemble before any file is opened."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Final

from harness.check.phrases import number, unknown
from harness.declare import Candidate, Ensemble, Grid, Model, Relay, Suite, grid_of
from harness.declare.step_shares import hand_overs

VAES: Final = ("first", "last")
TEXTS: Final = ("own", "first")
_NEARLY: Final = 1e-6


def several_models_problems(model: Model) -> Iterator[str]:
    """One phrase per problem of a relay or an ensemble itself; nothing for other models."""
    if isinstance(model, Relay):
        yield from _relay(model)
    elif isinstance(model, Ensemble):
        yield from _ensemble(model)


def hand_over_problems(candidate: Candidate, grid: Grid, run: int | None = None) -> Iterator[str]:
    """A phrase for a model of a relay that runs none of the steps of the candidate's grid, of which the last `run` are run."""
    if isinstance(candidate.model, Relay) and not any(_relay(candidate.model)) and grid.steps >= 1 and run != 0:
        try:
            hand_overs(candidate.model.at, grid.steps, run)
        except ValueError as error:
            yield str(error)


def alike_relays(suite: Suite) -> Iterator[tuple[str, str]]:
    """(candidate, phrase) for a relay that hands over at the same steps as an earlier candidate and is the same otherwise."""
    earlier: dict[str, str] = {}
    for candidate in suite.candidates:
        grid = grid_of(suite, candidate)
        if not isinstance(candidate.model, Relay) or any(_relay(candidate.model)) or any(hand_over_problems(candidate, grid)):
            continue
        edges = hand_overs(candidate.model.at, grid.steps)
        at = tuple(edge / grid.steps for edge in edges)
        key = replace(candidate, name="", axes={}, model=replace(candidate.model, at=at)).key
        if (other := earlier.setdefault(key, candidate.name)) != candidate.name:
            at_steps = f"{', '.join(map(str, edges))} of {grid.steps}, counted from 0"
            yield (repr(candidate.name), f"it hands over at the same step as {other!r} ({at_steps}), so every picture would "
                   "be made twice; move the hand-over, or sample with more steps")


def _relay(relay: Relay) -> Iterator[str]:
    count = len(relay.models)
    if count < 2:
        yield f"a relay has {count} model{'' if count == 1 else 's'}; expected at least two, which take turns"
    elif len(relay.at) != count - 1:
        yield (f"a relay of {count} models hands over {count - 1} time{'' if count == 2 else 's'}, but at has {len(relay.at)} "
               f"value{'' if len(relay.at) == 1 else 's'}; give one for each model but the first")
    if not all(number(share) and 0 < share < 1 for share in relay.at):
        yield (f"at is {relay.at!r}; expected shares of the steps between 0 and 1. With a share of 0 or 1 one model runs none of "
               "them: declare the others alone")
    elif any(before >= after for before, after in pairwise(relay.at)):
        yield f"at is {relay.at!r}; expected increasing shares of the steps, one for each model but the first"
    yield from unknown("vae", [relay.vae], VAES)


def _ensemble(ensemble: Ensemble) -> Iterator[str]:
    count = len(ensemble.models)
    if count < 2:
        yield f"an ensemble has {count} model{'' if count == 1 else 's'}; expected at least two, whose predictions are averaged"
    elif len(ensemble.weights) != count:
        yield f"an ensemble has {count} models and {len(ensemble.weights)} weights; expected a weight for each model"
    if not all(number(weight) and 0 <= weight <= 1 for weight in ensemble.weights):
        yield f"weights are {ensemble.weights!r}; expected numbers from 0 to 1"
    elif ensemble.weights and abs((total := sum(ensemble.weights)) - 1) > _NEARLY:
        shares = ", ".join(f"{weight / total:.4g}" for weight in ensemble.weights) if total else ""
        yield (f"weights are {ensemble.weights!r}, which add up to {total:g}; expected 1"
               f"{f', such as ({shares})' if shares else ''}")
    yield from unknown("texts", [ensemble.texts], TEXTS)
