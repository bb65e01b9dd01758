"""Fetches a file of the Hugging Face hub into the local cache, with its size said before. Only safetensors files are fetched."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from harness.hub.cache import MAIN, CachedFile, cached, caches


class FetchError(ValueError):
    """A file that was not fetched; the message says why and what to do."""


def fetch(repository: str, file: str, revision: str = MAIN, *, announce: Callable[[int | None, str], None]) -> CachedFile:
    """The file of "owner/name" in the first of the caches; `announce` is called with its size and the cache before it is fetched,
    and not at all if it is there. A transfer that was broken off goes on where it ended. Raises FetchError."""
    if not file.endswith(".safetensors"):
        raise FetchError(f"{file!r} is not a .safetensors file, and others can run code. Name the repository's safetensors file")
    from huggingface_hub import hf_hub_download

    cache = caches()[0]
    # The variable is given as well, because the package reads it only when it is imported.
    place: dict[str, Any] = {"repo_id": repository, "filename": file, "cache_dir": cache,
                             "endpoint": os.environ.get("HF_ENDPOINT") or None}
    try:
        offer = hf_hub_download(**place, revision=revision, dry_run=True)
        if offer.will_download:
            announce(offer.file_size, str(cache))
        hf_hub_download(**place, revision=revision)
    except Exception as error:  # of the hub's client, of the connection, or of the disk
        first = error
        while isinstance(first.__cause__, Exception):
            first = first.__cause__
        reason = str(first).strip().partition("\n")[0] or type(first).__name__
        raise FetchError(f"{file} of {repository} could not be fetched ({reason}). Check the name, the connection and "
                         "HF_HUB_OFFLINE, and run the command again") from error
    at = cached(repository, file, revision)
    if at is None:
        raise FetchError(f"{file} of {repository} was fetched, and is not in {cache} at {revision}. Run the command again")
    return at
