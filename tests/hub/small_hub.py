"""A hub of a few files on 127.0.0.1, which answers as huggingface_hub asks."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

COMMIT = "89abcdef01234567" * 2 + "89abcdef"


@contextmanager
def small_hub(files: Mapping[str, bytes]) -> Iterator[tuple[str, list[str]]]:
    """Serves `files` by "owner/name/file" at main; gives its address and the requests it had."""
    requests: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def _answer(self, *, with_body: bool) -> None:
            requests.append(f"{self.command} {self.path}")
            owner, name, _, _, file = (*self.path.strip("/").split("/", 4), *[""] * 5)[:5]
            content = files.get(f"{owner}/{name}/{file}")
            self.send_response(404 if content is None else 200)
            if content is None:
                self.send_header("X-Error-Code", "EntryNotFound")
                content = b""
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if with_body:
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", requests
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
