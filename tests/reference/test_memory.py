"""The plan of memory counts image prompts: their weights, their encoders, the attention to pictures, and each file once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from harness import Candidate, Ensemble, Stage
from harness.declare import Reference
from harness.materialise import Workbench
from harness.materialise.shape_model import IMAGE_ENCODERS, IMAGE_PROMPTS, shape_key, shape_model
from harness.run.memory_plan import Footprint, Need, planned
from tests.fakes import tiny_suite
from tests.reference.files import plus, saved
from tests.reference.test_sampling import FACE, changed, grid, of

OTHER = changed(path="zoo:image-prompt-bin")


def bench_on(device: str) -> Workbench:
    return Workbench.for_grid(grid(), device=device, root=Path.cwd())


def need(candidate: Candidate, device: str = "cpu", **changes: Any) -> Need:
    return Footprint(shape_model(candidate, bench_on(device)), grid(**changes), device).need(2)


def sizes_of(candidate: Candidate) -> tuple[int, int]:
    """Bytes of keys and values, and of encoder and projection, of a candidate's one live reference."""
    (reference,) = bench_on("cpu").prepare(candidate).phases[0].enter().references
    return (sum(tensor.nbytes for tensor in (*reference.keys, *reference.values)),
            sum(parameter.nbytes for module in reference.modules() for parameter in module.parameters()))


def test_weights_and_encoder_are_those_of_the_live_reference_and_the_attention_to_pictures_takes_more() -> None:
    plain, shown, idle = need(of()), need(of(FACE)), need(of(changed(weight=0)))
    prompts, encoders = sizes_of(of(FACE))
    assert {part: size for part, size in shown.weights.items() if part not in plain.weights} == {
        IMAGE_PROMPTS: prompts, IMAGE_ENCODERS: encoders}
    assert shown.step - plain.step > prompts + encoders
    assert idle == plain


def test_on_a_gpu_the_encoder_lies_on_the_host_and_takes_room_while_it_reads_a_picture() -> None:
    on_host, on_gpu = need(of(FACE)), need(of(FACE), "cuda")
    assert on_gpu.weights[IMAGE_PROMPTS] == on_host.weights[IMAGE_PROMPTS]
    assert IMAGE_ENCODERS not in on_gpu.weights
    assert on_gpu.texts > sum(on_gpu.weights.values()) + on_host.weights[IMAGE_ENCODERS]


def test_the_projection_and_the_states_that_a_plus_prompt_reads_are_counted_from_headers(tmp_path: Path) -> None:
    layers = [tuple(pair[0].shape) for pair in _attention()]
    path = str(saved(plus(layers, width=96), tmp_path / "plus.safetensors"))
    candidate = of(changed(path=path))
    shown = need(candidate)
    assert (shown.weights[IMAGE_PROMPTS], shown.weights[IMAGE_ENCODERS]) == sizes_of(candidate)


def _attention() -> list[tuple[torch.Tensor, torch.Tensor]]:
    (reference,) = bench_on("cpu").prepare(of(FACE)).phases[0].enter().references
    return list(zip(reference.keys, reference.values, strict=True))


@pytest.mark.parametrize("references", [(changed(end=0.5), changed(start=0.5, weight=2)), (FACE, changed(picture="face"))])
def test_one_file_shown_twice_counts_once(references: tuple[Reference, ...]) -> None:
    assert need(of(*references[:1])).weights == need(of(*references)).weights


def test_two_files_with_one_encoder_count_the_encoder_once() -> None:
    one, two = need(of(FACE)).weights, need(of(FACE, OTHER)).weights
    assert two[IMAGE_PROMPTS] == 2 * one[IMAGE_PROMPTS]
    projection = two[IMAGE_ENCODERS] - one[IMAGE_ENCODERS]
    assert 0 < projection < one[IMAGE_ENCODERS] / 2


def test_models_and_stages_that_show_one_file_count_it_once_and_a_later_stage_brings_its_own() -> None:
    def weights(candidate: Candidate) -> dict[str, int]:
        suite = tiny_suite(candidates=(candidate,), baseline=candidate.name, grid=grid())
        (row,) = planned(suite, suite.candidates, bench_on("cpu"))
        assert not isinstance(row.footprint, str), row.footprint
        return {part: size for part, size in row.footprint.weights().items() if part.startswith("stage") or IMAGE_PROMPTS in part}

    own = need(of(FACE)).weights
    both = weights(of(FACE, model=Ensemble(models=("zoo:photo", "zoo:anime"), weights=(0.5, 0.5))))
    assert sum(size for part, size in both.items() if IMAGE_PROMPTS in part) == own[IMAGE_PROMPTS]
    assert weights(of(FACE, stages=(Stage(strength=0.5, references=(FACE,)),))) == {IMAGE_PROMPTS: own[IMAGE_PROMPTS]}
    later = weights(of(stages=(Stage(strength=0.5, references=(FACE,)),)))
    assert later == {f"stage 2 {part}": own[part] for part in (IMAGE_PROMPTS, IMAGE_ENCODERS)}


def test_what_tells_candidates_apart_is_the_file_the_encoder_and_whether_it_acts() -> None:
    bench = bench_on("cpu")
    keys = [shape_key(candidate, bench) for candidate in (of(), of(FACE), of(OTHER), of(changed(weight=0)))]
    assert keys[0] == keys[3]
    assert len(set(keys)) == 3
    assert shape_key(of(changed(weight=0.25)), bench) == keys[1]
