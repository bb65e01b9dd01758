"""The description of a judged value: one frozen row has its title, unit, direction, range and display.

A metric declares its rows together with its function; values that no metric gives (derived values, human ratings, counts and
costs) are the rows of RUN_VALUES. run.json contains the rows of a run's metrics, so reports do not need the metrics' code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any, Final, Literal

Better = Literal["higher", "lower", "nearer"]
Kind = Literal["number", "share", "flag", "count", "cost"]
Display = Literal["number", "percent", "bytes", "seconds"]
Origin = Literal["metric", "derived", "people", "run"]

BETTER: Final = ("higher", "lower", "nearer")
KINDS: Final = ("number", "share", "flag", "count", "cost")
DISPLAYS: Final = ("number", "percent", "bytes", "seconds")
ORIGINS: Final = ("metric", "derived", "people", "run")
MOST_DIGITS: Final = 12
PLACES: Final = ("headline", "column", "figure", "caption")
"""Where a value is shown, besides the lists of all values: among the headline figures of the page, as a column of the table of
candidates, in the figures, and under an image."""


@dataclass(frozen=True, kw_only=True)
class ValueSpec:
    """One judged value. Everything that reads it (statistics, gates, figures, tables, the page) asks this row.

    Raises ValueError for a row that contradicts itself.
    """

    name: str
    """Its name in gates and tables."""
    title: str
    """Its name for readers."""
    unit: str
    """The unit of its numbers."""
    better: Better
    """With "nearer" neither more nor less is better, only closer to a target value."""
    definition: str
    """What it is, in one sentence."""
    kind: Kind = "number"
    """A "share" is a fraction of something, a "flag" 0 or 1 for each image, a "count" an integer of the run, a "cost" a cost of a
    candidate. A share or a flag always has the range 0 to 1, without `low` and `high`."""
    low: float | None = None
    """The least possible value."""
    high: float | None = None
    """The largest possible value."""
    paired: bool = False
    """Taken against the baseline's image of the same prompt, seed and guidance."""
    pooled: bool = False
    """Depends on the candidate's other images of the same prompt."""
    display: Display = "number"
    """How a number is written."""
    digits: int = 2
    """How many decimals a number has."""
    symbol: str = ""
    """What stands behind a number."""
    shown: tuple[str, ...] = PLACES[1:]
    """Where it appears: "headline", "column", "figure", "caption"."""
    origin: Origin = "metric"
    """What it comes from; "metric" for those of your own."""
    metric: str = ""
    """The metric that gives it, by its name in the suite; filled in by itself."""
    version: int | str = 1
    """That of the metric or of the derivation; filled in by itself."""
    paper: str = ""
    """Where it comes from; filled in by itself."""
    undefined: str = ""
    """The reason that the metric gives where the value does not exist by definition, such as the PSNR of two equal images: an
    image that lacks the value for this reason lacks nothing that was asked for."""

    def __post_init__(self) -> None:
        if self.kind in ("share", "flag"):
            object.__setattr__(self, "low", 0.0 if self.low is None else self.low)
            object.__setattr__(self, "high", 1.0 if self.high is None else self.high)
        for name, known in (("better", BETTER), ("kind", KINDS), ("display", DISPLAYS), ("origin", ORIGINS)):
            if getattr(self, name) not in known:
                raise ValueError(f"value {self.name!r}: {name} is {getattr(self, name)!r}; expected one of {', '.join(known)}")
        if unknown := sorted({*self.shown} - {*PLACES}):
            raise ValueError(f"value {self.name!r}: shown holds {unknown[0]!r}; expected some of {', '.join(PLACES)}")
        if not 0 <= self.digits <= MOST_DIGITS:
            raise ValueError(f"value {self.name!r}: digits is {self.digits}; expected 0 to {MOST_DIGITS}")
        if self.low is not None and self.high is not None and not self.low < self.high:
            raise ValueError(f"value {self.name!r}: low is {self.low!r} and high {self.high!r}; expected low below high")
        if self.kind in ("share", "flag") and (self.low, self.high) != (0.0, 1.0):
            raise ValueError(f"value {self.name!r}: a {self.kind} always ranges from 0 to 1; remove low and high")

    @property
    def fewer(self) -> bool:
        """Whether less of it is better."""
        return self.better == "lower"

    @property
    def bounded_share(self) -> bool:
        """Whether it is a share of something, from 0 to 1, or a flag."""
        return self.kind in ("share", "flag")


FIELDS: Final = tuple(field.name for field in fields(ValueSpec))
OBJECTIVE: Final = ValueSpec(
    name="objective", title="Objective", unit="points", better="higher", origin="derived",
    definition="the value the suite maximises minus its penalties, per image", shown=PLACES)
FAILURE_RATE: Final = ValueSpec(
    name="failure_rate", title="Failure rate", unit="share of images", better="lower", kind="flag", display="percent",
    origin="run", shown=(), definition="images that could not be made, or are unusable, of those asked for")
SECONDS: Final = ValueSpec(
    name="seconds_per_image", title="Seconds per image", unit="s", better="lower", kind="cost", low=0.0, display="seconds",
    origin="run", shown=("headline",), definition="median over the timed rounds, one image at batch 1")
