"""Single layers in a mode, on tiny pipelines: errors, bytes, and a denoiser that is afterwards as it was."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from harness import Candidate, Mixed, Prompt, Suite
from harness.quantize import QuantizeError
from harness.run.progress import Silent
from harness.sensitivity import PICTURES, PROBE, Gauging, Measured, Subject, SubjectError, chosen, judged, measured, subject_of
from harness.sensitivity.gauges import gauge_of, spread
from harness.sensitivity.measuring import _finite
from harness.sensitivity.swapping import in_mode, swapped, weight_paths
from tests.fakes import tiny_grid
from tests.weights.pipelines import folder_of, shallow, theirs

PROMPTS = (Prompt(id="star", text="a"), Prompt(id="car", text="b"), Prompt(id="cup", text="c", split="confirm"))
MODE = "int4_weight_only"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    for family in ("sd1", "flux"):
        folder_of(shallow() if family == "sd1" else theirs(family), root / family)
    return root


def suite_of(*candidates: Candidate, **changes: Any) -> Suite:
    grid = tiny_grid(**{"prompts": PROMPTS, "steps": 6, "sampler": "euler", "width": 32, "height": 32, "guidance_scales": (4,),
                        **changes})
    return Suite(name="tiny", candidates=candidates, baseline=candidates[0].name, grid=grid)


def subject(root: Path, model: str = "sd1", **changes: Any) -> Subject:
    sampler = "flow_euler" if model == "flux" else "euler"
    return subject_of(suite_of(Candidate(name="c", model=model, **changes), sampler=sampler), "c", "cpu", root)


@dataclass(frozen=True, kw_only=True)
class Run:
    """A measurement of all layers on one prompt, its file, and the denoiser's tensors and modules before it and after."""

    found: Measured
    file: Path
    tensors: tuple[dict[str, bytes], dict[str, bytes]]
    modules: tuple[dict[str, Any], dict[str, Any]]


@pytest.fixture(scope="module")
def run(root: Path) -> Callable[[str, str], Run]:
    """The measurement of a family's model in MODE by a kind of error, made once."""
    def made(family: str, kind: str) -> Run:
        of, file = subject(root, family), root / f"{family}-{kind}.json"
        live = of.prepared().pipeline.denoiser
        tensors, modules = bits_of(live), dict(live.named_modules())
        found = measured(of, [MODE], Gauging(kind=kind, prompts=("star",)), file, Silent())
        assert of.prepared().pipeline.denoiser is live
        return Run(found=found, file=file, tensors=(tensors, bits_of(live)), modules=(modules, dict(live.named_modules())))
    return cache(made)


def errors_of(of: Measured, mode: str = MODE) -> dict[str, float]:
    return {layer.name: layer.options[mode].error for layer in of.layers}


def bits_of(module: Any) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in module.state_dict().items()}


@pytest.mark.parametrize("family", ["sd1", "flux"])
@pytest.mark.parametrize("kind", [PROBE, PICTURES])
def test_every_layer_has_an_error_and_the_denoiser_is_as_it_was(run: Callable[[str, str], Run], family: str, kind: str) -> None:
    made = run(family, kind)
    errors, (before, after) = errors_of(made.found), made.modules
    assert list(errors) == list(weight_paths(after[""]))
    assert sum(error > 0 for error in errors.values()) > len(errors) / 2
    assert made.tensors[0] == made.tensors[1]
    assert before.keys() == after.keys()
    assert all(layer is before[path] for path, layer in after.items())


def test_the_error_of_a_layer_is_that_of_a_mixed_with_this_layer_alone(root: Path, run: Callable[[str, str], Run]) -> None:
    """The candidate that a suite would run makes the very pictures that the measurement makes."""
    of, name = subject(root), "mid_block.attentions.0.proj_in.weight"
    cells = of.cells(("star",), (1,))
    before = of.pictures(of.prepared(), cells)
    mixed = of.pictures(of.prepared(Mixed(default="fp32", keys={name: MODE})), cells)
    apart = (mixed[cells[0]].astype(float) - before[cells[0]]) / 255
    assert errors_of(run("sd1", PICTURES).found)[name] == pytest.approx(float((apart ** 2).mean()), rel=1e-12)


