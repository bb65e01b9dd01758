"""Declarations of a suite: prompts, grid, candidates, objective, gates, budget and search."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias

from harness.declare.models import Adapter, AestheticGradient, Emphasis, Merge, Model
from harness.declare.normalise import settle
from harness.declare.sampler_names import canonical
from harness.declare.sampling import Sampling
from harness.declare.syntax import PLAIN, syntax_named
from harness.declare.to_plain import LEFT_OUT, plain, short_hash

SIDES: Final = ("lowest", "highest", "middle")
"""What an objective may prefer on an axis."""
SPLITS: Final = ("select", "confirm")
BASELINE: Final = "baseline"
"""As a gate's `not_worse_than`: the suite's own baseline candidate."""
PROMOTED: Final = "promoted"
"""As a gate's `not_worse_than`: the candidate that was promoted last from this suite, by the values in its baseline file."""
CALIBRATION: Final = ".calibration"
"""What `sweetspot calibrate` puts after a suite's name, so that a run folder of its own holds the calibration."""
MOST_STEPS: Final = 1000
"""The number of steps that diffusion models are trained on."""
MOST_IMAGES: Final = 1_000_000
"""Images that a suite may declare: eleven days at one a second. A run.json of some kB could declare any number."""
DESIRABILITY: Final = "desirability"
"""As an objective's `maximise`: the desirability of its `desirabilities`."""

class DefaultNumberFormat(str):
    """The `quantization` of a candidate that names none. It reads like "fp32", but asks for no number format."""

    __slots__ = ()


NUMBER_FORMATS: Final = ("fp32", "bf16", "fp16")
"""What `precision` names. The quantizations of these names ask for the same."""
LOW_MEMORY: Final = {
    "tiled_decoding": "images above 512 x 512 are decoded in tiles of 512 x 512, which changes pixels near the seams",
    "vae_on_host": "the VAE is on the GPU only while it decodes",
    "denoiser_on_host": "each layer of the denoiser is on the GPU only while it runs"}
"""The measures of a grid's `low_memory`, in the order in which they are worth taking."""
NOT_QUANTIZED: Final = DefaultNumberFormat("fp32")
FIT: Final = "fit"
"""As a grid's `batch_size`: the largest that fits into the device's memory."""


class GridsNegative(str):
    """The `negative` of a prompt that has none of its own, taken from its grid. Another grid replaces it."""

    __slots__ = ()


class GridsSyntax(str):
    """The `syntax` of a prompt that names none, taken from its grid. Another grid replaces it."""

    __slots__ = ()


IN_CHUNKS: Final = "chunk"
LONG_PROMPTS: Final = (IN_CHUNKS, "error")
"""What becomes of texts that are longer than a text encoder."""
class DefaultClip(str):
    """The `clip` of a suite that names none. It reads like the built-in model, which must not score other models unasked."""

    __slots__ = ()


DEFAULT_CLIP: Final = DefaultClip("zoo:clip")
ROUNDS_FOR_MEDIAN: Final = 6
"""Timed rounds whose range, from the fastest to the slowest, covers the true median with 95 %; a gate on latency needs them."""
LEAST_GUIDANCE: Final = 1.0
"""At 1 the negative prompt has no say; below, the picture would be drawn from it."""

AxisValue: TypeAlias = float | str


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
    """

    id: str
    text: str
    negative: str = ""
    split: str = "select"
    tags: Mapping[str, str] = field(default_factory=dict)
    literal: bool = field(default=False, metadata={LEFT_OUT: True})
    syntax: str = field(default="", metadata={LEFT_OUT: True})

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


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One thing that may be shipped. `axes` are the numeric (or named) coordinates it has in sweeps: {"alpha": 0.35}.

    `precision` is the number format of the denoiser's weights and arithmetic: "fp32", "bf16" or "fp16". By default it is fp32 on
    a CPU; on a GPU it is fp16 for U-Nets and bf16 for transformers. quantization="fp16" asks for the same as precision="fp16".

    `emphasis` and `aesthetic` are treatments of the text embedding of every prompt; negative prompts are embedded plainly.

    `sampling` says how its images are sampled where that differs from the grid: Sampling(sampler="lcm", steps=4, guidance=1).
    """

    name: str
    model: Model
    adapters: tuple[Adapter, ...] = ()
    quantization: str = NOT_QUANTIZED
    precision: str = field(default="", metadata={LEFT_OUT: True})
    runtime: str = "eager"
    emphasis: Emphasis | None = None
    aesthetic: AestheticGradient | None = None
    sampling: Sampling | None = field(default=None, metadata={LEFT_OUT: True})
    axes: Mapping[str, AxisValue] = field(default_factory=dict)

    def __post_init__(self) -> None:
        settle(self)
        if self.quantization == NOT_QUANTIZED and not isinstance(self.quantization, DefaultNumberFormat) and not self.precision:
            object.__setattr__(self, "precision", str(self.quantization))

    @property
    def key(self) -> str:
        """Hash (16 hex digits) of everything that determines the candidate; neither its name nor its axes count."""
        # Without the fp32 of what is not quantized, which was the only precision before it could be declared. Beside an integer
        # mode it says in what the mode computes.
        understood = ("precision", NOT_QUANTIZED) if self.quantization == NOT_QUANTIZED else None
        return short_hash({k: v for k, v in plain(self).items() if k not in ("name", "axes") and (k, v) != understood})

    @property
    def number_format(self) -> str:
        """The declared quantization or precision ("int8_weight_only", "fp16"); empty where neither is declared."""
        return self.precision if self.quantization == NOT_QUANTIZED else self.quantization


