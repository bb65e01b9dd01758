"""report.md shows the pick beside its rivals from a small file, within its limit, and no text of a run acts in it."""

from __future__ import annotations

import io
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reports import load_run, recommend
from reports.page.pick_strip import CELL, GAP, LINE, STRIP_NAME, drawn, illustrated, text_alone
from reports.page.summary import MARKDOWN_LIMIT
from reports.page.thumbnails import strip
from reports.read.run import Run
from reports.verdict.recommendation import Recommendation

TEXT = "## suite\n\n**verdict**\n\nrest"


@pytest.fixture
def run(merge_run: Run, merge_folder: Path, tmp_path: Path) -> Run:
    shutil.copytree(merge_folder / "images", tmp_path / "images")
    return replace(merge_run, folder=tmp_path)


def test_the_markdown_shows_a_relative_file_below_the_verdict(run: Run, merge_verdict: Recommendation) -> None:
    lines = illustrated(TEXT, run, merge_verdict).split("\n")
    assert lines[4] == f"![The pick next to its rivals]({STRIP_NAME})"
    assert lines[-1] == "rest"
    assert "the pick, alpha 0.45" in lines[6]
    assert (run.folder / STRIP_NAME).stat().st_size < 200_000


def test_without_the_picture_the_text_is_what_it_was(run: Run, merge_verdict: Recommendation) -> None:
    assert text_alone(illustrated(TEXT, run, merge_verdict)) == TEXT
    assert text_alone(TEXT) == TEXT


def test_every_picture_stands_at_its_place(run: Run, merge_verdict: Recommendation) -> None:
    shown = strip(run, merge_verdict)
    assert shown is not None
    image = np.asarray(Image.open(io.BytesIO(drawn(shown))).convert("RGB")).astype(int)
    rows = run.images[(run.images["guidance"] == merge_verdict.guidance) & (run.images["seed"] == run.suite.grid.seeds[0])]
    first = rows[rows["prompt"] == run.suite.grid.prompts[0].id].set_index("candidate")["path"]
    for at, name in enumerate(["alpha=0", str(merge_verdict.pick), "alpha=1"]):
        with Image.open(run.folder / first[name]) as opened:
            wanted = np.asarray(opened.convert("RGB")).astype(int)[20, 16]
        seen = image[GAP + LINE + int(CELL * 20.5 / 32), GAP + at * (CELL + GAP) + CELL // 2]
        assert np.abs(seen - wanted).max() < 20, name


def test_without_a_pick_there_is_no_picture_and_an_old_one_goes(run: Run, merge_verdict: Recommendation) -> None:
    (run.folder / STRIP_NAME).write_bytes(b"old")
    assert illustrated(TEXT, run, replace(merge_verdict, pick=None)) == TEXT
    assert not (run.folder / STRIP_NAME).exists()


def test_it_stays_within_the_limit_and_says_what_fell_away(run: Run, merge_verdict: Recommendation) -> None:
    said = illustrated(TEXT + "\n" + "long line\n" * 5990, run, merge_verdict)
    assert len(said.encode()) <= MARKDOWN_LIMIT
    assert STRIP_NAME in said
    assert said.rstrip().endswith("the page has the rest.")


def test_a_hostile_prompt_stays_text(hostile_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(hostile_folder, tmp_path / "run")
    run = load_run(tmp_path / "run")
    said = illustrated(TEXT, run, recommend(run))
    assert STRIP_NAME in said
    assert not re.search(r"(?<!\\)[<|]|(?<![\\)])\]\((?!report-pick)", said)
