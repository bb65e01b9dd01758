"""Which CLIP model scores a first suite: given, built in, found in a known place, or fetched because it was asked for."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from harness import zoo
from harness.first_suite import clip_files
from harness.first_suite.clip_files import EXAMPLE, choose
from harness.first_suite.given_files import UnfitFileError

CONTENT = b"the expected file" * 1000


@pytest.fixture(autouse=True)
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub-home"))
    return tmp_path


@pytest.fixture
def sound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file that exists is sound."""
    monkeypatch.setattr(clip_files, "clip_problems", lambda reference, root: (
        [] if Path(reference.partition(":")[2]).is_file() else ["it does not exist"]))


def at(path: Path) -> Path:
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")
    return path


def test_built_in_models_are_scored_by_the_built_in_clip_and_given_ones_come_first(sound: None, tmp_path: Path) -> None:
    mine = at(tmp_path / "mine" / "c.safetensors")
    assert choose("", True, False, lambda _: None) == "zoo:clip"
    assert choose(f"ViT-B-32:{mine}", True, False, lambda _: None) == f"ViT-B-32:{mine}"


def test_without_any_file_it_is_said_which_one_and_where_from() -> None:
    with pytest.raises(UnfitFileError) as refused:
        choose("", False, False, lambda _: None)
    for part in ("--download-clip", "sweetspot fetch clip ViT-B-32/openai", "--clip ViT-B-32/openai"):
        assert part in str(refused.value)


@pytest.mark.parametrize("place", ["models/clip-vit-b-32.safetensors",
    "hub-home/hub/models--timm--vit_base_patch32_clip_224.openai/snapshots/abc/open_clip_model.safetensors",
    "hub-home/hub/models--laion--CLIP-ViT-B-32-laion2B-s34B-b79K/snapshots/abc/open_clip_model.safetensors"])
def test_a_file_in_a_known_place_is_taken_and_named(place: str, sound: None, tmp_path: Path) -> None:
    at(tmp_path / place)
    said: list[str] = []
    reference = choose("", False, False, said.append)
    assert reference.endswith(place)
    assert reference.partition(":")[0] == ("ViT-B-32" if "laion" in place else "ViT-B-32-quickgelu")
    assert place in said[0]


def test_the_cache_that_a_variable_names_is_looked_into(sound: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "elsewhere"))
    file = at(tmp_path / "elsewhere" / "models--timm--vit_large_patch14_clip_224.openai" / "snapshots" / "1"
              / "open_clip_model.safetensors")
    assert choose("", False, False, lambda _: None) == f"ViT-L-14-quickgelu:{file}"


def test_a_file_that_is_not_of_its_architecture_is_passed_over(tmp_path: Path) -> None:
    at(tmp_path / "models" / "clip-vit-b-32.safetensors").write_bytes(zoo.resolve("zoo:clip").read_bytes())
    with pytest.raises(UnfitFileError, match="none was found"):
        choose("", False, False, lambda _: None)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bytes]]:
    """Serves what the list holds at the pinned address."""
    content = [CONTENT]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(content[0])

        def log_message(self, *_: object) -> None:
            pass

    http = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    monkeypatch.setattr(clip_files, "ADDRESS", f"http://127.0.0.1:{http.server_port}/clip")
    monkeypatch.setattr(clip_files, "SHA256", hashlib.sha256(CONTENT).hexdigest())
    yield content
    http.shutdown()
    thread.join()
    http.server_close()


def test_a_file_is_fetched_when_asked_for_and_checked_by_its_hash(server: list[bytes], tmp_path: Path) -> None:
    assert choose("", False, True, lambda _: None) == EXAMPLE
    assert (tmp_path / "models" / "clip-vit-b-32.safetensors").read_bytes() == CONTENT
    assert len(list((tmp_path / "models").iterdir())) == 1


@pytest.mark.parametrize("other", [b"", b"another file", CONTENT[:-1]])
def test_another_file_than_the_pinned_one_is_not_kept(other: bytes, server: list[bytes], tmp_path: Path) -> None:
    server[0] = other
    with pytest.raises(UnfitFileError, match=r"SHA-256 .* is expected; nothing was kept"):
        choose("", False, True, lambda _: None)
    assert list((tmp_path / "models").iterdir()) == []


def test_a_larger_file_than_the_pinned_one_is_not_read_to_its_end(server: list[bytes], monkeypatch: pytest.MonkeyPatch,
                                                                   tmp_path: Path) -> None:
    monkeypatch.setattr(clip_files, "SIZE", 10)
    monkeypatch.setattr(clip_files, "_CHUNK", 4)
    with pytest.raises(UnfitFileError, match="gave 12 bytes"):
        choose("", False, True, lambda _: None)


def test_an_address_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clip_files, "ADDRESS", "http://127.0.0.1:9/clip")
    with pytest.raises(UnfitFileError, match=r"127\.0\.0\.1:9/clip could not be fetched"):
        choose("", False, True, lambda _: None)
