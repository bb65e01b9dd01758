"""Frozen declarations: what a suite is made of, as data. Suites build them; check, materialise, sample, run and the
reports read them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Final, TypeAlias

SPLITS: Final = ("select", "confirm")
BASELINE: Final = "baseline"
"""As a gate's `not_worse_than`: the suite's own baseline candidate."""

AxisValue: TypeAlias = float | str

_EXACT: Final = 2 ** 53
"""Up to here a float holds every whole number."""


def _settle(declaration: Any) -> None:
    """Lets a suite write lists, ranges and generators for tuples, paths for text, numpy's scalars and whole numbers for
    numbers, so that 1 and 1.0 declare the same. What fits no annotation is left as it is, for the check to name."""
    for spec in fields(declaration):
        value, kind = getattr(declaration, spec.name), str(spec.type)
        number = "float" in kind or kind.startswith("Alpha")
        listed = kind.startswith("tuple[") and not isinstance(value, tuple | str | bytes | Mapping | set | frozenset)
        if isinstance(value, tuple) or (listed and isinstance(value, Iterable) and getattr(value, "ndim", 1) != 0):
            value = tuple(_native(item, number) for item in value)
        elif isinstance(value, Mapping):
            value = {key: _native(item, number) for key, item in value.items()}
        object.__setattr__(declaration, spec.name, _native(value, number and not kind.startswith(("tuple[", "Mapping["))))


def _native(value: Any, as_float: bool = False) -> Any:
    """Text of a path, Python's own number of a numpy scalar, a float of a whole number; anything else unchanged."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        value = value.item()
    if as_float and isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _EXACT:
        return float(value)
    return value


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A model file or diffusers folder. `path` is a file, a folder or a `zoo:` name; `config` names a local folder of
    diffusers configs when the model is not of a family whose configs are built in. `ema` takes the averaged U-Net
    weights (`model_ema.`) that some single files hold beside the plain ones."""

    path: str
    config: str | None = None
    ema: bool = False

    def __post_init__(self) -> None:
        _settle(self)


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """Alpha by block of the U-Net, as in merge block weighted. It is the share of b, under every convention.

    Either `values`, one for each block (26 for Stable Diffusion 1: BASE, IN00 to IN11, M00, OUT00 to OUT11; 25 without
    BASE; 20 or 19 for SDXL; 61 for Flux: CLIP, T5, IN, D00 to D18, S00 to S37, OUT), or the name of a `preset`.
    `convention` says where tools differ: to which block they count time_embed, label_emb, out and the VAE: "supermerger",
    "meh", "sd-mecha", "chattiori" or "comfyui". The last takes a value for each slider of ComfyUI's node, time_embed first
    and three for the middle block; but there a slider is the share of model 1, so that 0.8 there is 0.2 here. `base` is the
    value of BASE when `values` are given without it, or instead of a preset's.
    """

    values: tuple[float, ...] = ()
    preset: str = ""
    convention: str = "supermerger"
    base: float | None = None

    def __post_init__(self) -> None:
        _settle(self)


@dataclass(frozen=True, kw_only=True)
class Gradient:
    """Alpha that changes with depth: `values` stand at equal distances from the first layer to the last, and layers in
    between are interpolated. Layers are the blocks of a U-Net or transformer and of a VAE, and the layers of a text encoder.
    What belongs to no layer gets the mean of `values`."""

    values: tuple[float, ...]

    def __post_init__(self) -> None:
        _settle(self)


@dataclass(frozen=True, kw_only=True)
class Alphas:
    """Alpha by component and by key. `parts` goes before `default`, and `keys` before both: each key of it is a pattern
    with `*` on whole tensor names (single-file or diffusers spelling, also with the component in front: "unet.*attn2*"),
    and of several that match, the last one counts."""

    default: float | Blocks | Gradient
    parts: Mapping[str, float | Blocks | Gradient] = field(default_factory=dict)
    keys: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if isinstance(self.keys, list | tuple):
            # `plain` writes pairs, since hashing sorts mappings and here the order decides.
            with suppress(TypeError, ValueError):
                object.__setattr__(self, "keys", dict(self.keys))
        _settle(self)


Alpha: TypeAlias = float | Blocks | Gradient | Alphas


@dataclass(frozen=True, kw_only=True)
class Merge:
    """Merge of two or more models. `alpha` is the share of `b`: (1 - alpha) * A + alpha * B for "weighted_sum"; it may
    differ by block, depth, component or key. `beta` is the second share of the methods that have one.

    `c` is the third model or, for the methods that merge differences, the base they are taken from. `more` are further
    models of methods that take any number, `weights` then weighs (a, b, *more). `settings` are a method's own numbers by
    name, such as {"density": 0.2, "seed": 7}.

    `parts` names the components that are merged; all others are taken from `a`, or whole from the model that `take`
    names for them: {"vae": "other.safetensors"}. `missing` says what happens to a key without a counterpart: "error"
    refuses before the first image, "keep_a" keeps A's and leaves out what only others have, and says so.
    `dtype` is what the result is stored in: "a" for A's own, or "fp32", "fp16", "bf16". `precision` "fp64" computes in
    float64 throughout. `force` allows what is refused for good reasons: "prediction" merges models that were trained to
    predict different things, "ema" averaged with plain weights.
    """

    a: Model
    b: Model
    alpha: Alpha | None = None
    c: Model | None = None
    more: tuple[Model, ...] = ()
    beta: Alpha | None = None
    weights: tuple[float, ...] = ()
    settings: Mapping[str, float] = field(default_factory=dict)
    method: str = "weighted_sum"
    parts: tuple[str, ...] = ("unet",)
    take: Mapping[str, Model] = field(default_factory=dict)
    missing: str = "error"
    dtype: str = "a"
    precision: str = "auto"
    force: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _settle(self)

    @property
    def models(self) -> tuple[Model, ...]:
        """The models that are merged, in the order that methods take them: a, b, more, and c last."""
        return (self.a, self.b, *self.more, *(() if self.c is None else (self.c,)))


@dataclass(frozen=True, kw_only=True)
class Fused:
    """A model with adapters fused into its weights for good, in the order given, before the one rounding. In a suite it is
    a model like any other; written to a file, it needs no adapter any more."""

    model: Model
    adapters: tuple[Adapter, ...]

    def __post_init__(self) -> None:
        _settle(self)


Model: TypeAlias = str | Checkpoint | Merge | Fused


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """A LoRA file (or `zoo:` name) and its weight; 1.0 is the strength its trainer meant."""

    path: str
    weight: float = 1.0

    def __post_init__(self) -> None:
        _settle(self)


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """One prompt. `split` is "select" (the verdict is chosen on these) or "confirm" (and confirmed on those).

    `tags` are free words for tables and tests, such as {"colour": "red"}; nothing in a run depends on them.
    """

    id: str
    text: str
    negative: str = ""
    split: str = "select"
    tags: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _settle(self)


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The cells sampled for every candidate: prompts x seeds x guidance scales, with one sampler, step count and size.

    `width` and `height` are in pixels. `batch_size` is part of the declaration because the last bits of an image
    depend on the shape of its batch.
    """

    prompts: tuple[Prompt, ...]
    seeds: tuple[int, ...]
    guidance_scales: tuple[float, ...]
    sampler: str = "dpmpp_2m"
    steps: int = 20
    width: int = 512
    height: int = 512
    batch_size: int = 16

    def __post_init__(self) -> None:
        _settle(self)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One thing that may be shipped. `axes` are the numeric (or named) coordinates it has in sweeps: {"alpha": 0.35}."""

    name: str
    model: Model
    adapters: tuple[Adapter, ...] = ()
    quantization: str = "fp32"
    runtime: str = "eager"
    axes: Mapping[str, AxisValue] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _settle(self)

    @property
    def key(self) -> str:
        """Hash (16 hex digits) of everything that determines the candidate; neither its name nor its axes count."""
        return short_hash({k: v for k, v in plain(self).items() if k not in ("name", "axes")})


@dataclass(frozen=True, kw_only=True)
class Penalty:
    """Takes `weight` points off the objective per unit by which an image's `metric` exceeds `allowance`."""

    metric: str
    weight: float
    allowance: float = 0.0

    def __post_init__(self) -> None:
        _settle(self)


