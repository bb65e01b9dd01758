"""Declarations of models: checkpoints, their merges with alphas, and adapters applied or fused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from harness.declare.normalise import settle
from harness.declare.younger_fields import LEFT_OUT

DENOISER: Final = "denoiser"
"""As a part of a merge, and its default: the U-Net or transformer, whichever A has."""
ALL: Final = "all"
"""As a part of a merge: every component that any of its models has."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A model file or diffusers folder, where a path alone does not say enough."""

    path: str
    """A file, a folder or a `zoo:` name."""
    config: str | None = None
    """A local folder of diffusers configs, for a model that is not of a family whose configs are built in. In a merge A's counts,
    and another one for another model is refused."""
    ema: bool = False
    """Takes the averaged U-Net weights (`model_ema.`) that some single files have besides the plain ones."""
    base: str | None = field(default=None, metadata={LEFT_OUT: True})
    """A local diffusers folder of the same architecture, which gives the components that the file lacks and the configs of all,
    such as the text encoders and the VAE of a file that holds a U-Net or a transformer alone. It replaces `config`. In a merge
    A's counts for all that is not merged, and another one of which nothing is merged is refused."""

    def __post_init__(self) -> None:
        settle(self)

    @property
    def configs(self) -> str | None:
        """The folder with the configs: `base` or `config`."""
        return self.base if self.config is None else self.config


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """Alpha by block of the U-Net, as in merge block weighted: `values` or a `preset`. It is the share of B, under every
    convention."""

    values: tuple[float, ...] = ()
    """One for each block: 26 for Stable Diffusion 1 (BASE, IN00 to IN11, M00, OUT00 to OUT11), or 25 without BASE; 20 or 19 for
    SDXL; 61 for Flux (CLIP, T5, IN, D00 to D18, S00 to S37, OUT)."""
    preset: str = ""
    """The name of a preset in place of values, see docs/api.md#presets."""
    convention: str = "supermerger"
    """The tool that decides to which block time_embed, label_emb, out and the VAE belong, see docs/api.md#conventions. "comfyui"
    takes a value for each slider of ComfyUI's node, time_embed first and three for the middle block; but a slider there is the
    share of model 1, so 0.8 there is 0.2 here."""
    base: float | None = None
    """The value of BASE if `values` do not include it, or in place of a preset's."""

    def __post_init__(self) -> None:
        settle(self)


@dataclass(frozen=True, kw_only=True)
class Gradient:
    """Alpha that changes with depth. Layers are the blocks of a U-Net, transformer or VAE, and the layers of a text encoder.
    Tensors that belong to no layer get the mean of `values`."""

    values: tuple[float, ...]
    """Spread evenly from the first layer to the last; the layers between them are interpolated."""

    def __post_init__(self) -> None:
        settle(self)


@dataclass(frozen=True, kw_only=True)
class Alphas:
    """Alpha by component and by key."""

    default: float | Blocks | Gradient
    """Where nothing else says."""
    parts: Mapping[str, float | Blocks | Gradient] = field(default_factory=dict)
    """By component, in place of `default`: {"vae": 0}."""
    keys: Mapping[str, float] = field(default_factory=dict)
    """By key, in place of both: {"unet.*attn2*": 0.5}. Each is a pattern with `*` for whole tensor names, in single-file or
    diffusers spelling, also with the component in front. If several match, the last one counts."""

    def __post_init__(self) -> None:
        if isinstance(self.keys, list | tuple):
            # `plain` writes pairs because hashing sorts mappings, and here the order matters.
            with suppress(TypeError, ValueError):
                object.__setattr__(self, "keys", dict(self.keys))
        settle(self)


Alpha: TypeAlias = float | Blocks | Gradient | Alphas


@dataclass(frozen=True, kw_only=True)
class Merge:
    """A merge of two or more models, see docs/merging.md."""

    a: Recipe
    """The first model."""
    b: Recipe
    """The second model."""
    alpha: Alpha | None = None
    """The share of B: (1 - alpha) * A + alpha * B for "weighted_sum". It may differ by block, depth, component or key."""
    c: Recipe | None = None
    """The third model or, for the methods that merge differences, the base they are taken from."""
    more: tuple[Recipe, ...] = ()
    """Further models for methods that take any number."""
    beta: Alpha | None = None
    """The second share of the methods that have one."""
    weights: tuple[float, ...] = ()
    """One weight for each of (a, b, *more), for methods that take any number of models."""
    settings: Mapping[str, float] = field(default_factory=dict)
    """Parameters of the method by name: {"density": 0.2, "seed": 7}."""
    method: str = "weighted_sum"
    """See docs/api.md#merge-methods."""
    parts: tuple[str, ...] = (DENOISER,)
    """The components that are merged: "denoiser" is the U-Net or transformer that A has, "all" is every component. All others are
    taken from A."""
    take: Mapping[str, Recipe] = field(default_factory=dict)
    """Components that are taken whole from another model: {"vae": "other.safetensors"}."""
    missing: str = "error"
    """What happens to a key without a counterpart: "error" refuses before the first image; "keep_a" keeps A's, leaves out what
    only others have, and says so."""
    dtype: str = "a"
    """The dtype of the stored result: "a" for A's, or "fp32", "fp16", "bf16"."""
    precision: str = "auto"
    """Of the arithmetic: "auto", or "fp64" for float64 throughout."""
    force: tuple[str, ...] = ()
    """Allows merges that are otherwise refused: "prediction" merges models that were trained to predict different things, "ema"
    merges EMA weights with plain ones."""

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
    """A model with adapters fused into its weights, before the one rounding. In a suite it is a model like any other; written to
    a file, it no longer needs the adapters."""

    model: Recipe
    """The model."""
    adapters: tuple[Adapter, ...]
    """Fused in the order given."""

    def __post_init__(self) -> None:
        settle(self)


