"""Builds the canonical change of one module from a file's tensors, and checks it against the weight it is for."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from harness.adapters.adapter_file import Stored, quoted
from harness.adapters.change import Change
from harness.adapters.formats import Key
from harness.adapters.formats.headers import flag, refuse_unread, settings, strength
from harness.adapters.kinds import check_change, scale_of
from harness.adapters.live_plan import AdapterError
from harness.adapters.module_names import Target, fused_heights

if TYPE_CHECKING:
    from torch import Tensor

_BESIDE: Final = {"full": ("diff_b",)}
"""Roles of a kind that other kinds may have too: the change of a layer's bias."""
_NUMBERS: Final = frozenset({"alpha", "on_input"})
ASSUMED: Final = "modules without an alpha tensor are read with alpha = rank"
BAKED: Final = "no strength in the header: the factors are used unscaled"


class UnusableError(ValueError):
    """A change that its layer does not support; the message says why."""


@dataclass(kw_only=True)
class Group:
    """The tensors of one module of a file: keys and values by role, and the kinds that the keys' endings indicate."""

    component: str
    module: str
    target: Target
    keys: dict[str, str] = field(default_factory=dict)
    values: dict[str, Tensor] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    consumed: frozenset[str] = _NUMBERS

    def add(self, key: str, part: Key, value: Tensor) -> None:
        """Adds a tensor. `kinds` keeps one key per kind for error messages; roles that fit any kind are not in it."""
        self.keys[part.role], self.values[part.role] = key, value
        if part.kind and part.role not in _BESIDE.get(part.kind, ()):
            self.kinds[part.kind] = key


def build(stored: Stored, where: str, group: Group) -> tuple[Change, list[str]]:
    """The change of a module in the file's layout, and notes. `where` is the place of its strength (`Format.strength`).

    Raises AdapterError, naming the file and a key, for invalid tensors, and UnusableError if this layer does not support
    such a change.
    """
    kind = _kind(stored, group)
    first = next(iter(group.keys.values()))
    shape = group.target.shape
    if len(shape) < 2 and kind not in ("norm", "full"):
        raise UnusableError(f"{group.target.places[0].path} has a weight of {len(shape)} axis, as norms have; a {kind} changes "
                       "weights of two axes or more")
    tensors = {role: value for role, value in group.values.items() if role not in ("alpha", "magnitude", "magnitude_rows")}
    if kind == "glora":
        if "mid" in tensors:
            raise UnusableError(f"{group.module}: GLoRA with a core (bm) has no formula that its tools agree on")
        tensors = _new_glora(tensors)
    change = Change(component=group.component, path=group.module, kind=kind, tensors=tensors,
                    magnitude=_magnitude(stored, group))
    try:
        _complete(stored, group, kind)
        # The strength needs a rank, and the rank needs complete tensors.
        check_change(change, shape)
        change, notes = _with_strength(stored, where, group, change)
    except AdapterError as error:
        raise AdapterError(f"{stored.name}: {quoted(first)}: {str(error).removeprefix(f'{stored.name}: ')}") from None
    return change, notes


def _kind(stored: Stored, group: Group) -> str:
    """The kind of a module's tensors. Raises AdapterError for two kinds on one module, and for an alpha alone."""
    kinds = dict(group.kinds)
    if not kinds and "diff_b" in group.keys:
        return "full"
    if len(kinds) > 1:
        (one, key), (other, second) = list(kinds.items())[:2]
        raise AdapterError(f"{stored.name}: {quoted(key)} is of a {one} and {quoted(second)} of a {other}, for the same module; "
                           "expected one kind")
    if not kinds:
        if len(group.target.shape) < 2:
            raise UnusableError(f"{group.target.places[0].path} has a weight of {len(group.target.shape)} axis, as norms have, "
                                "and the file only an alpha for it")
        raise AdapterError(f"{stored.name}: {quoted(next(iter(group.keys.values())))} has no matching factors; the file is "
                           "incomplete. Download it again.")
    kind = next(iter(kinds))
    return "boft" if kind == "oft" and "oft_blocks" in group.values and group.values["oft_blocks"].ndim == 4 else kind


def _complete(stored: Stored, group: Group, kind: str) -> None:
    """Raises AdapterError for half a pair, the most common damage, naming the missing half."""
    for role in ("down", "up") if kind == "lora" else ():
        if role not in group.keys:
            raise AdapterError(f"{stored.name}: its {role} factor is missing; the file is incomplete")


def _magnitude(stored: Stored, group: Group) -> Tensor | None:
    if "magnitude" in group.values and "magnitude_rows" in group.values:
        raise AdapterError(f"{stored.name}: {quoted(group.keys['magnitude'])} and {quoted(group.keys['magnitude_rows'])} are "
                           "both the magnitude of a module")
    # PEFT's magnitude is by output even in the form (1, out, 1, 1), which would otherwise mean by input.
    return group.values["magnitude_rows"].reshape(-1) if "magnitude_rows" in group.values else group.values.get("magnitude")


