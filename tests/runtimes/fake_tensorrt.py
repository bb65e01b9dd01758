"""A module that answers as `tensorrt` does, on the CPU: it keeps the order of calls, refuses what the real one refuses, and
computes with the bytes that an engine was given last."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch

from harness.runtimes.graph import OUTPUT, PREFIX

Compute = Callable[[dict[str, torch.Tensor], dict[str, torch.Tensor]], torch.Tensor]


def tensor_at(address: int, shape: tuple[int, ...]) -> torch.Tensor:
    """A copy of the float32 values that lie there."""
    count = torch.Size(shape).numel()
    return torch.frombuffer(bytearray(ctypes.string_at(address, 4 * count)), dtype=torch.float32).reshape(shape)


class FakeTensorRt:
    """The attributes of `tensorrt` that are used. `compute` gives the output for weights and inputs by name."""

    float32, __version__ = "FLOAT", "11.4.0.106"
    BuilderFlag = SimpleNamespace(REFIT="REFIT", REFIT_INDIVIDUAL="REFIT_INDIVIDUAL", REFIT_IDENTICAL="REFIT_IDENTICAL",
                                  STRIP_PLAN="STRIP_PLAN", TF32="TF32")

    def __init__(self, compute: Compute) -> None:
        self.compute, self.calls = compute, list[str]()
        self.builds = 0
        self.refits: list[bool] = []
        """What the next refits answer; True once it is empty."""
        self.hidden, self.extra, self.missing = set[str](), set[str](), list[str]()
        self.profile: dict[str, tuple[Any, ...]] = {}
        self.Builder, self.OnnxParser, self.Runtime = self._builder, self._parser, self._runtime
        self.Weights, self.Refitter = self._weights, self._refitter

    class Logger:
        ERROR = 2

        def __init__(self, severity: int) -> None:
            self.severity = severity

    def _builder(self, log: Any) -> Any:
        return SimpleNamespace(create_network=lambda flags: self._network(), create_builder_config=self._config,
                               create_optimization_profile=lambda: SimpleNamespace(set_shape=self._set_shape),
                               build_serialized_network=self._build)

    def _network(self) -> Any:
        network = SimpleNamespace(initializers={}, given={}, inputs=[], num_inputs=0)
        network.mark_weights_refittable = lambda name: name in network.given and name not in self.hidden
        network.get_input = lambda index: network.inputs[index]
        return network

    def _config(self) -> Any:
        flags = {"TF32"}
        return SimpleNamespace(flags=flags, set_flag=flags.add, clear_flag=flags.discard, add_optimization_profile=lambda _: 0)

    def _set_shape(self, name: str, *shapes: tuple[int, ...]) -> None:
        self.profile[name] = shapes

    def _parser(self, network: Any, log: Any) -> Any:
        import onnx

        def load_model_proto(data: bytes) -> bool:
            graph = onnx.load_from_string(data).graph
            network.initializers = {one.name: tuple(one.dims) for one in graph.initializer if one.name.startswith(PREFIX)}
            network.inputs = [SimpleNamespace(name=one.name, shape=tuple(
                -1 if size.dim_param else size.dim_value for size in one.type.tensor_type.shape.dim)) for one in graph.input]
            network.num_inputs = len(network.inputs)
            return True

        def load_initializer(name: str, address: int, size: int) -> bool:
            if name not in network.initializers or 4 * torch.Size(network.initializers[name]).numel() != size:
                return False
            network.given[name] = address
            return True

        def lacking() -> list[str]:
            return [name for name in network.initializers if name not in network.given]

        return SimpleNamespace(load_model_proto=load_model_proto, load_initializer=load_initializer, num_errors=1,
                               parse_model_proto=lambda: not lacking(), get_error=lambda index: SimpleNamespace(
                                   desc=lambda: f"Failed to import initializer: {lacking()[0]}"))

    def _build(self, network: Any, config: Any) -> bytes:
        self.calls.append(f"build {' '.join(sorted(config.flags))}")
        self.builds += 1
        self.shapes = dict(network.initializers)
        return f"plan of {self.__version__}".encode()

    def _runtime(self, log: Any) -> Any:
        self.opened = SimpleNamespace(deserialize_cuda_engine=self._deserialize)
        return self.opened

    def _deserialize(self, plan: bytes) -> Any:
        if plan.decode() != f"plan of {self.__version__}":
            self.calls.append("plan refused")
            return None
        self.calls.append("deserialize")
        engine = SimpleNamespace(weights=None)
        engine.create_execution_context = lambda: self._context(engine)
        return engine

    def _weights(self, kind: str, address: int, count: int) -> Any:
        return SimpleNamespace(kind=kind, address=address, count=count)

    def _refitter(self, engine: Any, log: Any) -> Any:
        given: dict[str, torch.Tensor] = {}

        def set_named_weights(name: str, weights: Any) -> bool:
            if name not in self.shapes or weights.count != torch.Size(self.shapes[name]).numel() or weights.kind != self.float32:
                return False
            given[name.removeprefix(PREFIX)] = tensor_at(weights.address, self.shapes[name])
            return True

        def refit_cuda_engine() -> bool:
            self.calls.append("refit")
            done = self.refits.pop(0) if self.refits else True
            engine.weights = given if done else dict(list(given.items())[:3])
            return done

        return SimpleNamespace(get_all_weights=lambda: sorted((set(self.shapes) | self.extra) - self.hidden),
                               set_named_weights=set_named_weights, get_missing_weights=lambda: list(self.missing),
                               refit_cuda_engine=refit_cuda_engine)

    def _context(self, engine: Any) -> Any:
        shapes: dict[str, tuple[int, ...]] = {}
        places: dict[str, int] = {}

        def set_input_shape(name: str, shape: tuple[int, ...]) -> bool:
            least, _, most = self.profile.get(name, (shape, shape, shape))
            shapes[name] = shape
            return all(low <= size <= high for low, size, high in zip(least, shape, most, strict=True))

        def set_tensor_address(name: str, address: int) -> bool:
            places[name] = address
            return True

        def execute_async_v3(stream: int) -> bool:
            self.calls.append(f"execute on {stream}")
            output = self.compute(engine.weights, {name: tensor_at(places[name], shape) for name, shape in shapes.items()})
            ctypes.memmove(places[OUTPUT], output.contiguous().data_ptr(), 4 * output.numel())
            return True

        return SimpleNamespace(set_input_shape=set_input_shape, set_tensor_address=set_tensor_address,
                               execute_async_v3=execute_async_v3)
