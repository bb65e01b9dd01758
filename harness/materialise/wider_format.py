"""Candidates that declare no precision and overflow in float16 on a GPU: they run in bfloat16."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from harness.declare import Candidate
from harness.declare.mixed import of_denoiser, with_denoiser
from harness.quantize import QUANTIZATION_MODES
from harness.quantize.declared import made_on_host

_NARROW: Final = "fp16"
_WIDE: Final = "bf16"


@dataclass(frozen=True, kw_only=True)
class Overflow:
    """Why a candidate overflows in fp16, and the identity of its weights in this format."""

    in_fp16: str
    why: str


@dataclass(frozen=True, kw_only=True)
class WiderFormats:
    """By name, the candidates that overflow. The workbenches of a run share it, and sessions keep it: other weights under the
    same name are tried in fp16 again."""

    known: dict[str, Overflow] = field(default_factory=dict)
    _declared: dict[str, str] = field(default_factory=dict)
    """By name of a candidate that runs in bf16: the key of its declaration."""

    def __contains__(self, candidate: Candidate) -> bool:
        return self._declared.get(candidate.name) == candidate.key

    def recognise(self, candidate: Candidate, in_fp16: str) -> bool:
        """Whether these weights of a candidate are known to overflow: it runs in bf16 from now on."""
        overflow = self.known.get(candidate.name)
        if overflow is None or overflow.in_fp16 != in_fp16:
            return False
        self._declared[candidate.name] = candidate.key
        return True

    def note(self, candidate: Candidate, overflow: Overflow) -> None:
        """Lets a candidate run in bf16 from now on."""
        self.known[candidate.name] = overflow
        self._declared[candidate.name] = candidate.key


def in_wider_format(declared: Candidate, in_format: Candidate, device: str) -> Candidate | None:
    """In bf16, a candidate that would run in fp16 without asking for it; None for any other, and where the device lacks bf16.
    `in_format` is the candidate in its format."""
    asked = declared.precision if made_on_host(of_denoiser(declared.quantization)) else declared.denoiser_format
    if asked or QUANTIZATION_MODES[_WIDE].why_not(device):
        return None
    if of_denoiser(in_format.quantization) == _NARROW:
        return replace(in_format, quantization=with_denoiser(in_format.quantization, _WIDE))
    return replace(in_format, precision=_WIDE) if in_format.precision == _NARROW else None


def declared_wider(candidate: Candidate, identity: str, facts: object) -> Candidate:
    """The candidate with bf16 as its precision, if `facts`, which a run recorded, say that its weights of this identity ran in
    it."""
    entry = facts.get(candidate.name) if isinstance(facts, Mapping) else None
    return replace(candidate, precision=_WIDE) if isinstance(entry, Mapping) and entry.get("identity") == identity else candidate
