"""Recognises a model's family from its tensor names and shapes alone, because header texts can be wrong."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.weights.architectures import recognise
from harness.weights.ema import plain_names
from harness.weights.ldm import UNET_PREFIX, VAE_PREFIX
from harness.weights.numbering import numbering_of
from harness.weights.safetensors_header import ModelFileError, StoredTensor

FAMILIES: Final = ("sd1", "sd2", "sdxl", "sdxl_refiner", "flux", "sd3")
SUPPORTED: Final = ("Stable Diffusion 1, 2, XL and 3 and Flux.1 models, as a single file (.safetensors, .ckpt) or a "
                    "diffusers folder")
EMA_UNET: Final = "model_ema.diffusion_model"
MARKERS: Final = ("v_pred", "ztsnr", "edm_vpred.sigma_max", "edm_vpred.sigma_min", "edm_mean", "edm_std")
"""Marker tensors at the top level of a file that say how the model was trained; they are never merged."""

IS_ADAPTER: Final = "which belongs among a candidate's adapters"
_BESIDE: Final = "which is a separate network used alongside a model. Load it beside one in the tool that samples"
_IP_ADAPTER: Final = ("an IP-Adapter, which a candidate uses beside its model with a reference picture: give it to "
                      "Candidate(references=...)")
_CONTROLNET: Final = ("a ControlNet, which is a separate network used alongside a model. Give it to Candidate(controls=...) of a "
                      "suite")
_T2I: Final = ("a T2I-Adapter, which is a separate network used alongside a model. Give it to Candidate(controls=...) of a "
               "suite")
_INVERSION: Final = f"a textual inversion, {IS_ADAPTER}"
_BITSANDBYTES: Final = "a file quantized by bitsandbytes, which is read as .safetensors alone; give that, or the model in bf16"
_REFUSED: Final = (
    (".absmax", _BITSANDBYTES),
    (".quant_state", _BITSANDBYTES),
    (".SCB\n", _BITSANDBYTES),
    ("control_model.", _CONTROLNET), ("controlnet_", _CONTROLNET), ("\ncontrol_add_embedding.", _CONTROLNET),
    ("input_hint_block.", _CONTROLNET),
    ("lllite_", f"a ControlNet-LLLite, {_BESIDE}"),
    ("\nbody.0.in_conv.", _T2I), ("\nbody.0.block1.", _T2I), ("\nbody.0.body.0.block1.", _T2I), ("adapter.body.", _T2I),
    ("ip_adapter", _IP_ADAPTER), ("\nimage_proj.", _IP_ADAPTER),
    ("lora_down", f"a LoRA, {IS_ADAPTER}"), ("lora_up", f"a LoRA, {IS_ADAPTER}"), (".lora_", f"a LoRA, {IS_ADAPTER}"),
    ("_lora.", f"a LoRA, {IS_ADAPTER}"), (".lora.", f"a LoRA, {IS_ADAPTER}"), ("lora_unet_", f"a LoRA, {IS_ADAPTER}"),
    ("dora_scale", f"a DoRA, {IS_ADAPTER}"), ("hada_w1", f"a LyCORIS adapter, {IS_ADAPTER}"),
    ("lokr_w", f"a LyCORIS adapter, {IS_ADAPTER}"), ("oft_blocks", f"a LyCORIS adapter, {IS_ADAPTER}"),
    ("oft_diag", f"a LyCORIS adapter, {IS_ADAPTER}"), ("lycoris_", f"a LyCORIS adapter, {IS_ADAPTER}"),
    ("\nemb_params\n", _INVERSION), ("\nstring_to_param", _INVERSION),
    ("\nclip_g\n", _INVERSION), ("\n<", _INVERSION),
)


@dataclass(frozen=True, kw_only=True)
class Part:
    """A component of a single file: the prefix of its names, and the naming after the prefix (see `naming.locate`)."""

    component: str
    prefix: str
    naming: str


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What a single file is: its family ("" if its parts fit several), its layout, and its components."""

    family: str
    layout: str
    parts: tuple[Part, ...]


