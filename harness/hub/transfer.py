"""One file of the Hugging Face hub, brought into the local cache: checked against what was listed, resumed where it was broken
off."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urljoin, urlsplit

from harness.hub.address import HubError
from harness.hub.cache import Snapshot, repository_of

_PART: Final = ".sweetspot-part"
_AT_ONCE: Final = 1 << 20
_MOST_REDIRECTS: Final = 5
_LONGEST: Final = 300
"""Characters of a reason."""


@dataclass(frozen=True, kw_only=True)
class Offered:
    """A file of a repository: its size in bytes, and its hash: the SHA-256 of a large file, git's SHA-1 of another."""

    size: int
    digest: str


class FetchError(HubError):
    """A file that was not fetched; the message says why and what to do."""


class _Bounded(io.FileIO):
    """A file that takes no more than `most` bytes: a server may send without end."""

    most = 0

    def write(self, data: Any) -> int:
        """Writes all of it. Raises FetchError beyond the limit."""
        view = memoryview(data).cast("B")
        if self.tell() + len(view) > self.most:
            raise FetchError(f"the hub sends more than the {self.most:,} bytes that it listed")
        done = 0
        while done < len(view):
            done += super().write(view[done:]) or 0
        return done


def endpoint() -> str:
    """The address of the hub."""
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def headers() -> dict[str, str]:
    """Those of a request to the hub itself, with the user's token if there is one. No other host is sent them."""
    from huggingface_hub.utils._headers import build_hf_headers

    return dict(build_hf_headers(library_name="sweetspot"))


def transfer(snapshot: Snapshot, name: str, offered: Offered) -> None:
    """Brings a file into a snapshot. Raises FetchError; what has arrived until then is kept, unless it is not what was listed."""
    from filelock import FileLock

    blob = snapshot.folder / "blobs" / offered.digest
    locks = snapshot.folder.parent / ".locks" / snapshot.folder.name
    for folder in (blob.parent, locks):
        folder.mkdir(parents=True, exist_ok=True)
    with FileLock(locks / f"{offered.digest}.lock"):
        if not (blob.is_file() and blob.stat().st_size == offered.size):
            part = blob.with_name(blob.name + _PART)
            _receive(snapshot, name, offered, part)
            if (digest := _digest(part, offered)) != offered.digest:
                part.unlink()
                raise FetchError(f"{name} has the hash {digest}, and {offered.digest} was listed; nothing of it was kept. Run "
                                 "the command again; if that does not help, the hub is not to be trusted")
            part.replace(blob)
        _link(snapshot.root / name, blob)


def _receive(snapshot: Snapshot, name: str, offered: Offered, part: Path) -> None:
    from huggingface_hub.file_download import http_get

    there = part.stat().st_size if part.is_file() and not part.is_symlink() else 0
    if there > offered.size or part.is_symlink():
        part.unlink()
        there = 0
    repository = repository_of(snapshot.root)
    url = f"{endpoint()}/{repository}/resolve/{snapshot.commit}/{quote(name)}"
    try:
        place, own = _redirected(url)
        with _Bounded(part, "ab") as file:
            file.most = offered.size
            target: Any = file
            http_get(place, target, resume_size=there, headers=own, expected_size=offered.size, displayed_filename=name)
    except FetchError as error:
        with suppress(OSError):
            part.unlink()
        raise FetchError(f"{name}: {error}") from None
    except OSError as error:
        if error.errno is not None:  # of the disk
            raise
        raise FetchError(_broken(name, part, offered, error)) from None
    except Exception as error:  # of the hub's client, or of the connection
        raise FetchError(_broken(name, part, offered, error)) from None


def _redirected(url: str) -> tuple[str, dict[str, str]]:
    """Where a file really is, and the headers for that host: the token is for the hub alone."""
    from huggingface_hub import get_session, hf_raise_for_status

    place = url
    for _ in range(_MOST_REDIRECTS):
        own = headers() if _host(place) == _host(url) else _without_token(headers())
        # Compressed, a file cannot be resumed.
        own["Accept-Encoding"] = "identity"
        response = get_session().request("HEAD", place, headers=own, follow_redirects=False, timeout=30.0)
        if not response.is_redirect:
            if _host(place) == _host(url):  # other hosts may answer a HEAD otherwise than a GET
                hf_raise_for_status(response)
            return place, own
        place = urljoin(place, response.headers.get("Location", ""))
        if urlsplit(place).scheme not in ("http", "https"):
            raise FetchError(f"the hub leads to {place[:80]!r}")
        if _host(place) != _host(url):
            return place, {**_without_token(headers()), "Accept-Encoding": "identity"}
    raise FetchError(f"the hub leads from one address to the next, more than {_MOST_REDIRECTS} times")


def _without_token(own: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in own.items() if name.lower() not in ("authorization", "cookie")}


def _host(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc


def _digest(path: Path, offered: Offered) -> str:
    """The hash of a file as it was listed: SHA-256, or git's SHA-1 of the content behind its length."""
    large = len(offered.digest) == 64
    digest = hashlib.sha256() if large else hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(_AT_ONCE):
            digest.update(chunk)
    return digest.hexdigest()


def _link(at: Path, blob: Path) -> None:
    """Makes a file of a snapshot a link to its blob, or a copy where the system has no links."""
    at.parent.mkdir(parents=True, exist_ok=True)
    new = at.with_name(f".{at.name}.{os.getpid()}")
    new.unlink(missing_ok=True)
    try:
        new.symlink_to(os.path.relpath(blob, os.path.realpath(at.parent)))
    except OSError:
        shutil.copyfile(blob, new)
    new.replace(at)


def _broken(name: str, part: Path, offered: Offered, error: Exception) -> str:
    there = part.stat().st_size if part.is_file() else 0
    so_far = f"; {there:,} of {offered.size:,} bytes are kept, and the same command goes on from there" if there else (
        ". Check the name, the connection and your access, and run the command again")
    return f"{name} could not be fetched: {in_words(error)}{so_far}"


def in_words(error: Exception) -> str:
    """The reason of a failed request, in a line without secrets."""
    from harness.records.harmless_text import printable, without_secrets

    first: BaseException = error
    while first.__cause__ is not None:
        first = first.__cause__
    kind = type(error).__name__
    reason = next((line for line in str(first).splitlines() if line.strip()), "") or type(first).__name__
    advice = {"GatedRepoError": "the repository is gated: accept its terms in a browser, and log in with `hf auth login`",
              "RepositoryNotFoundError": "there is no such repository, or it is private and needs a login with `hf auth login`",
              "RevisionNotFoundError": "there is no such branch, tag or commit"}.get(kind, "")
    return printable(without_secrets(advice or reason))[:_LONGEST]
