"""Knobs of sampling make the images that diffusers' own pipelines make with the same arguments, and nothing at their defaults."""

from typing import Any

import pytest
import torch

from harness import Grid, Prompt, Sampling
from harness.records import Cell
from harness.samplers import build_scheduler, guided_steps
from harness.sampling import Denoising, alone, encode, generators, initial_noise
from harness.sampling.denoise import called, guided_output
from harness.text import Treatment
from harness.weights import Pipeline, build_pipeline, open_model, unscaled
from tests.weights.pipelines import SAMPLED, folder_of, reread
from tests.weights.pipelines import theirs as a_pipeline

PROMPTS = (Prompt(id="one", text="a dog!"), Prompt(id="two", text="fox", negative="bad hat"))
CELLS = tuple(Cell(prompt=prompt.id, seed=1, guidance=4.0) for prompt in PROMPTS)
STEPS = 5


@pytest.fixture(scope="module")
def pipes(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """family -> (diffusers' pipeline, ours of the same folder)"""
    made = {}

    def pair(family: str) -> tuple[Any, Pipeline]:
        if family not in made:
            folder = folder_of(a_pipeline(family), tmp_path_factory.mktemp(family))
            made[family] = reread(folder), build_pipeline(open_model(folder))
        return made[family]

    return pair


def grid(sampler: str = "ddim", **knobs: Any) -> Grid:
    return Grid(prompts=PROMPTS, seeds=(1,), guidance_scales=(4.0,), sampler=sampler, steps=STEPS, width=24, height=16,
                batch_size=2, sampling=Sampling(**knobs) if knobs else None)


def ours(pipeline: Pipeline, asked: Grid) -> torch.Tensor:
    """Pixels of the two cells."""
    clip_skip = None if asked.sampling is None else asked.sampling.clip_skip
    run = Denoising(pipeline, asked, CELLS)
    run.advance(alone(pipeline, encode(pipeline, PROMPTS, Treatment(clip_skip=clip_skip))))
    return pixels(pipeline, run.latents)


def pixels(pipeline: Pipeline, latents: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return (pipeline.vae.decode(unscaled(pipeline, latents)).sample / 2 + 0.5).clamp(0, 1)


def is_theirs(made: torch.Tensor, expected: torch.Tensor, without: torch.Tensor) -> bool:
    """Whether images are the expected ones, by the size of what the knob does: nets of random weights magnify last bits."""
    return float((made - expected).abs().max()) < 0.05 * float((expected - without).abs().max())


def theirs(pipe: Any, pipeline: Pipeline, asked: Grid, **options: Any) -> torch.Tensor:
    """diffusers' pipeline from the same noise, with generators that go on where ours do."""
    drawing = generators(CELLS)
    noise = initial_noise(pipeline, asked, CELLS, drawing)
    pipe.scheduler = build_scheduler(asked.sampler, pipeline.scheduler_config)
    texts = embedded(pipe, options.pop("clip_skip")) if "clip_skip" in options else {
        "prompt": [p.text for p in PROMPTS], "negative_prompt": [p.negative for p in PROMPTS]}
    made: torch.Tensor = pipe(**texts, latents=noise, guidance_scale=4.0, num_inference_steps=STEPS, width=24, height=16,
                              output_type="pt", generator=drawing, **options).images
    return made


def embedded(pipe: Any, clip_skip: int) -> dict[str, torch.Tensor]:
    """The texts as diffusers embeds prompts. Its pipelines skip no layer of negative texts, where A1111 and ComfyUI do."""
    # diffusers 0.42 looks for the layers where transformers 5 no longer has them.
    vars(pipe.text_encoder).setdefault("text_model", pipe.text_encoder)
    made: dict[str, torch.Tensor] = {}
    for role, texts in (("", [p.text for p in PROMPTS]), ("negative_", [p.negative for p in PROMPTS])):
        several = {} if "text_encoder_2" in pipe.components else {"num_images_per_prompt": 1}
        parts = [pipe.encode_prompt(text, device="cpu", do_classifier_free_guidance=False, clip_skip=clip_skip, **several)
                 for text in texts]
        made[f"{role}prompt_embeds"] = torch.cat([part[0] for part in parts])
        if not several:
            made[f"{role}pooled_prompt_embeds"] = torch.cat([part[2] for part in parts])
    return made


@pytest.mark.parametrize(("knobs", "options"), [
    ({"guidance_rescale": 0.7}, {"guidance_rescale": 0.7}),
    ({"clip_skip": 2}, {"clip_skip": 1}),
    ({"clip_skip": 2, "guidance_rescale": 0.3}, {"clip_skip": 1, "guidance_rescale": 0.3}),
    ({"eta": 0.6}, {"eta": 0.6})], ids=str)
@pytest.mark.parametrize("family", SAMPLED)
def test_a_knob_does_what_the_argument_of_diffusers_does(pipes: Any, family: str, knobs: dict[str, Any], options: dict[str, Any],
                                                         ) -> None:
    pipe, pipeline = pipes(family)
    assert is_theirs(ours(pipeline, grid(**knobs)), theirs(pipe, pipeline, grid(), **options), theirs(pipe, pipeline, grid()))


@pytest.mark.parametrize("knobs", [{"clip_skip": 1}, {"guidance_rescale": 0.0}, {"guidance_start": 0.0, "guidance_end": 1.0},
                                   {"schedule": ""}], ids=str)
def test_a_knob_at_its_default_changes_no_bit(pipes: Any, knobs: dict[str, Any]) -> None:
    _, pipeline = pipes("sdxl")
    assert torch.equal(ours(pipeline, grid(**knobs)), ours(pipeline, grid()))


@pytest.mark.parametrize(("start", "end", "guided"), [(0.0, 1.0, range(5)), (0.2, 0.8, range(1, 4)), (0.0, 0.5, range(3)),
                                                      (0.3, 1.0, range(2, 5)), (0.21, 0.39, range(2, 2))])
def test_guidance_acts_in_the_steps_whose_share_lies_within(start: float, end: float, guided: range) -> None:
    assert list(guided_steps(Sampling(guidance_start=start, guidance_end=end), 5)) == list(guided)


def test_outside_of_its_interval_guidance_is_1_and_the_negative_prompt_is_not_computed(pipes: Any) -> None:
    pipe, pipeline = pipes("sd1")

    class Interval(type(pipe)):  # type: ignore[misc]
        """Guidance of 1 outside of steps 1 to 3, with both halves computed."""

        step, do_classifier_free_guidance = 0, True

        @property
        def guidance_scale(self) -> float:
            return 4.0 if 1 <= self.step < 4 else 1.0

    def next_step(pipe: Any, step: int, *_: Any) -> dict[str, Any]:
        pipe.step = step + 1
        return {}

    sizes: list[int] = []
    hook = pipeline.unet.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
    made = ours(pipeline, grid(guidance_start=0.2, guidance_end=0.8))
    hook.remove()
    plain, pipe.__class__ = type(pipe), Interval
    try:
        expected = theirs(pipe, pipeline, grid(), callback_on_step_end=next_step)
    finally:
        pipe.__class__ = plain
    torch.testing.assert_close(made, expected, atol=2e-4, rtol=0)
    assert sizes == [2, 4, 4, 4, 2]


def test_rescaled_guidance_has_the_spread_of_the_positive_half() -> None:
    output = torch.randn((4, 4, 8, 8), generator=torch.Generator().manual_seed(2))
    full = guided_output(output, torch.full((2, 1, 1, 1), 7.0), 1.0)
    assert full.std((1, 2, 3)).tolist() == pytest.approx(output[2:].std((1, 2, 3)).tolist(), rel=1e-5)


@pytest.mark.parametrize("sampler", ["heun", "dpmpp_sde", "plms"])
def test_a_run_that_stops_between_steps_goes_on_as_if_it_had_not(pipes: Any, sampler: str) -> None:
    _, pipeline = pipes("sd1")
    text = encode(pipeline, PROMPTS)
    whole, parts = (Denoising(pipeline, grid(sampler), CELLS) for _ in range(2))
    whole.advance(alone(pipeline, text))
    for stop in (1, 3, 5):
        parts.advance(alone(pipeline, text), stop)
        assert parts.step == stop
    assert torch.equal(whole.latents, parts.latents)


def test_steps_are_timed_whole_however_often_the_denoiser_runs(pipes: Any) -> None:
    from contextlib import contextmanager

    _, pipeline = pipes("sd1")
    entered: list[int] = []

    @contextmanager
    def around() -> Any:
        entered.append(1)
        yield

    run = Denoising(pipeline, grid("heun"), CELLS)
    run.advance(alone(pipeline, encode(pipeline, PROMPTS)), around=around)
    assert len(entered) == STEPS


@pytest.mark.parametrize("schedule", ["karras", "beta"])
def test_a_schedule_makes_other_images(pipes: Any, schedule: str) -> None:
    _, pipeline = pipes("sd1")
    assert not torch.allclose(ours(pipeline, grid("euler", schedule=schedule)), ours(pipeline, grid("euler")), atol=2e-3)


@pytest.mark.parametrize(("sampler", "knobs", "scheduler"), [
    ("flow_euler", {"shift": 1.5}, "FlowMatchEulerDiscreteScheduler"), ("flow_heun", {}, "FlowMatchHeunDiscreteScheduler"),
    ("flow_heun", {"shift": 1.5}, "FlowMatchHeunDiscreteScheduler")])
def test_flow_models_take_a_shift_and_heun(pipes: Any, sampler: str, knobs: dict[str, Any], scheduler: str) -> None:
    import diffusers

    pipe, pipeline = pipes("sd3")
    asked = grid(sampler, **knobs)
    made = pixels(pipeline, called(pipeline, asked, CELLS, encode(pipeline, PROMPTS)))
    images = []
    for other in (getattr(diffusers, scheduler)(shift=knobs.get("shift", 3.0)),
                  diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)):
        pipe.scheduler = other
        images.append(pipe(prompt=[p.text for p in PROMPTS], negative_prompt=[p.negative for p in PROMPTS], guidance_scale=4.0,
                           latents=initial_noise(pipeline, asked, CELLS), num_inference_steps=STEPS, width=24, height=16,
                           output_type="pt").images)
    assert is_theirs(made, *images)


def test_the_shift_of_flux_takes_the_place_of_the_one_by_size(pipes: Any) -> None:
    _, pipeline = pipes("flux")
    scheduler = build_scheduler("flow_euler", pipeline.scheduler_config, shift=3.0)
    scheduler.set_timesteps(sigmas=[1.0, 0.5], mu=0.9)
    assert scheduler.sigmas.tolist() == pytest.approx([1.0, 0.75, 0.0])


def test_a_clip_skip_beyond_the_layers_is_refused_with_their_number(pipes: Any) -> None:
    _, pipeline = pipes("sd1")
    with pytest.raises(ValueError, match="clip_skip is 9; expected 1 to 3 for text_encoder"):
        encode(pipeline, PROMPTS, Treatment(clip_skip=9))
