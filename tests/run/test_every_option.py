"""Every field of every declaration, and every option of `merge` and `adapter`: a value that applies to nothing is refused by
name before the first image or tensor."""

from __future__ import annotations

import argparse
from dataclasses import fields, is_dataclass, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import harness.declare
from harness import (
    Adapter,
    AestheticGradient,
    Alphas,
    Blocks,
    Budget,
    Candidate,
    Checkpoint,
    Constraint,
    Desirability,
    Emphasis,
    Fused,
    Gate,
    Gradient,
    MagCache,
    Merge,
    Objective,
    Penalty,
    Pose,
    Prompt,
    Sampling,
    Search,
    Suite,
    TaylorSeer,
)
from harness.check import problems
from harness.check.suite import remarks
from harness.cli import main
from harness.commands import adapter, merge
from harness.declare import (
    DESIRABILITY,
    Canny,
    ColourTransfer,
    Control,
    DeepCache,
    Ensemble,
    FirstBlock,
    Inpaint,
    Lut,
    Mixed,
    Reference,
    Relay,
    Stage,
    Temperature,
    Upscale,
)
from harness.materialise import Workbench
from harness.run.preflight import file_problems
from tests.fakes import PROMPTS, tiny_grid, tiny_suite
from tests.materialise.models import two

SKETCH = "zoo:sketch"


def merged(**changes: object) -> Suite:
    values: dict[str, object] = {"a": "zoo:photo", "b": "zoo:anime", "alpha": 0.5, **changes}
    return of(model=Merge(**values))  # type: ignore[arg-type]


def of(**changes: object) -> Suite:
    return tiny_suite(candidates=(Candidate(**{"name": "x", "model": "zoo:photo", **changes}),), baseline="x")  # type: ignore[arg-type]


def sampled(**changes: object) -> Suite:
    return of(sampling=Sampling(**changes))  # type: ignore[arg-type]


def staged(**changes: object) -> Suite:
    return of(stages=(Stage(**{"model": "zoo:anime", "strength": 0.5, **changes}),))  # type: ignore[arg-type]


def adapted(path: str = SKETCH, **changes: object) -> Suite:
    return of(adapters=(Adapter(path=path, **changes),))  # type: ignore[arg-type]


def controlled(**changes: object) -> Suite:
    control = Control(**{"path": "zoo:control-edges", "picture": "edges", **changes})  # type: ignore[arg-type]
    prompts = tuple(replace(prompt, pictures={"edges": "zoo:edges-fish-3"}) for prompt in PROMPTS)
    return replace(of(controls=(control,)), grid=tiny_grid(prompts=prompts))


def referred(**changes: object) -> Suite:
    reference = Reference(**{"path": "zoo:image-prompt", "picture": "face", **changes})  # type: ignore[arg-type]
    prompts = tuple(replace(prompt, pictures={"face": "zoo:picture-fish-3"}) for prompt in PROMPTS)
    return replace(of(references=(reference,)), grid=tiny_grid(prompts=prompts))


def inpainted(**changes: object) -> Suite:
    inpaint = Inpaint(**{"picture": "photo", "mask": "mask", **changes})  # type: ignore[arg-type]
    pictures = {"photo": "zoo:picture-fish-3", "mask": "zoo:edges-fish-3"}
    prompts = tuple(replace(prompt, pictures=pictures) for prompt in PROMPTS)
    return replace(of(inpaint=inpaint), grid=tiny_grid(prompts=prompts))


def posed(**changes: object) -> Suite:
    return replace(tiny_suite(), pose=Pose(**{"folder": ".", **changes}))  # type: ignore[arg-type]


def gated(**changes: object) -> Suite:
    return tiny_suite(gates=(Gate(**{"value": "clip_score", **changes}),))  # type: ignore[arg-type]


def judged(**changes: object) -> Suite:
    return tiny_suite(objective=Objective(**changes))  # type: ignore[arg-type]


def budgeted(**changes: object) -> Suite:
    prompts = tuple(Prompt(id=f"p{n}", text=f"picture {n}", split="confirm" if n > 3 else "select") for n in range(6))
    return replace(judged(penalties=()), grid=tiny_grid(prompts=prompts), budget=Budget(**{"first_prompts": 2, **changes}))  # type: ignore[arg-type]


