"""Addresses of the hub and its local cache."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import Candidate, Checkpoint
from harness.check import problems
from harness.first_suite.given_files import UnfitFileError, _place
from harness.hub import Address, address_of, cached, repository_of
from tests.fakes import tiny_suite

COMMIT = "89abcdef01234567" * 2 + "89abcdef"
OTHER = COMMIT[::-1]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository in a cache: main is at COMMIT, which has a file; OTHER has another."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    folder = tmp_path / "hub" / "models--owner--name"
    for commit, file in ((COMMIT, "a.safetensors"), (OTHER, "unet/b.safetensors")):
        (folder / "snapshots" / commit / file).parent.mkdir(parents=True)
        (folder / "snapshots" / commit / file).touch()
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(COMMIT)
    return folder


@pytest.mark.parametrize(("text", "address"), [
    ("hub:o/n:f.safetensors", Address(repository="o/n", file="f.safetensors")),
    ("hub:o/n@v1.0:d/f", Address(repository="o/n", file="d/f", revision="v1.0")),
    ("hub:o/n", None), ("hub:o:f", None), ("hub:o/n@:f", None), ("hub:o/n/m:f", None), ("o/n:f", None), ("hub:o/n:f:g", None)])
def test_an_address_is_read_in_its_parts(text: str, address: Address | None) -> None:
    assert address_of(text) == address


def test_a_file_is_found_by_branch_and_commit_and_says_its_commit(folder: Path) -> None:
    assert [at and at.commit for at in (
        cached("owner/name", "a.safetensors"), cached("owner/name", "a.safetensors", COMMIT),
        cached("owner/name", "unet/b.safetensors", OTHER), cached("owner/name", "a.safetensors", OTHER),
        cached("owner/name", "a.safetensors", "v1"))] == [COMMIT, COMMIT, OTHER, None, None]
    at = cached("owner/name", "unet/b.safetensors", OTHER)
    assert at is not None
    assert repository_of(at.path) == "owner/name"
    assert repository_of(folder / "a.safetensors") == ""


@pytest.mark.parametrize(("repository", "file", "revision"), [
    ("owner/name", "../../../secret", "main"), ("owner/name", "/etc/passwd", "main"), ("../name", "a.safetensors", "main"),
    ("owner/name", "a.safetensors", "../main"), ("owner", "a.safetensors", "main"), ("owner/name", "", "main")])
def test_names_that_lead_out_of_the_cache_are_of_no_file(folder: Path, repository: str, file: str, revision: str) -> None:
    assert cached(repository, file, revision) is None


def refusals(path: str, root: Path) -> list[str]:
    suite = tiny_suite(candidates=(Candidate(name="a", model=Checkpoint(path=path)),), baseline="a", clip="zoo:clip")
    with pytest.raises(UnfitFileError) as refused:
        _place(path)
    return [*(text for text in problems(suite, root) if "does not exist" in text), str(refused.value)]


def test_an_address_in_the_place_of_a_path_is_refused_with_the_command_or_the_path(folder: Path, tmp_path: Path) -> None:
    absent = refusals("hub:owner/name:c.safetensors", tmp_path)
    present = refusals("hub:owner/name:a.safetensors", tmp_path)
    assert len(absent) == len(present) == 2
    assert all("run sweetspot fetch hub:owner/name:c.safetensors, and give the path" in text for text in absent)
    assert all(str(folder / "snapshots" / COMMIT / "a.safetensors") in text for text in present)