@pytest.mark.parametrize("kind", [PROBE, PICTURES])
def test_an_untouched_denoiser_has_no_error(root: Path, kind: str) -> None:
    of = subject(root)
    prepared = of.prepared()
    gauge = gauge_of(kind, of, prepared, ("star",))
    assert gauge.error() == 0
    denoiser = prepared.pipeline.denoiser
    quantized = in_mode(denoiser, MODE, of.computing)
    name = next(iter(quantized.layers))
    with swapped(denoiser, name, quantized.layers[name]):
        assert gauge.error() > 0
    assert gauge.error() == 0


def test_a_layer_is_put_back_when_its_measurement_fails(root: Path) -> None:
    denoiser = subject(root).prepared().pipeline.denoiser
    name, path = next(iter(weight_paths(denoiser).items()))
    original = denoiser.get_submodule(path)
    with pytest.raises(KeyboardInterrupt), swapped(denoiser, name, torch.nn.Identity()):
        raise KeyboardInterrupt
    assert denoiser.get_submodule(path) is original


def test_bytes_are_those_of_the_stored_weight_without_its_bias() -> None:
    """torchao has a scale and a zero point per row."""
    denoiser = torch.nn.ModuleDict({"inner": torch.nn.ModuleDict({"a": torch.nn.Linear(64, 8)})})
    sizes = {mode: in_mode(denoiser, mode, "float32").bytes["inner.a.weight"] for mode in ("fp32", "int8_weight_only", MODE)}
    assert sizes == {"fp32": 2048, "int8_weight_only": 512 + 8 * (4 + 1), MODE: 256 + 16 * 4}


def test_a_layer_that_a_mode_keeps_has_no_error_and_all_its_bytes(root: Path) -> None:
    found = measured(subject(root), ["fp8_scaled"], Gauging(kind=PROBE, prompts=("star",)), None, Silent())
    convolutions = [layer for layer in found.layers if ".conv" in layer.name]
    assert convolutions
    assert {layer.name for layer in convolutions} <= {*found.kept["fp8_scaled"]}
    assert all(layer.options["fp8_scaled"].error == 0 for layer in convolutions)
    assert all(layer.options["fp8_scaled"].bytes == 4 * layer.parameters == found.plain[layer.name] for layer in convolutions)


def test_the_same_command_gives_the_same_errors_and_a_stopped_one_goes_on(
        root: Path, tmp_path: Path, run: Callable[[str, str], Run]) -> None:
    class Stopping(Silent):
        done = 0

        def advance(self, units: int, doing: str) -> None:
            self.done += units
            if self.done == 3:
                raise KeyboardInterrupt

    out, gauging, of = tmp_path / "out.json", Gauging(kind=PROBE, prompts=("star",)), subject(root)
    with pytest.raises(KeyboardInterrupt):
        measured(of, [MODE], gauging, out, Stopping())
    stopped = json.loads(out.read_text())["errors"][MODE]["layers"]
    assert len(stopped) == 3
    name = next(iter(stopped))
    content = json.loads(out.read_text())
    content["errors"][MODE]["layers"][name] = 0.75  # a value of its own shows that it is taken over
    out.write_text(json.dumps(content))
    resumed = errors_of(measured(subject(root), [MODE], gauging, out, Silent()))
    assert resumed == errors_of(run("sd1", PROBE).found) | {name: 0.75}


@pytest.mark.parametrize("content", ["[", "[]", "{}", '{"format": 1}', '{"format": 1, "key": {}}', "[" * 100_000])
def test_a_file_of_something_else_is_refused_and_stays(root: Path, tmp_path: Path, content: str) -> None:
    out = tmp_path / "out.json"
    out.write_text(content)
    with pytest.raises(SubjectError, match=r"out\.json"):
        measured(subject(root), [MODE], Gauging(kind=PROBE, prompts=("star",)), out, Silent())
    assert out.read_text() == content


