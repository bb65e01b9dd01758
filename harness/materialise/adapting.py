"""Adapters in expressions: which tensors of a component a read adapter changes, and to what.
Planning a recipe fuses adapters through it; the workbench applies those that live layers cannot take.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from harness.adapters import AdapterError, Change, Reading
from harness.adapters.kinds import bias_delta, changed_bias, changed_weight
from harness.declare import Adapter
from harness.merge import Altered, Expression

if TYPE_CHECKING:
    from torch import Tensor


def with_adapter(keys: Mapping[str, Expression], component: str, adapter: Adapter, reading: Reading,
                 left: frozenset[tuple[str, str]] = frozenset()) -> dict[str, Expression]:
    """The expressions that an adapter changes, by key; modules in `left` are not touched.

    Raises AdapterError for a textual inversion, which is no weight, and for a bias that the model's layer lacks.
    """
    refuse_embeddings(reading)
    changed: dict[str, Expression] = {}
    for (part, path), change in reading.changes.items():
        if part != component or (part, path) in left:
            continue
        said = ("adapter", adapter.path, path, adapter.weight)
        if _changes_weight(change):
            changed[f"{path}.weight"] = Altered(input=keys[f"{path}.weight"], said=said, alter=_weight(change, adapter.weight))
        if bias_delta(change) is not None:
            if f"{path}.bias" not in keys:
                raise AdapterError(f"{reading.source}: changes the bias of {path}, and the layer of this model has none")
            changed[f"{path}.bias"] = Altered(input=keys[f"{path}.bias"], said=said, alter=_bias(change, adapter.weight))
    return changed


def refuse_embeddings(reading: Reading) -> None:
    """AdapterError for a textual inversion: it changes no weight, and nothing here puts it into a tokenizer yet."""
    if reading.embeddings:
        tokens = ", ".join(repr(embedding.token) for embedding in reading.embeddings)
        raise AdapterError(f"{reading.source}: is a textual inversion ({tokens}), which is no change of weights. It can be "
                           "inspected, not applied yet")


def _changes_weight(change: Change) -> bool:
    """Whether there is more to a change than a bias."""
    return any(role not in ("diff_b", "b_norm", "bias") for role in change.tensors)


def _weight(change: Change, weight: float) -> Callable[[Tensor], Tensor]:
    return partial(_changed_weight, change, weight)


def _changed_weight(change: Change, weight: float, base: Tensor) -> Tensor:
    return changed_weight(change, base, weight)


def _bias(change: Change, weight: float) -> Callable[[Tensor], Tensor]:
    return partial(_changed_bias, change, weight)


def _changed_bias(change: Change, weight: float, base: Tensor) -> Tensor:
    found = changed_bias(change, base, weight)
    return base if found is None else found
