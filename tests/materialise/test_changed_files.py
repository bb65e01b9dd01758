"""A file that is written to or replaced while a workbench uses it is refused by name, whatever it is used for; another workbench
sees the new file."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from harness import Adapter, AestheticGradient, Candidate, Checkpoint, Fused, Merge
from harness.adapters.open_adapter import open_stored
from harness.materialise import Workbench
from harness.materialise.library import Library
from harness.materialise.plan_recipe import plan_recipe
from harness.materialise.text_treatment import text_projection
from harness.records.file_version import ChangedFileError, FileVersions
from harness.run.algebra_gate import identities_of
from harness.weights import open_model, open_tensors
from harness.zoo import resolve
from tests.adapters.test_hypernetwork import pairs, stored
from tests.weights.tiny_families import write_folder

Change = Callable[[Path], None]


def other_bytes(file: Path) -> bytes:
    """Other content of the same length and kind."""
    data = file.read_bytes()
    return data.replace(b"\n", b" ", 1) if file.suffix == ".json" else data[:-1] + bytes([data[-1] ^ 1])


def in_place(file: Path) -> None:
    """Other bytes, written into the same file."""
    data = other_bytes(file)
    with file.open("r+b") as raw:
        raw.write(data)


def renamed_over(file: Path) -> None:
    """Another file of the same size and the same time of change under the old name."""
    stat = file.stat()
    new = file.with_name("new")
    new.write_bytes(other_bytes(file))
    os.utime(new, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    new.replace(file)


def linked_elsewhere(file: Path) -> None:
    """The name now leads to another file."""
    other = file.with_name(f"other-{file.name}")
    shutil.copy2(file, other)
    in_place(other)
    file.unlink()
    file.symlink_to(other)


CHANGES = (in_place, renamed_over, linked_elsewhere)


def copied(root: Path, name: str) -> str:
    """A copy of a zoo member of the test's own; the name of the file or folder."""
    source = resolve(f"zoo:{name}")
    target = root / (f"{name}{source.suffix}" if source.is_file() else name)
    (shutil.copyfile if source.is_file() else shutil.copytree)(source, target)
    return target.name


def adapted(path: str) -> Candidate:
    return Candidate(name="c", model="zoo:base", adapters=(Adapter(path=path),))


def _look(root: Path) -> AestheticGradient:
    save_file({"look": torch.ones(512) / 9}, root / "look.safetensors")
    save_file({"text_projection": torch.ones(96, 512)}, root / "clip.safetensors")
    return AestheticGradient(path="look.safetensors", clip="ViT-B-32:clip.safetensors")


def _hypernetwork(root: Path) -> Candidate:
    torch.save({**stored(pairs((96,))), "name": "style"}, root / "style.pt")
    return adapted("style.pt")


def _folder(root: Path) -> Candidate:
    model = open_model(resolve("zoo:photo"))
    parts = {part: {key: tensor.contiguous() for key, tensor in model.tensors(part).items()} for part in model.components}
    return Candidate(name="c", model=Checkpoint(path=write_folder(root / "folder", parts).name, config="zoo:config"))


INPUTS: dict[str, tuple[Callable[[Path], Candidate], str]] = {
    "checkpoint": (lambda root: Candidate(name="c", model=Checkpoint(path=copied(root, "photo"), config="zoo:config")),
                   "photo.safetensors"),
    "second parent": (lambda root: Candidate(name="c", model=Merge(a="zoo:photo", b=copied(root, "anime"), alpha=0.5)),
                      "anime.safetensors"),
    "model that only gives its VAE": (lambda root: Candidate(name="c", model=Merge(
        a="zoo:photo", b="zoo:anime", alpha=0.5, take={"vae": copied(root, "base")})), "base.safetensors"),
    "LoRA": (lambda root: adapted(copied(root, "sketch")), "sketch.safetensors"),
    "fused adapter": (lambda root: Candidate(name="c", model=Fused(model="zoo:base", adapters=(
        Adapter(path=copied(root, "sketch-loha")),))), "sketch-loha.safetensors"),
    "PEFT folder": (lambda root: adapted(copied(root, "sketch-peft-folder")), "sketch-peft-folder/adapter_config.json"),
    "textual inversion": (lambda root: adapted(copied(root, "sketch-word")), "sketch-word.safetensors"),
    "hypernetwork": (_hypernetwork, "style.pt"),
    "config": (lambda root: Candidate(name="c", model=Checkpoint(path="zoo:photo", config=copied(root, "config"))),
               "config/unet/config.json"),
    "tokenizer": (lambda root: Candidate(name="c", model=Checkpoint(path="zoo:photo", config=copied(root, "config"))),
                  "config/tokenizer/vocab.json"),
    "aesthetic gradient": (lambda root: Candidate(name="c", model="zoo:base", aesthetic=_look(root)), "look.safetensors"),
    "CLIP of an aesthetic gradient": (lambda root: Candidate(name="c", model="zoo:base", aesthetic=_look(root)),
                                      "clip.safetensors"),
    "part of a diffusers folder": (_folder, "folder/vae/diffusion_pytorch_model.safetensors"),
}


def bench(root: Path, versions: FileVersions | None = None) -> Workbench:
    return Workbench(device="cpu", root=root, steps=2, versions=versions)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", INPUTS)
