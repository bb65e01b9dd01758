"""The plan for attaching an adapter to live layers: exact factors per module, and the status of every tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import torch

STATUSES: Final = ("applied", "consumed", "refused", "absent_component")
"""The status of a tensor: in use; a number that was taken into account (alpha); refused, with a reason; or of a component
that this model does not have."""


class AdapterError(ValueError):
    """A file that cannot be applied exactly; the message names the file, the tensor and what was expected."""


@dataclass(frozen=True, kw_only=True)
class Factors:
    """A low-rank change of one weight: W + weight * scale * up @ down, scale = alpha / rank. Hu et al. (2021), LoRA.

    float32; a linear layer has down (rank, in) and up (out, rank), a convolution down (rank, in, kh, kw) and
    up (out, rank, 1, 1). https://arxiv.org/abs/2106.09685
    """

    down: torch.Tensor
    up: torch.Tensor
    alpha: float
    rank: int
    scale: float

    def delta(self) -> torch.Tensor:
        """scale * up @ down in float32, in the shape of the layer's weight, for strength 1."""
        flat = self.up.flatten(1) @ self.down.flatten(1)
        return self.scale * flat.reshape(self.up.shape[0], *self.down.shape[1:])


@dataclass(frozen=True, kw_only=True)
class AdapterPlan:
    """What attaching a file will do to a model: `factors` by (component, module path), `keys` by component and status."""

    source: str
    format: str
    factors: Mapping[tuple[str, str], Factors]
    keys: Mapping[str, Mapping[str, tuple[str, ...]]]
    reasons: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
