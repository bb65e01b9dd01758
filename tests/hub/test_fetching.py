"""Fetching from a small hub on this machine."""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.cli import main
from harness.hub import Address, HubError, cached, caches, place
from harness.hub.fetching import Plan, fetch_missing, fetch_newest
from harness.hub.repository_files import LARGEST_SMALL
from harness.hub.transfer import _Bounded
from tests.hub.small_hub import COMMIT, SmallHub, only_hub, small_hub

WEIGHTS = bytes(range(256)) * 40
CONFIG = b'{"a": 1}'
FILE = Address(repository="o/n", file="a.safetensors")
OTHER = COMMIT[::-1]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallHub]:
    index = {"_class_name": "X", "unet": ["diffusers", "UNet2DConditionModel"]}
    files = {"o/n/a.safetensors": WEIGHTS, "o/n/b.safetensors": WEIGHTS[::-1], "o/n/config.json": CONFIG,
             "o/whole/model_index.json": json.dumps(index).encode(), "o/whole/unet/config.json": CONFIG,
             "o/whole/unet/diffusion_pytorch_model.safetensors": WEIGHTS, "o/whole/single.safetensors": WEIGHTS,
             "o/whole/unet/diffusion_pytorch_model.bin": WEIGHTS, "o/whole/code.py": b"raise SystemExit"}
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda _: None)
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1000)
    with only_hub(files, tmp_path / "hub", monkeypatch) as hub:
        yield hub


def fetched(address: Address = FILE) -> bytes:
    [at] = fetch_newest({address: True}, lambda _: None)
    return at.path.read_bytes()


def blobs() -> list[str]:
    return sorted(file.name for file in caches()[0].glob("models--o--n/blobs/*"))


def test_a_file_lies_in_the_cache_as_huggingface_hub_puts_it(hub: SmallHub) -> None:
    plans: list[Plan] = []
    [at] = fetch_newest({FILE: True}, plans.append)
    assert at.path.read_bytes() == WEIGHTS
    assert at.path == caches()[0] / "models--o--n" / "snapshots" / COMMIT / "a.safetensors"
    assert [(plan.size, plan.commit, dict(plan.files)) for plan in plans] == [
        (len(WEIGHTS), COMMIT, {"a.safetensors": len(WEIGHTS)})]
    assert str(at.path.readlink()) == f"../../blobs/{hashlib.sha256(WEIGHTS).hexdigest()}"
    assert (at.path.parents[2] / "refs" / "main").read_text() == COMMIT
    from huggingface_hub import try_to_load_from_cache

    assert try_to_load_from_cache("o/n", "a.safetensors", cache_dir=caches()[0]) == str(at.path)


def test_what_the_cache_has_is_not_fetched_again(hub: SmallHub) -> None:
    fetched()
    before = len(hub.requests)
    fetch_missing({FILE: True}, lambda _: pytest.fail("announced"))
    assert len(hub.requests) == before
    assert fetched() == WEIGHTS
    assert hub.downloads == 1


def test_a_whole_model_is_fetched_without_duplicates_pickles_and_code(hub: SmallHub, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fetch", "hub:o/whole"]) == 0
    out = capsys.readouterr().out
    folder = Path(out.splitlines()[-1])
    assert sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()) == [
        "model_index.json", "unet/config.json", "unet/diffusion_pytorch_model.safetensors"]
    assert place("hub:o/whole", Path()) == folder
    assert "10.24 kB" in out
    for left_out in ("single.safetensors", "unet/diffusion_pytorch_model.bin"):
        assert left_out in out


