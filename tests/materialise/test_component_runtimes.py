"""Candidates whose VAE and text encoders run in exported runtimes make the pictures that eager makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from harness import Adapter, Candidate, Grid, Merge, Prompt, Stage
from harness.declare.component_runtimes import denoiser_runtime, runtimes_beside, runtimes_in, spelled_runtime
from harness.materialise import MaterialiseError, Workbench
from harness.materialise.executing import in_the_weights
from harness.materialise.shape_model import shape_model
from harness.quantize import stored_bytes
from harness.records.costs import STORED
from harness.run.latency import stored_readings
from harness.runtimes import RUNTIMES, packages_of
from harness.sampling import batches, embedded, sample
from harness.sampling.hand_over import from_pictures
from harness.text import embed
from harness.weights import Pipeline
from tests.fakes import tiny_grid
from tests.materialise.test_exported_runtimes import decibels
from tests.weights.pipelines import folder_of, theirs

EXPORTED = tuple(name for name, row in RUNTIMES.items() if row.exported and row.executes("vae") and not row.why_not("cpu"))
GRID = tiny_grid(prompts=(Prompt(id="cat", text="an orange cat"), Prompt(id="car", text="a (blue:1.4) car", syntax="a1111")))
BESIDE = ("text_encoder", "vae")


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWEETSPOT_CACHE", str(tmp_path_factory.getbasetemp() / "zoo-cache"))
        return Workbench.for_grid(GRID, device="cpu", root=tmp_path_factory.mktemp("root"))


def merge(alpha: float, runtime: Any, **changes: Any) -> Candidate:
    """A merge of all parts, in one runtime beside the denoiser."""
    return Candidate(**{"name": f"alpha={alpha:g} {spelled_runtime(runtime)}", "runtime": runtime,
                        "model": Merge(a="zoo:photo", b="zoo:anime", alpha=alpha, parts="all"), **changes})


def pictures(bench: Workbench, candidate: Candidate, grid: Grid = GRID) -> np.ndarray:
    phases = bench.prepare(candidate).phases
    texts = embedded(phases, grid.prompts, steps=grid.steps)
    return np.concatenate([images for _, images in sample(phases, grid, batches(grid), texts)])


@pytest.mark.parametrize("runtime", EXPORTED)
def test_there_and_back_between_two_alphas_gives_eagers_pictures_each_time(runtime: str, bench: Workbench) -> None:
    beside = dict.fromkeys(BESIDE, runtime)
    there = [pictures(bench, merge(alpha, beside)) for alpha in (0, 0.5, 0)]
    for alpha, images in zip((0, 0.5), there, strict=False):
        assert decibels(images, pictures(bench, merge(alpha, "eager"))) >= 75
    assert np.array_equal(there[0], there[2])
    assert decibels(there[0], there[1]) < 60
    coverage = {row.component: row for row in bench.prepare(merge(0.5, beside)).coverage if row.stage == f"runtime {runtime}"}
    assert [*coverage] == [*BESIDE]
    assert f"runtime {runtime} on vae: 108 of 108 parameters given; " in coverage["vae"].notes[0]
    assert bench.runtime_seconds(merge(0.5, beside)).keys() >= {"refresh"}


def run(component: str, pipeline: Pipeline) -> torch.Tensor:
    """A call of a component as it is sampled with."""
    if component == "vae":
        return pipeline.vae.decode(torch.ones(1, 8, 8, 8)).sample  # type: ignore[no-any-return]
    return embed(pipeline.encoders[0], "a cat").states


@pytest.mark.parametrize("component", BESIDE)
def test_weights_that_changed_in_place_raise_until_they_are_entered(component: str, bench: Workbench) -> None:
    prepared = bench.prepare(merge(0.5, {component: EXPORTED[0]}))
    pipeline = prepared.pipeline
    live = pipeline.encoders[0].module if component == "text_encoder" else pipeline.vae.decoding.live_module.decoder
    next(live.parameters()).mul_(1)
    with pytest.raises(MaterialiseError, match="other weights"):
        run(component, pipeline)
    assert run(component, prepared.phases[0].enter()).isfinite().all()


@pytest.mark.parametrize("component", BESIDE)
def test_a_forward_that_is_not_eagers_is_refused_with_the_component(component: str, bench: Workbench,
                                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.materialise.live_graph.distance", lambda *_: float("nan"))
    with pytest.raises(MaterialiseError, match=rf"alpha=0.7.*' on {component}: one forward differs from eager by nan"):
        bench.prepare(merge(0.7, {component: EXPORTED[0]}))


def lora_of_texts(folder: Path) -> str:
    """A LoRA of one layer of the zoo's text encoder."""
    generator = torch.Generator().manual_seed(4)
    layer, width = "lora_te_text_model_encoder_layers_0_self_attn_q_proj", 96
    save_file({f"{layer}.lora_down.weight": torch.randn(4, width, generator=generator) * 0.3,
               f"{layer}.lora_up.weight": torch.randn(width, 4, generator=generator) * 0.3,
               f"{layer}.alpha": torch.tensor(4.0)}, folder / "texts.safetensors")
    return str(folder / "texts.safetensors")


