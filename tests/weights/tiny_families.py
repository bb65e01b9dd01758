"""Tiny random diffusers models of the families that single files and folders are converted between, for these tests."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from harness.weights import ModelFile, Placed

State = dict[str, torch.Tensor]

_CROSS, _PLAIN = "CrossAttnDownBlock2D", "DownBlock2D"
_VAE = {"block_out_channels": [4, 12], "down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2,
        "layers_per_block": 2, "norm_num_groups": 4}
STEMS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model"}
FAMILIES = ("sd1", "sd2", "sdxl", "sdxl_refiner")


def unet_config(family: str, **changes: Any) -> dict[str, Any]:
    """A U-Net of two or three levels as the family builds it."""
    down = {"sdxl": (_PLAIN, _CROSS), "sdxl_refiner": (_PLAIN, _CROSS, _PLAIN)}.get(family, (_CROSS, _PLAIN))
    config: dict[str, Any] = {
        "block_out_channels": [8, 16, 24][:len(down)], "down_block_types": list(down), "layers_per_block": 2,
        "up_block_types": [block.replace("Down", "Up") for block in reversed(down)], "cross_attention_dim": 12,
        "attention_head_dim": 2, "norm_num_groups": 4, "sample_size": 8, "use_linear_projection": family != "sd1"}
    if family.startswith("sdxl"):
        config |= {"addition_embed_type": "text_time", "addition_time_embed_dim": 4, "cross_attention_dim": 32,
                   "projection_class_embeddings_input_dim": 44, "transformer_layers_per_block": [1, 2, 1][:len(down)]}
    return {**config, **changes}


def text_config(width: int, layers: int = 2, **changes: Any) -> dict[str, Any]:
    return {"hidden_size": width, "intermediate_size": width * 2, "num_hidden_layers": layers, "num_attention_heads": 2,
            "vocab_size": 50, "max_position_embeddings": 77, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1,
            **changes}


def states(family: str, dtype: torch.dtype = torch.float32, **changes: Any) -> dict[str, State]:
    """{component: state dict under today's diffusers names, but for text encoders without `text_model.`}."""
    drawn = _drawn(family) if not changes else _draw(family, **changes)
    return {component: {name: tensor.to(dtype, copy=True) for name, tensor in state.items()}
            for component, state in drawn.items()}


@cache
def _drawn(family: str) -> dict[str, State]:
    return _draw(family)


def _draw(family: str, **changes: Any) -> dict[str, State]:
    # transformers 5 spells the two kinds of encoders differently; here both go without `text_model.`
    modules: dict[str, Any] = {"unet": UNet2DConditionModel(**unet_config(family, **changes)), "vae": AutoencoderKL(**_VAE)}
    if family != "sdxl_refiner":
        modules["text_encoder"] = CLIPTextModel(CLIPTextConfig(**text_config(12, 3 if family == "sd2" else 2)))
    if family.startswith("sdxl"):
        modules["text_encoder_2"] = CLIPTextModelWithProjection(CLIPTextConfig(**text_config(20, 3, projection_dim=20)))
    generator = torch.Generator().manual_seed(7)
    return {component: {name.removeprefix("text_model."): torch.randn(t.shape, generator=generator)
                        for name, t in module.state_dict().items()} for component, module in modules.items()}


def write_folder(folder: Path, parts: dict[str, State]) -> Path:
    """A diffusers folder; encoders with a projection are spelt with `text_model.` as transformers 5 saves them."""
    for component, state in parts.items():
        named = state
        if "text_projection.weight" in state:
            named = {n if n.startswith("text_projection") else f"text_model.{n}": t for n, t in state.items()}
        (folder / component).mkdir(parents=True)
        save_file(named, folder / component / f"{STEMS.get(component, 'model')}.safetensors")
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "tiny"}))
    return folder


def made(model: ModelFile, layout: tuple[Placed, ...]) -> State:
    """The tensors that a layout describes, in the simplest way there is: what a writer of files must agree with."""
    tensors: State = {}
    for placed in layout:
        if not placed.pieces and placed.source is None:
            tensors[placed.name] = torch.arange(placed.shape[-1])[None]
        elif not placed.pieces:
            tensors[placed.name] = model.files[placed.source.file].read([placed.source.source])[placed.source.source]
        else:
            parts = [model.tensor(piece.component, piece.key)[slice(*piece.cut or (None,))] for piece in placed.pieces]
            whole = torch.cat(parts) if len(parts) > 1 else parts[0]
            tensors[placed.name] = (whole.T if placed.transposed else whole).reshape(placed.shape).contiguous()
        assert tuple(tensors[placed.name].shape) == placed.shape
    return tensors