def searched(**changes: object) -> Suite:
    values: dict[str, object] = {"merge": Merge(a="zoo:photo", b="zoo:anime"), "guidance": 4.0, "blocks": 9, "presets": (),
                                 "prompts": 2, **changes}
    return replace(budgeted(), search=Search(**values))  # type: ignore[arg-type]


def prompted(**changes: object) -> Suite:
    return gridded(prompts=(*PROMPTS, Prompt(**{"id": "more", "text": "a white house", **changes})))  # type: ignore[arg-type]


def gridded(**changes: object) -> Suite:
    return tiny_suite(grid=tiny_grid(**changes))


BOTH = ("zoo:photo", "zoo:anime")
STRETCHED = Gradient(values=(0.5,) * 30)
NAMED = (Desirability(metric="clip_score", worst=20, best=30),)
FREE = "free text of the author's; nothing in a run depends on it"
ENDS = "any number in its range has an effect, or asks for none"

OPTIONS: dict[str, tuple[Suite, str] | str] = {
    "Checkpoint.path": (of(model="zoo:foto"), "'zoo:foto'"),
    "Checkpoint.config": (of(model=Checkpoint(path="zoo:photo", config="nowhere")), "'nowhere'"),
    "Checkpoint.base": (of(model=Checkpoint(path="zoo:photo", base="nowhere")), "'nowhere'"),
    "Checkpoint.ema": (of(model=Checkpoint(path="zoo:photo", ema=True)), "EMA"),
    "Blocks.values": (merged(alpha=Blocks(values=(0.5,) * 10)), "BASE"),
    "Blocks.preset": (merged(alpha=Blocks(preset="GRAD_X")), "'GRAD_X'"),
    "Blocks.convention": (merged(alpha=Blocks(values=(0.5,) * 9, convention="mech")), "'mech'"),
    "Blocks.base": (merged(alpha=Blocks(values=(0.5,) * 9, base=0.5)), "BASE"),
    "Gradient.values": (merged(alpha=STRETCHED), "of the 30 of the gradient"),
    "Alphas.default": (merged(alpha=Alphas(default=0.5, parts={"unet": 0.2})), "default, 0.5"),
    "Alphas.parts": (merged(alpha=Alphas(default=0.5, parts={"vae": 0.2})), "'vae'"),
    "Alphas.keys": (merged(alpha=Alphas(default=0.5, keys={"*atn2*": 0.2})), "'*atn2*'"),
    "Merge.a": (merged(a="zoo:foto"), "'zoo:foto'"),
    "Merge.b": (merged(b="zoo:photo"), "nothing changes"),
    "Merge.alpha": (merged(method="karcher"), "alpha"),
    "Merge.c": (merged(c="zoo:base"), "takes 2 models"),
    "Merge.more": (merged(more=("zoo:base",)), "takes 2 models"),
    "Merge.beta": (merged(beta=0.5), "beta"),
    "Merge.weights": (merged(weights=(1, 1)), "weights"),
    "Merge.settings": (merged(settings={"density": 0.5}), "'density'"),
    "Merge.method": (merged(method="slurp"), "'slurp'"),
    "Merge.parts": (merged(parts=("unet", "text_encoder_2")), "text_encoder_2"),
    "Merge.take": (merged(take={"text_encoder_2": "zoo:anime"}), "text_encoder_2"),
    "Merge.missing": "a permission for what may lack a counterpart; nothing is asked for",
    "Merge.dtype": (merged(a=Merge(a="zoo:photo", b="zoo:base", alpha=0.5, dtype="fp16")), "dtype"),
    "Merge.precision": (merged(precision="fp65"), "'fp65'"),
    "Merge.force": "a permission for merges that are refused otherwise; nothing is asked for",
    "Fused.model": (of(model=Fused(model="zoo:foto", adapters=(Adapter(path=SKETCH),))), "'zoo:foto'"),
    "Fused.adapters": (of(model=Fused(model="zoo:photo", adapters=())), "no adapters"),
    "Relay.models": (of(model=Relay(models=("zoo:photo", "zoo:anme"), at=(0.5,))), "'zoo:anme'"),
    "Relay.at": (of(model=Relay(models=BOTH, at=(1.0,))), "at is"),
    "Relay.vae": (of(model=Relay(models=BOTH, at=(0.5,), vae="second")), "'second'"),
    "Ensemble.models": (of(model=Ensemble(models=("zoo:photo",), weights=(1.0,))), "1 model"),
    "Ensemble.weights": (of(model=Ensemble(models=BOTH, weights=(0.5, 0.6))), "add up to 1.1"),
    "Ensemble.texts": (of(model=Ensemble(models=BOTH, weights=(0.5, 0.5), texts="last")), "'last'"),
    "Reference.path": (referred(path="zoo:image-promt"), "'zoo:image-promt'"),
    "Reference.picture": (referred(picture="fce"), "'fce'"),
    "Reference.weight": (referred(weight=float("inf")), "weight is inf"),
    "Reference.blocks": (referred(blocks=Alphas(default=0.5, keys={"*atn2*": 1})), "'*atn2*'"),
    "Reference.encoder": (referred(encoder="ViT-Z-99:clip.safetensors"), "'ViT-Z-99'"),
    "Reference.start": (referred(start=0.9), "none of the"),
    "Reference.end": (referred(end=0.0), "end 0.0"),
    "Adapter.path": (adapted("zoo:skech"), "'zoo:skech'"),
    "Adapter.weight": (adapted("zoo:sketch-word", weight=0.5), "weight"),
    "Adapter.blocks": (adapted(blocks=Alphas(default=0.5, keys={"*": 1})), "default, 0.5"),
    "Adapter.start": (adapted(start=0.6, end=0.9), "none of the 2 steps"),
    "Adapter.end": (adapted(start=0.1, end=0.4), "none of the 2 steps"),
    "Emphasis.weights": (of(emphasis=Emphasis(weights={"purpel": 1.2})), "'purpel'"),
    "Emphasis.method": (of(emphasis=Emphasis(weights={"red": 1.2}, method="comfy")), "'comfy'"),
    "AestheticGradient.path": (of(aesthetic=AestheticGradient(path="nowhere.pt")), "'nowhere.pt'"),
    "AestheticGradient.clip": (of(aesthetic=AestheticGradient(path="nowhere.pt", clip="ViT-B-33:x")), "'ViT-B-33'"),
    "AestheticGradient.weight": ENDS,
    "AestheticGradient.steps": ENDS,
    "AestheticGradient.rate": (of(aesthetic=AestheticGradient(path="nowhere.pt", rate=0)), "rate"),
    "Prompt.id": (prompted(id="star"), "'star'"),
    "Prompt.text": (prompted(text=" "), "the text is empty"),
    "Prompt.negative": (gridded(guidance_scales=(1,), prompts=(Prompt(id="star", text="a star", negative="blur"),)), "negative"),
    "Prompt.split": (prompted(split="train"), "'train'"),
    "Prompt.tags": FREE,
    "Prompt.literal": "a permission for brackets that are text; nothing is asked for",
    "Prompt.syntax": (prompted(syntax="a1112"), "'a1112'"),
    "Prompt.adapters": (prompted(adapters=(Adapter(path="zoo:skech"),)), "'zoo:skech'"),
    "Prompt.pictures": (prompted(pictures={"edges": "edges.png"}), "pictures"),
    "Grid.prompts": (gridded(prompts=()), "prompts is empty"),
    "Grid.seeds": (gridded(seeds=(1, 1)), "seed 1"),
    "Grid.guidance_scales": (gridded(guidance_scales=(4, 4)), "guidance scale 4"),
    "Grid.sampler": (gridded(sampler="eular"), "'eular'"),
    "Grid.steps": (gridded(steps=0), "steps"),
    "Grid.width": (gridded(width=65), "width"),
    "Grid.height": (gridded(height=65), "height"),
    "Grid.batch_size": (gridded(batch_size=0), "batch_size"),
    "Grid.low_memory": (gridded(low_memory=("tiled",)), "'tiled_decoding'"),
    "Grid.negative": (gridded(negative="dark", prompts=(Prompt(id="star", text="a star", negative="blur"),)), "negative 'dark'"),
    "Grid.syntax": (gridded(syntax="a1112"), "'a1112'"),
    "Grid.long_prompts": (gridded(long_prompts="cut"), "'cut'"),
    "Grid.adapter_folder": (gridded(adapter_folder="loras"), "adapter_folder is 'loras'"),
    "Grid.sampling": (gridded(sampling=Sampling(steps=3)), "steps"),
    "Sampling.sampler": (sampled(sampler="eular"), "'euler'"),
    "Sampling.schedule": (sampled(schedule="kerras"), "'karras'"),
    "Sampling.steps": (sampled(steps=0), "sampling: steps is 0"),
    "Sampling.guidance": (sampled(guidance=0.5), "sampling: guidance scale 0.5"),
    "Sampling.guidance_rescale": (sampled(guidance_rescale=1.5), "guidance_rescale is 1.5"),
    "Sampling.guidance_start": (sampled(guidance_start=1.5), "guidance_start is 1.5"),
    "Sampling.guidance_end": (sampled(guidance_end=-0.5), "guidance_end is -0.5"),
    "Sampling.clip_skip": (sampled(clip_skip=0), "clip_skip is 0"),
    "Sampling.eta": (sampled(eta=0.5), "eta has no effect"),
    "Sampling.shift": (sampled(shift=3.0), "shift is for models of flow matching"),
    "Sampling.width": (sampled(width=65), "sampling: width is 65"),
    "Sampling.height": (sampled(height=65), "sampling: height is 65"),
    "Candidate.name": (of(name=""), "name"),
    "Candidate.model": (of(model="zoo:foto"), "'zoo:foto'"),
    "Candidate.adapters": (of(adapters=(Adapter(path=SKETCH), Adapter(path=SKETCH))), "given 2 times"),
    "Candidate.quantization": (of(quantization="int5"), "'int5'"),
    "Candidate.runtime": (of(runtime="eagre"), "'eagre'"),
    "Candidate.emphasis": (of(emphasis=Emphasis(weights={})), "emphasis names no words"),
    "Candidate.aesthetic": (of(aesthetic=AestheticGradient(path="nowhere.pt")), "'nowhere.pt'"),
    "Candidate.sampling": (of(sampling=Sampling()), "sampling sets nothing"),
    "Candidate.stages": (staged(strength=0.1), "none of them"),
    "Candidate.controls": (of(controls=(Control(path="nowhere", picture="edges"),)), "'nowhere'"),
    "Candidate.references": (of(references=(Reference(path="nowhere", picture="face"),)), "'nowhere'"),
    "Candidate.inpaint": (of(inpaint=Inpaint(picture="photo", mask="mask")), "asks for the picture 'photo'"),
    "Candidate.post": (of(post=(Upscale(factor=1),)), "post-step 1"),
    "Inpaint.picture": (inpainted(picture="phtoo"), "'phtoo'"),
    "Inpaint.mask": (inpainted(mask="photo"), "picture and mask are both 'photo'"),
    "Inpaint.strength": (inpainted(strength=0.1), "runs none of them"),
    "Control.path": (controlled(path="nowhere"), "'nowhere'"),
    "Control.picture": (controlled(picture="edgse"), "'edgse'"),
    "Control.weight": (controlled(weight=float("nan")), "weight is nan"),
    "Control.start": (controlled(start=0.5, end=0.5), "start is 0.5"),
    "Control.end": (controlled(end=0), "end 0"),
    "Control.guess": ENDS,
    "Control.kind": (controlled(kind="cany"), "did you mean 'canny'"),
    "Canny.of": (controlled(picture=Canny(of="edgse")), "'edgse'"),
    "Canny.low": (controlled(picture=Canny(of="edges", low=99)), "low is 99"),
    "Canny.high": (controlled(picture=Canny(of="edges", high=1)), "high 1"),
    "Canny.sigma": (controlled(picture=Canny(of="edges", sigma=-1)), "sigma is -1"),
    "ColourTransfer.to": (of(post=(ColourTransfer("nowhere.png"),)), "'nowhere.png'"),
    "ColourTransfer.method": (of(post=(ColourTransfer("first stage", method="reinhart"),)), "'reinhart'"),
    "ColourTransfer.strength": (of(post=(ColourTransfer("nowhere.png", strength=0),)), "strength"),
    "Lut.path": (of(post=(Lut("nowhere.cube"),)), "'nowhere.cube'"),
    "Lut.strength": (of(post=(Lut("nowhere.cube", strength=2),)), "strength"),
    "Temperature.max_kelvin": (of(post=(Temperature(max_kelvin=100),)), "max_kelvin"),
    "Upscale.factor": (of(post=(Upscale(factor=0),)), "factor"),
    "Upscale.method": (of(post=(Upscale(factor=2, method="lanzcos"),)), "'lanzcos'"),
    "Candidate.precision": (of(precision="fp17"), "'fp17'"),
    "Candidate.axes": (of(axes={"seed": 1}), "'seed'"),
    "Penalty.metric": (judged(penalties=(Penalty(metric="sharpness", weight=1),)), "'sharpness'"),
    "Penalty.weight": ENDS,
    "Penalty.allowance": (judged(penalties=(Penalty(metric="clipped_share", weight=1, allowance=1),)), "would be taken off"),
    "Constraint.metric": (judged(constraints=(Constraint(metric="sharpness", at_least=1),)), "'sharpness'"),
    "Constraint.at_most": (judged(constraints=(Constraint(metric="clipped_share", at_most=5),)), "5"),
    "Constraint.at_least": (judged(constraints=(Constraint(metric="clipped_share", at_least=-1),)), "-1"),
    "Desirability.metric": (judged(maximise=DESIRABILITY, penalties=(), desirabilities=(
        Desirability(metric="sharpness", worst=0, best=1),)), "'sharpness'"),
    "Desirability.worst": (judged(maximise=DESIRABILITY, penalties=(), desirabilities=(
        Desirability(metric="clip_score", worst=1, best=1),)), "worst"),
    "Desirability.best": (judged(maximise=DESIRABILITY, penalties=(), desirabilities=(
        Desirability(metric="clip_score", worst=1, best=1),)), "best"),
    "Desirability.shape": (judged(maximise=DESIRABILITY, penalties=(), desirabilities=(replace(NAMED[0], shape=0),)), "shape"),
    "Desirability.weight": (judged(maximise=DESIRABILITY, penalties=(), desirabilities=(replace(NAMED[0], weight=0),)), "weight"),
    "Objective.maximise": (judged(maximise="sharpness"), "'sharpness'"),
    "Objective.penalties": (judged(penalties=(Penalty(metric="sharpness", weight=1),)), "'sharpness'"),
    "Objective.constraints": (judged(constraints=(Constraint(metric="clip_score"),)), "0 limits"),
    "Objective.desirabilities": (judged(desirabilities=NAMED), "desirabilities"),
    "Objective.prefer": (judged(prefer={"alpah": "lowest"}), "'alpah'"),
    "Gate.value": (gated(value="sharpness", at_least=1), "'sharpness'"),
    "Gate.at_least": (gated(value="coverage", at_least=1), "takes no limit"),
    "Gate.at_most": (gated(value="coverage", at_most=1), "takes no limit"),
    "Gate.not_worse_than": (gated(not_worse_than="alpha=2"), "'alpha=2'"),
    "Gate.margin": (gated(at_least=20, margin=1), "margin"),
    "Gate.ratio": (gated(at_least=20, ratio=1.1), "ratio"),
    "Gate.candidates": (gated(at_least=20, candidates=("alpha=2",)), "'alpha=2'"),
    "Budget.images": (budgeted(images=1), "images is 1"),
    "Budget.first_prompts": (budgeted(first_prompts=200), "200"),
    "Budget.step_prompts": (budgeted(step_prompts=0), "step_prompts"),
    "Budget.enough": ENDS,
    "Budget.minutes": (budgeted(minutes=-1), "minutes is -1"),
    "Budget.refine": (budgeted(refine="alpah"), "'alpah'"),
    "Budget.finest": (budgeted(finest=0.1), "finest"),
    "Search.merge": (searched(merge=Merge(a="zoo:photo", b="zoo:anime", parts=("text_encoder_2",))), "text_encoder_2"),
    "Search.guidance": (searched(guidance=5.0), "guidance is 5.0"),
    "Search.blocks": (searched(blocks=25), "25 block weights"),
    "Search.trials": (searched(trials=0), "trials"),
    "Search.prompts": (searched(prompts=90), "prompts is 90"),
    "Search.keep": (searched(trials=2, keep=3), "keep is 3"),
    "Search.presets": (searched(presets=("GRAD_X",)), "GRAD_X"),
    "Search.seed": ENDS,
    "Suite.name": (replace(tiny_suite(), name="a/b"), "'a/b'"),
    "Suite.candidates": (tiny_suite(candidates=()), "no candidates"),
    "Suite.baseline": (tiny_suite(baseline="alpha=2"), "'alpha=2'"),
    "Suite.grid": (gridded(seeds=()), "seeds is empty"),
    "Suite.metrics": (tiny_suite(metrics=("clip_scor",)), "'clip_scor'"),
    "Suite.objective": (judged(maximise="sharpness"), "'sharpness'"),
    "Suite.gates": (tiny_suite(gates=(Gate(value="coverage"), Gate(value="coverage"))), "given 2 times"),
    "Suite.clip": (tiny_suite(clip="ViT-B-32-quickgelu:clip.pt", metrics=("exposure",), objective=Objective(
        maximise="saturation", penalties=())), "no metric uses it"),
    "Suite.latency_rounds": (tiny_suite(latency_rounds=0), "latency_rounds"),
    "Suite.latency_budget_seconds": ENDS,
    "Suite.largest_batch": (tiny_suite(largest_batch=-1), "largest_batch"),
    "Suite.styles": (tiny_suite(styles={"anime": "an anime drawing", "photo": "a photo"}), "no metric uses them"),
    "Suite.budget": (budgeted(first_prompts=200), "200"),
    "Suite.search": (replace(searched(), budget=None), "needs a budget"),
    "Suite.description": FREE,
    "Suite.pose": (posed(), "no metric uses it"),
    "Pose.folder": (posed(folder="nowhere"), "'nowhere'"),
    "Pose.detector": (posed(detector="nowhere.pth"), "'nowhere.pth'"),
}
"""By field: a suite whose value of it applies to nothing, and what the refusal names; or why there is no such value."""