def test_adapters_are_written_into_the_weights_of_the_components_that_are_graphs(bench: Workbench, tmp_path: Path) -> None:
    adapters = (Adapter(path=lora_of_texts(tmp_path)), Adapter(path="zoo:sketch"))
    runtime = {"text_encoder": EXPORTED[0]}
    expected, plain = (pictures(bench, merge(0.5, "eager", adapters=given)) for given in (adapters, adapters[1:]))
    of_graph = merge(0.5, runtime, adapters=adapters)
    assert decibels(expected, plain) < 60
    assert decibels(pictures(bench, of_graph), expected) >= 70
    assert {part for working in bench.working(of_graph) for part, _ in working.plan.factors} == {"unet"}  # type: ignore[union-attr]
    assert np.array_equal(pictures(bench, merge(0.5, "eager", adapters=adapters)), expected)


@pytest.mark.parametrize(("one", "other"), [
    ("onnxruntime", {"unet": "onnxruntime"}), ("eager", {"unet": "eager", "vae": "eager"}),
    ({"unet": "eager", "vae": "openvino"}, {"vae": "openvino"})])
def test_two_spellings_of_one_runtime_make_the_same_pictures_once(one: Any, other: Any, bench: Workbench) -> None:
    assert bench.weights(merge(0.5, one)).identity == bench.weights(merge(0.5, other)).identity
    assert bench.weights(merge(0.5, one)).identity != bench.weights(merge(0.5, {"text_encoder": "onnxruntime"})).identity


def test_which_adapters_are_written_into_the_weights_depends_on_the_component() -> None:
    graph = merge(0.5, {"vae": "onnxruntime"})
    assert [in_the_weights(graph, part) for part in ("vae", "unet", "text_encoder")] == [True, False, False]
    assert all(in_the_weights(merge(0.5, "onnxruntime"), part) for part in ("vae", "unet", "text_encoder"))


def test_what_a_stage_begins_from_is_encoded_by_the_graph_that_was_opened_before(bench: Workbench) -> None:
    stages = (Stage(strength=0.5, through="pixels"),)
    beside, eager = (bench.prepare(merge(0.5, runtime, stages=stages)) for runtime in ({"vae": EXPORTED[0]}, "eager"))
    first, later = (phases[0].enter().vae for phases in (beside.phases, beside.stages[0].phases))
    assert later.encoding.errors and later is first
    drawn = np.random.default_rng(1).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    latents = [from_pictures(prepared.stages[0].phases[0].enter(), drawn, (64, 64), "lanczos", 2) for prepared in (beside, eager)]
    assert torch.allclose(*latents, atol=1e-4)
    [*_, notes] = [row.notes for row in beside.coverage if row.component == "vae" and "runtime" in row.stage]
    assert len(notes) == 2


