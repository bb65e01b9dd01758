"""The prompts of a suite, and the grid of cells that every candidate samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from harness.declare.normalise import settle
from harness.declare.sampler_names import canonical
from harness.declare.sampling import Sampling
from harness.declare.syntax import PLAIN, syntax_named
from harness.declare.to_plain import LEFT_OUT

SPLITS: Final = ("select", "confirm")
MOST_STEPS: Final = 1000
"""The number of steps that diffusion models are trained on."""
LEAST_GUIDANCE: Final = 1.0
"""At 1 the negative prompt has no say; below, the picture would be drawn from it."""
LOW_MEMORY: Final = {
    "tiled_decoding": "images above 512 x 512 are decoded in tiles of 512 x 512, which changes pixels near the seams",
    "vae_on_host": "the VAE is on the GPU only while it decodes",
    "denoiser_on_host": "each layer of the denoiser is on the GPU only while it runs"}
"""The measures of a grid's `low_memory`, in the order in which they are worth taking."""
FIT: Final = "fit"
"""As a grid's `batch_size`: the largest that fits into the device's memory."""
IN_CHUNKS: Final = "chunk"
LONG_PROMPTS: Final = (IN_CHUNKS, "error")
"""What becomes of texts that are longer than a text encoder."""


class GridsNegative(str):
    """The `negative` of a prompt that has none of its own, taken from its grid. Another grid replaces it."""

    __slots__ = ()


class GridsSyntax(str):
    """The `syntax` of a prompt that names none, taken from its grid. Another grid replaces it."""

    __slots__ = ()


def guidance_problem(scale: float) -> str:
    """Why nothing can be sampled at a guidance scale; empty if it can."""
    if isinstance(scale, int | float) and not isinstance(scale, bool) and LEAST_GUIDANCE <= scale < float("inf"):
        return ""
    return (f"guidance scale {scale!r}: expected a number of at least 1. No guidance is 1 here; model cards that write "
            "guidance_scale=0.0 mean this, while below 1 the picture would be drawn from the negative prompt")


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """One prompt. `split` is "select" (the verdict is chosen on these) or "confirm" (and confirmed on those).

    `tags` are free words for tables and tests, such as {"colour": "red"}; nothing in a run depends on them. `literal` says that
    brackets and words that are instructions in other tools, such as "[x]" or "AND", are meant as text. `syntax` says whose
    markup the text and the negative text have; empty stands for the grid's.

    `pictures` are the prompt's pictures by name, {"edges": "controls/cat.png"}, for candidates with controls, references or an
    inpainting; they are the same for all candidates.
    """

    id: str
    text: str
    negative: str = ""
    split: str = "select"
    tags: Mapping[str, str] = field(default_factory=dict)
    literal: bool = field(default=False, metadata={LEFT_OUT: True})
    syntax: str = field(default="", metadata={LEFT_OUT: True})
    pictures: Mapping[str, str] = field(default_factory=dict, metadata={LEFT_OUT: True})

    def __post_init__(self) -> None:
        settle(self)
        if isinstance(self.syntax, str) and not isinstance(self.syntax, GridsSyntax):
            object.__setattr__(self, "syntax", syntax_named(self.syntax))


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The cells sampled for every candidate: prompts x seeds x guidance scales, with one sampler, step count and size.

    A candidate's own `sampling` comes before what is said here (see `grid_of`). The grid's `sampling` is for what has no field of
    its own, such as Sampling(clip_skip=2).

    `width` and `height` are in pixels. `batch_size` is part of the declaration because the last bits of an image
    depend on the shape of its batch. "fit" asks for the largest of 1, 2, 4 ... that fits into the memory of the device that a run
    begins on; the run has that number from then on.

    `low_memory` names measures for a GPU whose memory is short (`LOW_MEMORY`); they cost time. "tiled_decoding" changes pixels,
    so it counts on every device.

    `negative` is the negative text of prompts that have none of their own, and `syntax` the syntax of prompts that name none.
    Texts longer than the text encoder are read in chunks (Stable Diffusion 1, 2 and XL), or with long_prompts="error" refused.
    `adapter_folder` holds the files of the LoRAs and textual inversions that prompts name by their markup.
    """

    prompts: tuple[Prompt, ...]
    seeds: tuple[int, ...]
    guidance_scales: tuple[float, ...]
    sampler: str = "dpmpp_2m"
    steps: int = 20
    width: int = 512
    height: int = 512
    batch_size: int | str = 16
    low_memory: tuple[str, ...] = field(default=(), metadata={LEFT_OUT: True})
    sampling: Sampling | None = field(default=None, metadata={LEFT_OUT: True})
    negative: str = field(default="", metadata={LEFT_OUT: True})
    syntax: str = field(default=PLAIN, metadata={LEFT_OUT: True})
    long_prompts: str = field(default=IN_CHUNKS, metadata={LEFT_OUT: True})
    adapter_folder: str = field(default="", metadata={LEFT_OUT: True})

    def __post_init__(self) -> None:
        settle(self)
        self._name_sampler()
        if isinstance(self.syntax, str):
            object.__setattr__(self, "syntax", syntax_named(self.syntax))
        if isinstance(self.prompts, tuple):
            object.__setattr__(self, "prompts", tuple(
                self._completed(prompt) if isinstance(prompt, Prompt) else prompt for prompt in self.prompts))

    def _name_sampler(self) -> None:
        """Gives the sampler our name where it has a tool's, which may say the schedule too."""
        knobs = Sampling() if self.sampling is None else self.sampling
        if isinstance(knobs, Sampling):
            sampler, schedule = canonical(self.sampler, knobs.schedule)
            object.__setattr__(self, "sampler", sampler)
            if schedule != knobs.schedule:
                object.__setattr__(self, "sampling", replace(knobs, schedule=schedule))

    def _completed(self, prompt: Prompt) -> Prompt:
        """A prompt with the grid's negative text and syntax where it has none of its own."""
        if not all(isinstance(text, str) for text in (self.negative, self.syntax, prompt.negative, prompt.syntax)):
            return prompt  # the check says so
        changes: dict[str, Any] = {}
        if prompt.negative == "" or isinstance(prompt.negative, GridsNegative):
            changes["negative"] = GridsNegative(self.negative) if self.negative else ""
        if (prompt.syntax == "" or isinstance(prompt.syntax, GridsSyntax)) and prompt.literal is not True:
            changes["syntax"] = GridsSyntax(self.syntax) if self.syntax != PLAIN else ""
        return replace(prompt, **changes) if any(getattr(prompt, n) != value for n, value in changes.items()) else prompt

    @property
    def images_per_batch(self) -> int:
        """`batch_size` as a number. Raises ValueError while it is "fit", which a run replaces."""
        if isinstance(self.batch_size, str):
            raise ValueError(  # noqa: TRY004, the type is right: only a run knows the number
                f"batch_size is {self.batch_size!r}, which only a run on a device replaces by a number")
        return self.batch_size
