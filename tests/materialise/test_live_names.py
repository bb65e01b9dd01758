"""Live merges with parts of models and with models in another layout hold what the same merge with whole models in A's names
holds."""

from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file

from harness import Candidate, Merge
from harness.materialise import Workbench
from harness.weights import open_model
from harness.weights.transformer_names import flux_pairs
from harness.zoo import resolve
from tests.weights.pipelines import folder_of, theirs
from tests.weights.tiny_families import unet_config

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


def with_layers(folder: Path, layers: int, seed: int) -> Path:
    """A folder of three levels of one width, with this number of layers in a block."""
    pipe = theirs("sd1")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        unet = UNet2DConditionModel(**{**unet_config("sd1"), "block_out_channels": (8, 8, 8), "layers_per_block": layers,
                                       "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
                                       "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D")})
    return folder_of(type(pipe)(**{**pipe.components, "unet": unet}, requires_safety_checker=False), folder)


@pytest.mark.parametrize("order", [(1, 2, 1), (2, 1, 2)])
def test_recipes_of_one_session_that_number_a_part_differently_get_their_own_tensors(order: tuple[int, ...], tmp_path: Path
                                                                                     ) -> None:
    """Step 5 of the original code is in the third block of a model of one layer, and in the second of one of two."""
    for layers in (1, 2):
        with_layers(tmp_path / f"m{layers}", layers, layers)
    save_file({f"model.diffusion_model.input_blocks.{step}.0.out_layers.3.bias": torch.full((8,), float(step))
               for step in (1, 5)}, tmp_path / "part.safetensors")
    bench = Workbench(device="cpu", root=tmp_path)

    def made(workbench: Workbench, layers: int) -> State:
        model = Merge(a=f"m{layers}", b="part.safetensors", alpha=1, missing="keep_a")
        unet = workbench.prepare(Candidate(name=f"{layers}", model=model)).pipeline.parts["unet"]
        return {name: tensor.clone() for name, tensor in unet.state_dict().items()}

    for layers in order:
        mine, alone = made(bench, layers), made(Workbench(device="cpu", root=tmp_path), layers)
        assert all(torch.equal(mine[name], alone[name]) for name in alone), layers
        assert {name for name, tensor in mine.items() if torch.equal(tensor, torch.full((8,), 5.0))} == {
            {1: "down_blocks.2.resnets.0.conv2.bias", 2: "down_blocks.1.resnets.1.conv2.bias"}[layers]}
