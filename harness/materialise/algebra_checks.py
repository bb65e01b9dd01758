"""What must hold for any merge, checked on the very models of a recipe, key by key: its ends, equal models, float64,
order, pieces, and the saved file. `sweetspot merge --check` shows it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from harness.materialise.file_layout import FilePlan
from harness.materialise.stream_file import Advance, reader
from harness.materialise.survey import one_thread, surveyed
from harness.merge import Expression, Merged, Source, elementwise, evaluate, sources
from harness.merge.expression import SMALL, torch_dtype
from harness.weights import open_model
from harness.weights.stream import InputFiles
from harness.weights.write import bytes_of

if TYPE_CHECKING:
    from torch import Tensor

_PIECE: Final = 4099
"""Values in a piece when a tensor is made in pieces: a prime, so that pieces end anywhere."""
_CANCELLED: Final = 2.0 ** -20
"""Of the largest value that is read: eight units of float32 there."""
_REDUCED: Final = 2 ** 22
"""A tensor of more values is compared on so many from its start where that is enough."""


@dataclass(frozen=True, kw_only=True)
class Identity:
    """One of the things that must hold. `holds` is None where it means nothing for this merge."""

    name: str
    holds: bool | None
    said: str


@dataclass
class _Tally:
    name: str
    checked: int = 0
    failed: list[str] = field(default_factory=list)
    worst: float = 0.0

    def add(self, key: str, holds: bool) -> None:
        self.checked += 1
        if not holds:
            self.failed.append(key)


def check_identities(plan: FilePlan, saved: Path | None, advance: Advance = lambda _: None) -> list[Identity]:
    """Every identity with how many merged keys it was checked on, or why it does not apply.

    `saved` is the file that was written from `plan`, if there is one.
    """
    from blake3 import blake3

    tallies = {name: _Tally(name) for name in (
        "alpha 0 is A", "alpha 1 is B", "A with A is A", "float64 within one unit in the last place", "pieces are the whole",
        "order does not matter", "the saved file is what memory holds")}
    digests: dict[tuple[str, str], str] = {}
    precision = plan.recipe.precision
    written = None if saved is None else open_model(saved)
    with InputFiles() as files, one_thread():
        read = reader(plan.recipe, files)
        merged = {(component, key): e for component, part in plan.recipe.parts.items()
                  for key, e in surveyed(part.keys, read, {}).items() if not isinstance(e, Source)}
        for (component, key), expression in merged.items():
            dtype = plan.recipe.parts[component].stored[key].dtype
            held = {source: read(source) for source in dict.fromkeys(sources(expression))}
            made = evaluate(expression, held.__getitem__, dtype=dtype, precision=precision)
            digests[component, key] = blake3(bytes_of(made)).hexdigest()
            if isinstance(expression, Merged):
                _ends(expression, held.__getitem__, dtype, as_whole(expression, dtype, precision), tallies)
            ulps = ulps_apart(made, evaluate(expression, held.__getitem__, dtype=dtype, precision="fp64"), dtype, held.values())
            tally = tallies["float64 within one unit in the last place"]
            tally.worst = max(tally.worst, ulps)
            tally.add(key, ulps <= 1)
            if elementwise(expression):
                tallies["pieces are the whole"].add(key, same_values(made.reshape(-1)[:_REDUCED], _in_pieces(
                    expression, held, dtype, precision)))
            if written is not None:
                tallies["the saved file is what memory holds"].add(key, same_values(made, written.tensor(component, key)))
            advance(made.numel() * made.element_size() // 2)
        for (component, key), expression in reversed(merged.items()):
            dtype = plan.recipe.parts[component].stored[key].dtype
            made = evaluate(expression, read, dtype=dtype, precision=precision)
            tallies["order does not matter"].add(key, blake3(bytes_of(made)).hexdigest() == digests[component, key])
            advance(made.numel() * made.element_size() // 2)
    return [_result(tally) for tally in tallies.values()]


def _ends(expression: Merged, read: Callable[[Source], Tensor], dtype: str, precision: str, tallies: dict[str, _Tally]) -> None:
    for alpha, name, end in ((0.0, "alpha 0 is A", expression.method.at_zero), (1.0, "alpha 1 is B", expression.method.at_one)):
        if end in ("a", "b"):
            at = replace(expression, call=replace(expression.call, alpha=alpha))
            parent = expression.inputs["ab".index(end)]
            if expression.channels and end == "b":
                continue
            tallies[name].add(expression.key, same_values(evaluate(at, read, dtype=dtype, precision=precision),
                                                    evaluate(parent, read, dtype=dtype, precision=precision)))
    alone = replace(expression, inputs=(expression.inputs[0],) * len(expression.inputs))
    tallies["A with A is A"].add(expression.key, same_values(
        evaluate(alone, read, dtype=dtype, precision=precision),
        evaluate(expression.inputs[0], read, dtype=dtype, precision=precision)))


def as_whole(expression: Expression, dtype: str, precision: str) -> str:
    """The precision of the whole, for a part of it that by itself would be computed in float32."""
    return precision if dtype in SMALL and all(source.dtype in SMALL for source in sources(expression)) else "fp64"


def _in_pieces(expression: Expression, held: dict[Source, Tensor], dtype: str, precision: str) -> Tensor:
    import torch

    count = min(next(iter(held.values())).numel(), _REDUCED)
    flat = {source: tensor.reshape(-1) for source, tensor in held.items()}

    def pieces() -> Iterator[Tensor]:
        for start in range(0, count, max(_PIECE, count // 64)):
            stop = min(start + max(_PIECE, count // 64), count)
            cut = {source: tensor[start:stop] for source, tensor in flat.items()}
            yield evaluate(expression, cut.__getitem__, dtype=dtype, precision=precision)

    return torch.cat(list(pieces())) if count else torch.empty(0, dtype=torch_dtype(dtype))


def ulps_apart(made: Tensor, exact: Tensor, dtype: str, read: Iterable[Tensor]) -> float:
    """The largest distance between two tensors in units in the last place of `dtype`, without what float32 itself leaves
    where terms of the size of the models cancel: bfloat16 has units for much smaller numbers."""
    import torch

    if made.numel() == 0 or same_values(made, exact):
        return 0.0
    one, two = made.double(), exact.double()
    kind = torch.finfo(torch_dtype(dtype))
    largest = torch.maximum(one.abs(), two.abs()).clamp_min(kind.smallest_normal)
    unit = torch.pow(2.0, torch.floor(torch.log2(largest))) * kind.eps
    rounding = _CANCELLED * max(float(tensor.double().abs().max()) for tensor in read)
    return float((((one - two).abs() - rounding).clamp_min(0) / unit).max())


def same_values(one: Tensor, two: Tensor) -> bool:
    """The same bits: a negative zero is not a positive one."""
    return one.dtype == two.dtype and one.shape == two.shape and bytes_of(one) == bytes_of(two)


def _result(tally: _Tally) -> Identity:
    if not tally.checked:
        return Identity(name=tally.name, holds=None, said="means nothing for this merge, or there is no file")
    worst = f", at most {tally.worst:.3g}" if tally.worst else ""
    if tally.failed:
        return Identity(name=tally.name, holds=False, said=f"{len(tally.failed)} of {tally.checked} keys differ: "
                        f"{', '.join(map(repr, tally.failed[:3]))}{worst}")
    return Identity(name=tally.name, holds=True, said=f"{tally.checked} keys{worst}")
