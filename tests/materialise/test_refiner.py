"""Stable Diffusion XL's refiner as the later model of a relay, against diffusers' own pair of pipelines."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from harness import Candidate, Ensemble, Grid, Merge, Prompt, Relay
from harness.materialise import MaterialiseError, Workbench
from harness.materialise.shape_model import shape_model
from harness.records import Cell
from harness.run.memory_plan import Footprint
from harness.samplers import build_scheduler
from harness.sampling import Denoising, TextState, embedded, encode, entered, initial_noise
from tests.weights.pipelines import folder_of, refiner, single_file_of, theirs

STEPS = 4
CELL = Cell(prompt="p", seed=1, guidance=3.0)
PROMPTS = (Prompt(id="p", text="a dog!", negative="bad hat"),)
RELAY = Relay(models=("base", "refiner"), at=(0.5,))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    folder_of(theirs("sdxl"), folder / "base")
    folder_of(refiner(), folder / "refiner")
    single_file_of(folder / "refiner", folder / "refiner.safetensors")
    return folder


def grid(sampler: str) -> Grid:
    return Grid(prompts=PROMPTS, seeds=(1,), guidance_scales=(3.0,), steps=STEPS, width=16, height=16, sampler=sampler)


def latents(bench: Workbench, sampler: str) -> torch.Tensor:
    prepared = bench.prepare(Candidate(name="c", model=RELAY))
    run = Denoising(prepared.pipeline, grid(sampler), (CELL,))
    for phase, stop in zip(prepared.phases, (2, STEPS), strict=True):
        run.advance(entered(phase, embedded([phase], PROMPTS)), stop)
    return run.latents


def embeddings(state: TextState) -> dict[str, torch.Tensor]:
    (positive,), (negative,) = state.positive.values(), state.negative.values()
    assert positive.pooled is not None
    assert negative.pooled is not None
    return {"prompt_embeds": positive.states[None], "pooled_prompt_embeds": positive.pooled[None],
            "negative_prompt_embeds": negative.states[None], "negative_pooled_prompt_embeds": negative.pooled[None]}


@pytest.mark.parametrize("sampler", ["euler", "ddim"])
def test_a_relay_to_the_refiner_is_diffusers_base_and_refiner(folder: Path, sampler: str) -> None:
    bench = Workbench(device="cpu", root=folder, steps=STEPS)
    ours = latents(bench, sampler)
    base, later = (phase.enter() for phase in bench.prepare(Candidate(name="c", model=RELAY)).phases)
    first, second = theirs("sdxl"), refiner()
    first.scheduler = build_scheduler(sampler, base.scheduler_config)
    second.scheduler = build_scheduler(sampler, later.scheduler_config)
    # In these steps a share of the steps and of the time are the same.
    noise = initial_noise(base, grid(sampler), (CELL,))
    common = {"num_inference_steps": STEPS, "guidance_scale": 3.0, "output_type": "latent"}
    handed_over = first(**embeddings(encode(base, PROMPTS)), **common, latents=noise, width=16, height=16,
                        denoising_end=0.5).images
    theirs_latents = second(**embeddings(encode(later, PROMPTS)), **common, image=handed_over, denoising_start=0.5,
                            aesthetic_score=6.0, negative_aesthetic_score=2.5).images
    assert not torch.allclose(handed_over, theirs_latents, rtol=0.1)
    assert torch.allclose(ours, theirs_latents, rtol=1e-4, atol=1e-4)


def test_the_built_in_config_is_the_published_one() -> None:
    """The numbers of sd_xl_refiner.yaml in Stability-AI/generative-models."""
    from diffusers import UNet2DConditionModel

    from harness.weights.live_pipeline import CONFIGS

    config = UNet2DConditionModel.load_config(CONFIGS / "sdxl_refiner" / "unet")
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(config)
    assert unet.add_embedding.linear_1.in_features == 2560
    assert unet.down_blocks[1].attentions[0].transformer_blocks[0].attn2.to_k.in_features == 1280
    assert len(unet.down_blocks[1].attentions[0].transformer_blocks) == 4


@pytest.mark.parametrize("model", [
    "refiner", "refiner.safetensors", Relay(models=("refiner", "base"), at=(0.5,)), Merge(a="refiner", b="refiner", alpha=0.5),
    Ensemble(models=("base", "refiner"), weights=(0.5, 0.5))])
def test_anywhere_else_it_is_refused_with_the_way_that_works(folder: Path, model: object) -> None:
    bench = Workbench(device="cpu", root=folder, steps=STEPS)
    with pytest.raises((MaterialiseError, ValueError), match="refiner"):
        bench.inspect(Candidate(name="c", model=model))  # type: ignore[arg-type]
    bench.inspect(Candidate(name="c", model=RELAY))


def test_its_memory_is_planned(folder: Path) -> None:
    bench = Workbench(device="cpu", root=folder, steps=STEPS)
    weights = Footprint(shape_model(Candidate(name="c", model=RELAY), bench), grid("euler"), "cpu").need(2).weights
    assert {"unet", "unet of model 2", "text_encoder", "text_encoder_2", "text_encoder_2 of model 2"} <= weights.keys()
    assert "text_encoder of model 2" not in weights
