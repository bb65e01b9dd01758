"""Relays and ensembles: several models in one denoising run, against diffusers and against their own parts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file, save_file

from harness import Adapter, Candidate, Checkpoint, Ensemble, Merge, Relay
from harness.materialise import MaterialiseError, Prepared, Workbench
from harness.records import Cell
from harness.samplers import SAMPLERS, build_scheduler, set_steps, step_options
from harness.sampling import Denoising, batches, embedded, encode, entered, initial_noise, sample
from harness.sampling.predictions import converted, prediction_of, signal_and_noise
from harness.zoo import resolve
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


def written(folder: Path, name: str, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Checkpoint:
    """The photo model of the zoo with changed tensors, as a file of its own."""
    save_file(change(load_file(str(resolve(PHOTO)))), folder / f"{name}.safetensors")
    return Checkpoint(path=f"{name}.safetensors", config="zoo:config")


def drawn(tensor: torch.Tensor, size: float) -> torch.Tensor:
    return (tensor.float() + size * torch.randn(tensor.shape, generator=torch.Generator().manual_seed(7))).to(tensor.dtype)


def test_an_ensemble_of_models_that_differ_in_the_last_layer_is_their_merge(tmp_path: Path) -> None:
    """The last layer is linear, so the mean of predictions is the prediction of the mean."""
    other = written(tmp_path, "other", lambda tensors: {**tensors, **{
        key: drawn(tensors[key], 0.05) for key in tensors if key.startswith("model.diffusion_model.out.2.")}})
    bench = Workbench(device="cpu", root=tmp_path, steps=STEPS)
    merge = latents(bench, candidate(Merge(a=PHOTO, b=other, alpha=0.25, dtype="fp32")))
    ensemble = latents(bench, candidate(Ensemble(models=(PHOTO, other), weights=(0.75, 0.25))))
    assert torch.allclose(ensemble, merge, atol=2e-4)
    assert not torch.allclose(ensemble, latents(bench, candidate(PHOTO)), atol=2e-2)


def test_ensemble_and_merge_part_with_the_square_of_the_difference(bench: Workbench) -> None:
    """Predictions of models that lie half as far from each other differ a quarter as much between ensemble and merge."""
    distances = []
    for share in (0.5, 0.25, 0.125):
        near = Merge(a=PHOTO, b=ANIME, alpha=share, dtype="fp32")
        merge = predicted(bench, Merge(a=PHOTO, b=ANIME, alpha=share / 2, dtype="fp32"))
        mean = 0.5 * predicted(bench, PHOTO) + 0.5 * predicted(bench, near)
        distances.append(float((mean - merge).square().mean().sqrt()))
    ratios = [before / after for before, after in pairwise(distances)]
    assert all(2.5 < ratio < 5 for ratio in ratios), ratios


def predicted(bench: Workbench, model: object) -> torch.Tensor:
    """What the denoiser makes of one noisy latent at one time."""
    pipeline = bench.prepare(candidate(model)).pipeline
    noise = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        output: torch.Tensor = pipeline.unet(torch.randn(1, 8, 8, 8, generator=noise), 500,
                                             encoder_hidden_states=torch.randn(1, 24, 96, generator=noise)).sample
    return output


@pytest.mark.parametrize("sampler", sorted(name for name, row in SAMPLERS.items() if not row.flow))
def test_a_models_prediction_is_converted_at_the_noise_of_the_step(sampler: str) -> None:
    """For every sampler: a denoiser that knows the clean latents predicts them as noise and as v; the other gives one from the
    other."""
    torch.manual_seed(0)
    clean, noise = torch.randn(2, 1, 4, 8, 8)
    config = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "num_train_timesteps": 1000}
    scheduler = build_scheduler(sampler, config)
    set_steps(scheduler, sampler, 4)
    options = step_options(sampler, None, [torch.Generator().manual_seed(0)])
    for at in range(len(scheduler.timesteps)):
        timestep = scheduler.timesteps[at]
        scheduler.scale_model_input(clean, timestep)
        a, s = signal_and_noise(scheduler, timestep)
        x = (a * clean + s * noise).float()
        v = a * noise - s * clean
        assert torch.allclose(converted(noise, "epsilon", "v_prediction", x, a, s), v.float(), atol=1e-4 / float(a))
        assert torch.allclose(converted(v.float(), "v_prediction", "epsilon", x, a, s), noise, atol=1e-4)
        assert torch.allclose(converted(clean, "sample", "v_prediction", x, a, s), v.float(), atol=1e-4 / float(s))
        assert float(a) == pytest.approx(trained_signal(scheduler, float(timestep)), abs=0.02)
        scheduler.step(noise, timestep, clean * float(scheduler.init_noise_sigma), **options)


def trained_signal(scheduler: Any, timestep: float) -> float:
    """The share of the clean latents at a time, between those of the training."""
    kept = scheduler.alphas_cumprod.double().sqrt().numpy()
    return float(np.interp(timestep, np.arange(len(kept)), kept))


def test_a_relay_to_a_model_that_predicts_otherwise_goes_on_as_one_that_predicts_alike(bench: Workbench) -> None:
    """A denoiser that gives the same as v instead of noise: the same pictures."""
    relay = bench.prepare(candidate(Relay(models=(PHOTO, ANIME), at=(0.5,))))
    alike = run(relay, "euler")
    (later,) = relay.phases[1].branches
    pipeline = later.enter()
    own = prediction_of(pipeline.scheduler_config)
    other = "epsilon" if own == "v_prediction" else "v_prediction"

    class Otherwise(torch.nn.Module):
        """The denoiser, whose output means the same in another prediction."""

        def __init__(self) -> None:
            super().__init__()
            self.conv_in, self.config = pipeline.unet.conv_in, pipeline.unet.config

        def forward(self, x: torch.Tensor, timestep: torch.Tensor, **given: Any) -> Any:
            kept = build_scheduler("ddim", pipeline.scheduler_config).alphas_cumprod.double()
            a = np.interp(float(timestep), np.arange(len(kept)), (((1 - kept) / kept) ** 0.5).numpy())
            a = torch.tensor((1 + a ** 2) ** -0.5)
            output = pipeline.unet(x, timestep, **given).sample
            return SimpleNamespace(sample=converted(output, own, other, x, a, (1 - a ** 2) ** 0.5).float())

    foreign = replace(pipeline, parts={**pipeline.parts, "unet": Otherwise()},
                      scheduler_config={**pipeline.scheduler_config, "prediction_type": other})
    phases = (relay.phases[0], replace(relay.phases[1], branches=(replace(later, enter=lambda: foreign),)))
    assert torch.allclose(run(replace(relay, phases=phases), "euler"), alike, atol=1e-3)


@pytest.mark.parametrize(("change", "fact"), [
    ({"scaling_factor": 0.13025}, "scaled by 0.13025"), ({"scheduler": {"beta_end": 0.02}}, "to 0.02"),
    ({"scheduler": {"rescale_betas_zero_snr": True}}, "zero terminal SNR")])
def test_models_that_cannot_share_latents_are_refused_with_what_each_has(
        tmp_path: Path, change: dict[str, Any], fact: str) -> None:
    shutil.copytree(resolve("zoo:config"), tmp_path / "other")
    scheduler = dict(change).pop("scheduler", {})
    for file, values in (("scheduler/scheduler_config.json", scheduler), ("vae/config.json", {} if scheduler else change)):
        path = tmp_path / "other" / file
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    foreign = Checkpoint(path=ANIME, config="other")
    bench = Workbench(device="cpu", root=tmp_path, steps=STEPS)
    for model in (Relay(models=(PHOTO, foreign), at=(0.5,)), Ensemble(models=(PHOTO, foreign), weights=(0.5, 0.5))):
        with pytest.raises(MaterialiseError, match=fact) as refused:
            bench.inspect(candidate(model))
        assert all(part in str(refused.value) for part in (f"model 1 ({PHOTO})", f"model 2 ({ANIME})"))


def test_weight_and_order_are_part_of_the_identity(bench: Workbench) -> None:
    models = [Relay(models=(PHOTO, ANIME), at=(0.5,)), Relay(models=(ANIME, PHOTO), at=(0.5,)),
              Relay(models=(PHOTO, ANIME), at=(0.25,)), Relay(models=(PHOTO, ANIME), at=(0.5,), vae="last"),
              Ensemble(models=(PHOTO, ANIME), weights=(0.5, 0.5)), Ensemble(models=(PHOTO, ANIME), weights=(0.25, 0.75)),
              Ensemble(models=(PHOTO, ANIME), weights=(0.5, 0.5), texts="first"), PHOTO]
    identities = [bench.weights(candidate(model)).identity for model in models]
    assert len(set(identities)) == len(models)
    assert set(bench.weights(candidate(models[0])).inputs) == {PHOTO, ANIME, "zoo:config"}
