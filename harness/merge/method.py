"""The definition of a merge method: a row of MERGE_METHODS, and the one way to call its function."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class MergeError(ValueError):
    """A merge that was refused. `non_finite` names the keys with NaN or infinite values, if these are the reason."""

    def __init__(self, message: str, non_finite: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.non_finite = non_finite


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A numeric setting of a method, given in `Merge.settings`: its default, its range (both ends included) and its meaning.
    `whole` numbers are passed as int."""

    name: str
    default: float
    low: float
    high: float
    meaning: str
    whole: bool = False


@dataclass(frozen=True, kw_only=True)
class MergeMethod:
    """A merge method: a row of MERGE_METHODS.

    `function` takes tensors of one shape and one floating dtype and returns their merge in that dtype, without changing
    them. It is called in a dtype wide enough that its own rounding does not matter. With `many` false it is called as
    `function(A, B[, C], alpha=..., beta=..., name=...)`, else as `function([A, B, ...][, base], weights=[...], alpha=...,
    name=...)`. It gets only the keywords that the row declares: alpha and beta if they have a range, `weights` (one number
    per model of the list) if `weighted`, the `parameters` by name, `generator` (a CPU generator seeded for this key) if
    `random`, and `limits` if there is a `survey`.

    `models` is the number of models it takes, with C (the third model, or with `many` the base); with `many` it is the
    minimum. `elementwise`: a value of the result depends only on the values at its position, so a tensor may be merged in
    pieces. `widens`: for 16-bit tensors torch itself computes in float32 and rounds once, so they are not widened first.
    `survey` reads one key before any key is merged and returns a 1-D float64 tensor. `limits_of` takes all of these
    concatenated and returns a pair of floats, which every call gets as `limits`. `at_zero` and `at_one` name the model ("a",
    "b" or "c") that the result equals bit for bit at alpha 0 and 1; empty if it equals no model. `symmetric`: exchanging A
    and B gives the same result at 1 - alpha. `adds_difference`: a multiple of what B and C differ in is added to A, so that
    only these two need be of one kind. `version` increases when the values change.
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
    adds_difference: bool = False

    def defaults(self, settings: Mapping[str, float] | None = None) -> tuple[tuple[str, float], ...]:
        """All parameters of the method as (name, value): from `settings`, or else the defaults."""
        return tuple((p.name, float((settings or {}).get(p.name, p.default))) for p in self.parameters)

    def merge(self, tensors: Sequence[Tensor], call: Call, generator: torch.Generator | None = None) -> Tensor:
        """Returns the merge of one key's tensors, in the order (A, B, more, C), with the numbers of `call`."""
        if tensors[0].numel() == 0:
            # An empty tensor has nothing to merge, and neither ranks nor a spectrum.
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
    """The numbers for merging one key. `parameters` has all parameters of the method, `weights` one number per model."""

    alpha: float = 0.0
    beta: float = 0.0
    parameters: tuple[tuple[str, float], ...] = ()
    weights: tuple[float, ...] = ()
    limits: tuple[float, float] = (0.0, 0.0)


def key_seed(seed: int, component: str, key: str) -> int:
    """The seed (63 bits) of one key's generator. The draws for a key do not depend on other keys, on the order or on the
    device."""
    return int.from_bytes(hashlib.sha256(f"{seed}\n{component}\n{key}".encode()).digest()[:8]) >> 1
