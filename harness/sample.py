"""Pipeline x grid -> images: the denoising loop, and the only owner of seeds, noise and batching. run.py calls it."""

from __future__ import annotations

import io
import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from harness.declare import Grid
from harness.probes.clock import Stopwatch
from harness.records import Cell
from harness.samplers import build_scheduler

if TYPE_CHECKING:
    import torch

    from harness.weights.pipeline import Pipeline

SAMPLING_VERSION: Final = 1
"""Part of every image's key: raise it when the same inputs give other pictures."""

DECODE_BATCH: Final = 8
"""Latents decoded at once; the decoder's activations are the peak of memory at large sizes."""

SMALL_BATCH_PIXELS: Final = 64 * 64 * 64
"""Up to this many pixels a batch counts as small: 64 pictures of 64 x 64."""

Images = np.ndarray[Any, np.dtype[np.uint8]]


class SamplingError(RuntimeError):
    """A candidate gave something that is no picture."""


@dataclass(frozen=True, kw_only=True)
class TextState:
    """Embeddings of every text of a grid for one state of the text encoder; each (tokens, width), on the device."""

    embeddings: Mapping[str, torch.Tensor]


def set_determinism() -> None:
    """Makes CUDA choose its convolution algorithms the same way every time; the CPU needs nothing for a fixed batch shape."""
    import torch

    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True


def batches(grid: Grid) -> tuple[tuple[Cell, ...], ...]:
    """The grid cut into batches of at most `grid.batch_size` cells.

    The cut depends on the grid alone, never on what is already sampled, so a resumed run repeats the very same
    batches and with them the very same bits. Cells at guidance 1 stand apart: they need no negative branch.
    """
    guided = [Cell(prompt=p.id, seed=s, guidance=g) for p in grid.prompts for s in grid.seeds
              for g in grid.guidance_scales if g != 1]
    plain = [Cell(prompt=p.id, seed=s, guidance=g) for p in grid.prompts for s in grid.seeds
             for g in grid.guidance_scales if g == 1]
    return tuple(tuple(part[start:start + grid.batch_size])
                 for part in (plain, guided) for start in range(0, len(part), grid.batch_size))


def setting(grid: Grid, device: str) -> dict[str, Any]:
    """The sampling block of run.json: what besides weights, texts and noise determines an image. See records.sample_key."""
    return {"sampler": grid.sampler, "steps": grid.steps, "width": grid.width, "height": grid.height,
            "batch_size": grid.batch_size, "device": device.partition(":")[0], "version": SAMPLING_VERSION}


def encode(pipeline: Pipeline, texts: Iterable[str]) -> TextState:
    """Embeds each different text once, one at a time, so that an embedding never depends on its neighbours."""
    import torch

    state: dict[str, torch.Tensor] = {}
    with torch.inference_mode():
        for text in dict.fromkeys(texts):
            ids = pipeline.tokenizer([text], padding="max_length", truncation=True, return_tensors="pt",
                                     max_length=pipeline.tokenizer.model_max_length).input_ids
            state[text] = pipeline.text_encoder(ids.to(pipeline.device))[0][0]
    return TextState(embeddings=state)


