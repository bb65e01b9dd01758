"""Adapters as expressions: which tensors of a component an adapter changes, and how.
They are used to fuse adapters, and for the changes that live adapter layers cannot apply.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

from harness.adapters import AdapterError, Change, Reading
from harness.adapters.kinds import bias_delta, changed_bias, changed_weight
from harness.declare import Adapter, Alphas, Blocks, Gradient
from harness.materialise.other_spellings import keys_elsewhere, nearest_spelling
from harness.materialise.whole_names import component_names, denoiser_names
from harness.merge import Altered, Expression, Source
from harness.merge.alpha_by_key import ByKey, WhereError, alphas_by_key
from harness.merge.blocks import unet_blocks
from harness.merge.expression import rounded, torch_dtype
from harness.merge.requested import requested_weights, unmet
from harness.weights import ModelFile
from harness.weights.norm_scales import weight_key

if TYPE_CHECKING:
    from torch import Tensor


Places: TypeAlias = tuple[str, str]
"""A module: its component and path."""
_Rule = TypeVar("_Rule", float, Blocks, Gradient, Blocks | Gradient, float | Blocks | Gradient)


def with_adapter(keys: Mapping[str, Expression], component: str, adapter: Adapter, reading: Reading,
                 weights: Mapping[Places, float], untouched: Collection[Places] = ()) -> dict[str, Expression]:
    """The changed expressions by key, with the adapter's weight for each module from `weights`. Modules in `left` are skipped.

    Raises AdapterError if the adapter changes a bias that the model's layer lacks.
    """
    changed: dict[str, Expression] = {}
    for (part, path), change in reading.changes.items():
        if part != component or (part, path) in untouched:
            continue
        weight = weights[part, path]
        described = ("adapter", adapter.path, path, weight)
        if _changes_weight(change):
            key = weight_key(path, keys)
            changed[key] = Altered(input=keys[key], description=described, alter=_weight(change, weight))
        if bias_delta(change) is not None:
            if f"{path}.bias" not in keys:
                raise AdapterError(f"{reading.source}: changes the bias of {path}, but this model's layer has no bias")
            changed[f"{path}.bias"] = Altered(input=keys[f"{path}.bias"], description=described, alter=_bias(change, weight))
    return changed


def as_stored(expression: Expression, dtype: str) -> Expression:
    """The expression rounded to the dtype in which its tensor is stored ("F16"), for adapters that act beside that tensor."""
    if isinstance(expression, Source) and expression.dtype == dtype:
        return expression
    return Altered(input=expression, description=("as stored", dtype), alter=partial(_as_stored, dtype))


def _as_stored(dtype: str, tensor: Tensor) -> Tensor:
    return rounded(tensor, torch_dtype(dtype)).to(tensor.dtype)


def weights_of(adapter: Adapter, reading: Reading, model: ModelFile) -> dict[Places, float]:
    """The weight of every module that the adapter changes: its weight times the block's, as alpha is found by block in
    merges. Raises AdapterError for block weights that do not fit the model, and for parts and patterns that apply to nothing
    the adapter changes."""
    if adapter.blocks is None:
        return dict.fromkeys(reading.changes, adapter.weight)
    blocks = _whole(adapter.blocks)
    ldm, denoiser = model.original_unet_names, denoiser_names(model)
    parts = list(dict.fromkeys(component for component, _ in reading.changes))
    elsewhere = keys_elsewhere(blocks.keys, [model], parts) if isinstance(blocks, Alphas) else {}
    by_component: list[ByKey] = []
    weights: dict[Places, float] = {}
    for component in parts:
        paths = {weight_key(path, model.components[component]): path for part, path in reading.changes if part == component}
        names = {key: ldm[key] if component == "unet" else key for key in paths}
        try:
            by_component.append(alphas_by_key(
                blocks, component, names, family=model.family, denoiser=denoiser, whole=component_names(component, model),
                elsewhere={pattern: keys.get(component, frozenset()) for pattern, keys in elsewhere.items()}))
        except WhereError as error:
            raise AdapterError(f"{adapter.path}: blocks: {error}{_as_given(adapter.blocks)}") from error
        weights |= {(component, path): adapter.weight * by_component[-1].values[key] for key, path in paths.items()}
    # Of the parts and patterns alone: lists of block weights name every block, and no adapter changes all of them.
    if isinstance(blocks, Alphas) and (problems := unmet(requested_weights(
            blocks, by_component, partial(nearest_spelling, models=[model], parts=parts)))):
        raise AdapterError(f"{adapter.path}: {problems[0]}")
    return weights


def _whole(blocks: Blocks | Gradient | Alphas) -> Blocks | Gradient | Alphas:
    """Block weights for all blocks of the model. LoRA tools use 17 values for Stable Diffusion 1 and 12 for SDXL, one for
    each block that a plain LoRA changes. The other blocks then have weight 1, as in these tools."""
    if isinstance(blocks, Alphas):
        return replace(blocks, default=_rule(blocks.default), parts={part: _rule(rule) for part, rule in blocks.parts.items()})
    return _rule(blocks)


def _rule(rule: _Rule) -> _Rule:
    if not isinstance(rule, Blocks) or len(rule.values) not in LORA_BLOCKS:
        return rule
    slots, named = LORA_BLOCKS[len(rule.values)]
    given = dict(zip(named, rule.values, strict=True))
    return replace(rule, values=tuple(given.get(slot, 1.0) for slot in slots))


def _as_given(blocks: Blocks | Gradient | Alphas) -> str:
    """What an error about the blocks of the whole model says of a shorter list that was given."""
    rules = [blocks.default, *blocks.parts.values()] if isinstance(blocks, Alphas) else [blocks]
    short = [rule for rule in rules if isinstance(rule, Blocks) and len(rule.values) in LORA_BLOCKS]
    counts = [len(rule.values) for rule in short]
    return "".join(f". The {count} values given are those of LoRA tools for {_OF_COUNT[count]}, and stand for "
                   f"{len(LORA_BLOCKS[count][0])} blocks" for count in counts[:1])


def _slots(inputs: int) -> tuple[str, ...]:
    return ("BASE", *unet_blocks(inputs, inputs))


def _named(slots: tuple[str, ...], without: Collection[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return slots, tuple(slot for slot in slots if slot not in without)


LORA_BLOCKS: Final = {
    17: _named(_slots(12), {"IN00", "IN03", "IN06", "IN09", "IN10", "IN11", "OUT00", "OUT01", "OUT02"}),
    12: _named(_slots(9), {"IN00", "IN01", "IN02", "IN03", "IN06", "OUT06", "OUT07", "OUT08"}),
}
"""By number of values: all blocks of the model, and the blocks that these values belong to."""
_OF_COUNT: Final = {17: "Stable Diffusion 1", 12: "Stable Diffusion XL"}


def refuse_unfusible(reading: Reading) -> None:
    """Raises AdapterError for a textual inversion or a hypernetwork: they change no weights, so they cannot be fused."""
    if reading.embeddings:
        tokens = ", ".join(repr(embedding.token) for embedding in reading.embeddings)
        raise AdapterError(f"{reading.source}: is a textual inversion ({tokens}), which changes no weights and cannot be fused. "
                           "Give it as an adapter of the candidate, or ship it next to the model")
    if reading.format == "hypernetwork":
        raise AdapterError(f"{reading.source}: is a hypernetwork, which changes the input of attention but no weights, and "
                           "cannot be fused. Give it as an adapter of the candidate")


def _changes_weight(change: Change) -> bool:
    """Whether the change affects the weight, not only the bias."""
    return any(role not in ("diff_b", "b_norm", "bias") for role in change.tensors)


def _weight(change: Change, weight: float) -> Callable[[Tensor], Tensor]:
    return partial(_changed_weight, change, weight)


def _changed_weight(change: Change, weight: float, base: Tensor) -> Tensor:
    return changed_weight(change, base, weight)


def _bias(change: Change, weight: float) -> Callable[[Tensor], Tensor]:
    return partial(_changed_bias, change, weight)


def _changed_bias(change: Change, weight: float, base: Tensor) -> Tensor:
    bias = changed_bias(change, base, weight)
    return base if bias is None else bias
