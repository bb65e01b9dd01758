"""One writer at a time, and a dead one does not stand in the way: on one kernel, across containers and machines."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from harness.records.owner import Owner, myself, started
from harness.run_folder import lock as folder_lock
from harness.run_folder.folder import RunInUseError, lock, sweep
from harness.run_folder.ledger import RunFolderError

ROOT = Path(__file__).parents[2]
HOLD = """
import sys, time
from pathlib import Path
from harness.run_folder.folder import lock
held = lock(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


def leave(folder: Path, owner: Owner, seconds_ago: float) -> None:
    """What a process left that did not end in order."""
    (folder / ".owner").write_text(json.dumps(vars(owner)))
    os.utime(folder / ".owner", (time.time() - seconds_ago,) * 2)


@pytest.fixture
def no_flock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_lock, "_flock", lambda file: None)


def test_a_killed_holder_is_no_obstacle_and_a_living_one_is_named(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    holder.stdout.readline()
    with pytest.raises(RunInUseError, match=rf"process {holder.pid} on .*--runs-dir"):
        lock(tmp_path)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    assert (tmp_path / ".owner").exists()
    lock(tmp_path).close()
    assert not (tmp_path / ".owner").exists()


@pytest.mark.parametrize(("seconds_ago", "free"), [(5, False), (59, False), (61, True)])
def test_a_holder_on_another_machine_counts_while_it_is_heard_of(tmp_path: Path, seconds_ago: float, free: bool) -> None:
    leave(tmp_path, replace(myself(), host="elsewhere", boot="another kernel"), seconds_ago)
    if free:
        lock(tmp_path).close()
        return
    with pytest.raises(RunInUseError, match="on elsewhere"):
        lock(tmp_path)


@pytest.mark.parametrize("alive", [False, True])
def test_a_holder_whose_file_is_of_the_future_counts_only_if_it_still_touches_it(tmp_path: Path, alive: bool,
                                                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    leave(tmp_path, replace(myself(), host="elsewhere", boot="another kernel"), -100_000_000)

    def passed(seconds: float) -> None:
        if alive and seconds > folder_lock.BEAT_SECONDS:
            os.utime(tmp_path / ".owner")

    monkeypatch.setattr(folder_lock.time, "sleep", passed)
    if alive:
        with pytest.raises(RunInUseError, match="elsewhere"):
            lock(tmp_path)
    else:
        lock(tmp_path).close()


@pytest.mark.usefixtures("no_flock")
def test_without_flock_a_number_used_again_is_not_the_old_process(tmp_path: Path) -> None:
    leave(tmp_path, replace(myself(), start="1"), 0)
    lock(tmp_path).close()
    leave(tmp_path, myself(), 0)
    with pytest.raises(RunInUseError):
        lock(tmp_path)


@pytest.mark.usefixtures("no_flock")
def test_without_flock_the_same_number_in_another_container_is_respected(tmp_path: Path) -> None:
    leave(tmp_path, replace(myself(), host="container-2", start="1"), 5)
    with pytest.raises(RunInUseError, match="container-2"):
        lock(tmp_path)


def test_a_damaged_owner_file_locks_nobody_out(tmp_path: Path) -> None:
    (tmp_path / ".owner").write_text("{")
    lock(tmp_path).close()


def test_a_folder_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match="--runs-dir"):
        lock(tmp_path / "file" / "run")


def test_what_a_killed_run_left_is_swept_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "images" / "a").mkdir(parents=True)
    for name in (".x.png.77-ab.tmp", "mine.tmp", ".hidden", "y.png"):
        (tmp_path / "images" / "a" / name).write_text("")
    sweep(tmp_path)
    assert {p.name for p in (tmp_path / "images" / "a").iterdir()} == {"mine.tmp", ".hidden", "y.png"}


def test_the_start_of_a_process_is_known_and_that_of_none_is_not() -> None:
    if not Path("/proc/self/stat").exists():
        pytest.skip("this system has no /proc")
    assert started(os.getpid()).isdigit()
    assert started(2**22 + 1) == ""


def odd(place: Path, kind: str) -> None:
    """Something that is not the file that a run leaves, in its place."""
    match kind:
        case "a pipe":
            os.mkfifo(place)
        case "a device":
            place.symlink_to("/dev/zero")
        case "a folder":
            place.mkdir()
        case "a huge file":
            with place.open("wb") as file:
                file.truncate(1 << 40)


@pytest.mark.skipif(sys.platform == "win32", reason="pipes and devices are of other systems")
@pytest.mark.parametrize("kind", ["a pipe", "a device", "a huge file"])
def test_an_odd_owner_file_is_replaced_without_waiting(tmp_path: Path, kind: str) -> None:
    odd(tmp_path / ".owner", kind)
    with_lock = lock(tmp_path)
    assert json.loads((tmp_path / ".owner").read_text())["pid"] == os.getpid()
    with_lock.close()


@pytest.mark.skipif(sys.platform == "win32", reason="pipes and devices are of other systems")
@pytest.mark.parametrize("kind", ["a pipe", "a device", "a folder"])
def test_an_odd_lock_file_is_named_without_waiting(tmp_path: Path, kind: str) -> None:
    odd(tmp_path / ".lock", kind)
    with pytest.raises(RunFolderError, match=r"its \.lock is not a regular file"):
        lock(tmp_path)