OPTIONS |= {
    "Stage.model": (staged(model="zoo:anme"), "'zoo:anme'"),
    "Stage.strength": (staged(strength=0), "strength is 0"),
    "Stage.prompt": (staged(prompt="{promt}, night"), "'{promt}'"),
    "Stage.negative": (staged(negative="day", sampling=Sampling(guidance=1)), "negative"),
    "Stage.adapters": (staged(adapters=(Adapter(path="zoo:skech"),)), "'zoo:skech'"),
    "Stage.controls": (staged(controls=(Control(path="nowhere", picture="edges"),)), "'nowhere'"),
    "Stage.references": (staged(references=(Reference(path="nowhere", picture="face"),)), "'nowhere'"),
    "Stage.sampling": (staged(sampling=Sampling()), "sampling sets nothing"),
    "Stage.through": (staged(through="latent"), "'latent'"),
    "Stage.resize": (staged(resize="bicubic"), "resize is 'bicubic'"),
    "Stage.before": (staged(before=(ColourTransfer("nowhere.png"),)), "before"),
    "Stage.colour": (staged(colour="transfr"), "'transfr'"),
    "Candidate.savers": (of(savers=("attention_slicin",)), "'attention_slicin'"),
    "Candidate.step_cache": (of(step_cache=DeepCache(interval=1)), "interval 1"),
    "Mixed.default": (of(quantization=Mixed(default="fp32")), "quantizes no layer"),
    "Mixed.keys": (of(quantization=Mixed(default="nf4", keys={"up_blcks.*": "fp32"})), "'up_blcks.*'"),
    "DeepCache.interval": (of(step_cache=DeepCache(interval=0)), "interval is 0"),
    "DeepCache.branch": (of(step_cache=DeepCache(branch=9)), "branch is 9"),
    "FirstBlock.threshold": (of(step_cache=FirstBlock(threshold=float("nan"))), "threshold is nan"),
    "TaylorSeer.interval": (of(step_cache=TaylorSeer(interval=0)), "interval is 0"),
    "TaylorSeer.warm_up": (of(step_cache=TaylorSeer(warm_up=0)), "warm_up is 0"),
    "TaylorSeer.order": (of(step_cache=TaylorSeer(order=-1)), "order is -1"),
    "MagCache.threshold": (of(step_cache=MagCache(threshold=float("nan"))), "threshold is nan"),
    "MagCache.max_skip_steps": (of(step_cache=MagCache(max_skip_steps=0)), "max_skip_steps is 0"),
    "MagCache.retention_ratio": (of(step_cache=MagCache(retention_ratio=2)), "retention_ratio is 2"),
    "MagCache.ratios": (of(step_cache=MagCache(ratios=(1, 0))), "ratios hold 0"),
}

