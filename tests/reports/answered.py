"""Runs whose images are what their journal says, blind sessions of them, and raters with planted opinions."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.declare import Gate, Grid, Suite
from harness.records import Journal, Sample, to_line
from reports.blind.page import Ask, Blind, write_blind
from reports.read.blind_files import SHEET_FORMAT, Session, Sheet, Shown, write_sheet
from reports.read.run import load_run
from reports.verdict.recommending import recommend
from tests.reports import synthetic

TASTE = {"alpha=0": 4, "alpha=0.45": 9, "alpha=1": 6}


def small_suite(**changes: Any) -> Suite:
    """Three candidates on four prompts of each split, with the gate that asks people."""
    whole = synthetic.merge_suite()
    fields: dict[str, Any] = {
        "candidates": tuple(c for c in whole.candidates if c.name in TASTE),
        "grid": Grid(prompts=synthetic.prompts(4, 4), seeds=(1, 2), guidance_scales=(3.0,), width=32, height=32),
        "gates": (Gate(value="rating", at_least=7.0),)}
    return synthetic.merge_suite(**{**fields, **changes})


def write(folder: Path, suite: Suite | None = None) -> Path:
    """A run folder whose journal holds the true SHA-256 of every image."""
    synthetic.write_run(folder, suite or small_suite())
    renew(folder)
    return folder


def renew(folder: Path) -> None:
    """Writes the present SHA-256 of every image into the journal, as if each had just been made."""
    records, _ = Journal(folder / "journal.jsonl").read()
    sound = [replace(r, sha256=hashlib.sha256((folder / r.path).read_bytes()).hexdigest()) if isinstance(r, Sample) else r
             for r in records]
    (folder / "journal.jsonl").write_text("".join(to_line(r) + "\n" for r in sound), encoding="utf-8")


def blind(folder: Path, **ask: Any) -> Blind:
    run = load_run(folder)
    return write_blind(run, recommend(run), Ask(**{"seed": 3, **ask}))


def scores(session: Session, opinion: Callable[[Shown], int]) -> dict[str, int | str]:
    return {token: opinion(session.images[places[0]]) for token, places in session.shows.items()}


def taste(shown: Shown) -> int:
    return TASTE[shown.candidate]


def answer(folder: Path, session: Session, rater: str, answers: Mapping[str, int | str]) -> None:
    """Puts a rater's answers straight into the run folder."""
    write_sheet(folder, Sheet(session=session.session, mode=session.mode, rater=rater, answers=dict(sorted(answers.items()))))


def exported(path: Path, session: Session, rater: str, answers: Mapping[str, Any],
             changes: Mapping[str, Any] | None = None) -> Path:
    """The file that the page would export."""
    body = {"format": SHEET_FORMAT, "session": session.session, "mode": session.mode, "rater": rater, "answers": answers}
    path.write_text(json.dumps({**body, **(changes or {})}), encoding="utf-8")
    return path
