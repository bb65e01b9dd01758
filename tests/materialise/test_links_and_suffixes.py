"""Models under names that say nothing: links of the Hugging Face cache to blobs without a suffix, and other or wrong suffixes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from harness.cli import main
from harness.weights import open_model
from tests.materialise.models import parent, write


def save(path: Path, tensors: dict[str, torch.Tensor], kind: str) -> None:
    if kind == "safetensors":
        write(path, tensors)
    else:
        torch.save(tensors, path, _use_new_zipfile_serialization=kind == "zip")


def cached(folder: Path, name: str, tensors: dict[str, torch.Tensor], kind: str) -> Path:
    """A file as huggingface_hub stores it: snapshots/REVISION/NAME is a link to blobs/HASH."""
    blob = folder / "blobs" / f"{abs(hash(name)):x}"
    blob.parent.mkdir(exist_ok=True)
    write(blob.with_suffix(".safetensors"), tensors)
    blob.with_suffix(".safetensors").rename(blob)
    if kind != "safetensors":
        save(blob, tensors, kind)
    link = folder / "snapshots" / "0" / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(Path("../../blobs") / blob.name)
    return link


@pytest.mark.parametrize(("kind", "names", "link"), [
    ("safetensors", ("a.safetensors", "b.safetensors"), True), ("zip", ("a.ckpt", "b.safetensors"), True),
    ("safetensors", ("a.sft", "b.SAFETENSORS"), False), ("safetensors", ("a.CKPT", "b"), False),
    ("zip", ("a.CKPT", "b.safetensors"), False), ("legacy", ("a.pti", "b.safetensors"), False)])
def test_files_of_any_name_merge_extract_and_replay_to_the_same_values(tmp_path, monkeypatch, kind, names, link):
    monkeypatch.chdir(tmp_path)
    models = [parent(1), parent(2)]
    paths = []
    for name, tensors in zip(names, models, strict=True):
        if link:
            paths.append(str(cached(tmp_path, name, tensors, kind)))
        else:
            write(tmp_path / "x.safetensors", tensors)
            (tmp_path / "x.safetensors").rename(tmp_path / name)
            if kind != "safetensors":
                save(tmp_path / name, tensors, kind)
            paths.append(name)
    a, b = paths
    assert main(["inspect", a, b]) == 0
    assert main(["merge", "--a", a, "--b", b, "--alpha", "0.5", "--take", f"vae={b}", "-o", "m.safetensors"]) == 0
    merged = load_file("m.safetensors")
    want = {name: (models[0][name].float() + models[1][name].float()) / 2 for name in merged
            if name.startswith("model.diffusion_model.")}
    assert want
    assert all(torch.allclose(merged[name].float(), value, atol=1e-2) for name, value in want.items())
    folders = ["--models", str(Path(a).parent), "--models", str(Path(b).parent)]
    assert main(["replay", "m.safetensors", *folders]) == 0
    assert main(["adapter", "extract", "--base", a, "--tuned", b, "--rank", "2", "-o", "l.safetensors"]) == 0
    Path("l.safetensors").rename("l")
    assert main(["merge", "--a", a, "--adapter", "l=1", "-o", "f.safetensors"]) == 0


def test_a_wrong_suffix_is_a_warning_and_no_suffix_is_none(tmp_path):
    torch.save(parent(1), tmp_path / "m.safetensors")
    write(tmp_path / "n.safetensors", parent(1))
    (tmp_path / "n.safetensors").rename(tmp_path / "n.ckpt")
    (tmp_path / "n").symlink_to(tmp_path / "n.ckpt")
    assert "is a pickle" in "".join(open_model(tmp_path / "m.safetensors").warnings)
    assert "is a safetensors file" in "".join(open_model(tmp_path / "n.ckpt").warnings)
    assert open_model(tmp_path / "n").warnings == ()
