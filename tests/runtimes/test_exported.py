"""A frame's denoiser in an exported runtime: no call with stale weights, and every change compared with eager."""

from __future__ import annotations

import gc
from types import SimpleNamespace
from typing import Any
from weakref import ref

import pytest
import torch

from harness.materialise.exported import Exported
from harness.materialise.library import MaterialiseError
from harness.materialise.live_model import Frame
from harness.quantize import QuantizeReport, stored_bytes, weight_count
from harness.runtimes import RUNTIMES, Graph
from harness.runtimes.graph_cache import Graphs
from harness.weights.placing import move, slots
from tests.runtimes.conftest import SIZE, distance, eager, inputs, small_unet


def exported(runtime: str, graphs: Graphs, dtype: torch.dtype = torch.float32, **row: Any) -> tuple[Exported, Any]:
    """The small U-Net in a frame, and what executes it."""
    from dataclasses import replace

    unet = small_unet().to(dtype)
    pipeline: Any = SimpleNamespace(denoiser=unet, dtype=dtype, parts={"unet": unet})
    frame = Frame(pipeline=pipeline, live={"unet": slots(unet, unet.state_dict())}, cast=QuantizeReport(quantized=(), kept=()),
                  entered="one")
    return Exported(name=runtime, row=replace(RUNTIMES[runtime], **row), frame=frame, graphs=graphs, device="cpu"), unet


def predicted(executed: Exported) -> torch.Tensor:
    return executed(**inputs()).sample


def test_an_entered_candidate_is_computed_as_by_eager(runtime: str, graph: Graph, graphs: Graphs) -> None:
    executed, unet = exported(runtime, graphs)
    executed.enter("night", SIZE)
    assert distance(predicted(executed), eager(unet, inputs())) < 1e-5
    assert set(executed.seconds["night"]) >= {"open", "refresh"}
    assert f"{len(graph.weights)} of {len(graph.weights)} parameters given" in executed.note
    assert max(executed.errors) < 1e-5


def test_its_weights_are_counted_as_those_of_the_live_model(runtime: str, graphs: Graphs) -> None:
    executed: Any
    executed, unet = exported(runtime, graphs)
    assert stored_bytes(executed) == stored_bytes(unet)
    assert weight_count(executed) == weight_count(unet) > 0


def test_weights_that_changed_in_place_raise_until_they_are_entered(runtime: str, graph: Graph, graphs: Graphs) -> None:
    executed, unet = exported(runtime, graphs)
    executed.enter("night", SIZE)
    unet.conv_in.bias.add_(1)
    with pytest.raises(MaterialiseError, match=r"'night'.*other weights"):
        predicted(executed)
    executed.enter("night", SIZE)
    assert distance(predicted(executed), eager(unet, inputs())) < 1e-5


@pytest.mark.parametrize("change", [lambda executed: setattr(executed.frame, "entered", "two"),
                                    lambda executed: setattr(executed.frame, "entered", ""),
                                    lambda executed: setattr(executed.live_module.conv_in.bias, "data", torch.zeros(8))])
def test_another_candidate_or_other_memory_raises(change: Any, runtime: str, graph: Graph, graphs: Graphs) -> None:
    executed, _ = exported(runtime, graphs)
    executed.enter("night", SIZE)
    change(executed)
    with pytest.raises(MaterialiseError, match="other weights"):
        predicted(executed)


def test_what_is_live_already_is_not_given_again(runtime: str, graph: Graph, graphs: Graphs) -> None:
    executed, _ = exported(runtime, graphs)
    for _ in range(3):
        executed.enter("night", SIZE)
    assert len(executed.seconds["night"]["refresh"]) == len(executed.errors) == 1


def test_a_size_that_was_not_known_is_opened_when_it_is_called(runtime: str, graph: Graph, graphs: Graphs) -> None:
    executed, unet = exported(runtime, graphs)
    executed.enter("night", None)
    assert executed.errors == []
    assert distance(predicted(executed), eager(unet, inputs())) < 1e-5
    assert len(executed.errors) == 1


class Wrong:
    """An executor that spoils the weights that it is given."""

    def __init__(self, inner: Any, spoil: Any) -> None:
        self.inner, self.spoil, self.holds = inner, spoil, ""

    def refresh(self, weights: Any, identity: str) -> None:
        spoiled = {name: tensor.clone() for name, tensor in weights.items()}
        self.spoil(spoiled)
        self.inner.refresh(spoiled, identity)
        self.holds = identity

    def __call__(self, given: Any) -> torch.Tensor:
        output: torch.Tensor = self.inner(given)
        return output


