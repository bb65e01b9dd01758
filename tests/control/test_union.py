"""Union networks in a denoising run, against diffusers' own pipeline at the same noise, and the kinds that they are told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from diffusers import ControlNetUnionModel
from PIL import Image

from harness.control.reading import read_control
from harness.declare import Control
from harness.declare.picture_file import read_picture
from harness.materialise import Workbench
from harness.sampling import embedded, initial_noise
from harness.weights.placing import lend_layers
from harness.weights.safetensors_header import ModelFileError
from tests.control.nets import of_unet, write
from tests.control.test_sampling import CELLS, PROMPTS, SIZE, STEPS, bench_of, candidate, latents
from tests.control.test_t2i import difference
from tests.fakes import tiny_grid
from tests.weights.pipelines import folder_of, theirs


def union(unet: Any, kinds: int, seed: int = 5) -> ControlNetUnionModel:
    """A random union network of the shape of a U-Net's encoder, whose outer convolutions are not zero."""
    config = {name: value for name, value in of_unet(unet).config.items() if not name.startswith(("_", "mid_block_type"))}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = ControlNetUnionModel.from_config({**config, "num_control_type": kinds, "num_trans_channel": 8,
                                                "num_proj_channel": 8})
        for parameter in net.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    return net.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import numpy as np

    root = tmp_path_factory.mktemp("union")
    pipe = theirs("sdxl")
    folder_of(pipe, root / "sdxl")
    of_unet(pipe.unet).save_pretrained(root / "plain")
    for name, kinds in (("union", 6), ("promax", 8)):
        net = union(pipe.unet, kinds)
        net.save_pretrained(root / name)
        write(root / f"{name}.safetensors", net.state_dict())
    for seed, file in enumerate(("a", "b")):
        Image.fromarray(np.random.default_rng(seed).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)).save(root / f"{file}.png")
    return root


def control(path: str = "union", kind: str = "canny", **changes: Any) -> Control:
    return Control(**{"path": path, "picture": "edges", "kind": kind, **changes})


def by_diffusers(root: Path, path: str, place: int, weight: float) -> torch.Tensor:
    """What diffusers' pipeline makes of the first cell with the same modules, texts and noise."""
    prepared = bench_of(root).prepare(candidate("sdxl"))
    live, cells = prepared.pipeline, CELLS[:1]
    (state,) = embedded(prepared.phases, PROMPTS).values()
    positive, negative = next(iter(state.positive.values())), next(iter(state.negative.values()))
    pipe = diffusers.StableDiffusionXLControlNetUnionPipeline(
        vae=live.vae, unet=live.unet, controlnet=ControlNetUnionModel.from_pretrained(root / path).eval(),
        text_encoder=live.text_encoder, tokenizer=live.tokenizer, text_encoder_2=live.encoders[1].module,
        tokenizer_2=live.encoders[1].tokenizer, scheduler=diffusers.DDIMScheduler.from_config(live.scheduler_config),
        add_watermarker=False)
    pipe.set_progress_bar_config(disable=True)
    grid = tiny_grid(prompts=PROMPTS, steps=STEPS, sampler="ddim", width=SIZE, height=SIZE)
    made: torch.Tensor = pipe(
        prompt_embeds=positive.states[None], pooled_prompt_embeds=positive.pooled[None],
        negative_prompt_embeds=negative.states[None], negative_pooled_prompt_embeds=negative.pooled[None],
        guidance_scale=3.0, control_mode=[place],
        control_image=[Image.fromarray(read_picture(root / PROMPTS[0].pictures["edges"]))], controlnet_conditioning_scale=weight,
        height=SIZE, width=SIZE, num_inference_steps=STEPS, latents=initial_noise(live, grid, cells), output_type="latent").images
    return made


@pytest.mark.parametrize(("path", "kind", "place"), [("union", "openpose", 0), ("promax", "tile", 6), ("union", "lineart", 3)])
def test_a_union_network_is_that_of_diffusers(path: str, kind: str, place: int, root: Path) -> None:
    ours = latents(bench_of(root), candidate("sdxl", control(path, kind, weight=0.8)), CELLS[:1])
    assert difference(ours, by_diffusers(root, path, place, 0.8)) <= 2e-5
    # The pipeline of diffusers fails in its guess mode: the kinds of both halves are given to one of them.
    guessed = latents(bench_of(root), candidate("sdxl", control(path, kind, weight=0.8, guess=True)), CELLS[:1])
    assert difference(guessed, ours) > 1e-3


def test_the_kind_matters_and_a_bare_file_samples_as_its_folder(root: Path) -> None:
    bench = bench_of(root)
    canny, depth, bare = (latents(bench, candidate("sdxl", one)) for one in (
        control(), control(kind="depth"), control("union.safetensors")))
    assert difference(canny, depth) > 1e-3
    torch.testing.assert_close(bare, canny, rtol=0, atol=0)
    alone = latents(bench, candidate("sdxl", control()), CELLS[1:])
    torch.testing.assert_close(alone, canny[1:], rtol=1e-4, atol=1e-4)
    one, other = (bench.weights(candidate("sdxl", control(kind=kind))).identity for kind in ("canny", "depth"))
    assert one != other


@pytest.mark.parametrize(("declared", "words"), [
    (control(kind=""), "union network of 6 kinds, and it must be told the kind of its pictures; give .* canny"),
    (control(kind="tile"), "kind is 'tile', which it does not have; give .* segment$"),
    (control("plain"), "this network is for one kind; remove kind"),
])
def test_a_kind_that_the_network_does_not_have_is_refused(declared: Control, words: str, root: Path) -> None:
    with pytest.raises(ModelFileError, match=words):
        bench_of(root).inspect(candidate("sdxl", declared))


def test_what_the_refusals_say_to_give_is_taken(root: Path) -> None:
    for declared in (control(kind="segment"), control("promax", "repaint"), control("plain", "")):
        Workbench(device="cpu", root=root, steps=STEPS).inspect(candidate("sdxl", declared))


@pytest.mark.parametrize(("change", "words"), [
    ({"task_embedding": torch.zeros(6)}, r"'task_embedding' is \[6\]"),
    ({"spatial_ch_projs.weight": torch.zeros(8, 7)}, r"'spatial_ch_projs.weight' is \[8, 7\]"),
    ({"transformer_layes.0.ln_9.weight": torch.zeros(8)}, "'transformer_layes.0.ln_9.weight'"),
])
def test_a_damaged_union_network_is_refused_with_its_file_and_key(change: dict[str, torch.Tensor], words: str, root: Path,
                                                                  tmp_path: Path) -> None:
    net = ControlNetUnionModel.from_pretrained(root / "union")
    write(tmp_path / "net.safetensors", {**net.state_dict(), **change})
    assert read_control(tmp_path / "net.safetensors").named.layout.startswith("union")
    with pytest.raises(ModelFileError, match=words) as refused:
        bench_of(root).inspect(candidate("sdxl", control(str(tmp_path / "net.safetensors"))))
    assert "net.safetensors" in str(refused.value)


def test_attention_whose_inner_layer_is_never_called_is_lent_as_a_whole(root: Path) -> None:
    """As of a union network: torch's attention reads the weights of its last layer, and does not call it."""
    attention = torch.nn.MultiheadAttention(8, 2)
    lend_layers(attention, torch.device("meta"))
    x = torch.empty(3, 1, 8, device="meta")
    assert attention(x, x, x)[0].device.type == "meta"
    assert {parameter.device.type for parameter in attention.parameters()} == {"cpu"}
