"""A live denoiser in the place of the eager one: an exported graph that is given the live weights and compared with eager each
time they change."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from operator import attrgetter, methodcaller
from threading import RLock
from typing import TYPE_CHECKING, Any, Final

from harness.materialise.library import MaterialiseError
from harness.materialise.live_model import Frame
from harness.runtimes import Executor, Graph, Runtime
from harness.runtimes.graph_cache import Graphs
from harness.runtimes.guard import GuardError, distance, guard_inputs, refuse_distant

if TYPE_CHECKING:
    import torch

Size = tuple[int, int]
_VERSION: Final = attrgetter("_version")
_PLACE: Final = methodcaller("data_ptr")


@dataclass(frozen=True)
class Predicted:
    """A denoiser's output as diffusers names it."""

    sample: torch.Tensor


@dataclass(kw_only=True)
class Exported:
    """The denoiser of a frame in an exported runtime. There is an executor for each size of latents. It is called like the U-Net,
    and has its config; its parameters are the live ones, of which it was given the values.

    A call with other weights than the live ones raises MaterialiseError, and so does a forward that is not eager's.
    """

    name: str
    row: Runtime
    frame: Frame
    graphs: Graphs
    device: str
    seconds: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    """What it took, by the candidate that it was for: "export", "open", "refresh"."""
    errors: list[float] = field(default_factory=list)
    """Of the comparisons with eager that hold for what was entered since `begin`."""
    _executors: dict[Size, tuple[Graph, Executor]] = field(default_factory=dict)
    _compared: dict[Size, float] = field(default_factory=dict)
    _threads: int = 0
    _tensors: tuple[torch.Tensor, ...] = ()
    _entered: tuple[str, str] = ("", "")
    _lock: Any = field(default_factory=RLock)

    def __post_init__(self) -> None:
        self.live_module = self.frame.pipeline.denoiser
        self.config = self.live_module.config
        self.dtype = self.frame.pipeline.dtype

    def begin(self) -> None:
        """Counts comparisons from now on, for the next candidate."""
        self.errors = []

    def enter(self, candidate: str, size: Size | None) -> None:
        """Gives the executors the live weights, where these changed. `size` is the one that will be needed, if that is known."""
        import torch

        with self._lock:
            if (threads := torch.get_num_threads()) != self._threads:
                # An executor keeps the threads that it was given its weights with; what is timed beside it has those of now.
                self._threads = threads
                for _, executor in self._executors.values():
                    executor.holds = ""
            self._tensors = tuple(self._weights().values())
            self._entered = candidate, self._identity()
            for one in dict.fromkeys([*self._executors, *([size] if size is not None else [])]):
                self._take(one)

    def __call__(self, sample: torch.Tensor, timestep: Any, encoder_hidden_states: torch.Tensor, *,
                 added_cond_kwargs: dict[str, torch.Tensor] | None = None, **unknown: Any) -> Predicted:
        """The prediction for these latents. Raises MaterialiseError unless the executor has the live weights."""
        if unknown:
            raise TypeError(f"runtime {self.name!r} was given {', '.join(sorted(unknown))}, which its graph does not take")
        size = (int(sample.shape[-2]), int(sample.shape[-1]))
        if size not in self._executors:
            with self._lock:
                if self._entered[1] != self._identity():
                    self._refuse_stale()
                self._take(size)
        graph, executor = self._executors[size]
        if executor.holds != self._identity():
            self._refuse_stale()
        return Predicted(executor(_inputs(graph, sample, timestep, encoder_hidden_states, added_cond_kwargs or {})))

    def parameters(self) -> Iterator[torch.Tensor]:
        """The live parameters."""
        yield from self.live_module.parameters()

    def buffers(self) -> Iterator[torch.Tensor]:
        """The live buffers."""
        yield from self.live_module.buffers()

    def modules(self) -> Iterator[torch.nn.Module]:
        """The live layers."""
        yield from self.live_module.modules()

    @property
    def copied_bytes(self) -> int:
        """Of the weights that executors hold beside the live ones."""
        each = sum(tensor.numel() * tensor.element_size() for tensor in self._tensors)
        return each * len(self._executors) if self.row.copies else 0

    @property
    def note(self) -> str:
        """"runtime onnxruntime: 206 of 206 parameters given; 2.5e-06 from eager"."""
        count = len(self._weights())
        return f"runtime {self.name}: {count} of {count} parameters given; " + (
            f"{max(self.errors):.2g} from eager" if self.errors else "compared with eager when it is first called")

    def _weights(self) -> dict[str, torch.Tensor]:
        return {name: slot.tensor for name, slot in self.frame.live[self.frame.denoiser].items()}

    def _identity(self) -> str:
        """Of what is live: the candidate's, how often its tensors were written to, and where they lie."""
        if not self.frame.entered:
            return ""
        # At every call, hence by functions of C.
        return f"{self.frame.entered} {sum(map(_VERSION, self._tensors))} {hash(tuple(map(_PLACE, self._tensors)))}"

    def _refuse_stale(self) -> None:
        raise MaterialiseError(f"candidate {self._entered[0]!r}: runtime {self.name!r} has other weights than those that are "
                               "live now. Enter the candidate's phase again before it is sampled")

    def _take(self, size: Size) -> None:
        """Opens an executor for this size if needed, and gives it the live weights unless it already has them."""
        if size in self._executors:
            graph, executor = self._executors[size]
        else:
            graph = self._timed("export", lambda: self.graphs.of(self.live_module, str(self.dtype).removeprefix("torch."), size))
            assert self.row.open is not None
            open_ = self.row.open
            executor = self._timed("open", lambda: open_(graph, self.device))
        if executor.holds == (identity := self._identity()):
            if self._compared[size] not in self.errors:
                self.errors.append(self._compared[size])
            return
        try:
            self._timed("refresh", lambda: executor.refresh(self._weights(), identity))
            self._compare(graph, executor, size)
        except BaseException:
            executor.holds = ""
            raise
        self._executors[size] = graph, executor  # last: other threads that sample call what is here without the lock

    def _compare(self, graph: Graph, executor: Executor, size: Size) -> None:
        """Raises MaterialiseError unless one forward is eager's."""
        import torch

        with torch.inference_mode():
            given = guard_inputs(graph, self.config, size, next(iter(self._tensors)).device)
            added = {name: given[name] for name in ("text_embeds", "time_ids") if name in given}
            eager = self.live_module(given["sample"], given["timestep"], given["encoder_hidden_states"],
                                **({"added_cond_kwargs": added} if added else {})).sample
            error = distance(executor(given), eager)
        try:
            refuse_distant(error, self.row.tolerance, graph.dtype)
        except GuardError as wrong:
            raise MaterialiseError(f"candidate {self._entered[0]!r}: runtime {self.name!r}: {wrong}. Nothing was sampled with "
                                   "it; use another runtime") from wrong
        self._compared[size] = error
        self.errors.append(error)

    def _timed(self, what: str, work: Callable[[], Any]) -> Any:
        exported = dict(self.graphs.seconds)
        started = time.perf_counter()
        result = work()
        if what != "export" or self.graphs.seconds != exported:  # a graph from the disk was not exported
            self.seconds.setdefault(self._entered[0], {}).setdefault(what, []).append(time.perf_counter() - started)
        return result


def _inputs(graph: Graph, sample: torch.Tensor, timestep: Any, states: torch.Tensor,
            added: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The graph's inputs, each on the device of the latents, in its dtype and in one piece of memory."""
    import torch

    dtype = getattr(torch, graph.dtype)
    named = {"sample": sample.to(dtype), "encoder_hidden_states": states.to(dtype),
             "timestep": torch.as_tensor(timestep, dtype=torch.float32, device=sample.device).reshape(())}
    if "text_embeds" in graph.inputs:
        named |= {"text_embeds": added["text_embeds"].to(dtype), "time_ids": added["time_ids"].float()}
    return {name: tensor.contiguous() for name, tensor in named.items()}