@pytest.mark.parametrize("value", ["NaN", "-1", '"0"', "true", "null", "1e999"])
def test_a_value_in_a_file_that_no_measurement_wrote_is_measured_again(
        root: Path, tmp_path: Path, run: Callable[[str, str], Run], value: str) -> None:
    made, out = run("sd1", PROBE), tmp_path / "out.json"
    errors, text = errors_of(made.found), made.file.read_text()
    name = max(errors, key=lambda of: errors[of])
    written = json.dumps(errors[name])
    assert text.count(f'"{name}": {written}') == 1
    out.write_text(text.replace(f'"{name}": {written}', f'"{name}": {value}'))
    assert errors_of(measured(subject(root), [MODE], Gauging(kind=PROBE, prompts=("star",)), out, Silent())) == errors


def test_other_prompts_are_another_measurement(root: Path, tmp_path: Path, run: Callable[[str, str], Run]) -> None:
    out = tmp_path / "out.json"
    shutil.copy(run("sd1", PROBE).file, out)
    with pytest.raises(SubjectError, match="another measurement"):
        measured(subject(root), [MODE], Gauging(kind=PROBE, prompts=("car",)), out, Silent())


def test_a_file_keeps_the_modes_of_earlier_commands(root: Path, tmp_path: Path, run: Callable[[str, str], Run]) -> None:
    out = tmp_path / "out.json"
    shutil.copy(run("sd1", PROBE).file, out)
    measured(subject(root), ["nf4", "int8_weight_only"], Gauging(kind=PROBE, prompts=("star",)), out, Silent())
    assert set(json.loads(out.read_text())["errors"]) == {"nf4", MODE, "int8_weight_only"}


def test_an_output_that_is_not_finite_is_an_error_that_names_the_layer() -> None:
    for error in (float("nan"), float("inf")):
        with pytest.raises(SubjectError, match=r"conv\.weight in nf4"):
            _finite(error, "conv.weight", "nf4")


def test_a_recipe_is_judged_as_the_candidate_that_it_is(root: Path) -> None:
    of = subject(root)
    found = measured(of, [MODE, "int8_weight_only"], Gauging(kind=PROBE, prompts=("star",)), None, Silent(), bits=7.0)
    assert 6 < chosen(found.layers, 7.0).bits <= 7
    results = judged(of, {MODE: MODE, "int8": "int8_weight_only"}, of.prompts("confirm"), Silent())
    assert list(results[MODE].decibels) == ["cup"]
    assert results["int8"].decibels["cup"] > results[MODE].decibels["cup"]


def test_equal_pictures_are_counted_and_have_the_highest_psnr(root: Path) -> None:
    from harness.sensitivity.judging import compared

    of = subject(root)
    pictures = of.pictures(of.prepared(), of.cells(("cup",), (1,)))
    result = compared(pictures, pictures)
    assert (result.equal, result.pictures) == (1, 1)
    assert result.decibels["cup"] == pytest.approx(83.0, abs=0.1)  # of one level in one of 32 x 32 x 3 values


def test_what_the_candidate_declares_beside_its_weights_does_not_matter(root: Path) -> None:
    plain, declared = subject(root), subject(root, quantization="nf4", runtime="compiled", savers=("attention_slicing",))
    assert plain.candidate == replace(declared.candidate, precision=plain.candidate.precision)


def test_a_mode_that_finds_no_layer_is_refused() -> None:
    with pytest.raises(QuantizeError, match="no linear or convolution layer"):
        in_mode(torch.nn.ModuleDict({"norm": torch.nn.LayerNorm(4)}), MODE, "float32")


@pytest.mark.parametrize(("count", "places"), [(10, [1, 3, 6, 8]), (4, [0, 1, 2, 3]), (2, [0, 1]), (1, [0])])
def test_steps_are_spread_over_the_run(count: int, places: list[int]) -> None:
    assert spread(count) == places
