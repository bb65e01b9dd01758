"""ONNX Runtime: a graph's weights as constants, which it folds and packs, or as inputs, which are read where they lie."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from threading import local
from typing import TYPE_CHECKING, Any, Final

from harness.runtimes.graph import OUTPUT, PREFIX, Graph, fitting
from harness.runtimes.installed import lacks_packages

if TYPE_CHECKING:
    import torch

_PROVIDERS: Final = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


_OF_SIZES: Final = frozenset({"Shape", "Size", "Gather", "Slice", "Concat", "Squeeze", "Unsqueeze", "Cast", "Range", "Add", "Sub",
                              "Mul", "Div", "Mod", "Equal", "Where", "ConstantOfShape", "Reshape"})


class ProviderError(RuntimeError):
    """ONNX Runtime would execute on another device than the one that was asked for."""


class OnnxRuntime:
    """An executor whose weights are constants: a session is made of each candidate's. ONNX Runtime copies them."""

    def __init__(self, graph: Graph, device: str) -> None:
        self._graph, self._device, self.holds = graph, device, ""
        self._model = graph.with_initializers()
        self._session: Any = None
        self._bindings = local()

    def refresh(self, weights: Mapping[str, torch.Tensor], identity: str) -> None:
        """Makes a session of these weights."""
        self.holds, self._session = "", None
        given = fitting(self._graph, weights)
        self._session = _session(self._model, self._device, given)
        self._bindings = local()
        self.holds = identity

    def __call__(self, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The output for these inputs, with the weights of the last refresh."""
        if not hasattr(self._bindings, "own"):
            self._bindings.own = self._session.io_binding()
        return _run(self._session, self._bindings.own, self._graph, inputs)


class LiveOnnxRuntime:
    """An executor that reads the weights where they lie: what is written into them counts at the next call."""

    def __init__(self, graph: Graph, device: str) -> None:
        self._graph, self._device, self.holds = graph, device, ""
        self._threads, self._session = 0, None
        self._weights: dict[str, torch.Tensor] = {}
        self._bindings = local()

    def refresh(self, weights: Mapping[str, torch.Tensor], identity: str) -> None:
        """Takes over where these weights lie, and nothing else."""
        import torch

        self.holds = ""
        self._weights, self._bindings = fitting(self._graph, weights), local()
        if self._session is None or self._threads != torch.get_num_threads():
            self._session, self._threads = _session(self._graph.data, self._device, {}), torch.get_num_threads()
        self.holds = identity

    def let_go(self) -> None:
        """Forgets where the weights lie, so that nothing keeps them."""
        self.holds, self._weights, self._bindings = "", {}, local()

    def __call__(self, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The output for these inputs, with the weights as they are now."""
        if not hasattr(self._bindings, "own"):
            binding: Any = self._session.io_binding() if self._session is not None else None
            for name, tensor in self._weights.items():
                _bind(binding.bind_input, PREFIX + name, tensor)
            self._bindings.own = binding
        return _run(self._session, self._bindings.own, self._graph, inputs)


def why_not(device: str) -> str:
    """What is missing to execute graphs by ONNX Runtime on a device, or an empty string."""
    if lacking := lacks_packages("onnxruntime", "onnx"):
        return lacking
    import onnxruntime

    kind = device.partition(":")[0]
    provider = _PROVIDERS.get(kind)
    if provider is None:
        return f"the denoisers of {kind} are not executed by ONNX Runtime here, only those of cpu and cuda"
    if provider not in onnxruntime.get_available_providers():
        return f"the installed ONNX Runtime has no {provider}; install onnxruntime-gpu in place of onnxruntime"
    return ""


def _session(model: bytes, device: str, weights: Mapping[str, torch.Tensor]) -> Any:
    """A session on this device and no other, on as many threads as torch uses here."""
    import onnxruntime
    import torch

    kind = device.partition(":")[0]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # threads that wait would take other work's cores
    if weights:
        options.add_external_initializers([PREFIX + name for name in weights],
                                          [onnxruntime.OrtValue.from_dlpack(tensor.cpu().__dlpack__())
                                           for tensor in weights.values()])
    if kind != "cpu":
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    name = _PROVIDERS[kind]
    options.use_deterministic_compute = kind != "cpu"  # the CPU's provider has no other way
    session = onnxruntime.InferenceSession(model, options, providers=[(name, _provider_options(device))], disable_fallback=True)
    # Without the package for CUDA it goes on with the CPU, and says so in a warning only.
    if (providers := session.get_providers())[0] != name:
        raise ProviderError(f"ONNX Runtime executes by {', '.join(providers)} on {device}; expected {name}")
    if elsewhere := sorted(set() if kind == "cpu" else _computed_on_host(session)):
        raise ProviderError(f"ONNX Runtime executes {', '.join(elsewhere)} of the graph on the CPU, which {name} does not offer")
    return session


def _computed_on_host(session: Any) -> Iterator[str]:
    """The operators that a session executes on the CPU beside those that only compute sizes, which it puts there by itself. (Its
    option `session.disable_cpu_ep_fallback` refuses these as well, and so every graph of any number of images.)"""
    for part in session.get_provider_graph_assignment_info():
        if part.ep_name == _PROVIDERS["cpu"]:
            yield from (node.op_type for node in part.get_nodes() if node.op_type not in _OF_SIZES)


def _provider_options(device: str) -> dict[str, str]:
    """On CUDA what harness.sampling.determinism asks of torch: float32 without TF32, which is ONNX Runtime's default, and kernels
    that are not chosen by timing."""
    kind, _, number = device.partition(":")
    return {} if kind == "cpu" else {"device_id": number or "0", "use_tf32": "0", "cudnn_conv_algo_search": "DEFAULT"}


def _run(session: Any, binding: Any, graph: Graph, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    import torch

    device = next(iter(inputs.values())).device
    made = torch.empty(graph.made(inputs), dtype=torch.float32, device=device)
    for name in graph.inputs:
        _bind(binding.bind_input, name, inputs[name])
    _bind(binding.bind_output, OUTPUT, made)
    if device.type == "cuda":
        # The session has a stream of its own, which does not wait for what torch is still computing.
        torch.cuda.current_stream(device).synchronize()
    session.run_with_iobinding(binding)
    return made


def _bind(bind: Any, name: str, tensor: torch.Tensor) -> None:
    import numpy as np

    bind(name, tensor.device.type, tensor.device.index or 0, np.dtype(str(tensor.dtype).removeprefix("torch.")).type,
         tuple(tensor.shape), tensor.data_ptr())