def declared() -> list[str]:
    classes = [kind for kind in vars(harness.declare).values() if isinstance(kind, type) and is_dataclass(kind)]
    return [f"{kind.__name__}.{field.name}" for kind in classes for field in fields(kind)]


def test_the_table_has_every_field_of_every_declaration():
    assert sorted(OPTIONS) == sorted(declared())


@pytest.mark.parametrize("field", [name for name, row in OPTIONS.items() if isinstance(row, tuple)])
def test_a_value_that_applies_to_nothing_is_refused_by_name(field, tmp_path):
    suite, words = OPTIONS[field]
    assert isinstance(suite, Suite)
    sentences = [*problems(suite, tmp_path), *remarks(suite)]
    if not any(words in sentence for sentence in sentences):
        assert problems(suite, tmp_path) == []
        bench = Workbench(device="cpu", root=tmp_path, steps=suite.grid.steps)
        sentences = file_problems(suite, list(suite.candidates), bench, bench.equalities(suite.candidates), lambda *_: None)
    assert any(words in sentence for sentence in sentences), sentences


# The command line

AB = ("--a", "a.safetensors", "--b", "b.safetensors")
HALF = (*AB, "--alpha", "0.5")
DIFFERENCE = ("extract", "--base", "a.safetensors", "--tuned", "b.safetensors")
OUT = ("-o", "o.safetensors")

