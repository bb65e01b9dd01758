"""Addresses of the Hugging Face hub, "hub:OWNER/NAME[@REVISION][:FILE]", given where a path could be."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

PREFIX: Final = "hub:"
MAIN: Final = "main"
FORM: Final = "hub:OWNER/NAME[@REVISION][:FILE]"
COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_PART: Final = re.compile(r"[A-Za-z0-9_][\w.-]{0,95}", re.ASCII)
_REVISION: Final = re.compile(r"[A-Za-z0-9_][\w.-]*(?:/[A-Za-z0-9_][\w.-]*)*", re.ASCII)
_LONGEST_REVISION, _LONGEST_FILE = 250, 1000
_INSIDE: Final = re.compile(r"(?:[^:]+:)?(hub:.*)", re.DOTALL)
"""An address behind the name of an architecture, as CLIP models have it, or alone."""


class HubError(ValueError):
    """A file of the hub that cannot be used. The message names it, and says what to do."""


class NotInCacheError(HubError):
    """A file of the hub that is not in the local cache."""


@dataclass(frozen=True, kw_only=True)
class Address:
    """A file of a repository "owner/name" at a branch, tag or commit; or a folder of it, if `file` ends in a slash, or the whole
    repository, if it is empty."""

    repository: str
    file: str = ""
    revision: str = MAIN

    def __str__(self) -> str:
        at = "" if self.revision == MAIN else f"@{self.revision}"
        return f"{PREFIX}{self.repository}{at}{f':{self.file}' if self.file else ''}"

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder, or the whole repository."""
        return not self.file or self.file.endswith("/")

    @property
    def is_pinned(self) -> bool:
        """Whether the revision is a commit, which no one can move."""
        return COMMIT.fullmatch(self.revision) is not None

    @property
    def whole(self) -> str:
        """The address without the file."""
        return str(replace(self, file=""))


def address_of(text: str) -> Address | None:
    """The address in its parts; None for a text of another form, and for names that no repository or file has."""
    if not text.startswith(PREFIX):
        return None
    place, colon, file = text.removeprefix(PREFIX).partition(":")
    repository, at, revision = place.partition("@")
    if (colon and not file) or (at and not revision):
        return None
    address = Address(repository=repository, file=file, revision=revision or MAIN)
    return None if problem_of(address) else address


def problem_of(address: Address) -> str:
    """Why no repository has this name, revision or file; empty if one may."""
    if not is_repository(address.repository):
        return f"{address.repository!r} is not the name of a repository, OWNER/NAME"
    if not is_revision(address.revision):
        return f"{address.revision!r} is not a branch, a tag or a commit"
    if address.file and not is_file_name(address.file.removesuffix("/")):
        return f"{address.file!r} is not the name of a file in a repository"
    return ""


def is_repository(name: str) -> bool:
    """Whether a repository may have this name, "owner/name"."""
    owner, slash, title = name.partition("/")
    return bool(slash) and all(_PART.fullmatch(part) and "--" not in part and ".." not in part for part in (owner, title))


def is_revision(name: str) -> bool:
    """Whether a branch, a tag or a commit may have this name."""
    return len(name) <= _LONGEST_REVISION and ".." not in name and _REVISION.fullmatch(name) is not None


def is_file_name(name: str) -> bool:
    """Whether a file of a repository may have this name: no part of it leads elsewhere, on any system."""
    return len(name) <= _LONGEST_FILE and ":" not in name and not leads_out(name)


def leads_out(name: str) -> bool:
    """Whether a name in a repository leads elsewhere on some system, or cannot be shown."""
    return not name.isprintable() or "\\" in name or any(not part.strip(" .") for part in name.split("/"))


def address_in(text: str) -> tuple[str, Address] | None:
    """What stands before an address in a text, such as "ViT-B-32:", and the address; None for a text without one."""
    match = _INSIDE.fullmatch(text)
    address = match and address_of(match[1])
    return (text.removesuffix(match[1]), address) if match and address else None


def at_commit(text: str, commits: Mapping[Address, str]) -> str:
    """The same reference at the commit of its address; as it is where none is known."""
    inside = address_in(text)
    if inside is None or (commit := commits.get(inside[1], "")) == "":
        return text
    return f"{inside[0]}{replace(inside[1], revision=commit)}"