def test_a_listing_names_files_and_sizes_and_fetches_no_weights(hub: SmallHub, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fetch", "hub:o/whole", "--list"]) == 0
    assert "10.24 kB  unet/diffusion_pytorch_model.safetensors" in capsys.readouterr().out
    assert hub.downloads == 1  # of model_index.json
    assert cached("o/whole", "unet/diffusion_pytorch_model.safetensors") is None


def test_a_broken_transfer_goes_on_where_it_ended(hub: SmallHub) -> None:
    hub.breaks_after = 4000
    assert fetched() == WEIGHTS
    assert hub.ranges == ["bytes=4000-", "bytes=8000-"]


def test_another_process_goes_on_where_one_ended(hub: SmallHub) -> None:
    hub.breaks_after, hub.most_downloads = 4000, 1
    with pytest.raises(HubError, match=r"4,000 of 10,240 bytes are kept"):
        fetched()
    assert cached("o/n", "a.safetensors") is None
    hub.breaks_after, hub.most_downloads = 0, 99
    assert fetched() == WEIGHTS
    assert hub.ranges[-1] == "bytes=4000-"
    assert blobs() == [hashlib.sha256(WEIGHTS).hexdigest()]


@pytest.mark.parametrize("address", [FILE, Address(repository="o/n", file="config.json")])
def test_other_bytes_than_those_listed_are_refused_and_not_kept(hub: SmallHub, address: Address) -> None:
    content = hub.files[f"o/n/{address.file}"]
    hub.sent[address.file] = bytes(len(content))
    with pytest.raises(HubError, match=r"has the hash .* was listed; nothing of it was kept"):
        fetched(address)
    assert blobs() == []
    hub.sent.clear()
    assert fetched(address) == content


@pytest.mark.parametrize("size", [len(WEIGHTS) - 1, len(WEIGHTS) + 1])
def test_another_size_than_the_listed_one_is_refused(hub: SmallHub, size: int) -> None:
    hub.listed["a.safetensors"] = {"lfs": {"sha256": hashlib.sha256(WEIGHTS).hexdigest(), "size": size}}
    with pytest.raises(HubError, match=r"a\.safetensors"):
        fetched()
    assert cached("o/n", "a.safetensors") is None


@pytest.mark.parametrize("facts", [{"rfilename": "../x.safetensors"}, {"rfilename": "a/../../x"}, {"rfilename": "/etc/passwd"},
                                   {"rfilename": "a\\b"}, {"rfilename": "a\x1b[2Jb"}])
def test_a_list_with_a_name_that_leads_out_is_refused_by_name(hub: SmallHub, facts: dict[str, object]) -> None:
    hub.listed["b.safetensors"] = facts
    with pytest.raises(HubError, match="leads out of a folder"):
        fetched()


@pytest.mark.parametrize("facts", [{"size": -1}, {"size": "x"}, {"blobId": "../../x"}, {"blobId": None}])
def test_a_file_without_a_sound_size_and_hash_is_not_offered(hub: SmallHub, facts: dict[str, object]) -> None:
    hub.listed["config.json"] = facts
    with pytest.raises(HubError, match=r"config\.json is not in the repository"):
        fetched(Address(repository="o/n", file="config.json"))


@pytest.mark.parametrize("name", ["model_index.json", "unet/diffusion_pytorch_model.safetensors.index.json"])
@pytest.mark.parametrize("words", [[], ["--list"]])
def test_a_huge_index_is_refused_before_a_byte_of_it_is_fetched(hub: SmallHub, name: str, words: list[str],
                                                                capsys: pytest.CaptureFixture[str]) -> None:
    hub.files = {**hub.files, f"o/whole/{name}": hub.files["o/whole/model_index.json"]}
    hub.listed[name] = {"size": LARGEST_SMALL + 1}
    assert main(["fetch", "hub:o/whole", *words]) == 1
    assert f"{name} has {LARGEST_SMALL + 1} bytes" in capsys.readouterr().err
    assert not [request for request in hub.requests if request.endswith(name)]


def test_a_huge_list_is_refused(hub: SmallHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.hub.listing.MOST_FILES", 2)
    with pytest.raises(HubError, match="lists 3 files; expected at most 2"):
        fetched()
    monkeypatch.setattr("harness.hub.listing._LARGEST", 10)
    with pytest.raises(HubError, match="at most 10 bytes"):
        fetched()


@pytest.mark.parametrize(("status", "code", "part"), [
    (401, "GatedRepo", "accept its terms"), (403, "GatedRepo", "accept its terms"), (401, "RepoNotFound", "no such repository"),
    (404, "RepoNotFound", "no such repository"), (404, "RevisionNotFound", "no such branch"), (500, "", "500")])
def test_a_refusal_of_the_hub_is_said_in_words(hub: SmallHub, status: int, code: str, part: str) -> None:
    hub.status, hub.code = status, code
    with pytest.raises(HubError, match=part) as refused:
        fetched()
    assert "hub:o/n" in str(refused.value)


def test_an_unknown_file_is_answered_with_the_files_that_there_are(hub: SmallHub) -> None:
    with pytest.raises(HubError, match=r"c\.safetensors is not in the repository; it has a\.safetensors, b\.safetensors"):
        fetched(Address(repository="o/n", file="c.safetensors"))


def test_a_full_disk_is_refused_before_anything_is_fetched(hub: SmallHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.hub.fetching.shutil.disk_usage", lambda _: SimpleNamespace(free=10))
    with pytest.raises(HubError, match=r"needs 10,240 bytes, and 10 are free"):
        fetched()
    assert hub.downloads == 0


def test_a_disk_that_fills_up_keeps_what_arrived(hub: SmallHub, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(_Bounded):
        def write(self, data: Any) -> int:
            if self.tell() >= 4000:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(data)

    monkeypatch.setattr("harness.hub.transfer._Bounded", Full)
    with pytest.raises(HubError, match="No space left on device"):
        fetched()
    monkeypatch.setattr("harness.hub.transfer._Bounded", _Bounded)
    assert fetched() == WEIGHTS
    assert hub.ranges == ["bytes=4000-"]


def test_a_moved_branch_is_another_commit_and_both_stay(hub: SmallHub) -> None:
    fetched()
    hub.commit, hub.files = OTHER, {"o/n/a.safetensors": WEIGHTS[::-1]}
    assert fetched() == WEIGHTS[::-1]
    assert fetched(Address(repository="o/n", file="a.safetensors", revision=COMMIT)) == WEIGHTS
    assert [place(f"hub:o/n{at}:a.safetensors", Path()).parent.name for at in ("", f"@{COMMIT}", f"@{OTHER}")] == [
        OTHER, COMMIT, OTHER]


def test_files_of_one_branch_are_of_one_commit(hub: SmallHub) -> None:
    fetched()
    hub.commit = OTHER
    both = {FILE: True, Address(repository="o/n", file="b.safetensors"): True}
    fetch_missing(both, lambda _: None)
    assert {at.path.parent.name for at in fetch_newest(both, lambda _: None)} == {OTHER}


def test_the_token_is_sent_to_the_hub_alone_and_never_shown(hub: SmallHub, monkeypatch: pytest.MonkeyPatch,
                                                            capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secretsecret")
    with small_hub(hub.files) as other:
        hub.elsewhere = other.address
        assert main(["fetch", "hub:o/n:a.safetensors"]) == 0
        hub.status = 403
        assert main(["fetch", "hub:o/n:b.safetensors"]) == 1
        assert other.downloads == 1
        assert other.tokens == []
    assert set(hub.tokens) == {"Bearer hf_secretsecret"}
    assert "secretsecret" not in "".join(capfd.readouterr())
    assert not any(b"secretsecret" in file.read_bytes() for file in caches()[0].rglob("*") if file.is_file())


def test_a_part_that_is_a_link_is_not_written_through(hub: SmallHub, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    part = caches()[0] / "models--o--n" / "blobs" / f"{hashlib.sha256(WEIGHTS).hexdigest()}.sweetspot-part"
    part.parent.mkdir(parents=True)
    part.symlink_to(tmp_path / "precious")
    assert fetched() == WEIGHTS
    assert (tmp_path / "precious").read_text() == "mine"


@pytest.mark.parametrize("file", ["a.bin", "a.pt", "a.ckpt", "a.py", "a.gguf", "a", "A.SAFETENSORS.pkl"])
def test_what_can_run_code_is_never_asked_for(hub: SmallHub, file: str) -> None:
    with pytest.raises(HubError, match="can run code"):
        fetched(Address(repository="o/n", file=file))
    assert hub.requests == []


@pytest.mark.parametrize("name", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_nothing_is_asked_for_offline(hub: SmallHub, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "1")
    with pytest.raises(HubError, match=f"{name}=1 forbids it"):
        fetched()
    assert hub.requests == []