@dataclass(frozen=True, kw_only=True)
class Relay:
    """Models that take turns in one denoising run: `models[0]` begins, and each later one takes over from the same latents, with
    the same sampler. Each reads the prompt with its own text encoders. The candidate's adapters act in every model.

    A Stable Diffusion XL refiner is the second model of a relay: Relay(models=("base", "refiner"), at=(0.8,)).
    """

    models: tuple[Recipe, ...]
    """At least two, in the order of their turns. They must work on the same latents; what they predict may differ."""
    at: tuple[float, ...]
    """The share of the steps from which each model but the first acts: step i of n is at i / n. Each model needs a step. Where
    only the last steps are run, in a later stage or an inpainting, it is a share of all: each model acts at the same noise."""
    vae: str = "first"
    """Whose VAE decodes: that of the "first" model or of the "last"."""

    def __post_init__(self) -> None:
        settle(self)


@dataclass(frozen=True, kw_only=True)
class Ensemble:
    """Models whose predictions are averaged at every step. The VAE is the first model's. The candidate's adapters act in every
    model."""

    models: tuple[Recipe, ...]
    """At least two. They must work on the same latents; what they predict may differ."""
    weights: tuple[float, ...]
    """The share of each model's prediction, from 0 to 1; together 1. A model of weight 0 is not run."""
    texts: str = "own"
    """Whose text encoders read the prompt: each model's "own", or those of the "first" for all."""

    def __post_init__(self) -> None:
        settle(self)


Recipe: TypeAlias = str | Checkpoint | Merge | Fused
"""What is one set of weights."""
Model: TypeAlias = Recipe | Relay | Ensemble
"""A relay or an ensemble is only a candidate's or a stage's own model, never a part of another."""
MODELS: Final = (str, Checkpoint, Merge, Fused, Relay, Ensemble)


def models_of(model: Model) -> tuple[Recipe, ...]:
    """The sets of weights that a model has: one, or those of a relay or an ensemble."""
    return model.models if isinstance(model, Relay | Ensemble) else (model,)


def weights_by_model(ensemble: Ensemble) -> tuple[tuple[Recipe, float], ...]:
    """The models of an ensemble that count, each with its weight."""
    return tuple((model, weight) for model, weight in zip(ensemble.models, ensemble.weights, strict=True) if weight != 0)


def one_recipe(model: Model) -> Recipe:
    """The model, if it is one set of weights. Raises ValueError for a relay or an ensemble."""
    if isinstance(model, Relay | Ensemble):
        what, instead = ("a relay", "") if isinstance(model, Relay) else ("an ensemble", (
            ", or measure the merge of the same weights, Merge(...), which one file holds"))
        raise ValueError(  # noqa: TRY004, the type is right elsewhere
            f"its model is {what}, which has several sets of weights, so no single file holds it; write its models to files one "
            f"by one, each as a candidate's or a recipe's only model{instead}")
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
    elif isinstance(model, Checkpoint):
        yield from (model.path, *([] if model.base is None else [model.base]))
    else:
        yield model


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """An adapter file at one strength, see docs/adapters.md. A textual inversion adds words to prompts and has no weight:
    Emphasis says how strongly a word counts.

    An adapter that ends at 0.5 and another that starts at 0.5 switch the style halfway through the image.
    """

    path: str
    """A file or a `zoo:` name."""
    weight: float = 1.0
    """1 is the strength its trainer meant."""
    blocks: Blocks | Gradient | Alphas | None = None
    """Multiplies the weight by block, depth, component or key. Blocks has 26 values for Stable Diffusion 1 or 20 for SDXL, BASE
    (the text encoders) first, or the 17 or 12 of the blocks that plain LoRAs change. Alphas(default=1, parts={"text_encoder": 0})
    is the U-Net alone."""
    start: float = 0.0
    """The share of the denoising steps from which it acts: at step i of n if start <= i / n < end."""
    end: float = 1.0
    """The share of the denoising steps at which it stops."""

    def __post_init__(self) -> None:
        settle(self)


@dataclass(frozen=True, kw_only=True)
class Emphasis:
    """Token weighting: how strongly words of the prompts count in the text embedding."""

    weights: Mapping[str, float]
    """By word or phrase: {"blue": 0.7}."""
    method: str = "a1111"
    """A tool's way to do it, see docs/api.md#weightings."""

    def __post_init__(self) -> None:
        settle(self)


@dataclass(frozen=True, kw_only=True)
class AestheticGradient:
    """An aesthetic gradient for a Stable Diffusion 1 text encoder: for every prompt, steps of Adam move the encoder so that the
    text lies nearer to a mean image embedding."""

    path: str
    """The file of the mean image embedding."""
    clip: str = "zoo:clip"
    """The model whose projection of texts the embedding was made with, as in Suite."""
    weight: float = 0.9
    """The share of the new text embedding, against the old."""
    steps: int = 5
    """Steps of Adam, for every prompt."""
    rate: float = 1e-4
    """The learning rate of Adam."""

    def __post_init__(self) -> None:
        settle(self)
