"""What a denoiser is conditioned on: the text encoders of a live pipeline, and the size of an image.
Building a pipeline makes the encoders and embedding texts reads them; sampling calls `added_conditions` for each batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import Tensor

    from harness.weights.pipeline import Pipeline


@dataclass(frozen=True, kw_only=True)
class TextEncoder:
    """`module` is a transformers text model, `tokenizer` its tokenizer, `component` its name ("text_encoder_2").

    `layer` names the hidden states that condition the denoiser: "last" is the encoder's final output with its final norm
    (Stable Diffusion 1, and 2 with its configs of 23 layers), "penultimate" the output of the last but one layer without
    the final norm (SDXL). `pooled` says that the projected embedding of the whole text conditions it as well. Where diffusers
    samples a family, it decides for itself what it takes from the encoders.

    A negative text that is empty is embedded as such. SDXL's base model can also be given zeros in its place, as diffusers
    does where no negative text is given at all; but A1111 and ComfyUI embed "", and diffusers does where "" is given.
    """

    component: str
    module: Any
    tokenizer: Any
    layer: Literal["last", "penultimate"] = "last"
    pooled: bool = False


def added_conditions(pipeline: Pipeline, pooled: Tensor | None, width: int, height: int) -> dict[str, Tensor] | None:
    """What a U-Net takes as `added_cond_kwargs`: None, or for SDXL `text_embeds`, the `pooled` embeddings (n, width), and
    `time_ids` (n, 6): the size of the original, the corner of the crop, the size of the image, each as (height, width) or
    (top, left). The picture is asked for as one that was never resized or cropped (Podell et al., arXiv 2307.01952).

    ValueError when the U-Net wants a pooled embedding and there is none.
    """
    import torch

    if getattr(pipeline.denoiser.config, "addition_embed_type", None) != "text_time":
        return None
    if pooled is None:
        raise ValueError("this U-Net is conditioned on pooled embeddings and none was given; expected one for each image. "
                         "Embed the texts with the pipeline's own encoders.")
    ids = torch.tensor([height, width, 0, 0, height, width], dtype=pooled.dtype, device=pooled.device)
    return {"text_embeds": pooled, "time_ids": ids.repeat(len(pooled), 1)}
