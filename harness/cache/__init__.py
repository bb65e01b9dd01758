"""Images shared between runs: a folder on one machine, or a Redis server for a fleet, behind one small interface. Nothing
heavy is imported."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlsplit, urlunsplit

from harness.cache.contract import CacheAddressError, CacheFacts, ImageCache, NoCache, shared_key
from harness.cache.folder import FolderCache
from harness.cache.redis import RedisCache, connect
from harness.records.harmless_text import without_credentials

__all__ = ["SECRET_VARIABLE", "CacheAddressError", "CacheFacts", "ImageCache", "NoCache", "open_cache", "shared_key"]

SECRET_VARIABLE: Final = "SWEETSPOT_CACHE_SECRET"
_EXPECTED: Final = ('"folder:/path?max_bytes=10000000000", "redis://host:6379/0?ttl=604800&max_entry_bytes=67108864" '
                    "(rediss:// with TLS), or nothing")
_DEFAULTS: Final = {"max_bytes": 10_000_000_000, "ttl": 7 * 24 * 3600, "max_entry_bytes": 64 << 20}


def open_cache(address: str, size: tuple[int, int]) -> ImageCache:
    """The cache at an address, for images of at most `size` (width, height); an empty address gives a cache that stores
    nothing.

    If the environment variable SWEETSPOT_CACHE_SECRET is set, entries are signed and only signed ones are accepted.
    Raises CacheAddressError for an invalid address, ModuleNotFoundError if the Redis package is missing. An unreachable server
    or an unwritable folder raises nothing: it is counted as an error, and the run continues.
    """
    if not address:
        return NoCache()
    secret = os.environ.get(SECRET_VARIABLE, "").encode()
    scheme = address.partition(":")[0]
    if scheme == "folder":
        path, _, query = address.partition(":")[2].partition("?")
        numbers = _numbers(address, query, ("max_bytes",))
        if not path:
            raise CacheAddressError(f"cache address {address!r} names no folder; expected {_EXPECTED}")
        return FolderCache(Path(path).expanduser(), size=size, secret=secret, max_bytes=numbers["max_bytes"])
    if scheme in ("redis", "rediss"):
        try:
            parts = urlsplit(address)
            host, port = parts.hostname, parts.port
            if "@" in parts.path + parts.query + parts.fragment:
                raise ValueError("a password with a / or #")  # noqa: TRY301  one message for what cannot be read
        except ValueError:  # its text may hold a part of the password
            raise CacheAddressError(f"cache address of scheme {scheme}: its host or port cannot be read; expected {_EXPECTED}. "
                                    "Write /, # and @ in a password as %2F, %23 and %40.") from None
        where = without_credentials(f"{scheme}://{host or ''}{f':{port}' if port else ''}{parts.path}")
        numbers = _numbers(where, parts.query, ("ttl", "max_entry_bytes"))
        if not host or (not parts.path.strip("/").isdigit() and parts.path.strip("/")):
            raise CacheAddressError(f"cache address {where} names no host and database; expected {_EXPECTED}")
        client = connect(urlunsplit(parts._replace(query="", fragment="")))
        return RedisCache(client, where, size=size, secret=secret, limits=(numbers["ttl"], numbers["max_entry_bytes"]))
    raise CacheAddressError(f"cache address of scheme {scheme!r}: expected {_EXPECTED}")


def _numbers(where: str, query: str, allowed: tuple[str, ...]) -> dict[str, int]:
    """The positive integers of an address's query, with their defaults."""
    numbers = {name: _DEFAULTS[name] for name in allowed}
    for name, values in parse_qs(query, keep_blank_values=True).items():
        if name not in allowed:
            raise CacheAddressError(f"cache address {where}: unknown setting {name!r}; it takes {' and '.join(allowed)}")
        if not values[-1].isascii() or not values[-1].isdigit() or int(values[-1]) < 1:
            raise CacheAddressError(f"cache address {where}: {name} must be a positive integer, got {values[-1]!r}")
        numbers[name] = int(values[-1])
    return numbers