def test_the_copies_that_a_component_holds_are_recorded_and_planned(bench: Workbench) -> None:
    with_vae, eager = (bench.prepare(merge(0.5, runtime)) for runtime in ({"vae": "onnxruntime"}, "eager"))
    stored = [{reading.name: reading.value for reading in stored_readings(one)}[STORED] for one in (with_vae, eager)]
    live, vae = with_vae.pipeline.vae, with_vae.pipeline.vae.decoding.live_module
    used = (vae.decoder, vae.post_quant_conv, *((vae.encoder, vae.quant_conv) if live.encoding.opened else ()))
    assert stored[0] - stored[1] == stored_bytes(*used)
    planned = [sum(shape_model(merge(0.5, one), bench).copies.values()) for one in ({"vae": "onnxruntime"}, "eager")]
    assert planned[0] - planned[1] == stored_bytes(vae)


def test_pictures_and_texts_know_what_executed_each_component(bench: Workbench) -> None:
    runtimes: list[Any] = ["eager", *({part: EXPORTED[0]} for part in BESIDE), dict.fromkeys(BESIDE, EXPORTED[0])]
    assert len({bench.weights(merge(0.5, one)).identity for one in runtimes}) == len(runtimes)
    texts = [bench.prepare(merge(0.5, one)).phases[0].branches[0].text_identity for one in runtimes]
    assert len({*texts}) == 2
    assert texts[0] == texts[2]
    assert packages_of({"vae": "openvino", "unet": "onnxruntime"}) == tuple(dict.fromkeys(
        (*RUNTIMES["onnxruntime"].packages, *RUNTIMES["openvino"].packages)))


def test_a_runtime_by_component_is_read_part_by_part() -> None:
    runtime = {"vae": "openvino", "unet": "onnxruntime", "text_encoder": "eager"}
    assert denoiser_runtime(runtime) == "onnxruntime"
    assert denoiser_runtime({"vae": "openvino"}) == "eager"
    assert runtimes_beside(runtime) == {"vae": "openvino"}
    assert runtimes_in(runtime) == ("onnxruntime", "openvino", "eager")
    assert (denoiser_runtime("compiled"), runtimes_beside("compiled"), runtimes_in("compiled")) == ("compiled", {}, ("compiled",))


def test_a_component_that_the_model_does_not_have_is_refused(bench: Workbench) -> None:
    for name in ("text_encoder_2", "transformer"):
        with pytest.raises(MaterialiseError, match=f"names '{name}', which the model does not have"):
            bench.inspect(merge(0.5, {name: EXPORTED[0]}))


@pytest.mark.slow
@pytest.mark.parametrize(("family", "prediction"), [("sdxl", "epsilon"), ("sd2", "v_prediction")])
def test_other_families_make_eagers_pictures_with_every_part_in_a_graph(family: str, prediction: str, tmp_path: Path) -> None:
    folder_of(theirs(family, prediction_type=prediction), tmp_path / "model")
    grid = Grid(prompts=(Prompt(id="dog", text="a dog!", negative="bad hat"),), seeds=(1, 2), guidance_scales=(4.0,), steps=3,
                width=16, height=16)
    bench = Workbench.for_grid(grid, device="cpu", root=tmp_path)
    eager = Candidate(name="eager", model="model")
    components = bench.prepare(eager).pipeline.parts
    graph = Candidate(name="graph", model="model", runtime=dict.fromkeys(components, EXPORTED[0]))
    made, expected = (pictures(bench, one, grid) for one in (graph, eager))
    assert expected.std() > 10
    assert decibels(made, expected) >= 70
    assert len([row for row in bench.prepare(graph).coverage if row.stage == f"runtime {EXPORTED[0]}"]) == len(components)
