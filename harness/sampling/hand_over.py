"""What a later stage begins from: the latents or the picture of the stage before, in the size of this one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from harness.weights import latent_shape, scaled
from harness.weights.placing import lent
from harness.weights.upload import sent

if TYPE_CHECKING:
    import torch

    from harness.sampling.arriving import Images
    from harness.weights import Pipeline

_FILTERS: Final = {"lanczos": "LANCZOS", "bicubic": "BICUBIC", "nearest": "NEAREST"}
"""Pillow's names of the ways to resize."""


def resized_pictures(images: Images, size: tuple[int, int], method: str) -> Images:
    """Pictures (n, height, width, 3) of 8 bits in another width and height, as Pillow resizes them; as they are in their own."""
    from PIL import Image

    if (images.shape[2], images.shape[1]) == size:
        return images
    filter_ = getattr(Image.Resampling, _FILTERS[method])
    return np.stack([np.asarray(Image.fromarray(image).resize(size, filter_)) for image in images])


def resized_latents(latents: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Latents (n, c, h, w) in another height and width, bilinear with antialias; as they are in their own."""
    from torch.nn.functional import interpolate

    if tuple(latents.shape[2:]) == size:
        return latents
    made: torch.Tensor = interpolate(latents, size=size, mode="bilinear", antialias=True)
    return made


def from_latents(pipeline: Pipeline, latents: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """The latents with which a stage of this width and height begins, of those of the stage before."""
    import torch

    with torch.inference_mode():
        return resized_latents(latents.to(pipeline.device), latent_shape(pipeline, *size)[1:])


def from_pictures(pipeline: Pipeline, images: Images, size: tuple[int, int], method: str, at_once: int) -> torch.Tensor:
    """The latents with which a stage of this width and height begins, of the pictures (n, height, width, 3) of the stage before:
    the mean of the VAE's posterior, `at_once` pictures at a time."""
    import torch

    pixels = torch.from_numpy(np.ascontiguousarray(resized_pictures(images, size, method))).permute(0, 3, 1, 2)
    with torch.inference_mode(), lent([pipeline.vae], pipeline.device):
        levels = 2 * (sent(pixels, pipeline.device).to(pipeline.vae.dtype) / 255) - 1
        means = [pipeline.vae.encode(part.contiguous()).latent_dist.mode() for part in torch.split(levels, at_once)]
        return scaled(pipeline, torch.cat(means)).float()
