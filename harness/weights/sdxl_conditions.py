"""The conditions of SDXL's U-Net other than text states: the pooled embedding, and the size and crop of the image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from harness.weights.upload import sent

if TYPE_CHECKING:
    from torch import Tensor

    from harness.weights.pipeline import Pipeline


AESTHETIC: Final = (2.5, 6.0)
"""The aesthetic scores that a refiner is told of negative and of positive texts, as by default in diffusers and ComfyUI."""


def added_conditions(pipeline: Pipeline, pooled: Tensor | None, width: int, height: int,
                     negative: int = 0) -> dict[str, Tensor] | None:
    """A U-Net's `added_cond_kwargs`: None, or for SDXL `text_embeds`, the `pooled` embeddings (n, width), of which the first
    `negative` are of negative texts, and `time_ids` (n, 6): the size of the original, the corner of the crop, the size of the
    image, each as (height, width) or (top, left). A refiner has an aesthetic score in place of the last two. The values describe
    an image that was never resized or cropped (Podell et al., arXiv 2307.01952).

    Raises ValueError if the U-Net needs a pooled embedding and `pooled` is None.
    """
    import torch

    if getattr(pipeline.denoiser.config, "addition_embed_type", None) != "text_time":
        return None
    if pooled is None:
        raise ValueError("this U-Net needs pooled embeddings, but none were given; expected one for each image. "
                         "Embed the texts with the pipeline's own encoders.")
    sizes = [height, width, 0, 0]
    if pipeline.family != "sdxl_refiner":
        ids = sent(torch.tensor([*sizes, height, width], dtype=pooled.dtype), pooled.device)
        return {"text_embeds": pooled, "time_ids": ids.repeat(len(pooled), 1)}
    low, high = (sent(torch.tensor([*sizes, score], dtype=pooled.dtype), pooled.device) for score in AESTHETIC)
    return {"text_embeds": pooled, "time_ids": torch.cat([low.repeat(negative, 1), high.repeat(len(pooled) - negative, 1)])}
