"""OpenVINO on the CPU: a graph's weights as constants of a copy of it, which is compiled for each candidate."""

from __future__ import annotations

from collections.abc import Mapping
from threading import local
from typing import TYPE_CHECKING, Any, Final

from harness.runtimes.graph import OUTPUT, PREFIX, Graph, fitting
from harness.runtimes.installed import lacks_packages

if TYPE_CHECKING:
    import torch

_PRECISION: Final = "f32"


class PrecisionError(RuntimeError):
    """OpenVINO would compute in another number format than the one that was asked for."""


class OpenVino:
    """An executor whose weights are constants. Nothing is shared with the live weights after `refresh` but memory that is only
    read while they are those of the same candidate."""

    def __init__(self, graph: Graph, device: str) -> None:
        import openvino

        if device != "cpu":
            raise PrecisionError(f"OpenVINO executes on the CPU here, not on {device}")
        self._graph, self.holds = graph, ""
        self._core = openvino.Core()
        self._model = self._core.read_model(graph.data, b"")
        self._compiled: Any = None
        self._requests = local()

    def refresh(self, weights: Mapping[str, torch.Tensor], identity: str) -> None:
        """Compiles the graph with these weights."""
        import openvino
        import torch

        self.holds, self._compiled, self._requests = "", None, local()
        given = fitting(self._graph, weights)
        model = self._model.clone()
        for parameter in model.get_parameters():
            name = parameter.output(0).get_any_name()
            if name.startswith(PREFIX):
                constant = openvino.op.Constant(given[name.removeprefix(PREFIX)].numpy(), shared_memory=True)
                parameter.output(0).replace(constant.output(0))
                model.remove_parameter(parameter)
        self._compiled = self._core.compile_model(model, "CPU", {
            "INFERENCE_NUM_THREADS": torch.get_num_threads(), "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": _PRECISION})
        # By default it computes in 16 bits where the processor can.
        effective = self._compiled.get_property("INFERENCE_PRECISION_HINT")
        if effective != openvino.Type.f32:
            raise PrecisionError(f"OpenVINO computes in {effective.to_string()}; expected {_PRECISION}")
        self.holds = identity

    def __call__(self, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The output for these inputs, with the weights of the last refresh."""
        import openvino
        import torch

        if not hasattr(self._requests, "own"):  # a request serves one thread
            self._requests.own = self._compiled.create_infer_request()
        request, made = self._requests.own, torch.empty(self._graph.made(inputs))
        for name in self._graph.inputs:
            request.set_tensor(name, openvino.Tensor(inputs[name].numpy(), shared_memory=True))
        request.set_tensor(OUTPUT, openvino.Tensor(made.numpy(), shared_memory=True))
        request.infer()
        return made


def why_not(device: str) -> str:
    """What is missing to execute graphs by OpenVINO on a device, or an empty string."""
    return lacks_packages("openvino", "openvino") or (
        "" if device == "cpu" else f"OpenVINO executes on the CPU here, not on {device}")
