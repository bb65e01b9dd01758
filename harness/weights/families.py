"""Which model family a set of tensor names belongs to, by keys and shapes alone; header texts can lie.
`model.py` calls it to refuse by name what is not of the Stable Diffusion 1 layout.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from harness.weights.files import StoredTensor
from harness.weights.ldm import UNET_PREFIX

SUPPORTED: Final = "Stable Diffusion 1 models, as a single file (.safetensors, .ckpt) or a diffusers folder"

_BY_KEY: Final = (
    ("scaled_fp8", "a scaled-fp8 file, whose codes mean nothing without their scales"),
    (".scale_weight", "a scaled-fp8 file, whose codes mean nothing without their scales"),
    (".absmax", "a file quantized by bitsandbytes"),
    ("control_model.", "a ControlNet"),
    ("controlnet_cond_embedding.", "a ControlNet"),
    ("lora_down.", "a LoRA, which belongs among a candidate's adapters"),
    ("lora_up.", "a LoRA, which belongs among a candidate's adapters"),
    (".lora_A.", "a LoRA, which belongs among a candidate's adapters"),
    ("hada_w1_a", "a LyCORIS adapter, which belongs among a candidate's adapters"),
    ("lokr_w1", "a LyCORIS adapter, which belongs among a candidate's adapters"),
    ("conditioner.embedders.0.model.", "an SDXL refiner"),
    ("conditioner.embedders.", "an SDXL model"),
    (f"{UNET_PREFIX}label_emb.", "an SDXL model"),
    ("add_embedding.linear_1.", "an SDXL model"),
    ("cond_stage_model.model.", "a Stable Diffusion 2 model"),
    ("double_blocks.", "a Flux model"),
    ("single_transformer_blocks.", "a Flux model"),
    ("joint_blocks.", "a Stable Diffusion 3 model"),
    ("transformer_blocks.0.attn.add_q_proj.", "a diffusion transformer (Flux or Stable Diffusion 3)"),
    ("emb_params", "a textual inversion"),
    ("string_to_param", "a textual inversion"),
)
_BY_CHANNELS: Final = {9: "an inpainting model", 8: "an InstructPix2Pix model", 5: "a depth-conditioned model"}
_CONV_IN_AND_OUT: Final = ((f"{UNET_PREFIX}input_blocks.0.0.weight", f"{UNET_PREFIX}out.2.weight"),
                           ("conv_in.weight", "conv_out.weight"))


def unsupported_family(stored: Mapping[str, StoredTensor]) -> str | None:
    """What the file is, in words with an article, when it is known and not a Stable Diffusion 1 model; else None.

    `stored` are all tensors of a single file or of a folder's U-Net.
    """
    for part, family in _BY_KEY:
        if any(part in name for name in stored):
            return family
    for first, last in _CONV_IN_AND_OUT:
        if first in stored and len(stored[first].shape) == 4:
            # A plain model takes as many channels as it gives, be it 4 or, with a wider VAE, 8.
            taken, given = stored[first].shape[1], stored[last].shape[0] if last in stored else 4
            if taken != given and taken in _BY_CHANNELS:
                return f"{_BY_CHANNELS[taken]} ({taken} input channels, {given} output channels)"
    if any(name.endswith("attentions.0.proj_in.weight") and len(t.shape) == 2 for name, t in stored.items()):
        return "a Stable Diffusion 2 (or later) U-Net, with linear projections"
    return None
