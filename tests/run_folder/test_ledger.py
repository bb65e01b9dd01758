"""The ledger knows at a restart what is whole, from its index as from the journal, and is not fooled by either."""

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import pytest

from harness.records import Cell, Failure, Measurement, Sample, Weights
from harness.run_folder import image_files
from harness.run_folder.image_files import AlteredImageError
from harness.run_folder.ledger import Ledger, RunFolderError

CELLS = tuple(Cell(prompt=p, seed=s, guidance=g) for p in ("star", "a cup, blue") for s in (0, 1) for g in (1, 7.5))


def key(candidate: str, cell: Cell) -> str:
    return hashlib.sha256(repr((candidate, cell)).encode()).hexdigest()[:16]


def image(candidate: str, cell: Cell, data: bytes = b"") -> tuple[Sample, bytes]:
    data = data or repr((candidate, cell)).encode()
    path = f"images/{candidate}/{key(candidate, cell)}.png"
    sha256 = hashlib.sha256(data).hexdigest()
    return Sample(key=key(candidate, cell), candidate=candidate, cell=cell, path=path, sha256=sha256), data


def measurement(sample: Sample, **changes: object) -> Measurement:
    values: dict[str, object] = {"sample": sample.key, "candidate": sample.candidate, "cell": sample.cell, "metric": "psnr",
                                 "version": 1, "values": {"psnr_db": 30.5}}
    return Measurement(**{**values, **changes})  # type: ignore[arg-type]


def filled(folder: Path) -> Ledger:
    ledger = Ledger(folder)
    for name in ("a", "b"):
        images = [image(name, cell) for cell in CELLS]
        ledger.store(images)
        ledger.add([Weights(candidate=name, identity=f"weights of {name}", inputs={}),
                    *(measurement(s) for s, _ in images), Failure(candidate=name, stage="s", error="E", message="m")])
    return ledger


def absent(ledger: Ledger, candidate: str) -> list[Cell]:
    return ledger.missing(candidate, [(cell, key(candidate, cell)) for cell in CELLS])


def knows(ledger: Ledger) -> object:
    """All that a ledger answers."""
    claims = {name: ledger.measured("psnr", 1, "", [(ledger.samples[name, c], "") for c in CELLS]) for name in ("a", "b")}
    return (ledger.samples, claims, ledger.identity("a"), ledger.damaged, ledger._content.by_key, ledger._content.lines,
            [absent(ledger, name) for name in ("a", "b")])


def test_the_index_says_what_the_journal_says(tmp_path: Path) -> None:
    filled(tmp_path).close()
    by_index = Ledger(tmp_path)
    assert by_index._unindexed == 0
    (tmp_path / "journal.index").unlink()
    by_journal = Ledger(tmp_path)
    assert by_journal._unindexed > 0
    assert knows(by_index) == knows(by_journal)


def test_lines_after_the_index_are_read(tmp_path: Path) -> None:
    filled(tmp_path).close()
    killed = Ledger(tmp_path)
    killed.store([image("c", CELLS[0])])
    again = Ledger(tmp_path)
    assert again._unindexed == 1
    assert absent(again, "c") == list(CELLS[1:])


@pytest.mark.parametrize("harm", ["journal line", "index body", "index head", "journal cut", "index of another folder"])
def test_a_doubtful_index_is_not_believed(tmp_path: Path, harm: str) -> None:
    filled(tmp_path).close()
    journal, index = tmp_path / "journal.jsonl", tmp_path / "journal.index"
    match harm:
        case "journal line":
            journal.write_bytes(journal.read_bytes().replace(b'"candidate":"b"', b'"candidate":"B"', 1))
        case "index body":
            index.write_bytes(index.read_bytes().replace(key("a", CELLS[0]).encode(), b"0" * 16))
        case "index head":
            index.write_bytes(b"{}\n" + index.read_bytes().partition(b"\n")[2])
        case "journal cut":
            journal.write_bytes(journal.read_bytes()[:-300])
        case "index of another folder":
            Ledger(tmp_path / "other").add([image("x", CELLS[0])[0]])
            other = Ledger(tmp_path / "other")
            other.close()
            index.write_bytes((tmp_path / "other" / "journal.index").read_bytes())
    with_index = Ledger(tmp_path)
    index.unlink()
    assert with_index.samples == Ledger(tmp_path).samples
    assert with_index._unindexed > 0


def test_an_altered_image_is_seen_and_an_untouched_one_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(tmp_path).close()
    altered = tmp_path / image("a", CELLS[2])[0].path
    altered.write_bytes(b"x" + altered.read_bytes()[1:])
    ledger, read = Ledger(tmp_path), []
    true_read = image_files.read_regular
    monkeypatch.setattr(image_files, "read_regular", lambda path, most: read.append(Path(path)) or true_read(path, most))
    assert absent(ledger, "a") == [CELLS[2]]
    assert read == [altered]


