"""Where a reference leads: the file or folder of a path, of a `zoo:` name, or of an address in the local cache of the hub."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import Final

from harness import zoo
from harness.declare.listing import first_of
from harness.hub.address import FORM, PREFIX, Address, HubError, NotInCacheError, address_of
from harness.hub.cache import CachedFile, Snapshot, snapshots
from harness.hub.repository_files import LARGEST_SMALL, chosen
from harness.records.regular_files import identity_of as regular_identity

BUILT_IN: Final = "zoo:"


def place(reference: str, root: Path) -> Path:
    """The file or folder of a path below `root`, of a `zoo:` name or of an address. Nothing is asked of the network. Raises
    ValueError for an unknown name, HubError for an address whose files are not in the cache, or not to be trusted."""
    if reference.startswith(BUILT_IN):
        return zoo.resolve(reference)
    if not reference.startswith(PREFIX):
        return root / reference
    address = parsed(reference)
    try:
        return in_cache(address).path
    except NotInCacheError:
        if address.is_folder:  # it may be given for its configs alone; whoever needs the weights has asked for them before
            return in_cache(address, weights=False).path
        raise


def is_path(reference: str) -> bool:
    """Whether a reference is a path, and neither a `zoo:` name nor an address."""
    return not reference.startswith((BUILT_IN, PREFIX))


def identity_of(reference: str, root: Path) -> str:
    """What all spellings of one file or folder have in common; the reference itself where there is none."""
    if reference.startswith(BUILT_IN):
        return reference
    try:
        return regular_identity(place(reference, root))
    except (ValueError, OSError):
        return reference


def parsed(reference: str) -> Address:
    """The address. Raises HubError for another text."""
    address = address_of(reference)
    if address is None:
        raise HubError(f"{reference!r} is not an address of the hub; expected {FORM}, such as hub:owner/name:model.safetensors")
    return address


def in_cache(address: Address, *, weights: bool = True) -> CachedFile:
    """The file or folder in the local cache. Of a folder all files are there that its model needs, or without `weights` its
    configs. Raises HubError."""
    first: list[str] = []
    for snapshot in snapshots(address.repository, address.revision):
        if not address.is_folder:
            if snapshot.has(address.file):
                snapshot.refuse_foreign((address.file,))
                return CachedFile(path=snapshot.root / address.file, commit=snapshot.commit)
            continue
        names = [name for name in snapshot.names() if name.startswith(address.file)]
        if not names:
            continue
        # Whatever reads the folder may look at all that lies in it.
        snapshot.refuse_foreign(tuple(names))
        files = chosen(names, address.file, lambda name, at=snapshot: small_file(at, name), weights=weights)  # type: ignore[misc]
        if not files.missing:
            return CachedFile(path=snapshot.root / address.file, commit=snapshot.commit)
        first = first or list(files.missing)
    raise NotInCacheError(f"{address} is not in the cache of Hugging Face{_lacking(first)}. {how_to_fetch([str(address)])}")


def commit_of(needed: Mapping[Address, bool]) -> str:
    """The commit at which the cache has all of these addresses of one repository and revision, with their weights where the value
    says so; empty if it has them at none."""
    first = next(iter(needed))
    for snapshot in snapshots(first.repository, first.revision):
        with suppress(HubError):
            for address, weights in needed.items():
                in_cache(replace(address, revision=snapshot.commit), weights=weights)
            return snapshot.commit
    return ""


def small_file(snapshot: Snapshot, name: str) -> bytes:
    """The content of a config. Raises HubError for one that is too large, or cannot be read."""
    path = snapshot.root / name
    try:
        if path.stat().st_size > LARGEST_SMALL:
            raise HubError(f"{path} has {path.stat().st_size} bytes; expected a config of at most {LARGEST_SMALL}")
        return path.read_bytes()
    except OSError as error:
        raise HubError(f"{path} cannot be read ({error.strerror})") from error


def how_to_fetch(addresses: Collection[str]) -> str:
    """The commands that fetch addresses, in a sentence."""
    words = " ".join(map(quote, addresses))
    return f"Fetch it once: sweetspot fetch {words}; or run with --allow-download"


def _lacking(missing: Collection[str]) -> str:
    return f" as a whole: it lacks {first_of(list(missing))}" if missing else ""
