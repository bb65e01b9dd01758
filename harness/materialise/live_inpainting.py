"""The pictures that a candidate changes and their masks: read for its live pipeline, and checked before the first image."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from harness.declare import Candidate, Inpaint, Prompt
from harness.declare.mask_file import latent_mask, read_mask
from harness.declare.picture_file import read_picture
from harness.materialise.library import Library, MaterialiseError, frame_of
from harness.samplers import called_by_diffusers
from harness.weights import Pipeline, latent_shape
from harness.weights.pipeline import LiveInpaint

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def refuse_mask_readers(candidate: Candidate, reads: bool) -> None:
    """Raises MaterialiseError for a model that `reads` a mask where it would be given none, or beside controls."""
    if not reads:
        return
    path = frame_of(candidate.model).path
    if candidate.inpaint is None:
        raise MaterialiseError(f"model {path!r} is an inpainting model, whose U-Net reads a picture and its mask; give "
                               "Candidate(inpaint=Inpaint(picture=..., mask=...)), or a model of text to image. Later stages "
                               "begin from the picture of the stage before and have no mask: give them a model of text to image")
    if candidate.controls:
        raise MaterialiseError(f"model {path!r} is an inpainting model, whose U-Net reads a picture and its mask, and controls "
                               "beside it are not supported yet; give inpaint and controls to a model of text to image, or "
                               "remove controls")


def live_inpaint(inpaint: Inpaint, of_steps: int, library: Library) -> LiveInpaint:
    """What a live pipeline needs to change pictures; the steps that are run are the last of `of_steps`."""
    def read(prompt: Prompt) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        files = [_file(prompt, name) for name in (inpaint.picture, inpaint.mask)]
        library.refuse_changed(files)
        picture, mask = read_picture(library.path(files[0])), read_mask(library.path(files[1]))
        library.refuse_changed(files)
        return picture, mask

    return LiveInpaint(read=read, of_steps=of_steps)


def inspect_inpaint(inpaint: Inpaint, shape: Pipeline, prompts: Collection[Prompt], library: Library) -> None:
    """Raises MaterialiseError for a model that cannot change pictures, and for a mask that changes none of its latents."""
    if called_by_diffusers(shape.family):
        raise MaterialiseError("inpaint: inpainting is supported for U-Nets (Stable Diffusion 1, 2 and XL), and not for models "
                               f"of the family {shape.family}; remove inpaint")
    for prompt in prompts:
        library.path(_file(prompt, inpaint.picture))  # drawn now if it is the zoo's, and not by two batches at once
        file = _file(prompt, inpaint.mask)
        mask = read_mask(library.path(file))
        size = latent_shape(shape, mask.shape[1], mask.shape[0])[1:]
        if not latent_mask(mask, size).any():
            raise MaterialiseError(f"inpaint: the mask {inpaint.mask!r} of prompt {prompt.id!r}, {file!r}, is white at none of "
                                   f"the {size[1]} x {size[0]} latents, so nothing would be changed; make its white parts at "
                                   f"least {mask.shape[0] // size[0]} pixels wide")


def _file(prompt: Prompt, name: str) -> str:
    if name not in prompt.pictures:
        raise MaterialiseError(f"inpaint: prompt {prompt.id!r} has no picture {name!r}; give Prompt(pictures={{{name!r}: ...}})")
    return prompt.pictures[name]
