"""What a candidate can be made of, one feature a row, and candidates of several of them, in a grid that suits these."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from harness import Adapter, AestheticGradient, Candidate, Emphasis, Fused, Grid, Merge, Objective, Prompt, Sampling, Suite
from harness.declare import (
    Canny,
    ColourTransfer,
    Control,
    Ensemble,
    Inpaint,
    Lut,
    Reference,
    Relay,
    Stage,
    Temperature,
    Upscale,
)
from harness.declare.effective_grid import grid_of
from harness.declare.grid import FIT
from harness.materialise import Workbench
from harness.records import Cell
from harness.run.image_making import FIRST
from harness.run.preflight import file_problems
from harness.sampling import Later, batches, embedded, lengths_of, pack, sample, threads_for
from tests.adapters.test_hypernetwork import pairs, stored
from tests.fakes import tiny_suite

BOTH = ("zoo:photo", "zoo:anime")
TWO_OF_THREE = 0.67
"""The strength of later stages: two of three steps."""
SUBJECTS = ("fish", "star")
PROMPTS = tuple(Prompt(id=subject, text=f"a red {subject}, <graphite>", pictures={
    "edges": f"zoo:edges-{subject}-{n}", "look": f"zoo:picture-{subject}-{n + 2}"}) for n, subject in enumerate(SUBJECTS))
GRID = Grid(prompts=PROMPTS, seeds=(1,), guidance_scales=(1, 4), steps=3, width=64, height=64, batch_size=2)


@dataclass(frozen=True, kw_only=True)
class Feature:
    """Fields of a candidate, of its grid and of the grid's prompts, of which the first alone has adapters of its own. `text` is a
    pattern with "{}" for the prompt's own text."""

    kind: str
    candidate: Mapping[str, Any] = field(default_factory=dict)
    grid: Mapping[str, Any] = field(default_factory=dict)
    prompts: Mapping[str, Any] = field(default_factory=dict)


def of(kind: str, **candidate: Any) -> Feature:
    return Feature(kind=kind, candidate=candidate)


def prompted(**prompts: Any) -> Feature:
    return Feature(kind="text", prompts=prompts)


def sampled(**sampling: Any) -> Feature:
    return of("sampling", sampling=Sampling(**sampling))


