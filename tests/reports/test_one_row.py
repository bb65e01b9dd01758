"""A metric is one function and one row: this one is known to no other file, and every report says its title, unit and range."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.declare import BASELINE, Constraint, Gate, Objective
from harness.metrics import ImageScore, ImageSet, Metric
from harness.records import Journal, Measurement, Sample, ValueSpec
from harness.records.values import to_plain
from reports import judge, load_run, recommend
from reports.compare.runs import compare
from reports.compare.views import markdown as compared
from reports.figures import FIGURES
from reports.gates import FAILED, PASSED
from reports.page.build import render
from reports.page.explorer import explorer
from reports.page.summary import markdown
from reports.read.run import Run
from reports.statistics.intervals import cluster_mean
from reports.trend.series import read_trend
from reports.trend.views import lines_plot
from reports.verdict.margins import Measured, margins
from tests.reports import synthetic

TITLE = "Glare (a test's own)"


def measure(images: ImageSet) -> list[ImageScore]:
    return [ImageScore(values={"glare": float(image.mean() / 255)}) for image in images.images]


GLARE = Metric(measure=measure, version=3, paper="https://example.org/glare", values=(
    ValueSpec(name="glare", title=TITLE, unit="share of samples", better="lower", kind="share", display="percent",
              definition="mean level of the image's samples"),))
GATES = (Gate(value="glare", at_most=0.999), Gate(value="glare", at_least=0.999), Gate(value="glare", not_worse_than=BASELINE,
                                                                                      margin=0.5))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The planted run with the metric's own rows in its run.json and what it measures on the pictures in its journal."""
    folder = tmp_path_factory.mktemp("one_row") / "run"
    suite = synthetic.merge_suite(gates=GATES, objective=Objective(constraints=(Constraint(metric="glare", at_most=0.9),)))
    rows = {spec.name: to_plain(spec) for spec in GLARE.rows("glare")}
    synthetic.write_run(folder, suite, metrics={**synthetic.METRICS, **rows})
    journal = Journal(folder / "journal.jsonl")
    samples = [record for record in journal.records([]) if isinstance(record, Sample)]
    scores = measure(ImageSet(images=np.stack([np.asarray(Image.open(folder / s.path).convert("RGB")) for s in samples]),
                              texts=("",) * len(samples)))
    journal.add([Measurement(sample=s.key, candidate=s.candidate, cell=s.cell, metric="glare", version=GLARE.version,
                             values=score.values) for s, score in zip(samples, scores, strict=True)])
    return load_run(folder)


def test_the_run_knows_the_row_without_the_metric(run: Run) -> None:
    assert run.row("glare") == GLARE.rows("glare")[0]


def test_its_interval_stays_within_its_range(run: Run) -> None:
    sure = run.images.assign(glare=1.0)
    sure.loc[sure.index[0], "glare"] = 0.0
    of = cluster_mean(sure, run.row("glare"))
    assert 0 <= (of.low or 0) < (of.mean or 0) < (of.high or 0) <= 1


def test_gates_judge_it_by_its_direction_and_in_its_unit(run: Run) -> None:
    at_most, at_least, not_worse = judge(run, recommend(run))
    assert [v.status for v in (at_most, at_least, not_worse)] == [PASSED, FAILED, PASSED]
    assert (at_most.limit, not_worse.limit) == ("at most 99.9 %", "not worse than baseline by more than 50.0 %")


def test_a_constraint_rules_cells_out_by_it(run: Run) -> None:
    strict = replace(run, suite=replace(run.suite, objective=Objective(constraints=(Constraint(metric="glare", at_most=1e-6),))))
    ruled_out = {cell.ruled_out for cell in recommend(strict).cells}
    assert all(TITLE in why and "at most 0.0 %" in why for why in ruled_out)


def test_a_calibration_has_its_noise(run: Run) -> None:
    rows = margins(Measured(run=run, names=("alpha=0", "alpha=0.15"), suite=run.suite, guidance=3.0))
    assert {row.gate for row in rows if row.value == "glare"} >= {gate.name for gate in GATES}


def test_the_figures_offer_it(run: Run) -> None:
    verdict = recommend(run)
    heatmap = FIGURES["heatmap"].build(run, verdict)
    assert TITLE in [choice["label"] for choice in heatmap.layout.meta["switch"]["choices"]]
    along = FIGURES["candidates"].build(run, verdict)
    assert any(TITLE in note.text and "lower is better" in note.text for note in along.layout.annotations)
    limits = FIGURES["limits"].build(run, verdict)
    assert sum(TITLE in note.text for note in limits.layout.annotations) == len(GATES)


def test_the_page_and_its_summary_say_it(run: Run) -> None:
    verdict = recommend(run)
    page = render(run, verdict, judge(run, verdict))
    assert re.search(r'<th scope="col">Glare \(a test(&#39;|\')s own\)</th>', page)
    assert "share of samples" in page
    assert re.search(r"mean level of the image(&#39;|')s samples", page)
    assert "glare" in markdown(run, verdict, judge(run, verdict)).lower()
    assert TITLE in explorer(run, verdict).data["values"]


def test_a_comparison_and_a_trend_have_it(run: Run) -> None:
    assert "Glare" in compared(compare(run, run))
    trend = read_trend([Path(run.folder)])
    assert "glare" in trend.values
    assert any(note.text.startswith("Glare") for note in lines_plot(trend).layout.annotations)