MERGE: dict[str, tuple[tuple[str, ...], str] | str] = {
    "recipe": (("nowhere.toml", *OUT), "nowhere.toml"),
    "a": (("--a", "nowhere", *OUT), "--a"),
    "b": (("--a", "a.safetensors", "--b", "a.safetensors", "--alpha", "0.5", *OUT), "nothing changes"),
    "c": ((*HALF, "--c", "b.safetensors", *OUT), "takes 2 models"),
    "more": ((*HALF, "--more", "b.safetensors", *OUT), "takes 2 models"),
    "take": ((*HALF, "--take", "text_encoder_2=b.safetensors", *OUT), "text_encoder_2"),
    "adapter": (("--a", "a.safetensors", "--adapter", "idle.safetensors", *OUT), "nothing changes"),
    "method": ((*HALF, "--method", "slurp", *OUT), "'slurp'"),
    "alpha": ((*AB, "--alpha", "1e-9", *OUT), "nothing changes"),
    "beta": ((*HALF, "--beta", "0.5", *OUT), "beta"),
    "blocks": ((*AB, "--blocks", ",".join(["0.5"] * 14), *OUT), "BASE"),
    "preset": ((*AB, "--preset", "GRAD_X", *OUT), "'GRAD_X'"),
    "convention": ((*HALF, "--convention", "meh", *OUT), "--convention needs"),
    "gradient": ((*AB, "--gradient", ",".join(["0.5"] * 30), *OUT), "of the 30 of the gradient"),
    "alpha_part": ((*HALF, "--alpha-part", "vae=0.2", *OUT), "'vae'"),
    "alpha_key": ((*HALF, "--alpha-key", "*atn2*=0.2", *OUT), "'*atn2*'"),
    "weights": ((*HALF, "--weights", "1,1", *OUT), "weights"),
    "set": ((*HALF, "--set", "density=0.5", *OUT), "'density'"),
    "parts": ((*HALF, "--parts", "unet,text_encoder_2", *OUT), "text_encoder_2"),
    "missing": "a permission for what may lack a counterpart; nothing is asked for",
    "dtype": (("--a", "a.safetensors", "--adapter", "lora.safetensors", "--dtype", "fp32", *OUT), "--dtype needs a merge"),
    "precision": (("--a", "a.safetensors", "--adapter", "lora.safetensors", "--precision", "fp64", *OUT), "--precision needs"),
    "force": "a permission for merges that are refused otherwise; nothing is asked for",
    "output": ((*HALF, "-o", "o.png"), "o.png"),
    "title": ((*HALF, "--title", "Best", "--check"), "--title"),
    "dry_run": ((*HALF, "--dry-run", "--check"), "--dry-run"),
    "check": ((*HALF, "--methods", "--check"), "--methods only lists"),
    "methods": ((*HALF, "--methods", *OUT), "--methods only lists"),
    "allow_download": "a permission for addresses of the hub; nothing is asked for",
}

