"""Failed images: known tables with planted failures, counted by kind, and never counted where nothing was measured."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from harness.declare import Gate
from harness.records import Failure
from reports.read.run import Gap, Run
from reports.verdict.unusable_images import broken

NAME = "alpha=0.45"


def with_values(run: Run, column: str, values: list[Any], name: str = NAME) -> Run:
    """The run in which the first images of a candidate have these values in a column."""
    images = run.images.copy()
    places = images.index[images["candidate"] == name][:len(values)]
    for place, value in zip(places, values, strict=True):
        images.at[place, column] = value
    return replace(run, images=images)


def test_sound_images_are_none_of_all_with_an_interval_above_zero(merge_run: Run) -> None:
    found = broken(merge_run, NAME)
    assert (found.count, found.of, found.kinds) == (0, 120, {})
    assert found.share is not None
    assert (found.share.low, found.share.prompts) == (0.0, 12)


@pytest.mark.parametrize(("column", "value", "kind"), [
    ("clipped_share", 0.51, "clipped"), ("clusters", [[50.0, 0, 0, 1.0]], "of one colour"),
    ("clusters", [[50.0, 0, 0, 0.7], [51.0, 0, 0, 0.3]], "of one colour"), ("clip_score", 19.99, "CLIP score below 20.00")])
def test_each_kind_of_failed_image_is_counted_by_its_kind(merge_run: Run, column: str, value: object, kind: str) -> None:
    found = broken(with_values(merge_run, column, [value, value]), NAME)
    assert (found.count, found.of, found.kinds) == (2, 120, {kind: 2})


@pytest.mark.parametrize(("column", "value"), [
    ("clipped_share", 0.5), ("clusters", [[50.0, 0, 0, 0.5], [53.0, 0, 0, 0.5]]), ("clusters", "torn"), ("clusters", [])])
def test_a_sound_or_unreadable_image_is_not_called_failed(merge_run: Run, column: str, value: object) -> None:
    assert broken(with_values(merge_run, column, [value]), NAME).count == 0


def test_an_image_of_no_numbers_has_failed_though_nothing_was_measured_on_it(merge_run: Run) -> None:
    key = merge_run.images[merge_run.images["candidate"] == NAME]["sample"].iloc[0]
    run = with_values(with_values(merge_run, "clipped_share", [np.nan]), "clusters", [np.nan])
    found = broken(replace(with_values(run, "clip_score", [np.nan]), defects={key: "NaN or infinite pixels"}), NAME)
    assert (found.count, found.of, found.kinds) == (1, 120, {"no finite numbers": 1})


def test_an_image_that_failed_in_two_ways_counts_once(merge_run: Run) -> None:
    run = with_values(with_values(merge_run, "clipped_share", [1.0]), "clusters", [[[100.0, 0, 0, 1.0]]])
    assert (broken(run, NAME).count, broken(run, NAME).kinds) == (1, {"clipped": 1, "of one colour": 1})


def test_images_that_a_failed_candidate_never_made_have_failed(merge_run: Run) -> None:
    failure = Failure(candidate=NAME, stage="sample", error="SamplingError", message="3 of 16 images hold NaN")
    gap = Gap(candidate=NAME, value="image", count=30, why="sample: SamplingError")
    run = replace(merge_run, failures=(failure,), missing=(gap,),
                  images=merge_run.images[(merge_run.images["candidate"] != NAME) | (merge_run.images["seed"] == 1)])
    found = broken(run, NAME)
    assert (found.count, found.of, found.kinds, found.share) == (30, 90, {"not made": 30}, None)


def test_images_that_were_not_asked_for_are_no_failures_and_none_measured_is_not_zero(merge_run: Run) -> None:
    gap = Gap(candidate=NAME, value="image", count=120, why="not selected for this run")
    run = replace(merge_run, missing=(gap,), images=merge_run.images[merge_run.images["candidate"] != NAME])
    assert (broken(run, NAME).of, broken(run, NAME).why) == (0, "not selected for this run")


def test_without_a_metric_that_tells_nothing_is_said_of_failed_images(merge_run: Run) -> None:
    bare = replace(merge_run, images=merge_run.images.drop(columns=["clusters", "clipped_share"]),
                   suite=replace(merge_run.suite, gates=(Gate(value="coverage"),)))
    assert (broken(bare, NAME).of, broken(bare, NAME).why) == (0, "no metric of this run can tell failed images")