EDGES = Control(path="zoo:control-edges", picture="edges")
LOOK = Reference(path="zoo:image-prompt", picture="look")
FEATURES: Mapping[str, Feature] = {
    "merge": of("model", model=Merge(a="zoo:photo", b="zoo:anime", alpha=0.5)),
    "fused": of("model", model=Fused(model="zoo:photo", adapters=(Adapter(path="zoo:sketch-dora"),))),
    "relay": of("model", model=Relay(models=BOTH, at=(0.5,))),
    "ensemble": of("model", model=Ensemble(models=BOTH, weights=(0.3, 0.7), texts="first")),
    "stage": of("stage", stages=(Stage(model="zoo:anime", strength=TWO_OF_THREE, prompt="{prompt}, night"),)),
    "stage of a relay": of("stage", stages=(Stage(model=Relay(models=BOTH, at=(0.5,)), strength=TWO_OF_THREE),)),
    "stage of pictures": of("stage", stages=(Stage(
        model="zoo:base", strength=TWO_OF_THREE, before=(Lut("a.cube"),), colour="transfer"),)),
    "hires stage": of("stage", stages=(Stage(strength=TWO_OF_THREE, sampling=Sampling(width=96, height=96)),)),
    "guided stage": of("stage", stages=(Stage(
        strength=TWO_OF_THREE, through="pixels", sampling=Sampling(guidance=2, sampler="dpmpp_2m"),
        controls=(replace(EDGES, picture=Canny(of="stage before"), start=0.5),), references=(replace(LOOK, weight=0.5),)),)),
    "control": of("control", controls=(EDGES,)),
    "control in half": of("control", controls=(replace(EDGES, path="zoo:control-edges-diffusers", end=0.5, guess=True),)),
    "control of canny": of("control", controls=(replace(EDGES, picture=Canny(of="look"), weight=0.7),)),
    "reference": of("reference", references=(LOOK,)),
    "reference in half": of("reference", references=(Reference(path="zoo:image-prompt-bin", picture="look", start=0.5),)),
    "inpaint": of("inpaint", inpaint=Inpaint(picture="look", mask="edges")),
    "inpaint in half": of("inpaint", inpaint=Inpaint(picture="look", mask="edges", strength=TWO_OF_THREE)),
    "table": of("post", post=(Lut("a.cube"),)),
    "temperature": of("post", post=(Temperature(max_kelvin=4000),)),
    "upscale": of("post", post=(Upscale(factor=1.5),)),
    "colours of a picture": of("post", post=(ColourTransfer("dusk.png"),)),
    "colours of the first stage": of("post", post=(ColourTransfer("first stage"),), stages=(Stage(strength=TWO_OF_THREE),)),
    "lora": of("adapter", adapters=(Adapter(path="zoo:sketch"),)),
    "dora": of("adapter", adapters=(Adapter(path="zoo:sketch-dora", weight=0.5),)),
    "lokr": of("adapter", adapters=(Adapter(path="zoo:sketch-lokr"),)),
    "loha in half": of("adapter", adapters=(Adapter(path="zoo:sketch-loha", start=0.5),)),
    "word": of("adapter", adapters=(Adapter(path="zoo:sketch-word"),)),
    "hypernetwork": of("adapter", adapters=(Adapter(path="style.pt", weight=0.5),)),
    "emphasis": of("text", emphasis=Emphasis(weights={"red": 1.4})),
    "aesthetic gradient": of("text", aesthetic=AestheticGradient(path="look.safetensors", rate=1e-3, steps=2)),
    "adapters of a prompt": prompted(adapters=(Adapter(path="zoo:sketch-lycoris", weight=0.6),)),
    "schedule of texts": prompted(text="a ([red:blue:0.5]:1.3) {}", syntax="a1111"),
    "long text": prompted(text=" ".join(["{}"] + ["and a blue cat on a white background"] * 12)),
    "negative": prompted(negative="blurry"),
    "bf16": of("execution", precision="bf16"),
    "int8_weight_only": of("execution", quantization="int8_weight_only"),
    "int8_dynamic": of("execution", quantization="int8_dynamic"),
    "compiled": of("execution", runtime="compiled"),
    "other size": sampled(width=96, height=96, steps=3, guidance=2),
    "knobs": sampled(clip_skip=2, guidance=(1, 3), guidance_end=0.5, guidance_rescale=0.5),
    "noise in steps": sampled(sampler="dpmpp_2m_sde"),
    "two evaluations": sampled(sampler="heun"),
    "history": sampled(sampler="dpmpp_3m", schedule="karras"),
    "eta": sampled(sampler="ddim", eta=0.5),
    "tiles": Feature(kind="memory", grid={"low_memory": ("tiled_decoding",)}),
    "lent": Feature(kind="memory", grid={"low_memory": ("denoiser_on_host",)}),
    "fit": Feature(kind="memory", grid={"batch_size": "fit"}),
}


def write_files(root: Path) -> None:
    """The files that features name."""
    rows = "".join(f"{red} {green / 2} {blue}\n" for blue in (0, 1) for green in (0, 1) for red in (0, 1))
    (root / "a.cube").write_text("LUT_3D_SIZE 2\n" + rows)
    Image.fromarray(np.random.default_rng(1).integers(40, 220, (16, 16, 3), dtype=np.uint8)).save(root / "dusk.png")
    save_file({"look": torch.linspace(-1, 1, 96)}, root / "look.safetensors")
    torch.save({**stored(pairs((96,))), "name": "style"}, root / "style.pt")


REFUSED: Mapping[frozenset[str], str] = {
    frozenset(("guided stage", "eta")): "eta has no effect on sampler 'dpmpp_2m'",
    frozenset(("emphasis", "schedule of texts")): "has the syntax 'a1111'",
    frozenset(("compiled", "lent")): "which only 'eager' can run",
    **{frozenset((name, "other size")): "64 x 64 pixels and the images are 96 x 96" for name, feature in FEATURES.items()
       if feature.kind in ("control", "inpaint")},
}
"""The pairs that do not go together, with a part of what the check says."""


def allowed(*names: str) -> bool:
    """Whether these features can be declared together, and no two of them are refused."""
    return declarable(*names) and not any(frozenset(pair) in REFUSED for pair in combinations(names, 2))


def declarable(*names: str) -> bool:
    """Whether the features can be declared together at all: each has its own fields, or a tuple to which another can add."""
    seen: set[str] = set()
    for name in names:
        feature = FEATURES[name]
        fields = {key for key, value in feature.candidate.items() if not isinstance(value, tuple)} | set(feature.grid)
        if fields & seen:
            return False
        seen |= fields
    return True


def declarable_pairs() -> Iterator[tuple[str, str]]:
    """All of them, each once."""
    yield from (pair for pair in combinations(FEATURES, 2) if declarable(*pair))


