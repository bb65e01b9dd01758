"""A limit points the way in which a value is better: every judged value with every limit, in gates, constraints and penalties."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness import BASELINE, PROMOTED, Candidate, Constraint, Gate, Objective, Penalty, Pose, Suite
from harness.check import problems
from harness.check.values import gate_values, known_values
from harness.metrics import METRICS
from harness.records import ValueSpec
from harness.records.gate_kinds import gate_kind
from tests.fakes import tiny_grid, tiny_suite
from tests.metrics.test_pose import COCO_18_NAMES, numbers

STYLES = {"anime": "an anime drawing", "photo": "a photo"}
CANDIDATES = tuple(Candidate(name=name, model=f"zoo:{name}") for name in ("photo", "anime"))


def suite(**changes: object) -> Suite:
    return tiny_suite(**{"metrics": tuple(METRICS), "styles": STYLES, "candidates": CANDIDATES, "baseline": "photo",
                         "grid": tiny_grid(seeds=(1, 2), width=192, height=192), "gates": (),
                         "pose": Pose(folder="poses", detector="net.pth"), **changes})


@pytest.fixture(autouse=True)
def _poses(tmp_path: Path) -> None:
    (tmp_path / "poses").mkdir()
    person = numbers({"nose": (32, 10), "left_hip": (40, 40), "right_hip": (20, 40)}, COCO_18_NAMES)
    for prompt in tiny_grid().prompts:
        (tmp_path / "poses" / f"{prompt.id}.json").write_text(json.dumps({"people": [person]}))
    (tmp_path / "net.pth").write_bytes(b"PK\x03\x04")


GATED, IMAGES = gate_values(suite()), known_values(suite())
WRONG = {"higher": ("at_most", "at_least"), "lower": ("at_least", "at_most")}
BETTER = {"higher": "more of", "lower": "less of"}


def within(spec: ValueSpec) -> float:
    """A limit that some values keep and others do not."""
    low = 0.0 if spec.bounded_share else spec.low
    high = 1.0 if spec.bounded_share else spec.high
    if low is not None and high is not None:
        return (low + high) / 2
    return (low or 0.0) + 1


@pytest.mark.parametrize("word", ["at_least", "at_most"])
@pytest.mark.parametrize("name", list(GATED))
def test_a_gate_takes_the_limit_of_the_direction_in_which_its_value_is_better(name, word, tmp_path):
    spec, kind = GATED[name], gate_kind(name)
    listed = problems(suite(gates=(Gate(value=name, **{word: within(spec)}),)), tmp_path)
    wrong, right = WRONG.get(spec.better, ("", ""))
    if word not in kind.limits:
        assert len(listed) == 1
    elif word != wrong or spec.paired:
        assert listed == []
    else:
        assert len(listed) == 1
        assert f"{BETTER[spec.better]} {name} is better; give {right}" in listed[0]
        assert problems(suite(gates=(Gate(value=name, **{right: within(spec)}),)), tmp_path) == []


@pytest.mark.parametrize("other", [BASELINE, PROMOTED])
@pytest.mark.parametrize("ratio", [None, 0.9, 1.1])
@pytest.mark.parametrize("name", [name for name in GATED if "not_worse_than" in gate_kind(name).limits])
def test_a_comparison_turns_with_its_value_so_every_ratio_can_be_asked_for(name, ratio, other, tmp_path):
    """A ratio below 1 of a time asks for a gain, one above 1 allows a loss; of a score it is the other way round."""
    gate = Gate(value=name, not_worse_than=other, ratio=ratio, candidates=("anime",))
    assert bool(problems(suite(gates=(gate,)), tmp_path)) == (GATED[name].better == "nearer")


@pytest.mark.parametrize("word", ["at_least", "at_most"])
@pytest.mark.parametrize("name", list(IMAGES))
def test_a_constraint_takes_the_same_limits_as_a_gate(name, word, tmp_path):
    spec = IMAGES[name]
    objective = Objective(penalties=(), constraints=(Constraint(metric=name, **{word: within(spec)}),))
    listed = problems(suite(objective=objective), tmp_path)
    wrong, right = WRONG.get(spec.better, ("", ""))
    assert len(listed) == (word == wrong and not spec.paired)
    assert [text for text in listed if f"give {right}" not in text] == []


@pytest.mark.parametrize("name", list(IMAGES))
def test_a_penalty_is_for_what_is_better_when_less(name, tmp_path: Path):
    listed = problems(suite(objective=Objective(penalties=(Penalty(metric=name, weight=1.0),))), tmp_path)
    assert len(listed) == (IMAGES[name].better == "higher")
    assert [text for text in listed if "at_least" not in text] == []
