"""TensorRT: what is parsed, the order of refits, and what is thrown away. What needs a GPU is marked."""

from __future__ import annotations

import re
import sys
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from harness.runtimes import RUNTIMES, Graph, WeightsError
from harness.runtimes.graph import PREFIX
from harness.runtimes.graph_cache import Graphs
from harness.runtimes.tensor_rt import TensorRt, why_not
from harness.runtimes.tensor_rt_plan import BATCHES, TOKENS, TensorRtError, build_plan, parsed
from tests.runtimes.conftest import SIZE, distance, eager, inputs, small_unet
from tests.runtimes.fake_tensorrt import FakeTensorRt

ONE = "conv_out.bias"
RTX = "tensorrt_rtx_bindings"


def computed(weights: dict[str, torch.Tensor], given: dict[str, torch.Tensor]) -> torch.Tensor:
    output: torch.Tensor = torch.func.functional_call(small_unet(), weights, kwargs=given).sample
    return output


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeTensorRt:
    module = FakeTensorRt(computed)
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    monkeypatch.setenv("SWEETSPOT_CACHE", str(tmp_path))
    monkeypatch.setattr("harness.runtimes.tensor_rt.gpu", lambda device: "H200")
    monkeypatch.setattr("harness.runtimes.tensor_rt.stream", lambda device: 7)
    monkeypatch.setattr("harness.runtimes.tensor_rt.settled", lambda device: nullcontext())
    return module


