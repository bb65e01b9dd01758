"""One way of calling a component that is executed as a graph: its inputs, its output, and the weights that it reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

if TYPE_CHECKING:
    import torch

Size: TypeAlias = tuple[int, ...]
"""What is fixed in a graph besides its architecture: height and width of latents or pictures, or the tokens of a text."""
BATCH: Final = "batch"
TOKENS: Final = "tokens"
EXAMPLE: Final[Mapping[str, int]] = {BATCH: 2, TOKENS: 7}
"""The sizes that vary, in the example that is exported: each another one, and none that is 1, which would be taken for fixed."""


@dataclass(frozen=True, kw_only=True)
class Input:
    """An input of a graph. A word in `shape` is a size that varies; without `dtype` it is in that of the weights."""

    name: str
    shape: tuple[int | str, ...]
    dtype: str = ""

    def sizes(self) -> tuple[int, ...]:
        """The shape in the example that is exported."""
        return tuple(EXAMPLE[size] if isinstance(size, str) else size for size in self.shape)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """How a component is called as a graph of one output."""

    name: str
    """What is called, "decoder"; it is part of the graph's hash. Empty for a denoiser."""
    inputs: Callable[[Any, Size], tuple[Input, ...]]
    """The inputs of a module with this config."""
    wrap: Callable[[Any], torch.nn.Module]
    """A module with these inputs, whose output is a float32 tensor; what it does not read of the given one is removed from it."""
    guard: Callable[[Any, Size], Mapping[str, torch.Tensor]]
    """Fixed inputs for the comparison with eager, in float32 on the CPU."""
    reads: tuple[str, ...] = ("",)
    """How the names of the weights begin that it reads."""

    def takes(self, weight: str) -> bool:
        """Whether it reads the weight of this name."""
        return weight.startswith(self.reads)