@pytest.mark.parametrize(("spoil", "fact"), [
    (lambda weights: weights["conv_out.bias"].zero_(), "differs from eager by 0"),
    (lambda weights: weights["down_blocks.0.attentions.0.transformer_blocks.0.ff.net.0.proj.bias"].zero_(), "differs from"),
    (lambda weights: weights["time_embedding.linear_2.bias"].zero_(), "differs from eager by"),
    (lambda weights: weights["conv_in.weight"].fill_(float("nan")), "differs from eager by nan")])
def test_the_guard_refuses_weights_that_did_not_arrive(spoil: Any, fact: str, runtime: str, graph: Graph, graphs: Graphs) -> None:
    open_ = RUNTIMES[runtime].open
    assert open_ is not None
    executed, _ = exported(runtime, graphs, open=lambda graph, device: Wrong(open_(graph, device), spoil))
    with pytest.raises(MaterialiseError, match=f"'night'.*{runtime}.*{fact}"):
        executed.enter("night", SIZE)
    with pytest.raises(MaterialiseError, match=r"other weights|differs from eager by"):
        predicted(executed)


class OffBy:
    """An executor that computes its weights in float32, and is off by a share of the largest value."""

    def __init__(self, share: float) -> None:
        self.share, self.holds, self.unet = share, "", small_unet()

    def refresh(self, weights: Any, identity: str) -> None:
        self.unet.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
        self.holds = identity

    def __call__(self, given: Any) -> torch.Tensor:
        output = eager(self.unet, {name: tensor.float() for name, tensor in given.items()})
        return output + self.share * output.abs().max()


@pytest.mark.parametrize(("dtype", "share", "refused"), [
    ("float32", 0.0, False), ("float32", 5e-3, True),
    ("float16", 0.0, False), ("float16", 5e-3, False), ("float16", 5e-2, True), ("float16", float("nan"), True)])
def test_sixteen_bits_may_be_off_by_their_own_rounding_and_no_further(dtype: str, share: float, *, refused: bool) -> None:
    graph = SimpleNamespace(dtype=dtype, inputs=("sample", "timestep", "encoder_hidden_states"))
    unopened: Any = SimpleNamespace(of=lambda *_: graph, seconds={})
    executed, unet = exported("onnxruntime", unopened, dtype=getattr(torch, dtype), open=lambda *_: OffBy(share))
    if refused:
        with pytest.raises(MaterialiseError, match=r"'night'.*differs from eager by"):
            executed.enter("night", SIZE)
        return
    executed.enter("night", SIZE)
    assert executed.errors[0] > 1e-4 if dtype == "float16" else executed.errors == [0.0]
    assert unet.dtype == executed.dtype == getattr(torch, dtype)


def test_what_the_graph_does_not_take_is_refused(runtime: str, graph: Graph, graphs: Graphs) -> None:
    executed, _ = exported(runtime, graphs)
    executed.enter("night", SIZE)
    with pytest.raises(TypeError, match="cross_attention_kwargs"):
        executed(**inputs(), cross_attention_kwargs={})


def test_what_is_moved_to_another_device_is_not_kept_beside_the_new_tensors(runtime: str, graph: Graph, graphs: Graphs) -> None:
    executed, unet = exported(runtime, graphs)
    executed.enter("night", SIZE)
    before = [ref(tensor) for tensor in unet.parameters()]
    executed.let_go()
    for layer in unet.modules():  # as placing.move does
        for name, tensor in layer._parameters.items():
            if tensor is not None:
                layer._parameters[name] = torch.nn.Parameter(tensor.detach().clone(), requires_grad=False)
    del layer, tensor
    gc.collect()
    assert not any(tensor() is not None for tensor in before)
    assert distance(predicted(executed), eager(unet, inputs())) < 1e-5


def test_a_candidate_that_came_while_the_weights_were_away_raises(runtime: str, graph: Graph, graphs: Graphs) -> None:
    executed, _ = exported(runtime, graphs)
    executed.enter("night", SIZE)
    executed.let_go()
    executed.frame.entered = "two"
    with pytest.raises(MaterialiseError, match="other weights"):
        predicted(executed)


def test_moving_a_module_lets_its_graph_go() -> None:
    gone: list[bool] = []
    move(torch.device("cpu"), SimpleNamespace(modules=lambda: (), let_go=lambda: gone.append(True)), small_unet())
    assert gone == [True]
