"""Notes of a shared cache come back as they were put, or not at all, whatever somebody else wrote there."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from harness.cache import SECRET_VARIABLE, open_cache
from harness.cache.entry import EntryError
from harness.cache.note import LARGEST_NOTE, seal_note, unseal_note
from harness.records.signed_json import digest_of
from tests.cache.test_cache import KEY, SIZE, address, picture, raw, server  # noqa: F401  fixtures

NOTE: dict[str, Any] = {"unusable": "NaN or infinite latents", "rows": [{"batch_size": 4, "odd": "\udc80 é"}]}


def plant(where: str, entry: bytes) -> None:
    """Writes a note past the cache, as somebody else could."""
    if where.startswith("folder:"):
        path = Path(where.removeprefix("folder:")) / KEY[:2] / f"{KEY}.note"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(entry)
    else:
        client: Any = raw(where)
        client.set(f"sweetspot:note:{KEY}", entry)
        client.close()


def test_a_note_comes_back_and_is_no_image(address: str) -> None:  # noqa: F811
    cache = open_cache(address, SIZE)
    assert cache.note(KEY) is None
    cache.put_note(KEY, NOTE)
    assert open_cache(address, SIZE).note(KEY) == NOTE
    assert (cache.get(KEY), cache.has(KEY)) == (None, False)
    cache.put_note(KEY, {})
    cache.put(KEY, picture())
    assert (cache.note(KEY), cache.get(KEY), cache.has(KEY)) == ({}, picture(), True)


def signed(**note: Any) -> bytes:
    """A note with a valid digest."""
    return json.dumps({**note, "digest": digest_of(note)}).encode()


@pytest.mark.parametrize("entry", [
    b"", b"junk", b"[]", b"{}", b'{"a": NaN}', b"[" * 100_000, signed(), signed(note=1, key=KEY, content=[]),
    signed(note=2, key=KEY, content=NOTE), signed(note=1, key="f" * 16, content=NOTE), signed(note=1, key=[KEY], content=NOTE),
    seal_note("f" * 16, NOTE, b""), seal_note(KEY, NOTE, b"")[:-3], seal_note(KEY, NOTE, b"").replace(b"NaN", b"Nan"),
    seal_note(KEY, {"long": "x" * LARGEST_NOTE}, b""), b"1" * 5000, b'{"digest": "' + "é".encode() + b'"}'])
def test_a_planted_note_is_refused_and_can_be_put_again(address: str, entry: bytes) -> None:  # noqa: F811
    plant(address, entry)
    cache = open_cache(address, SIZE)
    assert cache.note(KEY) is None
    # What Redis has none of is empty, as an empty entry is.
    assert cache.facts().refused + cache.facts().errors == (1 if entry or address.startswith("folder:") else 0)
    cache.put_note(KEY, NOTE)
    assert cache.note(KEY) == NOTE


@pytest.mark.parametrize(("theirs", "ours", "accepted"), [
    (b"", b"", True), (b"s", b"s", True), (b"s", b"", True), (b"", b"s", False), (b"other", b"s", False)])
def test_with_a_secret_only_notes_signed_with_it_count(theirs: bytes, ours: bytes, accepted: bool) -> None:
    entry = seal_note(KEY, NOTE, theirs)
    if accepted:
        assert unseal_note(KEY, entry, ours) == NOTE
    else:
        with pytest.raises(EntryError, match="signature"):
            unseal_note(KEY, entry, ours)


@pytest.mark.parametrize("signature", [1, None, "", "é", "0" * 64])
def test_a_signature_of_any_kind_is_compared(signature: object) -> None:
    with pytest.raises(EntryError):
        unseal_note(KEY, signed(note=1, key=KEY, content=NOTE, signature=signature), b"s")


def test_a_pipe_in_place_of_a_note_holds_nobody_up(tmp_path: Path) -> None:
    (tmp_path / KEY[:2]).mkdir()
    os.mkfifo(tmp_path / KEY[:2] / f"{KEY}.note")
    cache = open_cache(f"folder:{tmp_path}", SIZE)
    assert cache.note(KEY) is None
    assert cache.facts().errors == 1


def test_notes_count_for_the_size_of_a_folder_and_go_with_what_is_oldest(tmp_path: Path) -> None:
    cache = open_cache(f"folder:{tmp_path}?max_bytes=2000", SIZE)
    for number in range(10):
        cache.put_note(f"{number:016x}", NOTE)
        path = tmp_path / "00" / f"{number:016x}.note"
        if path.exists():
            os.utime(path, (1000 + number, 1000 + number))
    assert cache.note(f"{9:016x}") == NOTE
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.note")) <= 2000


def test_a_server_that_is_away_costs_no_note(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("redis", reason="the package redis is not installed")
    monkeypatch.setenv(SECRET_VARIABLE, "among us")
    cache = open_cache("redis://127.0.0.1:1/0", SIZE)
    cache.put_note(KEY, NOTE)
    assert (cache.note(KEY), cache.has(KEY)) == (None, False)


def test_of_several_notes_that_are_added_the_first_stays(address: str) -> None:  # noqa: F811
    one, other = open_cache(address, SIZE), open_cache(address, SIZE)
    assert one.add_note(KEY, NOTE) is True
    assert other.add_note(KEY, {"another": 1}) is False
    assert one.note(KEY) == other.note(KEY) == NOTE


def test_on_a_disk_without_hard_links_the_first_note_stays_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise OSError("no hard links here")

    monkeypatch.setattr(os, "link", none)
    cache = open_cache(f"folder:{tmp_path}", SIZE)
    assert (cache.add_note(KEY, NOTE), cache.add_note(KEY, {}), cache.note(KEY)) == (True, False, NOTE)
