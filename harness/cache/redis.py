"""A cache on a Redis server that a fleet shares. It needs the extra `sweetspot[redis]`; the package is imported when the cache
is opened."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from harness.cache.contract import CacheFacts, Tally, checked_key
from harness.cache.entry import EntryError, largest, seal, unseal
from harness.cache.note import LARGEST_NOTE, seal_note, unseal_note

_PREFIX: Final = "sweetspot:image:"
_NOTES: Final = "sweetspot:note:"
_PATIENCE: Final = 3
"""After this many errors in a row the server is not asked for a while, so that a dead one does not cost a timeout per image."""
_REST_SECONDS: Final = 30.0


class RedisCache:
    """Entries as strings with a time to live; the server's maxmemory policy decides which are evicted earlier."""

    def __init__(self, client: Any, where: str, *, size: tuple[int, int], secret: bytes, limits: tuple[int, int]) -> None:
        """`limits` are the time to live in seconds and the largest entry in bytes."""
        self.client, self.where, self.size, self.secret = client, where, size, secret
        self.ttl_seconds, self.max_entry_bytes = limits[0], min(limits[1], largest(size))
        self._tally = Tally(where=where)
        self._errors_in_a_row, self._rest_until = 0, 0.0

    def get(self, key: str, size: tuple[int, int] | None = None) -> bytes | None:
        """The verified PNG, or None. Reads at most one byte more than the largest entry, whatever is stored."""
        entry = self._ask("GETRANGE", _PREFIX + checked_key(key), 0, self.max_entry_bytes)
        if not isinstance(entry, bytes) or not entry:
            self._tally.misses += 1
            return None
        try:
            if len(entry) > self.max_entry_bytes:
                raise EntryError(f"more than {self.max_entry_bytes} bytes")  # noqa: TRY301
            data = unseal(key, entry, self.secret, size or self.size)
        except EntryError as error:
            self._tally.refuse(str(error))
            return None
        self._tally.hits += 1
        return data

    def put(self, key: str, data: bytes) -> None:
        """Stores the entry for its time to live, replacing a refused one."""
        entry = seal(key, data, self.secret)
        if len(entry) > self.max_entry_bytes:
            self._tally.refuse(f"more than {self.max_entry_bytes} bytes")
        elif self._ask("SETEX", _PREFIX + checked_key(key), self.ttl_seconds, entry):
            self._tally.stored += 1

    def has(self, key: str) -> bool:
        """Whether the server has an entry for the image."""
        return bool(self._ask("EXISTS", _PREFIX + checked_key(key)))

    def note(self, key: str) -> dict[str, Any] | None:
        """The verified content of a note, or None."""
        entry = self._ask("GETRANGE", _NOTES + checked_key(key), 0, LARGEST_NOTE)
        if not isinstance(entry, bytes) or not entry:
            return None
        try:
            return unseal_note(key, entry, self.secret)
        except EntryError as error:
            self._tally.refuse(str(error))
            return None

    def put_note(self, key: str, content: Mapping[str, Any]) -> None:
        """Stores the note for its time to live."""
        self._ask("SETEX", _NOTES + checked_key(key), self.ttl_seconds, seal_note(key, content, self.secret))

    def add_note(self, key: str, content: Mapping[str, Any]) -> bool:
        """Stores the note for its time to live, unless there is one."""
        entry = seal_note(key, content, self.secret)
        return bool(self._ask("SET", _NOTES + checked_key(key), entry, "NX", "EX", self.ttl_seconds))

    def facts(self) -> CacheFacts:
        """The counts so far."""
        return self._tally.facts()

    def _ask(self, command: str, *values: Any) -> Any:
        """The reply to one command; None if there is none."""
        from redis import RedisError

        if time.monotonic() < self._rest_until:
            return None
        try:
            answer = self.client.execute_command(command, *values)
        except (RedisError, OSError) as error:
            self._tally.fail(f"{type(error).__name__} at {command}")
            self._errors_in_a_row += 1
            if self._errors_in_a_row >= _PATIENCE:
                self._rest_until, self._errors_in_a_row = time.monotonic() + _REST_SECONDS, 0
            return None
        self._errors_in_a_row = 0
        return answer


def connect(url: str) -> Any:
    """A client for redis://[:password@]host[:port][/db], not connected yet. Raises ModuleNotFoundError naming the extra."""
    try:
        import redis
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("a Redis cache needs the package redis: pip install 'sweetspot[redis]'") from error
    return redis.Redis.from_url(url, socket_timeout=5, socket_connect_timeout=2)