_VAE: Final = (Part(component="vae", prefix=VAE_PREFIX, naming="vae-ldm"), Part(component="vae", prefix="vae.", naming="vae-ldm"))
EITHER: Final = "flux-or-sd3"
"""The naming of blocks that transformers of both families have under the same names."""
_CORES: Final = (
    (("double_blocks.", "single_blocks.", "img_in.", "txt_in.", "time_in.", "vector_in.", "guidance_in."),
     "transformer", "flux-bfl", "flux", "bfl"),
    (("joint_blocks.", "x_embedder.proj.", "t_embedder.", "y_embedder."), "transformer", "sd3-sai", "sd3", "sai"),
    (("final_layer.",), "transformer", "flux-or-sd3-original", "", "bfl"),
    (("input_blocks.", "middle_block.", "output_blocks.", "time_embed.", "label_emb."), "unet", "unet-ldm", "", ""),
    (("single_transformer_blocks.", "x_embedder.", "time_text_embed.guidance_embedder."),
     "transformer", "flux", "flux", "diffusers"),
    (("pos_embed.",), "transformer", "sd3", "sd3", "diffusers"),
    (("transformer_blocks.", "time_text_embed.", "norm_out.", "proj_out."), "transformer", EITHER, "", "diffusers"),
    (("down_blocks.", "up_blocks.", "mid_block.", "time_embedding.", "add_embedding.", "conv_norm_out."), "unet", "unet", "",
     "diffusers"),
    (("encoder.down_blocks.", "decoder.up_blocks.", "encoder.mid_block.", "decoder.mid_block.", "encoder.conv_norm_out.",
      "decoder.conv_norm_out."), "vae", "vae", "", "diffusers"),
    (("encoder.down.", "decoder.up.", "encoder.mid.", "decoder.mid.", "encoder.norm_out.", "decoder.norm_out.", "encoder.conv_",
      "decoder.conv_", "quant_conv.", "post_quant_conv."), "vae", "vae-ldm", "", "ldm"),
)
"""First parts of names, and what a file with such names is: component, naming, family, layout ("" if decided elsewhere)."""
VAE_STARTS: Final = next(starts for starts, component, naming, *_ in _CORES if naming == "vae")
"""First parts of the names of a VAE in diffusers' spelling."""
_TEXT_WIDTHS: Final = {1024: "sd2", 2048: "sdxl", 1280: "sdxl_refiner"}
"""Columns of attn2.to_k of the published models whose projections are matrices."""
_TOP_ATTENTION: Final = re.compile(
    r"(input_blocks\.[12]\.1|down_blocks\.0\.attentions|output_blocks\.(9|10|11)\.1|up_blocks\.3\.attentions)\.")
"""Attention at the level of the full latent, which Stable Diffusion 2 has and XL has not."""
_DEEP_TRANSFORMER: Final = re.compile(r"\.transformer_blocks\.[4-9]\.")
_FOURTH_LEVEL: Final = re.compile(r"input_blocks\.(9|1[01])\.|down_blocks\.3\.|output_blocks\.(9|1[01])\.|up_blocks\.3\.")
_HEAD_NORM: Final = re.compile(r"\.attn2?\.norm_(added_)?[qk]\.weight$")
_HEAD_WIDTHS: Final[Mapping[tuple[int, ...], str]] = {(128,): "flux", (64,): "sd3"}
_AFTER_FLUX: Final = re.compile(r"transformer_blocks\.(19|[2-9][0-9])\.|.*\.attn2\.")
_COMFY: Final = "text_encoders."
TEXT_PARTS: Final[Mapping[str, tuple[Part, ...]]] = {
    "": (),
    "sd1": (Part(component="text_encoder", prefix="cond_stage_model.transformer.", naming="clip"),),
    "sd2": (Part(component="text_encoder", prefix="cond_stage_model.model.", naming="openclip-penultimate"),),
    "sdxl": (Part(component="text_encoder", prefix="conditioner.embedders.0.transformer.", naming="clip"),
             Part(component="text_encoder_2", prefix="conditioner.embedders.1.model.", naming="openclip")),
    "sdxl_refiner": (Part(component="text_encoder_2", prefix="conditioner.embedders.0.model.", naming="openclip"),),
    "flux": (Part(component="text_encoder", prefix=f"{_COMFY}clip_l.transformer.", naming="clip"),
             Part(component="text_encoder_2", prefix=f"{_COMFY}t5xxl.transformer.", naming="t5")),
    "sd3": (Part(component="text_encoder", prefix=f"{_COMFY}clip_l.transformer.", naming="clip-projected"),
            Part(component="text_encoder_2", prefix=f"{_COMFY}clip_g.transformer.", naming="clip-projected"),
            Part(component="text_encoder_3", prefix=f"{_COMFY}t5xxl.transformer.", naming="t5")),
}


