"""The pictures that images were made of are kept, checked and forgotten with them."""

import hashlib
from pathlib import Path

import pytest

from harness.records import Cell, Intermediate, Sample, from_line, to_line
from harness.run_folder.ledger import Ledger

CELL = Cell(prompt="star", seed=0, guidance=3.0)


def image(candidate: str, key: str = "final") -> tuple[Sample, bytes]:
    data = f"image {key}".encode()
    return Sample(key=key, candidate=candidate, cell=CELL, path=f"images/{candidate}/{key}.png",
                  sha256=hashlib.sha256(data).hexdigest()), data


def raw(candidate: str, sample: str = "final", path: str = "images/a/raw.png") -> tuple[Intermediate, bytes]:
    return Intermediate(candidate=candidate, cell=CELL, sample=sample, name="raw", key="raw key", path=path,
                        sha256=hashlib.sha256(b"raw").hexdigest(), notes=("Temperature: left",)), b"raw"


def test_a_line_of_the_journal_gives_it_back() -> None:
    assert from_line(to_line(raw("a")[0])) == raw("a")[0]


@pytest.mark.parametrize("indexed", [True, False])
def test_what_an_image_was_made_of_is_known_at_a_restart(tmp_path: Path, indexed: bool) -> None:
    ledger = Ledger(tmp_path)
    ledger.store([raw("a"), image("a")])
    ledger.close()
    if not indexed:
        (tmp_path / "journal.index").unlink()
    again = Ledger(tmp_path)
    assert again.made_of("final") == (raw("a")[0],)
    assert again.picture("raw key") == raw("a")[0]
    assert again.missing("a", [(CELL, "final")]) == []


def test_an_image_is_missing_while_what_it_was_made_of_is(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.store([raw("a"), image("a")])
    ledger.close()
    (tmp_path / "images/a/raw.png").write_bytes(b"other")
    again = Ledger(tmp_path)
    assert again.missing("a", [(CELL, "final")]) == [CELL]
    assert again.picture("raw key") is None


def test_forgetting_a_candidate_deletes_its_pictures_and_no_shared_ones(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.store([raw("a"), image("a"), raw("b", "other"), image("b", "other"),
                  raw("c", "third", "images/c/raw.png"), image("c", "third")])
    ledger.forget("a")
    ledger.forget("c")
    assert sorted(path.name for path in tmp_path.rglob("*.png")) == ["other.png", "raw.png"]
    assert [one.candidate for one in ledger.made_of("other")] == ["b"]


def test_an_image_that_another_candidate_has_too_keeps_what_it_was_made_of(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.store([raw("a"), image("a")])
    assert ledger.missing("b", [(CELL, "final")]) == []
    ledger.forget("a")
    assert ledger.missing("b", [(CELL, "final")]) == []
    assert ledger.made_of("final") == (raw("a")[0],)
