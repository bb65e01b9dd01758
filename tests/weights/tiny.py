"""Tiny random Stable Diffusion 1 models: the components, their config folder and their single file, for these tests."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from harness.weights import export_ldm, save_single_file


@dataclass(frozen=True, kw_only=True)
class Tiny:
    """State dicts by component, and the configs that made them."""

    unet: dict[str, torch.Tensor]
    vae: dict[str, torch.Tensor]
    text_encoder: dict[str, torch.Tensor]
    configs: dict[str, dict[str, Any]]

    def file(self) -> dict[str, torch.Tensor]:
        return export_ldm(self.unet, self.vae, self.text_encoder)

    def write(self, folder: Path, name: str = "model.safetensors", **extra: torch.Tensor) -> Path:
        save_single_file(folder / name, {**self.file(), **extra}, {})
        return folder / name

    def write_configs(self, folder: Path) -> Path:
        for component, config in self.configs.items():
            name = "scheduler_config.json" if component == "scheduler" else "config.json"
            (folder / component).mkdir(parents=True, exist_ok=True)
            (folder / component / name).write_text(json.dumps(config))
        return folder


def tiny(layers: int = 1, down: tuple[str, ...] = ("CrossAttnDownBlock2D", "DownBlock2D"),
         dtype: torch.dtype = torch.float32) -> Tiny:
    """Widths differ between all components, so a tensor in the wrong place cannot fit by chance."""
    widths = [8, 16, 24][:len(down)]
    up = [block.replace("Down", "Up") for block in reversed(down)]
    unet = {"block_out_channels": widths, "down_block_types": list(down), "up_block_types": up, "layers_per_block": layers,
            "cross_attention_dim": 12, "attention_head_dim": 2, "norm_num_groups": 4, "sample_size": 8}
    vae = {"block_out_channels": [4, 12, 20][:len(down)], "down_block_types": ["DownEncoderBlock2D"] * len(down),
           "up_block_types": ["UpDecoderBlock2D"] * len(down), "layers_per_block": layers, "norm_num_groups": 4}
    text = {"hidden_size": 12, "intermediate_size": 28, "num_hidden_layers": 2, "num_attention_heads": 2,
            "vocab_size": 49408, "max_position_embeddings": 77}
    scheduler = {"_class_name": "PNDMScheduler", "prediction_type": "epsilon", "beta_schedule": "scaled_linear"}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        modules = (UNet2DConditionModel(**unet), AutoencoderKL(**vae), CLIPTextModel(CLIPTextConfig(**text)))
        states = [{k: torch.randn_like(v).to(dtype) for k, v in module.state_dict().items()} for module in modules]
    return Tiny(unet=states[0], vae=states[1], text_encoder=states[2],
                configs={"unet": unet, "vae": vae, "text_encoder": text, "scheduler": scheduler})
