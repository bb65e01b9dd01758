"""Union networks (ControlNet Union, ProMax): one ControlNet for several kinds of pictures. Each
control declares its kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from harness.control.layouts import TASKS, UNION
from harness.declare.picture_kinds import PICTURE_KINDS
from harness.weights.safetensors_header import ModelFileError

if TYPE_CHECKING:
    import torch

    from harness.control.reading import ControlFile

_HEADS: Final = 8
"""Of the transformer that mixes the kinds, where no config.json says so."""


def union_config(control: ControlFile) -> dict[str, Any]:
    """What of the config of diffusers' ControlNetUnionModel is beyond a ControlNet's. Raises ModelFileError for tensors that are
    in no union network."""
    shapes = control.shapes()
    tasks, projection = shapes[TASKS], shapes.get("spatial_ch_projs.weight", ())
    if len(tasks) != 2 or len(projection) != 2:
        raise ModelFileError(f"{control.path}: {TASKS!r} is {list(tasks)} and 'spatial_ch_projs.weight' "
                             f"{list(projection) or 'missing'}; expected two dimensions of both. Download it again")
    layers = {name.split(".")[1] for name in shapes if name.startswith("transformer_layes.")}
    return {"num_control_type": tasks[0], "num_trans_channel": tasks[1], "num_trans_layer": len(layers),
            "num_trans_head": control.config.get("num_trans_head", _HEADS), "num_proj_channel": projection[0]}


def place_of_kind(control: ControlFile, kind: str) -> int | None:
    """The place of a declared kind in a union network; None for a network of one kind. Raises ModelFileError for a kind that is
    missing, or that the network does not have."""
    if control.named.layout != UNION:
        if kind:
            raise ModelFileError(f"{control.path}: kind is {kind!r}, but only union networks take a kind, and this network is "
                                 "for one kind; remove kind")
        return None
    count = (control.shapes()[TASKS] or (0,))[0]
    known = [name for name, place in PICTURE_KINDS.items() if place < count]
    if kind not in known:
        lacks = f"kind is {kind!r}, which it does not have" if kind else "it must be told the kind of its pictures"
        raise ModelFileError(f"{control.path}: this is a union network of {count} kinds, and {lacks}; give Control(kind=...) one "
                             f"of {', '.join(known)}")
    return PICTURE_KINDS[kind]


def union_inputs(network: Any, kind: int, drawn: torch.Tensor) -> dict[str, Any]:
    """The pictures (n, 3, h, w) of one kind as keyword arguments of diffusers' ControlNetUnionModel."""
    import torch

    kinds = torch.zeros((drawn.shape[0], int(network.config["num_control_type"])), dtype=drawn.dtype, device=drawn.device)
    kinds[:, kind] = 1
    return {"controlnet_cond": [drawn], "control_type": kinds, "control_type_idx": [kind]}
