"""Declarations of models: checkpoints, their merges with alphas, and adapters applied or fused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from harness.declare.normalise import settle

DENOISER: Final = "denoiser"
"""As a part of a merge, and its default: the U-Net or transformer, whichever A has."""
ALL: Final = "all"
"""As a part of a merge: every component that any of its models has."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A model file or diffusers folder. `path` is a file, a folder or a `zoo:` name; `config` names a local folder of
    diffusers configs when the model is not of a family whose configs are built in. `ema` takes the averaged U-Net
    weights (`model_ema.`) that some single files have besides the plain ones."""

    path: str
    config: str | None = None
    ema: bool = False

    def __post_init__(self) -> None:
        settle(self)


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """Alpha by block of the U-Net, as in merge block weighted. It is the share of b, under every convention.

    Either `values`, one for each block (26 for Stable Diffusion 1: BASE, IN00 to IN11, M00, OUT00 to OUT11; 25 without
    BASE; 20 or 19 for SDXL; 61 for Flux: CLIP, T5, IN, D00 to D18, S00 to S37, OUT), or the name of a `preset`.
    `convention` names the tool that decides to which block time_embed, label_emb, out and the VAE belong: "supermerger", "meh",
    "sd-mecha", "chattiori" or "comfyui". The last takes a value for each slider of ComfyUI's node, time_embed first and three
    for the middle block; but a slider there is the share of model 1, so 0.8 there is 0.2 here. `base` is the value of BASE if
    `values` do not include it, or replaces a preset's.
    """

    values: tuple[float, ...] = ()
    preset: str = ""
    convention: str = "supermerger"
    base: float | None = None

    def __post_init__(self) -> None:
        settle(self)


@dataclass(frozen=True, kw_only=True)
class Gradient:
    """Alpha that changes with depth: `values` are spread evenly from the first layer to the last, and the layers between
    them are interpolated. Layers are the blocks of a U-Net, transformer or VAE, and the layers of a text encoder.
    Tensors that belong to no layer get the mean of `values`."""

    values: tuple[float, ...]

    def __post_init__(self) -> None:
        settle(self)


@dataclass(frozen=True, kw_only=True)
class Alphas:
    """Alpha by component and by key. `parts` overrides `default`, and `keys` overrides both: each of its keys is a pattern with
    `*` for whole tensor names (single-file or diffusers spelling, also with the component in front: "unet.*attn2*"). If several
    patterns match, the last one counts."""

    default: float | Blocks | Gradient
    parts: Mapping[str, float | Blocks | Gradient] = field(default_factory=dict)
    keys: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if isinstance(self.keys, list | tuple):
            # `plain` writes pairs because hashing sorts mappings, and here the order matters.
            with suppress(TypeError, ValueError):
                object.__setattr__(self, "keys", dict(self.keys))
        settle(self)


Alpha: TypeAlias = float | Blocks | Gradient | Alphas


@dataclass(frozen=True, kw_only=True)
class Merge:
    """Merge of two or more models. `alpha` is the share of `b`: (1 - alpha) * A + alpha * B for "weighted_sum"; it may
    differ by block, depth, component or key. `beta` is the second share of the methods that have one.

    `c` is the third model or, for the methods that merge differences, the base they are taken from. `more` are further
    models for methods that take any number; `weights` then has one weight for each of (a, b, *more). `settings` are a method's
    parameters by name, such as {"density": 0.2, "seed": 7}.

    `parts` names the components that are merged: by default "denoiser", the U-Net or transformer that `a` has; "all" merges
    every component. All others are taken from `a`, or whole from the model that `take` names for them:
    {"vae": "other.safetensors"}. `missing` says what happens to a key without a counterpart: "error"
    refuses before the first image, "keep_a" keeps A's and leaves out what only others have, and says so.
    `dtype` is the dtype of the stored result: "a" for A's, or "fp32", "fp16", "bf16". `precision` "fp64" computes in float64
    throughout. `force` allows merges that are otherwise refused: "prediction" merges models that were trained to predict
    different things, "ema" merges EMA weights with plain ones.
    """

    a: Recipe
    b: Recipe
    alpha: Alpha | None = None
    c: Recipe | None = None
    more: tuple[Recipe, ...] = ()
    beta: Alpha | None = None
    weights: tuple[float, ...] = ()
    settings: Mapping[str, float] = field(default_factory=dict)
    method: str = "weighted_sum"
    parts: tuple[str, ...] = (DENOISER,)
    take: Mapping[str, Recipe] = field(default_factory=dict)
    missing: str = "error"
    dtype: str = "a"
    precision: str = "auto"
    force: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        settle(self)
        if isinstance(self.parts, str) and self.parts in (ALL, DENOISER):
            object.__setattr__(self, "parts", (self.parts,))

    @property
    def models(self) -> tuple[Recipe, ...]:
        """The models that are merged, in the order that methods take them: a, b, more, and c last."""
        return (self.a, self.b, *self.more, *(() if self.c is None else (self.c,)))


@dataclass(frozen=True, kw_only=True)
class Fused:
    """A model with adapters fused into its weights, in the order given, before the one rounding. In a suite it is a model
    like any other; written to a file, it no longer needs the adapters."""

    model: Recipe
    adapters: tuple[Adapter, ...]

    def __post_init__(self) -> None:
        settle(self)


@dataclass(frozen=True, kw_only=True)
class Relay:
    """Models that take turns in one denoising run: `models[0]` begins, and each later one takes over at its share of the steps in
    `at`, from the same latents and with the same sampler. Each reads the prompt with its own text encoders. `vae` says whose VAE
    decodes: that of the "first" model or of the "last".

    A Stable Diffusion XL refiner is the second model of a relay: Relay(models=("base", "refiner"), at=(0.8,)).
    """

    models: tuple[Recipe, ...]
    at: tuple[float, ...]
    vae: str = "first"

    def __post_init__(self) -> None:
        settle(self)


@dataclass(frozen=True, kw_only=True)
class Ensemble:
    """Models whose predictions are averaged at every step: the sum of `weights` times predictions; the weights add up to 1.

    `texts` says whose text encoders read the prompt: each model's "own", or those of the "first" for all. The VAE is the first
    model's.
    """

    models: tuple[Recipe, ...]
    weights: tuple[float, ...]
    texts: str = "own"

    def __post_init__(self) -> None:
        settle(self)


Recipe: TypeAlias = str | Checkpoint | Merge | Fused
"""What is one set of weights."""
Model: TypeAlias = Recipe | Relay | Ensemble
"""A relay or an ensemble is only a candidate's or a stage's own model, never a part of another."""
MODELS: Final = (str, Checkpoint, Merge, Fused, Relay, Ensemble)


def one_recipe(model: Model) -> Recipe:
    """The model, if it is one set of weights. Raises ValueError for a relay or an ensemble."""
    if isinstance(model, Relay | Ensemble):
        raise ValueError(  # noqa: TRY004, the type is right elsewhere
            f"{type(model).__name__} has no one set of weights, so no single file holds it; merge or fuse its models one by one")
    return model


def references(model: Model) -> Iterator[str]:
    """The files, folders and `zoo:` names of the models that a model is made of."""
    if isinstance(model, Merge):
        for part in (*model.models, *model.take.values()):
            yield from references(part)
    elif isinstance(model, Relay | Ensemble):
        for part in model.models:
            yield from references(part)
    elif isinstance(model, Fused):
        yield from references(model.model)
    else:
        yield model.path if isinstance(model, Checkpoint) else model


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """An adapter file (or `zoo:` name) and its weight; 1.0 is the strength its trainer meant.

    `blocks` multiplies the weight by block, depth, component or key: Blocks(values=...) with 26 values for Stable
    Diffusion 1 or 20 for SDXL, BASE (the text encoders) first, or with the 17 or 12 of the blocks that plain LoRAs change;
    Alphas(default=1, parts={"text_encoder": 0}) for the U-Net alone.

    `start` and `end` are shares of the denoising steps: the adapter acts at step i of n if start <= i / n < end. An adapter
    that ends at 0.5 and another that starts at 0.5 switch the style halfway through the image.

    A textual inversion adds words to prompts and has no weight: Emphasis says how strongly a word counts.
    """

    path: str
    weight: float = 1.0
    blocks: Blocks | Gradient | Alphas | None = None
    start: float = 0.0
    end: float = 1.0

    def __post_init__(self) -> None:
        settle(self)


@dataclass(frozen=True, kw_only=True)
class Emphasis:
    """Token weighting: how strongly words of the prompts count in the text embedding, as {"blue": 0.7}; a key may be
    several words. `method` is a tool's way to do it: "a1111", "comfyui" or "multiply"."""

    weights: Mapping[str, float]
    method: str = "a1111"

    def __post_init__(self) -> None:
        settle(self)


@dataclass(frozen=True, kw_only=True)
class AestheticGradient:
    """An aesthetic gradient for a Stable Diffusion 1 text encoder: for every prompt, `steps` steps of Adam at `rate` move
    the encoder so that the text lies nearer to the mean image embedding in the file `path`; `weight` blends the new
    embedding with the old. `clip` gives the projection of texts that the embedding was made with, as in Suite."""

    path: str
    clip: str = "zoo:clip"
    weight: float = 0.9
    steps: int = 5
    rate: float = 1e-4

    def __post_init__(self) -> None:
        settle(self)