def covering() -> Iterator[tuple[str, ...]]:
    """Candidates of many features, so that every feature stands beside some feature of every other kind, as far as one goes with
    it. Greedy, and the same every time."""
    kinds = {feature.kind: None for feature in FEATURES.values()}
    missing = {(name, kind): None for name, feature in FEATURES.items() for kind in kinds if kind != feature.kind
               and any(of.kind == kind and allowed(name, other) for other, of in FEATURES.items())}
    while missing:
        name, kind = next(iter(missing))
        row = [name]
        for other in (kind, *(of for of in kinds if of not in (kind, FEATURES[name].kind))):
            fitting = [new for new, feature in FEATURES.items() if feature.kind == other and allowed(*row, new)]
            if fitting:
                row.append(max(fitting, key=lambda new: sum(pair in missing for pair in _pairs_of_kinds([*row, new]))))
        for pair in _pairs_of_kinds(row):
            missing.pop(pair, None)
        yield tuple(sorted(row, key=list(FEATURES).index))


def _pairs_of_kinds(names: Sequence[str]) -> list[tuple[str, str]]:
    return [(name, FEATURES[other].kind) for name in names for other in names if FEATURES[other].kind != FEATURES[name].kind]


def suite_of(*names: str) -> Suite:
    """A suite of one candidate with these features."""
    fields: dict[str, Any] = {"model": "zoo:photo"}
    grid: dict[str, Any] = {}
    prompts = list(PROMPTS)
    for name in names:
        feature = FEATURES[name]
        grid |= feature.grid
        for key, value in feature.candidate.items():
            fields[key] = fields[key] + value if isinstance(value, tuple) and key in fields else value
        prompts = [replace(prompt, **_of_prompt(feature, prompt, first=not n)) for n, prompt in enumerate(prompts)]
    candidate = Candidate(name=" + ".join(names), **fields)
    return tiny_suite(candidates=(candidate,), baseline=candidate.name, grid=replace(GRID, prompts=tuple(prompts), **grid),
                      gates=(), metrics=("clip_score",), objective=Objective(penalties=()))


def _of_prompt(feature: Feature, prompt: Prompt, *, first: bool) -> dict[str, Any]:
    changes = {key: value for key, value in feature.prompts.items() if first or key != "adapters"}
    return {**changes, "text": changes.get("text", "{}").replace("{}", prompt.text)}


Images: TypeAlias = dict[Cell, np.ndarray[Any, Any]]


def images(names: Sequence[str], root: Path, *, otherwise: bool = False) -> Images:
    """The finished images of a candidate of these features, as a run makes them; `otherwise` in other batches: the last one's
    images alone, each in a batch of repetitions, then the others backwards. Raises ValueError where its files are refused."""
    suite = suite_of(*names)
    (candidate,) = suite.candidates
    bench = Workbench.for_grid(suite.grid, device="cpu", root=root)
    if refused := file_problems(suite, [candidate], bench, bench.equalities([candidate]), lambda *_: None):
        raise ValueError(refused[0])
    if suite.grid.batch_size == FIT:
        suite = replace(suite, grid=replace(suite.grid, batch_size=2))
        bench.take_grid(suite.grid)
    grid, made = grid_of(suite, candidate), Images()
    for number, group in enumerate(bench.groups(candidate)):
        ready, first = bench.prepare(candidate, number), Images()
        texts = embedded(ready.phases, grid.prompts, steps=grid.steps, stages=ready.stages)
        cells = [cell for batch in batches(grid) for cell in batch if cell.prompt in group.prompts]
        todo = pack(grid, cells, 0, lengths_of(ready.phases, texts, grid, ready.stages))
        if otherwise:
            *others, last = todo
            todo = (*((cell,) * len(last) for cell in dict.fromkeys(last)), *(batch[::-1] for batch in reversed(others)))
        later = Later(stages=ready.stages, beside=partial(_keep, first))
        with threads_for(grid, "cpu"):
            for batch, pictures in sample(ready.phases, grid, todo, texts, later=later):
                made |= {cell: picture if ready.post is None else ready.post.apply(picture, first.get(cell))[0]
                         for cell, picture in zip(batch, pictures, strict=True)}
    return made


def _keep(first: Images, batch: Sequence[Cell], name: str, pictures: Sequence[np.ndarray[Any, Any]]) -> None:
    if name == FIRST:
        first |= zip(batch, pictures, strict=True)


def differing(one: Images, two: Images) -> list[Cell]:
    """The cells whose images differ in a bit, or are not in both."""
    return [cell for cell in {**one, **two} if cell not in one or cell not in two or not np.array_equal(one[cell], two[cell])]
