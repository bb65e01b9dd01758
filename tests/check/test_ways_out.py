"""The way out that a refusal of a declaration says works when it is followed, and every refusal that says one is among these."""

from __future__ import annotations

import ast
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import harness.check
from harness import (
    Adapter,
    AestheticGradient,
    Alphas,
    Blocks,
    Budget,
    Candidate,
    Checkpoint,
    Constraint,
    Control,
    DeepCache,
    Desirability,
    Emphasis,
    Ensemble,
    FirstBlock,
    Fused,
    Gate,
    Inpaint,
    MagCache,
    Merge,
    Mixed,
    Objective,
    Penalty,
    Pose,
    Prompt,
    Reference,
    Relay,
    Sampling,
    Search,
    TaylorSeer,
    alpha_sweep,
    sampling_sweep,
)
from harness.check import problems, remarks, same_name
from harness.check.prompt_markup import markup_problems
from harness.declare import DESIRABILITY
from harness.merge.blocks import CONVENTIONS
from tests.check.test_stages import DOUBTFUL
from tests.check.test_stages import REFUSED as STAGES
from tests.fakes import PROMPTS, tiny_grid, tiny_suite

SWEEP = alpha_sweep("zoo:photo", "zoo:anime", (0, 0.5, 1))
BY_SAMPLER = tuple(replace(c, name=f"{sampler} {c.axes['alpha']:g}", sampling=Sampling(sampler=sampler),
                           axes={**c.axes, "sampler": sampler}) for sampler in ("euler", "heun") for c in SWEEP)