@dataclass(frozen=True, kw_only=True)
class Penalty:
    """Takes `weight` points off the objective per unit by which an image's `metric` exceeds `allowance`."""

    metric: str
    weight: float
    allowance: float = 0.0

    def __post_init__(self) -> None:
        settle(self)


@dataclass(frozen=True, kw_only=True)
class Constraint:
    """A condition that a cell (candidate and guidance) must meet to be eligible: the mean of `metric` is at most, or at least, a
    limit. A cell is ruled out when its interval (95 %, corrected for the number of constraints and interim looks) lies wholly on
    the wrong side. Exactly one of the limits is given."""

    metric: str
    at_most: float | None = None
    at_least: float | None = None

    def __post_init__(self) -> None:
        settle(self)


@dataclass(frozen=True, kw_only=True)
class Desirability:
    """How desirable a value of `metric` is, from 0 at `worst` and beyond to 1 at `best` and beyond: the share of the way
    between them to the power `shape`. `best` may be the smaller of the two. `weight` is its exponent in the geometric mean of
    several. Derringer and Suich, Journal of Quality Technology 12 (1980) 214."""

    metric: str
    worst: float
    best: float
    shape: float = 1.0
    weight: float = 1.0

    def __post_init__(self) -> None:
        settle(self)


@dataclass(frozen=True, kw_only=True)
class Objective:
    """What "best" means, per image: the value of `maximise` minus the penalties, among cells that keep the `constraints`.

    The default subtracts over- and under-exposed pixels, and dominant colours that differ from the prompt's usual one, from
    the CLIP score, because alignment scores alone keep rising with guidance while images burn out.

    With `maximise=DESIRABILITY` it is 100 times the weighted geometric mean of the `desirabilities` of an image.

    `prefer` says which of the values that are tied with the best to take, by axis or "guidance": "lowest", "highest" or
    "middle" (the default). {"alpha": "lowest"} stays as close to model A as the data allow.
    """

    maximise: str = "clip_score"
    penalties: tuple[Penalty, ...] = (
        Penalty(metric="clipped_share", weight=100.0, allowance=0.05),
        Penalty(metric="palette_left", weight=5.0),
    )
    constraints: tuple[Constraint, ...] = ()
    desirabilities: tuple[Desirability, ...] = ()
    prefer: Mapping[str, str] = field(default_factory=lambda: {"guidance": "lowest"})

    def __post_init__(self) -> None:
        settle(self)


