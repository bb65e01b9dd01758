"""A CUDA device that is not there. Within `simulated()`, torch has one: its tensors compute on the CPU with exact values, or on
shapes alone, and what CUDA would refuse, wait for, copy or lack memory for is refused or counted. There
are no gradients on it: torch's engine asks the driver itself."""

from __future__ import annotations

import contextlib
import gc
import importlib
import threading
import time
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.rehearsal.device_tensor import DeviceTensor, execute, on_a_device, tensors_in, with_foreign
from tests.rehearsal.gpu import GIB, Gpu, Machine

aten = torch.ops.aten
IS_PINNED, PIN = aten.is_pinned.default, aten._pin_memory.default

ASKING = ("diffusers", "diffusers.models.attention_dispatch", "peft", "torchao.quantization",
          "transformers.models.clip.modeling_clip", "transformers.models.t5.modeling_t5")
"""Modules that ask when they are imported whether there is a GPU, and must not remember one that is not there."""


class _OnMachine(TorchDispatchMode):
    """Sends to the simulated devices what asks for them, and keeps account of pinned memory."""

    def __init__(self, machine: Machine) -> None:
        super().__init__()
        self._machine = machine

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled within, and the wrapper that sees to it costs as much as an operation

    def __torch_dispatch__(self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (),
                           kwargs: Mapping[str, Any] | None = None) -> Any:
        kwargs = dict(kwargs or {})
        tensors = tensors_in(args)
        if kwargs:
            tensors += tensors_in(kwargs.values())
        if with_foreign(tensors):
            return NotImplemented
        if func is IS_PINNED:
            return not isinstance(args[0], DeviceTensor) and args[0] in self._machine.pinned
        if func is PIN:
            return self._pinned(args[0].clone())
        device = kwargs.get("device")
        if (device is not None and torch.device(device).type == "cuda") or on_a_device(tensors):
            return execute(func, args, kwargs, self._machine, tensors)
        pinned = kwargs.pop("pin_memory", None)
        made = func(*args, **kwargs)
        return self._pinned(made) if pinned else made

    def _pinned(self, tensor: torch.Tensor) -> torch.Tensor:
        self._machine.pinned.add(tensor)
        return tensor


@contextlib.contextmanager
def simulated(*, limit: int | None = None, shapes_only: bool = False, devices: int = 1, other_rounding: bool = False,
              capability: tuple[int, int] = (8, 6)) -> Iterator[Gpu]:
    """Within, torch has `devices` CUDA devices of `limit` bytes each (24 GiB if None); yields the first. `shapes_only` tensors
    have no values, only shapes and bytes: all numbers read from them are 1, all truths True. `other_rounding` gives sums and
    powers other last bits than the CPU's. All is undone at the end; tensors of the device cannot be used after it, but in
    `resumed`."""
    machine = Machine([Gpu(index, 24 * GIB if limit is None else limit, capability) for index in range(devices)],
                      shapes_only=shapes_only, other_rounding=other_rounding)
    with resumed(machine):
        yield machine.gpus[0]


@cache
def _load_libraries() -> None:
    """Loads what must not see the devices. Each switch of models collects garbage: without the million objects of the libraries,
    also of those that are loaded only now, it takes a tenth of the time."""
    for module in ASKING:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()


@contextlib.contextmanager
def resumed(machine: Machine) -> Iterator[None]:
    """Within, the devices of an earlier `simulated` are there again, with what they held."""
    _load_libraries()
    remembering = importlib.import_module("transformers.utils.import_utils")
    remembering.is_torch_cuda_available()
    remembering.is_torch_bf16_gpu_available()
    # Lets tensors name a CUDA device where there is no driver; it has no effect on anything else.
    torch._C._ensureCUDADeviceGuardSet()  # type: ignore[attr-defined]
    with contextlib.ExitStack() as undo:
        for name, value in _cuda(machine).items():
            _replace(undo, torch.cuda, name, value)
        # Tensor subclasses of this kind share no version counter, which inference mode asks for.
        _replace(undo, torch, "inference_mode", _inference_mode)
        _replace(undo, torch, "Generator", Generator)
        _replace(undo, threading.Thread, "start", _started_on(machine))
        undo.callback(torch.__future__.set_overwrite_module_params_on_conversion,
                      torch.__future__.get_overwrite_module_params_on_conversion())
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        undo.enter_context(_flags())
        undo.enter_context(_modes(machine))
        yield


@contextlib.contextmanager
def _flags() -> Iterator[None]:
    """Gives back at the end the flags that a run on CUDA sets for the whole process; those of TF32 as torch has them."""
    backends: Any = torch.backends
    cudnn = backends.cudnn.benchmark, backends.cudnn.deterministic
    matmul, attention = torch.get_float32_matmul_precision(), backends.cuda.cudnn_sdp_enabled()
    try:
        yield
    finally:
        for part in (backends, backends.cudnn, backends.cudnn.conv, backends.cudnn.rnn, backends.cuda.matmul):
            part.fp32_precision = "none"
        torch.set_float32_matmul_precision(matmul)
        backends.cuda.matmul.fp32_precision = "none"
        backends.cudnn.allow_tf32 = True
        backends.cudnn.benchmark, backends.cudnn.deterministic = cudnn
        backends.cuda.enable_cudnn_sdp(attention)


@contextlib.contextmanager
def _modes(machine: Machine) -> Iterator[None]:
    """What holds for one thread."""
    before = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device="cuda") is made on the CPU and copied, as it is
    try:
        with _OnMachine(machine):
            yield
    finally:
        torch._C._set_only_lift_cpu_tensors(before)


