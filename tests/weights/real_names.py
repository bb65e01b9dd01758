"""The real key lists of every family, in diffusers' spelling from its own model classes and in that of single files, with small
tensors; and what stands where in both, from diffusers' own conversion functions."""

from __future__ import annotations

import inspect
import json
from functools import cache
from pathlib import Path
from typing import Any

import torch
from diffusers.loaders import single_file_utils
from torch import Tensor

import harness.weights
from harness.weights import ldm
from tests.weights.test_families import flux, sd3

State = dict[str, Tensor]
Rows = dict[tuple[str, int], tuple[str, int]]
CONFIGS = Path(harness.weights.__file__).parent / "configs"
REFINER = {
    "block_out_channels": [384, 768, 1536, 1536], "cross_attention_dim": 1280, "addition_embed_type": "text_time",
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "attention_head_dim": [6, 12, 24, 24],
    "addition_time_embed_dim": 256, "projection_class_embeddings_input_dim": 2560, "transformer_layers_per_block": 4,
    "use_linear_projection": True, "layers_per_block": 2}
UNETS = ("sd1", "sd2", "sdxl", "sdxl_refiner")
TRANSFORMERS = ("flux", "sd3")
WIDTH, MLP = 2, 4
"""The width of the small transformers, and that of their feed-forward."""
_DUAL = 13
"""Blocks of Stable Diffusion 3.5 medium with a second attention."""


def config(family: str, part: str) -> dict[str, Any]:
    return REFINER if family == "sdxl_refiner" else json.loads((CONFIGS / family / part / "config.json").read_text())


@cache
def _meta(family: str, part: str) -> State:
    import diffusers

    kind = {"unet": diffusers.UNet2DConditionModel, "vae": diffusers.AutoencoderKL}[part]
    with torch.device("meta"):
        return dict(kind.from_config(config(family, part)).state_dict())


@cache
def diffusers_shapes(family: str, part: str) -> dict[str, tuple[int, ...]]:
    """{name: a small shape of as many axes} of a U-Net or VAE."""
    return {name: tuple(2 if axis < 2 else 1 for axis in range(tensor.ndim)) for name, tensor in _meta(family, part).items()}


@cache
def single_file_names(family: str, part: str) -> dict[str, str]:
    """{diffusers name: name in a single file below its prefix} of a U-Net or VAE, which diffusers itself converts back."""
    names = {"unet": ldm.unet_to_ldm, "vae": ldm.vae_to_ldm}[part](_meta(family, part))
    prefix = {"unet": ldm.UNET_PREFIX, "vae": ldm.VAE_PREFIX}[part]
    convert = {"unet": single_file_utils.convert_ldm_unet_checkpoint, "vae": single_file_utils.convert_ldm_vae_checkpoint}[part]
    tagged = {prefix + theirs: torch.full((1, 1, 1, 1), float(number)) for number, theirs in enumerate(names.values())}
    back = convert(tagged, {**config(family, part), "class_embed_type": None, "num_class_embeds": None})
    assert [float(back[ours].reshape(-1)[0]) for ours in names] == list(range(len(names)))
    return names


@cache
def original_shapes(family: str) -> dict[str, tuple[int, ...]]:
    """{name: small shape} of a whole transformer in the names of Black Forest Labs or Stability."""
    second = [f"joint_blocks.{block}.x_block.attn2.{end}" for block in range(_DUAL) for end in (
        "qkv.weight", "qkv.bias", "proj.weight", "proj.bias", "ln_q.weight", "ln_k.weight")]
    return {name: _small(name) for name in (flux(19, 38) if family == "flux" else (*sd3(24), *second))}


def _small(name: str) -> tuple[int, ...]:
    path, _, leaf = name.rpartition(".")
    rows = WIDTH
    dual = path.endswith("x_block.adaLN_modulation.1") and int(path.split(".")[1]) < _DUAL
    if path.endswith("qkv"):
        rows = 3 * WIDTH
    elif path.endswith("linear1"):
        rows = 3 * WIDTH + MLP
    elif "adaLN" in path or "_mod." in path or "modulation" in path:
        last = path.startswith("final_layer") or path == "joint_blocks.23.context_block.adaLN_modulation.1"
        rows = WIDTH * (2 if last else 9 if dual else 6)
    if name == "pos_embed":
        return (1, 3, WIDTH)
    if leaf == "bias" or "norm" in path or ".ln_" in path:
        return (rows,)
    return (rows, WIDTH, 1, 1) if path == "x_embedder.proj" else (rows, WIDTH)


@cache
def diffusers_rows(family: str) -> tuple[dict[str, tuple[int, ...]], Rows]:
    """{diffusers name: small shape} of the same transformer, and where each of its rows stands in the original layout."""
    rows = [(name, row) for name, shape in original_shapes(family).items() for row in range(shape[0])]
    number = {place: tag for tag, place in enumerate(rows)}
    tagged = {}
    for name, shape in original_shapes(family).items():
        tags = torch.tensor([float(number[name, row]) for row in range(shape[0])])
        tagged[name] = tags.reshape(-1, *[1] * (len(shape) - 1)).expand(shape).clone()
    here = _converter(family, WIDTH, MLP)(dict(tagged))
    table = {(name, row): rows[int(tensor[row].reshape(-1)[0])] for name, tensor in here.items()
             for row in range(tensor.shape[0])}
    assert set(table.values()) == set(rows)
    return {name: tuple(tensor.shape) for name, tensor in here.items()}, table


def converted(family: str, weights: State, width: int, mlp: int, blocks: tuple[int, int]) -> State:
    """Weights of a transformer with so many blocks, by original name, as diffusers converts them; the tensors beside them, which
    the converter wants too, are zeros."""
    names = flux(*blocks) if family == "flux" else sd3(blocks[0])
    beside = {name: torch.zeros(weights[weight].shape[0] if (weight := name[:-4] + "weight") in weights else 1)
              for name in names if name not in weights}
    made = _converter(family, width, mlp)({**beside, **weights})
    return {name: made[name] for name in made if name.endswith(".weight") and made[name].ndim > 1}


def _converter(family: str, width: int, mlp: int) -> Any:
    """diffusers' converter; for Flux with the widths of a small model, since those of the published ones stand in its text."""
    if family == "sd3":
        return single_file_utils.convert_sd3_transformer_checkpoint_to_diffusers
    function = single_file_utils.convert_flux_transformer_checkpoint_to_diffusers
    text = inspect.getsource(function)
    assert "inner_dim = 3072" in text and "mlp_ratio = 4.0" in text
    names = dict(vars(single_file_utils))
    exec(text.replace("3072", str(width)).replace("mlp_ratio = 4.0", f"mlp_ratio = {mlp / width}"), names)
    return names[function.__name__]


def drawn(shapes: dict[str, tuple[int, ...]], seed: int) -> State:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def in_diffusers(family: str, original: State) -> State:
    """A transformer's tensors in diffusers' layout, those that are there."""
    shapes, table = diffusers_rows(family)
    places = {name: [table[name, row] for row in range(shape[0])] for name, shape in shapes.items()}
    return {name: torch.stack([original[source][row] for source, row in rows]).reshape(shapes[name])
            for name, rows in places.items() if all(source in original for source, _ in rows)}
