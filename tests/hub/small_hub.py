"""A hub of a few files on 127.0.0.1, which answers as huggingface_hub and the listing of harness.hub ask."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit

import pytest

COMMIT = "89abcdef01234567" * 2 + "89abcdef"
LARGE = 1000
"""Files of more bytes have a SHA-256, as those of git-lfs have; others git's SHA-1."""


@dataclass
class SmallHub:
    """`files` are its files by "owner/name/file", at `commit`, which is the main branch. The other fields are its faults: a file
    breaks off after `breaks_after` bytes, `status` and `code` answer every request for a list, `listed` replaces what is said of
    a file in the list, `sent` its bytes, `elsewhere` is the host to which files lead."""

    files: Mapping[str, bytes]
    commit: str = COMMIT
    address: str = ""
    requests: list[str] = field(default_factory=list)
    """Method, path and, where there is one, the range."""
    tokens: list[str] = field(default_factory=list)
    """The Authorization of each request that had one."""
    breaks_after: int = 0
    most_downloads: int = 99
    """After so many files each further one is refused."""
    status: int = 200
    code: str = ""
    listed: dict[str, dict[str, object]] = field(default_factory=dict)
    sent: dict[str, bytes] = field(default_factory=dict)
    elsewhere: str = ""

    @property
    def ranges(self) -> list[str]:
        """The ranges that were asked for."""
        return [request.rpartition(" ")[2] for request in self.requests if "bytes=" in request]

    @property
    def downloads(self) -> int:
        """How many files were asked for."""
        return sum(request.startswith("GET") and "/resolve/" in request for request in self.requests)

    def listing(self, repository: str) -> list[dict[str, object]]:
        """What the list of a repository says of each file."""
        files = {name.removeprefix(f"{repository}/"): data for name, data in self.files.items()}
        return [{"rfilename": name, **_facts(data), **self.listed.get(name, {})} for name, data in files.items()
                if f"{repository}/{name}" in self.files]


def _facts(data: bytes) -> dict[str, object]:
    git = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
    large = {"lfs": {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}}
    return {"size": len(data), "blobId": git, **(large if len(data) > LARGE else {})}


def _handler(hub: SmallHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def _answer(self, *, with_body: bool) -> None:
            span = self.headers.get("Range", "")
            hub.requests.append(f"{self.command} {self.path} {span}".strip())
            if token := self.headers.get("Authorization", ""):
                hub.tokens.append(token)
            path = unquote(urlsplit(self.path).path).strip("/")
            if path.startswith("api/models/"):
                return self._list(path.removeprefix("api/models/"))
            if hub.elsewhere:
                self.send_response(302)
                self.send_header("Location", hub.elsewhere + self.path)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return None
            if with_body and hub.downloads > hub.most_downloads:
                return self.send_error(503)
            owner, name, _, _, file = (*path.split("/", 4), *[""] * 5)[:5]
            return self._send(hub.files.get(f"{owner}/{name}/{file}"), file, span, with_body=with_body)

        def _list(self, path: str) -> None:
            owner, name, _, revision = (*path.split("/", 3), *[""] * 4)[:4]
            listed = hub.listing(f"{owner}/{name}")
            found = listed and revision in ("main", hub.commit)
            status = hub.status if hub.status != 200 else 200 if found else 404
            code = hub.code or ("" if found else "RevisionNotFound" if listed else "RepoNotFound")
            body = json.dumps({"id": f"{owner}/{name}", "sha": hub.commit, "siblings": listed}).encode()
            self.send_response(status)
            if code:
                self.send_header("X-Error-Code", code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _send(self, content: bytes | None, file: str, span: str, *, with_body: bool) -> None:
            if content is None:
                self.send_response(404)
                self.send_header("X-Error-Code", "EntryNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            content = hub.sent.get(file, content)
            first = int(span.removeprefix("bytes=").rstrip("-")) if span else 0
            self.send_response(206 if span else 200)
            if span:
                self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
            self.send_header("X-Repo-Commit", hub.commit)
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("Content-Length", str(len(content) - first))
            self.end_headers()
            if with_body:
                last = first + hub.breaks_after if hub.breaks_after else len(content)
                self.wfile.write(content[first:last])
                self.close_connection = last < len(content)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


@contextmanager
def only_hub(files: Mapping[str, bytes], cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallHub]:
    """Serves `files`, by "owner/name/file", as the one hub there is, with a cache of its own."""
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HUGGINGFACE_HUB_CACHE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(cache / "no-token"))
    monkeypatch.setenv("HF_HUB_CACHE", str(cache))
    monkeypatch.setenv("HF_HOME", str(cache / "home"))
    with small_hub(files) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        yield hub


@contextmanager
def small_hub(files: Mapping[str, bytes]) -> Iterator[SmallHub]:
    """Serves `files`, by "owner/name/file"."""
    hub = SmallHub(files=files)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    hub.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
