"""The words of an image cache, the counts that it keeps, and the key under which runs share. Each kind of cache implements
ImageCache."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

_KEY: Final = re.compile(r"[0-9a-z-]{8,80}")
_LOG: Final = logging.getLogger("sweetspot.cache")


class CacheAddressError(ValueError):
    """An invalid cache address; the message says what was expected."""


@dataclass(frozen=True, kw_only=True)
class CacheFacts:
    """What a cache did for this process. `reasons` counts, in words, every refused entry and every error."""

    hits: int
    misses: int
    stored: int
    refused: int
    errors: int
    reasons: Mapping[str, int]


class ImageCache(Protocol):
    """PNG bytes and notes by key, shared between runs. No method raises for a faulty or unreachable cache."""

    def get(self, key: str, size: tuple[int, int] | None = None) -> bytes | None:
        """The verified PNG, or None. A damaged or foreign entry gives None and is counted as refused. `size` is (width, height)
        where the image has another size than the cache is for; a cache is for the largest images of a run."""

    def put(self, key: str, data: bytes) -> None:
        """Offers an image. A full or unreachable cache is counted, and reported once."""

    def has(self, key: str) -> bool:
        """Whether there is an entry for an image. Only `get` verifies it."""

    def note(self, key: str) -> dict[str, Any] | None:
        """The verified content of a note, or None. A damaged or foreign one gives None and is counted as refused."""

    def put_note(self, key: str, content: Mapping[str, Any]) -> None:
        """Offers a note: JSON of a few kilobytes, in place of an earlier one."""

    def add_note(self, key: str, content: Mapping[str, Any]) -> bool:
        """Adds a note unless the key has one already. Returns whether this note was added: of several processes, one adds it."""

    def facts(self) -> CacheFacts:
        """The counts so far, of images; refusals and errors are those of notes too."""


@dataclass(kw_only=True)
class Tally:
    """The running counts of one cache. The first error of each kind is logged once."""

    where: str
    hits: int = 0
    misses: int = 0
    stored: int = 0
    refused: int = 0
    errors: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    def refuse(self, why: str) -> None:
        """Counts a refused entry or offer."""
        self.refused += 1
        self._say(f"refused: {why}")

    def fail(self, why: str) -> None:
        """Counts a failure of the cache itself."""
        self.errors += 1
        self._say(f"error: {why}")

    def _say(self, why: str) -> None:
        if not self.reasons[why]:
            _LOG.warning("%s: %s; the run continues without it", self.where, why)
        self.reasons[why] += 1

    def facts(self) -> CacheFacts:
        """The counts so far."""
        return CacheFacts(hits=self.hits, misses=self.misses, stored=self.stored, refused=self.refused, errors=self.errors,
                          reasons=dict(self.reasons))


class NoCache:
    """The cache of an empty address: stores nothing."""

    def get(self, key: str, size: tuple[int, int] | None = None) -> bytes | None:  # noqa: ARG002
        """Always None."""
        return None

    def put(self, key: str, data: bytes) -> None:
        """Stores nothing."""

    def has(self, key: str) -> bool:  # noqa: ARG002
        """Always False."""
        return False

    def note(self, key: str) -> dict[str, Any] | None:  # noqa: ARG002
        """Always None."""
        return None

    def put_note(self, key: str, content: Mapping[str, Any]) -> None:
        """Stores nothing."""

    def add_note(self, key: str, content: Mapping[str, Any]) -> bool:  # noqa: ARG002
        """Stores nothing."""
        return False

    def facts(self) -> CacheFacts:
        """All counts are zero."""
        return Tally(where="").facts()


def shared_key(key: str, environment: Mapping[str, Any]) -> str:
    """The key of an image shared by several machines: records.sample_key and a hash of everything else that affects the last
    bits.

    A run folder belongs to one machine, but a fleet may mix processors and versions, and images of two of them must not be
    compared as if one machine had made them. `environment` is the part of run.json's environment that affects bits (versions
    of torch and diffusers, name of the processor or GPU, threads per operation).
    """
    text = json.dumps(environment, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
    return f"{key}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def checked_key(key: str) -> str:
    """The key, which becomes a file name. Raises ValueError for an invalid one."""
    if not _KEY.fullmatch(key):
        raise ValueError(f"{key!r} is not an image key; expected 8 to 80 digits, lower-case letters and hyphens")
    return key
