"""Races on painted images: a run whose weights cost nothing to make, and a judge that says what a test wrote for each look."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from harness import Suite
from harness.declare import Budget, Candidate, Gate
from harness.race.elimination import LookResult
from harness.race.race import Race
from harness.records import Cell, Dropped, Failure, Journal, Look, Sample, Weights, standing_looks
from harness.run.progress import Silent
from harness.session.options import SessionOptions
from harness.session.suite_session import SuiteSession
from tests.fakes import tiny_grid, tiny_suite
from tests.painted import colour

NAMES = ("alpha=0", "alpha=0.5", "alpha=1")
SCALES = (1.0, 4.0)


class DeclaredBench:
    """A workbench that opens no file: a candidate's identity is its declaration, and the candidate "torn" cannot be opened."""

    device = "cpu"
    library = SimpleNamespace(path=Path)
    wider: tuple[str, ...] = ()

    @classmethod
    def for_grid(cls, *_: object, **__: object) -> DeclaredBench:
        return cls()

    def take_grid(self, _: object) -> None:
        pass

    def inspect(self, candidate: Candidate) -> None:
        if candidate.name == "torn":
            raise ValueError("no model")

    def equalities(self, _: Sequence[Candidate]) -> dict[str, str]:
        return {}

    def family(self, _: Candidate) -> str:
        return "sd1"

    def weights(self, candidate: Candidate) -> Weights:
        return Weights(candidate=candidate.name, identity=candidate.key, inputs={})

    def post(self, _: Candidate) -> None:
        return None

    def encoded_by(self, _: Candidate) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        return (), ()

    def readers(self, candidate: Candidate) -> tuple[Candidate, ...]:
        return (candidate,)

    def may_widen(self, _: Candidate) -> bool:
        return False

    def prepare(self, candidate: Candidate) -> Any:
        return colour(candidate.name, candidate.key)


HELD = Gate(value="saturation", at_least=1e-6)
"""A gate about images, so that the confirmation begins with one seed, which every image keeps."""


def suite(budget: Budget | None = Budget(first_prompts=1, step_prompts=1), **changes: object) -> Suite:  # noqa: B008 - frozen
    """Three select and two confirm prompts, two seeds, two scales: a whole grid of 60 images."""
    objective = replace(tiny_suite().objective, maximise="saturation", penalties=())
    return tiny_suite(**{"grid": tiny_grid(seeds=(1, 2), width=16, height=16), "metrics": ("exposure",), "budget": budget,
                         "gates": (HELD,), "objective": objective, **changes})


class Interrupted(SuiteSession):
    """A session that somebody stops when so many candidates were asked for."""

    stop_after = 10**9

    def candidate(self, candidate: Candidate, cells: Iterable[Cell] | None = None) -> list[Failure]:
        self.stop_after -= 1
        if self.stop_after < 0:
            raise KeyboardInterrupt
        return super().candidate(candidate, cells)


def go(root: Path, declared: Suite, names: Iterable[str] = NAMES, stop_after: int = 10**9, **options: Any) -> Race:
    """The candidate items and the race, as pytest would run them."""
    of = Interrupted(declared, "s.py", session_options(root, **options), Silent())
    of.stop_after = stop_after
    chosen = [c for c in declared.candidates if c.name in {*names}]
    of.select(chosen)
    try:
        for candidate in chosen:
            of.candidate(candidate)
        assert declared.budget is not None
        race = Race(of, declared.budget)
        race.go()
        return race
    finally:
        of.close()


def session_options(root: Path, **options: Any) -> SessionOptions:
    """Everything below one folder."""
    return SessionOptions(root=root, runs=root / "runs", baselines=root / "baselines", **options)


Judge = Callable[..., LookResult]


def scripted(*steps: dict[str, Any]) -> Judge:
    """A judge that says what was written for each look, and reads nothing."""

    def judge(_: object, declared: Suite, number: int, __: object, values: object) -> LookResult:
        known: dict[str, Any] = {
            "number": number, "looks": 3, "level": 0.98, "dropped": (), "guidances": SCALES, "best": ("alpha=0.5", 4.0),
            "candidates": tuple(c.name for c in declared.candidates), "pick": ("alpha=0.5", 4.0), "incomplete": (), "done": False,
            "why": f"look {number}"}
        return LookResult(**{**known, **steps[number - 1]})

    return judge


LOSES = {"dropped": tuple(Dropped(candidate="alpha=1", guidance=g, mean=-3.1, low=-5.0, high=-1.2) for g in SCALES),
         "candidates": ("alpha=0", "alpha=0.5")}
ENDS = {**LOSES, "dropped": (), "done": True}


def looks(root: Path) -> list[Look]:
    records = Journal(root / "runs" / "tiny" / "journal.jsonl").read()[0]
    race = json.loads((root / "runs" / "tiny" / "run.json").read_text())["race"]
    return list(standing_looks((r for r in records if isinstance(r, Look)), race))


def images(root: Path) -> dict[str, int]:
    """Images by candidate."""
    records = Journal(root / "runs" / "tiny" / "journal.jsonl").read()[0]
    held = {(r.candidate, r.cell) for r in records if isinstance(r, Sample)}
    return {name: sum(n == name for n, _ in held) for name, _ in sorted(held, key=lambda one: one[0])}


def pictures(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*.png")}