def initial_noise(pipeline: Pipeline, grid: Grid, cells: Iterable[Cell]) -> torch.Tensor:
    """Standard normal latents (n, channels, height / f, width / f), fp32: each drawn on the CPU from its cell's seed."""
    import torch

    factor = 2 ** (len(pipeline.vae.config.block_out_channels) - 1)
    shape = (pipeline.unet.config.in_channels, grid.height // factor, grid.width // factor)
    drawn = [torch.randn(shape, generator=torch.Generator("cpu").manual_seed(cell.noise_seed)) for cell in cells]
    return torch.stack(drawn).to(pipeline.device)


def denoise(pipeline: Pipeline, grid: Grid, cells: tuple[Cell, ...], text: TextState) -> torch.Tensor:
    """Latents (n, channels, h, w) after `grid.steps` steps; every cell has its own guidance scale within the batch.

    Classifier-free guidance: out = negative + g * (positive - negative) (Ho and Salimans, arXiv 2207.12598). A batch
    is either all at g = 1, where the negative branch cancels and is not computed, or has none at g = 1.
    """
    import torch

    prompts = {p.id: p for p in grid.prompts}
    scheduler = build_scheduler(grid.sampler, pipeline.scheduler_config)
    scheduler.set_timesteps(grid.steps, device=pipeline.device)
    guided = cells[0].guidance != 1
    dtype = pipeline.unet.conv_in.weight.dtype
    positive = [text.embeddings[prompts[c.prompt].text] for c in cells]
    negative = [text.embeddings[prompts[c.prompt].negative] for c in cells] if guided else []
    states = torch.stack(negative + positive).to(dtype)
    guidance = torch.tensor([c.guidance for c in cells], device=pipeline.device).view(-1, 1, 1, 1)
    with torch.inference_mode():
        latents: torch.Tensor = initial_noise(pipeline, grid, cells) * scheduler.init_noise_sigma
        for timestep in scheduler.timesteps:
            scaled = scheduler.scale_model_input(latents, timestep).to(dtype)
            if guided:
                scaled = torch.cat([scaled, scaled])
            output = pipeline.unet(scaled, timestep, encoder_hidden_states=states).sample.float()
            if guided:
                low, high = output.chunk(2)
                output = low + guidance * (high - low)
            latents = scheduler.step(output, timestep, latents).prev_sample
    return latents


def decode(pipeline: Pipeline, latents: torch.Tensor) -> Images:
    """Latents to uint8 RGB (n, height, width, 3); raises SamplingError when a latent or a pixel is not finite."""
    import torch

    with torch.inference_mode():
        scaled = latents.to(pipeline.vae.dtype) / pipeline.vae.config.scaling_factor
        pixels = torch.cat([pipeline.vae.decode(part).sample.float() for part in scaled.split(DECODE_BATCH)])
        if not bool(torch.isfinite(pixels).all()):
            broken = int((~torch.isfinite(pixels).flatten(1).all(1)).sum())
            raise SamplingError(f"{broken} of {len(pixels)} images hold NaN or infinite pixels")
        levels = ((pixels / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
    return np.ascontiguousarray(levels.permute(0, 2, 3, 1).cpu().numpy())


def small(grid: Grid, device: str) -> bool:
    """Whether pictures are small and on a CPU: then every operation takes one thread, and whole batches run side by side.

    Small tensors gain nothing from threads inside an operation, and on a busy machine these threads wait for each other
    at every one of thousands of operations. One thread each is as fast when idle, many times faster when not, and the
    bits do not depend on the number of cores. It is decided by the grid alone.
    """
    return device.partition(":")[0] == "cpu" and grid.batch_size * grid.width * grid.height <= SMALL_BATCH_PIXELS


@contextmanager
def threads_for(grid: Grid, device: str) -> Iterator[None]:
    """Within, operations of this grid's pipeline and metrics take one thread if `small`, torch's default otherwise."""
    import torch

    threads = torch.get_num_threads()
    try:
        if small(grid, device):
            torch.set_num_threads(1)
        yield
    finally:
        torch.set_num_threads(threads)


def pool_of_single_threads(workers: int) -> ThreadPoolExecutor:
    """A thread pool whose threads run torch's operations on one thread each; the setting belongs to a thread."""
    import torch

    return ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,))


def side_by_side(grid: Grid, device: str) -> int:
    """How many batches are computed at once: one per core for small pictures on a CPU, otherwise one."""
    if not small(grid, device):
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def sample(pipeline: Pipeline, grid: Grid, todo: Iterable[tuple[Cell, ...]], text: TextState,
           ) -> Iterator[tuple[tuple[Cell, ...], Images]]:
    """Yields each batch of `todo` with its images, in order; see `side_by_side` for how many are under way."""
    def make(cells: tuple[Cell, ...]) -> tuple[tuple[Cell, ...], Images]:
        return cells, decode(pipeline, denoise(pipeline, grid, cells, text))

    workers = side_by_side(grid, str(pipeline.device))
    if workers == 1:
        yield from map(make, todo)
        return
    pool = pool_of_single_threads(workers)
    try:
        ahead: deque[Future[tuple[tuple[Cell, ...], Images]]] = deque()
        for cells in todo:
            ahead.append(pool.submit(make, cells))
            if len(ahead) > workers:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def time_one(pipeline: Pipeline, grid: Grid, cell: Cell, watch: Stopwatch) -> None:
    """One image at batch 1 as a user would make it, each phase timed by `watch`: text, denoise, decode."""
    prompt = next(p for p in grid.prompts if p.id == cell.prompt)
    with watch.phase("text"):
        text = encode(pipeline, (prompt.text, prompt.negative) if cell.guidance != 1 else (prompt.text,))
    with watch.phase("denoise"):
        latents = denoise(pipeline, grid, (cell,), text)
    with watch.phase("decode"):
        decode(pipeline, latents)


def to_png(image: Images) -> bytes:
    """Lossless PNG of one (height, width, 3) uint8 image; the same image always gives the same bytes."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


def from_png(data: bytes) -> Images:
    """The (height, width, 3) uint8 pixels of a PNG."""
    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))
