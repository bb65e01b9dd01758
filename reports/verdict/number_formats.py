"""The number formats that candidates ran in without declaring one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from harness.declare.candidate import NUMBER_FORMATS
from reports import formatting as words
from reports.read.run import Run
from reports.verdict.candidates import label

_STAGE: Final = "quantize "
_LONGEST: Final = 300


def in_several_formats(run: Run) -> list[str]:
    """That candidates ran in bf16 because they overflow in fp16; and, if candidates that declare no number format ran in several,
    which in which."""
    sentences = [f"{words.listed(names)} ran in bf16, because in fp16, the default of the device, values overflow ({why})."
                 for why, names in _overflowing(run).items()]
    by_format = _undeclared(run)
    if len(by_format) > 1:
        spelled = "; ".join(f"{name}: {words.listed(of)}" for name, of in by_format.items())
        sentences.append(f"Candidates ran in different number formats, whose rounding is part of the differences between them "
                         f"({spelled}). Declare one precision for all of them, such as 'bf16', to compare in one format.")
    return sentences


def _overflowing(run: Run) -> dict[str, list[str]]:
    """By what overflowed: the labels of the candidates whose weights ran in bf16 for it."""
    entries = run.head.get("in_bf16")
    labels: dict[str, list[str]] = {}
    for candidate in run.suite.candidates:
        entry = entries.get(candidate.name) if isinstance(entries, Mapping) else None
        weights = run.weights.get(candidate.name)
        if isinstance(entry, Mapping) and weights is not None and entry.get("identity") == weights.identity:
            labels.setdefault(words.visible(str(entry.get("why", ""))[:_LONGEST]), []).append(label(run, candidate.name))
    return labels


def _undeclared(run: Run) -> dict[str, list[str]]:
    """By number format: the labels of the candidates that declare none and ran in it, as their coverage says."""
    ran_in = {row.candidate: row.stage.removeprefix(_STAGE) for row in run.coverage if row.stage.startswith(_STAGE)}
    labels: dict[str, list[str]] = {}
    for candidate in run.suite.candidates:
        number_format = ran_in.get(candidate.name, "")
        if not candidate.number_format and number_format in NUMBER_FORMATS:
            labels.setdefault(number_format, []).append(label(run, candidate.name))
    return labels
