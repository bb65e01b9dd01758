"""Names of U-Net, VAE and CLIP tensors in single files (the LDM and SGM layouts) and in diffusers, as maps both ways. The
architecture decides how blocks are numbered, not the keys that a file happens to hold."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Final

from harness.weights.numbering import MOST, Numbering, numbering_of

if TYPE_CHECKING:
    from torch import Tensor

UNET_PREFIX: Final = "model.diffusion_model."
VAE_PREFIX: Final = "first_stage_model."
TEXT_PREFIX: Final = "cond_stage_model.transformer.text_model."
NAI_TEXT_PREFIX: Final = "cond_stage_model.transformer."
"""Prefix of the text encoder in some early files, without `text_model.`."""
POSITION_IDS: Final = "embeddings.position_ids"
"""After the text prefix: the integers 0..n-1. A constant, not a weight, so the maps do not contain it."""

_UNET_FIXED: Final = {
    "conv_in": "input_blocks.0.0", "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
    "conv_norm_out": "out.0", "conv_out": "out.2",
    "add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2", "class_embedding": "label_emb",
}
_UNET_RESNET: Final = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
    "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
}
_UNET_ATTENTION: Final = {name: name for name in ("norm", "proj_in", "transformer_blocks", "proj_out")}
_IN_TRANSFORMER: Final = re.compile(
    r"\.[0-9]+\.(attn[12]\.(to_[qkv]|to_out\.0)|ff\.net\.(0\.proj|2)|norm[123])\.(weight|bias)")
_LEAF: Final = re.compile(r"\.(weight|bias)")
_FIRST_UPSAMPLER: Final = "up_blocks.0.upsamplers."
_VAE_FIXED: Final = {
    "quant_conv": "quant_conv", "post_quant_conv": "post_quant_conv",
    **{f"{half}.{ours}": f"{half}.{theirs}" for half in ("encoder", "decoder")
       for ours, theirs in (("conv_in", "conv_in"), ("conv_out", "conv_out"), ("conv_norm_out", "norm_out"))},
}
_VAE_RESNET: Final = {"norm1": "norm1", "conv1": "conv1", "norm2": "norm2", "conv2": "conv2",
                      "conv_shortcut": "nin_shortcut"}
_VAE_ATTENTION: Final = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
_VAE_OLD_ATTENTION: Final = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_VAE_ATTENTION_WEIGHT: Final = re.compile(r"mid_block\.attentions\.\d+\.to_(q|k|v|out\.0)\.weight$")
_TEXT_KEY: Final = re.compile(
    r"(embeddings\.(token|position)_embedding\.weight|final_layer_norm\.(weight|bias)|encoder\.layers\.[0-9]+\."
    r"(self_attn\.(q|k|v|out)_proj|mlp\.fc[12]|layer_norm[12])\.(weight|bias))")


def unet_to_ldm(diffusers_keys: Iterable[str], numbering: Numbering | None = None) -> dict[str, str]:
    """{diffusers name: name without UNET_PREFIX}. Raises KeyError, naming it, for a key that no such U-Net has, and for one
    whose place in a single file is undecided. Without `numbering`, the keys alone decide."""
    keys = list(diffusers_keys)
    given = numbering or numbering_of(unet=keys)
    modules = _unet_modules(given.layer_count, tuple(given.has_attention(block) for block in range(MOST)))
    undecided = _FIRST_UPSAMPLER if given.has_attention(0) is None else ""
    if undecided and (key := next((key for key in keys if key.startswith(undecided)), "")):
        raise KeyError(f"{key!r} is stored beside or after an attention layer in single files, and neither its family nor the "
                       "other tensors say which; give the whole U-Net, or a single file")
    return _rename(keys, modules, "U-Net")


def unet_to_diffusers(ldm_keys: Iterable[str], numbering: Numbering | None = None) -> dict[str, str]:
    """{name without UNET_PREFIX: diffusers name}. Raises KeyError, naming it, for a key that no such U-Net has. Without
    `numbering`, the keys alone decide."""
    keys = list(ldm_keys)
    count = (numbering or numbering_of(unet=keys)).layer_count
    # Both places of an upsampler are accepted; which one is right only matters for writing.
    return _rename(keys, {theirs: ours for attended in (False, True)
                          for ours, theirs in _unet_modules(count, (attended,) * MOST).items()}, "U-Net")


def vae_to_ldm(diffusers_keys: Iterable[str], numbering: Numbering | None = None) -> dict[str, str]:
    """{diffusers name: name without VAE_PREFIX}. Accepts the attention names of early diffusers (`query`, ...) too."""
    modern = vae_modern(diffusers_keys)
    renamed = _rename(modern.values(), _vae_modules((numbering or numbering_of(vae=modern)).level_count), "VAE")
    return {old: renamed[new] for old, new in modern.items()}


def vae_to_diffusers(ldm_keys: Iterable[str], numbering: Numbering | None = None) -> dict[str, str]:
    """{name without VAE_PREFIX: diffusers name}. Raises KeyError, naming it, for a key that no such VAE has."""
    keys = list(ldm_keys)
    return _rename(keys, _flip(_vae_modules((numbering or numbering_of(vae=keys)).level_count)), "VAE")


def vae_modern(diffusers_keys: Iterable[str]) -> dict[str, str]:
    """{name: today's diffusers name}. Folders written before diffusers 0.12 use query, key, value and proj_attn."""
    pattern = re.compile(r"(.*mid_block\.attentions\.\d+\.)(query|key|value|proj_attn)(\..*)")
    matches = {key: pattern.fullmatch(key) for key in diffusers_keys}
    return {key: f"{m[1]}{_VAE_OLD_ATTENTION[m[2]]}{m[3]}" if m else key for key, m in matches.items()}


def vae_conv_as_linear(diffusers_keys: Iterable[str]) -> frozenset[str]:
    """The names of the VAE's attention projections, which are (out, in) in diffusers and (out, in, 1, 1) in LDM files."""
    return frozenset(key for key in diffusers_keys if _VAE_ATTENTION_WEIGHT.search(key))


def text_to_ldm(diffusers_keys: Iterable[str]) -> dict[str, str]:
    """{transformers name: name without TEXT_PREFIX}. transformers 5 dropped `text_model.`; both forms are accepted."""
    return _text(diffusers_keys)


def text_to_diffusers(ldm_keys: Iterable[str]) -> dict[str, str]:
    """{name without TEXT_PREFIX or NAI_TEXT_PREFIX: transformers 5 name}. Raises KeyError, naming it, for a key that CLIP
    does not have."""
    return _text(ldm_keys)


def export_ldm(unet: Mapping[str, Tensor], vae: Mapping[str, Tensor], text_encoder: Mapping[str, Tensor]
               ) -> dict[str, Tensor]:
    """The state dict of a single SD1 file from three diffusers state dicts.

    Tensors keep their dtypes and shapes, except that the VAE's attention projections get a trailing (1, 1). position_ids is
    generated as int64 (1, n). Raises KeyError, naming it, for a key without a place in the layout.
    """
    import torch

    text = {key: tensor for key, tensor in text_encoder.items() if not key.endswith(POSITION_IDS)}
    text_names = text_to_ldm(text)
    modern = vae_modern(vae)
    as_conv = vae_conv_as_linear(modern.values())
    file = {UNET_PREFIX + name: unet[key] for key, name in unet_to_ldm(unet).items()}
    for key, name in vae_to_ldm(vae).items():
        linear = modern[key] in as_conv and vae[key].ndim == 2
        file[VAE_PREFIX + name] = vae[key][:, :, None, None] if linear else vae[key]
    file.update({TEXT_PREFIX + name: text[key] for key, name in text_names.items()})
    for key, name in text_names.items():
        if name == "embeddings.position_embedding.weight":
            file[TEXT_PREFIX + POSITION_IDS] = torch.arange(text[key].shape[0])[None]
    return file


@cache
def _unet_modules(layers: int, attended: tuple[bool | None, ...]) -> Mapping[str, str]:
    """{diffusers module: LDM module} of a U-Net with this many layers in each down block. `attended` says which up blocks have
    attention.

    LDM numbers the steps down and up consecutively across blocks: each resnet (with its attention) is one step, each
    downsampler is another, and an upsampler belongs to the last step of its block.
    """
    places = {"mid_block.resnets.0": "middle_block.0", "mid_block.attentions.0": "middle_block.1",
              "mid_block.resnets.1": "middle_block.2"}
    modules = dict(_UNET_FIXED)
    period = layers + 1
    for block in range(MOST):
        for side, theirs, first, count in (("down", "input_blocks", 1, layers), ("up", "output_blocks", 0, period)):
            for layer in range(count):
                step = f"{theirs}.{first + block * period + layer}"
                places[f"{side}_blocks.{block}.resnets.{layer}"] = f"{step}.0"
                places[f"{side}_blocks.{block}.attentions.{layer}"] = f"{step}.1"
        last = (block + 1) * period
        modules[f"down_blocks.{block}.downsamplers.0.conv"] = f"input_blocks.{last}.0.op"
        modules[f"up_blocks.{block}.upsamplers.0.conv"] = f"output_blocks.{last - 1}.{2 if attended[block] else 1}.conv"
    for ours, theirs in places.items():
        inside = _UNET_RESNET if ".resnets." in ours else _UNET_ATTENTION
        modules.update({f"{ours}.{a}": f"{theirs}.{b}" for a, b in inside.items()})
    return modules


@cache
def _vae_modules(levels: int) -> Mapping[str, str]:
    """{diffusers module: LDM module}. Layers have the same numbers in both layouts; the decoder's blocks are reversed."""
    blocks: dict[str, tuple[str, Mapping[str, str]]] = {}
    for half, ours, theirs, sampler in (("encoder", "down_blocks", "down", "downsample"),
                                        ("decoder", "up_blocks", "up", "upsample")):
        for level in range(levels):
            mirrored = level if half == "encoder" else levels - 1 - level
            here, there = f"{half}.{ours}.{level}", f"{half}.{theirs}.{mirrored}"
            blocks[f"{here}.{sampler}rs.0"] = f"{there}.{sampler}", {"conv": "conv"}
            for layer in range(MOST):
                blocks[f"{here}.resnets.{layer}"] = f"{there}.block.{layer}", _VAE_RESNET
        blocks[f"{half}.mid_block.resnets.0"] = f"{half}.mid.block_1", _VAE_RESNET
        blocks[f"{half}.mid_block.resnets.1"] = f"{half}.mid.block_2", _VAE_RESNET
        blocks[f"{half}.mid_block.attentions.0"] = f"{half}.mid.attn_1", _VAE_ATTENTION
    inside = {f"{ours}.{a}": f"{theirs}.{b}" for ours, (theirs, names) in blocks.items() for a, b in names.items()}
    return {**_VAE_FIXED, **inside}


def _rename(keys: Iterable[str], modules: Mapping[str, str], component: str) -> dict[str, str]:
    """Replaces the longest leading module path that is in `modules`; the rest (`.weight`, ...) stays."""
    renamed = {}
    for key in keys:
        module = key.rpartition(".")[0]
        while module and module not in modules:
            module = module.rpartition(".")[0]
        leaf = _IN_TRANSFORMER if module.endswith("transformer_blocks") else _LEAF
        if not module or not leaf.fullmatch(key, len(module)):
            raise KeyError(f"{key!r} is not a tensor of a Stable Diffusion {component}")
        renamed[key] = modules[module] + key[len(module):]
    return renamed


def _text(keys: Iterable[str]) -> dict[str, str]:
    renamed = {key: key.removeprefix("text_model.") for key in keys}
    if unknown := next((key for key, name in renamed.items() if not _TEXT_KEY.fullmatch(name)), None):
        raise KeyError(f"{unknown!r} is not a tensor of a CLIP text encoder")
    return renamed


def _flip(modules: Mapping[str, str]) -> dict[str, str]:
    return {theirs: ours for ours, theirs in modules.items()}
