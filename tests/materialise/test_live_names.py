"""Live merges with parts of models and with models in another layout hold what the same merge with whole models in A's names
holds."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from harness import Candidate, Merge
from harness.materialise import Workbench
from harness.weights import open_model
from harness.weights.transformer_names import flux_pairs
from harness.zoo import resolve
from tests.weights.pipelines import folder_of, theirs

State = dict[str, torch.Tensor]


def live(root: Path, part: str, **merge: object) -> State:
    candidate = Candidate(name="it", model=Merge(alpha=0.5, **merge))  # type: ignore[arg-type]
    return dict(Workbench(device="cpu", root=root).prepare(candidate).pipeline.parts[part].state_dict())


@pytest.mark.parametrize("original", [True, False])
def test_a_part_of_the_zoos_unet_is_numbered_like_the_model_beside_it(tmp_path: Path, original: bool) -> None:
    """The zoo's U-Net has one layer in a block, which one block alone does not show."""
    tuned = open_model(resolve("zoo:anime"))
    block = {key: t for key, t in tuned.tensors("unet").items() if key.startswith("up_blocks.1.")}
    names = {info.source: key for key, info in tuned.components["unet"].items() if key in block}
    stored = {name: t for name, t in load_file(resolve("zoo:anime")).items() if name in names}
    save_file(stored if original else {key: t.contiguous() for key, t in block.items()}, tmp_path / "block.safetensors")
    made = live(tmp_path, "unet", a="zoo:photo", b="block.safetensors", missing="keep_a")
    whole = live(tmp_path, "unet", a="zoo:photo", b="zoo:anime")
    own = open_model(resolve("zoo:photo")).tensors("unet")
    for key, tensor in made.items():
        assert torch.equal(tensor, whole[key] if key in block else own[key].float()), key


def test_a_flux_folder_is_merged_live_with_a_file_in_the_original_names(tmp_path: Path) -> None:
    for name in "ab":
        folder = folder_of(theirs("flux"), tmp_path / name)
        weights = folder / "transformer" / "diffusion_pytorch_model.safetensors"
        save_file({key: t + (name == "b") * torch.randn(t.shape) for key, t in load_file(weights).items()}, weights)
    save_file(in_original_names(load_file(weights)), tmp_path / "b.safetensors")
    made = live(tmp_path, "transformer", a="a", b="b.safetensors", parts=("transformer",))
    expected = live(tmp_path, "transformer", a="a", b="b", parts=("transformer",))
    assert made.keys() == expected.keys()
    for key, tensor in made.items():
        assert torch.equal(tensor, expected[key]), key


def in_original_names(state: State) -> State:
    made = {}
    for pair in flux_pairs([key.rpartition(".")[0] for key in state]):
        for leaf in ("weight", "bias"):
            parts = [state[f"{path}.{leaf}"] for path in pair.diffusers if f"{path}.{leaf}" in state]
            if parts:
                ending = "scale" if pair.original.endswith("_norm") else leaf
                made[f"{pair.original}.{ending}"] = torch.cat(parts[0].chunk(2)[::-1] if pair.swapped else parts).contiguous()
    return made
