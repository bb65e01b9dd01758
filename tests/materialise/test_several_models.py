"""Relays and ensembles: several models in one denoising run, against diffusers and against their own parts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

from harness import Adapter, Candidate, Checkpoint, Ensemble, Merge, Relay
from harness.materialise import MaterialiseError, Prepared, Workbench
from harness.records import Cell
from harness.samplers import build_scheduler
from harness.sampling import Denoising, batches, embedded, encode, entered, initial_noise, sample
from tests.fakes import PROMPTS, tiny_grid

CELL = Cell(prompt="star", seed=1, guidance=4)
STEPS = 4
PHOTO, ANIME = "zoo:photo", "zoo:anime"


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    return Workbench(device="cpu", root=tmp_path_factory.mktemp("root"), steps=STEPS)


def candidate(model: object, **changes: object) -> Candidate:
    return Candidate(**{"name": "c", "model": model, **changes})  # type: ignore[arg-type]


def latents(bench: Workbench, asked: Candidate, sampler: str = "dpmpp_2m") -> torch.Tensor:
    """Latents after all steps of one cell."""
    return run(bench.prepare(asked), sampler)


def run(prepared: Prepared, sampler: str) -> torch.Tensor:
    grid = tiny_grid(steps=STEPS, sampler=sampler)
    denoising = Denoising(prepared.pipeline, grid, (CELL,))
    for phase, stop in zip(prepared.phases, [*(later.first for later in prepared.phases[1:]), STEPS], strict=True):
        denoising.advance(entered(phase, embedded([phase], PROMPTS)), stop)
    return denoising.latents


@pytest.mark.parametrize("sampler", ["dpmpp_2m", "euler", "ddim"])
def test_a_relay_is_diffusers_pipeline_with_its_unet_exchanged_at_the_step(bench: Workbench, sampler: str) -> None:
    ours = latents(bench, candidate(Relay(models=(PHOTO, ANIME), at=(0.5,))), sampler)
    first, later = (bench.prepare(candidate(model)).pipeline for model in (PHOTO, ANIME))
    grid = tiny_grid(steps=STEPS, sampler=sampler)
    pipe = StableDiffusionPipeline(vae=first.vae, text_encoder=first.text_encoder, tokenizer=first.tokenizer, unet=first.unet,
                                   scheduler=build_scheduler(sampler, first.scheduler_config), safety_checker=None,
                                   feature_extractor=None, requires_safety_checker=False)
    (state,) = embedded(bench.prepare(candidate(PHOTO)).phases, PROMPTS[:1]).values()
    taken_over = encode(later, PROMPTS[:1])

    def exchange(pipe: StableDiffusionPipeline, step: int, *_: object) -> dict[str, torch.Tensor]:
        if step != 1:
            return {}
        pipe.unet = later.unet
        return {"prompt_embeds": torch.cat([halves(taken_over.negative), halves(taken_over.positive)])}

    theirs = pipe(prompt_embeds=halves(state.positive), negative_prompt_embeds=halves(state.negative), guidance_scale=4,
                  num_inference_steps=STEPS, latents=initial_noise(first, grid, (CELL,)), height=64, width=64,
                  output_type="latent", callback_on_step_end=exchange).images
    assert torch.allclose(ours, theirs, atol=2e-6)
    assert not torch.allclose(ours, latents(bench, candidate(PHOTO), sampler), atol=1e-2)


def halves(conditions: object) -> torch.Tensor:
    return torch.stack([one.states for one in conditions.values()][:1])  # type: ignore[attr-defined]


@pytest.mark.parametrize("model", [
    Relay(models=(PHOTO, PHOTO), at=(0.25,)), Ensemble(models=(PHOTO, PHOTO), weights=(0.5, 0.5)),
    Ensemble(models=(PHOTO, ANIME), weights=(1, 0)), Ensemble(models=(PHOTO, ANIME), weights=(1, 0), texts="first")])
@pytest.mark.parametrize("quantization", ["fp32", "bf16"])
def test_what_is_one_model_in_all_steps_is_that_model_bit_for_bit(
        bench: Workbench, model: Relay | Ensemble, quantization: str) -> None:
    alone = latents(bench, candidate(PHOTO, quantization=quantization))
    assert torch.equal(latents(bench, candidate(model, quantization=quantization)), alone)


def test_models_of_one_file_are_live_together(bench: Workbench) -> None:
    """A merge of a model and the model itself have one architecture and one base file."""
    merge = Merge(a=PHOTO, b=ANIME, alpha=0.5)
    prepared = bench.prepare(candidate(Ensemble(models=(merge, PHOTO, ANIME), weights=(0.5, 0.25, 0.25))))
    merged, photo, anime = (branch.enter().unet.conv_in.weight for branch in prepared.phases[0].branches)
    assert torch.allclose(merged, 0.5 * photo + 0.5 * anime, atol=1e-3)
    assert not torch.equal(photo, merged)
    assert torch.equal(photo, bench.prepare(candidate(PHOTO)).pipeline.unet.conv_in.weight)


def test_adapters_act_in_every_model_and_their_spans_end_at_the_hand_over(bench: Workbench) -> None:
    relay = Relay(models=(PHOTO, ANIME), at=(0.5,))
    prepared = bench.prepare(candidate(relay, adapters=(Adapter(path="zoo:sketch", start=0.25),)))
    assert [phase.first for phase in prepared.phases] == [0, 1, 2]
    rows = [row.stage for row in prepared.coverage if row.stage.endswith("adapter zoo:sketch")]
    assert set(rows) == {"model 1: adapter zoo:sketch", "model 2: adapter zoo:sketch"}


def test_the_decoder_is_the_declared_models(bench: Workbench, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    from harness.zoo import resolve

    tensors = load_file(str(resolve(ANIME)))
    key = next(key for key in tensors if key.startswith("first_stage_model.decoder.conv_out.bias"))
    save_file({**tensors, key: tensors[key] + 0.25}, tmp_path / "other.safetensors")
    other = Workbench(device="cpu", root=tmp_path, steps=STEPS)
    later = Checkpoint(path="other.safetensors", config="zoo:config")
    biases = {vae: [phase.enter().vae.decoder.conv_out.bias.clone() for phase in other.prepare(candidate(
        Relay(models=(PHOTO, later), at=(0.5,), vae=vae))).phases] for vae in ("first", "last")}
    assert all(torch.equal(bias, biases["first"][0]) for bias in biases["first"])
    assert all(torch.allclose(bias, biases["first"][0] + 0.25, atol=1e-3) for bias in biases["last"])


def test_pictures_are_the_same_in_any_batch_and_order(bench: Workbench) -> None:
    grid = tiny_grid(steps=STEPS, seeds=(1, 2))
    prepared = bench.prepare(candidate(Relay(models=(PHOTO, Merge(a=PHOTO, b=ANIME, alpha=0.5)), at=(0.5,))))
    texts = embedded(prepared.phases, PROMPTS)
    todo = batches(grid)
    together = [images for _, images in sample(prepared.phases, grid, todo, texts)]
    alone = [next(sample(prepared.phases, grid, [batch], texts))[1] for batch in reversed(todo)][::-1]
    assert all(np.array_equal(one, other) for one, other in zip(together, alone, strict=True))


@pytest.mark.parametrize(("at", "number"), [((0.4, 0.45), 2), ((0.5, 0.9), 3)])
def test_a_model_without_a_step_is_refused_by_number(bench: Workbench, at: tuple[float, float], number: int) -> None:
    with pytest.raises(MaterialiseError, match=f"model number {number} "):
        bench.inspect(candidate(Relay(models=(PHOTO, ANIME, PHOTO), at=at)))
