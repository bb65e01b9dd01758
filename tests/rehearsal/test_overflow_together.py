"""A candidate of several models, with post-steps or with prompts that bring adapters, of which one part overflows in float16: all
of it runs in bfloat16, and nothing that was made in float16 is used."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from harness import Adapter, Candidate, Ensemble, Relay, Suite
from harness.declare import Stage, Upscale
from harness.records import Finished
from tests.fakes import tiny_grid
from tests.rehearsal.simulated_cuda import simulated
from tests.rehearsal.test_overflow import in_bf16, overflowing_at, ran, write_models
from tests.run.test_any_family import suite_of
from tests.weights.pipelines import theirs

PROMPTS = tiny_grid().prompts[:2]
_LAYER = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_models(tmp_path_factory.mktemp("together"))
    rows, columns = theirs("sd1").unet.get_submodule(_LAYER).weight.shape
    name = f"lora_unet_{_LAYER.replace('.', '_')}"
    random = torch.Generator().manual_seed(1)
    factors = {"lora_down.weight": (2, columns), "lora_up.weight": (rows, 2)}
    save_file({f"{name}.{factor}": torch.randn(shape, generator=random) for factor, shape in factors.items()},
              root / "style.safetensors")
    return root


@pytest.fixture(autouse=True)
def gpu() -> Iterator[None]:
    with simulated():
        yield


def suite(*candidates: Candidate, prompts: Any = PROMPTS) -> Suite:
    one = suite_of("sd1", prompts=prompts, guidance_scales=(3,))
    return replace(one, candidates=(Candidate(name="a", model="a"), *candidates), baseline="a", metrics=("exposure",))


OVERFLOWING = (
    Candidate(name="relay", model=Relay(models=("a", "hot"), at=(0.5,))),
    Candidate(name="ensemble", model=Ensemble(models=("a", "hot"), weights=(0.5, 0.5))),
    Candidate(name="first stage", model="hot", stages=(Stage(model="a", strength=0.5),)),
    Candidate(name="later stage", model="a", stages=(Stage(model="hot", strength=0.5),), post=(Upscale(factor=2),)))


def test_all_of_a_candidate_runs_in_bf16_where_one_of_its_models_overflows(root: Path, tmp_path: Path) -> None:
    asked = [replace(one, name=f"{one.name} in bf16", precision="bf16") for one in OVERFLOWING]
    declared = suite(*OVERFLOWING, *asked, prompts=PROMPTS[:1])
    run, done = ran(declared, root, tmp_path)
    assert all(isinstance(one, Finished) for one in done.values()), done
    assert {name: entry["identity"] for name, entry in in_bf16(run).items()} == {
        one.name: run.ledger.identity(f"{one.name} in bf16") for one in OVERFLOWING}
    for one in OVERFLOWING:  # the pictures of earlier stages and before the post-steps have the same keys too
        assert made_of(run, one.name) == made_of(run, f"{one.name} in bf16")
    again, done = ran(declared, root, tmp_path)
    assert {one.sampled for one in done.values() if isinstance(one, Finished)} == {0}
    assert in_bf16(again) == in_bf16(run)


def made_of(run: Any, name: str) -> list[tuple[Any, ...]]:
    """The hashes and keys of a candidate's images and of what they were made of; none is unusable."""
    samples = run.gallery.present(name)
    assert samples
    assert not any(run.ledger.defect(sample.key) for sample in samples)
    return [(sample.cell, sample.sha256, sorted((one.name, one.key, one.sha256) for one in run.ledger.made_of(sample.key)))
            for sample in samples]


def test_prompts_with_their_own_adapters_are_all_made_in_bf16_where_those_of_the_last_group_overflow(
        root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.executors.maker.sample", overflowing_at(PROMPTS[1].id))
    prompts = (PROMPTS[0], replace(PROMPTS[1], adapters=(Adapter(path="style.safetensors"),)))
    candidate = Candidate(name="x", model="warm")
    run, done = ran(suite(candidate, replace(candidate, name="asked", precision="bf16"), prompts=prompts), root, tmp_path)
    assert all(isinstance(one, Finished) for one in done.values()), done
    assert in_bf16(run)["x"]["identity"] == run.ledger.identity("asked")
    assert made_of(run, "x") == made_of(run, "asked")


@pytest.mark.parametrize("post_first", [True, False])
def test_raw_pictures_of_both_formats_are_never_mixed(post_first: bool, root: Path, tmp_path: Path,
                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    """A candidate that asks for fp16 keeps its overflow as a defect; one with post-steps that asks for nothing is in bf16."""
    monkeypatch.setattr("harness.executors.maker.sample", overflowing_at(PROMPTS[1].id))
    narrow = Candidate(name="narrow", model="warm", precision="fp16")
    larger = Candidate(name="x", model="warm", post=(Upscale(factor=2),))
    asked = replace(larger, name="asked", precision="bf16")
    order = (larger, narrow, asked) if post_first else (narrow, larger, asked)
    run, done = ran(suite(*order), root, tmp_path)
    assert all(isinstance(one, Finished) for one in done.values()), done
    assert set(in_bf16(run)) == {"x"}
    assert made_of(run, "x") == made_of(run, "asked")
    samples = run.gallery.present("narrow")
    raw = {one.sha256 for sample in run.gallery.present("x") for one in run.ledger.made_of(sample.key)}
    assert len({sample.sha256 for sample in samples} - raw) == len(samples) == 2
    assert [bool(run.ledger.defect(sample.key)) for sample in samples] == [False, True]