def test_a_change_with_the_old_size_and_time_is_seen_by_its_ctime(tmp_path: Path) -> None:
    filled(tmp_path).close()
    altered = tmp_path / image("a", CELLS[2])[0].path
    before = altered.stat()
    altered.write_bytes(b"x" + altered.read_bytes()[1:])
    os.utime(altered, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert absent(Ledger(tmp_path), "a") == [CELLS[2]]


def test_verify_believes_no_stat(tmp_path: Path) -> None:
    """The one change that a stat cannot show, a disk that gives back other bytes, is played by a stat noted after it."""
    ledger = filled(tmp_path)
    ledger.flush()
    sample, _ = image("a", CELLS[0])
    rotten = tmp_path / sample.path
    rotten.write_bytes(b"rot")
    found = rotten.stat()
    ledger._content.stats[sample.path] = (sample.sha256, (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino))
    ledger.close()
    assert absent(Ledger(tmp_path), "a") == []
    assert absent(Ledger(tmp_path, verify=True), "a") == [CELLS[0]]
    with pytest.raises(AlteredImageError, match="run the same command again"):
        Ledger(tmp_path).read(sample)


def test_a_copied_folder_is_hashed_once(tmp_path: Path) -> None:
    filled(tmp_path).close()
    for path in tmp_path.rglob("*.png"):
        path.write_bytes(path.read_bytes())
    first = Ledger(tmp_path)
    assert absent(first, "a") == absent(first, "b") == []
    first.close()
    second = Ledger(tmp_path)
    absent(second, "a")
    assert second._images.hashed == set()


@pytest.mark.parametrize(("dropped", "counts"), [(0.0, True), (7.0, False)])
def test_a_clip_score_of_the_beginning_of_a_prompt_is_taken_again(tmp_path: Path, *, dropped: float, counts: bool) -> None:
    ledger = filled(tmp_path)
    sample, _ = image("a", CELLS[0])
    ledger.add([replace(measurement(sample, metric="clip_score"), values={"clip_score": 20.0, "tokens_dropped": dropped})])
    for now in (ledger, Ledger(tmp_path)):
        assert now.measured("clip_score", 1, "", [(sample, "")]) is counts


def test_a_picture_made_again_with_other_bits_is_measured_again(tmp_path: Path) -> None:
    ledger = filled(tmp_path)
    reference, _ = image("a", CELLS[0])
    other, _ = image("b", CELLS[0])
    ledger.add([measurement(other, metric="fidelity", reference=reference.key)])
    assert ledger.measured("fidelity", 1, "", [(other, reference.key)])
    ledger.store([image("a", CELLS[0], b"other bits")])
    for now in (ledger, Ledger(tmp_path)):
        assert not now.measured("psnr", 1, "", [(now.samples["a", CELLS[0]], "")])
        assert not now.measured("fidelity", 1, "", [(other, reference.key)])
        assert now.measured("psnr", 1, "", [(other, "")])


def test_a_picture_outside_the_folder_does_not_count(tmp_path: Path) -> None:
    outside, _ = image("a", CELLS[0])
    (tmp_path / "secret.png").write_bytes(image("a", CELLS[0])[1])
    ledger = Ledger(tmp_path / "run")
    ledger.add([replace(outside, path="../secret.png")])
    assert CELLS[0] in absent(ledger, "a")
    (tmp_path / "run" / "link.png").symlink_to(tmp_path / "secret.png")
    ledger.add([replace(outside, path="link.png")])
    assert CELLS[0] in absent(ledger, "a")


def test_a_full_disk_keeps_what_was_written_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The third file does not fit: the error goes on, and the two before it are in the journal and stay."""
    ledger, renamed = Ledger(tmp_path), []
    true_replace = Path.replace

    def replace(self: Path, target: Path) -> Path:
        renamed.extend([target] if target.suffix == ".png" else [])
        if len(renamed) == 3:
            raise OSError(28, "No space left on device")
        return true_replace(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(OSError, match="No space left"):
        ledger.store([image("a", cell) for cell in CELLS])
    monkeypatch.undo()
    assert absent(Ledger(tmp_path), "a") == list(CELLS[2:])
    assert not list(tmp_path.rglob("*.tmp"))


def test_an_index_that_cannot_be_written_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = filled(tmp_path)
    (tmp_path / "journal.index").mkdir()
    ledger.close()
    assert absent(Ledger(tmp_path), "a") == []


def test_forgetting_one_leaves_the_others(tmp_path: Path) -> None:
    ledger = filled(tmp_path)
    ledger.forget("a")
    assert absent(ledger, "a") == list(CELLS)
    assert absent(ledger, "b") == []
    assert ledger.identity("a") == ""
    assert len(list(tmp_path.rglob("*.png"))) == len(CELLS)
    ledger.close()
    assert absent(Ledger(tmp_path), "b") == []


def test_images_wait_for_the_disk_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr("os.fsync", synced.append)
    monkeypatch.setattr("time.monotonic", lambda: 0.0)
    ledger = Ledger(tmp_path)
    for number in range(63):
        ledger.store([image(f"c{number}", CELLS[0])])
    assert synced == []
    ledger.store([image("c63", CELLS[0])])
    assert len(synced) == 64 + 1


@pytest.mark.parametrize("name", ["journal.jsonl", "journal.index", "run.json", "image"])
def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path: Path, name: str) -> None:
    filled(tmp_path).close()
    place = tmp_path / (image("a", CELLS[2])[0].path if name == "image" else name)
    place.unlink(missing_ok=True)
    os.mkfifo(place)
    if name == "journal.jsonl":
        with pytest.raises(RunFolderError, match="not a regular file"):
            Ledger(tmp_path)
        return
    ledger = Ledger(tmp_path)
    assert ledger.head() == {}
    assert absent(ledger, "a") == ([CELLS[2]] if name == "image" else [])