TWICE = (Adapter(path="zoo:sketch", weight=0.5), Adapter(path="zoo:sketch", weight=0.8))
BY_STEPS: dict[str, Any] = {"candidates": sampling_sweep("zoo:photo", steps=(4, 8, 20)), "baseline": "steps=20"}
ALONE = Objective(penalties=())
AB: dict[str, Any] = {"a": "zoo:photo", "b": "zoo:anime"}
AVERAGED = Ensemble(models=("zoo:photo", "zoo:anime"), weights=(0.5, 0.5))
ABC: dict[str, Any] = {**AB, "c": "zoo:base"}
MANY = [Prompt(id=f"p{n}", text=f"a red star, number {word}", split="confirm" if n > 8 else "select") for n, word in enumerate(
    ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"])]
PLENTY = tiny_grid(prompts=MANY)


def one(model: Any = "zoo:photo", **changes: Any) -> dict[str, Any]:
    return {"candidates": (Candidate(**{"name": "x", "model": model, **changes}),), "baseline": "x"}


def beside(**sampling: Any) -> dict[str, Any]:
    """The baseline "x" and the same sampled otherwise."""
    return {"baseline": "x", "candidates": (Candidate(name="x", model="zoo:photo"), Candidate(
        name="y", model="zoo:photo", sampling=Sampling(**sampling)))}


def merge(**fields: Any) -> dict[str, Any]:
    return one(Merge(**{**AB, "alpha": 0.5, **fields}))


def several(method: str, **fields: Any) -> dict[str, Any]:
    return one(Merge(method=method, **{**AB, **fields}))


def sketch(**fields: Any) -> dict[str, Any]:
    return one(adapters=(Adapter(path="zoo:sketch", **fields),))


def gate(value: str = "clip_score", **fields: Any) -> dict[str, Any]:
    return {"gates": (Gate(value=value, **fields),)}


def objective(**fields: Any) -> dict[str, Any]:
    return {"objective": Objective(**{"penalties": (), **fields})}


def grid(**fields: Any) -> dict[str, Any]:
    return {"grid": tiny_grid(**fields)}


def prompts(*listed: Prompt) -> dict[str, Any]:
    return grid(prompts=listed)


def budgeted(**fields: Any) -> dict[str, Any]:
    return {"candidates": SWEEP, "grid": PLENTY, "objective": ALONE, "budget": Budget(**{"first_prompts": 2, **fields})}


def searching(given: Merge, **fields: Any) -> dict[str, Any]:
    return budgeted() | {"search": Search(**{"merge": given, "trials": 9, "guidance": 4, "prompts": 4, "blocks": 26, **fields})}


OWN_SLOTS = next(name for name, convention in CONVENTIONS.items() if convention.own_slots)
WISH = Merge(**AB)
DESIRED = Desirability(metric="clip_score", worst=20, best=30)
FORMATS = {"baseline": "fp32", "candidates": (Candidate(name="fp32", model="zoo:photo"), Candidate(
    name="int8", model="zoo:photo", quantization="int8_weight_only"))}
PAIRED = {"metrics": ("exposure", "psnr"), "objective": Objective(maximise="psnr_db", penalties=())}
SATURATED = {"metrics": ("exposure",), "objective": Objective(maximise="saturation", penalties=())}
POSED = {"metrics": ("exposure", "pose")}
FIDELITY = {"metrics": ("exposure", "psnr"), "objective": Objective(maximise="saturation", penalties=())}
RED, BLUE = Prompt(id="a", text="a red star"), Prompt(id="b", text="a blue car", split="confirm")

BOTH = ("zoo:photo", "zoo:anime")

# What is declared, what the refusal says to do, and what is declared then.
def inpainted(mask: str) -> dict[str, Any]:
    pictures = {"photo": "zoo:picture-fish-3", "mask": "zoo:edges-fish-3"}
    prompt = Prompt(id="fish", text="a fish", pictures=pictures)
    candidate = Candidate(name="x", model="zoo:photo", inpaint=Inpaint(picture="photo", mask=mask))
    return {"candidates": (candidate,), "baseline": "x", "grid": tiny_grid(prompts=(prompt,))}


ROWS: list[tuple[dict[str, Any], str, dict[str, Any]]] = [
    ({"metrics": (*tiny_suite().metrics, "ms_ssim")}, "use 'ssim'", {"metrics": (*tiny_suite().metrics, "ssim")}),
    ({"metrics": (*tiny_suite().metrics, "edge_jaggedness")}, "give the metric that it comes from, 'structure'",
     {"metrics": (*tiny_suite().metrics, "structure")}),
    ({"metrics": (*tiny_suite().metrics, "failures")}, "remove it", {"metrics": tiny_suite().metrics}),
    (inpainted("photo"), "give the mask under a name of its own",
     inpainted("mask")),
    (one(Relay(models=BOTH, at=(1.0,))), "declare the others alone", one("zoo:photo")),
    (one(Relay(models=BOTH, at=())), "give one for each model but the first", one(Relay(models=BOTH, at=(0.5,)))),
    (one(Relay(models=BOTH, at=(0.9,))), "move the hand-over", one(Relay(models=BOTH, at=(0.5,)))),
    ({"baseline": "a", "candidates": tuple(Candidate(name=name, model=Relay(models=BOTH, at=(at,))) for name, at in (
        ("a", 0.3), ("b", 0.4)))}, "move the hand-over", {"baseline": "a", "grid": tiny_grid(steps=4), "candidates": tuple(
            Candidate(name=name, model=Relay(models=BOTH, at=(at,))) for name, at in (("a", 0.25), ("b", 0.5)))}),
    (one(Ensemble(models=BOTH, weights=(0.75, 0.5))), "such as (0.6, 0.4)", one(Ensemble(models=BOTH, weights=(0.6, 0.4)))),
    (merge(alpha=Alphas(default=0, keys={" ": 1})), "use * to match any text", merge(alpha=Alphas(default=0, keys={"*": 1}))),
    (merge(alpha=Blocks()), "give one of them", merge(alpha=Blocks(preset="GRAD_V"))),
    (merge(alpha=Blocks(preset="GRAD_V", convention=OWN_SLOTS)), "use another convention", merge(alpha=Blocks(preset="GRAD_V"))),
    (merge(alpha=Blocks(preset="GRAD_V", convention=OWN_SLOTS)), "give values",
     merge(alpha=Blocks(values=[0.5] * 26, convention=OWN_SLOTS))),
    (budgeted(first_prompts=8), "a smaller first_prompts", budgeted(first_prompts=2)),
    (budgeted() | {"grid": tiny_grid(prompts=[p for p in MANY if p.split == "select"])}, "held-out confirm prompts", budgeted()),
    (budgeted() | {"candidates": (*SWEEP, Candidate(name="q", model="zoo:photo", quantization="int8_weight_only"))},
     "Remove the budget", {"candidates": (*SWEEP, Candidate(name="q", model="zoo:photo", quantization="int8_weight_only"))}),
    (budgeted(refine="alpha") | {"candidates": (SWEEP[0], SWEEP[-1]), "baseline": SWEEP[0].name},
     "give more values on it, or remove refine", budgeted(refine="alpha")),
    (budgeted(finest=0.1), "name one, such as refine='alpha'", budgeted(finest=0.1, refine="alpha")),
    (budgeted(finest=0.1), "or remove finest", budgeted()),
    (budgeted() | {"objective": Objective(penalties=(Penalty(metric="palette_left", weight=1),)),
                   "metrics": ("clip_score", "palette", "exposure")}, "Use an objective without it",
     budgeted() | {"objective": Objective(penalties=(Penalty(metric="clipped_share", weight=100, allowance=0.05),))}),
    (budgeted(refine="alpha") | {"candidates": (*SWEEP, replace(SWEEP[1], name="alpha=0.7", axes={"alpha": 0.6},
                                                                model=Merge(**AB, alpha=0.6)))},
     "rename the candidate", budgeted(refine="alpha") | {"candidates": (*SWEEP, replace(
         SWEEP[1], name="alpha=0.6", axes={"alpha": 0.6}, model=Merge(**AB, alpha=0.6)))}),
    (one(adapters=TWICE), "Give it once", one(adapters=TWICE[:1])),
    (one(adapters=TWICE), "or for other steps", one(adapters=(replace(TWICE[0], end=0.5), replace(TWICE[1], start=0.5)))),
    (budgeted(refine="steps") | BY_STEPS, "give finest=1", budgeted(refine="steps", finest=1) | BY_STEPS),
    (budgeted(refine="alpha") | {"candidates": BY_SAMPLER, "baseline": "euler 0"}, "Remove refine",
     budgeted() | {"candidates": BY_SAMPLER, "baseline": "euler 0"}),
    (budgeted(refine="alpha") | {"candidates": BY_SAMPLER, "baseline": "euler 0"}, "use a separate suite for each sampler",
     budgeted(refine="alpha") | {"candidates": BY_SAMPLER[:3], "baseline": "euler 0"}),
    ({k: v for k, v in searching(WISH).items() if k != "budget"}, "give budget=Budget()",
     searching(WISH) | {"budget": Budget(), "grid": tiny_grid(prompts=[replace(
         p, id=f"{p.id}{n}", text=f"{p.text} {word}") for p in MANY for n, word in enumerate(("here", "there"))])}),
    (searching(WISH) | {"candidates": (*SWEEP, Candidate(name="search 1", model="zoo:base"))}, "rename the candidate",
     searching(WISH) | {"candidates": (*SWEEP, Candidate(name="first", model="zoo:base"))}),
    (searching(Merge(**AB, alpha=0.5)), "Remove it", searching(WISH)),
    (searching(Merge(**AB, alpha=0.5)), "or give Alphas", searching(Merge(**AB, alpha=Alphas(default=0.5, keys={"*attn2*": 1})))),
    (one(quantization={"text_encoder": "nf4"}, aesthetic=AestheticGradient(path="zoo:sketch")), "remove one of the two",
     one(quantization={"text_encoder": "nf4"})),
    (one(quantization={}), "give it one, such as {'unet': 'nf4'}", one(quantization={"unet": "nf4"})),
    (one(quantization=Mixed(default="fp32")), "give a mode in default or in keys",
     one(quantization=Mixed(default="nf4"))),
    (one(precision="bf16", quantization="fp16"), "give one of them", one(precision="bf16")),
    (one(emphasis=Emphasis(weights={})), "remove it", one()),
    (one(emphasis=Emphasis(weights={})), "give weights={'blue': 0.7}", one(emphasis=Emphasis(weights={"blue": 0.7}))),
    (one(emphasis=Emphasis(weights={"mauve": 0.7})), "write it into a prompt",
     one(emphasis=Emphasis(weights={"mauve": 0.7})) | prompts(Prompt(id="m", text="a mauve star"), *PROMPTS)),
    (one(Checkpoint(path="zoo:photo", config="nowhere")), "'zoo:config'", one(Checkpoint(path="zoo:photo", config="zoo:config"))),
    (one(Checkpoint(path="zoo:photo", base="nowhere")), "give the diffusers folder",
     one(Checkpoint(path="zoo:photo", base="configs")) | {"clip": "zoo:clip"}),
    (one(Checkpoint(path="zoo:photo", base="configs", config="zoo:config")), "Remove config",
     one(Checkpoint(path="zoo:photo", base="configs")) | {"clip": "zoo:clip"}),
    (one(Fused(model="zoo:base", adapters=(Adapter(path="zoo:sketch", end=0.5),))), "Move it to the candidate's adapters",
     one("zoo:base", adapters=(Adapter(path="zoo:sketch", end=0.5),))),
    (merge(beta=0.5), "takes no beta. Remove it", merge()),
    (one(Merge(a=Merge(**AB, alpha=0.5, dtype="fp16"), b="zoo:base", alpha=0.5)), "Give it to the outermost merge",
     one(Merge(a=Merge(**AB, alpha=0.5), b="zoo:base", alpha=0.5, dtype="fp16"))),
    (merge(parts=()), "parts=('unet',)", merge(parts=("unet",))), (merge(parts=()), "or 'all'", merge(parts="all")),
    (merge(parts=("unet", "vae"), take={"vae": "zoo:base"}), "remove it from one of them", merge(take={"vae": "zoo:base"})),
    (several("add_difference", alpha=0.5), "Give the third as c", several("add_difference", c="zoo:base", alpha=0.5)),
    (several("add_difference", alpha=0.5, more=("zoo:base",)), "give the third as c, not in more",
     several("add_difference", c="zoo:base", alpha=0.5)),
    (several("ties", alpha=0.5), "give the base as c", several("ties", c="zoo:base", alpha=0.5)),
    (several("geometric_median"), "Give the others in more", several("geometric_median", more=("zoo:base",))),
    (several("weighted_average", c="zoo:base"), "from c to more", several("weighted_average", more=("zoo:base",))),
    (merge(weights=(1, 2)), "takes none. Remove them", merge()),
    (objective(maximise="clipped_share"), "give maximise=DESIRABILITY", objective(maximise=DESIRABILITY, desirabilities=(
        Desirability(metric="clipped_share", worst=0.2, best=0.0),))),
    (objective(penalties=(Penalty(metric="clip_score", weight=1),)), "Constraint with at_least",
     objective(constraints=(Constraint(metric="clip_score", at_least=20),))),
    (objective(penalties=(Penalty(metric="clipped_share", weight=1, allowance=1),)), "give a smaller allowance",
     objective(penalties=(Penalty(metric="clipped_share", weight=1, allowance=0.9),))),
    (objective(maximise=DESIRABILITY), "desirabilities=(Desirability(metric='clip_score', worst=20, best=30),)",
     objective(maximise=DESIRABILITY, desirabilities=(DESIRED,))),
    (objective(desirabilities=(DESIRED,)), "give maximise=DESIRABILITY",
     objective(maximise=DESIRABILITY, desirabilities=(DESIRED,))),
    (objective(desirabilities=(DESIRED,)), "or remove them", objective()),
    ({"candidates": [replace(c, axes={**c.axes, "strength": 1.0 + n}) if n else replace(c, axes={**c.axes, "strength": 1.0})
                     for n, c in enumerate(SWEEP)], **objective(prefer={"strength": "low"})}, "Remove it", {**objective()}),
    ({"metrics": ("clip_score",)}, "Add to metrics", {"metrics": ("clip_score", "palette", "exposure")}),
    ({"metrics": ("clip_score",)}, "Objective(penalties=())", {"metrics": ("clip_score",), "objective": ALONE}),
    (gate("saturation", not_worse_than="baseline") | {"metrics": ("clip_score", "palette", "exposure")},
     "use at_least or at_most", gate("saturation", at_least=0.1)),
    (one(name="baseline") | {"baseline": "x", "candidates": (Candidate(name="x", model="zoo:photo"), Candidate(
        name="baseline", model="zoo:anime"))} | gate(not_worse_than="baseline"), "rename that candidate",
     {"baseline": "x", "candidates": (Candidate(name="x", model="zoo:photo"), Candidate(name="y", model="zoo:anime"))}
     | gate(not_worse_than="baseline")),
    (one(name="promoted") | {"baseline": "promoted"} | gate(not_worse_than="promoted"), "rename the candidate",
     one() | gate(not_worse_than="promoted")),
    (gate(not_worse_than="alpha=1", candidates=("alpha=1",)), "or compare with another candidate",
     gate(not_worse_than="alpha=0", candidates=("alpha=1",))),
    (gate(not_worse_than="alpha=1", candidates=("alpha=0", "alpha=1")), "remove it from the gate's candidates",
     gate(not_worse_than="alpha=1", candidates=("alpha=0",))),
    (gate("coverage", at_most=1), "takes no limit", gate("coverage")),
    (gate("failures", at_least=1), "give at_most", gate("failures", at_most=1)),
    (gate(at_least=20, margin=1), "add it to the limit", gate(at_least=21)),
    (gate("clipped_share", not_worse_than="baseline", margin=5), "give a smaller margin",
     gate("clipped_share", not_worse_than="baseline", margin=0.1)),
    (gate(at_least=1, ratio=0.9), "give not_worse_than", gate(not_worse_than="baseline", ratio=0.9)),
    (gate(at_least=1, ratio=0.9), "or remove ratio", gate(at_least=1)),
    (gate(not_worse_than="baseline", ratio=0.9, margin=1), "give one of them", gate(not_worse_than="baseline", ratio=0.9)),
    (gate("clipped_share", at_least=0.1), "give at_most", gate("clipped_share", at_most=0.1)),
    (gate("clipped_share", at_most=1), "give a number below 1", gate("clipped_share", at_most=0.9)),
    (gate("luma_sd", at_least=1) | {"objective": ALONE}, "'structure'; add it to metrics",
     gate("luma_sd", at_least=1) | {"metrics": ("clip_score", "structure"), "objective": ALONE}),
    ({"name": "a/b"}, "use only letters", {"name": "a-b"}), ({"name": "CON"}, "choose another", {"name": "con-1"}),
    ({"name": "t.calibration"}, "choose another", {"name": "calibration-1"}),
    ({"candidates": ()}, "no candidates are declared", {}), ({"metrics": (), "objective": ALONE}, "no metrics are declared", {}),
    ({"candidates": (*SWEEP, replace(SWEEP[1], name="again"))}, "remove one", {}),
    ({"candidates": (Candidate(name="a  b", model="zoo:photo"), Candidate(name="a b", model="zoo:anime")), "baseline": "a b"},
     "rename one of them", {"candidates": (Candidate(name="a", model="zoo:photo"), Candidate(name="b", model="zoo:anime")),
                            "baseline": "b"}),
    ({"clip": "ViT-B-32-quickgelu:c.safetensors", "metrics": ("structure",), **objective(maximise="luma_sd")}, "remove clip",
     {"metrics": ("structure",), **objective(maximise="luma_sd")}),
    ({"styles": {"a": "an anime drawing", "b": "a photo"}}, "add 'styles' to metrics",
     {"styles": {"a": "an anime drawing", "b": "a photo"}, "metrics": ("clip_score", "palette", "exposure", "styles")}),
    ({"styles": {"a": "an anime drawing", "b": "a photo"}}, "or remove them", {}),
    ({"styles": {"a": "", "b": "a photo"}, "metrics": ("clip_score", "palette", "exposure", "styles")}, "'an anime drawing'",
     {"styles": {"a": "an anime drawing", "b": "a photo"}, "metrics": ("clip_score", "palette", "exposure", "styles")}),
    (one(axes={"dominant": 1.0}), "'my_dominant'", one(axes={"my_dominant": 1.0})),
    (grid(guidance_scales=(7, 7.0000001)), "remove one", grid(guidance_scales=(7,))),
    (one(savers=("attention_slice",)), "did you mean 'attention_slicing'", one(savers=("attention_slicing",))),
    (one(savers=("vae_tiling",)), "remove it", one()),
    (one(savers=("vae_slicing",)) | grid(batch_size=1), "remove it", one() | grid(batch_size=1)),
    (one(savers=("xformers",)), "give 'sdpa_flash', 'sdpa_efficient' or 'sdpa_math'", one(savers=("sdpa_math",))),
    (one(savers=("token_merging",)), "'token_merging_50'", one(savers=("token_merging_50",))),
    (one(savers=("token_merging_25", "token_merging_50")), "give one of them", one(savers=("token_merging_25",))),
    (one(savers=("cpu_offload",)), "low_memory=('vae_on_host', 'denoiser_on_host')",
     one() | grid(low_memory=("vae_on_host", "denoiser_on_host"))),
    (one(savers=("attention_slicing", "sdpa_math")), "give one of them", one(savers=("sdpa_math",))),
    (one(savers=("channels_last",), runtime="compiled"), "remove one of them", one(runtime="compiled")),
    (one(quantization="int8_weight_only", runtime="onnxruntime"), "use the runtime 'eager'",
     one(quantization="int8_weight_only")),
    (one(precision="bf16", runtime="onnxruntime_live"), "or another number format",
     one(precision="fp32", runtime="onnxruntime_live")),
    (one(controls=(Control(path="zoo:control-edges", picture="pose"),), runtime="onnxruntime"), "or remove controls",
     one(runtime="onnxruntime")),
    (one(references=(Reference(path="zoo:image-prompt", picture="face"),), runtime="onnxruntime"), "or remove references",
     one(runtime="onnxruntime")),
    (one(runtime={}), "such as {'unet': 'onnxruntime'}", one(runtime={"unet": "onnxruntime"})),
    (one(runtime={"vea": "onnxruntime"}), "did you mean 'vae'", one(runtime={"vae": "onnxruntime"})),
    (one(runtime={"vae": "compiled"}), "expected one of 'eager', 'onnxruntime'", one(runtime={"vae": "onnxruntime"})),
    (one(runtime={"unet": "openvino", "denoiser": "eager"}), "name it once", one(runtime={"unet": "openvino"})),
    (one(runtime={"vae": "openvino"}, quantization={"vae": "nf4"}), "use the runtime 'eager' for vae",
     one(quantization={"vae": "nf4"})),
    (one(runtime={"vae": "openvino"}, model=AVERAGED), "name the denoiser alone",
     one(runtime={"unet": "openvino"}, model=AVERAGED)),
    (one(runtime={"text_encoder": "openvino"}, aesthetic=AestheticGradient(path="zoo:sketch")), "or remove aesthetic",
     one(runtime={"text_encoder": "openvino"})),
    (one(runtime={"vae": "openvino"}, savers=("vae_slicing",)), "remove one of them", one(runtime={"vae": "openvino"})),
    (grid(low_memory=("tiled_decoding",)) | one(runtime={"vae": "openvino"}), "or the runtime of vae",
     grid(low_memory=("tiled_decoding",)) | one()),
    (one(step_cache=DeepCache(), runtime="compiled"), "remove one of them", one(step_cache=DeepCache())),
    (one(step_cache=DeepCache(interval=0)), "expected an integer of at least 1", one(step_cache=DeepCache(interval=1))),
    (one(step_cache=FirstBlock()), "give the grid batch_size=1", one(step_cache=FirstBlock()) | grid(batch_size=1)),
    (one(step_cache=TaylorSeer()), "give the grid batch_size=1", one(step_cache=TaylorSeer()) | grid(batch_size=1)),
    (one(step_cache=MagCache()), "give the grid batch_size=1", one(step_cache=MagCache()) | grid(batch_size=1)),
    (grid(low_memory=("denoiser_on_host",)) | one(runtime="compiled"), "remove 'denoiser_on_host'", one(runtime="compiled")),
    (grid(low_memory=("denoiser_on_host",)) | one(runtime="compiled"), "or the runtime",
     grid(low_memory=("denoiser_on_host",)) | one()),
    (prompts(BLUE), "give at least one", prompts(RED, BLUE)),
    (prompts(RED, replace(BLUE, text=RED.text)), "give one of them another text", prompts(RED, BLUE)),
    (prompts(RED, replace(BLUE, text=RED.text)), "more seeds", prompts(RED) | {"grid": tiny_grid(prompts=(RED,), seeds=(1, 2))}),
    (grid(seeds=range(10**6)), "Use fewer", grid(seeds=range(10))), ({"name": "a\ud800"}, "lone surrogate", {"name": "a"}),
    (one(Merge(a=Checkpoint(path="zoo:photo"), b=Checkpoint(path="zoo:anime", config="configs"), alpha=0.5)), "or remove it",
     one(Merge(a=Checkpoint(path="zoo:photo"), b=Checkpoint(path="zoo:anime"), alpha=0.5))),
    (one(Merge(a=Checkpoint(path="zoo:photo"), b=Checkpoint(path="zoo:anime", config="configs"), alpha=0.5)),
     "Give A that config", one(Merge(a=Checkpoint(path="zoo:photo", config="configs"),
                                     b=Checkpoint(path="zoo:anime", config="configs"), alpha=0.5))),
    (objective(maximise=DESIRABILITY, desirabilities=(Desirability(metric="clipped_share", worst=-2, best=-1),)),
     "give ends that values lie between",
     objective(maximise=DESIRABILITY, desirabilities=(Desirability(metric="clipped_share", worst=0.2, best=0),))),
    (objective(penalties=(Penalty(metric="clipped_share", weight=0),)), "remove the penalty", objective()),
    (objective(penalties=(Penalty(metric="clipped_share", weight=0),)), "a weight above 0",
     objective(penalties=(Penalty(metric="clipped_share", weight=1),))),
    (FORMATS | objective(prefer={"guidance": "high"}), "Remove prefer", FORMATS | objective()),
    (prompts(replace(RED, text="a red\x07 star"), BLUE), "draws nothing; remove it", prompts(RED, BLUE)),
    ({"latency_rounds": 0}, "expected an integer from 1 to 10,000", {"latency_rounds": 1}),
    (prompts(replace(RED, text="a (red:1.3) star", literal=True, syntax="a1111"), BLUE), "remove one of the two",
     prompts(replace(RED, text="a (red:1.3) star", syntax="a1111"), BLUE)),
    (prompts(replace(RED, text="a (red:1.3) star", literal=True, syntax="a1111"), BLUE), "remove one of the two",
     prompts(replace(RED, text="a (red:1.3) star", literal=True), BLUE)),
    (prompts(replace(RED, negative="<lora:x:1> blurry", syntax="a1111"), BLUE), "or remove it",
     prompts(replace(RED, negative="blurry", syntax="a1111"), BLUE)),
    (prompts(replace(RED, text="a [red:blue:8] star", syntax="a1111"), BLUE), "a share of them such as 0.5",
     prompts(replace(RED, text="a [red:blue:0.5] star", syntax="a1111"), BLUE)),
    (prompts(replace(RED, text="a [red:blue:8] star", syntax="a1111"), BLUE), "give it other steps",
     prompts(replace(RED, text="a [red:blue:1] star", syntax="a1111"), BLUE)),
    (grid(adapter_folder="."), "give the grid syntax='a1111'", grid(adapter_folder=".", syntax="a1111")),
    (grid(adapter_folder="."), "or syntax='comfyui'", grid(adapter_folder=".", syntax="comfyui")),
    (grid(adapter_folder="."), "or remove adapter_folder", grid()),
    (one(emphasis=Emphasis(weights={"red": 1.3})) | prompts(replace(RED, syntax="a1111"), BLUE), "write the weights into",
     one() | prompts(replace(RED, text="a (red:1.3) star", syntax="a1111"), BLUE)),
    (one(emphasis=Emphasis(weights={"red": 1.3})) | prompts(replace(RED, syntax="a1111"), BLUE), "or remove emphasis",
     one() | prompts(replace(RED, syntax="a1111"), BLUE)),
    (grid(prompts=(replace(RED, negative="blurry"),), negative="dark"), "of its own; remove it",
     grid(prompts=(replace(RED, negative="blurry"),))),
    (one("https://user:word@example.com/a.safetensors"), "Remove it", one()),
    (one("~/a.safetensors"), "write the whole path", one("zoo:photo")),
    (one(sampling=Sampling()), "sampling sets nothing; remove it", one()),
    (beside(width=72) | PAIRED, "Use another value", beside(width=72)),
    (beside(width=72) | PAIRED, "give 'y' the size and guidance", beside(steps=3) | PAIRED),
    (beside(guidance=(2, 3)) | gate("psnr_db", at_least=20) | PAIRED, "give 'y' the size and guidance", beside(steps=3) | PAIRED),
    (beside(guidance=3) | gate("psnr_db", at_least=20, candidates=("y",)) | grid(guidance_scales=(1, 4)) | FIDELITY,
     "Use another value", beside(guidance=3) | gate("saturation", at_least=0.1, candidates=("y",))),
    (one(sampling=Sampling(guidance=1, guidance_rescale=0.5)), "no effect at guidance 1; remove it", one(
        sampling=Sampling(guidance=1, guidance_rescale=0))),
    (grid(sampling=Sampling(guidance_end=0.5), guidance_scales=(1,)), "no effect at guidance 1; remove it",
     grid(sampling=Sampling(guidance_end=1), guidance_scales=(1,))),
    (one(sampling=Sampling(guidance=1, guidance_start=0.5)) | grid(sampling=Sampling(guidance_rescale=0.5)), "remove it",
     one(sampling=Sampling(guidance=(1, 4), guidance_start=0.5)) | grid(sampling=Sampling(guidance_rescale=0.5))),
    (one(sampling=Sampling(guidance=())), "expected a number", one(sampling=Sampling(guidance=(1, 2)))),
    (one(sampling=Sampling(sampler="ddim", schedule="karras")), "expected 'sgm_uniform'",
     one(sampling=Sampling(sampler="ddim", schedule="sgm_uniform"))),
    (one(sampling=Sampling(sampler="deis", schedule="kerras")), "did you mean 'karras'",
     one(sampling=Sampling(sampler="deis", schedule="karras"))),
    (one(sampling=Sampling(sampler="plms")) | grid(sampler="DPM++ 2M Karras"), "schedule='' for its own timesteps",
     one(sampling=Sampling(sampler="plms", schedule="")) | grid(sampler="DPM++ 2M Karras")),
    (one(sampling=Sampling(schedule="beta", steps=200)), "another schedule, such as 'karras'",
     one(sampling=Sampling(schedule="karras", steps=200))),
    (one(sampling=Sampling(eta=0.5)), "use 'ddim'", one(sampling=Sampling(sampler="ddim", eta=0.5))),
    (one(sampling=Sampling(steps=3, shift=3)), "for others; remove it", one(sampling=Sampling(steps=3))),
    (one(sampling=Sampling(guidance_start=0.6, guidance_end=0.6)), "set guidance to 1", one(sampling=Sampling(guidance=1))),
    (one(sampling=Sampling(sampler="DPM++ 2M Karras", schedule="beta")), "give one of them",
     one(sampling=Sampling(sampler="DPM++ 2M", schedule="beta"))),
    (one(sampling=Sampling(sampler="DPM adaptive")), "choose another, such as 'dpm2", one(sampling=Sampling(sampler="dpm2"))),
    (one(sampling=Sampling(sampler="flow_euler", eta=0.5)), "samples; remove it", one(sampling=Sampling(sampler="flow_euler"))),
    (one(sampling=Sampling(sampler="flow_euler", shift=0)), "expected a number above 0", one(sampling=Sampling(
        sampler="flow_euler", shift=3))),
    (one(sampling=Sampling(clip_skip=0)), "expected 1 for the last layer", one(sampling=Sampling(clip_skip=2))),
    (one(sampling=Sampling(guidance_rescale=70)), "expected a number from 0 to 1", one(sampling=Sampling(guidance_rescale=0.7))),
    *((one(sampling=Sampling(**{share: float("nan")})), "expected a number from 0 to 1", one(sampling=Sampling(**{share: value})))
      for share, value in (("guidance_rescale", 0.6), ("guidance_start", 0.3), ("guidance_end", 0.6))),
    (one(sampling=Sampling(sampler="flow_euler", shift=float("inf"))), "expected a number above 0", one(sampling=Sampling(
        sampler="flow_euler", shift=3))),
    (one(sampling=Sampling(sampler="lcm", steps=51)), "give fewer", one(sampling=Sampling(sampler="lcm", steps=50))),
    (one(sampling=Sampling(sampler="tcd", schedule="karras", steps=51)), "another sampler, such as 'euler'",
     one(sampling=Sampling(sampler="euler", schedule="karras", steps=51))),
    (one(sampling=Sampling(sampler="ddim", steps=1000)), "a schedule such as 'sgm_uniform'",
     one(sampling=Sampling(sampler="ddim", schedule="sgm_uniform", steps=1000))),
    (one(sampling=Sampling(width=10**9)), "at most 16376 pixels", one(sampling=Sampling(width=16376))),
    (grid(sampling=Sampling(guidance=4)), "set guidance_scales there", grid(guidance_scales=(4,))),
    (SATURATED | {"pose": Pose(folder=".")}, "or remove pose", SATURATED),
    (SATURATED | POSED | objective(maximise="pose_oks"), "or use another value", SATURATED | POSED),
    (SATURATED | POSED | gate("pose_oks", at_least=0.5), "or use another value",
     SATURATED | POSED | gate("saturation", at_least=0.1)),
]


@pytest.mark.parametrize(("declared", "way_out", "then"), ROWS,
                         ids=[f"{number} {row[1][:40]}" for number, row in enumerate(ROWS)])
def test_the_way_out_of_a_refusal_works_when_it_is_followed(
        declared: dict[str, Any], way_out: str, then: dict[str, Any], tmp_path: Path) -> None:
    refusals = problems(tiny_suite(**declared), tmp_path)
    assert any(way_out in refusal for refusal in refusals), refusals
    (tmp_path / "configs").mkdir()
    assert problems(tiny_suite(**then), tmp_path) == []


WORDS = re.compile(r"\b(?:[Uu]se|[Gg]ive|[Ss]et|[Ww]rite|[Rr]emove|[Aa]dd|[Rr]ename|[Cc]hoose|[Dd]eclare|[Mm]ove|instead)\b")
ELSEWHERE = {
    "clip.py": "files of CLIP models: tests/check/test_clip.py",
    "guiding.py": "pictures and networks, which are files: tests/check/test_guiding.py",
    "image_prompts.py": "pictures and networks, which are files: tests/check/test_image_prompts.py",
    "files.py": "files on the disk: tests/check/test_files.py",
    "user_rows.py": "rows of a user's own: tests/check/test_own_rows.py",
    "post.py": "files on the disk: tests/check/test_post.py",
    "prompt_markup.py": "a table of its own, below",
    "prompt_adapters.py": "files on the disk: tests/check/test_prompt_adapters.py",
}
"""Refusals that are not made of a declaration alone."""
OTHERS = (
    "candidate 'x': step_cache with interval 1 runs every step whole, so that nothing is saved; give an interval of 2 or more",
    "candidate 'x': step_cache has no effect, because the one step that is run is whole; sample with more steps, or remove it",
    "metric 'pose' is given no poses, so it cannot be measured; give Suite(pose=Pose()), or remove the metric",
    "pose: 'a' is not a folder below b; give one with a JSON file for each prompt",
    "Canny(of='a', low=100, high=200) finds no edge in 1 of 1 pictures ('b'), so there is nothing to follow; lower the "
    "thresholds, or give other pictures",
    "Canny(of='a', low=100, high=200): the thresholds are in levels per pixel, and few edges reach 200; if these are OpenCV's, "
    "give low=12.5, high=25",
    "metric 'a' gives 'b', but this name is already used; rename the value",
    "metrics 'a' and 'b' both give 'c'; rename the value of one of them",
    "suite 'a': b.py declares the name 'a' too, and both would share one run folder; rename one of them",
    "negative texts have no effect at guidance scale 1, and the grid has no other scale; remove them, or add a scale above 1",
    "the gate on a cannot be decided by 2 timed rounds; set latency_rounds to at least 6",
    "prompt 'a': A1111 reads the number in '(b:1,3)' as a word, not as a weight. Write it as (word:1.3) if it is one",
    "prompt 'a': 'b' is the name of the textual inversion 'b.pt', which takes the place of the word, as in A1111. Rename the "
    "file if the word is meant",
    "prompt 'a': the text holds the invisible character U+200B (zero width space), which changes the image like a word; remove "
    "it if it came along when the text was copied",
    "'a' is the name of a widespread textual inversion, ...; give the candidates an Adapter with its file",
    "precision is 'bf16', but mine:MODE computes in fp32; remove precision, or measure bf16 without quantization",
    "gate 'a' cannot be decided for candidate 'b' at CFG 1, because 'c', with which it compares, is sampled at CFG 3, 7; give "
    "'b' one of these, or give 'c' one scale",
    "model 'a' has unusual sizes: its U-Net begins with 8 channels, and with 320 in the configs of its family. Give its own: "
    "Checkpoint(path='a', config='FOLDER')",
    "model 'a' is a U-Net alone, which begins with 8 channels, and with 320 in the configs of its family. Give what it lacks: "
    "Checkpoint(path='a', base='FOLDER'), where FOLDER is the diffusers folder of a model of the same kind and size",
)
"""Those that need code of a user's, another suite, files, or are remarks: the tests above, tests/check/test_own_rows.py,
tests/check/test_files.py, tests/check/test_prompt_adapters.py and tests/materialise/test_base.py."""


def texts(node: ast.AST) -> str | None:
    """The pattern of a text in the source, with anything for what is filled in; None for other nodes."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return re.escape(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(texts(part) or ".*" for part in node.values)
    return None


def refusals_that_advise() -> list[tuple[str, str]]:
    """The file and the pattern of every sentence of the checks that says what to do."""
    patterns = []
    for file in sorted(Path(harness.check.__file__).parent.glob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)
                  for part in ast.walk(node) if part is not node}
        documents = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        patterns += [(file.name, pattern) for node in ast.walk(tree) if id(node) not in inside | documents
                     and (pattern := texts(node)) is not None and " " in pattern and WORDS.search(pattern)
                     and file.name not in ELSEWHERE]
    return patterns


@pytest.mark.parametrize(("declared", "way_out", "then"), [
    (grid(prompts=[replace(p, negative="blurry") for p in PROMPTS], guidance_scales=(1,)), "remove them",
     grid(guidance_scales=(1,))),
    (grid(prompts=[replace(p, negative="blurry") for p in PROMPTS], guidance_scales=(1,)), "add a scale above 1",
     grid(prompts=[replace(p, negative="blurry") for p in PROMPTS], guidance_scales=(1, 4))),
    (grid(prompts=[Prompt(id="p", text="a (cat:1,3)")], syntax="a1111"), "Write it as (word:1.3)",
     grid(prompts=[Prompt(id="p", text="a (cat:1.3)")], syntax="a1111")),
    (grid(prompts=[Prompt(id="p", text="a\u200b cat")]), "remove it", grid(prompts=[Prompt(id="p", text="a cat")])),
    (one(step_cache=DeepCache(interval=1)), "give an interval of 2 or more", one(step_cache=DeepCache())),
    (one(step_cache=DeepCache()) | grid(steps=1), "sample with more steps", one(step_cache=DeepCache()) | grid(steps=2)),
    (one(step_cache=DeepCache()) | grid(steps=1), "or remove it", one() | grid(steps=1)),
    (gate("seconds_per_image", at_most=9) | {"latency_rounds": 2}, "set latency_rounds to at least",
     gate("seconds_per_image", at_most=9) | {"latency_rounds": 6})])
def test_the_way_out_of_a_remark_works_when_it_is_followed(
        declared: dict[str, Any], way_out: str, then: dict[str, Any], tmp_path: Path) -> None:
    (remark,) = remarks(tiny_suite(**declared))
    assert way_out in remark
    assert not remarks(tiny_suite(**then))
    assert problems(tiny_suite(**then), tmp_path) == []


def test_a_suite_that_is_renamed_shares_no_folder() -> None:
    (refusal,) = same_name(tiny_suite(), [(tiny_suite(name="Tiny"), "b.py")])
    assert "rename one of them" in refusal
    assert same_name(tiny_suite(), [(tiny_suite(name="other"), "b.py")]) == []


TYPED = ("a (red:1.3) ball", "a ((red)) ball", "a [red] ball", "a red++ ball", "a ball <lora:sketch:0.8>",
         "<hypernet:anime:0.8> ball", "(a ball:1.2), (red:0.9)")


@pytest.mark.parametrize("text", TYPED)
def test_what_a_refused_prompt_says_to_give_the_candidate_can_be_given(text: str, tmp_path: Path) -> None:
    """As it is spelled there, but for the path, which is the user's."""
    refusals = list(markup_problems(Prompt(id="p", text=text)))
    assert refusals
    weights: dict[str, float] = {}
    adapters: list[Adapter] = []
    for refusal in refusals:
        if match := re.search(r"emphasis=(Emphasis\(weights=\{.*?\}\))", refusal):
            weights |= eval(match[1], {"Emphasis": Emphasis}).weights
        if match := re.search(r"adapters=(\(Adapter\(.*?\),\))", refusal):
            adapters += [replace(adapter, path="zoo:sketch") for adapter in eval(match[1], {"Adapter": Adapter})]
    assert weights or adapters
    then = one(emphasis=Emphasis(weights=weights) if weights else None, adapters=tuple(adapters))
    written = Prompt(id="p", text=" and ".join(weights) or "a ball")
    assert problems(tiny_suite(**then, **prompts(written)), tmp_path) == []


MARKED = ("a (red:1.3) ball", "a ((red)) ball", "a [red] ball", "[cat:dog:0.5] ball", "a [cat|dog]", "a ball BREAK a cat",
          r"a \\(red\\) ball")


@pytest.mark.parametrize("text", MARKED)
@pytest.mark.parametrize("field", ["text", "negative"])
def test_a_refused_prompt_can_be_read_in_the_syntax_that_the_refusal_names(text: str, field: str, tmp_path: Path) -> None:
    marked = Prompt(**{"id": "p", "text": "a ball", field: text})
    refusals = problems(tiny_suite(**prompts(marked)), tmp_path)
    named = {name for refusal in refusals for name in re.findall(r"syntax='(\w+)'", refusal)}
    assert "a1111" in named
    for syntax in named:
        assert problems(tiny_suite(**prompts(replace(marked, syntax=syntax))), tmp_path) == []
        assert problems(tiny_suite(**grid(prompts=(marked,), syntax=syntax)), tmp_path) == []


@pytest.mark.parametrize(("syntax", "text", "advice", "then"), [
    ("comfyui", "a [red] ball", "write (red:0.909)", "a (red:0.909) ball"),
    ("a1111", "a red++ ball", "write (red:1.1)", "a (red:1.1) ball"),
    ("a1111", "ball:: cat", "remove it", "ball cat"), ("comfyui", "a BREAK b", "remove it", "a b")])
@pytest.mark.parametrize("field", ["text", "negative"])
def test_markup_that_a_syntax_does_not_know_can_be_written_in_it_or_be_literal(
        syntax: str, text: str, advice: str, then: str, field: str, tmp_path: Path) -> None:
    marked = Prompt(**{"id": "p", "text": "a ball", "syntax": syntax, field: text})
    (refusal,) = problems(tiny_suite(**prompts(marked)), tmp_path)
    assert advice in refusal
    assert "say Prompt(..., literal=True, syntax='')" in refusal
    for way_out in (replace(marked, **{field: then}), replace(marked, literal=True, syntax="")):
        assert problems(tiny_suite(**prompts(way_out)), tmp_path) == []
        assert problems(tiny_suite(**grid(prompts=(replace(way_out, syntax=""),), syntax=syntax)), tmp_path) == []


def test_the_negative_of_all_prompts_can_be_read_in_the_syntax_that_the_refusal_names(tmp_path: Path) -> None:
    (refusal,) = problems(tiny_suite(**grid(negative="(blurry:1.3)")), tmp_path)
    assert "Grid(..., syntax='a1111' or syntax='comfyui')" in refusal
    assert problems(tiny_suite(**grid(negative="(blurry:1.3)", syntax="a1111")), tmp_path) == []


def test_every_refusal_that_says_what_to_do_is_followed(tmp_path: Path) -> None:
    said = "\n".join(refusal for declared, _, _ in ROWS for refusal in problems(tiny_suite(**declared), tmp_path))
    said += "\n" + "\n".join([*OTHERS, *(text for suite, *_ in STAGES for text in problems(suite, tmp_path)),
                              *(text for suite, *_ in DOUBTFUL for text in remarks(suite, tmp_path))])
    patterns = refusals_that_advise()
    assert len(patterns) > 40
    unfollowed = [(file, pattern) for file, pattern in patterns if not re.search(pattern, said)]
    assert not unfollowed, "\n".join(map(str, unfollowed))
