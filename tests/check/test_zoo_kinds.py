"""A member of the zoo that is given as something else is refused by the check of the declaration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from harness import Adapter, Candidate, Fused, Merge, zoo
from harness.check import problems
from harness.declare import Control, Ensemble, Reference, Stage
from tests.fakes import PROMPTS, tiny_grid, tiny_suite

PLACES: dict[str, tuple[str, Callable[[str], Candidate]]] = {
    "model": ("model", lambda name: Candidate(name="x", model=name)),
    "parent": ("model", lambda name: Candidate(name="x", model=Merge(a="zoo:photo", b=name, alpha=0.5))),
    "stage": ("model", lambda name: Candidate(name="x", model="zoo:photo", stages=(Stage(model=name, strength=0.5),))),
    "ensemble": ("model", lambda name: Candidate(name="x", model=Ensemble(models=("zoo:photo", name), weights=(0.5, 0.5)))),
    "adapter": ("adapter", lambda name: Candidate(name="x", model="zoo:photo", adapters=(Adapter(path=name),))),
    "fused": ("adapter", lambda name: Candidate(name="x", model=Fused(model="zoo:photo", adapters=(Adapter(path=name),)))),
    "control": ("control", lambda name: Candidate(name="x", model="zoo:photo", controls=(Control(path=name, picture="edges"),))),
    "reference": ("reference", lambda name: Candidate(name="x", model="zoo:photo", references=(
        Reference(path=name, picture="look"),))),
}
MEMBERS = (*zoo.NAMES, "zoo:picture-fish-3")


def refused(candidate: Candidate) -> list[str]:
    pictures = {"edges": "zoo:edges-fish-1", "look": "zoo:picture-fish-2"}
    grid = tiny_grid(prompts=tuple(replace(prompt, pictures=pictures) for prompt in PROMPTS))
    return problems(tiny_suite(candidates=(candidate,), baseline="x", grid=grid, gates=()), Path())


@pytest.mark.parametrize("place", PLACES)
def test_every_member_is_accepted_as_what_it_is_and_refused_as_everything_else(place: str) -> None:
    kind, make = PLACES[place]
    for name in MEMBERS:
        said = refused(make(name))
        assert bool(said) == (zoo.kind_of(name) != kind), name
        assert all(repr(name) in one for one in said)


@pytest.mark.parametrize(("typo", "meant"), [
    ("zoo:edgs-fish-3", "zoo:edges-fish-3"), ("zoo:pictur-cat-7", "zoo:picture-cat-7"), ("zoo:edges-fsh-3", "'fish'"),
    ("zoo:egdes-strr-99", "zoo:edges-star-99")])
def test_a_mistyped_picture_is_told_from_the_members(typo: str, meant: str) -> None:
    assert meant in zoo.problem_of(typo)
    assert "zoo:control-edges" not in zoo.problem_of(typo)
