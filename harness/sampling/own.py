"""Images of a batch by the pipeline that the model's folder names: one call from the texts to the pixels."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from harness.declare import Grid, Sampling
from harness.declare.prompt_texts import NEGATIVE, POSITIVE, text_at
from harness.own_pipelines.calling import OwnCall, OwnCallError, call_own
from harness.own_pipelines.loading import DECODERS
from harness.own_pipelines.schedulers import scheduler_for
from harness.probes.clock import Stopwatch
from harness.records import Cell
from harness.sampling.arriving import Arriving, Images, SamplingError
from harness.sampling.noise import generators

if TYPE_CHECKING:
    from harness.weights import Pipeline


def own_images(pipeline: Pipeline, grid: Grid, cells: tuple[Cell, ...]) -> Arriving:
    """The images of the cells, one call for each guidance scale among them. All that is drawn, each cell's own generator draws
    on the CPU. Raises SamplingError for what the pipeline does otherwise than asked."""
    import torch

    prompts = {p.id: p for p in grid.prompts}
    drawing = generators(cells)
    pixels = torch.empty((len(cells), 3, grid.height, grid.width))
    shift = (grid.sampling or Sampling()).shift
    for scale in dict.fromkeys(cell.guidance for cell in cells):
        places = [place for place, cell in enumerate(cells) if cell.guidance == scale]
        positive, negative = ([text_at(prompts[cells[place].prompt], role, 0, 1).words for place in places]
                              for role in (POSITIVE, NEGATIVE))
        call = OwnCall(prompts=tuple(positive), negatives=tuple(negative), generators=[drawing[place] for place in places],
                       guidance=scale, steps=grid.steps, width=grid.width, height=grid.height)
        try:
            images = call_own(pipeline, call, lambda: scheduler_for(pipeline, grid.sampler, shift))
        except OwnCallError as error:
            raise SamplingError(str(error)) from error
        pixels[places] = torch.from_numpy(images).permute(0, 3, 1, 2)
    return Arriving(pixels, pixels, from_zero=True)


def time_own(pipeline: Pipeline, grid: Grid, cell: Cell, watch: Stopwatch) -> Images:
    """The image of a cell, with the one call divided where the denoiser and the VAE are first used: "text" is all before,
    "denoise" the steps, "decode" the rest."""
    opened = watch.phase("text")
    opened.__enter__()
    at = ["text"]

    def go_on_with(name: str) -> None:
        nonlocal opened
        opened.__exit__(None, None, None)
        opened = watch.phase(name)
        opened.__enter__()
        at.append(name)

    def denoising(*_: object) -> None:
        if at[-1] == "text":
            go_on_with("denoise")

    hook = pipeline.denoiser.register_forward_pre_hook(denoising)
    restore = _before_decoding(pipeline, lambda: go_on_with("decode") if at[-1] == "denoise" else None)
    try:
        images = own_images(pipeline, grid, (cell,)).images()
    finally:
        hook.remove()
        restore()
    for name in ("denoise", "decode"):
        if name not in at:
            go_on_with(name)
    opened.__exit__(None, None, None)
    return images


def _before_decoding(pipeline: Pipeline, then: Callable[[], None]) -> Callable[[], None]:
    """Calls `then` before the VAE decodes; returns what undoes it. A pipeline of pixels has no VAE."""
    vae = next((pipeline.parts[name] for name in DECODERS if name in pipeline.parts), None)
    if vae is None:
        return lambda: None
    decode = vae.decode

    def timed(*args: object, **kwargs: object) -> object:
        then()
        return decode(*args, **kwargs)

    vae.decode = timed
    return lambda: delattr(vae, "decode")