def test_a_changed_input_is_neither_identified_nor_made_and_another_workbench_sees_the_new_one(
        kind: str, change: Change, tmp_path: Path) -> None:
    declare, file = INPUTS[kind]
    candidate, used = declare(tmp_path), bench(tmp_path)
    used.inspect(candidate)
    before = used.weights(candidate)
    change(tmp_path / file)
    for step in (used.inspect, used.weights, used.prepare):
        with pytest.raises(ChangedFileError, match=rf"^{file.split('/')[0]}\b.*was changed|linked elsewhere.*Run again once"):
            step(candidate)
    with pytest.raises(ChangedFileError):
        bench(tmp_path, used.library.versions).inspect(candidate)
    after = bench(tmp_path).weights(candidate)
    assert after.identity != before.identity
    assert after.inputs != before.inputs


def test_a_file_that_is_put_back_stays_refused_because_the_other_may_have_been_read(tmp_path: Path) -> None:
    candidate = adapted(copied(tmp_path, "sketch"))
    used = bench(tmp_path)
    used.inspect(candidate)
    file = tmp_path / "sketch.safetensors"
    file.rename(tmp_path / "aside")
    shutil.copyfile(tmp_path / "aside", file)
    with pytest.raises(ChangedFileError):
        used.inspect(candidate)
    file.unlink()
    (tmp_path / "aside").rename(file)
    with pytest.raises(ChangedFileError):
        used.inspect(candidate)


def test_a_file_that_changes_while_the_candidate_is_made_leaves_no_candidate(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    candidate = Candidate(name="c", model=Merge(a="zoo:photo", b=copied(tmp_path, "anime"), alpha=0.5))
    used = bench(tmp_path)
    used.prepare(candidate)
    monkeypatch.setattr("harness.materialise.workbench.write_live", lambda *_: in_place(tmp_path / "anime.safetensors"))
    other = Candidate(name="d", model=Merge(a="zoo:photo", b="anime.safetensors", alpha=0.7))
    with pytest.raises(ChangedFileError, match=r"^anime\.safetensors: was changed"):
        used.prepare(other)


def test_a_later_phase_is_not_entered_with_a_file_that_changed_since(tmp_path: Path) -> None:
    """Parents are read again from their mapped files whenever a phase begins."""
    path = copied(tmp_path, "sketch-dora")
    used = bench(tmp_path)
    _, second = used.prepare(Candidate(name="c", model="zoo:base", adapters=(Adapter(path=path, start=0.5),))).phases
    in_place(tmp_path / path)
    with pytest.raises(ChangedFileError):
        second.enter()


def test_values_of_adapters_and_projections_are_copies_that_a_write_to_the_file_does_not_reach(tmp_path: Path) -> None:
    for name, read in (("lora", lambda file: open_stored(file).load()["text_projection"]), ("clip", text_projection)):
        file = tmp_path / f"{name}.safetensors"
        save_file({"text_projection": torch.zeros(8, 8)}, file)
        values = read(file)
        with file.open("r+b") as raw:
            raw.seek(-64, os.SEEK_END)
            raw.write(b"\x01" * 64)
        assert not values.any(), name


@pytest.mark.parametrize("change", CHANGES)
def test_an_opened_file_gives_no_tensors_of_another_one(change: Change, tmp_path: Path) -> None:
    file = tmp_path / copied(tmp_path, "sketch")
    opened, adapter = open_tensors(file), open_stored(file)
    name = next(iter(opened.stored))
    change(file)
    with pytest.raises(ChangedFileError, match=r"sketch\.safetensors: was changed"):
        opened.read([name])
    with pytest.raises(ChangedFileError, match=r"sketch\.safetensors: was changed"):
        adapter.load()


def test_a_file_that_changes_while_it_is_hashed_has_no_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.weights import content_hash, hashing

    file = tmp_path / "a"
    file.write_bytes(b"0123456789")
    real = hashing.blake3

    def meddled() -> object:
        in_place(file)
        return real()

    monkeypatch.setattr(hashing, "blake3", meddled)
    with pytest.raises(ChangedFileError, match="a: was changed"):
        content_hash(file)


def test_a_hash_from_apart_is_not_kept_for_a_file_that_changed_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from blake3 import blake3

    from harness.weights import content_hash, hashing

    monkeypatch.setattr(hashing, "_WORTH_A_PROCESS", 0)
    file = tmp_path / "a"
    file.write_bytes(b"one")
    apart = hashing.HashingApart([file])
    assert apart._process is not None
    apart._process.wait()
    file.write_bytes(b"two")
    apart.finish()
    assert content_hash(file) == blake3(b"two").hexdigest()


def test_the_same_size_and_time_of_change_do_not_make_another_file_the_same(tmp_path: Path) -> None:
    from harness.weights import content_hash

    file = tmp_path / "a"
    file.write_bytes(b"0123456789")
    before = content_hash(file)
    renamed_over(file)
    assert content_hash(file) != before


def test_the_identities_of_a_merge_are_not_recorded_for_a_model_that_changed(tmp_path: Path) -> None:
    merge = Merge(a="zoo:photo", b=copied(tmp_path, "anime"), alpha=0.5)
    library = Library(tmp_path)
    plan_recipe(merge, library)
    in_place(tmp_path / "anime.safetensors")
    with pytest.raises(ChangedFileError):
        identities_of(Candidate(name="c", model=merge), library)
