"""A planned recipe: which expression gives each tensor of the result, how it is stored, and what the recipe asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from harness.declare import Checkpoint, Recipe
from harness.merge import Expression
from harness.merge.requested import Requested
from harness.weights import ModelFile


@dataclass(frozen=True, kw_only=True)
class Stored:
    """How one tensor of a result is stored: safetensors dtype and canonical shape. `packed` is the format of codes in which
    its model has it, which is not written."""

    dtype: str
    shape: tuple[int, ...]
    packed: str = ""


@dataclass(frozen=True, kw_only=True)
class PartPlan:
    """One component of the result. `coverage` is {status: keys}, as in records.Coverage."""

    component: str
    keys: Mapping[str, Expression]
    stored: Mapping[str, Stored]
    coverage: Mapping[str, tuple[str, ...]]
    notes: tuple[str, ...] = ()
    blocks: tuple[tuple[str, str, float, int], ...] = ()
    """The outermost merge's alphas and betas: ("alpha" or "beta", slot such as "IN04", value, number of keys)."""


@dataclass(frozen=True, kw_only=True)
class RecipePlan:
    """A recipe with every tensor accounted for. `model` names the components that are merged, whatever words the declaration
    used for them; `files` holds the opened models by the names that sources give them. `requested` is all that the recipe asks
    for by name, each with the number of tensors that it applies to."""

    model: Recipe
    frame: Checkpoint
    files: Mapping[str, ModelFile] = field(repr=False)
    parts: Mapping[str, PartPlan] = field(repr=False)
    precision: str = "auto"
    requested: tuple[Requested, ...] = ()
    adapters: Mapping[str, Mapping[str, Mapping[str, tuple[str, ...]]]] = field(default_factory=dict, repr=False)
    """By path of a fused adapter: {component: {status: tensors of its file}}, with every tensor of the file."""
    adapter_notes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By path of a fused adapter: what is assumed of it, and what its header says that its tensors contradict."""
