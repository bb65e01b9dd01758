"""A file is whole or not there, whoever else writes it and whatever the disk says."""

import os
from pathlib import Path
from threading import Thread

import pytest

from harness.records import write_atomically

ROOT = Path(__file__).parents[2]


def test_missing_folders_are_made_and_nothing_else_is_left(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a" / "b" / "file", b"content")
    assert [p.name for p in (tmp_path / "a" / "b").iterdir()] == ["file"]
    assert (tmp_path / "a" / "b" / "file").read_bytes() == b"content"


@pytest.mark.parametrize("sync", [True, False])
def test_data_is_on_the_disk_before_the_rename_where_that_is_asked(sync: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
                                                                   ) -> None:
    steps: list[str] = []
    true_replace = Path.replace
    monkeypatch.setattr(os, "fsync", lambda _: steps.append("fsync"))
    monkeypatch.setattr(Path, "replace", lambda self, target: (steps.append("rename"), true_replace(self, target)))
    write_atomically(tmp_path / "file", b"content", sync=sync)
    assert steps == (["fsync", "rename"] if sync else ["rename"])


def test_threads_of_one_process_do_not_write_into_each_others_file(tmp_path: Path) -> None:
    contents = [bytes([number]) * 200_000 for number in range(8)]
    threads = [Thread(target=write_atomically, args=(tmp_path / "file", content)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "file").read_bytes() in contents


def test_only_model_files_and_locks_rename_for_themselves() -> None:
    """Model files are streamed or copied, and an owner file is claimed; everything else is written by the one function."""
    renaming = {file.relative_to(ROOT).as_posix() for package in ("harness", "reports") for file in (ROOT / package).rglob("*.py")
                if "os.fsync" in (text := file.read_text(encoding="utf-8")) or "temporary.replace(" in text}
    assert renaming == {"harness/promotion/named_copy.py", "harness/records/atomic.py", "harness/records/journal.py",
                        "harness/run_folder/image_files.py", "harness/run_folder/lock.py", "harness/weights/stream.py"}
