"""The tensors of one module of a file as one canonical change, checked against the weight it is for. What a kind's shapes must
be, `kinds/` knows."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from harness.adapters.adapter_file import Stored, shown
from harness.adapters.change import Change
from harness.adapters.formats import Key
from harness.adapters.formats.headers import flag, settings, strength
from harness.adapters.kinds import check_change, scale_of
from harness.adapters.live_plan import AdapterError
from harness.adapters.module_names import Target, fused_heights

if TYPE_CHECKING:
    from torch import Tensor

_BESIDE: Final = {"full": ("diff_b",)}
"""Roles of a kind that also stand beside other kinds: the change of a layer's bias."""
_NUMBERS: Final = frozenset({"alpha", "on_input"})
ASSUMED: Final = "modules without an alpha tensor count as alpha = rank"
BAKED: Final = "no strength in the header: the factors are taken as they are"


class UnusableError(ValueError):
    """The layer cannot take such a change at all; the text says why."""


@dataclass(kw_only=True)
class Group:
    """The tensors of one module of a file: keys and values by role, and the kinds that the keys' endings say."""

    component: str
    module: str
    target: Target
    keys: dict[str, str] = field(default_factory=dict)
    values: dict[str, Tensor] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    consumed: frozenset[str] = _NUMBERS

    def add(self, key: str, part: Key, value: Tensor) -> None:
        """Takes in a tensor; `kinds` keeps a key for each kind, for errors, and not those that go with any kind."""
        self.keys[part.role], self.values[part.role] = key, value
        if part.kind and part.role not in _BESIDE.get(part.kind, ()):
            self.kinds[part.kind] = key


def build(stored: Stored, where: str, group: Group) -> tuple[Change, list[str]]:
    """The change of a module in the file's layout, and notes. `where` its strength stands is a Format's word.

    AdapterError names the file and a key; UnusableError says that this layer takes no such change.
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
            raise UnusableError(f"{group.module}: GLoRA with a core (bm) has no formula that its trainers agree on")
        tensors = _new_glora(tensors)
    change = Change(component=group.component, path=group.module, kind=kind, tensors=tensors,
                    magnitude=_magnitude(stored, group))
    try:
        _complete(stored, group, kind)
        # The strength needs a rank, and a rank whole tensors.
        check_change(change, shape)
        change, notes = _with_strength(stored, where, group, change)
    except AdapterError as error:
        raise AdapterError(f"{stored.name}: {shown(first)}: {str(error).removeprefix(f'{stored.name}: ')}") from None
    return change, notes


def _kind(stored: Stored, group: Group) -> str:
    """The kind of a module's tensors; two kinds on one module are an error, as is an alpha alone."""
    kinds = dict(group.kinds)
    if not kinds and "diff_b" in group.keys:
        return "full"
    if len(kinds) > 1:
        (one, key), (other, second) = list(kinds.items())[:2]
        raise AdapterError(f"{stored.name}: {shown(key)} is of a {one} and {shown(second)} of a {other}, for the same module; "
                           "expected one kind")
    if not kinds:
        if len(group.target.shape) < 2:
            raise UnusableError(f"{group.target.places[0].path} has a weight of {len(group.target.shape)} axis, as norms have, "
                                "and the file only an alpha for it")
        raise AdapterError(f"{stored.name}: {shown(next(iter(group.keys.values())))} has no matching factors; the file is "
                           "incomplete. Download it again.")
    kind = next(iter(kinds))
    return "boft" if kind == "oft" and "oft_blocks" in group.values and group.values["oft_blocks"].ndim == 4 else kind


def _complete(stored: Stored, group: Group, kind: str) -> None:
    """The usual loss, half a pair, in the words that say which half."""
    for role in ("down", "up") if kind == "lora" else ():
        if role not in group.keys:
            raise AdapterError(f"{stored.name}: no {role} factor to go with it; the file is incomplete")


def _magnitude(stored: Stored, group: Group) -> Tensor | None:
    if "magnitude" in group.values and "magnitude_rows" in group.values:
        raise AdapterError(f"{stored.name}: {shown(group.keys['magnitude'])} and {shown(group.keys['magnitude_rows'])} are both "
                           "the magnitude of a module")
    # PEFT's is by output even where it is written (1, out, 1, 1), which would read as by input.
    return group.values["magnitude_rows"].reshape(-1) if "magnitude_rows" in group.values else group.values.get("magnitude")


