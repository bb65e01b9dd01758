"""References in a denoising run, against diffusers' own pipelines with `load_ip_adapter` at the same noise."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

from harness import Candidate, Prompt, Reference
from harness.declare import Alphas
from harness.materialise import Workbench
from harness.records import Cell
from harness.reference.reading import cross_attentions
from harness.sampling import Denoising, embedded, entered, initial_noise
from tests.fakes import tiny_grid
from tests.reference.files import plain, plus, saved
from tests.weights.pipelines import folder_of, theirs

STEPS, SIZE, PICTURE, PROJECTED, HIDDEN = 4, 32, 24, 10, 16
FAMILIES = ("sd1", "sdxl")
KINDS = {"plain": partial(plain, width=PROJECTED), "plus": partial(plus, width=HIDDEN)}
PROMPT = Prompt(id="a", text="a cat", negative="x", pictures={"face": "face.png", "style": "style.png"})
GRID = tiny_grid(prompts=(PROMPT,), steps=STEPS, sampler="ddim", width=SIZE, height=SIZE)
CELLS = (Cell(prompt="a", seed=1, guidance=3.0),)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both families, an image encoder, and an IP-Adapter of each kind for each of them."""
    root = tmp_path_factory.mktemp("shown")
    torch.manual_seed(5)
    encoder = CLIPVisionModelWithProjection(CLIPVisionConfig(
        hidden_size=HIDDEN, intermediate_size=24, num_hidden_layers=3, num_attention_heads=2, image_size=PICTURE, patch_size=8,
        projection_dim=PROJECTED, hidden_act="gelu"))
    for parameter in encoder.parameters():
        parameter.data.copy_(torch.randn_like(parameter) * 0.3)
    encoder.save_pretrained(root / "encoder")
    for family in FAMILIES:
        pipe = theirs(family)
        folder_of(pipe, root / family)
        shapes = {name: tuple(tensor.shape) for name, tensor in pipe.unet.state_dict().items()}
        for kind, make in KINDS.items():
            saved(make(list(cross_attentions(shapes).values())), root / f"{family}-{kind}.safetensors")
    for seed, name in enumerate(("face", "style")):
        Image.fromarray(np.random.default_rng(seed).integers(0, 256, (PICTURE, PICTURE, 3), np.uint8)).save(root / f"{name}.png")
    return root


def reference(family: str, kind: str = "plain", **changes: Any) -> Reference:
    return Reference(**{"path": f"{family}-{kind}.safetensors", "picture": "face", "encoder": "encoder", **changes})


def candidate(family: str, *references: Reference, **changes: Any) -> Candidate:
    return Candidate(**{"name": "c", "model": family, "references": references, **changes})


def bench_of(root: Path) -> Workbench:
    return Workbench(device="cpu", root=root, steps=STEPS)


def latents(bench: Workbench, asked: Candidate) -> torch.Tensor:
    prepared = bench.prepare(asked)
    denoising = Denoising(prepared.pipeline, GRID, CELLS)
    for phase, stop in zip(prepared.phases, [*(later.first for later in prepared.phases[1:]), STEPS], strict=True):
        denoising.advance(entered(phase, embedded([phase], (PROMPT,))), stop)
    return denoising.latents


