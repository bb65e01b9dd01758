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
    """A numeric setting of a method, given in `Merge.settings`."""

    name: str
    """Its name."""
    default: float
    """Its default."""
    low: float
    """The least value."""
    high: float
    """The largest value."""
    meaning: str
    """What it is, in words."""
    whole: bool = False
    """It is passed as int."""


@dataclass(frozen=True, kw_only=True)
class MergeMethod:
    """A row of MERGE_METHODS.

    `function` takes tensors of one shape and one floating dtype and returns their merge in that dtype, without changing them. It
    is called in a dtype wide enough that its own rounding does not matter. With `many` false it is called as `function(A, B[, C],
    alpha=..., beta=..., name=...)`, else as `function([A, B, ...][, base], weights=[...], alpha=..., name=...)`. It gets only the
    keywords that the row declares: alpha and beta if they have a range, `weights` if `weighted`, the `parameters` by name,
    `generator` if `random`, and `limits` if there is a `survey`.
    """

    function: Callable[..., Tensor]
    """Tensors in, their merge out."""
    models: int
    """How many models it takes, with C (the third model, or with `many` the base); with `many` the fewest."""
    paper: str
    """Where it comes from."""
    version: int = 1
    """Increases when the values change."""
    many: bool = False
    """Takes a list of models."""
    base: bool = False
    """With `many`: also takes a base."""
    alpha_range: tuple[float, float] | None = (0.0, 1.0)
    """The allowed alphas; None if it takes no alpha."""
    beta_range: tuple[float, float] | None = None
    """The allowed betas; None if it takes no beta."""
    weighted: bool = False
    """Takes one weight per model of the list."""
    parameters: tuple[Parameter, ...] = ()
    """Further numbers, given in `Merge.settings`."""
    elementwise: bool = False
    """A value of the result depends only on the values at its position, so a tensor may be merged in pieces."""
    widens: bool = False
    """For 16-bit tensors torch itself computes in float32 and rounds once, so they are not widened first."""
    random: bool = False
    """Takes a CPU generator that is seeded for this key."""
    survey: Callable[..., Tensor] | None = None
    """Reads one key before any key is merged, and returns a 1-D float64 tensor."""
    limits_of: Callable[[Tensor], tuple[float, float]] | None = None
    """Takes what the survey of all keys gave, concatenated, and returns a pair of floats, which every call gets as `limits`."""
    at_zero: str = ""
    """The model ("a", "b" or "c") that the result equals bit for bit at alpha 0; empty if it equals no model."""
    at_one: str = ""
    """The same at alpha 1."""
    symmetric: bool = False
    """Exchanging A and B gives the same result at 1 - alpha."""
    adds_difference: bool = False
    """A multiple of what B and C differ in is added to A, so that only these two need be of one kind."""

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
