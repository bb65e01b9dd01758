"""Tiny random T2I-Adapters, in every layout that files have."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import T2IAdapter, UNet2DConditionModel

from tests.control.nets import State
from tests.weights.pipelines import theirs
from tests.weights.tiny_families import unet_config

FORMS: dict[tuple[str, str], dict[str, Any]] = {
    ("sd1", "full"): {"channels": [8, 16, 16], "downscale_factor": 2, "adapter_type": "full_adapter"},
    ("sd1", "light"): {"channels": [8, 16], "downscale_factor": 2, "adapter_type": "light_adapter", "num_res_blocks": 3},
    ("sdxl", "full"): {"channels": [8, 16, 16, 16], "downscale_factor": 4, "adapter_type": "full_adapter_xl"},
}
"""What fits `pipeline_of` the family, whose latents have half the size of pictures. The last of SDXL's four is for the middle."""
_PLAIN, _CROSS = "DownBlock2D", "CrossAttnDownBlock2D"
_DOWN = {"sd1": [_CROSS, _CROSS, _PLAIN], "sdxl": [_PLAIN, _CROSS, _CROSS]}


def pipeline_of(family: str) -> Any:
    """The tiny pipeline of a family with a U-Net of three levels, the last two of one width, as real ones have."""
    pipe, down = theirs(family), _DOWN[family]
    config = unet_config(family, block_out_channels=[8, 16, 16], down_block_types=down,
                         up_block_types=[block.replace("Down", "Up") for block in reversed(down)])
    if family == "sdxl":
        config |= {"transformer_layers_per_block": [1, 2, 1], "projection_class_embeddings_input_dim": 46}
    with torch.random.fork_rng():
        torch.manual_seed(4)
        unet = UNet2DConditionModel(**config).eval().requires_grad_(False)
        for parameter in unet.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
    pipe.register_modules(unet=unet)
    return pipe


def adapter(family: str = "sd1", form: str = "full", seed: int = 7, **config: Any) -> T2IAdapter:
    """A random adapter whose features matter."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = T2IAdapter(**{"num_res_blocks": 2, **FORMS[family, form], **config})
        for parameter in net.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    return net.eval().requires_grad_(False)


def flat_names(state: State) -> State:
    """A full adapter's tensors by the original code's names, which count its layers through all blocks."""
    renamed: State = {}
    for name, tensor in state.items():
        parts = name.removeprefix("adapter.").split(".")
        if parts[0] == "body" and parts[2] == "resnets":
            parts = ["body", str(2 * int(parts[1]) + int(parts[3])), *parts[4:]]
        elif parts[0] == "body":
            parts[1] = str(2 * int(parts[1]))
        renamed[".".join(parts)] = tensor
    return renamed


def light_names(state: State) -> State:
    """A light adapter's tensors by the original code's names."""
    return {name.removeprefix("adapter.").replace(".resnets.", ".body."): tensor for name, tensor in state.items()}
