"""How far a live denoiser is from what it was: the error of single forwards, or of whole pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from harness.metrics.psnr import squared_error
from harness.sensitivity.subject import Subject

if TYPE_CHECKING:
    from harness.materialise import Prepared
    from harness.records import Cell
    from harness.sampling import Images

STEPS: Final = 4
"""Steps of a run whose forwards are measured."""
PROBE, PICTURES = "probe", "pictures"
Call = tuple[tuple[Any, ...], dict[str, Any]]
"""The positional and the keyword arguments of a forward."""


class Gauge(Protocol):
    """Measures a denoiser as it is now against what it was when the gauge was made."""

    def error(self) -> float:
        """A squared error, 0 for an unchanged denoiser."""


@dataclass(frozen=True, kw_only=True)
class Forwards:
    """The mean over `calls` of |y' - y|^2 / |y|^2, where y are the predictions of the unchanged denoiser."""

    denoiser: Any
    calls: Sequence[Call]
    predictions: Sequence[Any]
    within: Callable[[], Any]

    def error(self) -> float:
        """A share of the predictions' squared norm."""
        with self.within():
            return sum(_relative(_called(self.denoiser, call), before) for call, before in
                       zip(self.calls, self.predictions, strict=True)) / len(self.calls)


@dataclass(frozen=True, kw_only=True)
class WholePictures:
    """The mean squared error of the pictures' values, where 1 is the range from black to white."""

    subject: Subject
    prepared: Prepared
    cells: tuple[Cell, ...]
    before: dict[Cell, Images]

    def error(self) -> float:
        """A share of the squared range."""
        pictures = self.subject.pictures(self.prepared, self.cells)
        return sum(squared_error(pictures[cell], self.before[cell]) for cell in self.cells) / (
            255 ** 2 * sum(picture.size for picture in pictures.values()))


def gauge_of(kind: str, subject: Subject, prepared: Prepared, prompts: Sequence[str]) -> Gauge:
    """The gauge of a kind on these prompts with the first seed."""
    cells = subject.cells(prompts, subject.grid.seeds[:1])
    if kind == PICTURES:
        return WholePictures(subject=subject, prepared=prepared, cells=cells, before=subject.pictures(prepared, cells))
    return forwards_of(subject, prepared, cells)


def forwards_of(subject: Subject, prepared: Prepared, cells: Sequence[Cell]) -> Forwards:
    """The gauge of forwards: the denoiser's inputs at steps spread over a real run of these cells."""
    from contextlib import ExitStack

    import torch

    from harness.sampling import threads_for

    denoiser = prepared.pipeline.denoiser
    calls: list[Call] = []
    taken: list[Call] = []
    hook = denoiser.register_forward_pre_hook(lambda _, given, named: calls.append(_copied((given, named))), with_kwargs=True)
    try:
        for _ in subject.batches(prepared, cells):
            taken += [calls[place] for place in spread(len(calls))]
            calls.clear()
    finally:
        hook.remove()

    def within() -> ExitStack:
        stack = ExitStack()
        stack.enter_context(threads_for(subject.grid, subject.bench.device))
        stack.enter_context(torch.inference_mode())
        return stack

    with within():
        predictions = [_sample(_called(denoiser, call)) for call in taken]
    return Forwards(denoiser=denoiser, calls=taken, predictions=predictions, within=within)


def spread(count: int, most: int = STEPS) -> list[int]:
    """At most `most` places spread evenly over `count`, none at an end if there are enough."""
    wanted = min(most, count)
    return [int((place + 0.5) * count / wanted) for place in range(wanted)]


def _called(denoiser: Any, call: Call) -> Any:
    given, named = _copied(call)
    return denoiser(*given, **named)


def _copied(call: Call) -> Call:
    """The same tensors in containers of their own: a U-Net empties the list of a T2I-Adapter's features."""
    from torch.utils._pytree import tree_map

    copied: Call = tree_map(lambda leaf: leaf, call)
    return copied


def _sample(output: Any) -> Any:
    return (output[0] if isinstance(output, tuple) else output.sample).float()


def _relative(output: Any, before: Any) -> float:
    return float((_sample(output) - before).square().sum() / before.square().sum())