ADAPTER: dict[str, tuple[tuple[str, ...], str] | str] = {
    "way": "one word for each command",
    "adapter": (("merge", "--model", "a.safetensors", "lora.safetensors=0.5", "lora.safetensors=-0.5", *OUT), "nothing changes"),
    "model": (("convert", "--model", "nowhere.safetensors", "lora.safetensors", *OUT), "nowhere.safetensors"),
    "leave_out": "a permission for what the written file cannot hold; nothing is asked for",
    "rank": (("resize", "--model", "a.safetensors", "lora.safetensors", "--rank", "0", *OUT), "rank 0"),
    "error": (("resize", "--model", "a.safetensors", "lora.safetensors", "--error", "2", *OUT), "error 2"),
    "output": (("convert", "--model", "a.safetensors", "lora.safetensors", "-o", "o.png"), "o.png"),
    "layout": "one word for each layout; what a layout cannot hold is refused",
    "dtype": "one word for each dtype; what a dtype rounds away is said",
    "report": "more to read; the result is the same",
    "base": (("extract", "--base", "nowhere", "--tuned", "b.safetensors", "--rank", "2", *OUT), "nowhere"),
    "tuned": (("extract", "--base", "a.safetensors", "--tuned", "a.safetensors", "--rank", "2", *OUT), "nothing to extract"),
    "parts": ((*DIFFERENCE, "--parts", "unet,unet", "--rank", "2", *OUT), "'unet' is given twice"),
    "allow_download": "a permission for addresses of the hub; nothing is asked for",
}


