"""Stages of other families, number formats and runtimes, on small random models."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

from harness import Candidate, Prompt, Sampling, Stage
from harness.materialise import MaterialiseError, Prepared, Workbench
from harness.records import Cell
from harness.samplers import build_scheduler
from harness.sampling import Common, Denoising, Later, StageStore, alone, decode, embedded, encode, generators, sample
from harness.sampling.denoise import Start
from harness.sampling.hand_over import from_pictures
from tests.fakes import tiny_grid
from tests.weights.pipelines import folder_of, theirs

SIZE, STEPS = 32, 4
PROMPTS = (Prompt(id="a", text="a cat", negative="x"), Prompt(id="b", text="a dog", negative="x"))
CELLS = tuple(Cell(prompt=prompt.id, seed=1, guidance=3.0) for prompt in PROMPTS)
GRID = tiny_grid(prompts=PROMPTS, steps=STEPS, sampler="ddim", width=SIZE, height=SIZE, guidance_scales=(3,), batch_size=2)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("families")
    for family in ("sd1", "sdxl", "sd3", "flux"):
        folder_of(theirs(family), root / family)
    return root


def prepared(root: Path, model: str, *stages: Stage, **fields: Any) -> Prepared:
    return Workbench.for_grid(GRID, device="cpu", root=root).prepare(Candidate(name="c", model=model, stages=stages, **fields))


def images(made: Prepared, common: Common | None = None) -> list[np.ndarray]:
    texts = embedded(made.phases, PROMPTS, steps=STEPS, stages=made.stages)
    ((_, pictures),) = sample(made.phases, GRID, [CELLS], texts, later=Later(stages=made.stages, common=common))
    return list(pictures)


def test_a_stage_of_stable_diffusion_xl_is_diffusers_image_to_image_pipeline(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

    live = prepared(root, "sdxl").pipeline
    picture = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    latents = from_pictures(live, picture[None], (SIZE, SIZE), "lanczos", 8)
    text = encode(live, PROMPTS[:1])
    run = Denoising(live, tiny_grid(prompts=PROMPTS, steps=2, sampler="ddim", width=SIZE, height=SIZE), CELLS[:1],
                    Start(latents=latents, stage=1, of_steps=STEPS))
    run.advance(alone(live, text))
    (positive,), (negative,) = text.positive.values(), text.negative.values()
    assert positive.pooled is not None
    assert negative.pooled is not None
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda posterior, generator=None: posterior.mean)
    pipe = diffusers.StableDiffusionXLImg2ImgPipeline(
        vae=live.vae, unet=live.unet, text_encoder=live.text_encoder, tokenizer=live.tokenizer,
        text_encoder_2=live.encoders[1].module, tokenizer_2=live.encoders[1].tokenizer, add_watermarker=False,
        scheduler=build_scheduler("ddim", live.scheduler_config))
    pipe.set_progress_bar_config(disable=True)
    expected = pipe(prompt_embeds=positive.states[None], pooled_prompt_embeds=positive.pooled[None],
                    negative_prompt_embeds=negative.states[None], negative_pooled_prompt_embeds=negative.pooled[None],
                    image=Image.fromarray(picture), strength=0.5, num_inference_steps=STEPS, guidance_scale=3.0,
                    generator=generators(CELLS[:1], 1), output_type="latent").images
    assert (run.latents - expected).abs().max() < 1e-4 * expected.abs().max()


def test_a_hires_stage_of_stable_diffusion_xl_goes_on_with_the_resized_picture(root: Path) -> None:
    made = prepared(root, "sdxl", Stage(strength=0.5, sampling=Sampling(width=2 * SIZE, height=SIZE)))
    (stage,) = made.stages
    assert (stage.through, stage.grid.steps) == ("pixels", 2)
    texts = embedded(made.phases, PROMPTS, steps=STEPS, stages=made.stages)
    pipeline = made.phases[0].enter()
    first = Denoising(pipeline, GRID, CELLS)
    first.advance(alone(pipeline, texts[made.phases[0].branches[0].text_identity]))
    begun = from_pictures(pipeline, decode(pipeline, first.latents).images(), (2 * SIZE, SIZE), "lanczos", 8)
    second = stage.phases[0].enter()
    run = Denoising(second, stage.grid, CELLS, Start(latents=begun, stage=1, of_steps=STEPS))
    run.advance(alone(second, texts[stage.phases[0].branches[0].text_identity]))
    expected = decode(second, run.latents).images()
    assert expected.shape == (2, SIZE, 2 * SIZE, 3)
    assert np.array_equal(np.stack(images(made)), expected)


@pytest.mark.parametrize("family", ["flux", "sd3"])
@pytest.mark.parametrize("place", [0, 1])
def test_a_model_that_diffusers_samples_is_refused_in_any_stage(root: Path, family: str, place: int) -> None:
    models = ["sd1", "sd1"]
    models[place] = family
    with pytest.raises(MaterialiseError, match=f"family {family}.*cannot begin from the picture of a stage before"):
        prepared(root, models[0], Stage(model=models[1], strength=0.5))


# diffusers 0.42 asks for torch's version, through a cache, while it is compiled.
@pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache`:UserWarning")
@pytest.mark.parametrize("fields", [
    {"quantization": "int8_weight_only"}, {"precision": "bf16"}, {"runtime": "compiled"}], ids=str)
def test_a_number_format_and_a_runtime_are_those_of_all_stages_and_stages_in_common_give_equal_bits(
        root: Path, fields: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    # Graphs are captured as for the compiler, and run as they are.
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    monkeypatch.setattr("harness.runtimes.compiling.shutil.which", lambda _: "c++")

    bench = Workbench.for_grid(GRID, device="cpu", root=root)
    common = Common(store=StageStore(), key=lambda number, prompt: "" if number else prompt)

    def made(strength: float, common: Common | None = None, **own: str) -> list[np.ndarray]:
        return images(bench.prepare(Candidate(name="c", model="sd1", stages=(Stage(strength=strength),), **own)), common)  # type: ignore[arg-type]

    first, counts = made(0.5, common, **fields), list[int]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Denoising, "advance", counting(counts))
        shared = made(0.75, common, **fields)
    assert counts == [3]
    assert equal(shared, made(0.75, **fields))
    assert not equal(shared, first)
    assert equal(first, made(0.5)) == ("runtime" in fields)


def counting(counts: list[int]) -> Any:
    advance = Denoising.advance

    def counted(run: Denoising, *args: Any, **options: Any) -> None:
        before = run.step
        advance(run, *args, **options)
        counts.append(run.step - before)

    return counted


def equal(one: Sequence[np.ndarray], other: Sequence[np.ndarray]) -> bool:
    return all(np.array_equal(*pair) for pair in zip(one, other, strict=True))
