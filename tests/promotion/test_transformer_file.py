"""A measured candidate of Flux or Stable Diffusion 3 becomes a file in the original code's names that holds what was measured."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from harness import Candidate, Checkpoint, Merge
from harness.materialise.file_layout import place
from harness.materialise.library import Library
from harness.materialise.plan_recipe import plan_recipe
from harness.materialise.saving import save
from harness.materialise.workbench import Workbench
from harness.promotion.export import save_as_measured
from tests.weights.pipelines import folder_of, theirs


@pytest.mark.parametrize("family", ["flux", "sd3"])
def test_the_file_of_a_merge_of_folders_holds_every_live_tensor(family, tmp_path):
    pipe = theirs(family)
    folder_of(pipe, tmp_path / "a")
    with torch.no_grad():
        for parameter in pipe.transformer.parameters():
            parameter.mul_(0.8)
    folder_of(pipe, tmp_path / "b")
    candidate = Candidate(name="merge", model=Merge(a="a", b="b", alpha=0.3))
    out = tmp_path / "out.safetensors"
    saved = save_as_measured(candidate, "cpu", Workbench(device="cpu", root=tmp_path), out, "merge")
    assert saved.tensors > 50
    names = load_file(out).keys()
    vae = "vae" if family == "flux" else "first_stage_model"
    assert {name.split(".")[0] for name in names} == {"model", vae, "text_encoders"}
    assert any("double_blocks.0.img_attn.qkv" in name or "joint_blocks.0.x_block.attn.qkv" in name for name in names)
    # The same file as a checkpoint with configs, merged again: the names of the file come back.
    library = Library(tmp_path)
    again = Merge(a=Checkpoint(path="out.safetensors", config="a"), b="b", alpha=0.0)
    save(place(plan_recipe(again, library)), library, tmp_path / "again.safetensors", "again")
    first, second = load_file(out), load_file(tmp_path / "again.safetensors")
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
