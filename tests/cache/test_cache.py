"""A shared cache gives back what was put there or nothing, whatever somebody else wrote into it."""

import logging
import os
import shutil
import socket
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.cache import SECRET_VARIABLE, CacheAddressError, ImageCache, open_cache, shared_key
from harness.cache.entry import EntryError, check_png, seal
from harness.sampling import to_png

SIZE = (24, 16)
KEY = "0123456789abcdef"


def picture(seed: int = 0, size: tuple[int, int] = SIZE) -> bytes:
    return to_png(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("no redis-server on this machine")
    pytest.importorskip("redis", reason="the package redis is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir",
                                str(tmp_path_factory.mktemp("redis"))], stdout=subprocess.DEVNULL)
    try:
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.02)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(params=["folder", "redis"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "folder":
        yield f"folder:{tmp_path / 'cache'}"
        return
    where = request.getfixturevalue("server")
    yield where
    raw(where).flushdb()
    raw(where).close()


def raw(where: str) -> "object":
    import redis

    return redis.Redis.from_url(where)


def plant(address: str, key: str, entry: bytes) -> None:
    """Writes an entry past the cache, as somebody else could."""
    if address.startswith("folder:"):
        path = Path(address.removeprefix("folder:")) / key[:2] / f"{key}.image"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(entry)
    else:
        client = raw(address)
        client.set(f"sweetspot:image:{key}", entry)  # type: ignore[attr-defined]
        client.close()  # type: ignore[attr-defined]


def counts(cache: ImageCache) -> tuple[int, int, int, int, int]:
    facts = cache.facts()
    return facts.hits, facts.misses, facts.stored, facts.refused, facts.errors


def test_what_was_put_comes_back_bit_for_bit(address: str) -> None:
    cache = open_cache(address, SIZE)
    assert cache.get(KEY) is None
    cache.put(KEY, picture())
    assert open_cache(address, SIZE).get(KEY) == cache.get(KEY) == picture()
    assert counts(cache) == (1, 1, 1, 0, 0)


@pytest.mark.parametrize(("entry", "why"), [
    (b"junk", "not an entry"),
    (seal(KEY, picture(), b"")[:-5], "hash differs"),
    (seal("fedcba9876543210", picture(), b""), "hash differs"),
    (seal(KEY, b"no picture", b""), "not a PNG"),
    (seal(KEY, picture(size=(8, 8)), b""), "24 x 16"),
    (seal(KEY, picture()[:-12], b""), "other parts"),
    (seal(KEY, bytes(200_000), b""), "more than|larger than"),
])
def test_a_planted_entry_is_refused_and_the_image_can_be_put_again(address: str, entry: bytes, why: str) -> None:
    plant(address, KEY, entry)
    cache = open_cache(address, SIZE)
    assert cache.get(KEY) is None
    assert counts(cache) == (0, 0, 0, 1, 0)
    assert any(part in next(iter(cache.facts().reasons)) for part in why.split("|"))
    cache.put(KEY, picture())
    assert cache.get(KEY) == picture()


def test_with_a_secret_only_entries_made_with_it_are_taken(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    open_cache(address, SIZE).put(KEY, picture(1))
    monkeypatch.setenv(SECRET_VARIABLE, "among us")
    ours = open_cache(address, SIZE)
    assert ours.get(KEY) is None
    ours.put(KEY, picture(2))
    assert ours.get(KEY) == picture(2)
    monkeypatch.setenv(SECRET_VARIABLE, "among others")
    assert open_cache(address, SIZE).get(KEY) is None


def test_an_entry_on_redis_ends_by_itself(server: str) -> None:
    open_cache(f"{server}?ttl=600", SIZE).put(KEY, picture())
    client = raw(server)
    assert 590 <= client.ttl(f"sweetspot:image:{KEY}") <= 600  # type: ignore[attr-defined]
    client.close()  # type: ignore[attr-defined]


def test_an_entry_above_the_limit_is_not_offered(server: str) -> None:
    cache = open_cache(f"{server}?max_entry_bytes=100", SIZE)
    cache.put("1" * 16, picture())
    assert counts(cache) == (0, 0, 0, 1, 0)


def test_a_server_that_is_away_costs_no_image_and_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("redis", reason="the package redis is not installed")
    cache = open_cache("redis://127.0.0.1:1/0", SIZE)
    with caplog.at_level(logging.WARNING, logger="sweetspot.cache"):
        for _ in range(20):
            assert cache.get(KEY) is None
    assert cache.facts().errors == 3  # then it is left alone for a while
    assert len(caplog.records) == 1


def test_a_folder_that_cannot_be_written_to_is_counted(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = open_cache(f"folder:{tmp_path / 'file'}", SIZE)
    cache.put(KEY, picture())
    assert cache.get(KEY) is None
    assert cache.facts().errors == 2


def test_a_full_folder_lets_the_least_recently_used_go(tmp_path: Path) -> None:
    size = len(seal(KEY, picture(), b""))
    cache = open_cache(f"folder:{tmp_path}?max_bytes={size * 10}", SIZE)
    keys = [f"{n:016x}" for n in range(11)]
    for n, key in enumerate(keys[:10]):
        cache.put(key, picture(n))
        path = tmp_path / key[:2] / f"{key}.image"
        os.utime(path, (1000 + n, 1000 + n))
    assert cache.get(keys[0]) is not None  # used just now
    cache.put(keys[10], picture(10))
    kept = {p.stem for p in tmp_path.rglob("*.image")}
    assert kept == {keys[0], *keys[3:]}
    assert sum(p.stat().st_size for p in tmp_path.rglob("*.image")) <= size * 10


def test_several_processes_share_a_folder(tmp_path: Path) -> None:
    code = ("import sys; from harness.cache import open_cache; from pathlib import Path\n"
            "data = Path(sys.argv[2]).read_bytes(); cache = open_cache(sys.argv[1], (24, 16))\n"
            "for n in range(100):\n    cache.put(f'{n:016x}', data); got = cache.get(f'{(n * 7) % 100:016x}')\n"
            "    assert got in (None, data)\n"
            "assert cache.facts().refused == cache.facts().errors == 0, cache.facts()\n")
    (tmp_path / "p.png").write_bytes(picture())
    command = ["-c", code, f"folder:{tmp_path / 'c'}?max_bytes=40000", str(tmp_path / "p.png")]
    many = [subprocess.Popen([sys.executable, *command], cwd=Path(__file__).parents[2]) for _ in range(3)]
    assert [p.wait() for p in many] == [0, 0, 0]


@pytest.mark.parametrize("bad", [
    "memcached://x", "/just/a/path", "folder:", "folder:/x?ttl=3", "folder:/x?max_bytes=-1", "redis:///0", "redis://h:port/0",
    "redis://h/zero", "redis://h/0?ttl=soon"])
def test_an_invalid_address_is_an_error_that_says_what_to_write(bad: str) -> None:
    with pytest.raises(CacheAddressError, match=r"expected|takes|positive integer"):
        open_cache(bad, SIZE)


@pytest.mark.parametrize("address", [
    "redis://:hush@h/0?tll=3", "redis://ci:hush/hush@h/0", "redis://ci:12/hush@h/0", "redis://ci:12#hush@h/0",
    "redis:ci:hush@h/0",
    "redis://ci:hush@/0", "redis://ci:hush@h/zero", "redis://ci:hush@h:port/0", "Redis://ci:hush@h/0", "redis://ci:12?hush@h/0"])
def test_a_password_is_never_shown(address: str) -> None:
    with pytest.raises(CacheAddressError) as caught:
        open_cache(address, SIZE)
    assert "hush" not in str(caught.value)


def test_a_bomb_is_not_inflated() -> None:
    good = picture()
    start = good.index(b"IDAT") - 4
    body = zlib.compress(bytes(50_000_000))
    part = b"IDAT" + body
    bomb = good[:start] + len(body).to_bytes(4) + part + zlib.crc32(part).to_bytes(4) + good[-12:]
    with pytest.raises(EntryError, match="without the pixels"):
        check_png(bomb, SIZE)


def test_machines_that_differ_do_not_share(tmp_path: Path) -> None:
    one, two = ({"torch": "2.15", "device": name} for name in ("A100", "H100"))
    assert shared_key(KEY, one) == shared_key(KEY, dict(reversed(one.items())))
    assert shared_key(KEY, one) != shared_key(KEY, two)
    open_cache(f"folder:{tmp_path}", SIZE).put(shared_key(KEY, one), picture())


def test_a_key_cannot_leave_the_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not an image key"):
        open_cache(f"folder:{tmp_path}", SIZE).get("../../etc/passwd")


@pytest.mark.parametrize("plant", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")], ids=["a pipe", "an endless device"])
def test_what_is_no_regular_file_in_place_of_an_image_holds_nobody_up(plant: Any, tmp_path: Path) -> None:
    (tmp_path / KEY[:2]).mkdir()
    plant(tmp_path / KEY[:2] / f"{KEY}.image")
    cache = open_cache(f"folder:{tmp_path}", SIZE)
    assert (cache.get(KEY), cache.facts().errors) == (None, 1)
    cache.put(KEY, picture())
    assert cache.get(KEY) == picture()
