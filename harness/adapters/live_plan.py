"""What an adapter does to live layers: exact factors per module and an account of every tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import torch

STATUSES: Final = ("applied", "consumed", "refused", "absent_component")
"""What can happen to a tensor: it is in use; a number taken into account (alpha); named but of no use, with a reason; or
it belongs to a component that this model does not have."""


class AdapterError(ValueError):
    """A file that cannot be applied exactly; the text names the file, the tensor and what would be right."""


@dataclass(frozen=True, kw_only=True)
class Factors:
    """Low-rank change of one weight: W + weight * scale * up @ down, scale = alpha / rank. Hu et al. (2021), LoRA.

    float32; a linear layer has down (rank, in) and up (out, rank), a convolution down (rank, in, kh, kw) and
    up (out, rank, 1, 1). https://arxiv.org/abs/2106.09685
    """

    down: torch.Tensor
    up: torch.Tensor
    alpha: float
    rank: int
    scale: float

    def delta(self) -> torch.Tensor:
        """scale * up @ down in float32, shaped as the layer's weight, for strength 1."""
        flat = self.up.flatten(1) @ self.down.flatten(1)
        return self.scale * flat.reshape(self.up.shape[0], *self.down.shape[1:])


@dataclass(frozen=True, kw_only=True)
class AdapterPlan:
    """What a file will do to a model. `factors` by (component, module path); `keys` by component and status."""

    source: str
    format: str
    factors: Mapping[tuple[str, str], Factors]
    keys: Mapping[str, Mapping[str, tuple[str, ...]]]
    reasons: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