def options(command: object) -> set[str]:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)  # type: ignore[attr-defined]
    ways = [way for action in parser._actions if isinstance(action, argparse._SubParsersAction)
            for way in action.choices.values()]
    return {action.dest for one in (parser, *ways) for action in one._actions} - {"help"}


@pytest.mark.parametrize(("command", "table"), [(merge, MERGE), (adapter, ADAPTER)])
def test_the_tables_have_every_option_of_the_commands(command, table):
    assert options(command) == table.keys()


@pytest.mark.parametrize(("command", "words", "named"), [
    pytest.param(command, *row, id=f"{command} {option}") for command, table in (("merge", MERGE), ("adapter", ADAPTER))
    for option, row in table.items() if isinstance(row, tuple)])
def test_an_option_that_applies_to_nothing_is_refused_unwritten(command, words, named, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    a, _ = two(tmp_path)
    module = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_q"
    rows, columns = a["model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_q.weight"].shape
    for name, up in (("idle", 0.0), ("lora", 0.1)):
        save_file({f"{module}.lora_down.weight": torch.ones(1, columns), f"{module}.lora_up.weight": torch.full((rows, 1), up)},
                  f"{name}.safetensors")
    assert main([command, *words]) in (1, 2)
    assert named in capsys.readouterr().err
    assert not Path("o.safetensors").exists()


def test_a_resize_that_reduces_nothing_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for rank, words in ((1000, True), (1, False)):
        assert main(["adapter", "resize", "--model", "zoo:base", SKETCH, "--rank", str(rank), "-o", "o.safetensors"]) == 0
        assert ("nothing is reduced" in capsys.readouterr().out) == words