def plans(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.plan"))


def test_there_and_back_each_candidate_has_its_own_weights_by_one_plan(fake: FakeTensorRt, graph: Graph) -> None:
    one, two, executor = small_unet(0), small_unet(1), TensorRt(graph, "cuda")
    for unet in (one, two, one):
        executor.refresh(unet.state_dict(), "any")
        assert distance(executor(inputs()), eager(unet, inputs())) < 1e-6
    assert fake.builds == 1
    assert fake.calls[:3] == ["build REFIT_INDIVIDUAL STRIP_PLAN", "deserialize", "refit"]
    assert fake.calls.count("refit") == 3
    assert "execute on 7" in fake.calls


def test_a_plan_without_weights_serves_the_next_process(fake: FakeTensorRt, graph: Graph, tmp_path: Path) -> None:
    TensorRt(graph, "cuda").refresh(small_unet(0).state_dict(), "a")
    later = TensorRt(graph, "cuda")
    later.refresh(small_unet(1).state_dict(), "b")
    assert fake.builds == 1
    assert len(plans(tmp_path)) == 1
    assert distance(later(inputs()), eager(small_unet(1), inputs())) < 1e-6


def test_the_plan_is_named_by_its_digest_and_runs_no_code_of_the_host(fake: FakeTensorRt, graph: Graph) -> None:
    built, later = TensorRt(graph, "cuda"), TensorRt(graph, "cuda")
    for executor in (built, later):
        executor.refresh(small_unet(0).state_dict(), "a")
        assert fake.opened.engine_host_code_allowed is False
    assert re.fullmatch("plan [0-9a-f]{16}", built.note)
    assert later.note == built.note


def test_another_version_or_gpu_has_a_plan_of_its_own(fake: FakeTensorRt, graph: Graph, tmp_path: Path,
                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    TensorRt(graph, "cuda").refresh(small_unet().state_dict(), "a")
    fake.__version__ = "11.5.0"
    TensorRt(graph, "cuda").refresh(small_unet().state_dict(), "a")
    monkeypatch.setattr("harness.runtimes.tensor_rt.gpu", lambda device: "L40S")
    TensorRt(graph, "cuda").refresh(small_unet().state_dict(), "a")
    assert fake.builds == len(plans(tmp_path)) == 3


@pytest.mark.parametrize("spoil", [lambda path: path.write_bytes(path.read_bytes()[:-1] + b"x"),
                                   lambda path: path.write_bytes(b"")])
def test_a_damaged_plan_is_built_again(spoil: Any, fake: FakeTensorRt, graph: Graph, tmp_path: Path) -> None:
    TensorRt(graph, "cuda").refresh(small_unet().state_dict(), "a")
    spoil(plans(tmp_path)[0])
    TensorRt(graph, "cuda").refresh(small_unet().state_dict(), "a")
    assert fake.builds == 2
    assert "plan refused" not in fake.calls


def test_a_plan_that_tensorrt_refuses_is_built_again(fake: FakeTensorRt, graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    TensorRt(graph, "cuda").refresh(small_unet().state_dict(), "a")
    monkeypatch.setattr("harness.runtimes.tensor_rt.read_kept", lambda path, name: b"plan of 10.9")
    executor = TensorRt(graph, "cuda")
    executor.refresh(small_unet(1).state_dict(), "b")
    assert "plan refused" in fake.calls
    assert fake.builds == 2
    assert distance(executor(inputs()), eager(small_unet(1), inputs())) < 1e-6


def test_an_engine_whose_refit_fails_is_thrown_away_and_built_again(fake: FakeTensorRt, graph: Graph) -> None:
    executor = TensorRt(graph, "cuda")
    executor.refresh(small_unet(0).state_dict(), "a")
    fake.refits = [False]
    executor.refresh(small_unet(1).state_dict(), "b")
    assert fake.builds == 2
    assert distance(executor(inputs()), eager(small_unet(1), inputs())) < 1e-6


def test_an_engine_that_was_just_built_and_is_not_refitted_is_refused_and_not_kept(fake: FakeTensorRt, graph: Graph,
                                                                                   tmp_path: Path) -> None:
    executor = TensorRt(graph, "cuda")
    fake.refits = [False]
    with pytest.raises(TensorRtError, match=f"did not refit its engine with the {len(graph.weights)} weights"):
        executor.refresh(small_unet().state_dict(), "a")
    assert executor.holds == ""
    assert plans(tmp_path) == []
    executor.refresh(small_unet().state_dict(), "a")
    assert executor.holds == "a"


@pytest.mark.parametrize(("change", "fact"), [
    (lambda fake: fake.missing.append(PREFIX + ONE), f"still lacks 1 of the weights: '{ONE}'"),
    (lambda fake: fake.extra.add("val_48"), "expects 1 of the weights: 'val_48'"),
    (lambda fake: fake.hidden.add(PREFIX + ONE), f"cannot be refitted with 1 of the weights: '{ONE}'")])
def test_an_engine_of_other_weights_than_the_graphs_is_refused_by_their_names(change: Any, fact: str, fake: FakeTensorRt,
                                                                              graph: Graph) -> None:
    change(fake)
    executor = TensorRt(graph, "cuda")
    with pytest.raises(TensorRtError, match=re.escape(fact)):
        executor.refresh(small_unet().state_dict(), "a")
    assert executor.holds == ""
    assert "refit" not in fake.calls


def test_a_bias_that_the_engine_dropped_is_refused_by_its_name(fake: FakeTensorRt, graph: Graph) -> None:
    executor = TensorRt(graph, "cuda")
    executor.refresh(small_unet().state_dict(), "a")
    fake.hidden.add(PREFIX + ONE)
    with pytest.raises(TensorRtError, match=re.escape(f"1 of the weights: '{ONE}'")):
        executor.refresh(small_unet().state_dict(), "b")
    assert executor.holds == ""


def test_weights_that_are_not_the_graphs_never_reach_tensorrt(fake: FakeTensorRt, graph: Graph) -> None:
    executor = TensorRt(graph, "cuda")
    executor.refresh(small_unet().state_dict(), "a")
    calls = list(fake.calls)
    weights = small_unet().state_dict()
    del weights[ONE]
    with pytest.raises(WeightsError, match=f"'{ONE}' is missing"):
        executor.refresh(weights, "b")
    assert executor.holds == ""
    assert fake.calls == calls


def test_more_images_than_a_plan_serves_are_computed_in_parts(fake: FakeTensorRt, graph: Graph) -> None:
    executor, many = TensorRt(graph, "cuda"), inputs(count=BATCHES[-1] + 3)
    executor.refresh(small_unet().state_dict(), "a")
    assert distance(executor(many), eager(small_unet(), many)) < 1e-5
    assert fake.calls.count("execute on 7") == 2
    assert [shape[0] for shape in fake.profile["sample"]] == list(BATCHES)
    assert [shape[:2] for shape in fake.profile["encoder_hidden_states"]] == list(zip(BATCHES, TOKENS, strict=True))


def test_a_longer_text_than_a_plan_serves_is_refused_with_its_length(fake: FakeTensorRt, graph: Graph) -> None:
    executor = TensorRt(graph, "cuda")
    executor.refresh(small_unet().state_dict(), "a")
    with pytest.raises(TensorRtError, match=rf"{TOKENS[-1] + 1} tokens.*{TOKENS[0]} to {TOKENS[-1]}"):
        executor(inputs(tokens=TOKENS[-1] + 1))


def test_a_machine_without_a_gpu_says_what_is_missing_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    for device in ("cpu", "cuda:0"):
        assert re.fullmatch("tensorrt needs an NVIDIA GPU and its driver; `import tensorrt` says .*tensorrt.*pip install.*",
                            why_not(device))


def test_bindings_that_do_not_import_are_refused_with_what_they_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tensorrt.py").write_text("raise OSError('libnvonnxparser.so.11: cannot open shared object file')")
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    assert "libnvonnxparser.so.11: cannot open" in RUNTIMES["tensorrt"].why_not("cuda")


@pytest.mark.parametrize(("device", "version", "fact"), [
    ("cpu", "11.4", "needs an NVIDIA GPU and its driver, and the device here is cpu"),
    ("cuda", "10.13.2", "10.13.2 is older than 11"), ("cuda:1", "11.4.0.106", "^$"), ("cuda", "12.0", "^$")])
def test_a_device_or_version_that_does_not_fit_is_refused(device: str, version: str, fact: str,
                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", SimpleNamespace(__version__=version))
    assert re.search(fact, why_not(device))


@pytest.fixture
def rtx() -> Any:
    pytest.importorskip(RTX, reason="tensorrt-rtx-cu13-bindings and -libs are not installed", exc_type=ImportError)
    return import_module(RTX)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_parser_takes_the_graph_with_weights_from_memory_and_can_refit_each(rtx: Any, graphs: Graphs, dtype: str) -> None:
    unet = small_unet().to(getattr(torch, dtype))
    made = parsed(rtx, rtx.Logger(rtx.Logger.ERROR), graphs.of(unet, dtype, SIZE), unet.state_dict())
    assert all(made.network.mark_weights_refittable(PREFIX + name) for name in unet.state_dict())
    assert not made.network.mark_weights_refittable(PREFIX + "nothing")
    assert {made.network.get_input(index).name for index in range(made.network.num_inputs)} == set(inputs())


def test_a_weight_that_the_parser_was_not_given_is_refused_by_its_name(rtx: Any, graph: Graph) -> None:
    weights = small_unet().state_dict()
    del weights[ONE]
    with pytest.raises(TensorRtError, match=f"{PREFIX}{ONE}"):
        parsed(rtx, rtx.Logger(rtx.Logger.ERROR), graph, weights)


@pytest.mark.parametrize("name", ["nothing", ONE])
def test_a_weight_that_is_unknown_or_of_another_size_is_refused_by_its_name(rtx: Any, graph: Graph, name: str) -> None:
    weights = small_unet().state_dict() | {name: torch.zeros(3)}
    with pytest.raises(TensorRtError, match=f"does not take 1 of the weights: '{name}'"):
        parsed(rtx, rtx.Logger(rtx.Logger.ERROR), graph, weights)


@pytest.mark.slow
def test_a_plan_with_its_weights_is_built_without_a_gpu(rtx: Any, graph: Graph) -> None:
    plan = build_plan(rtx, rtx.Logger(rtx.Logger.ERROR), graph, small_unet().state_dict(), refit=False)
    assert len(plan) > sum(tensor.numel() for tensor in small_unet().state_dict().values())


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_there_and_back_on_a_gpu_is_that_of_eager_each_time(graphs: Graphs, dtype: str, tmp_path: Path,
                                                            monkeypatch: pytest.MonkeyPatch) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device on this machine")
    if reason := why_not("cuda"):
        pytest.skip(reason)
    monkeypatch.setenv("SWEETSPOT_CACHE", str(tmp_path))
    first, second = small_unet(0).state_dict(), small_unet(1).state_dict()
    unet = small_unet().to("cuda", getattr(torch, dtype))
    given = {name: tensor.to("cuda", torch.float32 if name == "timestep" else getattr(torch, dtype))
             for name, tensor in inputs().items()}
    executor, outputs = TensorRt(graphs.of(unet, dtype, SIZE), "cuda"), []
    for alpha in (0.0, 0.5, 0.0):
        unet.load_state_dict({name: torch.lerp(tensor, second[name], alpha) for name, tensor in first.items()})
        executor.refresh(unet.state_dict(), str(alpha))
        outputs.append(executor(given).clone())
        assert distance(outputs[-1], eager(unet, given).float()) < (1e-4 if dtype == "float32" else 2e-2)
    assert torch.equal(outputs[0], outputs[2])
    assert not torch.equal(outputs[0], outputs[1])
