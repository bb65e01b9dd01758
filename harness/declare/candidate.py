"""What may be shipped: a model with adapters, quantization, runtime, savers and a way of sampling."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Final, TypeAlias

from harness.declare.guiding import Control, Inpaint, Reference
from harness.declare.mixed import Mixed, of_denoiser, spelled
from harness.declare.models import Adapter, AestheticGradient, Emphasis, Ensemble, Model, Relay
from harness.declare.normalise import settle
from harness.declare.post_steps import PostStep
from harness.declare.sampling import Sampling
from harness.declare.stages import Stage
from harness.declare.step_cache import DeepCache, FirstBlock, MagCache, TaylorSeer
from harness.declare.to_plain import plain, short_hash
from harness.declare.younger_fields import LEFT_OUT

NUMBER_FORMATS: Final = ("fp32", "bf16", "fp16")
"""What `precision` names. The quantizations of these names ask for the same."""
AxisValue: TypeAlias = float | str
TAKEN: Final = ("adapters", "controls", "references", "sampling")
"""The fields of a first stage that a candidate has itself."""


class DefaultNumberFormat(str):
    """The `quantization` of a candidate that names none. It reads like "fp32", but asks for no number format."""

    __slots__ = ()


NOT_QUANTIZED: Final = DefaultNumberFormat("fp32")


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One thing that may be shipped: a model, what is applied to it, and how it is sampled."""

    name: str
    """Its name in gates, in the terminal and in `sweetspot promote`."""
    model: Model = ""
    """A path, a `zoo:` name, or a declaration of a model. Without it, all stages are given: Candidate(name="night",
    stages=(Stage(model="a"), Stage(model="b", strength=0.5))) is the same as Candidate(name="night", model="a",
    stages=(Stage(model="b", strength=0.5),))."""
    adapters: tuple[Adapter, ...] = ()
    """Adapters that are applied at run time."""
    quantization: str | Mixed | Mapping[str, str | Mixed] = NOT_QUANTIZED
    """How weights are stored, see docs/api.md#quantization-modes: those of the denoiser, or by component,
    {"unet": "int8_weight_only", "text_encoder": "nf4"}; with Mixed(...) by layer."""
    precision: str = field(default="", metadata={LEFT_OUT: True})
    """The number format of the denoiser's weights and arithmetic: "fp32", "bf16" or "fp16". By default it is fp32 on a CPU; on a
    GPU it is fp16 for U-Nets and bf16 for transformers, see docs/gpu.md. quantization="fp16" asks for the same as
    precision="fp16"."""
    runtime: str | Mapping[str, str] = "eager"
    """What executes the denoiser, see docs/api.md#runtimes, or each component: {"unet": "onnxruntime", "vae": "openvino"}. What
    is not named runs in eager."""
    emphasis: Emphasis | None = None
    """How strongly single words of the prompts count. Negative prompts are embedded plainly."""
    aesthetic: AestheticGradient | None = None
    """An aesthetic gradient for the text encoder. Negative prompts are embedded plainly."""
    sampling: Sampling | None = field(default=None, metadata={LEFT_OUT: True})
    """How its images are sampled where that differs from the grid: Sampling(sampler="lcm", steps=4, guidance=1)."""
    stages: tuple[Stage, ...] = field(default=(), metadata={LEFT_OUT: True})
    """The stages after the first, which the other fields describe: image to image with another model, prompt or size."""
    controls: tuple[Control, ...] = field(default=(), metadata={LEFT_OUT: True})
    """Control networks of the first stage, and the pictures that they follow."""
    references: tuple[Reference, ...] = field(default=(), metadata={LEFT_OUT: True})
    """IP-Adapters of the first stage, and the reference pictures that they are given."""
    inpaint: Inpaint | None = field(default=None, metadata={LEFT_OUT: True})
    """The picture that the first stage changes, and where."""
    post: tuple[PostStep, ...] = field(default=(), metadata={LEFT_OUT: True})
    """What is done to the finished picture, in this order."""
    savers: tuple[str, ...] = field(default=(), metadata={LEFT_OUT: True})
    """How memory or time is saved, in any order, see docs/api.md#savers: ("attention_slicing", "vae_tiling")."""
    step_cache: DeepCache | FirstBlock | TaylorSeer | MagCache | None = field(default=None, metadata={LEFT_OUT: True})
    """What the denoiser computes at some steps and uses again at others."""
    axes: Mapping[str, AxisValue] = field(default_factory=dict)
    """Its place in a sweep, by axis, as a number or a name: {"alpha": 0.35}."""

    def __post_init__(self) -> None:
        settle(self)
        if isinstance(self.savers, tuple) and all(isinstance(name, str) for name in self.savers):
            object.__setattr__(self, "savers", tuple(sorted(self.savers)))  # their order is settled: any order declares the same
        if self.model == "" and self.stages and isinstance(self.stages, tuple) and isinstance(self.stages[0], Stage):
            self._take(self.stages[0])
        mode = of_denoiser(self.quantization, NOT_QUANTIZED)
        if mode == NOT_QUANTIZED and not isinstance(mode, DefaultNumberFormat) and not self.precision:
            object.__setattr__(self, "precision", str(mode))

    def _take(self, first: Stage) -> None:
        """Takes over what the first stage says, where all stages are given. What a first stage cannot say, or what the candidate
        says too, is left for the check to name."""
        said = {spec.name for spec in fields(first) if getattr(first, spec.name) != spec.default}
        if not said <= {"model", *TAKEN} or any(getattr(self, name) for name in said & {*TAKEN}):
            return
        object.__setattr__(self, "model", first.model)
        object.__setattr__(self, "stages", self.stages[1:])
        for name in TAKEN:
            if value := getattr(first, name):
                object.__setattr__(self, name, value)

    @property
    def models(self) -> tuple[Model, ...]:
        """The models of all stages, in order; a stage that has that of the stage before adds none."""
        return (self.model, *(stage.model for stage in self.stages if stage.model))

    @property
    def in_one_file(self) -> bool:
        """Whether one set of weights makes the images: a relay, an ensemble, stages, guiding pictures or post-steps need more."""
        more = (self.stages, self.controls, self.references, self.inpaint, self.post)
        return not isinstance(self.model, Relay | Ensemble) and not any(more)

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
        return self.precision if self.quantization == NOT_QUANTIZED else spelled(self.quantization)

    @property
    def denoiser_format(self) -> str | Mixed:
        """As `number_format`, of the denoiser alone."""
        mode = of_denoiser(self.quantization)
        return self.precision if mode == NOT_QUANTIZED else mode