AGREEMENT: Final = ValueSpec(
    name="likeness_agreement", title="Agreement of a reference's images", unit="points", better="nearer", low=-100.0, high=100.0,
    pooled=True, origin="derived", metric="likeness", shown=("column", "figure"),
    undefined="no other image of its reference to compare with",
    definition="100 x mean cosine of the CLIP embeddings of an image and of the candidate's other images of the same reference "
               "picture, guidance and split: of all seeds and, from three prompts of the reference on, of all its prompts; 100 "
               "is a picture that is always the same")
BYTES: Final = ValueSpec(
    name="peak_bytes", title="Peak memory", unit="bytes", better="lower", kind="cost", low=0.0, display="bytes", origin="run",
    shown=("headline",),
    definition="most memory of this process while one image is made at batch 1; making the candidate is not in it")
WEIGHTS: Final = ValueSpec(
    name="weights_bytes", title="Weights in memory", unit="bytes", better="lower", kind="cost", low=0.0, display="bytes",
    origin="run", shown=("headline",),
    definition="bytes of the weights of denoiser, text encoders and VAE as they are stored for sampling, adapters, control "
               "networks and IP-Adapters with their image encoders included, of all stages; a quantized weight counts as its "
               "codes and scales; what a quantized copy or that of a saver is made of does not count")

RUN_VALUES: Final[Mapping[str, ValueSpec]] = MappingProxyType({spec.name: spec for spec in (
    OBJECTIVE,
    ValueSpec(
        name="desirability", title="Desirability", unit="points", better="higher", origin="derived", low=0.0, high=100.0,
        definition="100 x weighted geometric mean of the desirabilities that the suite declares, per image", shown=()),
    ValueSpec(
        name="palette_left", title="Off-colour images", unit="share of images", better="lower", kind="flag", pooled=True,
        display="percent", origin="derived", metric="palette", shown=("figure",),
        definition="1 when an image's dominant colour is not the most common one of its candidate and prompt over all seeds and "
                   "guidance scales, else 0; where k colours are equally common, 1 - 1/k for their images", version=2),
    AGREEMENT,
    ValueSpec(
        name="rating", title="Rating by people", unit="points of 10", better="higher", low=1.0, high=10.0, origin="people",
        metric="blind", shown=(),
        definition="mean score of an image over its raters, who did not know what made it: 1 very bad to 10 excellent; a rater "
                   "who saw it more than once counts once, with the mean"),
    ValueSpec(
        name="preferred", title="Duels won", unit="share of duels", better="higher", kind="share", origin="people",
        metric="blind", shown=(),
        definition="share of an image's blind duels, against other candidates at the same prompt and seed, that it won; no "
                   "difference is half a win"),
    ValueSpec(
        name="coverage", title="Tensors not accounted for", unit="tensors", better="lower", kind="count", low=0.0, origin="run",
        shown=(), digits=0,
        definition="tensors of the model files that no stage accounts for"),
    ValueSpec(
        name="identities", title="Identities broken", unit="identities", better="lower", kind="count", low=0.0, origin="run",
        shown=(), digits=0, definition="algebraic identities of the merge method that do not hold on the candidate's tensors"),
    ValueSpec(
        name="failures", title="Failures", unit="stages", better="lower", kind="count", low=0.0, origin="run", shown=(),
        digits=0, definition="stages of the candidate that failed"),
    FAILURE_RATE,
    SECONDS,
    BYTES,
    WEIGHTS,
)})
"""Values that no metric of a suite gives, by name, in the order in which tables list them."""

SHARE: Final = ValueSpec(name="share", title="Share", unit="share", better="nearer", kind="share", display="percent", shown=(),
                         origin="derived", definition="a share of something that is no value of its own")


def values_from(origin: Origin) -> dict[str, ValueSpec]:
    """The rows of RUN_VALUES of one origin, in their order."""
    return {name: spec for name, spec in RUN_VALUES.items() if spec.origin == origin}


def derivation(version: int | str) -> str:
    """The version of a derivation, as it stands beside that of the metric."""
    return f"derivation {version}"


def counts() -> tuple[str, ...]:
    """Names of the values that are counted over a run instead of measured per image."""
    return tuple(name for name, spec in values_from("run").items() if spec.kind != "cost")


def costs() -> tuple[str, ...]:
    """Names of the values that are costs of a candidate."""
    return tuple(name for name, spec in RUN_VALUES.items() if spec.kind == "cost")


def unknown_value(name: str) -> ValueSpec:
    """The row of an unknown value: a plain number without a range, with its name as the title."""
    return ValueSpec(name=name, title=name.replace("_", " "), unit="", better="nearer", definition="", shown=())


def spec_of(values: Mapping[str, ValueSpec], name: str) -> ValueSpec:
    """The row of a value: one of `values`, else of RUN_VALUES, else that of an unknown value."""
    return values.get(name) or RUN_VALUES.get(name) or unknown_value(name)


def to_plain(spec: ValueSpec) -> dict[str, Any]:
    """A row as run.json holds it: every field but the name, which is its key there."""
    return {name: list(value) if isinstance(value := getattr(spec, name), tuple) else value for name in FIELDS if name != "name"}
