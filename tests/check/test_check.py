"""Whatever can be known to be wrong with a suite is said before any work, all of it, with the nearest known name."""

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness import (
    BASELINE,
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
    Grid,
    Merge,
    Objective,
    Penalty,
    Prompt,
    Sampling,
    Search,
    Suite,
    alpha_sweep,
    zoo,
)
from harness.check import model_problems, problems, remarks
from harness.merge import MERGE_METHODS, MergeMethod, Parameter
from tests.fakes import tiny_grid, tiny_suite


def said(tmp_path: Path, **changes: object) -> str:
    return "\n".join(problems(tiny_suite(**changes), tmp_path))


def one(**changes: object) -> dict[str, object]:
    candidate = Candidate(**{"name": "x", "model": "zoo:photo", **changes})  # type: ignore[arg-type]
    return {"candidates": (candidate,), "baseline": "x"}


def merge(**changes: object) -> Merge:
    return Merge(**{"a": "zoo:photo", "b": "zoo:anime", "alpha": 0.5, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("model", [
    merge(a=Checkpoint(path="zoo:photo", config="zoo:config"), b=Checkpoint(path="zoo:anime", config="zoo:config")),
    merge(b=Checkpoint(path="zoo:anime", config="zoo:config"))])
def test_one_config_for_all_models_of_a_merge_is_no_problem(model: Merge, tmp_path: Path) -> None:
    assert problems(tiny_suite(**one(model=model)), tmp_path) == []


def test_a_good_suite_has_no_problems(tmp_path: Path) -> None:
    assert problems(tiny_suite(), tmp_path) == []


def test_all_problems_are_said_at_once(tmp_path: Path) -> None:
    text = said(tmp_path, baseline="alpha=2", metrics=("clip_scor",), grid=tiny_grid(seeds=()))
    assert "the baseline 'alpha=2'" in text
    assert "did you mean 'clip_score'" in text
    assert "seeds is empty" in text


@pytest.mark.parametrize(("changes", "expected"), [
    (one(model=Merge(a="zoo:photo", b="zoo:anime", alpha=1.5)), "alpha is 1.5; 'weighted_sum' takes 0 to 1"),
    (one(model=Merge(a="zoo:photo", b="zoo:anime", alpha=float("nan"))), "alpha is nan"),
    (one(model=Merge(a="zoo:photo", b="zoo:anime", alpha=0.5, method="weigthed_sum")), "did you mean 'weighted_sum'"),
    (one(model=Merge(a="zoo:photo", b="zoo:anime", alpha=0.5, method="add_difference")), "takes 3 models, but 2"),
    (one(model=Merge(a="zoo:photo", b="zoo:anime", alpha=0.5, parts=("unett",))), "unknown part 'unett'"),
    (one(model=Merge(a="zoo:photo", b="zoo:anime", alpha=0.5, missing="skip")), "unknown missing policy 'skip'"),
    (one(model="zoo:phot"), "did you mean 'zoo:photo'"),
    (one(model="models/a.safetensors"), "model file 'models/a.safetensors' does not exist"),
    (one(quantization="int8"), "unknown quantization 'int8'"),
    (one(runtime="tensort"), "unknown runtime 'tensort'; did you mean 'tensorrt'"),
    (one(precision="half"), "unknown precision 'half'"),
    (one(precision="bf16", quantization="fp16"), "two number formats"),
    (one(adapters=(Adapter(path="zoo:sketch", weight=float("inf")),)), "weight is inf"),
    (one(adapters=(Adapter(path="zoo:sketch"), Adapter(path="zoo:sketch"))), "adapter 'zoo:sketch' is given 2 times"),
    (one(adapters=(Adapter(path="zoo:sketch", start=0.6, end=0.5),)), "start is 0.6 and end 0.5; expected shares of the steps"),
    (one(adapters=(Adapter(path="zoo:sketch", end=0.5), Adapter(path="zoo:sketch", start=0.4))), "is given 2 times"),
    (one(adapters=(Adapter(path="zoo:sketch", blocks=Blocks(preset="GRAD_VV")),)), "did you mean 'GRAD_V'"),
    (one(adapters=(Adapter(path="zoo:sketch", blocks=Gradient(values=(0, float("nan")))),)), "an adapter takes -1000 to 1000"),
    (one(model=Fused(model="zoo:base", adapters=(Adapter(path="zoo:sketch", end=0.5),))), "fused adapter"),
    (one(emphasis=Emphasis(weights={"red": 0.5}, method="comfy")), "did you mean 'comfyui'"),
    (one(emphasis=Emphasis(weights={"red": float("nan")})), "emphasis of 'red' is nan"),
    (one(emphasis=Emphasis(weights={})), "emphasis names no words"),
    (one(emphasis=Emphasis(weights={"red": 0.5, " Red": 2})), "emphasis: ' Red' and 'red' are the same word in a prompt"),
    (one(aesthetic=AestheticGradient(path="zoo:sketch", weight=2)), "aesthetic: weight is 2.0; expected a number from 0 to 1"),
    (one(aesthetic=AestheticGradient(path="no.pt")), "aesthetic gradient file 'no.pt' does not exist"),
    ({"candidates": ()}, "no candidates are declared"),
    ({"grid": tiny_grid(steps=1001)}, "steps is 1001; expected at most 1000"),
    ({"grid": tiny_grid(prompts=(Prompt(id="", text="a"),))}, "the prompt id '' is empty"),
    (one(name="x" * 101), "has 101 characters; expected at most 100"),
    (one(name="a\x1b[2J"), "cannot be printed"),
    (one(model=Checkpoint(path="zoo:photo", config="zoo:photo")), "config 'zoo:photo'"),
    (one(model=merge(b=Checkpoint(path="zoo:anime", config="mine"))), "config 'mine' of 'zoo:anime' has no effect"),
    (one(model=merge(take={"vae": Checkpoint(path="zoo:anime", config="mine")})), "config 'mine' of 'zoo:anime' has no effect"),
    (one(model=merge(b=Fused(model=Checkpoint(path="zoo:base", config="mine"), adapters=(Adapter(path="zoo:sketch"),)))),
     "'zoo:base' has no effect"),
    (one(model="zoo:photo", axes={"dominant": 1.0}), "a column of the result tables has this name"),
    (one(model="zoo:photo", axes={"psnr_db": 1.0}), "a column of the result tables has this name"),
    (one(model="a" * 5000), "does not exist below"),
    ({"gates": (Gate(value="clip_score", at_least=float("nan")),)}, "at_least is nan; expected a finite number"),
    ({"gates": (Gate(value="failures", at_least=1),)}, "give at_most"),
    ({"gates": (Gate(value="coverage", at_most=1),)}, "coverage takes no limit"),
    ({"gates": (Gate(value="saturation", not_worse_than="baseline"),)}, "use at_least or at_most"),
    ({"name": "../up"}, "the name '../up' names a folder"),
    ({"name": "CON"}, "the name of a device on Windows"), ({"name": "nul.txt"}, "the name of a device on Windows"),
    ({"name": "x."}, "ends in a dot"), ({"name": "t.Calibration"}, "ends in .calibration"),
    ({"grid": tiny_grid(seeds=tuple(range(1000)), guidance_scales=tuple(map(float, range(1000))))},
     "images; expected at most 1000000"),
    ({"grid": tiny_grid(guidance_scales=(1, 1.0))}, "guidance scale 1.0 is given 2 times"),
    ({"grid": tiny_grid(guidance_scales=(7, 7.0000001))}, "7.0 and 7.0000001 are both shown as CFG 7"),
    ({"grid": tiny_grid(prompts=(Prompt(id="a", text="x"), Prompt(id="a ", text="y")))}, "prompt id 'a ' looks like 'a'"),
    ({"candidates": (Candidate(name="caf\u00e9", model="zoo:photo"), Candidate(name="cafe\u0301", model="zoo:anime"))},
     "candidate 'cafe\\u0301' looks like 'caf\\xe9'"),
    ({"grid": tiny_grid(guidance_scales=(0, 1))}, "guidance scale 0.0: expected a number of at least 1. No guidance is 1 here"),
    ({"grid": tiny_grid(guidance_scales=(0.99, 3))}, "guidance scale 0.99: expected a number of at least 1"),
    ({"grid": tiny_grid(guidance_scales=(-3,))}, "guidance scale -3.0: expected a number of at least 1"),
    ({"grid": tiny_grid(guidance_scales=(float("nan"),))}, "guidance scale nan: expected a number of at least 1"),
    ({"grid": tiny_grid(seeds=(-1,))}, "seed -1: expected an integer of at least 0. Elsewhere -1 asks for a random seed"),
    ({"grid": tiny_grid(width=60)}, "width is 60; expected a multiple of 8"),
    ({"grid": tiny_grid(sampler="dpm")}, "unknown sampler 'dpm'"),
    ({"grid": tiny_grid(prompts=(Prompt(id="a", text="a", split="confirm"),))}, "no prompt is in the split 'select'"),
    ({"grid": tiny_grid(prompts=(Prompt(id="a", text="a cat"), Prompt(id="b", text="b"),
                                 Prompt(id="c", text=" A  cat", split="confirm")))}, "prompts 'a' (select) and 'c' (confirm)"),
    ({"grid": tiny_grid(guidance_scales=(1,), prompts=(
        Prompt(id="a", text="a cat", negative="blurry"), Prompt(id="c", text="a cat", negative="dark", split="confirm")))},
     "prompts 'a' (select) and 'c' (confirm) have the same text (a negative text has no effect"),
    ({"gates": (Gate(value="clip_score"),)}, "0 limits are given"),
    ({"gates": (Gate(value="clip_score", not_worse_than="alpha=9"),)}, "unknown candidate 'alpha=9'"),
    ({"gates": (Gate(value="lpips", at_most=1),)}, "unknown value 'lpips'"),
    ({"objective": Objective(maximise="hps")}, "unknown value 'hps'"),
    ({"objective": Objective(penalties=(Penalty(metric="clip_score", weight=-1),))}, "weight is -1.0"),
])
def test_each_problem_names_what_was_given_and_what_is_known(tmp_path: Path, changes: dict[str, object], expected: str) -> None:
    assert expected in said(tmp_path, **changes)


@pytest.mark.parametrize(("gate", "expected"), [
    ({"value": "failure_rate", "at_least": 0.1}, "give at_most"),
    ({"value": "failure_rate", "at_most": 5}, "at_most is 5; expected a share of images, from 0 to 1"),
    ({"value": "failure_rate", "not_worse_than": "baseline"}, "give at_most"),
    ({"value": "identities", "at_most": 0}, "identities takes no limit: every identity must hold"),
    ({"value": "clip_score", "at_least": 1, "ratio": 0.9}, "ratio is given without not_worse_than"),
    ({"value": "failures", "at_most": 1, "ratio": 0.9}, "ratio is given without not_worse_than"),
    ({"value": "clip_score", "not_worse_than": "baseline", "ratio": 0}, "ratio is 0.0; expected a number above 0"),
    ({"value": "clip_score", "not_worse_than": "baseline", "ratio": float("inf")}, "ratio is inf; expected a number above 0"),
    ({"value": "clip_score", "not_worse_than": "baseline", "ratio": 0.9, "margin": 1}, "both a margin and a ratio are given"),
    ({"value": "clip_score", "at_least": 1, "margin": 1}, "margin is given without not_worse_than"),
    ({"value": "saturation", "not_worse_than": "promoted"}, "use at_least or at_most"),
    ({"value": "desirability", "at_least": 1}, "unknown value 'desirability'"),
    ({"value": "clip_score", "not_worse_than": "alpha=1", "candidates": ("alpha=0", "alpha=1")},
     "compares 'alpha=1' with itself"),
    ({"value": "seconds_per_image", "not_worse_than": "baseline", "ratio": 1.1, "candidates": ("alpha=0",)},
     "compares 'alpha=0' with itself"),
    ({"value": "clip_score", "at_least": 1, "candidates": ("alpha=1", "alpha=1")}, "candidate 'alpha=1' is given 2 times"),
    ({"value": "seconds_per_image", "at_most": -1}, "at_most is -1; expected at least 0 (s)"),
    ({"value": "peak_bytes", "at_most": -1e9}, "at_most is -1e+09; expected at least 0 (bytes)"),
    ({"value": "failures", "at_most": -1}, "at_most is -1; expected at least 0"),
    ({"value": "rating", "at_most": 11}, "at_most is 11; expected at least 1 and at most 10"),
    ({"value": "clipped_share", "not_worse_than": "baseline", "margin": 5},
     "no two values of clipped_share are further apart than 1"),
    ({"value": "rating", "not_worse_than": "baseline", "margin": 9}, "further apart than 9"),
])
def test_each_problem_of_a_gate_is_said(tmp_path: Path, gate: dict[str, object], expected: str) -> None:
    assert expected in said(tmp_path, gates=(Gate(**gate),))  # type: ignore[arg-type]


@pytest.mark.parametrize("gate", [
    Gate(value="rating", at_least=6), Gate(value="objective", not_worse_than="promoted", margin=0.5), Gate(value="identities"),
    Gate(value="failure_rate", at_most=0.05), Gate(value="seconds_per_image", not_worse_than="baseline", ratio=1.1),
    Gate(value="palette_drift", at_most=10), Gate(value="clipped_share", not_worse_than="baseline", margin=0.99),
    Gate(value="seconds_per_image", at_most=0), Gate(value="clip_score", not_worse_than="alpha=1", candidates=("alpha=0",)),
    Gate(value="clip_score", not_worse_than="promoted", ratio=0.95)])
def test_a_good_gate_has_no_problems(tmp_path: Path, gate: Gate) -> None:
    assert problems(tiny_suite(gates=(gate,)), tmp_path) == []


ALIKE = [Gate(value="clip_score", at_least=24), Gate(value="clip_score", at_least=24, candidates=("alpha=0",)),
         Gate(value="clip_score", at_least=24, candidates=("alpha=0", "alpha=1")), Gate(value="clip_score", at_least=24.0000001)]
BESIDE = [Gate(value="clip_score", not_worse_than="baseline", margin=margin, ratio=ratio)
          for margin, ratio in ((0, None), (1, None), (2, None), (0, 0.9))]


@pytest.mark.parametrize("gates", [ALIKE, BESIDE])
def test_gates_that_differ_in_anything_have_ids_of_their_own(tmp_path: Path, gates: list[Gate]) -> None:
    suite = tiny_suite(gates=gates)
    assert problems(suite, tmp_path) == []
    assert len({suite.gate_name(gate) for gate in gates}) == len(gates)
    assert suite.gate_name(gates[0]) == gates[0].name
    assert {tiny_suite(gates=(gate,)).gate_name(gate) for gate in gates} == {gates[0].name}


def test_gates_that_are_equal_in_all_are_refused(tmp_path: Path) -> None:
    gate = Gate(value="clip_score", not_worse_than="baseline", margin=0.5, candidates=("alpha=1",))
    text = said(tmp_path, gates=(gate, gate))
    assert "gate 'clip_score not_worse_than baseline margin 0.5 for alpha=1' is given 2 times" in text


def test_a_candidate_called_promoted_hides_what_was_promoted(tmp_path: Path) -> None:
    gate = Gate(value="clip_score", not_worse_than="promoted")
    candidates = (Candidate(name="promoted", model="zoo:photo"),)
    assert "'promoted' is reserved" in said(tmp_path, candidates=candidates, baseline="promoted", gates=(gate,))


GOOD_ONE = Desirability(metric="clip_score", worst=20, best=30)


@pytest.mark.parametrize(("objective", "expected"), [
    ({"constraints": (Constraint(metric="clip_scor", at_least=1),)}, "unknown constraint 'clip_scor'; did you mean 'clip_score'"),
    ({"constraints": (Constraint(metric="rating", at_least=1),)}, "unknown constraint 'rating'"),
    ({"constraints": (Constraint(metric="clip_score"),)}, "0 limits are given; expected one of at_most, at_least"),
    ({"constraints": (Constraint(metric="clip_score", at_most=1, at_least=1),)}, "2 limits are given"),
    ({"constraints": (Constraint(metric="clip_score", at_most=float("nan")),)}, "the limit is nan; expected a finite number"),
    ({"maximise": "desirability"}, "no desirabilities are given"),
    ({"desirabilities": (GOOD_ONE,)}, "maximise is 'clip_score'; give maximise=DESIRABILITY"),
    ({"maximise": "desirability", "desirabilities": (GOOD_ONE, GOOD_ONE)}, "desirability of 'clip_score' is given 2 times"),
    ({"maximise": "desirability", "desirabilities": (Desirability(metric="clip_score", worst=1, best=1),)},
     "desirability of 'clip_score': worst is 1.0 and best 1.0; expected two different finite numbers"),
    ({"maximise": "desirability", "desirabilities": (Desirability(metric="clip_score", worst=1, best=2, shape=0),)},
     "shape is 0.0; expected a number above 0"),
    ({"maximise": "desirability", "desirabilities": (Desirability(metric="clip_score", worst=1, best=2, weight=-1),)},
     "weight is -1.0; expected a number above 0"),
    ({"maximise": "clipped_share"}, "maximises 'clipped_share', of which less is better; give maximise=DESIRABILITY"),
    ({"maximise": "desirability", "desirabilities": (Desirability(metric="lpips", worst=1, best=2),)}, "unknown value 'lpips'"),
])
def test_each_problem_of_an_objective_is_said(tmp_path: Path, objective: dict[str, object], expected: str) -> None:
    assert expected in said(tmp_path, objective=Objective(**objective))  # type: ignore[arg-type]


def test_a_good_objective_of_several_has_no_problems(tmp_path: Path) -> None:
    nearer = Desirability(metric="saturation", worst=0.9, best=0.4, shape=0.5, weight=2)
    objective = Objective(maximise="desirability", desirabilities=(GOOD_ONE, nearer),
                          constraints=tuple(Constraint(metric=m, at_most=0.1) for m in ("clipped_share", "palette_left")))
    assert problems(tiny_suite(objective=objective, gates=(Gate(value="desirability", at_least=1),)), tmp_path) == []


def test_what_is_better_when_less_is_maximised_as_a_desirability(tmp_path: Path) -> None:
    low = Desirability(metric="clipped_share", worst=0.5, best=0.0)
    assert problems(tiny_suite(objective=Objective(maximise="desirability", desirabilities=(low,))), tmp_path) == []


def racing(**changes: object) -> dict[str, object]:
    return {"budget": Budget(**{"first_prompts": 2, "refine": "alpha", **changes})}  # type: ignore[arg-type]


OF_ITSELF = Objective(penalties=(Penalty(metric="clipped_share", weight=100.0, allowance=0.05),))


def raced(**changes: object) -> Suite:
    prompts = tuple(Prompt(id=f"p{i}", text=f"a red star, no. {i}", split="select" if i < 6 else "confirm") for i in range(8))
    return tiny_suite(**{"grid": tiny_grid(prompts=prompts), "objective": OF_ITSELF, **racing(), **changes})


def searching(**changes: object) -> dict[str, object]:
    values: dict[str, object] = {"merge": Merge(a="zoo:photo", b="zoo:anime"), "guidance": 4, "prompts": 4, "blocks": 10}
    return {"search": Search(**{**values, **changes})}  # type: ignore[arg-type]


def test_a_good_budget_and_a_good_search_have_no_problems(tmp_path: Path) -> None:
    assert problems(raced(), tmp_path) == []
    assert problems(raced(**searching()), tmp_path) == []


@pytest.mark.parametrize("changes", [
    {"objective": Objective()}, {"objective": replace(OF_ITSELF, constraints=(Constraint(metric="palette_left", at_most=0.1),))},
    {"gates": (Gate(value="palette_left", at_most=0.1),)}])
def test_a_budget_refuses_values_that_depend_on_which_images_there_are(changes: dict[str, object], tmp_path: Path) -> None:
    (said,) = problems(raced(**changes), tmp_path)
    assert "'palette_left', which is derived from all images of a prompt" in said


NO_CONFIRM = tuple(Prompt(id=f"p{i}", text="a star") for i in range(6))
GRID_OF_TWO = tuple(replace(c, name=f"{sampler} {c.axes['alpha']:g}", sampling=Sampling(sampler=sampler),
                            axes={**c.axes, "sampler": sampler})
                    for at, sampler in enumerate(("euler", "heun"))
                    for c in alpha_sweep("zoo:photo", "zoo:anime", (0, 0.5, 1))[at:])
FILES = tuple(Candidate(name=name, model=f"zoo:{name}", axes={"alpha": float(at)})
              for at, name in enumerate(("photo", "anime", "base")))


@pytest.mark.parametrize(("changes", "expected"), [
    (racing(images=-1), "images is -1; expected an integer of at least 0"),
    (racing(first_prompts=1), "first_prompts is 1; expected an integer of at least 2"),
    (racing(step_prompts=0), "step_prompts is 0; expected an integer of at least 1"),
    (racing(enough=0), "enough is 0.0; expected a number above 0"),
    (racing(finest=float("nan")), "finest is nan; expected a number above 0"),
    (racing(first_prompts=4), "6 prompts are in the split 'select'"),
    (racing(first_prompts=4), "fewer than 8"),
    (racing(images=11), "takes 12: 3 candidates x 2 guidance scales x 1 seeds x 2 prompts"),
    (racing(refine="alfa"), "refine is 'alfa', which is a number for 0 candidates"),
    (racing(refine="alfa"), "did you mean 'alpha'"),
    ({"candidates": alpha_sweep("zoo:photo", "zoo:anime", (0, 1))}, "refine is 'alpha', which is a number for 2 candidates"),
    ({"candidates": FILES, "baseline": "photo"}, "between 'photo' and 'anime'"),
    ({"candidates": GRID_OF_TWO, "baseline": "euler 0"},
     "candidates 'euler 0.5' and 'heun 0.5' have the same alpha (0.5) and differ in sampler"),
    ({"candidates": (*alpha_sweep("zoo:photo", "zoo:anime", (0, 0.5)), Candidate(
        name="alpha=0.75", model=Merge(a="zoo:photo", b="zoo:anime", alpha=1), axes={"alpha": 1}))},
     "candidate 'alpha=0.75' has alpha 1"),
    ({"grid": tiny_grid(prompts=NO_CONFIRM)}, "no prompt is in the split 'confirm'"),
    (searching(trials=3), "trials is 3; expected at least 4"),
    (searching(keep=0), "keep is 0; expected 1 to the number of trials"),
    (searching(prompts=9), "prompts is 9; expected 1 to the number of select prompts, 6"),
    (searching(guidance=3), "expected one of 1, 4"),
    (searching(blocks=2), "blocks is 2"),
    (searching(blocks=61), "preset 'GRAD_V' is only for U-Nets, and 61 block weights belong to flux"),
    (searching(presets=("GRAD_VV",)), "unknown preset 'GRAD_VV'"),
    (searching(presets=("GRAD_V", "GRAD_V")), "preset 'GRAD_V' is given 2 times"),
    (searching(seed=-1), "seed is -1"),
    (searching(merge=merge()), "merge: alpha is given"),
    (searching(merge=merge(alpha=None, b="zoo:anme")), "merge: unknown model of the zoo 'zoo:anme'"),
    (searching(merge=merge(alpha=None, method="ties")), "merge: merge method 'ties'"),
    ({"candidates": (Candidate(name="search 3", model="zoo:photo"),), "baseline": "search 3", **searching(), **racing(refine="")},
     "candidate 'search 3' is reserved"),
    ({**searching(), "budget": None}, "search: it needs a budget"),
])
def test_each_problem_of_a_budget_and_a_search_is_said(tmp_path: Path, changes: dict[str, object], expected: str) -> None:
    assert expected in "\n".join(problems(raced(**changes), tmp_path))


def test_a_search_without_optuna_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.check.budget_and_search.find_spec", lambda _: None)
    assert "pip install 'sweetspot[search]'" in "\n".join(problems(raced(**searching()), tmp_path))


MANY = MergeMethod(function=max, models=3, many=True, base=True, weighted=True, random=True, alpha_range=None, paper="",
                   parameters=(Parameter(name="density", default=0.2, low=0.0, high=1.0, meaning="share of values kept"),
                               Parameter(name="rounds", default=1, low=1, high=9, meaning="how often", whole=True)))
BETA = MergeMethod(function=max, models=3, beta_range=(0.0, 1.0), paper="")
LIST = MergeMethod(function=max, models=2, many=True, alpha_range=None, paper="")


@pytest.fixture
def methods(monkeypatch: pytest.MonkeyPatch) -> None:
    """Methods of every kind of row, beside those there are."""
    for name, row in {"many": MANY, "beta": BETA, "list": LIST}.items():
        monkeypatch.setitem(MERGE_METHODS, name, row)


def many(**changes: object) -> Merge:
    return merge(**{"method": "many", "alpha": None, "c": "zoo:base", **changes})


@pytest.mark.usefixtures("methods")
@pytest.mark.parametrize("good", [
    merge(alpha=Blocks(values=(0.5,) * 26)), merge(alpha=Blocks(preset="GRAD_V", base=1)), merge(alpha=Gradient(values=(0, 1))),
    merge(alpha=Alphas(default=Blocks(preset="WRAP08"), parts={"unet": 0.1}, keys={"*attn2*": 1})),
    merge(take={"vae": "zoo:anime"}, dtype="fp16", precision="fp64", force=("ema",), missing="keep_a"),
    many(), many(weights=(1, 2)), many(settings={"density": 0.5, "rounds": 3, "seed": 7}),
    many(more=("zoo:photo",), weights=(1, 2, -3)),
    merge(method="beta", c="zoo:base", beta=0.5), merge(method="list", alpha=None, more=("zoo:base",))])
def test_a_good_merge_has_no_problems(tmp_path: Path, good: Merge) -> None:
    assert model_problems(good, tmp_path) == []


@pytest.mark.usefixtures("methods")
@pytest.mark.parametrize(("bad", "expected"), [
    (merge(alpha=None), "merge method 'weighted_sum' needs alpha, from 0 to 1"),
    (many(alpha=0.5), "merge method 'many' takes no alpha"),
    (merge(beta=0.5), "merge method 'weighted_sum' takes no beta"),
    (merge(method="beta", c="zoo:base"), "merge method 'beta' needs beta"),
    (merge(method="beta", c="zoo:base", beta=Blocks(values=(0.5, 2, 0.5))), "beta: values[1] is 2.0; 'beta' takes 0 to 1"),
    (merge(alpha=Blocks(values=(0.5, -1, 0.5))), "alpha: values[1] is -1.0; 'weighted_sum' takes 0 to 1"),
    (merge(alpha=Blocks(values=(0.5,) * 25, base=float("inf"))), "alpha: base is inf"),
    (merge(alpha=Gradient(values=(0, float("nan")))), "alpha: values[1] is nan"),
    (merge(alpha=Gradient(values=(0,))), "alpha: a gradient needs at least 2 values"),
    (merge(alpha=Alphas(default=2)), "alpha: default is 2.0"),
    (merge(alpha=Alphas(default=0, parts={"unet": Gradient(values=(0, 3))})), "alpha: parts['unet']: values[1] is 3.0"),
    (merge(alpha=Alphas(default=0, parts={"unett": 1})), "unknown part of alpha 'unett'; did you mean 'unet'"),
    (merge(alpha=Alphas(default=0, parts={"vae": 1})), "is not merged; merged: unet"),
    (merge(alpha=Alphas(default=0, keys={"*": 1.5})), "alpha: keys['*'] is 1.5"),
    (merge(alpha=Alphas(default=0, keys={" ": 1})), "the pattern ' ' is empty"),
    (merge(alpha=Blocks()), "alpha: neither values nor a preset"),
    (merge(alpha=Blocks(values=(1, 1, 1), preset="GRAD_V")), "alpha: both values and a preset"),
    (merge(alpha=Blocks(preset="GRAD_X")), "alpha: unknown preset 'GRAD_X'; did you mean 'GRAD_"),
    (merge(alpha=Blocks(preset="GRAD_V", convention="super_merger")),
     "alpha: unknown convention 'super_merger'; did you mean 'supermerger'"),
    (merge(alpha=Blocks(preset="GRAD_V", convention="comfyui")), "has no values for the slots of convention 'comfyui'"),
    (merge(alpha=Blocks(values=(1,))), "alpha: 1 block weights are given; expected one for each block"),
    (merge(alpha=Blocks(values=(1,) * 200)), "alpha: 200 block weights are given"),
    (merge(c="zoo:base"), "merge method 'weighted_sum' takes 2 models, but 3"),
    (merge(more=("zoo:base",)), "merge method 'weighted_sum' takes 2 models, but 3"),
    (merge(method="add_difference", more=("zoo:base",)), "give the third as c, not in more"),
    (many(c=None, more=("zoo:base",)), "give the base as c"),
    (merge(method="list", alpha=None, c="zoo:base"), "merge method 'list' takes no base"),
    (merge(weights=(1, 2)), "merge method 'weighted_sum' takes none"),
    (many(weights=(1, 2, 3)), "3 weights are given; expected 2"),
    (many(weights=(1, float("nan"))), "weights[1] is nan; expected a number from -1000 to 1000"),
    (merge(settings={"density": 0.5}), "merge method 'weighted_sum' has no settings, but 'density'"),
    (many(settings={"densty": 0.5}), "unknown setting of 'many' 'densty'; did you mean 'density'"),
    (many(settings={"density": 1.5}), "setting 'density' is 1.5; 'many' takes 0 to 1"),
    (many(settings={"rounds": 1.5}), "setting 'rounds' is 1.5; expected an integer"),
    (many(settings={"seed": 0.5}), "setting 'seed' is 0.5; expected an integer"),
    (many(settings={"seed": -1}), "setting 'seed' is -1.0; 'many' takes 0 to 9007199254740992"),
    (merge(parts=("unet", "unet")), "part 'unet' is given 2 times"),
    (merge(take={"vea": "zoo:anime"}), "unknown part 'vea'; did you mean 'vae'"),
    (merge(take={"unet": "zoo:anime"}), "the part 'unet' is both merged (parts) and taken whole (take)"),
    (merge(take={"vae": "zoo:anme"}), "did you mean 'zoo:anime'"),
    (many(more=(merge(alpha=7),)), "alpha is 7.0; 'weighted_sum' takes 0 to 1"),
    (merge(dtype="float16"), "unknown dtype 'float16'; did you mean 'fp16'"),
    (merge(precision="double"), "unknown precision 'double'"),
    (merge(force=("predictions",)), "unknown force 'predictions'; did you mean 'prediction'"),
    (merge(b=merge(dtype="fp16")), "dtype is given for a merge within a merge"),
])
def test_each_problem_of_a_merge_is_said(tmp_path: Path, bad: Merge, expected: str) -> None:
    assert expected in "\n".join(model_problems(bad, tmp_path))


@pytest.mark.parametrize("junk", [None, 3, "zoo:phot", object(), {"a": "zoo:photo"}])
def test_a_model_of_any_kind_is_looked_at_without_raising(tmp_path: Path, junk: object) -> None:
    assert len(model_problems(junk, tmp_path)) == 1


def test_a_file_beside_the_missing_one_is_offered(tmp_path: Path) -> None:
    (tmp_path / "photo.safetensors").write_bytes(b"")
    assert "'photo.safetensors' does" in said(tmp_path, **one(model="foto.safetensors"))


def test_duplicate_candidates_are_reported(tmp_path: Path) -> None:
    twins = (Candidate(name="a", model="zoo:photo"), Candidate(name="b", model="zoo:photo"))
    assert "candidate 'b' duplicates 'a'" in said(tmp_path, candidates=twins, baseline="a")


def test_a_candidate_that_spells_out_a_default_is_a_duplicate(tmp_path: Path) -> None:
    grid = replace(tiny_grid(), sampler="tcd", steps=4)
    twins = (Candidate(name="a", model="zoo:photo"), Candidate(name="b", model="zoo:photo", sampling=Sampling(eta=0.3)),
             Candidate(name="c", model="zoo:photo", sampling=Sampling(eta=0.4)))
    text = said(tmp_path, candidates=twins, baseline="a", grid=grid)
    assert "'b' duplicates 'a'" in text
    assert "'c' duplicates" not in text


def test_something_else_than_a_suite_is_said(tmp_path: Path) -> None:
    assert problems({"name": "x"}, tmp_path) == ["SUITE is a dict; expected harness.Suite(...)"]


class Awkward:
    """Its repr, its hash and its truth raise."""

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        raise RuntimeError("no words")

    __bool__ = __str__ = __repr__


@pytest.mark.parametrize(("changes", "expected"), [
    (one(model=merge(alpha="abc")), "candidate 'x': model: field alpha is 'abc' (str); expected a number, harness.Blocks, "
     "harness.Gradient, harness.Alphas or None"),
    (one(model=merge(alpha=Alphas(default=None))),  # type: ignore[arg-type]
     "model: alpha: field default is None; expected a number, harness.Blocks or harness.Gradient"),
    (one(model=merge(alpha=Alphas(default=0, parts={"vae": "x"}))),  # type: ignore[dict-item]
     "alpha: field parts['vae'] is 'x' (str); expected a number, harness.Blocks or harness.Gradient"),
    (one(model=merge(alpha=Alphas(default=0, parts={"vae": Blocks(values=("x",))}))),  # type: ignore[arg-type]
     "parts['vae']: values[0] is 'x' (str); expected a number"),
    (one(model=merge(alpha=Alphas(default=0, keys=3))), "field keys is 3 (int); expected a mapping"),  # type: ignore[arg-type]
    (one(model=merge(more="c")),
     "more is 'c'; expected a tuple of a path, harness.Checkpoint, harness.Merge or harness.Fused, like ('c',)"),
    (one(model=merge(more=(3,))), "more[0] is 3 (int); expected a path, harness.Checkpoint, harness.Merge or harness.Fused"),
    (one(model=merge(take={"vae": 3})),
     "field take['vae'] is 3 (int); expected a path, harness.Checkpoint, harness.Merge or harness.Fused"),
    (one(model=merge(settings={"seed": "7"})), "field settings['seed'] is '7' (str); expected a number"),
    (one(model=Checkpoint(path="zoo:photo", ema=1)),  # type: ignore[arg-type]
     "field ema is 1 (int); expected True or False"),
    (one(model=Merge(a="zoo:photo", b="zoo:anime", alpha=0.5, parts="unet")),  # type: ignore[arg-type]
     "parts is 'unet'; expected a tuple of strings, like ('unet',)"),
    (one(model=Merge(a=None, b="zoo:anime", alpha=0.5)),  # type: ignore[arg-type]
     "field a is None; expected a path, harness.Checkpoint, harness.Merge or harness.Fused"),
    (one(model=3), "field model is 3 (int); expected a path, harness.Checkpoint, harness.Merge, harness.Fused, harness.Relay or "
     "harness.Ensemble"),
    (one(quantization=["fp32"]), "field quantization is ['fp32'] (list); expected text"),
    (one(axes=[1]), "field axes is [1] (list); expected a mapping"),
    (one(name=5), "candidate number 1: field name is 5 (int); expected text"),
    (one(model="zoo:\ud800"), "lone surrogate"),
    ({"grid": tiny_grid(prompts=(Prompt(id=1, text=None),))},  # type: ignore[arg-type]
     "grid: prompts[0]: field text is None; expected text"),
    ({"grid": tiny_grid(prompts=(Prompt(id="a", text="a", tags=3),))},  # type: ignore[arg-type]
     "field tags is 3 (int); expected a mapping"),
    ({"grid": tiny_grid(seeds=(1, "2"))}, "grid: seeds[1] is '2' (str); expected an integer"),
    ({"grid": tiny_grid(steps=True)}, "field steps is True (bool); expected an integer"),
    ({"grid": tiny_grid(seeds=(10 ** 30,))}, "seeds[0] has more than 64 bits"),
    ({"metrics": "psnr"}, "metrics is 'psnr'; expected a tuple of strings, like ('psnr',)"),
    (one(savers=3), "savers is 3 (int); expected a tuple of strings, like ('vae_slicing',)"),
    ({"grid": tiny_grid(low_memory=True)}, "low_memory is True (bool); expected a tuple of strings, like ('vae_on_host',)"),
    ({"gates": (Gate(value="failures", at_most="none"),)}, "field at_most is 'none' (str); expected a number or None"),  # type: ignore[arg-type]
    ({"gates": ("coverage",)}, "gates[0] is 'coverage' (str); expected harness.Gate"),
    ({"baseline": None}, "field baseline is None; expected text"),
])
def test_a_value_of_the_wrong_kind_is_named_with_its_field(tmp_path: Path, changes: dict[str, object], expected: str) -> None:
    assert expected in said(tmp_path, **changes)


GOOD: dict[type, dict[str, object]] = {
    Checkpoint: {"path": "zoo:photo"}, Merge: {"a": "zoo:photo", "b": "zoo:anime", "alpha": 0.5}, Adapter: {"path": "zoo:sketch"},
    Candidate: {"name": "x", "model": "zoo:photo"}, Prompt: {"id": "a", "text": "a"},
    Penalty: {"metric": "clip_score", "weight": 1}, Blocks: {"values": (0.5,) * 26}, Gradient: {"values": (0, 1)},
    Alphas: {"default": 0.5}, Constraint: {"metric": "clip_score", "at_least": 1},
    Desirability: {"metric": "clip_score", "worst": 1, "best": 2}, Budget: {},
    Search: {"merge": Merge(a="zoo:photo", b="zoo:anime"), "guidance": 4},
    Grid: {"prompts": (Prompt(id="a", text="a"),), "seeds": (1,), "guidance_scales": (1,)}, Objective: {},
    Gate: {"value": "failures", "at_most": 0},
    Suite: {"name": "s", "baseline": "x", "candidates": (Candidate(name="x", model="zoo:photo"),), "grid": tiny_grid()}}


PLACES: dict[type, Callable[[Any], object]] = {
    Suite: lambda d: d, Candidate: lambda d: tiny_suite(candidates=(d,)), Adapter: lambda d: tiny_suite(**one(adapters=(d,))),
    Checkpoint: lambda d: tiny_suite(**one(model=d)), Merge: lambda d: tiny_suite(**one(model=d)),
    **dict.fromkeys((Blocks, Gradient, Alphas), lambda d: tiny_suite(**one(model=merge(alpha=d)))),
    Prompt: lambda d: tiny_suite(grid=tiny_grid(prompts=(d,))), Grid: lambda d: tiny_suite(grid=d),
    Penalty: lambda d: tiny_suite(objective=Objective(penalties=(d,))), Objective: lambda d: tiny_suite(objective=d),
    Gate: lambda d: tiny_suite(gates=(d,)), Constraint: lambda d: tiny_suite(objective=Objective(constraints=(d,))),
    Desirability: lambda d: tiny_suite(objective=Objective(maximise="desirability", desirabilities=(d,))),
    Budget: lambda d: tiny_suite(budget=d), Search: lambda d: tiny_suite(budget=Budget(), search=d)}


def suite_with(declaration: object) -> object:
    """A suite with the declaration in its place."""
    return PLACES[type(declaration)](declaration)


JUNK: tuple[object, ...] = (
    None, 3, 10 ** 5000, float("nan"), "abc", "\ud800", b"x", "", [[]], {"a": []}, {3: {}}, ([],), (None,), object(), Awkward(),
    (Awkward(),), {"a": Awkward()}, True)


@pytest.mark.parametrize(("kind", "field"), [(kind, field) for kind in GOOD for field in kind.__dataclass_fields__])  # type: ignore[attr-defined]
def test_no_value_in_any_field_makes_the_check_raise(tmp_path: Path, kind: type, field: str) -> None:
    for value in JUNK:
        found = problems(suite_with(kind(**{**GOOD[kind], field: value})), tmp_path)
        assert not any("could not be checked" in text for text in found), found


@pytest.mark.parametrize(("kind", "field"), [
    (kind, field) for kind, field in product(GOOD, ("path", "a", "default", "name", "text"))
    if field in kind.__dataclass_fields__])  # type: ignore[attr-defined]
def test_none_where_a_value_belongs_is_a_problem(tmp_path: Path, kind: type, field: str) -> None:
    found = problems(suite_with(kind(**{**GOOD[kind], field: None})), tmp_path)
    assert any(f"field {field} is None" in text for text in found)


def test_a_recipe_nested_beyond_all_measure_is_said(tmp_path: Path) -> None:
    model: Merge | str = "zoo:photo"
    for _ in range(5000):
        model = Merge(a=model, b="zoo:anime", alpha=0.5)
    assert "RecursionError" in said(tmp_path, **one(model=model))


def test_paths_and_numpy_scalars_are_good_declarations(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").symlink_to(zoo.resolve("zoo:photo").resolve())
    here = Path("a.safetensors")
    merged = Merge(a=Checkpoint(path=here, config="zoo:config"), b=here, alpha=np.float32(0.5))  # type: ignore[arg-type]
    grid = tiny_grid(seeds=np.arange(2), guidance_scales=np.linspace(1, 3, 2), steps=np.int64(2))
    assert problems(tiny_suite(grid=grid, clip="zoo:clip", **one(model=merged)), tmp_path) == []


def test_one_adapter_may_work_in_two_stretches_of_steps(tmp_path: Path) -> None:
    adapters = (Adapter(path="zoo:sketch", end=0.3), Adapter(path="zoo:sketch", start=0.5))
    assert problems(tiny_suite(gates=(), **one(adapters=adapters)), tmp_path) == []


@pytest.mark.parametrize("other", ["./l.safetensors", "soft.safetensors", "hard.safetensors", "folder/l.safetensors"])
def test_one_adapter_under_two_names_is_found(tmp_path: Path, other: str) -> None:
    (tmp_path / "l.safetensors").write_bytes(b"")
    (tmp_path / "soft.safetensors").symlink_to("l.safetensors")
    (tmp_path / "hard.safetensors").hardlink_to(tmp_path / "l.safetensors")
    (tmp_path / "folder").symlink_to(tmp_path, target_is_directory=True)
    twice = (Adapter(path="l.safetensors", weight=0.5), Adapter(path=other, weight=0.5))
    words = said(tmp_path, **one(adapters=twice))
    assert f"adapter 'l.safetensors' is given 2 times, also as {other!r}" in words
    assert "is given 2 times" in said(tmp_path, **one(model=Fused(model="zoo:photo", adapters=twice)))


def test_a_candidate_called_baseline_that_is_not_it_is_ambiguous_for_a_gate(tmp_path: Path) -> None:
    two = (Candidate(name="old", model="zoo:photo"), Candidate(name="baseline", model="zoo:anime"))
    gates = (Gate(value="clip_score", not_worse_than="baseline"),)
    assert "'baseline' means the suite's baseline, 'old'" in said(tmp_path, candidates=two, baseline="old", gates=gates)
    assert said(tmp_path, candidates=two, baseline="baseline", gates=gates) == ""
    assert said(tmp_path, candidates=two, baseline="old", gates=(replace(gates[0], not_worse_than="old"),)) == ""


def test_a_preference_on_an_axis_that_is_not_swept_is_refused(tmp_path: Path) -> None:
    swept = tuple(replace(c, axes={**c.axes, "ink": float(i)}) for i, c in enumerate(tiny_suite().candidates))
    for axis, problem in (("alpha", ""), ("guidance", ""), ("ink", "no effect: the pick is made along 'alpha'")):
        assert problem in (text := said(tmp_path, candidates=swept, objective=Objective(prefer={axis: "lowest"})))
        assert bool(text) == bool(problem)


@pytest.mark.parametrize(("prefer", "said"), [
    ({"guidance": "low"}, "prefers 'low' on 'guidance'; expected one of lowest, highest, middle"),
    ({"alhpa": "lowest"}, "unknown axis 'alhpa'")])
def test_a_preference_names_an_axis_and_a_side(prefer: dict[str, str], said: str, tmp_path: Path) -> None:
    assert any(said in problem for problem in problems(tiny_suite(objective=Objective(prefer=prefer)), tmp_path))


def test_a_text_of_any_length_makes_a_message_of_a_few_lines(tmp_path: Path) -> None:
    long = tiny_suite(objective=Objective(maximise="clip_scor" + "e" * 100_000))
    assert sum(map(len, problems(long, tmp_path))) < 10_000


@pytest.mark.parametrize(("changes", "remarked"), [
    ({"latency_rounds": 5}, True), ({"latency_rounds": 6}, False), ({"latency_rounds": 2, "latency_budget_seconds": 9.0}, False)])
def test_a_gate_that_the_declared_rounds_cannot_decide_is_remarked(changes: dict[str, Any], remarked: bool) -> None:
    suite = tiny_suite(gates=(Gate(value="seconds_per_image", at_most=1),), **changes)
    assert any("set latency_rounds to at least 6" in remark for remark in remarks(suite)) == remarked


MODES = tuple(Candidate(name=mode, model="zoo:photo", quantization=mode) for mode in ("fp32", "bf16"))


@pytest.mark.parametrize(("prefer", "refused"), [
    ({"guidance": "highest"}, True), ({"guidance": "middle"}, True), ({"guidance": "lowest"}, False), ({}, False)])
def test_a_preference_that_a_suite_of_modes_would_not_read_is_refused(prefer: dict[str, str], refused: bool,
                                                                      tmp_path: Path) -> None:
    text = said(tmp_path, candidates=MODES, baseline="fp32", objective=Objective(prefer=prefer))
    assert ("which has no effect: candidates differ in quantization, runtime or savers" in text) == refused


@pytest.mark.parametrize(("worst", "best", "refused"), [
    (200, 300, True), (300, 200, True), (-300, -200, True), (100, 200, True), (-200, -100, True), (20, 30, False),
    (50, 150, False), (-150, -50, False), (30, 20, False)])
def test_a_desirability_between_ends_that_no_value_lies_between_is_refused(worst: float, best: float, refused: bool,
                                                                           tmp_path: Path) -> None:
    """The CLIP score goes from -100 to 100."""
    objective = Objective(maximise="desirability", penalties=(),
                          desirabilities=(Desirability(metric="clip_score", worst=worst, best=best),))
    text = said(tmp_path, metrics=("clip_score", "exposure"), objective=objective)
    assert ("all images are equally desirable" in text) == refused


@pytest.mark.parametrize(("weight", "refused"), [(0, True), (0.0, True), (-1, True), (0.1, False)])
def test_a_penalty_that_takes_nothing_off_is_refused(weight: float, refused: bool, tmp_path: Path) -> None:
    objective = Objective(penalties=(Penalty(metric="clipped_share", weight=weight),))
    assert ("a weight above 0" in said(tmp_path, objective=objective)) == refused


@pytest.mark.parametrize(("text", "refused"), [
    ("a\0cat", True), ("a\x1b[2Jcat", True), ("a\x7fcat", True), ("a\ncat\tand a dog", False), ("a \u200d cat", False)])
@pytest.mark.parametrize("field", ["text", "negative"])
def test_control_characters_in_a_prompt_are_refused(field: str, text: str, refused: bool, tmp_path: Path) -> None:
    prompt = Prompt(**{"id": "p", "text": "a dog", "split": "select", field: text})  # type: ignore[arg-type]
    found = said(tmp_path, grid=tiny_grid(prompts=(prompt,)))
    assert ("control character" in found) == refused


@pytest.mark.parametrize(("guidance", "scales", "remarked"), [
    (1.0, (3.0, 7.0), True), (3.0, (3.0, 7.0), False), (1.0, (3.0,), False)])
def test_a_gate_that_has_nothing_to_compare_a_candidate_with_is_a_remark(guidance: float, scales: tuple[float, ...],
                                                                        remarked: bool) -> None:
    few = Candidate(name="few", model="zoo:photo", sampling=Sampling(steps=1, guidance=guidance))
    base = Candidate(name="base", model="zoo:photo")
    suite = tiny_suite(candidates=(base, few), baseline="base", grid=tiny_grid(guidance_scales=scales),
                       gates=(Gate(value="clip_score", not_worse_than=BASELINE, margin=1.0),))
    said = [remark for remark in remarks(suite) if "cannot be decided for candidate 'few' at CFG 1" in remark]
    assert bool(said) == remarked
