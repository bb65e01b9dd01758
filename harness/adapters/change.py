"""The canonical form of an adapter: its change of each module, independent of the file format.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor

Shapes: TypeAlias = Mapping[str, Mapping[str, tuple[int, ...]]]
"""A model's weights: {component: {module path: shape}}, from live modules or a model file. Paths are diffusers'
("down_blocks.0.attentions.0.proj_in") or, for transformers in their original layout, the file's
("double_blocks.0.img_attn.qkv")."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """An adapter's change of one module.

    `kind` names a row of KINDS, which defines the roles in `tensors`; the tensors are as stored, in the file's shapes.
    `scale` is the trained strength: alpha / rank if the kind has a rank, otherwise 1. `magnitude` is DoRA's, of shape
    (out,), (out, 1, ...) or (1, in, ...), or None. `alpha` is the file's, or None; writing needs it.
    """

    component: str
    path: str
    kind: str
    tensors: Mapping[str, Tensor]
    scale: float = 1.0
    alpha: float | None = None
    rank: int = 0
    magnitude: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class Embedding:
    """A textual inversion: `vectors` (n, width) that replace `token` in a text encoder. `file_word` is the file's name, which
    means the same in other tools; empty if it is the token, or if the file has several words."""

    component: str
    token: str
    vectors: Tensor
    file_word: str = ""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """An adapter file read against a model. `changes` by (component, module path).

    `keys` maps component to status (see STATUSES) to the file's keys; together they are all of its tensors. `reasons` has the
    reason for each refused key. `facts` describe the file, by name in words: "training tool", "base", "ranks", "alphas",
    "modules", "prediction" (of the model it was trained on); `warnings` name oddities, such as header text that contradicts the
    shapes. `strength_version` is 2 where the strength is read from a place that earlier versions passed over.
    """

    source: str
    format: str
    changes: Mapping[tuple[str, str], Change]
    keys: Mapping[str, Mapping[str, tuple[str, ...]]]
    embeddings: tuple[Embedding, ...] = ()
    reasons: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    strength_version: int = 1


def on_input(change: Change) -> bool:
    """Whether an (IA)^3 change scales the input of its layer instead of the output."""
    flag = change.tensors.get("on_input")
    return flag is not None and bool(flag.reshape(-1)[0] != 0)
