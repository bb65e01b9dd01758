"""TensorRT on NVIDIA GPUs: one plan for each architecture, GPU and version, into which each candidate's weights are put."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import AbstractContextManager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from threading import local
from typing import TYPE_CHECKING, Any, Final

from harness.declare import short_hash
from harness.runtimes.exporting import versions_of_exporting
from harness.runtimes.graph import OUTPUT, Graph, fitting
from harness.runtimes.graph_cache import alone, graph_folder, read_kept, write_kept
from harness.runtimes.installed import EXPORTING
from harness.runtimes.tensor_rt_plan import BATCHES, PLAN_VERSION, TOKENS, TensorRtError, build_plan, refit_engine

if TYPE_CHECKING:
    import torch

SUFFIX: Final = ".plan"
_SHOWN: Final = 16
"""Hex digits of a plan's digest in the coverage."""
_OLDEST: Final = 11
"""From this version on a network computes in the number formats of its graph, and in no other."""
_SAMPLE: Final = "sample"
_STATES: Final = "encoder_hidden_states"


class TensorRt:
    """An executor that is refitted with all weights of each candidate."""

    def __init__(self, graph: Graph, device: str) -> None:
        self._trt = import_module("tensorrt")
        self._log = self._trt.Logger(self._trt.Logger.ERROR)
        self._runtime = self._trt.Runtime(self._log)
        self._runtime.engine_host_code_allowed = False  # a plan on the disk may be anybody's
        self._graph, self._device, self.holds, self.note = graph, device, "", ""
        self._name = plan_name(graph, self._trt.__version__, gpu(device))
        self._engine: Any = None
        self._contexts = local()
        self.unkept = ""  # why a plan that was built is not on the disk

    def refresh(self, weights: Mapping[str, torch.Tensor], identity: str) -> None:
        """Puts these weights into the engine. One that refuses them is thrown away, and built again once."""
        self.holds, self._contexts = "", local()
        engine, self._engine = self._engine, None
        given = {name: tensor.cpu() for name, tensor in fitting(self._graph, weights).items()}
        with settled(self._device):
            engine = self._refitted(engine or self._kept(), given)
            if engine is None:
                with alone(self._path()):  # another process may have built one meanwhile
                    engine = self._refitted(self._kept(but=self.note), given) or self._built(given)
        self._engine = engine
        self.holds = identity

    def __call__(self, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The output for these inputs, with the weights of the last refresh."""
        import torch

        sample, tokens = inputs[_SAMPLE], inputs[_STATES].shape[1]
        if not TOKENS[0] <= tokens <= TOKENS[-1]:
            raise TensorRtError(f"a text has {tokens} tokens; TensorRT's plans serve {TOKENS[0]} to {TOKENS[-1]}")
        made = torch.empty(self._graph.made(inputs), dtype=torch.float32, device=sample.device)
        for start in range(0, len(sample), BATCHES[-1]):
            part = slice(start, start + BATCHES[-1])
            self._run({name: tensor[part] if tensor.ndim else tensor for name, tensor in inputs.items()}, made[part])
        return made

    def _run(self, inputs: Mapping[str, torch.Tensor], made: torch.Tensor) -> None:
        if not hasattr(self._contexts, "own"):  # a context serves one thread
            self._contexts.own = self._engine.create_execution_context()
        context = self._contexts.own
        if context is None:
            raise TensorRtError("TensorRT has no memory for another call at the same time")
        for name in self._graph.inputs:
            tensor = inputs[name]
            if not (context.set_input_shape(name, tuple(tensor.shape)) and context.set_tensor_address(name, tensor.data_ptr())):
                raise TensorRtError(f"TensorRT's plan does not take the input {name!r} of {list(tensor.shape)}")
        if not (context.set_tensor_address(OUTPUT, made.data_ptr()) and context.execute_async_v3(stream(self._device))):
            raise TensorRtError("TensorRT did not execute its plan; its messages above say why")

    def _kept(self, but: str = "") -> Any:
        """The engine of the plan on disk; None if there is no plan, or the one of the note `but`, or if TensorRT refuses it."""
        plan = read_kept(self._path(), self._name)
        return None if plan is None or _note_of(plan) == but else self._engine_of(plan)

    def _engine_of(self, plan: bytes) -> Any:
        """The engine of a plan. Kernels are chosen by timing when it is built, so that its digest tells images apart that another
        plan may give other last bits."""
        self.note = _note_of(plan)
        return self._runtime.deserialize_cuda_engine(plan)

    def _refitted(self, engine: Any, given: Mapping[str, torch.Tensor]) -> Any:
        """The engine with these weights; None if it does not take them."""
        if engine is None:
            return None
        try:
            refit_engine(self._trt, self._log, engine, self._graph, given)
        except TensorRtError:  # some of the weights may be in it
            return None
        return engine

    def _built(self, given: Mapping[str, torch.Tensor]) -> Any:
        """An engine that is built now, with these weights. Its plan is kept if it takes them."""
        plan = build_plan(self._trt, self._log, self._graph, given)
        engine = self._engine_of(plan)
        if engine is None:
            raise TensorRtError("TensorRT does not read the plan that it built; its messages above say why")
        refit_engine(self._trt, self._log, engine, self._graph, given)
        self.unkept = write_kept(self._path(), self._name, plan)
        return engine

    def _path(self) -> Path:
        return graph_folder() / versions_of_exporting() / f"{self._name}{SUFFIX}"


def _note_of(plan: bytes) -> str:
    return f"plan {hashlib.sha256(plan).hexdigest()[:_SHOWN]}"


def plan_name(graph: Graph, version: str, gpu_: str) -> str:
    """The hash of what a plan depends on."""
    return short_hash([PLAN_VERSION, graph.architecture, version, gpu_])


def why_not(device: str) -> str:
    """What is missing to execute graphs by TensorRT on a device, or an empty string."""
    needs = "tensorrt needs an NVIDIA GPU and its driver"
    try:
        version = str(import_module("tensorrt").__version__)
    except Exception as error:  # the bindings install without their libraries, and then fail in ways of their own
        return f"{needs}; `import tensorrt` says {str(error)!r}, and `pip install tensorrt` on a machine with a GPU installs it"
    if not device.startswith("cuda"):
        return f"{needs}, and the device here is {device}"
    if int(version.partition(".")[0]) < _OLDEST:
        return f"tensorrt {version} is older than {_OLDEST}; `pip install --upgrade tensorrt`"
    if missing := [name for name in EXPORTING if not find_spec(name)]:
        return f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed; install the extra 'onnx'"
    return ""


def gpu(device: str) -> str:
    """The kind of GPU that a plan is built for."""
    import torch

    return f"{torch.cuda.get_device_name(device)} {torch.cuda.get_device_capability(device)}"


def stream(device: str) -> int:
    """torch's current stream, so that a call waits for what its inputs come from, and what follows waits for it."""
    import torch

    return torch.cuda.current_stream(device).cuda_stream


def settled(device: str) -> AbstractContextManager[Any]:
    """The device as the current one, with no work on its way: an engine must not be refitted while it computes."""
    import torch

    torch.cuda.synchronize(device)
    return torch.cuda.device(device)
