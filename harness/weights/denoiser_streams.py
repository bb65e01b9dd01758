"""The denoisers of one step on CUDA streams of their own, where the device has room for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

if TYPE_CHECKING:
    import torch

    from harness.weights import Pipeline

Predict: TypeAlias = "Callable[[], torch.Tensor]"
SPARE_BYTES: Final = 512 << 20
"""Left free on the device: each stream has workspaces of its own, which no allocator counts."""
WARM_AND_TIMED: Final = 2
"""How often a trial runs the denoisers at once: the first time makes the streams' workspaces."""


@dataclass(kw_only=True)
class DenoiserStreams:
    """Lets the denoisers of a phase predict at once, or one after the other, which gives the same bits and is always possible.

    What is done is decided for each shape by a trial: at once, if there is room for the activations of all of them, if
    the predictions are those of one after the other to the last bit, and if it takes less time.
    """

    choices: dict[tuple[int, ...], str] = field(default_factory=dict)
    """By the shapes that a denoiser is given, why they run one after the other; empty where they run at once."""
    _streams: list[Any] = field(default_factory=list)

    def predictions(self, calls: Sequence[Predict], shape: tuple[int, ...], device: torch.device) -> list[torch.Tensor]:
        """What each of the calls gives, in order, on this device. Calls of one `shape` are equal work for the same kernels. What
        several calls use, they only read."""
        if shape not in self.choices:
            predictions, self.choices[shape] = self._tried(calls, device)
            return predictions
        if self.choices[shape]:
            return in_turn(calls)
        outputs, self.choices[shape] = self._dared(calls, device)
        return in_turn(calls) if outputs is None else outputs

    @property
    def remark(self) -> str:
        """What was done with the last shape that was tried, in a sentence; empty before that."""
        if not self.choices:
            return ""
        why = list(self.choices.values())[-1]
        return f"The denoisers ran one after the other: {why}" if why else "The denoisers ran at once, on streams of their own"

    def _tried(self, calls: Sequence[Predict], device: torch.device) -> tuple[list[torch.Tensor], str]:
        """The predictions, and why not at once."""
        import torch

        if lacking := _lacking(len(calls), device):
            return in_turn(calls), lacking
        wanted, alone = timed(lambda: in_turn(calls))
        for _ in range(WARM_AND_TIMED):
            (outputs, refused), together = timed(lambda: self._dared(calls, device))
            if outputs is None:
                return wanted, refused
            if not all(map(torch.equal, outputs, wanted)):
                return wanted, "at once they gave other bits"
        return wanted, "" if together < alone else f"at once they took {together / alone:.2f} times as long"

    def _dared(self, calls: Sequence[Predict], device: torch.device) -> tuple[list[torch.Tensor] | None, str]:
        """The predictions at once; None and the reason if memory was refused."""
        import torch

        try:
            return self._on_streams(calls, device), ""
        except torch.OutOfMemoryError:
            return None, "memory was refused when they ran at once"

    def _on_streams(self, calls: Sequence[Predict], device: torch.device) -> list[torch.Tensor]:
        import torch

        while len(self._streams) < len(calls) - 1:
            self._streams.append(torch.cuda.Stream(device))  # type: ignore[no-untyped-call]
        # What a stream frees it uses again only after the next fork, when the current stream has read it.
        current, others = torch.cuda.current_stream(device), self._streams[:len(calls) - 1]
        outputs: list[torch.Tensor] = []
        try:
            for stream, call in zip(others, calls[1:], strict=True):
                stream.wait_stream(current)
                with torch.cuda.stream(stream):
                    outputs.append(call())
            return [calls[0](), *outputs]
        finally:
            for stream in others:
                current.wait_stream(stream)


def in_turn(calls: Sequence[Predict]) -> list[torch.Tensor]:
    """What each of the calls gives, one after the other."""
    return [call() for call in calls]


def timed(run: Callable[[], Any]) -> tuple[Any, float]:
    """What a call gives, and its milliseconds on the current CUDA stream."""
    import torch

    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    begin.record()
    result = run()
    end.record()
    end.synchronize()
    return result, float(begin.elapsed_time(end))


def may_overlap(pipelines: Sequence[Pipeline]) -> bool:
    """Whether the denoisers of these pipelines could predict at once: several modules of torch on a GPU, without a step cache,
    which counts the calls, and whose layers are not lent to the device in turn."""
    import torch

    from harness.weights.placing import lends_layers

    return len(pipelines) > 1 and all(
        pipeline.device.type == "cuda" and pipeline.step_cache is None and isinstance(pipeline.denoiser, torch.nn.Module)
        and not lends_layers(pipeline.denoiser) for pipeline in pipelines)


def _lacking(count: int, device: torch.device) -> str:
    """Why memory does not suffice; empty if it does. What the allocator keeps beyond live tensors is what one denoiser needed,
    or the VAE, which needs more."""
    import torch

    free, _ = torch.cuda.mem_get_info(device)
    transient = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    needed = (count - 1) * transient + SPARE_BYTES
    return "" if free >= needed else (f"at once they could need {needed / 2 ** 30:.1f} GiB more, and {free / 2 ** 30:.1f} GiB "
                                      f"are free on {device}")