def _replace(undo: contextlib.ExitStack, owner: Any, name: str, value: Any) -> None:
    undo.callback(setattr, owner, name, getattr(owner, name))
    setattr(owner, name, value)


def _inference_mode(mode: bool = True) -> Any:
    return torch.no_grad() if mode else contextlib.nullcontext()


def _started_on(machine: Machine) -> Callable[[threading.Thread], None]:
    start = threading.Thread.start

    def started(thread: threading.Thread) -> None:
        run = thread.run

        def run_on_machine() -> None:
            with _modes(machine):
                run()

        thread.run = run_on_machine  # type: ignore[method-assign]
        start(thread)

    return started


class _AnyGenerator(type(torch.Generator)):  # type: ignore[misc]  # torch's own metaclass has no name
    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, torch._C.Generator)


class Generator(torch.Generator, metaclass=_AnyGenerator):
    """A generator of random numbers; that of a simulated device draws as the CPU's does."""

    def __new__(cls, device: object = "cpu") -> Generator:
        return super().__new__(cls, "cpu" if torch.device(device).type == "cuda" else device)  # type: ignore[call-arg, call-overload, no-any-return, type-var]


class Stream:
    """A stream whose work is always done."""

    machine: Machine

    def __init__(self, device: object = None, priority: int = 0) -> None:
        self._gpu = self.machine.gpu(device)
        self.device, self.priority, self.cuda_stream = self._gpu.device, priority, 0

    def synchronize(self) -> None:
        """Counted."""
        self._gpu.wait("stream")

    def query(self) -> bool:
        """Always done."""
        return True

    def wait_stream(self, other: object) -> None:
        """The device waits, not the host."""

    def wait_event(self, event: object) -> None:
        """The device waits, not the host."""

    def record_event(self, event: Event | None = None) -> Event:
        """An event at this moment."""
        made: Event = event or torch.cuda.Event()  # type: ignore[assignment, no-untyped-call]
        made.record(self)
        return made


class Event:
    """An event on the host's clock."""

    machine: Machine

    def __init__(self, enable_timing: bool = False, blocking: bool = False, interprocess: bool = False) -> None:
        self._gpu, self._timing, self._seconds = self.machine.gpu(), enable_timing, -1.0

    def record(self, stream: object = None) -> None:
        """At this moment."""
        self._seconds = time.perf_counter()

    def synchronize(self) -> None:
        """Counted."""
        self._gpu.wait("event")

    def wait(self, stream: object = None) -> None:
        """The device waits, not the host."""

    def query(self) -> bool:
        """Always reached."""
        return True

    def elapsed_time(self, other: Event) -> float:
        """Milliseconds; both must be recorded, and made with enable_timing."""
        if not (self._timing and other._timing):
            raise ValueError("Both events must be created with argument 'enable_timing=True'.")
        if min(self._seconds, other._seconds) < 0:
            raise ValueError("Both events must be recorded before calculating elapsed time.")
        return (other._seconds - self._seconds) * 1000


class OnDevice:
    """Makes a device the current one for a while."""

    machine: Machine

    def __init__(self, device: object) -> None:
        self._inside, self._before = self.machine.gpu(device).index, self.machine.current

    def __enter__(self) -> None:
        self._before, self.machine.current = self.machine.current, self._inside

    def __exit__(self, *_: object) -> None:
        self.machine.current = self._before


def _cuda(machine: Machine) -> dict[str, Any]:
    """What torch.cuda says of the machine, by name."""
    of = machine.gpu

    def set_current(device: object) -> None:
        machine.current = of(device).index

    def bound(kind: type) -> type:
        return type(kind.__name__, (kind,), {"machine": machine})

    stream = bound(Stream)

    def set_fraction(fraction: float, device: object = None) -> None:
        of(device).cap = int(fraction * of(device).total)

    return {
        "is_available": lambda: True, "is_initialized": lambda: True, "init": lambda: None, "_lazy_init": lambda: None,
        "device_count": lambda: len(machine.gpus), "current_device": lambda: machine.current, "set_device": set_current,
        "device": bound(OnDevice), "Event": bound(Event), "Stream": stream, "current_stream": stream, "default_stream": stream,
        "synchronize": lambda device=None: of(device).wait("synchronize"),
        "stream": contextlib.nullcontext, "set_stream": lambda stream: None,
        "get_device_properties": lambda device=None: _properties(of(device)),
        "get_device_name": lambda device=None: "Simulated GPU",
        "get_device_capability": lambda device=None: of(device).capability,
        "get_arch_list": lambda: ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"],
        "is_bf16_supported": lambda including_emulation=True: including_emulation or of().capability >= (8, 0),
        "memory_allocated": lambda device=None: of(device).live, "max_memory_allocated": lambda device=None: of(device).peak,
        "memory_reserved": lambda device=None: of(device).reserved,
        "max_memory_reserved": lambda device=None: of(device).peak_reserved,
        "reset_peak_memory_stats": lambda device=None: of(device).reset_peaks(),
        "empty_cache": lambda: [gpu.empty_cache() for gpu in machine.gpus] and None,
        "mem_get_info": lambda device=None: (of(device).total - of(device).reserved, of(device).total),
        "set_per_process_memory_fraction": set_fraction,
        "get_per_process_memory_fraction": lambda device=None: of(device).cap / of(device).total,
    }


def _properties(gpu: Gpu) -> types.SimpleNamespace:
    return types.SimpleNamespace(name="Simulated GPU", uuid="00000000-0000-0000-0000-000000000000", total_memory=gpu.total,
                                 major=gpu.capability[0], minor=gpu.capability[1], multi_processor_count=28)
