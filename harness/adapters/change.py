"""The canonical form of an adapter: what it changes in each module, whatever file it came from. Readers of files make
these; the arithmetic in `kinds/`, attaching, fusing, combining and writing take them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor

Shapes: TypeAlias = Mapping[str, Mapping[str, tuple[int, ...]]]
"""What readers must know of a model: {component: {module path: shape of its weight}}, made from live modules or from
the names in a model file; paths are diffusers' ("down_blocks.0.attentions.0.proj_in"), or, for transformers in their
own layout, the file's ("double_blocks.0.img_attn.qkv")."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """What an adapter does to one module.

    `kind` names a row of KINDS, which says what `tensors` it has by role; they are as stored, in the file's shapes. `scale`
    is what the trainer meant: alpha / rank where the kind has them, 1 where it has not. `magnitude` is DoRA's, of shape
    (out,), (out, 1, ...) or (1, in, ...), None without. `alpha` is kept for writing it again, None where the file had none.
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
    """A textual inversion: `vectors` (n, width) that stand for `token` in a text encoder."""

    component: str
    token: str
    vectors: Tensor


@dataclass(frozen=True, kw_only=True)
class Reading:
    """An adapter file read against a model. `changes` by (component, module path).

    `keys` maps component to status (see STATUSES) to the file's keys: together they are all of its tensors. `reasons` says
    of a refused key why. `facts` are what is worth knowing of the file, by name in words: "training tool", "base", "ranks",
    "alphas", "modules"; `warnings` are what is odd, such as header text that contradicts the shapes.
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


def on_input(change: Change) -> bool:
    """Whether an (IA)^3 change scales the input of its layer, not the output."""
    flag = change.tensors.get("on_input")
    return flag is not None and bool(flag.reshape(-1)[0] != 0)