def _new_glora(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under today's roles: early LyCORIS saved (a1, a2) and (b1, b2) with the narrow matrix first. Shapes
    decide if they can."""
    if not {"a1", "a2", "b1", "b2"} <= set(tensors) or any(tensor.ndim < 2 for tensor in tensors.values()):
        return tensors
    narrow = tensors["a1"].shape[0] < tensors["a1"].shape[1] and tensors["b1"].shape[0] < tensors["b1"].shape[1]
    swapped = {"a1": tensors["a2"], "a2": tensors["a1"], "b1": tensors["b2"], "b2": tensors["b1"]}
    return {**tensors, **swapped} if narrow else tensors


def _with_strength(stored: Stored, where: str, group: Group, change: Change) -> tuple[Change, list[str]]:
    alpha = _alpha(stored, group, change)
    if change.kind in ("oft", "boft"):
        # With alpha 0, kohya clamps to 0 (no change); LyCORIS does not clamp.
        silent = alpha == 0 and group.keys["oft_blocks"].startswith("oft_unet_")
        return replace(change, alpha=alpha, scale=0.0 if silent else 1.0), []
    scale, rank = scale_of(change.kind, change.tensors, alpha)
    ranked = change.kind in ("lora", "loha", "lokr", "glora")
    if not ranked:
        return replace(change, scale=1.0, alpha=alpha), []
    config = settings(stored, group.component) if where == "header" else {}
    refuse_unread(stored, config)
    if flag(stored, config, "use_dora") and change.magnitude is None:
        raise AdapterError(f"{stored.name}: its settings say use_dora, but its DoRA magnitude is missing; the file is "
                           "incomplete")
    if alpha is None and config:
        whole_lokr = change.kind == "lokr" and not rank
        alpha, scale, note = strength(stored, config, group.module, rank)
        notes = [note] if note else []
        if whole_lokr and scale != 1:
            notes.append("PEFT scales a LoKr of two full factors by alpha / r, LyCORIS does not; this PEFT file is scaled")
        return replace(change, scale=scale, alpha=alpha, rank=rank), notes
    if alpha is None:
        assumed = {"alpha": [ASSUMED], "header": [BAKED]}.get(where, [])
        return replace(change, scale=1.0, rank=rank), assumed if rank else []
    parts = _split_parts(stored, group, change, alpha, rank) if where != "factors" else 1
    if parts == 1:
        return replace(change, scale=scale, alpha=alpha, rank=rank), []
    # Multiplied in, so that files written from it have alpha = rank, which cannot be mistaken for the alpha of one part.
    tensors = {**change.tensors, "up": change.tensors["up"].float() * (scale * parts)}
    return replace(change, tensors=tensors, rank=rank), [
        f"{parts} layers trained separately share a module with the alpha of one of them: scale is alpha / (rank / {parts}), "
        "multiplied into up"]


def _alpha(stored: Stored, group: Group, change: Change) -> float | None:
    if "alpha" not in group.values:
        return None
    tensor = group.values["alpha"]
    if tensor.numel() != 1:
        raise AdapterError(f"{stored.name}: {quoted(group.keys['alpha'])} of shape {tuple(tensor.shape)} is not an alpha; "
                           "expected one number")
    alpha = float(tensor)
    if math.isfinite(alpha):
        return alpha
    if change.kind == "lokr" and {"w1", "w2"} <= set(change.tensors):
        # Full factors have no rank; LyCORIS writes 1e10 for their alpha, which overflows float16.
        return None
    raise AdapterError(f"{stored.name}: {quoted(group.keys['alpha'])} is {alpha}, expected a finite number")


def _split_parts(stored: Stored, group: Group, change: Change, alpha: float, rank: int) -> int:
    """The number of layers whose factors are joined in a fused module whose alpha is that of one layer; 1 for other
    modules.

    kohya's split_qkv writes block-diagonal factors of rank n r with the alpha for r (kohya-ss/sd-scripts#2204). Its own
    converter from AI-Toolkit writes such factors with alpha = n r, the alpha of the whole. Sweetspot's own files always
    have the alpha of the whole. Text encoders are not trained this way.
    """
    if group.component.startswith("text_encoder"):
        return 1
    heights = group.target.fused or fused_heights(group.module, group.target.shape)
    if change.kind != "lora" or len(heights) < 2 or rank % len(heights) or "mid" in change.tensors:
        return 1
    claimed = "split_qkv=true" in "".join(stored.metadata.get("ss_network_args", "").lower().split()).replace('"', "").replace(
        ":", "=")
    if (alpha == rank and not claimed) or any(name.startswith("sweetspot.") for name in stored.metadata):
        return 1
    up, step, top = change.tensors["up"].flatten(1), rank // len(heights), 0
    for number, height in enumerate(heights):
        rows = up[top:top + height]
        own = slice(number * step, (number + 1) * step)
        if int((rows != 0).sum()) != int((rows[:, own] != 0).sum()):
            return 1
        top += height
    return len(heights)