@dataclass(frozen=True, kw_only=True)
class Gate:
    """A condition a candidate must meet before it is promoted.

    `value` is a measured value ("clip_score", "clipped_share", "palette_drift", "psnr_db", "seconds_per_image", "peak_bytes"),
    or one of "coverage" (every key accounted for), "identities" (the merge method keeps its algebra on this model's own
    tensors), "failures" (how many stages failed), "failure_rate" (the share of images that are missing or unusable).
    Exactly one limit is given: `at_least`, `at_most`, or `not_worse_than` (a candidate's name, BASELINE or PROMOTED) with a
    `margin` in the value's unit, or with a `ratio`: at most 1.1 times the other's, or at least 0.95 times where more is
    better. `candidates` names those it applies to; empty means the recommended pick of the suite.
    """

    value: str
    at_least: float | None = None
    at_most: float | None = None
    not_worse_than: str | None = None
    margin: float = 0.0
    ratio: float | None = None
    candidates: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        settle(self)

    @property
    def name(self) -> str:
        """Readable id: "clip_score not_worse_than baseline"."""
        limits = [("at_least", self.at_least), ("at_most", self.at_most), ("not_worse_than", self.not_worse_than)]
        words = " ".join(f"{word} {limit:g}" if isinstance(limit, float | int) else f"{word} {limit}"
                        for word, limit in limits if limit is not None)
        return f"{self.value} {words}".strip()

    @property
    def long_name(self) -> str:
        """`name` with everything else that tells gates apart: "clip_score at_least 24 for alpha=0.5, alpha=0.65"."""
        limits = [("at_least", self.at_least), ("at_most", self.at_most), ("not_worse_than", self.not_worse_than),
                  ("margin", self.margin or None), ("ratio", self.ratio)]
        words = "".join(f" {word} {repr(limit).removesuffix('.0') if isinstance(limit, float) else limit}"
                        for word, limit in limits if limit is not None)
        return f"{self.value}{words}{' for ' if self.candidates else ''}{', '.join(self.candidates)}"


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Spends images where they decide, instead of sampling the whole grid, which becomes the most that a candidate can get.

    The select prompts are sampled in interim looks: `first_prompts` at the first, `step_prompts` more at each further one.
    Candidates that are significantly worse than the best are sampled no further. The race ends when no remaining candidate can
    be better than the pick by more than `enough` points, when the prompts are used up, or when `images` are spent (0: no such
    limit); the images of the confirm prompts are reserved. `refine` names a numeric axis along which candidates are added
    between the declared ones around the best, until they are `finest` apart. Inconclusive gates get the remaining seeds.

    With `minutes` no look begins that would not be done within so many minutes of the session's start, at its pace so far (0: no
    such limit). The first look, the confirmation and the timing are done in any case; what they will take is reserved.
    """

    images: int = 0
    first_prompts: int = 8
    step_prompts: int = 8
    enough: float = 0.1
    refine: str = ""
    finest: float = 0.05
    minutes: float = field(default=0.0, metadata={LEFT_OUT: True})

    def __post_init__(self) -> None:
        settle(self)


@dataclass(frozen=True, kw_only=True)
class Search:
    """Searches alphas by block (see Blocks) that no sweep could list: `trials` proposals of a sampler that learns from earlier
    ones (Optuna's TPE), each sampled on the first `prompts` select prompts at `guidance`. The `presets` are tried first;
    the `keep` best become candidates like the declared ones. Needs the extra sweetspot[search]."""

    merge: Merge
    guidance: float
    blocks: int = 25
    trials: int = 40
    prompts: int = 8
    keep: int = 3
    presets: tuple[str, ...] = ("GRAD_V", "GRAD_A", "FLAT_50", "COSINE")
    seed: int = 0

    def __post_init__(self) -> None:
        settle(self)


@dataclass(frozen=True, kw_only=True)
class Suite:
    """A declared comparison: candidates on one grid, the metrics, what best means, and the gates.

    `baseline` names the candidate that others are compared with: PSNR and palette drift are taken against its image
    of the same prompt, seed and guidance.

    `latency_rounds` images of each candidate are timed at batch 1, in rounds that alternate between the candidates. With
    `latency_budget_seconds` more rounds follow until p90 can be estimated (29 rounds) or the seconds are used up.
    `largest_batch` asks for throughput and memory at batch sizes 1, 2, 4 ... up to it; 0 asks for none.

    `clip` is the model of the CLIP score: "ARCHITECTURE:file", an open_clip architecture and a local copy of its weights. Only
    the built-in models are scored by the built-in "zoo:clip" without asking.

    `styles` maps a style's name to a text for CLIP: {"anime": "an anime drawing"}. The metric "styles" says which of them
    each image looks like.
    """

    name: str
    candidates: tuple[Candidate, ...]
    baseline: str
    grid: Grid
    metrics: tuple[str, ...] = ("clip_score", "palette", "exposure")
    objective: Objective = field(default_factory=Objective)
    gates: tuple[Gate, ...] = ()
    clip: str = DEFAULT_CLIP
    latency_rounds: int = ROUNDS_FOR_MEDIAN
    latency_budget_seconds: float = 0.0
    largest_batch: int = 0
    styles: Mapping[str, str] = field(default_factory=dict)
    budget: Budget | None = None
    search: Search | None = None
    description: str = ""

    def __post_init__(self) -> None:
        settle(self)

    @property
    def images(self) -> int:
        """How many images all candidates have on their whole grids."""
        scales = sum(len(self.grid.guidance_scales) if c.sampling is None or c.sampling.scales is None else len(c.sampling.scales)
                     for c in self.candidates)
        return scales * len(self.grid.prompts) * len(self.grid.seeds)

    def gate_name(self, gate: Gate) -> str:
        """The id of one of the gates: its name, or its long name where another gate has the same name."""
        return gate.name if sum(other.name == gate.name for other in self.gates) < 2 else gate.long_name