@dataclass(frozen=True, kw_only=True)
class Objective:
    """What "best" means, per image: the value of `maximise` minus the penalties.

    The default counts over- and under-exposed pixels and dominant colours that left the prompt's usual one against
    the CLIP score, because alignment scores alone rise with guidance even while images burn out.
    """

    maximise: str = "clip_score"
    penalties: tuple[Penalty, ...] = (
        Penalty(metric="clipped_share", weight=100.0, allowance=0.05),
        Penalty(metric="palette_left", weight=5.0),
    )

    def __post_init__(self) -> None:
        _settle(self)


@dataclass(frozen=True, kw_only=True)
class Gate:
    """A condition a candidate must meet before it is promoted.

    `value` is a measured value ("clip_score", "clipped_share", "psnr_db", "seconds_per_image", "peak_bytes"), or one
    of "coverage" (every key accounted for), "failures". Exactly one limit is given: `at_least`, `at_most`, or
    `not_worse_than` (a candidate's name, or BASELINE) with a `margin` in the value's unit. `candidates` names those
    it applies to; empty means the recommended pick of the suite.
    """

    value: str
    at_least: float | None = None
    at_most: float | None = None
    not_worse_than: str | None = None
    margin: float = 0.0
    candidates: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _settle(self)

    @property
    def name(self) -> str:
        """Readable id: "clip_score not_worse_than baseline"."""
        limits = [("at_least", self.at_least), ("at_most", self.at_most), ("not_worse_than", self.not_worse_than)]
        said = " ".join(f"{word} {limit:g}" if isinstance(limit, float | int) else f"{word} {limit}"
                        for word, limit in limits if limit is not None)
        return f"{self.value} {said}".strip()


