"""The conditions of SDXL's U-Net other than text states: the pooled embedding, and the size and crop of the image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.weights.upload import sent

if TYPE_CHECKING:
    from torch import Tensor

    from harness.weights.pipeline import Pipeline


def added_conditions(pipeline: Pipeline, pooled: Tensor | None, width: int, height: int) -> dict[str, Tensor] | None:
    """A U-Net's `added_cond_kwargs`: None, or for SDXL `text_embeds`, the `pooled` embeddings (n, width), and `time_ids`
    (n, 6): the size of the original, the corner of the crop, the size of the image, each as (height, width) or (top, left).
    The values describe an image that was never resized or cropped (Podell et al., arXiv 2307.01952).

    Raises ValueError if the U-Net needs a pooled embedding and `pooled` is None.
    """
    import torch

    if getattr(pipeline.denoiser.config, "addition_embed_type", None) != "text_time":
        return None
    if pooled is None:
        raise ValueError("this U-Net needs pooled embeddings, but none were given; expected one for each image. "
                         "Embed the texts with the pipeline's own encoders.")
    ids = sent(torch.tensor([height, width, 0, 0, height, width], dtype=pooled.dtype), pooled.device)
    return {"text_embeds": pooled, "time_ids": ids.repeat(len(pooled), 1)}
