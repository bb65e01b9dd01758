"""A denoiser in its authors' names as diffusers' module has it: which rows of which stored tensors make each parameter.
diffusers' own converter of single files says so, of tensors that hold the numbers of their rows; no weight is read."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from harness.declare.listing import first_of
from harness.weights.files import ModelFileError
from harness.weights.header_claims import short
from harness.weights.model import TensorInfo
from harness.weights.relayout import rows_of, stacked

if TYPE_CHECKING:
    import torch

Infos = Mapping[str, TensorInfo]
Run = tuple[str, int, int]
"""Rows of a stored tensor, one after the other: its name, the first, and the one after the last."""
_SPACING: Final = 2 ** 36
"""Between the numbers of two tensors: more rows than any has."""
_LENGTHS: Final = (3, 5, 7, 11, 13)
"""What stands for the dimensions after the first, each of another length so that none can take another's place unseen."""
_MOST_NUMBERS: Final = 2 ** 26
_MOST_RUNS: Final = 1024
"""Runs of rows in one parameter. Converters put halves and thirds together."""


def converted(path: Path, kind: str, infos: Infos, config: Mapping[str, Any] | None = None
              ) -> tuple[dict[str, TensorInfo], tuple[str, ...]]:
    """The parameters of diffusers' class `kind`, and the names of the tensors that it has no use for. `infos` are those of a file
    without the prefix that precedes all names, `config` is that of the module.

    Raises ModelFileError where diffusers has no converter for the class, where it does not take these tensors, and where it does
    anything else than to rename tensors and to take, divide, reorder or join their rows.
    """
    from diffusers.loaders.single_file_model import SINGLE_FILE_LOADABLE_CLASSES

    if kind not in SINGLE_FILE_LOADABLE_CLASSES:
        raise ModelFileError(f"{path}: its tensors have other names than diffusers' {short(kind)}, and diffusers has no "
                             "converter for this class. Give the model as a diffusers folder.")
    convert: Callable[..., Mapping[str, Any]] = SINGLE_FILE_LOADABLE_CLASSES[kind]["checkpoint_mapping_fn"]
    names = list(infos)
    try:
        numbered = _numbered(infos)
        made = _called(convert, {name: numbered[name] for name in names}, config)
        again = _called(convert, {name: numbered[name] for name in reversed(names)}, config)
        runs = {key: _runs(key, tensor, names, infos) for key, tensor in made.items()}
        used = {name for of in runs.values() for name, _, _ in of}
        others = {name for key, tensor in again.items() for name, _, _ in _runs(key, tensor, names, infos)}
        if twice := sorted(used ^ others):
            raise ValueError(f"{first_of([*map(repr, twice)], 2, between=' and ')} are one parameter of the module")  # noqa: TRY301
        _refuse_parts(runs, infos)
        parameters = {key: _joined(key, infos, of, tuple(made[key].shape)) for key, of in runs.items()}
    except ValueError as error:
        raise ModelFileError(f"{path}: read by diffusers' converter of single files for {kind}: {error}; expected a whole file "
                             "in its authors' names. Give that, or the model as a diffusers folder.") from error
    return parameters, tuple(name for name in names if name not in used)


def _numbered(infos: Infos) -> dict[str, torch.Tensor]:
    """A tensor for each stored one, of as many rows and few columns; its values are the numbers of its rows, or of its values
    where it has one dimension."""
    import torch

    if odd := next((name for name, info in infos.items() if len(info.shape) > len(_LENGTHS) + 1 or 0 in info.shape), ""):
        raise ValueError(f"{odd!r} is {list(infos[odd].shape)}, which no parameter is")
    shapes = {name: _small(info.shape) for name, info in infos.items()}
    if (total := sum(map(math.prod, shapes.values()))) > _MOST_NUMBERS:
        raise ValueError(f"its tensors have {total} rows and columns to be renamed, more than {_MOST_NUMBERS}")
    return {name: (torch.arange(shape[0] if shape else 1) + number * _SPACING).reshape(
        (-1, *(1,) * (len(shape) - 1)) if shape else ()).expand(shape) for number, (name, shape) in enumerate(shapes.items())}


def _small(shape: Sequence[int]) -> tuple[int, ...]:
    """A shape of as many rows, with few columns."""
    return (*shape[:1], *(min(length, own) for length, own in zip(shape[1:], _LENGTHS, strict=False)))


