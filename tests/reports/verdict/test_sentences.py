"""The sentences that explain a verdict say what was declared."""

from __future__ import annotations

from harness.declare import DESIRABILITY, Constraint, Desirability, Objective
from reports.verdict.sentences import objective_words
from tests.rows import ROWS


def test_the_default_objective_is_written_as_a_formula() -> None:
    assert objective_words(Objective(), ROWS) == (
        "Objective of an image: CLIP score − 100 × Clipped pixels beyond 0.05 − 5 × Off-colour images.")


def test_constraints_and_desirabilities_are_named() -> None:
    parts = (Desirability(metric="clip_score", worst=20, best=30), Desirability(metric="saturation", worst=0.9, best=0.4))
    of = Objective(maximise=DESIRABILITY, penalties=(), desirabilities=parts,
                   constraints=(Constraint(metric="clipped_share", at_most=0.1),))
    assert objective_words(of, ROWS) == (
        "Objective of an image: 100 × the weighted geometric mean of the desirabilities of CLIP score and Saturation; a cell "
        "must keep Clipped pixels at most 0.1.")