_ENCODERS: Final = (
    (re.compile(r"encoder\.block\.[0-9]+\.layer\.|shared\.weight$"), "t5", "text_encoder_2"),
    (re.compile(r"transformer\.resblocks\.[0-9]+\."), "openclip", "text_encoder_2"),
    (re.compile(r"(text_model\.)?(encoder\.layers\.[0-9]+\.|embeddings\.(token|position)_embedding\.|final_layer_norm\.)"),
     "clip-projected", "text_encoder"),
)
"""Names of a text encoder without its model, and what a file with such names is: naming, and the component it commonly is."""
_OF_COMFY: Final = {"clip_l": "text_encoder", "clip_g": "text_encoder_2", "t5xxl": "text_encoder_3"}
_BEFORE_ENCODER: Final = re.compile(r"(?:text_encoders\.)?(clip_l|clip_g|t5xxl)\.transformer\.|transformer\.(?=text_model\.)")
_BIG_CLIP: Final = 30
"""A layer that the larger CLIP of XL and Stable Diffusion 3 has, and the others do not."""


def _encoders(stored: Mapping[str, StoredTensor]) -> tuple[Part, ...]:
    """The text encoders of a file that holds nothing else."""
    parts: dict[str, Part] = {}
    for name in stored:
        match = _BEFORE_ENCODER.match(name)
        prefix = match[0] if match else ""
        if prefix in parts:
            continue
        below = name.removeprefix(prefix)
        if (row := next((row for row in _ENCODERS if row[0].match(below)), None)) is not None:
            _, naming, component = row
            big = naming == "clip-projected" and any(f"{prefix}{text}encoder.layers.{_BIG_CLIP}.layer_norm1.weight" in stored
                                                     for text in ("", "text_model."))
            component = _OF_COMFY.get((match[1] or "") if match else "", "text_encoder_2" if big else component)
            parts[prefix] = Part(component=component, prefix=prefix, naming=naming)
    return tuple(parts.values())


class UnknownArchitectureError(ModelFileError):
    """A file whose tensors are not those of a known family. It may still be merged with another of the same names."""


def refuse_other_architecture(path: Path, stored: Mapping[str, StoredTensor]) -> None:
    """Raises UnknownArchitectureError for the tensors of a denoiser that is recognised as none of a known family, though many of
    its names may be those of one."""
    if (known := recognise(stored)) and not known.row.family:
        raise UnknownArchitectureError(f"{path}: this is a model of another family ({known.name}). Supported today: {SUPPORTED}.")


def refusal(stored: Mapping[str, StoredTensor]) -> str:
    """What the tensors are, in words with an article ("a LoRA, ..."), if they are known but not a model; otherwise ""."""
    names = "\n".join(("", *stored, ""))
    return next((what for part, what in _REFUSED if part in names), "")


def kind_of(stored: Mapping[str, StoredTensor]) -> Kind | None:
    """What a single file is, from its names (without wrapper) and shapes. None if it has no part of a model."""
    prefix = UNET_PREFIX if any(name.startswith(UNET_PREFIX) for name in stored) else ""
    core = _core(stored, prefix)
    family = core.family if core and core.family else _family_of_encoders(stored) or (
        _flux_or_sd3(stored, prefix) if core and core.parts[0].component == "transformer" else _family_of_unet(stored, prefix))
    layout = core.layout if core and core.layout else "sgm" if family.startswith("sdxl") else "ldm"
    parts = tuple(part for part in (*_VAE, *TEXT_PARTS[family]) if any(name.startswith(part.prefix) for name in stored))
    own = core.parts if core else ()
    if not own and not parts and (encoders := _encoders(stored)):
        return Kind(family="", layout="transformers", parts=encoders)
    ema = any(name.startswith(EMA_UNET) for name in stored)
    return Kind(family=family, layout=layout, parts=(*own, *parts)) if own or parts or ema else None


def family_of_folder(stored: Mapping[str, Mapping[str, StoredTensor]]) -> str:
    """The family of a diffusers folder, from its components' names and shapes; "" if unknown."""
    transformer = stored.get("transformer", {})
    if any(name.startswith(("single_transformer_blocks.", "x_embedder.")) for name in transformer):
        return "flux"
    if transformer:
        return "sd3" if any(name.startswith("pos_embed.") for name in transformer) else _flux_or_sd3(transformer, "")
    unet = stored.get("unet", {})
    if any(name.startswith("add_embedding.") for name in unet):
        encoders = [name for name in ("text_encoder", "text_encoder_2") if name in stored]
        return "sdxl_refiner" if encoders == ["text_encoder_2"] else "sdxl" if encoders else _sdxl_or_refiner(unet)
    return "" if "text_encoder_2" in stored else _by_projection(unet)


