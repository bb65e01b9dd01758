"""The journal keeps what was written, refuses what is not a number, and outlives a torn line."""

from pathlib import Path

import pytest

from harness.records import (
    Cell,
    Coverage,
    Failure,
    Finished,
    Journal,
    Latency,
    Measurement,
    Memory,
    Reading,
    Record,
    Sample,
    Weights,
    from_line,
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
)


@pytest.mark.parametrize("record", RECORDS, ids=lambda r: type(r).__name__)
def test_a_record_survives_its_line(record: Record) -> None:
    assert from_line(to_line(record)) == record
    assert "\n" not in to_line(record)


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
