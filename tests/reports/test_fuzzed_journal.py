"""A journal whose lines were cut, mixed up or edited: whoever resumes or reads the run says which lines do not count, and never
fails with a traceback."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.records import Measurement, from_line
from harness.records.sound_values import unsound
from harness.run_folder.ledger import Ledger
from reports import judge, load_run, recommend
from tests.reports import synthetic
from tests.reports.test_hostile_folders import places

SEED, ROUNDS = 7, 30
ODD: tuple[Any, ...] = (None, 0, -1, 1e308, 2**70, 10**400, "", "x", "\x1b[2J", "\ud800", [], [[]], {}, {"a": 1}, True,
                        float("nan"), float("inf"), "alpha=0", [None], {"\ud800": 1}, "9" * 5000)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic.write_run(tmp_path_factory.mktemp("made"), synthetic.merge_suite(grid=synthetic.SMALL))


def edited(line: str, dice: random.Random) -> str:
    """A line with another value in one of its places, or without it."""
    record = json.loads(line)
    *path, last = dice.choice(list(places(record)))
    inner = record
    for step in path:
        inner = inner[step]
    if dice.random() < 0.2:
        del inner[last]
    else:
        inner[last] = dice.choice(ODD)
    return json.dumps(record)


def cut(line: str, dice: random.Random) -> str:
    return line[:dice.randrange(1, len(line))]


def garbled(line: str, dice: random.Random) -> str:
    place = dice.randrange(len(line))
    return line[:place] + chr(dice.choice((0, 27, 34, 92, 123, 0x202e))) + line[place + 1:]


def doubled(line: str, dice: random.Random) -> str:
    return f"{line}{line}" if dice.random() < 0.5 else f"{line}\n{line}"


@pytest.mark.parametrize("change", [edited, cut, garbled, doubled])
def test_a_changed_line_is_read_or_counted_and_nothing_else_is_lost(
        change: Callable[[str, random.Random], str], made: Path, tmp_path: Path) -> None:
    dice = random.Random(SEED)
    folder = Path(shutil.copytree(made, tmp_path / "run"))
    journal = folder / "journal.jsonl"
    lines = journal.read_text().splitlines()
    by_kind = {json.loads(line)["kind"]: line for line in lines}
    for number in range(ROUNDS):
        line = dice.choice(list(by_kind.values()))
        texts = change(line, dice).split("\n")
        journal.write_text("".join(f"{new}\n" for old in lines for new in (texts if old == line else [old])))
        unread = sum(not readable(text) for text in texts)
        for _ in range(2):  # the second reads the index that the first wrote
            ledger = Ledger(folder)
            assert len(ledger.damaged) == unread, (number, texts)
            ledger.close()
        run = load_run(folder)
        judge(run, recommend(run))
        assert len(run.damaged) == unread, (number, texts)
        (folder / "journal.index").unlink(missing_ok=True)


def readable(text: str) -> bool:
    try:
        return not unsound(from_line(text))
    except ValueError:
        return False


@pytest.mark.parametrize(("part", "value"), [
    ("values", "x"), ("values", True), ("values", None), ("values", 1e308), ("values", [1.0]), ("labels", 5), ("labels", None),
    ("missing", [1.0]), ("details", "x"), ("details", 5)])
def test_a_measurement_with_a_value_of_another_type_is_measured_again_and_missing_until_then(
        made: Path, tmp_path: Path, part: str, value: Any) -> None:
    folder = Path(shutil.copytree(made, tmp_path / "run"))
    journal = folder / "journal.jsonl"
    lines = journal.read_text().splitlines()
    at = next(at for at, line in enumerate(lines) if '"metric":"clip_score"' in line)
    record = from_line(lines[at])
    assert isinstance(record, Measurement)
    name = {"values": "clip_score", "details": "leanings"}.get(part, "note")
    lines[at] = json.dumps(json.loads(lines[at]) | {part: {**getattr(record, part), name: value}})
    journal.write_text("\n".join(lines) + "\n")
    for _ in range(2):  # the second reads the index that the first wrote
        ledger = Ledger(folder)
        measured = [ledger.measured("clip_score", record.version, record.setting, [(sample, record.reference)])
                    for sample in ledger.samples.values() if sample.candidate == record.candidate]
        ledger.close()
        assert measured.count(False) == 1
    run = load_run(folder)
    assert run.images["clip_score"].isna().sum() == 1
    assert len(run.damaged) == 1
