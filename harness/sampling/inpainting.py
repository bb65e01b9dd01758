"""What an inpainting keeps: the pictures outside of their masks, at every level of noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.declare import Grid
from harness.declare.mask_file import latent_mask
from harness.records import Cell
from harness.samplers import noised
from harness.sampling.hand_over import encoded
from harness.weights.pipeline import reads_mask
from harness.weights.upload import sent

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from harness.weights import Pipeline
    from harness.weights.pipeline import LiveInpaint


@dataclass(frozen=True, kw_only=True)
class Kept:
    """The pictures of a batch as `latents` (n, c, h, w), the `noise` that they get, and the masks (n, 1, h, w), 1 where a picture
    is changed and 0 where it is kept. `masked` (n, c, h, w) are the latents of the pictures with gray where they are changed, for
    a U-Net that reads them; else None."""

    latents: torch.Tensor
    noise: torch.Tensor
    mask: torch.Tensor
    masked: torch.Tensor | None

    def put_into(self, latents: torch.Tensor, scheduler: Any, evaluation: int) -> torch.Tensor:
        """The latents before this evaluation, with the pictures where they are kept: at the noise of the evaluation, and without
        noise after the last one. It is what diffusers' StableDiffusionInpaintPipeline does for U-Nets that read no mask."""
        last = evaluation >= len(scheduler.timesteps)
        known = self.latents if last else noised(scheduler, evaluation, self.latents, self.noise)
        return (1 - self.mask) * known + self.mask * latents

    def beside(self, dtype: torch.dtype) -> torch.Tensor:
        """What the U-Net of an inpainting model reads beside the noisy latents (n, 1 + c, h, w): mask and masked picture."""
        import torch

        assert self.masked is not None
        return torch.cat([self.mask, self.masked], dim=1).to(dtype)


def kept_of(pipeline: Pipeline, inpaint: LiveInpaint, grid: Grid, cells: Sequence[Cell], noise: torch.Tensor) -> Kept:
    """The pictures and masks of the cells' prompts. Each picture is encoded by itself, so that its latents depend on no other."""
    import torch

    prompts = {prompt.id: prompt for prompt in grid.prompts}
    parts = {name: _read(pipeline, *inpaint.read(prompts[name]), (noise.shape[2], noise.shape[3]))
             for name in dict.fromkeys(cell.prompt for cell in cells)}
    latents, masks, masked = ([parts[cell.prompt][place] for cell in cells] for place in range(3))
    return Kept(latents=torch.cat(latents), noise=noise, mask=torch.cat(masks),
                masked=torch.cat(masked) if reads_mask(pipeline) else None)


def _read(pipeline: Pipeline, picture: NDArray[np.uint8], mask: NDArray[np.bool_],
          size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The latents of a picture, its mask in their size, and the latents of the masked picture if the U-Net reads them."""
    import torch

    device, dtype = pipeline.device, pipeline.vae.dtype
    levels = 2 * (sent(torch.from_numpy(picture).permute(2, 0, 1)[None].contiguous(), device).to(dtype) / 255) - 1
    white, own = (sent(torch.from_numpy(one.astype(np.float32))[None, None], device) for one in (mask, latent_mask(mask, size)))
    latents = encoded(pipeline, levels, 1)
    return latents, own, encoded(pipeline, levels * (1 - white.to(dtype)), 1) if reads_mask(pipeline) else own
