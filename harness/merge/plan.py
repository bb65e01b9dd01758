"""Decides, before any weight is read, what a merge does with each key of a component and what stands in its way.
Materialising a candidate calls `plan_merge` and stores `coverage_keys()` in the journal.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

MISSING_POLICIES: Final = ("error", "keep_a")
_SMALL: Final = ("F16", "BF16", "F8_E4M3", "F8_E5M2")


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
    kind_mismatched: tuple[str, ...] = ()
    """Integers in one model and floating point in another: neither a merge nor a copy of these means anything."""
    shapes: Mapping[str, str]
    """Said of a mismatched key: "[320, 9, 3, 3] in A, [320, 4, 3, 3] in B", or its dtypes."""
    casts: Mapping[str, int] = field(default_factory=dict)
    """How many merged keys differ in dtype, by how: {"stored as F16, the dtype of A; B has F32": 686}."""

    @property
    def copied(self) -> tuple[str, ...]:
        """All keys that are taken from A as they are."""
        return tuple(sorted((*self.integers, *self.kept)))

    def coverage_keys(self) -> dict[str, tuple[str, ...]]:
        """Status to keys, in the words of records.Coverage; a status without keys is left out."""
        statuses = {"merged": self.merged, "copied": self.copied, "missing_in_a": self.missing_in_a,
                    "missing_in_b": self.missing_in_b, "shape_mismatched": self.shape_mismatched,
                    "kind_mismatched": self.kind_mismatched}
        return {status: keys for status, keys in statuses.items() if keys}

    def notes(self) -> tuple[str, ...]:
        """What a reader of the coverage should know: keys kept from A as another model lacks them, and dtypes cast."""
        kept = f"{self.component}: kept from A, as B or C lacks them: {', '.join(map(repr, self.kept))}"
        casts = (f"{self.component}: merged in {said} ({count} {'key' if count == 1 else 'keys'})"
                 for said, count in self.casts.items())
        return (*([kept] if self.kept else []), *casts)

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
            *(f"{where}: {key!r} holds integers in one model and floating point in another ({self.shapes[key]}). Merge "
              "models stored alike; quantized files cannot be merged." for key in self.kind_mismatched),
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
    found: dict[str, list[str]] = {"merged": [], "integers": [], "kept": [], "missing_in_b": [], "shape_mismatched": [],
                                   "kind_mismatched": []}
    shapes = {}
    casts: Counter[str] = Counter()
    for key in sorted(a):
        if any(key not in model for model in others.values()):
            found["kept" if missing == "keep_a" else "missing_in_b"].append(key)
        elif any(tuple(model[key].shape) != tuple(a[key].shape) for model in others.values()):
            found["shape_mismatched"].append(key)
            shapes[key] = ", ".join(f"{list(m[key].shape)} in {name}" for name, m in {"A": a, **others}.items())
        elif len({_integer(model[key].dtype) for model in (a, *others.values())}) > 1:
            found["kind_mismatched"].append(key)
            shapes[key] = ", ".join(f"{m[key].dtype} in {name}" for name, m in {"A": a, **others}.items())
        elif any(_integer(model[key].dtype) for model in (a, *others.values())):
            found["integers"].append(key)
        else:
            found["merged"].append(key)
            if said := _cast(a[key].dtype, {name: model[key].dtype for name, model in others.items()}):
                casts[said] += 1
    extra = sorted({key for model in others.values() for key in model if key not in a})
    return MergePlan(component=component, missing_in_a=tuple(extra), shapes=shapes, casts=dict(casts),
                     **{status: tuple(keys) for status, keys in found.items()})


def _cast(dtype: str, others: Mapping[str, str]) -> str:
    """In which format a key of differing dtypes is computed and stored; empty when the dtypes are alike."""
    if all(other == dtype for other in others.values()):
        return ""
    small = all(d in _SMALL for d in (dtype, *others.values()))
    differing = " and ".join(f"{name} has {other}" for name, other in others.items() if other != dtype)
    return f"{'fp32' if small else 'fp64'} and stored as {dtype}, the dtype of A; {differing}"


def _integer(dtype: str) -> bool:
    return dtype.startswith(("I", "U", "BOOL"))
