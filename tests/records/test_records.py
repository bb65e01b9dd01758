"""The journal keeps what was written, refuses what is not a number, and outlives a torn line."""

import json
import math
from pathlib import Path

import pytest

from harness.records import (
    Cell,
    Coverage,
    Dropped,
    Failure,
    Finished,
    Journal,
    Latency,
    Look,
    Measurement,
    Memory,
    Reading,
    Record,
    Sample,
    Weights,
    from_line,
    standing_looks,
    to_line,
    write_atomically,
)

CELL = Cell(prompt="star", seed=1, guidance=7.5)
RECORDS: tuple[Record, ...] = (
    Sample(key="k", candidate="a", cell=CELL, path="images/x.png", sha256="0" * 64),
    Measurement(sample="k", candidate="a", cell=CELL, metric="psnr", version=1, values={"psnr_db": 30.5},
                labels={"dominant": "red"}, details={"clusters": [[1, 2, 3, 0.5]]}, missing={"x": "why"}, reference="r"),
    Coverage(candidate="a", stage="merge", component="unet", keys={"merged": ("w", "b")}, notes=("cast",)),
    Latency(candidate="a", batch_size=1, warmup_rounds=1, seconds={"total": (0.1, 0.2)}, guidance=5),
    Memory(candidate="a", readings=(Reading(name="rss", unit="bytes", value=None, why_missing="no /proc"),)),
    Failure(candidate="a", stage="sample", error="ValueError", message='"quoted"\nline'),
    Weights(candidate="a", identity="i", inputs={"zoo:photo": "h"}),
    Finished(candidate="a", identity="i", sampled=3, reused=4, seconds=1.5),
    Look(race="r", number=2, stage="select", candidates=("a", "b"), guidances=(1, 7.5), prompts=("star",), seeds=(1, 2), images=8,
         dropped=(Dropped(candidate="b", guidance=7.5, mean=-3.1, low=-5.0, high=-1.2),), level=0.98, why="because"),
)


@pytest.mark.parametrize("record", RECORDS, ids=lambda r: type(r).__name__)
def test_a_record_survives_its_line(record: Record) -> None:
    assert from_line(to_line(record)) == record
    assert "\n" not in to_line(record)


@pytest.mark.parametrize("edited", [
    {"number": "2"}, {"number": 0}, {"number": True}, {"images": -5}, {"images": None}, {"images": 10**30}, {"level": "x"},
    {"level": 1.0}, {"level": math.nan}, {"why": 7}, {"stage": 4}, {"race": [1]}, {"candidates": "bad"}, {"candidates": [["a"]]},
    {"guidances": ["x"]}, {"guidances": [math.inf]}, {"guidances": [10**400]},
    {"prompts": [{"a": 1}]}, {"seeds": ["1"]}, {"seeds": [10**40]},
    {"dropped": [{"candidate": 3, "guidance": 1, "mean": 0, "low": 0, "high": 0}]}, {"dropped": [1]},
    {"dropped": [{"candidate": "b", "guidance": 1, "mean": None, "low": 0, "high": 0}]},
    {"seeds": [*range(2000)], "prompts": ["p"] * 2000}], ids=str)
def test_a_look_edited_by_hand_is_a_damaged_line(tmp_path: Path, edited: dict[str, object]) -> None:
    sound = json.loads(to_line(RECORDS[-1]))
    (tmp_path / "j").write_text(json.dumps(sound) + "\n" + json.dumps({**sound, **edited}) + "\n")
    records, damaged = Journal(tmp_path / "j").read()
    assert records == [RECORDS[-1]]
    assert "j line 2: not a journal line" in damaged[0]


def test_looks_behind_a_lost_one_do_not_stand() -> None:
    looks = [Look(race="r", number=n, stage="select", candidates=(), guidances=(), prompts=(), seeds=(), images=n)
             for n in (1, 3, 4)]
    assert standing_looks(looks, "r") == (looks[0],)
    assert standing_looks(looks[1:], "r") == ()


def test_a_number_that_is_none_never_enters(tmp_path: Path) -> None:
    bad = Measurement(sample="k", candidate="a", cell=CELL, metric="m", version=1, values={"v": float("nan")})
    with pytest.raises(ValueError, match="Out of range float"):
        Journal(tmp_path / "j").add([bad])


def test_a_torn_last_line_is_reported_and_costs_only_itself(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    journal.add(RECORDS[:2])
    with journal.path.open("a") as file:
        file.write('{"kind": "sample", "key": "torn')
    journal.add(RECORDS[2:3])
    records, damaged = journal.read()
    assert records == list(RECORDS[:3])
    assert len(damaged) == 1
    assert "line 3" in damaged[0]


def test_nothing_half_written_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "page.html"
    target.write_bytes(b"old")
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        write_atomically(target, b"new")
    assert [p.name for p in tmp_path.iterdir()] == ["page.html"]
    assert target.read_bytes() == b"old"