def _called(convert: Callable[..., Mapping[str, Any]], checkpoint: dict[str, torch.Tensor], config: Mapping[str, Any] | None
            ) -> dict[str, torch.Tensor]:
    """What the converter makes of these tensors."""
    import torch

    try:
        with _splitting_in_proportion():
            made = convert(checkpoint=checkpoint, config=dict(config or {}))
    except Exception as error:  # of any type, for names and shapes that it does not expect
        raise ValueError(f"{type(error).__name__}: {first_of([str(error)])}") from error
    parameters = {str(key): tensor for key, tensor in made.items() if tensor is not None}
    for key, tensor in parameters.items():
        if not isinstance(tensor, torch.Tensor) or tensor.dtype != torch.int64 or not tensor.numel():
            raise ValueError(f"{key!r} is computed, and not made of rows of stored tensors alone")
    return parameters


@contextmanager
def _splitting_in_proportion() -> Iterator[None]:
    """Within the block a tensor that is split into fixed numbers of rows, those of the published model, is split in their
    proportion where it has another number, as a model of another width has. The shapes of the module decide whether that is
    right."""
    import torch
    from torch.overrides import TorchFunctionMode

    class Proportional(TorchFunctionMode):
        def __torch_function__(self, function: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
            if function in (torch.split, torch.Tensor.split) and len(args) > 1 and isinstance(args[1], list | tuple):
                total, rows = sum(args[1]), args[0].shape[0]
                if total > 0 and total != rows and all(size * rows % total == 0 for size in args[1]):
                    args = (args[0], [size * rows // total for size in args[1]], *args[2:])
            return function(*args, **(kwargs or {}))

    with Proportional():
        yield


def _runs(key: str, tensor: torch.Tensor, names: Sequence[str], infos: Infos) -> list[Run]:
    """The rows that a parameter is made of, in order."""
    import torch

    whole = tensor.reshape(tensor.shape[0] if tensor.ndim else 1, -1)
    rows = whole[:, 0] if bool((whole == whole[:, :1]).all()) else whole.reshape(-1)
    ends = [*(torch.nonzero(rows[1:] != rows[:-1] + 1).reshape(-1) + 1).tolist()[:_MOST_RUNS + 1], len(rows)]
    runs, begin = [], 0
    for end in ends:
        number, first = divmod(int(rows[begin]), _SPACING)
        if not 0 <= number < len(names) or first + end - begin > _height(infos[names[number]]) or len(ends) > _MOST_RUNS:
            raise ValueError(f"{key!r} is not made of rows of stored tensors alone")
        runs.append((names[number], first, first + end - begin))
        begin = end
    return runs


def _height(info: TensorInfo) -> int:
    return info.shape[0] if info.shape else 1


def _refuse_parts(runs: Mapping[str, Iterable[Run]], infos: Infos) -> None:
    """Raises ValueError unless all rows of each tensor that is used are used once."""
    by_tensor: dict[str, list[tuple[int, int]]] = {}
    for of in runs.values():
        for name, begin, end in of:
            by_tensor.setdefault(name, []).append((begin, end))
    for name, spans in by_tensor.items():
        begins, ends = zip(*sorted(spans), strict=True)
        if (*begins, _height(infos[name])) != (0, *ends):
            raise ValueError(f"rows of {name!r} are used twice or not at all")


def _joined(key: str, infos: Infos, runs: Sequence[Run], shape: tuple[int, ...]) -> TensorInfo:
    """The parameter that is made of these runs, of which the stand-in has this shape."""
    whole = stacked([infos[name] if end - begin == _height(infos[name]) else rows_of(infos[name], begin, end)
                     for name, begin, end in runs])
    mine = _small(whole.shape)
    if mine == shape:
        return whole
    common = min(len(mine), len(shape))
    if common and mine[:common] == shape[:common] and set(max(mine, shape, key=len)[common:]) == {1}:
        # A convolution of one pixel and a matrix are the same numbers.
        return replace(whole, shape=(*whole.shape[:common], *(1,) * (len(shape) - common)))
    if len(runs) == 1 and len(whole.shape) == 1 and math.prod(shape) == whole.shape[0] and whole.rows is None:
        return replace(whole, shape=shape)
    raise ValueError(f"{key!r} is not made of rows of stored tensors alone")