def _new_glora(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Today's roles: early LyCORIS saved (a1, a2) and (b1, b2) with the narrow matrix first. Shapes tell, where they can."""
    if not {"a1", "a2", "b1", "b2"} <= set(tensors) or any(tensor.ndim < 2 for tensor in tensors.values()):
        return tensors
    narrow = tensors["a1"].shape[0] < tensors["a1"].shape[1] and tensors["b1"].shape[0] < tensors["b1"].shape[1]
    swapped = {"a1": tensors["a2"], "a2": tensors["a1"], "b1": tensors["b2"], "b2": tensors["b1"]}
    return {**tensors, **swapped} if narrow else tensors


def _with_strength(stored: Stored, where: str, group: Group, change: Change) -> tuple[Change, list[str]]:
    alpha = _alpha(stored, group, change)
    if change.kind in ("oft", "boft"):
        # kohya clamps to 0, that is to no change, what LyCORIS does not clamp.
        silent = alpha == 0 and group.keys["oft_blocks"].startswith("oft_unet_")
        return replace(change, alpha=alpha, scale=0.0 if silent else 1.0), []
    scale, rank = scale_of(change.kind, change.tensors, alpha)
    ranked = change.kind in ("lora", "loha", "lokr", "glora")
    if not ranked:
        return replace(change, scale=1.0, alpha=alpha), []
    config = settings(stored, group.component) if where == "header" else {}
    if flag(stored, config, "use_dora") and change.magnitude is None:
        raise AdapterError(f"{stored.name}: its settings say use_dora, but there is no magnitude (DoRA's) beside it; the file is "
                           "incomplete")
    if alpha is None and config:
        whole_lokr = change.kind == "lokr" and not rank
        alpha, scale, note = strength(stored, config, group.module, rank)
        notes = [note] if note else []
        if whole_lokr and scale != 1:
            notes.append("PEFT scales a LoKr of two whole halves by alpha / r, LyCORIS does not; this is PEFT's file: scaled")
        return replace(change, scale=scale, alpha=alpha, rank=rank), notes
    if alpha is None:
        assumed = {"alpha": [ASSUMED], "header": [BAKED]}.get(where, [])
        return replace(change, scale=1.0, rank=rank), assumed if rank else []
    parts = _split_parts(stored, group, change, alpha, rank) if where == "alpha" else 1
    if parts == 1:
        return replace(change, scale=scale, alpha=alpha, rank=rank), []
    # Multiplied in, so that what is written from it has alpha = rank and nobody can take it for the alpha of a part again.
    tensors = {**change.tensors, "up": change.tensors["up"].float() * (scale * parts)}
    return replace(change, tensors=tensors, rank=rank), [
        f"{parts} layers trained separately share a module with the alpha of one of them: scale is alpha / (rank / {parts}), "
        "multiplied into up"]


def _alpha(stored: Stored, group: Group, change: Change) -> float | None:
    if "alpha" not in group.values:
        return None
    tensor = group.values["alpha"]
    if tensor.numel() != 1:
        raise AdapterError(f"{stored.name}: {shown(group.keys['alpha'])} of shape {tuple(tensor.shape)} is no alpha; expected "
                           "one number")
    alpha = float(tensor)
    if math.isfinite(alpha):
        return alpha
    if change.kind == "lokr" and {"w1", "w2"} <= set(change.tensors):
        # Whole halves have no rank; LyCORIS writes 1e10 for their alpha, which float16 cannot hold.
        return None
    raise AdapterError(f"{stored.name}: {shown(group.keys['alpha'])} is {alpha}, expected a finite number")


def _split_parts(stored: Stored, group: Group, change: Change, alpha: float, rank: int) -> int:
    """How many layers' factors stand side by side in a fused module whose alpha is that of one layer; 1 for others.

    kohya's split_qkv writes block-diagonal factors of rank n r with the alpha for r (kohya-ss/sd-scripts#2204). Its own
    converter from AI-Toolkit writes such factors with alpha = n r, for all of it: there alpha is the rank, and counts so.
    Sweetspot's own files always say the alpha of the whole. Text encoders are not trained so.
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
