"""Checks that must hold for any merge, on every key of a recipe: its identities, order, pieces and the saved file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from harness.declare.listing import first_of
from harness.materialise.algebra_identities import EQUAL_MODELS, EXCHANGED, FLOAT64, at_end, identities_of_tensor, same_values
from harness.materialise.file_layout import FilePlan
from harness.materialise.library import name_of
from harness.materialise.similarity_ranges import one_thread, surveyed
from harness.materialise.stream_file import Advance, reader
from harness.merge import Expression, Source, elementwise, evaluate, sources
from harness.merge.expression import torch_dtype
from harness.weights import ModelFile
from harness.weights.module_names import in_module_names
from harness.weights.relayout import in_diffusers_names
from harness.weights.stream import InputFiles
from harness.weights.structural import open_any
from harness.weights.write import bytes_of

if TYPE_CHECKING:
    from torch import Tensor

PIECES: Final = "merging in pieces gives the same bits"
ORDER: Final = "merging in another order gives the same bits"
SAVED: Final = "the saved file has the bits of the merge in memory"
_WHY_NOT: Final = {
    PIECES: "every tensor must be computed as a whole", SAVED: "no file was written", EXCHANGED: "no merge here is symmetric",
    at_end(0, "a"): "no merge here gives A at alpha 0", at_end(1, "b"): "no merge here gives B at alpha 1"}
"""Why a check was run on no key, although some are merged."""
_PIECE: Final = 4099
"""Values per piece: a prime, so that pieces end at arbitrary positions."""
_REDUCED: Final = 2 ** 22
"""Number of values, from the start of a larger tensor, that are merged in pieces."""


@dataclass(frozen=True, kw_only=True)
class Identity:
    """One check and its result. `holds` is None if the check does not apply to this merge; `said` then says why."""

    name: str
    holds: bool | None
    detail: str


@dataclass
class _Tally:
    name: str
    checked: int = 0
    failed: list[str] = field(default_factory=list)
    worst: float = 0.0

    def add(self, key: str, holds: bool, ulps: float = 0.0) -> None:
        self.checked += 1
        self.worst = max(self.worst, ulps)
        if not holds:
            self.failed.append(key)


def check_identities(plan: FilePlan, saved: Path | None, advance: Advance = lambda _: None) -> list[Identity]:
    """Every check, with the number of merged keys it was run on, or why it does not apply.

    `saved` is the file that was written from `plan`, if there is one.
    """
    from blake3 import blake3

    tallies = {name: _Tally(name) for name in (
        at_end(0, "a"), at_end(1, "b"), EQUAL_MODELS, EXCHANGED, FLOAT64, PIECES, ORDER, SAVED)}
    digests: dict[tuple[str, str], str] = {}
    precision = plan.recipe.precision
    written = None if saved is None else _reopened(saved, plan)
    with InputFiles() as files, one_thread():
        read = reader(plan.recipe, files)
        merged = {(component, key): e for component, part in plan.recipe.parts.items()
                  for key, e in surveyed(part.keys, read, {}).items() if not isinstance(e, Source)}
        for (component, key), expression in merged.items():
            dtype = plan.recipe.parts[component].stored[key].dtype
            tensors = {source: read(source) for source in dict.fromkeys(sources(expression))}
            result = evaluate(expression, tensors.__getitem__, dtype=dtype, precision=precision)
            digests[component, key] = blake3(bytes_of(result)).hexdigest()
            for outcome in identities_of_tensor(expression, tensors, dtype, precision, result):
                tallies.setdefault(outcome.identity, _Tally(outcome.identity)).add(key, outcome.holds, outcome.ulps)
            if elementwise(expression):
                pieces = _in_pieces(expression, tensors, dtype, precision)
                tallies[PIECES].add(key, same_values(result.reshape(-1)[:_REDUCED], pieces))
            if written is not None:
                tallies[SAVED].add(key, same_values(result, written.tensor(component, key)))
            advance(result.numel() * result.element_size() // 2)
        for (component, key), expression in reversed(merged.items()):
            dtype = plan.recipe.parts[component].stored[key].dtype
            result = evaluate(expression, read, dtype=dtype, precision=precision)
            tallies[ORDER].add(key, blake3(bytes_of(result)).hexdigest() == digests[component, key])
            advance(result.numel() * result.element_size() // 2)
    return [_result(tally, _WHY_NOT.get(tally.name, "") if merged else "") for tally in tallies.values()]


def _reopened(saved: Path, plan: FilePlan) -> ModelFile:
    """The written file, with the names of components and tensors that the recipe has for them."""
    frame = plan.recipe.files[name_of(plan.recipe.frame)]
    written = open_any(saved, beside=frame.numbering)
    if written.encoder_alone:
        (infos,) = written.components.values()
        return replace(written, components=dict.fromkeys(plan.recipe.parts, infos))
    if frame.module is not None:
        return in_module_names(written, frame.module)
    return in_diffusers_names(written) if frame.layout == "diffusers" else written


def _in_pieces(expression: Expression, tensors: dict[Source, Tensor], dtype: str, precision: str) -> Tensor:
    import torch

    count = min(next(iter(tensors.values())).numel(), _REDUCED)
    flat = {source: tensor.reshape(-1) for source, tensor in tensors.items()}

    def pieces() -> Iterator[Tensor]:
        for start in range(0, count, max(_PIECE, count // 64)):
            stop = min(start + max(_PIECE, count // 64), count)
            cut = {source: tensor[start:stop] for source, tensor in flat.items()}
            yield evaluate(expression, cut.__getitem__, dtype=dtype, precision=precision)

    return torch.cat(list(pieces())) if count else torch.empty(0, dtype=torch_dtype(dtype))


def _result(tally: _Tally, why_not: str) -> Identity:
    if not tally.checked:
        return Identity(name=tally.name, holds=None, detail=why_not or "nothing is merged")
    worst = f", at most {tally.worst:.3g}" if tally.worst else ""
    if tally.failed:
        return Identity(name=tally.name, holds=False, detail=f"{len(tally.failed)} of {tally.checked} keys differ: "
                        f"{first_of([*map(repr, tally.failed)])}{worst}")
    return Identity(name=tally.name, holds=True, detail=f"{tally.checked} keys{worst}")
