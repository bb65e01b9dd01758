"""What is refused of a candidate's stages before torch is imported, and what may be declared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness import Adapter, Candidate, Inpaint, Prompt, Relay, Sampling, Suite, strength_sweep
from harness.check import problems
from harness.check.suite import remarks
from harness.declare import Budget, ColourTransfer, Stage
from harness.declare.effective_grid import picture_size, stage_grids
from harness.declare.stage_candidates import as_candidates, steps_run
from tests.fakes import tiny_grid, tiny_suite


def of(*stages: Stage, steps: int = 10, prompts: tuple[Prompt, ...] | None = None, syntax: str = "", **fields: object) -> Suite:
    values = {"model": "zoo:photo", **fields}
    grid = tiny_grid(steps=steps, **({"prompts": prompts} if prompts else {}), **({"syntax": syntax} if syntax else {}))
    return tiny_suite(candidates=(Candidate(name="x", stages=stages, **values),), baseline="x", grid=grid)  # type: ignore[arg-type]


def later(strength: float | None = 0.5, **fields: object) -> Stage:
    return Stage(**{"model": "zoo:anime", "strength": strength, **fields})  # type: ignore[arg-type]


def said(suite: Suite) -> list[str]:
    return [text for text in problems(suite, Path()) if "cannot be sampled by this version" not in text]


def sized(width: int, height: int = 64, **fields: object) -> Sampling:
    return Sampling(width=width, height=height, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(("strength", "steps", "run"), [
    (0.58, 50, 29), (0.29, 100, 29), (0.57, 100, 57), (0.3, 10, 3), (0.35, 10, 3), (1.0, 7, 7), (0.05, 10, 0)])
def test_the_steps_that_are_run_are_the_floor_of_strength_times_steps(strength: float, steps: int, run: int) -> None:
    assert steps_run(strength, steps) == run


NIGHT = "{prompt}, night"
REFUSED: tuple[tuple[Suite, tuple[str, ...], Suite], ...] = (
    (of(later(None)), ("stage 2", "strength=0.5"), of(later(0.5))),
    (of(later(0)), ("strength is 0.0", "above 0"), of(later(0.1))),
    (of(later(1.01)), ("strength is 1.01", "at most 1"), of(later(1))),
    (of(later(float("nan"))), ("strength is nan",), of(later(1))),
    (of(later(0.05)), ("strength 0.05", "10 steps", "at least 0.1"), of(later(0.1))),
    (of(later(0.3), steps=3), ("3 steps", "at least 0.334"), of(later(0.334), steps=3)),
    (of(later(0.5, sampling=Sampling(steps=1))), ("1 steps", "at least 1"), of(later(1, sampling=Sampling(steps=1)))),
    (of(later(through="latent")), ("'latent'", "'latents'"), of(later(through="latents"))),
    (of(later(resize="lanczoz")), ("'lanczoz'", "'lanczos'"), of(later(resize="lanczos"))),
    (of(later(colour="transfr")), ("'transfr'", "'transfer'"), of(later())),
    (of(later(before=(ColourTransfer("neon.png"),))), ("stage 2: before", "neon.png"), of(later())),
    (of(later(before=(ColourTransfer("first stage"),))), ("stage 2: before", "no stage comes before"),
     of(later(), later(0.3, before=(ColourTransfer("first stage"),)))),
    (of(later(colour="transfer"), later(0.3, through="latents")), ("stage 3", "colour='transfer'", "latents"),
     of(later(colour="transfer"), later(0.3, through="pixels"))),
    (of(later(through="latents", before=(ColourTransfer("neon.png"),))), ("through is 'latents'", "hands over no picture"),
     of(later(through="latents"))),
    (of(later(resize="latent", sampling=sized(128), before=(ColourTransfer("neon.png"),))), ("resize is 'latent'",),
     of(later(resize="latent", sampling=sized(128)))),
    (of(later(through="pixels", resize="latent", sampling=sized(128))), ("'latent'", "'pixels'", "give one"),
     of(later(resize="latent", sampling=sized(128)))),
    (of(later(resize="bicubic")), ("resize is 'bicubic'", "64 x 64", "remove it"),
     of(later(resize="bicubic", sampling=sized(128)))),
    (of(later(through="latents", sampling=sized(128))), ("128 x 64", "resize='latent'"),
     of(later(through="latents", resize="latent", sampling=sized(128)))),
    (of(later(sampling=sized(100))), ("stage 2: sampling: width is 100", "multiple of 8"), of(later(sampling=sized(104)))),
    (of(later(sampling=Sampling(sampler="eulr"))), ("stage 2", "'eulr'", "'euler'"),
     of(later(sampling=Sampling(sampler="euler")))),
    (of(later(sampling=Sampling(guidance=(1, 4)))), ("guidance is (1.0, 4.0)", "one scale"),
     of(later(sampling=Sampling(guidance=4)))),
    (of(later(sampling=Sampling())), ("stage 2: sampling sets nothing",), of(later())),
    (of(later(sampling=Sampling(guidance=1, guidance_rescale=0.7))), ("stage 2", "guidance_rescale", "guidance 1"),
     of(later(sampling=Sampling(guidance=1)))),
    (of(later(0.2, sampling=Sampling(guidance_start=0.1, guidance_end=0.4))), ("none of the 2 steps",),
     of(later(0.2, sampling=Sampling(guidance_end=0.5)))),
    (of(later(negative="day", sampling=Sampling(guidance=1))), ("stage 2: negative", "guidance 1"), of(later(negative="day"))),
    (of(later(prompt="{promt}, night")), ("'{promt}'", "'{prompt}'"), of(later(prompt=NIGHT))),
    (of(later(prompt=" ")), ("stage 2", "prompt is empty"), of(later(prompt="{prompt}"))),
    (of(later(prompt="{prompt} <lora:ink:1>"), syntax="a1111"), ("stage 2", "'ink'", "Stage(adapters=...)"),
     of(later(adapters=(Adapter(path="zoo:sketch"),)), syntax="a1111")),
    (of(later(prompt="{prompt}, (night:1.3)")), ("stage 2", "'(night:1.3)'"), of(later(prompt=NIGHT))),
    (of(later(prompt="{prompt} <lora:ink:1>")), ("stage 2", "'ink.safetensors'"),
     of(later(adapters=(Adapter(path="zoo:sketch"),)))),
    (of(later(0.2, prompt="[a:b:0.1] {prompt}"), syntax="a1111"), ("stage 2", "none of the 2 steps"),
     of(later(0.2, prompt="[a:b:0.5] {prompt}"), syntax="a1111")),
    (of(later(model="zoo:anme")), ("stage 2", "'zoo:anme'", "'zoo:anime'"), of(later())),
    (of(later(adapters=(Adapter(path="zoo:skech"),))), ("stage 2", "'zoo:skech'"),
     of(later(adapters=(Adapter(path="zoo:sketch"),)))),
    (of(Stage(strength=0.5), model=""), ("stage 1 has no model",), of(Stage(model="zoo:photo"), later(), model="")),
    (of(Stage(model="zoo:photo", strength=0.5), later(), model=""), ("stage 1: strength", "picture of noise", "remove it"),
     of(Stage(model="zoo:photo"), later(), model="")),
    (of(Stage(model="zoo:photo", prompt="{prompt}, day"), later(), model=""), ("stage 1: prompt", "prompts of the grid"),
     of(Stage(model="zoo:photo"), later(), model="")),
    (of(Stage(model="zoo:photo", sampling=Sampling(steps=4)), later(), model="", sampling=Sampling(steps=6)),
     ("sampling is given both", "first stage"), of(Stage(model="zoo:photo", sampling=Sampling(steps=4)), later(), model="")),
)


@pytest.mark.parametrize(("suite", "facts", "then"), REFUSED)
def test_a_stage_that_cannot_be_sampled_is_refused_with_a_way_out(suite: Suite, facts: tuple[str, ...], then: Suite) -> None:
    texts = said(suite)
    assert any(all(fact in text for fact in facts) for text in texts), texts
    assert said(then) == []


@pytest.mark.parametrize("stages", [
    (later(),), (later(0.1),), (later(1.0, model=""),), (later(prompt="{prompt}, night", negative="day"),),
    (later(sampling=sized(128, steps=4, guidance=2, sampler="euler")),), (later(0.6, resize="latent", sampling=sized(128)),),
    (later(through="pixels", sampling=sized(128), resize="bicubic"), later(0.3, model="zoo:photo"))])
def test_stages_that_can_be_sampled_have_no_problems(stages: tuple[Stage, ...]) -> None:
    assert said(of(*stages)) == []


def test_strengths_that_run_equal_steps_are_declared_alike() -> None:
    two = tuple(Candidate(name=f"s{n}", model="zoo:photo", stages=(later(n),)) for n in (0.3, 0.35, 0.4))
    texts = [text for text in said(tiny_suite(candidates=two, baseline="s0.3", grid=tiny_grid(steps=10))) if "duplicates" in text]
    assert [name for name in ("s0.3", "s0.35", "s0.4") if any(repr(name) in text for text in texts)] == ["s0.3", "s0.35"]


def test_a_stage_has_what_it_does_not_say_from_the_stage_before() -> None:
    suite = of(later(model="", sampling=Sampling(steps=4, guidance=2)), later(0.3, prompt="{prompt}, night", negative="day"),
               sampling=Sampling(sampler="euler"), adapters=(Adapter(path="zoo:sketch"),))
    first, second, third = as_candidates(suite.candidates[0])
    assert [one.model for one in (first, second, third)] == ["zoo:photo", "zoo:photo", "zoo:anime"]
    assert [len(one.adapters) for one in (first, second, third)] == [1, 0, 0]
    grids = stage_grids(suite, suite.candidates[0])
    assert [(grid.sampler, grid.steps, grid.guidance_scales) for grid in grids] == [
        ("euler", 10, (1.0, 4.0)), ("euler", 4, (2.0,)), ("euler", 4, (2.0,))]
    assert [(grid.prompts[0].text, grid.prompts[0].negative) for grid in grids[1:]] == [
        ("a red star", ""), ("a red star, night", "day")]


def test_the_negative_text_of_a_grid_stays_and_can_be_emptied() -> None:
    stages = (later(), later(negative=""))
    grid = tiny_grid(negative="blurry", steps=10)
    _, kept, emptied = stage_grids(grid, Candidate(name="x", model="zoo:photo", stages=stages))
    assert (kept.prompts[0].negative, emptied.prompts[0].negative) == ("blurry", "")


def test_the_finished_picture_has_the_size_of_the_last_stage() -> None:
    suite = of(later(sampling=sized(128)), later(0.3, sampling=sized(64, 128)))
    assert picture_size(suite, suite.candidates[0]) == (64, 128)
    assert picture_size(suite) == (64, 64)


@pytest.mark.parametrize(("steps", "strengths", "remarked"), [
    (10, (0, 0.4, 0.8), []), (10, (0, 0.1, 0.6), ["'strength=0' and 'strength=0.1'"]), (20, (0, 0.1, 0.6), [])])
def test_a_gap_that_cannot_be_refined_is_pointed_out(steps: int, strengths: tuple[float, ...], remarked: list[str]) -> None:
    prompts = tuple(Prompt(id=f"p{number}", text=f"a cat {number}", split="select" if number < 8 else "confirm")
                    for number in range(10))
    suite = replace(tiny_suite(), candidates=strength_sweep("zoo:photo", Stage(model="zoo:anime"), strengths),
                    baseline=f"strength={strengths[1]:g}", grid=tiny_grid(steps=steps, prompts=prompts),
                    budget=Budget(first_prompts=2, refine="strength", finest=0.05))
    texts = [text for text in remarks(suite) if "refine" in text]
    assert len(texts) == len(remarked)
    assert all(words in text for words, text in zip(remarked, texts, strict=True))
    assert not [text for text in problems(suite, Path()) if "refine" in text]


RELAY = Relay(models=("zoo:photo", "zoo:anime"), at=(0.8,))


@pytest.mark.parametrize(("suite", "facts", "then"), [
    (of(later(0.2, model=RELAY)), ("stage 2", "0.8 of 10 steps", "last 2", "number 1", "more strength"),
     of(later(0.3, model=RELAY))),
    (of(later(0.4, model=replace(RELAY, at=(0.5,)))), ("stage 2", "0.5 of 10 steps", "last 4", "number 1"),
     of(later(0.6, model=replace(RELAY, at=(0.5,))))),
    (of(later(0.5, model=replace(RELAY, at=(0.99,)))), ("stage 2", "number 2"), of(later(0.5, model=RELAY))),
    (of(model=replace(RELAY, at=(0.5,)), inpaint=Inpaint(picture="a", mask="b", strength=0.4)), ("last 4", "number 1"),
     of(model=replace(RELAY, at=(0.5,))))])
def test_a_relay_hands_over_at_shares_of_all_steps_though_only_the_last_are_run(
        suite: Suite, facts: tuple[str, ...], then: Suite) -> None:
    texts = [text for text in said(suite) if "hands over" in text]
    assert len(texts) == 1
    assert all(fact in texts[0] for fact in facts), texts
    assert not [text for text in said(then) if "hands over" in text]


def test_relays_of_a_stage_that_hand_over_at_the_same_steps_are_declared_alike() -> None:
    two = tuple(Candidate(name=f"at {at}", model="zoo:photo", stages=(later(0.5, model=replace(RELAY, at=(at,))),))
                for at in (0.75, 0.8, 0.9))
    texts = [text for text in said(tiny_suite(candidates=two, baseline="at 0.9", grid=tiny_grid(steps=10)))
             if "duplicates" in text]
    assert [name for name in ("at 0.75", "at 0.8", "at 0.9") if any(repr(name) in text for text in texts)] == [
        "at 0.75", "at 0.8"]


WORDED = Adapter(path="zoo:sketch-word")


GRAPHITE = (Prompt(id="a", text="a <graphite> cat"),)


def until(strength: float, *ends: float) -> Suite:
    """Candidates that differ in where an adapter of the second stage ends."""
    candidates = tuple(Candidate(name=f"until {end}", model="zoo:photo", stages=(
        later(strength, adapters=(Adapter(path="zoo:sketch", end=end),)),)) for end in ends)
    return tiny_suite(candidates=candidates, baseline=candidates[0].name, grid=tiny_grid(steps=10))


DOUBTFUL: tuple[tuple[Suite, tuple[str, ...], Suite], ...] = (
    (of(later(0.4, resize="latent", sampling=sized(128))), ("blurred", "'lanczos'"),
     of(later(0.5, resize="latent", sampling=sized(128)))),
    (of(later(prompt="night")), ("stage 2", "'night'", "{prompt}"), of(later(prompt=NIGHT))),
    (of(later(1)), ("stage 2", "strength 1", "hardly anything is left"), of(later(0.9))),
    (of(later(), later(1)), ("stage 3", "strength 1"), of(later(), later())),
    (of(later(), prompts=GRAPHITE, adapters=(WORDED,)), ("stage 2", "'<graphite>'", "'zoo:sketch-word'", "Stage(adapters=...)"),
     of(later(adapters=(WORDED,)), prompts=GRAPHITE, adapters=(WORDED,))),
    (of(later(prompt="night, {prompt}", adapters=(WORDED,)), later(), prompts=GRAPHITE), ("stage 3", "'<graphite>'"),
     of(later(adapters=(WORDED,)), later(adapters=(WORDED,)), prompts=GRAPHITE)),
    (until(0.3, 0.4, 0.6), ("'until 0.4' and 'until 0.6'", "the same steps"), until(1, 0.4, 0.6)),
    (until(0.3, 0.4, 0.6), ("the same steps", "further apart"), until(0.3, 0.3, 0.6)))


@pytest.mark.parametrize(("suite", "facts", "then"), DOUBTFUL)
def test_what_is_doubtful_about_a_stage_is_remarked_on(suite: Suite, facts: tuple[str, ...], then: Suite) -> None:
    assert said(suite) == []
    (text,) = [text for text in remarks(suite) if "strength 1 runs" not in text or "strength 1" in facts]
    assert all(fact in text for fact in facts)
    assert [text for text in remarks(then) if "strength 1 runs" not in text] == []


@pytest.mark.parametrize("suite", [
    of(later(), prompts=GRAPHITE, adapters=(Adapter(path="zoo:sketch"),)),
    of(later(prompt="night {prompt}"), prompts=(Prompt(id="a", text="a cat"),), adapters=(WORDED,))])
def test_other_adapters_of_a_first_stage_and_other_words_are_not(suite: Suite) -> None:
    assert remarks(suite) == []


def test_a_doubt_about_many_candidates_is_one_remark() -> None:
    sweep = strength_sweep("zoo:photo", Stage(model="zoo:anime", prompt="night"), (0.2, 0.4, 0.6))
    (text,) = remarks(tiny_suite(candidates=sweep, baseline=sweep[0].name, grid=tiny_grid(steps=10)))
    assert all(repr(candidate.name) in text for candidate in sweep)
