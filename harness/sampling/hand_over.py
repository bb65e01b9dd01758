"""What a later stage begins from: the latents or the picture of the stage before, in the size of this one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from harness.declare import ColourTransfer
from harness.declare.post_steps import FIRST_STAGE
from harness.post import PostProcess
from harness.post.colour_transfer import transferred
from harness.sampling.arriving import Arriving, BrokenPlace, Images
from harness.weights import latent_shape, scaled
from harness.weights.placing import lent
from harness.weights.upload import sent

if TYPE_CHECKING:
    import torch

    from harness.materialise import LiveStage
    from harness.weights import Pipeline

_FILTERS: Final = {"lanczos": "LANCZOS", "bicubic": "BICUBIC", "nearest": "NEAREST"}
"""Pillow's names of the ways to resize."""


def needs_pictures(stage: LiveStage) -> bool:
    """Whether a stage needs the picture that it begins from, and not only its latents."""
    return stage.through != "latents" or stage.colour or stage.followed


def needs_first_stage(post: PostProcess | None) -> bool:
    """Whether post-steps take the colours of the first stage."""
    return post is not None and any(isinstance(step, ColourTransfer) and step.to == FIRST_STAGE for step in post.steps)


@dataclass(frozen=True, kw_only=True)
class StagePictures:
    """The pictures (n, height, width, 3) that a batch of a stage begins from, those of its first stage, and whether the stage's
    own pictures get the colours of those that it begins from."""

    begun_from: Images | None = None
    first: Images | None = None
    colour: bool = False

    def after(self, before: StagePictures, stage: LiveStage) -> StagePictures:
        """These pictures of the stage before, after the post-steps of `stage`, which begins from them."""
        images, first = self.begun_from, before.first if before.first is not None else self.begun_from
        if stage.before is not None and images is not None:
            of_first = [None] * len(images) if first is None else [*first]
            images = np.stack([stage.before.apply(image, of)[0] for image, of in zip(images, of_first, strict=True)])
        return StagePictures(begun_from=images, first=first, colour=stage.colour)

    def coloured(self, arriving: Arriving) -> Arriving:
        """What a stage that began from these pictures makes, with their colours if it gets them."""
        return Coloured(arriving, self.begun_from) if self.colour and self.begun_from is not None else arriving


class Coloured(Arriving):
    """Images on their way, which get the colours of others (Reinhard in CIE Lab) when they are there."""

    def __init__(self, arriving: Arriving, references: Images) -> None:
        self.on_device, self.latents = arriving.on_device, arriving.latents
        self._arriving, self._references = arriving, references

    def images(self, broken: BrokenPlace | None = None) -> Images:
        """As those of the batch, with the colours."""
        made = self._arriving.images(broken)
        return np.stack([transferred(image, of, "reinhard", 1.0) for image, of in zip(made, self._references, strict=True)])


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
    return encoded_levels(pipeline, pixels, at_once)


def encoded_levels(pipeline: Pipeline, pixels: torch.Tensor, at_once: int) -> torch.Tensor:
    """The latents of pictures (n, 3, height, width) of 8 bits, `at_once` of them at a time."""
    import torch

    with torch.inference_mode():
        return encoded(pipeline, 2 * (sent(pixels, pipeline.device).to(pipeline.vae.dtype) / 255) - 1, at_once)


def encoded(pipeline: Pipeline, levels: torch.Tensor, at_once: int) -> torch.Tensor:
    """The latents of pixels (n, 3, height, width) from -1 to 1: the mean of the VAE's posterior, `at_once` pictures at a time."""
    import torch

    with torch.inference_mode(), lent([pipeline.vae], pipeline.device):
        means = [pipeline.vae.encode(part.contiguous()).latent_dist.mode() for part in torch.split(levels, at_once)]
        return scaled(pipeline, torch.cat(means)).float()
