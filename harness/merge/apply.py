"""Carries out a planned merge: widen, merge, round once, and write to new tensors or into live parameters.
Materialising a candidate calls `merge_tensors` once for each component it merges.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.merge.plan import MergePlan

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class MergeMethod:
    """A merge method: a row of MERGE_METHODS.

    `function` takes `models` tensors of one shape and one floating dtype and then alpha, and gives their merge in the
    same dtype, without changing them; it is called in a dtype wide enough that its own rounding does not count.
    `widens` says that torch computes it in float32 for 16-bit tensors anyway and rounds once, so that it is called on
    these as they are, six times faster on a CPU. `alpha_range` is what alpha may be, both ends included. `version`
    rises when the values change.
    """

    function: Callable[..., Tensor]
    models: int
    alpha_range: tuple[float, float]
    version: int
    paper: str
    widens: bool = False


class MergeError(ValueError):
    """A merge that was refused. `non_finite` names the keys with NaN or infinite values, if that is why."""

    def __init__(self, message: str, non_finite: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.non_finite = non_finite


def merge_tensors(plan: MergePlan, method: MergeMethod, alpha: float, models: Sequence[Mapping[str, Tensor]],
                  out: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """All keys of A, merged or copied as the plan says; `models` are the tensors of (A, B) or (A, B, C) by key.

    Values have A's dtype, rounded once. With `out`, live tensors by key, they are written into these (rounded to A's
    dtype first, as a saved file would hold them) and `out`'s tensors are returned. Raises MergeError, before anything
    is written, for a plan with problems, a wrong number of models, an alpha outside the method's range, and NaN or
    infinite inputs; and for a result that overflows A's dtype, after which `out` is to be thrown away.
    """
    _refuse(plan, method, alpha, models, out)
    result = {}
    for key in plan.merged:
        target = None if out is None else out[key]
        result[key] = merge_tensor(method, alpha, [model[key] for model in models], out=target)
        if not _finite(result[key]):
            raise MergeError(f"{plan.component}: {key!r} overflows {models[0][key].dtype} at alpha {alpha:g}. "
                             "Use a smaller alpha or models stored as F32.", (key,))
    for key in plan.copied:
        source = models[0][key]
        result[key] = source.clone() if out is None else out[key].detach().copy_(source)
    return result


def merge_tensor(method: MergeMethod, alpha: float, tensors: Sequence[Tensor], out: Tensor | None = None) -> Tensor:
    """The merge of one key's tensors (one shape, floating dtypes, one device), rounded once to the first one's dtype.

    Arithmetic is one format wider than what is stored: float32 for 16 and 8 bits, float64 for float32. The result is
    thus within one unit in the last place of the largest input of the exact value. With `out` the rounded value is
    cast to out's dtype, written into it, and out is returned.
    """
    import torch

    with torch.no_grad():
        dtypes = {t.dtype for t in tensors}
        small = all(t.element_size() <= 2 for t in tensors)
        if method.widens and dtypes in ({torch.float16}, {torch.bfloat16}):
            wide = tensors[0].dtype
        else:
            wide = torch.float32 if small else torch.float64
        merged = method.function(*(t.detach().to(wide) for t in tensors), alpha).to(tensors[0].dtype)
        if out is not None:
            return out.detach().copy_(merged)
        return merged.clone() if any(merged.data_ptr() == t.data_ptr() for t in tensors) else merged


def non_finite_keys(plan: MergePlan, models: Sequence[Mapping[str, Tensor]]) -> tuple[str, ...]:
    """The keys to merge that hold a NaN or an infinity in one of the models."""
    return tuple(key for key in plan.merged if not all(_finite(model[key]) for model in models))


def _finite(tensor: Tensor) -> bool:
    """A NaN anywhere makes both ends of the range NaN. Looking at these is 20 times faster than isfinite on each value.

    float8 tensors have no range in torch; float16 holds every value of theirs.
    """
    import torch

    if tensor.numel() == 0:
        return True
    ends = torch.aminmax(tensor.detach().to(torch.float16) if tensor.element_size() == 1 else tensor.detach())
    return bool(torch.isfinite(ends.min) & torch.isfinite(ends.max))


def _refuse(plan: MergePlan, method: MergeMethod, alpha: float, models: Sequence[Mapping[str, Tensor]],
            out: Mapping[str, Tensor] | None) -> None:
    low, high = method.alpha_range
    if problems := plan.problems():
        more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
        raise MergeError(" ".join(problems[:3]) + more)
    if len(models) != method.models:
        raise MergeError(f"{plan.component}: {len(models)} models given, the method merges {method.models}.")
    if not low <= alpha <= high:
        raise MergeError(f"{plan.component}: alpha {alpha:g} is outside {low:g} to {high:g}.")
    if out is not None:
        for key in (*plan.merged, *plan.copied):
            if key not in out or out[key].shape != models[0][key].shape:
                found = f"has the shape {list(out[key].shape)}" if key in out else "does not exist"
                raise MergeError(f"{plan.component}: the tensor to write {key!r} into {found}; expected "
                                 f"{list(models[0][key].shape)}.")
    if keys := non_finite_keys(plan, models):
        raise MergeError(f"{plan.component}: {len(keys)} keys hold NaN or infinite values: {', '.join(keys[:5])}"
                         f"{' ...' if len(keys) > 5 else ''}. Repair or replace that model.", keys)
