"""What a merge method is: the row of MERGE_METHODS and the one way to call its function."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class MergeError(ValueError):
    """A merge that was refused. `non_finite` names the keys with NaN or infinite values, if that is why."""

    def __init__(self, message: str, non_finite: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.non_finite = non_finite


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One of a method's own numbers, set in `Merge.settings`: its default, the range it may be in (both ends
    included) and what it means. `whole` numbers are passed as int."""

    name: str
    default: float
    low: float
    high: float
    meaning: str
    whole: bool = False


@dataclass(frozen=True, kw_only=True)
class MergeMethod:
    """A merge method: a row of MERGE_METHODS.

    `function` takes tensors of one shape and one floating dtype and gives their merge in that dtype, without changing
    them; it is called in a dtype wide enough that its own rounding does not count. With `many` false it is called as
    `function(A, B[, C], alpha=..., beta=..., name=...)`, else as `function([A, B, ...][, base], weights=[...], alpha=...,
    name=...)`: only with the keywords that the row declares, that is alpha and beta where they have a range, `weights`
    (one number per model of the list) where `weighted`, the `parameters` by name, `generator` (a CPU generator seeded
    for this key and nothing else) where `random`, and `limits` where `survey` is given.

    `models` is how many models it takes, C (the third model, or with `many` the base) included; with `many` that is
    the least. `elementwise`: a value of the result depends only on the values in its own place, so that a tensor may
    be merged in pieces. `widens`: torch computes it in float32 for 16-bit tensors anyway and rounds once, so it is
    called on these as they are. `survey` looks at one key before any key is merged and returns a 1-D float64 tensor;
    all of these together are given to `limits_of`, whose pair of floats every call then gets as `limits`.
    `at_zero` and `at_one` say which model ("a", "b" or "c") the result is, bit for bit, at alpha 0 and 1, empty where
    it is none of them. `symmetric`: A and B exchanged give the same at 1 - alpha. `version` rises when the values change.
    """

    function: Callable[..., Tensor]
    models: int
    paper: str
    version: int = 1
    many: bool = False
    base: bool = False
    alpha_range: tuple[float, float] | None = (0.0, 1.0)
    beta_range: tuple[float, float] | None = None
    weighted: bool = False
    parameters: tuple[Parameter, ...] = ()
    elementwise: bool = False
    widens: bool = False
    random: bool = False
    survey: Callable[..., Tensor] | None = None
    limits_of: Callable[[Tensor], tuple[float, float]] | None = None
    at_zero: str = ""
    at_one: str = ""
    symmetric: bool = False

    def defaults(self, settings: Mapping[str, float] | None = None) -> tuple[tuple[str, float], ...]:
        """The method's own numbers by name: those of `settings`, and the defaults of the others."""
        return tuple((p.name, float((settings or {}).get(p.name, p.default))) for p in self.parameters)

    def merge(self, tensors: Sequence[Tensor], call: Call, generator: torch.Generator | None = None) -> Tensor:
        """The merge of one key's tensors, in the order (A, B, more, C), with the numbers of `call`."""
        if tensors[0].numel() == 0:
            # There is nothing to merge in it, and neither ranks nor spectra exist of it.
            return tensors[0]
        given = dict(call.parameters)
        named: dict[str, Any] = {p.name: int(given[p.name]) if p.whole else given[p.name] for p in self.parameters}
        if self.alpha_range is not None:
            named["alpha"] = call.alpha
        if self.beta_range is not None:
            named["beta"] = call.beta
        if self.weighted:
            named["weights"] = list(call.weights)
        if self.random:
            named["generator"] = generator
        if self.survey is not None:
            named["limits"] = call.limits
        if not self.many:
            return self.function(*tensors, **named)
        return self.function(tensors[:-1], tensors[-1], **named) if self.base else self.function(tensors, **named)


@dataclass(frozen=True, kw_only=True)
class Call:
    """The numbers that one key is merged with. `parameters` are all of the method's by name, `weights` one per model."""

    alpha: float = 0.0
    beta: float = 0.0
    parameters: tuple[tuple[str, float], ...] = ()
    weights: tuple[float, ...] = ()
    limits: tuple[float, float] = (0.0, 0.0)


def key_seed(seed: int, component: str, key: str) -> int:
    """Seed (63 bits) of one key's generator: what is drawn for a key depends on no other key, on no order, on no device."""
    return int.from_bytes(hashlib.sha256(f"{seed}\n{component}\n{key}".encode()).digest()[:8]) >> 1
