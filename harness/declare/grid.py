"""The prompts of a suite, and the grid of cells that every candidate samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from harness.declare.models import Adapter
from harness.declare.normalise import settle
from harness.declare.sampler_names import canonical
from harness.declare.sampling import Sampling
from harness.declare.syntax import PLAIN, syntax_named
from harness.declare.younger_fields import LEFT_OUT

SPLITS: Final = ("select", "confirm")
MOST_STEPS: Final = 1000
"""The number of steps that diffusion models are trained on."""
LEAST_GUIDANCE: Final = 1.0
"""At 1 the negative prompt has no say; below, the picture would be drawn from it."""
MOST_GUIDANCE: Final = 1000.0
"""Far beyond any use; from about here on, latents leave the range of half precision."""
LOW_MEMORY: Final = {
    "tiled_decoding": "images above 512 x 512 are decoded in tiles of 512 x 512, which changes pixels near the seams",
    "vae_on_host": "the VAE is on the GPU only while it decodes",
    "denoiser_on_host": "each layer of the denoiser, and of control networks, is on the GPU only while it runs"}
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
    number = isinstance(scale, int | float) and not isinstance(scale, bool)
    if number and LEAST_GUIDANCE <= scale <= MOST_GUIDANCE:
        return ""
    if number and scale > MOST_GUIDANCE:
        return f"guidance scale {scale!r}: expected at most {MOST_GUIDANCE:g}, and usually 1 to 15"
    return (f"guidance scale {scale!r}: expected a number of at least 1. No guidance is 1 here; model cards that write "
            "guidance_scale=0.0 mean this, while below 1 the picture would be drawn from the negative prompt")


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """One prompt."""

    id: str
    """Its name in tables."""
    text: str
    """What is drawn."""
    negative: str = ""
    """The negative prompt."""
    split: str = "select"
    """The pick is chosen on the prompts of the split "select", and checked on those of "confirm"."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """Free words for tables and tests: {"colour": "red"}. Nothing in a run depends on them."""
    literal: bool = field(default=False, metadata={LEFT_OUT: True})
    """Brackets and words that are instructions in other tools, such as "[x]" or "AND", are meant as text."""
    syntax: str = field(default="", metadata={LEFT_OUT: True})
    """Whose markup the text and the negative text have, see docs/api.md#syntaxes; empty stands for the grid's."""
    pictures: Mapping[str, str] = field(default_factory=dict, metadata={LEFT_OUT: True})
    """The prompt's pictures by name, {"edges": "controls/cat.png"}, for candidates with controls, references or an inpainting.
    They are the same for all candidates."""
    adapters: tuple[Adapter, ...] = field(default=(), metadata={LEFT_OUT: True})
    """Adapters that act in the images of this prompt alone, beside those of each candidate: what a tag such as <lora:ink:0.8>
    means in A1111, see docs/prompts.md."""

    def __post_init__(self) -> None:
        settle(self)
        if isinstance(self.syntax, str) and not isinstance(self.syntax, GridsSyntax):
            object.__setattr__(self, "syntax", syntax_named(self.syntax))


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The cells that every candidate samples: prompts x seeds x guidance scales, with one sampler, step count and size.

    A candidate's own `sampling` comes before what is said here.
    """

    prompts: tuple[Prompt, ...]
    """The prompts of both splits."""
    seeds: tuple[int, ...]
    """Integers of at least 0. Equal seeds are equal noise for all candidates."""
    guidance_scales: tuple[float, ...]
    """CFG values of at least 1; at 1 the negative prompt has no effect."""
    sampler: str = "dpmpp_2m"
    """Our name of a sampler or a tool's, see docs/api.md#samplers."""
    steps: int = 20
    """Denoising steps."""
    width: int = 512
    """In pixels, a multiple of 8."""
    height: int = 512
    """In pixels, a multiple of 8."""
    batch_size: int | str = 16
    """Images in a batch; the last bits of an image depend on the shape of its batch. "fit" asks for the largest of 1, 2, 4 ... 64
    that fits into the memory of the device that a run begins on (at most 16 on a CPU), see docs/gpu.md. The run has that number
    from then on."""
    low_memory: tuple[str, ...] = field(default=(), metadata={LEFT_OUT: True})
    """Measures for a GPU whose memory is short, see docs/api.md#low-memory. They cost time; "tiled_decoding" changes pixels, so
    it counts on every device."""
    sampling: Sampling | None = field(default=None, metadata={LEFT_OUT: True})
    """For all candidates, what has no field here: Sampling(clip_skip=2)."""
    negative: str = field(default="", metadata={LEFT_OUT: True})
    """The negative prompt of prompts that have none of their own."""
    syntax: str = field(default=PLAIN, metadata={LEFT_OUT: True})
    """The syntax of prompts that name none, see docs/api.md#syntaxes."""
    long_prompts: str = field(default=IN_CHUNKS, metadata={LEFT_OUT: True})
    """What becomes of texts that are longer than the text encoder: "chunk" reads them in chunks, as A1111 does (Stable Diffusion
    1, 2 and XL); "error" refuses them."""
    adapter_folder: str = field(default="", metadata={LEFT_OUT: True})
    """The files of the LoRAs and textual inversions that prompts name by their markup, see docs/prompts.md."""

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
