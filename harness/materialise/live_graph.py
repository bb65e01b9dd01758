"""A live component as an exported graph, which is given the live weights and compared with eager each time they change."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from operator import attrgetter, methodcaller
from threading import RLock
from typing import TYPE_CHECKING, Any, Final

from harness.materialise.library import MaterialiseError
from harness.materialise.live_model import Frame
from harness.runtimes import Executor, Graph, Runtime
from harness.runtimes.entry import Entry, Size
from harness.runtimes.graph_cache import Graphs
from harness.runtimes.guard import GuardError, distance, guard_inputs, refuse_distant
from harness.runtimes.unet_entry import UNET

if TYPE_CHECKING:
    import torch

_VERSION: Final = attrgetter("_version")
_PLACE: Final = methodcaller("data_ptr")


@dataclass(frozen=True, kw_only=True)
class _Opened:
    """What executes a graph of one size, and the dtypes of its inputs."""

    graph: Graph
    executor: Executor
    dtypes: Mapping[str, torch.dtype]


@dataclass(kw_only=True)
class LiveGraph:
    """A component of a frame, or a part of it, in an exported runtime. There is an executor for each size.

    A call with other weights than the live ones raises MaterialiseError, and so does a forward that is not eager's.
    """

    name: str
    row: Runtime
    frame: Frame
    graphs: Graphs
    device: str
    component: str = ""
    """Empty for the denoiser."""
    entry: Entry = UNET
    seconds: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    """What it took, by the candidate that it was for: "export", "open", "refresh"."""
    errors: list[float] = field(default_factory=list)
    """Of the comparisons with eager that hold for what was entered since `begin`."""
    _executors: dict[Size, _Opened] = field(default_factory=dict)
    _compared: dict[Size, float] = field(default_factory=dict)
    _threads: int = 0
    _tensors: tuple[torch.Tensor, ...] = ()
    _entered: tuple[str, str, str] = ("", "", "")
    _moved: bool = False
    _lock: Any = field(default_factory=RLock)

    def __post_init__(self) -> None:
        self.live_module = self.frame.pipeline.parts[self.component] if self.component else self.frame.pipeline.denoiser
        self.config = self.live_module.config
        self.dtype = next(self.live_module.parameters()).dtype if self.component else self.frame.pipeline.dtype

    def eager(self, given: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """What the live module computes of a graph's inputs."""
        raise NotImplementedError

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
                for opened in self._executors.values():
                    opened.executor.holds = ""
            self._tensors, self._moved = tuple(self._weights().values()), False
            self._entered = candidate, self._identity(), self.frame.entered
            for one in dict.fromkeys([*self._executors, *([size] if size is not None else [])]):
                self._take(one)

    def let_go(self) -> None:
        """Forgets the live tensors, which are moved to another device now and would be kept beside the new ones. The next call
        takes these over."""
        with self._lock:
            self._tensors, self._moved = (), True
            for opened in self._executors.values():
                opened.executor.holds = ""
                if forget := getattr(opened.executor, "let_go", None):
                    forget()

    def run(self, size: Size, given: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The output for these inputs, where they are. Raises MaterialiseError unless the executor has the live weights."""
        if self._moved:
            with self._lock:
                self._take_back()
        if size not in self._executors:
            with self._lock:
                if self._entered[1] != self._identity():
                    self._refuse_stale()
                self._take(size)
        opened = self._executors[size]
        if opened.executor.holds != self._identity():
            self._refuse_stale()
        output = opened.executor({name: given[name].to(self.device, dtype).contiguous() for name, dtype in opened.dtypes.items()})
        return output.to(next(iter(given.values())).device)

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
    def opened(self) -> bool:
        """Whether an executor has weights, or had them."""
        return bool(self._executors)

    @property
    def copied_bytes(self) -> int:
        """Of the weights that executors hold beside the live ones."""
        each = sum(tensor.numel() * tensor.element_size() for tensor in self._weights().values())
        return each * len(self._executors) if self.row.copies else 0

    @property
    def note(self) -> str:
        """"runtime onnxruntime: 206 of 206 parameters given; 2.5e-06 from eager", and "runtime onnxruntime on vae: ..." of
        another component than the denoiser."""
        count, part = len(self._weights()), f" on {self.component}" if self.component else ""
        distant = f"{max(self.errors):.2g} from eager" if self.errors else "compared with eager when it is first called"
        executed = dict.fromkeys([*(getattr(opened.executor, "note", "") for opened in self._executors.values()),
                                  *self._unkept()])
        return "; ".join([f"runtime {self.name}{part}: {count} of {count} parameters given", distant, *filter(None, executed)])

    def _unkept(self) -> Iterator[str]:
        """Why graphs and plans of executors will have to be made again."""
        for opened in self._executors.values():
            if reason := self.graphs.unkept.get(opened.graph.architecture, ""):
                yield f"the graph is {reason}"
            if reason := getattr(opened.executor, "unkept", ""):
                yield f"the plan is {reason}"

    def _weights(self) -> dict[str, torch.Tensor]:
        live = self.frame.live[self.component or self.frame.denoiser]
        return {name: slot.tensor for name, slot in live.items() if self.entry.takes(name)}

    def _identity(self) -> str:
        """Of what is live: the candidate's, how often its tensors were written to, and where they lie."""
        if not self.frame.entered:
            return ""
        # At every call, hence by functions of C.
        return f"{self.frame.entered} {sum(map(_VERSION, self._tensors))} {hash(tuple(map(_PLACE, self._tensors)))}"

    def _take_back(self) -> None:
        """Takes over the tensors of after a move, which hold what those of before it held."""
        if self._moved and self._entered[2] == self.frame.entered:
            self.enter(self._entered[0], None)

    def _refuse_stale(self) -> None:
        raise MaterialiseError(f"candidate {self._entered[0]!r}: runtime {self.name!r} has other weights than those that are "
                               "live now. Enter the candidate's phase again before it is sampled")

    def _take(self, size: Size) -> None:
        """Opens an executor for this size if needed, and gives it the live weights unless it already has them."""
        opened = self._executors.get(size) or self._open(size)
        if opened.executor.holds == (identity := self._identity()):
            if self._compared[size] not in self.errors:
                self.errors.append(self._compared[size])
            return
        try:
            self._timed("refresh", lambda: opened.executor.refresh(self._weights(), identity))
            self._compare(opened, size)
        except BaseException:
            opened.executor.holds = ""
            raise
        self._executors[size] = opened  # last: other threads that sample call what is here without the lock

    def _open(self, size: Size) -> _Opened:
        import torch

        graph = self._timed("export", lambda: self.graphs.of(
            self.live_module, str(self.dtype).removeprefix("torch."), size, self.entry))
        assert self.row.open is not None
        open_ = self.row.open
        return _Opened(graph=graph, executor=self._timed("open", lambda: open_(graph, self.device)), dtypes={
            one.name: getattr(torch, one.dtype or graph.dtype) for one in self.entry.inputs(self.config, size)})

    def _compare(self, opened: _Opened, size: Size) -> None:
        """Raises MaterialiseError unless one forward is eager's."""
        import torch

        graph = opened.graph
        with torch.inference_mode():
            given = guard_inputs(graph, self.entry, self.config, size, next(iter(self._tensors)).device)
            eager = self.eager(given)
            executed = opened.executor({name: tensor.to(self.device).contiguous() for name, tensor in given.items()})
            error = distance(executed.to(eager.device), eager)
        try:
            refuse_distant(error, self.row.tolerance, graph.dtype)
        except GuardError as wrong:
            part = f" on {self.component}" if self.component else ""
            raise MaterialiseError(f"candidate {self._entered[0]!r}: runtime {self.name!r}{part}: {wrong}. Nothing was sampled "
                                   "with it; use another runtime") from wrong
        self._compared[size] = error
        self.errors.append(error)

    def _timed(self, what: str, work: Callable[[], Any]) -> Any:
        exported = dict(self.graphs.seconds)
        started = time.perf_counter()
        result = work()
        if what != "export" or self.graphs.seconds != exported:  # a graph from the disk was not exported
            self.seconds.setdefault(self._entered[0], {}).setdefault(what, []).append(time.perf_counter() - started)
        return result
