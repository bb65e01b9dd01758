"""Decides, before any weight is read, what a merge does with each key of a component and what stands in its way.
Materialising a candidate calls `plan_merge` and stores `coverage_keys()` in the journal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

MISSING_POLICIES: Final = ("error", "keep_a")


class TensorLike(Protocol):
    """What a plan must know of a tensor: its dtype in the words of safetensors ("F16", "I64") and its shape."""

    @property
    def dtype(self) -> str: ...

    @property
    def shape(self) -> tuple[int, ...]: ...


@dataclass(frozen=True, kw_only=True)
class MergePlan:
    """The keys of one component by what happens to them; each key of each input is in exactly one tuple.

    `integers` are integer and boolean buffers, taken from A since an average of indices has no meaning. `kept` are
    keys that B or C lacks and that `missing="keep_a"` copies from A. `missing_in_b` holds what C lacks, too.
    """

    component: str
    merged: tuple[str, ...] = ()
    integers: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    missing_in_a: tuple[str, ...] = ()
    missing_in_b: tuple[str, ...] = ()
    shape_mismatched: tuple[str, ...] = ()
    shapes: Mapping[str, str]
    """Said of a shape-mismatched key: "[320, 9, 3, 3] in A, [320, 4, 3, 3] in B"."""

    @property
    def copied(self) -> tuple[str, ...]:
        """All keys that are taken from A as they are."""
        return tuple(sorted((*self.integers, *self.kept)))

    def coverage_keys(self) -> dict[str, tuple[str, ...]]:
        """Status to keys, in the words of records.Coverage; a status without keys is left out."""
        statuses = {"merged": self.merged, "copied": self.copied, "missing_in_a": self.missing_in_a,
                    "missing_in_b": self.missing_in_b, "shape_mismatched": self.shape_mismatched}
        return {status: keys for status, keys in statuses.items() if keys}

    def notes(self) -> tuple[str, ...]:
        """What a reader of the coverage should know: which keys were kept from A because another model lacks them."""
        return (f"{self.component}: kept from A, as B or C lacks them: {', '.join(self.kept)}",) if self.kept else ()

    def problems(self) -> list[str]:
        """One sentence for each key that stands in the way of the merge; empty when it can go on."""
        where = self.component
        return [
            *(f"{where}: {key!r} is missing in A; it would be lost. Merge models of one family and layout."
              for key in self.missing_in_a),
            *(f"{where}: {key!r} is missing in B or C. Give models with the same keys, or say missing=\"keep_a\"."
              for key in self.missing_in_b),
            *(f"{where}: {key!r} has different shapes ({self.shapes[key]}). Merge models of one family and kind."
              for key in self.shape_mismatched),
        ]


def plan_merge(component: str, a: Mapping[str, TensorLike], b: Mapping[str, TensorLike],
               c: Mapping[str, TensorLike] | None = None, missing: str = "error") -> MergePlan:
    """The plan for one component. Keys come out sorted, so a plan does not depend on the order of the inputs.

    `missing` is "error" or "keep_a", see declare.Merge; ValueError for another word. A key that A lacks and a shape
    that differs are problems under both.
    """
    if missing not in MISSING_POLICIES:
        raise ValueError(f"missing={missing!r}: expected one of {MISSING_POLICIES}")
    others = {"B": b} if c is None else {"B": b, "C": c}
    found: dict[str, list[str]] = {"merged": [], "integers": [], "kept": [], "missing_in_b": [], "shape_mismatched": []}
    shapes = {}
    for key in sorted(a):
        if any(key not in model for model in others.values()):
            found["kept" if missing == "keep_a" else "missing_in_b"].append(key)
        elif any(tuple(model[key].shape) != tuple(a[key].shape) for model in others.values()):
            found["shape_mismatched"].append(key)
            shapes[key] = ", ".join(f"{list(m[key].shape)} in {name}" for name, m in {"A": a, **others}.items())
        elif any(_integer(model[key].dtype) for model in (a, *others.values())):
            found["integers"].append(key)
        else:
            found["merged"].append(key)
    extra = sorted({key for model in others.values() for key in model if key not in a})
    return MergePlan(component=component, missing_in_a=tuple(extra), shapes=shapes,
                     **{status: tuple(keys) for status, keys in found.items()})


def _integer(dtype: str) -> bool:
    return dtype.startswith(("I", "U", "BOOL"))
