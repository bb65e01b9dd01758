"""Every exported runtime computes what eager does, with exactly the weights that it was given, and the same twice."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from harness.runtimes import RUNTIMES, Graph
from harness.runtimes.graph_cache import Graphs
from harness.runtimes.guard import HALF_TOLERANCE
from tests.runtimes.conftest import EXPORTED, SIZE, distance, eager, inputs, small_unet

NEAR = 2e-5


def test_a_forward_is_that_of_eager(executor: Any) -> None:
    unet = small_unet()
    executor.refresh(unet.state_dict(), "a")
    for given in (inputs(), inputs(count=1), inputs(count=5), inputs(tokens=9)):
        assert distance(executor(given), eager(unet, given)) < NEAR


def test_each_weight_arrives(executor: Any) -> None:
    unet, given = small_unet(), inputs()
    before = {name: tensor.clone() for name, tensor in unet.state_dict().items()}
    executor.refresh(unet.state_dict(), "plain")
    generator = torch.Generator().manual_seed(8)
    for tensor in unet.state_dict().values():
        # One number for all would vanish in the norm that follows.
        tensor.add_(0.5 * torch.randn(tensor.shape, generator=generator))
    executor.refresh(unet.state_dict(), "changed")
    expected = eager(unet, given)
    assert distance(executor(given), expected) < NEAR
    for name, tensor in unet.state_dict().items():  # had this one alone not arrived, that would have shown
        changed = tensor.clone()
        tensor.copy_(before[name])
        assert distance(eager(unet, given), expected) > 10 * NEAR or name.endswith("to_k.bias"), name
        tensor.copy_(changed)


@pytest.mark.parametrize("runtime", [name for name in EXPORTED if not RUNTIMES[name].copies], indirect=True)
def test_weights_that_change_in_place_reach_a_live_runtime_by_themselves(executor: Any) -> None:
    unet, given = small_unet(), inputs()
    executor.refresh(unet.state_dict(), "a")
    for tensor in unet.state_dict().values():
        tensor.mul_(1.1)
        assert distance(executor(given), eager(unet, given)) < NEAR


def test_there_and_back_gives_the_bits_of_the_first_time(executor: Any) -> None:
    one, two, given = small_unet(0), small_unet(1), inputs()
    outputs = []
    for unet in (one, two, one):
        executor.refresh(unet.state_dict(), "any")
        outputs.append(executor(given).clone())
        assert distance(outputs[-1], eager(unet, given)) < NEAR
    assert torch.equal(outputs[0], outputs[2])
    assert not torch.equal(outputs[0], outputs[1])


def test_repeats_give_the_same_bits(executor: Any) -> None:
    executor.refresh(small_unet().state_dict(), "a")
    assert torch.equal(executor(inputs(3)).clone(), executor(inputs(3)))


def test_an_image_does_not_depend_on_its_neighbours(executor: Any) -> None:
    executor.refresh(small_unet().state_dict(), "a")
    given = inputs(6)
    turned = {name: tensor.flip(0) if tensor.ndim else tensor for name, tensor in given.items()}
    assert torch.equal(executor(given).clone(), executor(turned).flip(0))


def test_threads_do_not_disturb_each_other(executor: Any) -> None:
    executor.refresh(small_unet().state_dict(), "a")
    batches = [inputs(count=1 + seed % 3, seed=seed) for seed in range(12)]
    alone = [executor(given).clone() for given in batches]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(executor, batches))
    assert all(torch.equal(one, other) for one, other in zip(alone, together, strict=True))


class OnCuda:
    """A session as CUDA's package gives it, which puts some operators on the CPU."""

    def __init__(self, operators: list[str], options: Any) -> None:
        self.operators, self.options = operators, options

    def get_providers(self) -> list[str]:
        return ["CUDAExecutionProvider", "CPUExecutionProvider"]

    def get_provider_graph_assignment_info(self) -> list[Any]:
        # Without the option there is no such information.
        assert self.options.get_session_config_entry("session.record_ep_graph_assignment_info") == "1"
        parts = [("CUDAExecutionProvider", "Conv"), *(("CPUExecutionProvider", name) for name in self.operators)]
        return [SimpleNamespace(ep_name=provider, get_nodes=lambda name=name: [SimpleNamespace(op_type=name)])
                for provider, name in parts]


@pytest.mark.parametrize("runtime", ["onnxruntime", "onnxruntime_live"], indirect=True)
@pytest.mark.parametrize(("operators", "refused"), [(["Shape", "Concat"], ""), (["Shape", "Softmax", "Conv"], "Conv, Softmax")])
def test_what_a_gpu_leaves_to_the_cpu_is_refused_by_name(runtime: str, operators: list[str], refused: str, graph: Graph,
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxruntime.InferenceSession", lambda data, options, **_: OnCuda(operators, options))
    open_ = RUNTIMES[runtime].open
    assert open_ is not None
    executor = open_(graph, "cuda:0")
    if refused:
        with pytest.raises(RuntimeError, match=f"executes {refused} of the graph on the CPU"):
            executor.refresh(small_unet().state_dict(), "a")
    else:
        executor.refresh(small_unet().state_dict(), "a")
    assert executor.holds == ("" if refused else "a")


@pytest.mark.parametrize("runtime", ["onnxruntime", "onnxruntime_live"], indirect=True)
def test_a_graph_of_16_bits_is_within_their_rounding(runtime: str, graphs: Graphs) -> None:
    unet = small_unet().half()
    open_ = RUNTIMES[runtime].open
    assert open_ is not None
    executor = open_(graphs.of(unet, "float16", SIZE), "cpu")
    executor.refresh(unet.state_dict(), "a")
    given = {name: tensor if name == "timestep" else tensor.half() for name, tensor in inputs().items()}
    made = executor(given)
    assert made.dtype == torch.float32
    assert 1e-6 < distance(made, eager(small_unet(), inputs())) < HALF_TOLERANCE


def test_weights_that_were_refused_leave_none(executor: Any) -> None:
    unet = small_unet()
    executor.refresh(unet.state_dict(), "a")
    assert executor.holds == "a"
    with pytest.raises(ValueError, match="is missing"):
        executor.refresh({}, "b")
    assert executor.holds == ""