def _core(stored: Mapping[str, StoredTensor], prefix: str) -> Kind | None:
    """The denoiser, or a VAE alone, under `prefix`; the first matching name decides."""
    for starts, component, naming, family, layout in _CORES:
        if any(name.startswith(tuple(prefix + start for start in starts)) for name in stored):
            return Kind(family=family, layout=layout, parts=(Part(component=component, prefix=prefix, naming=naming),))
    # Only a U-Net has such names after this prefix; an unsupported one is refused later with its own message.
    return Kind(family="", layout="", parts=(Part(component="unet", prefix=prefix, naming="unet-ldm"),)) if prefix else None


def _family_of_encoders(stored: Mapping[str, StoredTensor]) -> str:
    prefixes = (("conditioner.embedders.1.", "sdxl"), ("conditioner.embedders.0.transformer.", "sdxl"),
                ("conditioner.embedders.0.model.", "sdxl_refiner"), ("cond_stage_model.model.", "sd2"),
                ("cond_stage_model.", "sd1"))
    return next((family for prefix, family in prefixes if any(name.startswith(prefix) for name in stored)), "")


def _family_of_unet(stored: Mapping[str, StoredTensor], prefix: str) -> str:
    """The family from the U-Net's layers; without a plain U-Net, from the names of its EMA copy."""
    below = {name.removeprefix(prefix): tensor for name, tensor in stored.items() if name.startswith(prefix)}
    if any(name.startswith(("label_emb.0.", "add_embedding.", f"{EMA_UNET}label_emb")) for name in below):
        return _sdxl_or_refiner(below)
    return _by_projection(below)


def _flux_or_sd3(stored: Mapping[str, StoredTensor], prefix: str) -> str:
    """Of some double blocks in diffusers' names, which both have, by the width of the published models' heads and by number;
    "" where neither tells."""
    widths = {tensor.shape for name, tensor in stored.items() if _HEAD_NORM.search(name)}
    if len(widths) == 1 and (family := _HEAD_WIDTHS.get(widths.pop())):
        return family
    return "sd3" if any(_AFTER_FLUX.match(name.removeprefix(prefix)) for name in stored) else ""


def _by_projection(unet: Mapping[str, StoredTensor]) -> str:
    """Stable Diffusion 1 projects into its transformers by convolution, all others by a matrix: Stable Diffusion 2, and a part
    of an XL model without its label_emb, which "" stands for where neither width nor place tells them apart."""
    ends = ("proj_in.weight", "proj_inweight")
    dimensions = next((len(tensor.shape) for name, tensor in unet.items() if name.endswith(ends)), 0)
    if dimensions not in (0, 2):
        return "sd1"
    if family := _by_text_width(unet):
        return family
    whole = numbering_of(unet=_dotted(unet)).whole
    return "sd2" if dimensions and (whole or any(_TOP_ATTENTION.match(name) for name in _dotted(unet))) else ""


def _sdxl_or_refiner(unet: Mapping[str, StoredTensor]) -> str:
    """By the width of the text it reads, else by what only one of them has; a whole model of another size by attention at the
    deepest level, which the refiner lacks. "" for a part that both can have."""
    if family := _by_text_width(unet):
        return family
    names = _dotted(unet)
    block_matches = (re.match(r"(?:input_blocks|down_blocks)\.([0-9]{1,3})\.(\w+)\.", name) for name in names)
    steps = [(int(m[1]), m[2]) for m in block_matches if m]
    last = max((step for step, _ in steps), default=0)
    deepest = {part for step, part in steps if step == last}
    if numbering_of(unet=names).whole:
        return "sdxl" if deepest & {"1", "attentions"} else "sdxl_refiner"
    if any(_DEEP_TRANSFORMER.search(name) for name in names):
        return "sdxl"
    return "sdxl_refiner" if any(_FOURTH_LEVEL.match(name) for name in names) else ""


def _by_text_width(unet: Mapping[str, StoredTensor]) -> str:
    ends = ("attn2.to_k.weight", "attn2to_kweight")
    widths = {tensor.shape[-1] for name, tensor in unet.items() if name.endswith(ends) and tensor.shape}
    return _TEXT_WIDTHS.get(widths.pop(), "") if len(widths) == 1 else ""


def _dotted(unet: Iterable[str]) -> list[str]:
    """The names, those of an EMA copy as the plain ones that they are copies of."""
    names = list(unet)
    return [*(name for name in names if not name.startswith(EMA_UNET)), *plain_names(names)]
