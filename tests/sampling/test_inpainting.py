"""Inpainting by U-Nets that read a mask and by those that do not, against diffusers' own pipeline at the same noise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

from harness import Candidate, Grid, Inpaint, Relay
from harness.declare import Control, Prompt, Stage
from harness.declare.effective_grid import run_grid
from harness.declare.mask_file import read_mask
from harness.declare.picture_file import read_picture
from harness.materialise import MaterialiseError, Prepared, Workbench
from harness.materialise.shape_model import shape_model
from harness.records import Cell
from harness.run.memory_plan import Footprint
from harness.samplers import SAMPLERS, build_scheduler
from harness.sampling import Denoising, embedded, entered, generators
from harness.sampling.hand_over import from_pictures
from tests.control.nets import of_unet
from tests.fakes import tiny_grid
from tests.sampling.test_stages import images
from tests.weights.pipelines import folder_of, theirs
from tests.weights.tiny_families import unet_config

SIZE = 32
KINDS = ("sd1", "sd1-inpainting", "sdxl", "sdxl-inpainting")
PROMPTS = tuple(Prompt(id=name, text=text, negative="x", pictures={"photo": f"{name}.png", "hole": f"{name}-mask.png"})
                for name, text in (("a", "a cat"), ("b", "a dog")))
CELLS = tuple(Cell(prompt=prompt.id, seed=1, guidance=3.0) for prompt in PROMPTS)


def of_kind(kind: str) -> Any:
    pipe = theirs(kind.removesuffix("-inpainting"))
    if kind.endswith("-inpainting"):
        with torch.random.fork_rng():
            torch.manual_seed(8)
            extra = {"projection_class_embeddings_input_dim": 46} if kind.startswith("sdxl") else {}
            unet = diffusers.UNet2DConditionModel(**unet_config(kind.removesuffix("-inpainting"), in_channels=9, **extra)).eval()
            for parameter in unet.requires_grad_(False).parameters():
                parameter.copy_(torch.randn_like(parameter) * 0.3)
        pipe.register_modules(unet=unet)
    return pipe


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("inpainted")
    for kind in KINDS:
        folder_of(of_kind(kind), root / kind)
    folder_of(theirs("flux"), root / "flux")
    of_unet(theirs("sd1").unet).save_pretrained(root / "net")
    random = np.random.default_rng(0)
    for name, columns in (("a", slice(0, 15)), ("b", slice(11, 32))):
        Image.fromarray(random.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)).save(root / f"{name}.png")
        mask = np.zeros((SIZE, SIZE), dtype=np.uint8)
        mask[5:20, columns] = 255
        Image.fromarray(mask).save(root / f"{name}-mask.png")
    return root


def candidate(model: Any, strength: float = 1.0, **changes: Any) -> Candidate:
    inpaint = Inpaint(picture="photo", mask="hole", strength=strength)
    return Candidate(**{"name": "c", "model": model, "inpaint": inpaint, **changes})


def grid_of_steps(steps: int, sampler: str = "ddim", **changes: Any) -> Grid:
    return tiny_grid(prompts=PROMPTS, steps=steps, sampler=sampler, width=SIZE, height=SIZE, **changes)


def prepared(root: Path, asked: Candidate, grid: Grid) -> Prepared:
    return Workbench.for_grid(grid, device="cpu", root=root).prepare(asked)


def run(made: Prepared, grid: Grid, cells: tuple[Cell, ...] = CELLS) -> torch.Tensor:
    denoising = Denoising(made.pipeline, grid, cells)
    for phase, stop in zip(made.phases, [*(later.first for later in made.phases[1:]), grid.steps], strict=True):
        denoising.advance(entered(phase, embedded([phase], PROMPTS)), stop)
    return denoising.latents


def latents(root: Path, asked: Candidate, steps: int, sampler: str = "ddim", cells: tuple[Cell, ...] = CELLS) -> torch.Tensor:
    grid = grid_of_steps(steps, sampler)
    return run(prepared(root, asked, grid), run_grid(grid, asked), cells)


def by_diffusers(root: Path, kind: str, strength: float, steps: int, sampler: str,
                 monkeypatch: pytest.MonkeyPatch) -> torch.Tensor:
    from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

    made = prepared(root, candidate(kind), grid_of_steps(steps))
    live = made.pipeline
    (state,) = embedded(made.phases, PROMPTS).values()
    scheduler = build_scheduler(sampler, live.scheduler_config)
    set_timesteps = scheduler.set_timesteps
    monkeypatch.setattr(scheduler, "set_timesteps", lambda steps, device=None: set_timesteps(steps))
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda posterior, generator=None: posterior.mean)
    parts: dict[str, Any] = {"vae": live.vae, "unet": live.unet, "text_encoder": live.text_encoder, "tokenizer": live.tokenizer,
                             "scheduler": scheduler}
    call: dict[str, Any] = {}
    if kind.startswith("sdxl"):
        pipe: Any = diffusers.StableDiffusionXLInpaintPipeline(**parts, text_encoder_2=live.encoders[1].module,
                                                               tokenizer_2=live.encoders[1].tokenizer, add_watermarker=False)
        call = {"pooled_prompt_embeds": torch.stack([one.pooled for one in state.positive.values()]),
                "negative_pooled_prompt_embeds": torch.stack([one.pooled for one in state.negative.values()] * 2)}
    else:
        pipe = diffusers.StableDiffusionInpaintPipeline(**parts, safety_checker=None, feature_extractor=None,
                                                        requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    expected: torch.Tensor = pipe(
        prompt_embeds=torch.stack([one.states for one in state.positive.values()]),
        negative_prompt_embeds=torch.stack([one.states for one in state.negative.values()] * 2), guidance_scale=3.0,
        image=[Image.open(root / prompt.pictures["photo"]) for prompt in PROMPTS],
        mask_image=[Image.open(root / prompt.pictures["hole"]) for prompt in PROMPTS], strength=strength, height=SIZE, width=SIZE,
        num_inference_steps=steps, generator=generators(CELLS), output_type="latent", **call).images
    return expected


@pytest.mark.parametrize("case", [
    *((kind, strength, 5, "ddim") for kind in KINDS for strength in (1.0, 0.6)),
    *((kind, strength, 6, sampler) for kind in KINDS[:2] for sampler in ("euler", "euler_a", "dpmpp_2m", "heun")
      for strength in (1.0, 0.5))])
def test_an_inpainting_is_that_of_diffusers_with_the_mean_of_the_posterior(
        case: tuple[str, float, int, str], root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind, strength, steps, sampler = case
    expected = by_diffusers(root, kind, strength, steps, sampler, monkeypatch)
    ours = latents(root, candidate(kind, strength), steps, sampler)
    assert float((ours - expected).abs().max() / expected.abs().max()) <= 1e-4


@pytest.mark.parametrize("sampler", sorted(name for name, row in SAMPLERS.items() if not row.flow))
def test_every_sampler_ends_with_the_picture_outside_of_the_mask(sampler: str, root: Path) -> None:
    grid = grid_of_steps(4, sampler)
    asked = candidate("sd1", 0.75)
    made = prepared(root, asked, grid)
    ours = run(made, run_grid(grid, asked))
    for place, prompt in enumerate(PROMPTS):
        picture = read_picture(root / prompt.pictures["photo"])
        mask = torch.from_numpy(read_mask(root / prompt.pictures["hole"])[::2, ::2].copy())
        own = from_pictures(made.pipeline, picture[None], (SIZE, SIZE), "nearest", 1)[0]
        assert torch.equal(ours[place][:, ~mask], own[:, ~mask])
        assert (ours[place][:, mask] - own[:, mask]).abs().min() > 0


@pytest.mark.parametrize("kind", KINDS[:2])
def test_each_picture_of_a_batch_has_its_own_mask_and_is_the_same_alone(kind: str, root: Path) -> None:
    both, swapped = (latents(root, candidate(kind, 0.6), 5, "euler_a", cells) for cells in (CELLS, CELLS[::-1]))
    torch.testing.assert_close(both, swapped.flip(0), rtol=1e-4, atol=1e-4)
    for place, cell in enumerate(CELLS):
        alone = latents(root, candidate(kind, 0.6), 5, "euler_a", (cell,))
        torch.testing.assert_close(both[place:place + 1], alone, rtol=1e-4, atol=1e-4)
    assert torch.equal(both, latents(root, candidate(kind, 0.6), 5, "euler_a"))


def test_a_relay_of_inpainting_models_samples_and_one_with_a_plain_model_is_refused(root: Path) -> None:
    same = Relay(models=("sd1-inpainting", "sd1-inpainting"), at=(0.5,))
    alone = latents(root, candidate("sd1-inpainting"), 4)
    assert torch.equal(latents(root, candidate(same), 4), alone)
    with pytest.raises(MaterialiseError, match="9 channels in"):
        prepared(root, candidate(Relay(models=("sd1-inpainting", "sd1"), at=(0.5,))), grid_of_steps(4))


@pytest.mark.parametrize(("asked", "words"), [
    (Candidate(name="c", model="sd1-inpainting"), r"'sd1-inpainting' is an inpainting model.*give Candidate\(inpaint=Inpaint"),
    (candidate("sd1-inpainting", stages=(Stage(strength=0.5),)), "stage 2.*is an inpainting model"),
    (candidate("sd1-inpainting", controls=(Control(path="net", picture="photo"),)), "controls beside it are not supported yet"),
    (candidate("flux"), "not for models of the family flux"),
    (candidate("sd1", inpaint=Inpaint(picture="photo", mask="dot")), "'dot' of prompt 'a', 'dot.png', is white at none"),
])
def test_what_cannot_be_inpainted_is_refused_before_the_first_image(asked: Candidate, words: str, root: Path) -> None:
    dot = np.zeros((SIZE, SIZE), dtype=np.uint8)
    dot[3, 3] = 255
    Image.fromarray(dot).save(root / "dot.png")
    prompts = tuple(replace(prompt, pictures={**prompt.pictures, "dot": "dot.png"}) for prompt in PROMPTS)
    bench = Workbench.for_grid(replace(grid_of_steps(4), prompts=prompts), device="cpu", root=root)
    with pytest.raises(MaterialiseError, match=words):
        bench.inspect(asked)


def test_a_later_stage_refines_an_inpainted_picture_with_a_plain_model(root: Path) -> None:
    made = prepared(root, candidate("sd1-inpainting", 0.5, stages=(Stage(model="sd1", strength=0.5),)), grid_of_steps(4))
    assert [stage.phases[0].enter().inpaint for stage in made.stages] == [None]
    assert made.pipeline.inpaint is not None


def test_the_identity_has_the_strength_and_is_not_that_of_a_plain_candidate(root: Path) -> None:
    bench = Workbench.for_grid(grid_of_steps(4), device="cpu", root=root)
    asked = (candidate("sd1", inpaint=None), candidate("sd1"), candidate("sd1", 0.5))
    assert len({bench.weights(one).identity for one in asked}) == 3


@pytest.mark.parametrize("kind", KINDS[:2])
def test_a_plan_of_memory_counts_what_an_inpainting_reads(kind: str, root: Path) -> None:
    grid = grid_of_steps(4)
    bench = Workbench.for_grid(grid, device="cpu", root=root)
    need = Footprint(shape_model(candidate(kind), bench), grid, "cpu").need(2)
    plain = Footprint(shape_model(candidate("sd1", inpaint=None), bench), grid, "cpu").need(2)
    assert need.step > plain.step


@pytest.mark.parametrize("sampler", ["euler_a", "dpmpp_2m"])
def test_inpaintings_in_any_batches_and_order_give_equal_bits(sampler: str) -> None:
    drawn = tuple(Prompt(id=name, text=f"a {name}", pictures={"photo": f"zoo:picture-{name}-3", "hole": f"zoo:edges-{name}-3"})
                  for name in ("fish", "star"))
    grid = tiny_grid(prompts=drawn, steps=4, seeds=(1, 2), sampler=sampler)
    asked = candidate("zoo:photo", 0.5)
    made, of_run = prepared(Path(), asked, grid), run_grid(grid, asked)
    whole = images(made, of_run)
    some = tuple(reversed(tuple(whole)))[:3]
    again = images(made, of_run, cells=some)
    assert len(whole) == 8
    assert all(np.array_equal(whole[cell], again[cell]) for cell in some)
