"""What a repository of the Hugging Face hub holds at one commit: names, sizes and hashes of its files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from harness.hub.address import COMMIT, Address, is_file_name, leads_out
from harness.hub.cache import MOST_FILES
from harness.hub.transfer import FetchError, Offered, endpoint, headers, in_words

_LARGEST: Final = 1 << 25
"""Most bytes of an answer: a listing of ten thousand files has a tenth of it."""
_SECONDS: Final = 30.0


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The files of a repository at a commit, by name."""

    commit: str
    files: Mapping[str, Offered]


def listing_of(address: Address) -> Listing:
    """The listing of an address's repository at its revision, asked of the hub. Raises FetchError, also for names that lead out
    of a folder."""
    revision = quote(address.revision, safe="")
    data = _asked(f"{endpoint()}/api/models/{address.repository}/revision/{revision}?blobs=true", address)
    try:
        commit, siblings = data["sha"], data["siblings"]
        if not isinstance(commit, str) or not COMMIT.fullmatch(commit):
            raise ValueError(f"its commit is {str(commit)[:60]!r}")  # noqa: TRY301  one message for all errors
        if address.is_pinned and commit != address.revision:
            raise ValueError(f"its commit is {commit}, and {address.revision} was asked for")  # noqa: TRY301
        if not isinstance(siblings, list) or len(siblings) > MOST_FILES:
            raise ValueError(f"it lists {len(siblings)} files; expected at most {MOST_FILES}")  # noqa: TRY301
        names = [str(one["rfilename"]) for one in siblings]
        if outside := [name for name in names if leads_out(name)]:
            raise ValueError(f"it names the file {outside[0][:80]!r}, which leads out of a folder")  # noqa: TRY301
        files = {name: offered for name, one in zip(names, siblings, strict=True)
                 if is_file_name(name) and (offered := _offered(one)) is not None}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FetchError(f"the hub's listing of {address.whole} cannot be used ({str(error)[:200]})") from None
    return Listing(commit=commit, files=files)


def _offered(one: Mapping[str, Any]) -> Offered | None:
    large = one.get("lfs")
    size, digest = (large["size"], large["sha256"]) if isinstance(large, dict) else (one.get("size"), one.get("blobId"))
    if not isinstance(size, int) or isinstance(size, bool) or size < 0 or not isinstance(digest, str):
        return None
    hexadecimal = digest.isascii() and set(digest) <= set("0123456789abcdef") and len(digest) == (64 if large else 40)
    return Offered(size=size, digest=digest) if hexadecimal else None


def _asked(url: str, address: Address) -> dict[str, Any]:
    from huggingface_hub import get_session, hf_raise_for_status

    content = bytearray()
    try:
        with get_session().stream("GET", url, headers=headers(), timeout=_SECONDS) as response:
            if not response.is_success:
                hf_raise_for_status(response)
            for chunk in response.iter_bytes():
                content += chunk
                if len(content) > _LARGEST:
                    break
        data = json.loads(content) if len(content) <= _LARGEST else None
    except Exception as error:  # of the hub's client, of the connection, of JSON
        raise FetchError(f"{address.whole} at {address.revision} could not be listed: {in_words(error)}") from None
    if not isinstance(data, dict):
        raise FetchError(f"the hub's listing of {address.whole} has {len(content):,} bytes; expected an object of at most "
                         f"{_LARGEST:,} bytes")
    return data


