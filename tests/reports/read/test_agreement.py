"""How much the images of one reference are like each other: by hand, against the jackknife, and what has nothing to compare."""

from __future__ import annotations

import base64
import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from harness.declare import Gate, Suite
from harness.records import Measurement, Sample
from harness.records.images import EMBEDDING, SHOWN
from harness.records.json_lines import Record
from harness.records.sound_values import unsound
from harness.records.values import AGREEMENT, to_plain
from reports.gates import judge
from reports.read.agreement import agreement
from reports.read.run import Run, load_run
from reports.statistics.intervals import cluster_mean
from reports.verdict.recommending import recommend
from tests.reports import synthetic
from tests.rows import ROWS

RIGHT, UP, DIAGONAL = (1, 0), (0, 1), (1, 1)


def stored(vector: tuple[float, ...] | np.ndarray) -> str:
    return base64.b64encode(np.asarray(vector, dtype="<f2").tobytes()).decode()


def table(*rows: tuple[str, str, tuple[float, ...]], **columns: object) -> pd.DataFrame:
    """Rows of (prompt, reference, embedding)."""
    prompts, shown, vectors = zip(*rows, strict=True)
    return pd.DataFrame({"candidate": "a", "prompt": prompts, "guidance": 3.0, "split": "select", SHOWN: shown,
                         EMBEDDING: [stored(v) for v in vectors], **columns})


def test_seeds_of_one_prompt_agree_by_their_mean_cosine() -> None:
    of = table(("p", "anna", RIGHT), ("p", "anna", UP), ("p", "anna", DIAGONAL), ("q", "anna", RIGHT), ("q", "anna", RIGHT))
    half = 100 * np.sqrt(0.5)
    assert agreement(of).tolist() == pytest.approx([half / 2, half / 2, half, 100, 100], abs=0.1)


def test_three_prompts_of_a_reference_are_compared_with_each_other_and_two_are_not() -> None:
    of = table(("p", "anna", RIGHT), ("q", "anna", RIGHT), ("r", "anna", UP))
    # Pairs: 1, 0, 0. Own means 1/2, 1/2, 0; U = 1/3; moved to four times their distance from it.
    assert agreement(of).tolist() == pytest.approx([100, 100, -100], abs=0.1)
    assert agreement(of).mean() == pytest.approx(100 / 3, abs=0.1)
    assert agreement(of[:2]).isna().all()


@pytest.mark.parametrize(("column", "values"), [("candidate", "ab"), ("guidance", (1.0, 3.0)), ("split", ("select", "confirm")),
                                                (SHOWN, ("anna", "ben"))])
def test_images_of_another_candidate_guidance_split_or_reference_are_not_compared(column: str, values: object) -> None:
    of = table(("p", "anna", RIGHT), ("p", "anna", UP), **{column: list(values)})  # type: ignore[call-overload]
    assert agreement(of).isna().all()


def test_the_interval_over_prompts_is_that_of_the_jackknife_over_prompts() -> None:
    vectors = np.random.default_rng(4).normal(1, 1, (7, 5))
    of = table(*((f"p{n}", "anna", tuple(v)) for n, v in enumerate(vectors)))
    of[AGREEMENT.name] = agreement(of)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def mean_of_pairs(rows: list[int]) -> float:
        return 100 * float(np.mean([unit[a] @ unit[b] for a, b in itertools.combinations(rows, 2)]))

    left_out = [mean_of_pairs([row for row in range(7) if row != out]) for out in range(7)]
    error = np.sqrt(6 / 7 * np.sum((np.array(left_out) - np.mean(left_out)) ** 2))
    estimate = cluster_mean(of, AGREEMENT)
    assert estimate.mean == pytest.approx(mean_of_pairs(list(range(7))), abs=0.1)
    assert estimate.error == pytest.approx(error, rel=0.01)


@pytest.mark.parametrize("text", ["", "not base64!", stored((np.nan, 1)), stored((0, 0)), base64.b64encode(b"abc").decode()])
def test_a_text_that_is_no_embedding_counts_as_absent(text: str) -> None:
    of = table(("p", "anna", RIGHT), ("p", "anna", RIGHT), ("p", "anna", UP))
    of.loc[2, EMBEDDING] = text
    assert agreement(of).isna().tolist() == [False, False, True]


@pytest.mark.parametrize("details", [{EMBEDDING: 3}, {EMBEDDING: "A" * 20000}, {SHOWN: ["x"]}])
def test_a_journal_with_other_details_has_no_such_measurement(details: dict[str, object], merge_run: Run) -> None:
    cell = next(iter(merge_run.images.itertuples()))
    record = Measurement(sample=str(cell.sample), candidate="a", cell=synthetic.Cell(prompt="p", seed=1, guidance=3.0),
                         metric="likeness", version=2, values={"likeness": 1.0}, details=details)
    assert "details" in unsound(record)


def likened(folder: Path, suite: Suite) -> Run:
    """A run whose images all have an embedding: of the candidate "alpha=0" always the same, of the others by prompt and seed."""
    written = synthetic.write_run(folder, suite, metrics={**synthetic.METRICS, "likeness": {**to_plain(ROWS["likeness"])}})
    records: list[Record] = []
    journal = synthetic.Journal(written / "journal.jsonl")
    for sample in [record for record in journal.read()[0] if isinstance(record, Sample)]:
        rng = np.random.default_rng([int(sample.cell.prompt[1:]), sample.cell.seed])
        vector = np.ones(8) + (0 if sample.candidate == "alpha=0" else rng.normal(0, 1, 8))
        records.append(Measurement(
            sample=sample.key, candidate=sample.candidate, cell=sample.cell, metric="likeness", version=2,
            values={"likeness": 50.0}, details={EMBEDDING: stored(vector), SHOWN: "anna"}))
    journal.add(records)
    return load_run(written)


def suite(gate: Gate, seeds: tuple[int, ...]) -> Suite:
    grid = replace(synthetic.SMALL, prompts=synthetic.prompts(6, 6), seeds=seeds)
    every = synthetic.merge_suite(grid=grid, gates=(gate,))
    return replace(every, candidates=every.candidates[:2])


def test_a_gate_asks_whether_a_character_stays_the_same(tmp_path: Path) -> None:
    gate = Gate(value=AGREEMENT.name, at_least=95, candidates=("alpha=0", "alpha=0.15"))
    run = likened(tmp_path, suite(gate, (1, 2)))
    verdicts = {v.candidate: v for v in judge(run, recommend(run))}
    assert verdicts["alpha=0"].status == "passed"
    assert verdicts["alpha=0"].observed == pytest.approx(100, abs=0.1)
    assert verdicts["alpha=0.15"].status == "failed"
    assert run.row(AGREEMENT.name).better == "nearer"


def test_where_no_reference_has_two_images_the_gate_says_so(tmp_path: Path) -> None:
    small = replace(suite(Gate(value=AGREEMENT.name, at_least=95, candidates=("alpha=0",)), (1,)), grid=synthetic.SMALL)
    run = likened(tmp_path, small)
    (verdict,) = judge(run, recommend(run))
    assert (verdict.status, verdict.reason) == ("not_measured", AGREEMENT.undefined)
    assert all(gap.expected for gap in run.missing if gap.value == AGREEMENT.name)


def test_a_run_without_likeness_has_no_such_value(merge_run: Run) -> None:
    assert AGREEMENT.name not in merge_run.values
    assert AGREEMENT.name not in merge_run.images.columns
