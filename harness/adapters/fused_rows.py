"""Splits a change by rows for single layers, and joins changes of single layers into one of a fused weight. Both are exact,
or refused with a reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final, TypeAlias

from harness.adapters.change import Change, on_input
from harness.adapters.kinds import bias_delta, plain_delta
from harness.adapters.module_names import Place

if TYPE_CHECKING:
    from torch import Tensor

Ranges: TypeAlias = tuple[tuple[int, int], ...]
_BY_ROW: Final = {"lora": ("up", "bias", "diff_b"), "full": ("diff", "diff_b"), "norm": ("w_norm", "b_norm"),
                  "glora": ("b1", "diff_b")}
"""Roles whose first dimension is the output; the other roles of these kinds are shared by all rows."""


class InseparableError(ValueError):
    """A change that cannot be split or joined exactly; the message says why."""


def select_rows(change: Change, ranges: Ranges, height: int) -> Change:
    """The change of the rows in `ranges`, one range after the other, of a weight of `height` rows.

    LoRA shares `down` and keeps its rows of `up`; LoHa keeps rows of both first halves; LoKr becomes a dense difference,
    because rows of a Kronecker product are not a Kronecker product. Raises InseparableError for rotations and for norms
    over columns.
    """
    whole = sum(end - begin for begin, end in ranges) == height
    magnitude = _rows_of_magnitude(change, ranges, height, whole)
    if change.kind == "lokr":
        return Change(component=change.component, path=change.path, kind="full", magnitude=magnitude, rank=change.rank,
                      tensors={"diff": _rows(dense(change, height), ranges), **_bias_rows(change, ranges)})
    if change.kind == "loha":
        # With a Tucker core, the output is the second dimension of both halves.
        axis = 1 if "t1" in change.tensors else 0
        tensors = {role: _rows(tensor, ranges, axis) if role in ("w1_a", "w2_a") else tensor
                   for role, tensor in change.tensors.items()} | _bias_rows(change, ranges)
    elif change.kind in _BY_ROW:
        tensors = {role: _rows(tensor, ranges) if role in _BY_ROW[change.kind] else tensor
                   for role, tensor in change.tensors.items()}
    elif change.kind == "ia3":
        shared_roles = ("weight", "on_input") if on_input(change) else ("on_input",)
        tensors = {role: tensor if role in shared_roles else _rows(tensor.reshape(-1), ranges)
                   for role, tensor in change.tensors.items()}
    else:
        raise InseparableError(f"a {change.kind.upper()} rotation of a whole weight has no exact form for some of its rows")
    return replace(change, tensors=tensors, magnitude=magnitude)


def select_places(change: Change, places: Sequence[Place], height: int) -> dict[str, Change]:
    """{path: the part of the change for its rows} of a change of a weight of `height` rows whose rows go to these places. Raises
    InseparableError."""
    return {place.path: replace(select_rows(change, place.rows, height) if place.rows else change, path=place.path)
            for place in places}


def join_rows(parts: Sequence[tuple[Change, tuple[int, int]]], height: int) -> Change:
    """One change of a weight of `height` rows from changes of some of them; other rows are unchanged.

    LoRAs become block-diagonal factors of the summed rank, float32, with each part's scale multiplied into its `up` and
    scale 1. Other additive kinds become a dense difference. Raises InseparableError for all other kinds.
    """
    import torch

    first = parts[0][0]
    kinds = {change.kind for change, _ in parts}
    if kinds == {"ia3"}:
        return _join_ia3(parts, height)
    if not kinds <= {"lora", "full", "loha", "lokr"} or any({"t1", "t2"} & set(change.tensors) for change, _ in parts):
        raise InseparableError(f"{', '.join(sorted(kinds))} of single layers has no exact form for the fused weight")
    magnitude = _join_magnitudes(parts, height)
    # Files with trained biases have layers of which only the bias is changed.
    weighted = [part for part in parts if part[0].kind != "full" or "diff" in part[0].tensors]
    tensors: dict[str, Tensor] = {}
    rank, kind = 0, "full"
    if weighted and all(change.kind == "lora" and "mid" not in change.tensors for change, _ in weighted):
        kind, tensors = "lora", _block_diagonal(weighted, height)
        rank = int(tensors["down"].shape[0])
    elif weighted:
        diff = torch.zeros(height, _width(weighted[0][0]))
        for change, (top, bottom) in weighted:
            diff[top:bottom] = dense(change, bottom - top)
        tensors["diff"] = diff
    given = [(bias_delta(change), place) for change, place in parts]
    if any(bias is not None for bias, _ in given):
        joined = torch.zeros(height)
        for bias, (top, bottom) in given:
            if bias is not None:
                joined[top:bottom] = bias.float()
        tensors["diff_b"] = joined
    return Change(component=first.component, path=first.path, kind=kind, tensors=tensors, rank=rank, magnitude=magnitude)


def _block_diagonal(parts: Sequence[tuple[Change, tuple[int, int]]], height: int) -> dict[str, Tensor]:
    """The factors of the fused weight. Parts with one and the same down, which come from a split LoRA, share its rank."""
    import torch

    downs: list[Tensor] = []
    columns: list[tuple[int, int]] = []
    for change, _ in parts:
        own = change.tensors["down"].flatten(1).float()
        same = next((number for number, down in enumerate(downs) if torch.equal(down, own)), -1)
        if same < 0:
            same = len(downs)
            downs.append(own)
        columns.append((sum(len(down) for down in downs[:same]), len(own)))
    down = torch.cat(downs)
    up = torch.zeros(height, down.shape[0])
    for (change, (top, bottom)), (begin, rank) in zip(parts, columns, strict=True):
        up[top:bottom, begin:begin + rank] = change.scale * change.tensors["up"].flatten(1).float()
    return {"down": down, "up": up}


def dense(change: Change, height: int) -> Tensor:
    """scale * delta of a linear layer of `height` rows as one float32 matrix, without DoRA's normalisation."""
    import torch

    return plain_delta(change, torch.zeros(height, _width(change)))


