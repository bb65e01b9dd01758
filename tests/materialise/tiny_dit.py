"""Whole files of Flux and Stable Diffusion 3 under their real names, with tiny shapes that fit together."""

from __future__ import annotations

import torch

from tests.weights.test_families import flux as flux_names
from tests.weights.test_families import sd3 as sd3_names

State = dict[str, torch.Tensor]
WIDTH, MLP, PATCH = 4, 8, 3
"""The width of the transformer and of its feed-forward, and the values of a patch."""


def flux(seed: int, patch: int = PATCH, dtype: torch.dtype = torch.float32) -> State:
    return _drawn({name: _shape(name, patch) for name in flux_names()}, seed, dtype)


def sd3(seed: int, channels: int = PATCH, dtype: torch.dtype = torch.float32) -> State:
    shapes = {name: _shape(name, channels) for name in sd3_names()}
    shapes |= {"x_embedder.proj.weight": (WIDTH, channels, 2, 2), "pos_embed": (1, 4, WIDTH)}
    last = max(name for name in shapes if "context_block" in name).split(".")[1]
    shapes[f"joint_blocks.{last}.context_block.adaLN_modulation.1.weight"] = (2 * WIDTH, WIDTH)
    shapes[f"joint_blocks.{last}.context_block.adaLN_modulation.1.bias"] = (2 * WIDTH,)
    return _drawn(shapes, seed, dtype)


def comfy(state: State) -> State:
    """The same file as ComfyUI has saved it since February 2026: the scales of its norms are weights."""
    return {name.replace("_norm.scale", "_norm.weight"): tensor for name, tensor in state.items()}


def _drawn(shapes: dict[str, tuple[int, ...]], seed: int, dtype: torch.dtype) -> State:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator).to(dtype) for name, shape in shapes.items()}


def _shape(name: str, patch: int) -> tuple[int, ...]:
    path, _, leaf = name.rpartition(".")
    if leaf == "scale" or ".ln_" in path:
        return (2,)
    rows, columns = WIDTH, WIDTH
    if path.endswith("qkv"):
        rows = 3 * WIDTH
    elif path.endswith("linear1"):
        rows = 3 * WIDTH + MLP
    elif path.endswith("linear2"):
        columns = WIDTH + MLP
    elif path.endswith(("mlp.0", "mlp.fc1")):
        rows = MLP
    elif path.endswith(("mlp.2", "mlp.fc2")) and not path.startswith(("t_", "y_")):
        columns = MLP
    elif path.endswith(("mod.lin", "block.adaLN_modulation.1")):
        rows = 6 * WIDTH
    elif path.endswith("modulation.lin"):
        rows = 3 * WIDTH
    elif path.endswith("final_layer.adaLN_modulation.1"):
        rows = 2 * WIDTH
    elif path == "final_layer.linear":
        rows = PATCH
    elif path == "img_in":
        columns = patch
    return (rows, columns) if leaf == "weight" else (rows,)
