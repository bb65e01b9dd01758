"""Addresses of files of the hub, "hub:OWNER/NAME[@REVISION]:FILE", as they are given to `sweetspot fetch`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from shlex import quote
from typing import Final

from harness.hub.cache import MAIN, cached

PREFIX: Final = "hub:"
FORM: Final = "hub:OWNER/NAME[@REVISION]:FILE"
_ADDRESS: Final = re.compile(r"hub:(?P<repository>[^/@:]+/[^/@:]+)(?:@(?P<revision>[^@:]+))?:(?P<file>[^:]+)")


@dataclass(frozen=True, kw_only=True)
class Address:
    """A file of a repository "owner/name" at a branch, tag or commit."""

    repository: str
    file: str
    revision: str = MAIN


def address_of(text: str) -> Address | None:
    """The address in its parts; None for a text of another form."""
    match = _ADDRESS.fullmatch(text)
    return match and Address(repository=match["repository"], file=match["file"], revision=match["revision"] or MAIN)


def path_hint(text: str) -> str:
    """What to give instead of an address where a path is expected; empty for other texts."""
    if not text.startswith(PREFIX):
        return ""
    address = address_of(text)
    if address is None:
        return f"a path is expected: run sweetspot fetch {FORM}, and give the path that it prints"
    at = cached(address.repository, address.file, address.revision)
    if at is None:
        return f"a path is expected: run sweetspot fetch {quote(text)}, and give the path that it prints"
    return f"a path is expected: give {str(at.path)!r}, where the cache of Hugging Face has it"
