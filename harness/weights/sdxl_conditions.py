"""What SDXL's U-Net is conditioned on besides its text: the pooled embedding, and the size and crop of the image."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from harness.weights.pipeline import Pipeline


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
