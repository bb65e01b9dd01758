"""Fetches files of the Hugging Face hub into the local cache: safetensors files, configs and tokenizers, with their sizes said
before. A transfer that was broken off goes on where it ended; what arrives must have the size and the hash that were listed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeAlias

from harness.declare.hub_names import CLIP_FILE
from harness.declare.listing import first_of
from harness.hub.address import Address, HubError
from harness.hub.cache import CachedFile, Snapshot, caches, folder_in
from harness.hub.listing import Listing, listing_of
from harness.hub.places import commit_of, in_cache
from harness.hub.repository_files import LARGEST_SMALL, SAFE, SMALL, Chosen, chosen
from harness.hub.transfer import FetchError, transfer

Announce: TypeAlias = "Callable[[Plan], None]"
_YES: Final = ("1", "ON", "YES", "TRUE")
_CONFIG: Final = "open_clip_config.json"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is fetched of one repository and revision: the files that the cache does not have yet, at `commit`, with their bytes,
    and the files that are `left_out`, with the reason."""

    repository: str
    commit: str
    files: Mapping[str, int]
    cache: Path
    left_out: Mapping[str, str]

    @property
    def size(self) -> int:
        """Bytes in all."""
        return sum(self.files.values())


def offline() -> str:
    """The variable that forbids every request to the hub, as "NAME=value"; empty without one."""
    return next((f"{name}={value}" for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
                 if (value := os.environ.get(name, "")).upper() in _YES), "")


def refuse_offline() -> None:
    """Raises FetchError if a variable forbids what --allow-download allows."""
    if variable := offline():
        raise FetchError(f"--allow-download was given, but {variable} forbids every request. Remove one of them")


def fetch_missing(needed: Mapping[Address, bool], announce: Announce) -> None:
    """Fetches what the cache does not have of these addresses, with their weights where the value says so. All addresses of one
    repository and revision are fetched at one commit. Raises FetchError."""
    for group in _together(needed):
        if not commit_of(group):
            _fetch(group, announce)


def fetch_newest(needed: Mapping[Address, bool], announce: Announce, *, listing_only: bool = False) -> list[CachedFile]:
    """The files and folders as the hub has them now, in the order given. `announce` is called with what the cache lacks of a
    repository before that is fetched; with `listing_only` nothing is, except for the indexes of folders. Raises FetchError."""
    places = {address: at for group in _together(needed) for address, at in _fetch(group, announce, listing_only).items()}
    return [places[address] for address in needed if address in places]


def _together(needed: Mapping[Address, bool]) -> list[dict[Address, bool]]:
    """The addresses by repository and revision."""
    groups: dict[tuple[str, str], dict[Address, bool]] = {}
    for address, weights in needed.items():
        groups.setdefault((address.repository, address.revision), {})[address] = weights
    return list(groups.values())


def _fetch(needed: Mapping[Address, bool], announce: Announce, listing_only: bool = False) -> dict[Address, CachedFile]:
    """The files or folders of one repository and revision, in the first of the caches."""
    first = next(iter(needed))
    _refuse_suffix(needed)
    if first.is_pinned and commit_of(needed) and not listing_only:
        return {address: in_cache(address, weights=weights) for address, weights in needed.items()}
    if variable := offline():
        raise FetchError(f"{first} cannot be fetched: {variable} forbids it. Unset the variable, and run the command again")
    cache = caches()[0]
    listing = listing_of(first)
    snapshot = Snapshot(folder=folder_in(cache, first.repository), commit=listing.commit)
    try:
        names, left_out = _wanted(needed, listing, snapshot)
        absent = {name: listing.files[name] for name in names if not snapshot.has(name)}
        plan = Plan(repository=first.repository, commit=listing.commit, files={n: f.size for n, f in absent.items()}, cache=cache,
                    left_out=left_out)
        if absent or listing_only:
            announce(plan)
        if listing_only:
            return {}
        _refuse_full_disk(plan)
        for name, offered in absent.items():
            transfer(snapshot, name, offered)
        if not first.is_pinned:
            _note_commit(snapshot, first.revision)
        return {address: in_cache(replace(address, revision=listing.commit), weights=weights)
                for address, weights in needed.items()}
    except FetchError:
        raise
    except OSError as error:
        raise FetchError(f"{first.whole} could not be fetched to {cache}: {error.strerror or error}. Mend that, and run the "
                         "command again: it goes on where it ended") from error
    except HubError as error:
        raise FetchError(f"{first.whole} at {listing.commit[:12]}: {error}") from error


def _wanted(needed: Mapping[Address, bool], listing: Listing, snapshot: Snapshot) -> tuple[list[str], dict[str, str]]:
    """The names of all files, and those that are left out. Raises FetchError for a file that is not listed, and a folder that
    lacks a part of its model."""
    names: dict[str, None] = {}
    left_out: dict[str, str] = {}

    def read(name: str) -> bytes:
        if name not in listing.files:
            raise HubError(f"{name} is not in the repository")
        _refuse_large_config(name, listing)  # before a byte of it comes: nothing is announced yet
        if not snapshot.has(name):
            transfer(snapshot, name, listing.files[name])
        return (snapshot.root / name).read_bytes()

    for address, weights in needed.items():
        if address.is_folder:
            files: Chosen = chosen(listing.files, address.file, read, weights=weights)
            if files.missing:
                raise FetchError(f"{address} cannot be used: the repository lacks {first_of(files.missing)}")
            names |= dict.fromkeys(files.names)
            left_out |= files.left_out
            continue
        if address.file not in listing.files:
            near = sorted(name for name in listing.files if name.endswith(SAFE))
            raise FetchError(f"{address} is not in the repository; it has {first_of(near) or f'no {SAFE} file'}")
        names[address.file] = None
        beside = f"{address.file.rpartition('/')[0]}/{_CONFIG}".lstrip("/")
        if address.file.endswith(CLIP_FILE) and beside in listing.files:  # it says what the weights want done to pictures
            names[beside] = None
    for name in names:
        _refuse_large_config(name, listing)
    return list(names), left_out


def _refuse_large_config(name: str, listing: Listing) -> None:
    if not name.endswith(SAFE) and listing.files[name].size > LARGEST_SMALL:
        raise FetchError(f"{name} has {listing.files[name].size} bytes; expected a config of at most {LARGEST_SMALL}")


def _refuse_suffix(needed: Mapping[Address, bool]) -> None:
    for address in needed:
        if not address.is_folder and not address.file.endswith((SAFE, *SMALL)):
            raise FetchError(f"{str(address)!r} is not a {SAFE} file, and others can run code. Name the repository's {SAFE} "
                             "file")


def _refuse_full_disk(plan: Plan) -> None:
    plan.cache.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(plan.cache).free
    if free < plan.size:
        raise FetchError(f"{plan.repository} needs {plan.size:,} bytes, and {free:,} are free at {plan.cache}. Make room, or "
                         "name another cache with HF_HUB_CACHE")


def _note_commit(snapshot: Snapshot, revision: str) -> None:
    """Says in the cache which commit a branch or tag is, as huggingface_hub does."""
    ref = snapshot.folder / "refs" / revision
    ref.parent.mkdir(parents=True, exist_ok=True)
    new = ref.with_name(f".{ref.name}.{os.getpid()}")
    new.write_text(snapshot.commit, encoding="ascii")
    new.replace(ref)
