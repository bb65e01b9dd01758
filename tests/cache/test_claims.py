"""Of several processes one makes a part of the work, and another takes it over when that one is gone."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.cache import NoCache, open_cache
from harness.cache.claims import ClaimError, Claims, FolderClaims, open_claims
from harness.records.owner import myself
from tests.cache.test_cache import KEY, SIZE, address, raw, server  # noqa: F401  fixtures

NEVER = 3600.0


def claims(where: str, *, beat: float = NEVER, stale: float = 60.0) -> Claims:
    return open_claims(open_cache(where, SIZE), beat_seconds=beat, stale_seconds=stale)


def until(true: Callable[[], bool], seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while not (done := true()) and time.monotonic() < end:
        time.sleep(0.02)
    return done


def test_one_of_two_has_a_claim_until_it_gives_it_back(address: str) -> None:  # noqa: F811
    one, two = claims(address), claims(address)
    assert (one.take(KEY), two.take(KEY), one.take(KEY)) == (True, False, True)
    assert two.holder(KEY) == str(myself())
    two.give_back(KEY)
    assert not two.take(KEY)
    one.give_back(KEY)
    assert two.holder(KEY) == ""
    assert two.take(KEY)
    two.close()
    assert one.take(KEY)


def test_a_claim_without_a_sign_of_life_lapses_and_one_with_stays(address: str) -> None:  # noqa: F811
    dead, alive = claims(address, stale=0.4), claims(address, beat=0.05, stale=0.4)
    assert dead.take(KEY)
    assert alive.take("f" * 16)
    other = claims(address, stale=0.4)
    assert not other.take(KEY)
    assert until(lambda: other.take(KEY))
    assert not until(lambda: other.take("f" * 16), seconds=1.0)
    # What the late one gives back is no longer its own.
    dead.give_back(KEY)
    assert other.take(KEY)
    alive.close()


PROCESS = """
import sys, time
from harness.cache import open_cache
from harness.cache.claims import open_claims
claims = open_claims(open_cache(sys.argv[1], (24, 16)))
taken = [n for n in range(60) if claims.take(f"{n:016x}")]
print(taken, flush=True)
time.sleep(float(sys.argv[2]))
"""


def started(where: str, seconds: float) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", PROCESS, where, str(seconds)], cwd=Path(__file__).parents[2], text=True,
                            stdout=subprocess.PIPE)


def test_of_several_processes_each_claim_goes_to_one(address: str) -> None:  # noqa: F811
    many = [started(address, 3) for _ in range(3)]
    taken = [number for one in many for number in json.loads(one.communicate()[0])]
    assert sorted(taken) == list(range(60))


def test_a_process_that_was_killed_on_this_machine_is_known_to_be_gone_at_once(tmp_path: Path) -> None:
    where = f"folder:{tmp_path}"
    process = started(where, 60)
    assert process.stdout is not None
    process.stdout.readline()
    mine = claims(where)
    assert not mine.take(f"{1:016x}")
    process.kill()
    process.communicate()
    assert mine.take(f"{1:016x}")


class Clock:
    seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def elsewhere(folder: Path, key: str = KEY) -> Path:
    """A claim of another machine."""
    path = folder / f"{key}.claim"
    folder.mkdir(exist_ok=True)
    path.write_text(replace(myself(), host="elsewhere", boot="another", token="theirs").text)
    return path


@pytest.mark.parametrize("off", [-1e6, 0, 1e6])
def test_clocks_of_other_machines_do_not_matter(off: float, tmp_path: Path) -> None:
    path, clock = elsewhere(tmp_path), Clock()
    mine = FolderClaims(tmp_path, now=clock)
    for beat in range(20):
        os.utime(path, (time.time() + off + beat, time.time() + off + beat))
        assert not mine.take(KEY)
        clock.seconds += 10
    clock.seconds += 49
    assert not mine.take(KEY)
    clock.seconds += 2
    assert mine.take(KEY)
    mine.close()
    assert not list(tmp_path.iterdir())


def test_of_two_that_find_a_claim_lapsed_at_once_one_takes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere(tmp_path)
    clock = Clock()
    one, two = FolderClaims(tmp_path, now=clock), FolderClaims(tmp_path, now=clock)
    assert (one.take(KEY), two.take(KEY)) == (False, False)
    clock.seconds += 61
    rename, results = Path.rename, list[bool]()

    def late(self: Path, target: Path) -> Path:
        monkeypatch.setattr(Path, "rename", rename)
        results.append(two.take(KEY))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", late)
    results.append(one.take(KEY))
    assert results == [True, False]
    assert two.holder(KEY) == str(myself())
    two.close()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("linked", [False, True], ids=["no hard links", "a lost answer"])
def test_file_systems_without_links_or_answers_serve(linked: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = os.link

    def fail(source: Path, target: Path) -> None:
        if linked:
            link(source, target)
            raise FileExistsError(errno.EEXIST, "File exists")
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr("os.link", fail)
    one = FolderClaims(tmp_path)
    assert one.take(KEY)
    monkeypatch.setattr("os.link", link)
    assert not FolderClaims(tmp_path).take(KEY)
    one.close()
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_said_with_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(ClaimError, match=r"No space left.*room"):
        FolderClaims(tmp_path).take(KEY)


def test_beats_need_no_room_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = FolderClaims(tmp_path, beat_seconds=0.02)
    assert one.take(KEY)
    path = tmp_path / f"{KEY}.claim"
    before = path.stat().st_mtime_ns

    def full(*_: object, **__: object) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("builtins.open", full)
    monkeypatch.setattr(Path, "open", full)
    assert until(lambda: path.stat().st_mtime_ns > before)
    monkeypatch.undo()
    one.close()


@pytest.mark.parametrize("plant", [
    lambda path: path.write_bytes(b"junk"), lambda path: path.write_bytes(b"[" * 70_000), lambda path: path.write_text("{}"),
    lambda path: path.mkdir(), os.mkfifo, lambda path: path.symlink_to(path)],
    ids=["junk", "nested", "no owner", "a folder", "a pipe", "a circle"])
def test_what_nobody_claims_with_lapses_as_well(plant: Callable[[Path], object], tmp_path: Path) -> None:
    plant(tmp_path / f"{KEY}.claim")
    clock = Clock()
    mine = FolderClaims(tmp_path, now=clock)
    assert not mine.take(KEY)
    assert mine.holder(KEY)
    clock.seconds += 61
    assert mine.take(KEY)
    mine.close()


def test_a_string_of_somebody_else_on_redis_is_left_alone(server: str) -> None:  # noqa: F811
    client: Any = raw(server)
    client.set(f"sweetspot:claim:{KEY}", b"\xff[junk")
    mine = claims(server)
    assert not mine.take(KEY)
    assert mine.holder(KEY) == "a process that is not on record"
    mine.give_back(KEY)
    assert client.get(f"sweetspot:claim:{KEY}") == b"\xff[junk"
    client.flushdb()
    client.close()


def test_a_server_that_is_away_is_said_and_no_claim_is_made() -> None:
    pytest.importorskip("redis", reason="the package redis is not installed")
    with pytest.raises(ClaimError, match=r"redis://127\.0\.0\.1:1/0: cannot claim.*reach this server"):
        claims("redis://127.0.0.1:1/0").take(KEY)


def test_without_a_cache_nothing_is_claimed() -> None:
    with pytest.raises(ClaimError, match="--shared-cache"):
        open_claims(NoCache())


def test_claims_of_processes_that_are_gone_are_removed_though_nobody_asks_for_them_again(tmp_path: Path) -> None:
    where = f"folder:{tmp_path}"
    process = started(where, 60)
    assert process.stdout is not None
    process.stdout.readline()
    folder = tmp_path / "claims"
    old, fresh = elsewhere(folder, "a" * 16), elsewhere(folder, "b" * 16)
    stranger = folder / "notes.claim"
    stranger.write_text("mine")
    os.utime(old, (time.time() - 3600,) * 2)
    living = {path for path in folder.glob("*.claim") if path not in {old, fresh, stranger}}
    assert living
    claims(where).close()
    assert set(folder.iterdir()) == {fresh, stranger, *living}
    process.kill()
    process.communicate()
    claims(where).close()
    assert set(folder.iterdir()) == {fresh, stranger}