@dataclass(frozen=True, kw_only=True)
class Suite:
    """A declared comparison: candidates on one grid, the metrics, what best means, and the gates.

    `baseline` names the candidate that others are compared with: PSNR and palette drift are taken against its image
    of the same prompt, seed and guidance.
    """

    name: str
    candidates: tuple[Candidate, ...]
    baseline: str
    grid: Grid
    metrics: tuple[str, ...] = ("clip_score", "palette", "exposure")
    objective: Objective = field(default_factory=Objective)
    gates: tuple[Gate, ...] = ()
    clip: str = "zoo:clip"
    latency_rounds: int = 5
    description: str = ""

    def __post_init__(self) -> None:
        _settle(self)


def plain(value: Any) -> Any:
    """A declaration as JSON-ready data; a dataclass becomes a dict with its class name under "is"."""
    if isinstance(value, Alphas) and isinstance(value.keys, Mapping):
        return {"is": "Alphas", "default": plain(value.default), "parts": plain(value.parts),
                "keys": [[str(pattern), alpha] for pattern, alpha in value.keys.items()]}
    if is_dataclass(value) and not isinstance(value, type):
        return {"is": type(value).__name__, **{f.name: plain(getattr(value, f.name)) for f in fields(value)}}
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | range):
        return [plain(v) for v in value]
    return value


def restore(data: Any) -> Any:
    """The inverse of `plain` for the declarations of this module; lists become tuples."""
    if isinstance(data, dict):
        inner = {k: restore(v) for k, v in data.items() if k != "is"}
        return _DECLARATIONS[data["is"]](**inner) if data.get("is") in _DECLARATIONS else inner
    if isinstance(data, list):
        return tuple(restore(v) for v in data)
    return data


def short_hash(data: Any) -> str:
    """First 16 hex digits of the SHA-256 of the canonical JSON of `data`."""
    text = json.dumps(plain(data), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


_DECLARATIONS: Final[dict[str, Any]] = {c.__name__: c for c in (
    Checkpoint, Blocks, Gradient, Alphas, Merge, Fused, Adapter, Prompt, Grid, Candidate, Penalty, Objective, Gate, Suite)}
