"""Tiny random control networks, in every layout that files have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from safetensors.torch import save_file

from harness.control.layouts import DIFFERENCE, MARK, PREFIX
from harness.weights import ldm

State = dict[str, torch.Tensor]
HINT = (4, 6)


def of_unet(unet: UNet2DConditionModel, seed: int = 5, hint: tuple[int, ...] = HINT) -> ControlNetModel:
    """A random network of the shape of a U-Net's encoder, whose outer convolutions are not zero."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=hint)
        for parameter in net.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    return net.eval()


def original_names(state: State) -> State:
    """The same tensors by the original code's names, without a prefix; by the map as the original code counts its layers."""
    hints = sum(name.startswith("controlnet_cond_embedding.blocks.") for name in state) // 2
    own: State = {}
    rest: State = {}
    for name, tensor in state.items():
        leaf = name.rpartition(".")[2]
        parts = name.split(".")
        if parts[0] == "controlnet_cond_embedding":
            place = 0 if parts[1] == "conv_in" else 2 * (hints + 1) if parts[1] == "conv_out" else 2 * (int(parts[2]) + 1)
            own[f"input_hint_block.{place}.{leaf}"] = tensor
        elif parts[0] == "controlnet_down_blocks":
            own[f"zero_convs.{parts[1]}.0.{leaf}"] = tensor
        elif parts[0] == "controlnet_mid_block":
            own[f"middle_block_out.0.{leaf}"] = tensor
        else:
            rest[name] = tensor
    return own | {new: rest[old] for old, new in ldm.unet_to_ldm(rest).items()}


def write_folder(net: ControlNetModel, folder: Path, **config: Any) -> str:
    net.save_pretrained(folder)
    if config:
        file = folder / "config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **config}))
    return str(folder)


def write(path: Path, state: State) -> str:
    save_file({name: tensor.contiguous().clone() for name, tensor in state.items()}, path)
    return str(path)


def four_files(net: ControlNetModel, unet: UNet2DConditionModel, root: Path) -> dict[str, Path]:
    """One network in every layout of a whole one, and as differences to the U-Net."""
    state = {name: tensor.detach().clone() for name, tensor in net.state_dict().items()}
    base = unet.state_dict()
    deltas = {name: tensor - base[name] if name in base else tensor for name, tensor in state.items()}
    write_folder(net, root / "folder")
    write(root / "bare.safetensors", state)
    write(root / "original.safetensors", original_names(state))
    write(root / "prefixed.safetensors", {PREFIX + name: tensor for name, tensor in original_names(state).items()})
    write(root / "beside.safetensors", {**{PREFIX + name: tensor for name, tensor in original_names(state).items()},
                                        "model.diffusion_model.out.2.bias": torch.zeros(4)})
    torch.save({PREFIX + name: tensor for name, tensor in original_names(state).items()}, root / "pickled.pth")
    write(root / "difference.safetensors", {**{PREFIX + name: tensor for name, tensor in original_names(deltas).items()},
                                            DIFFERENCE: torch.zeros(())})
    return {name: root / file for name, file in {
        "folder": "folder", "bare": "bare.safetensors", "original": "original.safetensors", "prefixed": "prefixed.safetensors",
        "beside": "beside.safetensors", "pickled": "pickled.pth", "difference": "difference.safetensors"}.items()}


def control_lora(unet: UNet2DConditionModel, seed: int = 9, rank: int = 2) -> State:
    """A Control-LoRA: factors of the encoder's matrices and convolutions, its biases and norms whole, hint encoder and outer
    convolutions whole."""
    state = {name: tensor.detach().clone() for name, tensor in of_unet(unet, seed).state_dict().items()}
    generator = torch.Generator().manual_seed(seed)
    lora: State = {MARK: torch.zeros(())}
    for name, tensor in original_names(state).items():
        if not name.startswith(("input_hint_block", "zero_convs", "middle_block_out")) and tensor.ndim > 1:
            module = name.removesuffix(".weight")
            lora[f"{module}.up"] = torch.randn(tensor.shape[0], rank, *(1,) * (tensor.ndim - 2), generator=generator) * 0.1
            lora[f"{module}.down"] = torch.randn(rank, *tensor.shape[1:], generator=generator) * 0.1
        else:
            lora[name] = tensor
    return lora
