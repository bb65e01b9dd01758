"""Who is a control of whom: by the ends of an axis, or by what the other candidates are merged from."""

from __future__ import annotations

from harness.declare import Blocks, Candidate, Merge
from reports.verdict.candidates import controls, parents
from tests.reports import synthetic

A, B = "zoo:photo", "zoo:anime"
BY_BLOCK = Candidate(name="search 7", model=Merge(a=A, b=B, alpha=Blocks(preset="GRAD_V")))


def test_the_ends_of_an_axis_are_the_parents() -> None:
    assert controls(synthetic.merge_suite()) == {"alpha=0": "parent A", "alpha=1": "parent B"}


def test_without_an_axis_plain_models_that_others_merge_are_the_parents() -> None:
    made = (Candidate(name="A", model=A), Candidate(name="B", model=B), BY_BLOCK)
    suite = synthetic.merge_suite(candidates=made, baseline="A")
    assert controls(suite) == {"A": "parent A", "B": "parent B"}
    assert parents(suite) == ("A", "B")


def test_without_an_axis_merges_at_the_ends_are_the_parents() -> None:
    ends = tuple(Candidate(name=f"alpha={x:g}", model=Merge(a=A, b=B, alpha=x), axes={"alpha": x}) for x in (0.0, 0.5, 1.0))
    suite = synthetic.merge_suite(candidates=(*ends, BY_BLOCK))
    assert controls(suite) == {"alpha=0": "parent A", "alpha=1": "parent B"}


def test_a_quantized_or_adapted_model_is_nobodys_parent() -> None:
    made = (Candidate(name="A", model=A, quantization="bf16"), BY_BLOCK)
    assert controls(synthetic.merge_suite(candidates=made, baseline="A")) == {"A": "baseline"}
