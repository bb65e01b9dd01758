"""The two words of an image cache, the counts that it keeps, and the key under which runs share. Each kind of cache implements
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
    """An address that names no cache; the text says what was expected."""


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
    """PNG bytes by key, shared between runs. Neither method ever raises for what a cache is like."""

    def get(self, key: str) -> bytes | None:
        """The verified PNG, or None; an entry that is damaged or foreign is None and counted as refused."""

    def put(self, key: str, data: bytes) -> None:
        """Offers an image; a cache that is full or away is counted, and said once."""

    def facts(self) -> CacheFacts:
        """The counts so far."""


@dataclass(kw_only=True)
class Tally:
    """The running counts of one cache; it says the first error of a kind, once, in the log."""

    where: str
    hits: int = 0
    misses: int = 0
    stored: int = 0
    refused: int = 0
    errors: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    def refuse(self, why: str) -> None:
        """An entry, or an offer, that is not good enough."""
        self.refused += 1
        self._say(f"refused: {why}")

    def fail(self, why: str) -> None:
        """The cache itself failed."""
        self.errors += 1
        self._say(f"error: {why}")

    def _say(self, why: str) -> None:
        if not self.reasons[why]:
            _LOG.warning("%s: %s; the run goes on without", self.where, why)
        self.reasons[why] += 1

    def facts(self) -> CacheFacts:
        """As they stand now."""
        return CacheFacts(hits=self.hits, misses=self.misses, stored=self.stored, refused=self.refused, errors=self.errors,
                          reasons=dict(self.reasons))


class NoCache:
    """The cache of an empty address: holds nothing."""

    def get(self, key: str) -> bytes | None:  # noqa: ARG002
        """Nothing."""
        return None

    def put(self, key: str, data: bytes) -> None:
        """Keeps nothing."""

    def facts(self) -> CacheFacts:
        """Nothing happened."""
        return Tally(where="").facts()


def shared_key(key: str, environment: Mapping[str, Any]) -> str:
    """The key of an image among runs of several machines: records.sample_key, and a hash of what else decides last bits.

    Within one run folder the machine is given; a fleet may mix processors and versions, and pictures of two of them must not
    stand side by side as if one had made them. `environment` is whatever of run.json's environment decides bits (versions of
    torch and diffusers, name of the processor or GPU, threads per operation).
    """
    said = json.dumps(environment, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
    return f"{key}-{hashlib.sha256(said.encode()).hexdigest()[:16]}"


def checked_key(key: str) -> str:
    """The key, which becomes a file's name. Raises ValueError for one that could not be ours."""
    if not _KEY.fullmatch(key):
        raise ValueError(f"{key!r} is no key of an image: 8 to 80 digits, small letters and hyphens were expected")
    return key