def _width(change: Change) -> int:
    have = change.tensors
    if change.kind == "lokr":
        left, right = (have[name] if name in have else have[f"{name}_b"] for name in ("w1", "w2"))
        return int(left.shape[1] * right.shape[1])
    return int(have[{"lora": "down", "full": "diff", "loha": "w1_b"}[change.kind]].shape[1])


def _bias_rows(change: Change, ranges: Ranges) -> dict[str, Tensor]:
    return {"diff_b": _rows(change.tensors["diff_b"], ranges)} if "diff_b" in change.tensors else {}


def _rows(tensor: Tensor, ranges: Ranges, axis: int = 0) -> Tensor:
    import torch

    return torch.cat([tensor.narrow(axis, begin, end - begin) for begin, end in ranges], dim=axis).contiguous()


def _rows_of_magnitude(change: Change, ranges: Ranges, height: int, whole: bool) -> Tensor | None:
    if change.magnitude is None or (whole and change.magnitude.shape[0] != height):
        return change.magnitude
    if change.magnitude.shape[0] != height:
        raise InseparableError("its DoRA norm runs over the columns of the fused weight, which the parts do not have")
    return _rows(change.magnitude, ranges)


def _join_magnitudes(parts: Sequence[tuple[Change, tuple[int, int]]], height: int) -> Tensor | None:
    import torch

    if all(change.magnitude is None for change, _ in parts):
        return None
    if sum(bottom - top for _, (top, bottom) in parts) != height or any(
            change.magnitude is None or change.magnitude.numel() != bottom - top for change, (top, bottom) in parts):
        raise InseparableError("DoRA of some rows of a fused weight, or over its columns, has no exact form for the whole")
    ordered = sorted(parts, key=lambda part: part[1])
    return torch.cat([change.magnitude.float().reshape(-1) for change, _ in ordered if change.magnitude is not None])


def _join_ia3(parts: Sequence[tuple[Change, tuple[int, int]]], height: int) -> Change:
    import torch

    joined = torch.zeros(height)
    for change, (top, bottom) in parts:
        if on_input(change):
            raise InseparableError("(IA)^3 on the input of single layers has no exact form for the fused weight")
        joined[top:bottom] = change.tensors["weight"].float().reshape(-1)
    first = parts[0][0]
    return Change(component=first.component, path=first.path, kind="ia3",
                  tensors={"weight": joined, "on_input": torch.tensor(False)})
