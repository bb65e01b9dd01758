"""The wrapper of a quantization mode of a user's own: its report is checked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from harness.declare.listing import first_of
from harness.declare.rows import error_text
from harness.quantize.contract import QuantizationMode, QuantizeError, QuantizeReport

if TYPE_CHECKING:
    import torch


def adopt_mode(name: str, row: QuantizationMode) -> QuantizationMode:
    """The row with an `apply` that costs only itself: whatever goes wrong in it is a QuantizeError that says whose it is.
    ValueError for a row that contradicts its own contract."""
    if problems := list(_problems(row)):
        raise ValueError("; ".join(problems))

    def apply(module: torch.nn.Module) -> QuantizeReport:
        before = [parameter for parameter, _ in module.named_parameters()]
        try:
            report = row.apply(module)
        except (Exception, SystemExit) as error:
            raise QuantizeError(f"quantization {name!r} raised {error_text(error)}") from error
        if oddity := _oddity(report, before):
            raise QuantizeError(f"quantization {name!r} {oddity}")
        return report

    return replace(row, apply=apply)


def _problems(row: QuantizationMode) -> Iterator[str]:
    if not callable(row.apply):
        yield f"apply is {row.apply!r}; expected a function"
    if row.version < 1:
        yield f"version is {row.version!r}; expected a whole number of at least 1"
    if row.weight_bits <= 0:
        yield f"weight_bits is {row.weight_bits!r}; expected a number above 0"
    if not all(isinstance(text, str) for text in (*row.refused.keys(), *row.refused.values())):
        yield f"refused is {row.refused!r}; expected device types with reasons"


def _oddity(report: object, before: list[str]) -> str:
    """What is wrong with a report on parameters of these names, or an empty string."""
    if not isinstance(report, QuantizeReport):
        return f"gave a {type(report).__name__}; expected a QuantizeReport"
    named = Counter([*report.quantized, *report.kept])
    absent, twice = [key for key in before if not named[key]], [key for key, count in named.items() if count > 1]
    known = frozenset(before)
    unknown = [key for key in named if key not in known]
    for word, keys in (("leaves out", absent), ("names twice", twice), ("names as parameters", unknown)):
        if keys:
            return (f"gave a report that {word} {first_of([*map(repr, keys)], 1)}; expected every parameter once, by its name "
                    "before the change, in quantized or in kept")
    return ""
