"""Addresses of the hub and its local cache, on the disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.hub import Address, HubError, address_of, cached, place, repository_of

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
    ("hub:o/n", Address(repository="o/n")), ("hub:o/n@refs/pr/1", Address(repository="o/n", revision="refs/pr/1")),
    ("hub:o/n:unet/", Address(repository="o/n", file="unet/")),
    ("hub:o/n:", None), ("hub:o/n:../f", None), ("hub:o/n:/etc/passwd", None), ("hub:o/n:a\\b", None), ("hub:o/n:a/../b", None),
    ("hub:o/n:a//b", None), ("hub:o/n:a\x1bb", None), ("hub:o/n:a\nb", None), ("hub:../n:f", None), ("hub:o/..:f", None),
    ("hub:o/a..b:f", None), ("hub:o--p/n:f", None), ("hub:o/n@../x:f", None), ("hub:o/n@a/../b:f", None), ("hub:o/n@-x:f", None),
    ("hub:o/n:" + "f" * 1001, None), ("hub:", None), ("hub:o:f", None), ("hub:o/n@:f", None),
    ("hub:o/n/m:f", None), ("o/n:f", None), ("hub:o/n:f:g", None)])
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


def test_a_link_in_the_cache_that_leads_elsewhere_is_refused_by_name(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    (folder / "snapshots" / COMMIT / "b.safetensors").symlink_to(tmp_path / "secret")
    with pytest.raises(HubError, match=r"b\.safetensors leads to .*secret"):
        cached("owner/name", "b.safetensors")
    (folder / "blobs").mkdir()
    (folder / "blobs" / "0a").touch()
    (folder / "snapshots" / COMMIT / "c.safetensors").symlink_to(folder / "blobs" / "0a")
    assert cached("owner/name", "c.safetensors") is not None


def test_a_folder_in_the_cache_that_leads_elsewhere_is_refused_by_name(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "x.safetensors").touch()
    (folder / "snapshots" / COMMIT / "unet").symlink_to(tmp_path / "unet", target_is_directory=True)
    with pytest.raises(HubError, match="leads to"):
        place("hub:owner/name:unet/x.safetensors", Path())
