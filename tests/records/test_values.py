"""The rows of values: each is sound by itself, goes through run.json unchanged, and an older run.json is filled up alike."""

import json
import re
from typing import Any

import pytest

from harness.metrics import METRICS
from harness.records import RUN_VALUES, ValueSpec
from harness.records.values import costs, counts, spec_of, to_plain
from reports.read.value_rows import EARLIER, rows_of

OF_METRICS = {spec.name: spec for name, row in METRICS.items() for spec in row.rows(name)}
ALL = {**OF_METRICS, **RUN_VALUES}
AS_IN_0_1_0 = ("metric", "unit", "better", "definition", "version")


def brightness(**changes: Any) -> ValueSpec:
    return ValueSpec(**{"name": "brightness", "title": "Brightness", "unit": "share", "better": "nearer", "kind": "share",
                        "definition": "mean luma", **changes})


def test_no_two_values_share_a_name_or_a_title() -> None:
    assert len(ALL) == len(OF_METRICS) + len(RUN_VALUES)
    assert len({spec.title for spec in ALL.values()}) == len(ALL)


@pytest.mark.parametrize("spec", ALL.values(), ids=ALL)
def test_every_row_can_be_told_to_a_reader(spec: ValueSpec) -> None:
    assert re.fullmatch(r"[a-z][a-z0-9_]*", spec.name)
    assert spec.title[0].isupper()
    assert spec.unit
    assert spec.definition
    assert spec.version


@pytest.mark.parametrize("name", OF_METRICS)
def test_a_row_goes_through_run_json_unchanged(name: str) -> None:
    head = json.loads(json.dumps({"metrics": {name: to_plain(OF_METRICS[name])}}))
    assert rows_of(head) == {name: OF_METRICS[name]}


@pytest.mark.parametrize("name", EARLIER)
def test_a_row_of_version_0_1_0_is_filled_up_to_the_row_of_today(name: str) -> None:
    spec = OF_METRICS[name]
    head = {"metrics": {name: {field: getattr(spec, field) for field in AS_IN_0_1_0}}}
    paper = rows_of(head)[name].paper
    assert rows_of(head)[name] == ValueSpec(**{**to_plain(spec), "name": name, "shown": spec.shown, "paper": paper})


def test_an_unknown_row_of_version_0_1_0_is_read_by_what_it_says() -> None:
    head = {"metrics": {"lost_share": {"metric": "mine", "unit": "share", "better": "lower", "version": 3,
                                       "definition": "pixels unlike the baseline's"}}}
    row = rows_of(head)["lost_share"]
    assert (row.title, row.kind, row.low, row.high, row.paired) == ("lost share", "share", 0.0, 1.0, True)


@pytest.mark.parametrize(("changes", "message"), [
    ({"better": "more"}, "better is 'more'"), ({"kind": "ratio"}, "kind is 'ratio'"),
    ({"kind": "number", "low": 2.0, "high": 1.0}, "low is 2.0 and high 1.0"), ({"high": 100.0}, "from 0 to 1"),
    ({"shown": ("page",)}, "'page'"), ({"display": "stars"}, "display is 'stars'")])
def test_a_row_that_contradicts_itself_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"'brightness'.*{message}"):
        brightness(**changes)


def test_a_share_goes_from_0_to_1_without_saying_so() -> None:
    assert (brightness().low, brightness().high) == (0.0, 1.0)


def test_counts_and_costs_are_the_values_of_a_run_as_a_whole() -> None:
    assert counts() == ("coverage", "identities", "failures", "failure_rate")
    assert costs() == ("seconds_per_image", "peak_bytes", "weights_bytes")


def test_a_value_without_a_row_is_a_number_of_its_own_name() -> None:
    row = spec_of({}, "lost_pixels")
    assert (row.title, row.kind, row.low) == ("lost pixels", "number", None)
    assert spec_of({}, "failures") is RUN_VALUES["failures"]


def test_the_rows_of_paired_metrics_say_which_values_need_the_baseline() -> None:
    assert {name for name, spec in OF_METRICS.items() if spec.paired} == {
        "psnr_db", "exact_match", "ssim", "ms_ssim", "palette_drift", "edge_f1"}
    assert {name for name, row in METRICS.items() if row.paired} == {"psnr", "ssim", "ms_ssim", "palette", "edges"}