def by_diffusers(bench: Workbench, family: str, references: tuple[Reference, ...], root: Path, scale: Any) -> torch.Tensor:
    """What diffusers' pipeline makes with the same modules, texts and noise: it loads the IP-Adapters, reads the pictures and
    makes the negative branch itself."""
    prepared = bench.prepare(candidate(family))
    live = prepared.pipeline
    (state,) = embedded(prepared.phases, (PROMPT,)).values()
    (positive,), (negative,) = state.positive.values(), state.negative.values()
    parts: dict[str, Any] = {
        "vae": live.vae, "unet": live.unet, "text_encoder": live.text_encoder, "tokenizer": live.tokenizer,
        "scheduler": diffusers.DDIMScheduler.from_config(live.scheduler_config),
        "image_encoder": CLIPVisionModelWithProjection.from_pretrained(root / "encoder").eval(),
        "feature_extractor": CLIPImageProcessor(size=PICTURE, crop_size=PICTURE)}
    call: dict[str, Any] = {}
    if family == "sdxl":
        pipe: Any = diffusers.StableDiffusionXLPipeline(
            **parts, text_encoder_2=live.encoders[1].module, tokenizer_2=live.encoders[1].tokenizer, add_watermarker=False)
        call = {"pooled_prompt_embeds": positive.pooled[None], "negative_pooled_prompt_embeds": negative.pooled[None]}
    else:
        pipe = diffusers.StableDiffusionPipeline(**parts, safety_checker=None, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    names = [one.path for one in references]
    pipe.load_ip_adapter([str(root)] * len(names), subfolder=[""] * len(names), weight_name=names, image_encoder_folder=None)
    pipe.set_ip_adapter_scale(scale)
    shown = [Image.open(root / PROMPT.pictures[one.picture]) for one in references]
    made: torch.Tensor = pipe(
        prompt_embeds=positive.states[None], negative_prompt_embeds=negative.states[None], guidance_scale=3.0,
        ip_adapter_image=shown, height=SIZE, width=SIZE, num_inference_steps=STEPS, output_type="latent",
        latents=initial_noise(live, GRID, CELLS), **call).images
    return made


def assert_alike(ours: torch.Tensor, expected: torch.Tensor) -> None:
    assert float((ours - expected).abs().max() / expected.abs().max()) <= 2e-5


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_is_seen_as_in_diffusers(kind: str, family: str, root: Path) -> None:
    shown = reference(family, kind, weight=0.7)
    ours, plainly = (latents(bench_of(root), candidate(family, *references)) for references in ((shown,), ()))
    assert_alike(ours, by_diffusers(bench_of(root), family, (shown,), root, 0.7))
    assert not torch.allclose(ours, plainly, rtol=1e-2)


@pytest.mark.parametrize("family", FAMILIES)
def test_two_references_add_up_as_in_diffusers(family: str, root: Path) -> None:
    both = reference(family, weight=0.5), reference(family, "plus", picture="style", weight=0.8)
    assert_alike(latents(bench_of(root), candidate(family, *both)), by_diffusers(bench_of(root), family, both, root, [0.5, 0.8]))


@pytest.mark.parametrize(("patterns", "scale"), [
    ({"*up_blocks.0.attentions.1*": 1}, {"up": {"block_0": [0.0, 1.0, 0.0]}}),
    ({"*down_blocks.1.attentions.1*": 1}, {"down": {"block_1": [0.0, 1.0]}}),
    ({"*up_blocks.0.attentions.1*": 0.5, "*down_blocks.1.attentions.1*": 1},
     {"down": {"block_1": [0.0, 1.0]}, "up": {"block_0": [0.0, 0.5, 0.0]}}),
])
def test_weights_by_block_are_those_of_diffusers_dict(patterns: dict[str, float], scale: dict[str, Any], root: Path) -> None:
    """Style and layout alone, as InstantStyle asks for them; blocks that the dict does not name are 0 there."""
    shown = reference("sdxl", blocks=Alphas(default=0, keys=patterns))
    ours = latents(bench_of(root), candidate("sdxl", shown))
    assert_alike(ours, by_diffusers(bench_of(root), "sdxl", (shown,), root, scale))
    assert not torch.allclose(ours, latents(bench_of(root), candidate("sdxl", reference("sdxl"))), rtol=1e-2)


def test_a_compiled_denoiser_sees_the_picture_too(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    monkeypatch.setattr("harness.runtimes.compiling.shutil.which", lambda _: "c++")
    shown = reference("sd1", "plus", weight=0.7)
    eager, compiled = (latents(bench_of(root), candidate("sd1", shown, runtime=runtime)) for runtime in ("eager", "compiled"))
    assert_alike(compiled, eager)
    assert not torch.allclose(compiled, latents(bench_of(root), candidate("sd1")), rtol=1e-2)
