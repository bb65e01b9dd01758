"""Copies of a prompt are one cluster: no statistic gets narrower, or counts more prompts, by asking the same question again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from harness.declare.same_text import SAME_TEXT
from reports.gates.ratios import ratio_of_means, times
from reports.statistics.intervals import cluster_mean, cluster_means, paired_difference
from reports.statistics.margin_size import itself, tied_pairs
from reports.statistics.surface import fit_surface
from reports.verdict.scoring import score_table
from tests.rows import row

SCORE = row("score")


def table(copies: int) -> pd.DataFrame:
    """Three candidates at two guidances on six texts, each text under `copies` identifiers with equal values."""
    rng = np.random.default_rng(3)
    rows = []
    for text in range(6):
        hard = rng.normal(0, 5)
        for alpha in (0.0, 0.5, 1.0):
            for guidance in (3.0, 5.0):
                for seed in (1, 2):
                    score = 30 + hard + 4 * alpha + rng.normal(0, 2)
                    rows += [{"candidate": f"alpha={alpha:g}", "alpha": alpha, "guidance": guidance, "seed": seed, "score": score,
                              "objective": score, "prompt": f"p{text}-{copy}", SAME_TEXT: f"p{text}-0"} for copy in range(copies)]
    return pd.DataFrame(rows)


def of(rows: pd.DataFrame, alpha: float, guidance: float = 3.0) -> pd.DataFrame:
    return rows[(rows["alpha"] == alpha) & (rows["guidance"] == guidance)]


STATISTICS: dict[str, Callable[[pd.DataFrame], Any]] = {
    "mean": lambda t: cluster_mean(of(t, 1.0), SCORE),
    "means": lambda t: list(cluster_means(t, "score", ("candidate", "guidance")).values()),
    "paired difference": lambda t: paired_difference(of(t, 1.0), of(t, 0.0), SCORE),
    "ratio": lambda t: ratio_of_means(of(t, 1.0), of(t, 0.0), "score"),
    "times": lambda t: times(of(t, 1.0), of(t, 0.0), SCORE, 0.9),
    "cells": lambda t: [cell.behind for cell in score_table(t)],
    "objectives": lambda t: [cell.objective for cell in score_table(t)],
}


@pytest.mark.parametrize("name", STATISTICS)
def test_copies_of_prompts_change_no_interval(name: str) -> None:
    once, thrice = (STATISTICS[name](table(copies)) for copies in (1, 3))
    for before, after in zip(*(e if isinstance(e, list) else [e] for e in (once, thrice)), strict=True):
        assert (after.mean, after.low, after.high) == pytest.approx((before.mean, before.low, before.high))
        assert after.prompts == before.prompts


def test_one_text_has_no_interval_whatever_it_is_called() -> None:
    copies = table(8)
    same = copies[copies[SAME_TEXT] == "p0-0"]
    assert cluster_mean(of(same, 1.0), SCORE).low is None
    assert paired_difference(of(same, 1.0), of(same, 0.0), SCORE).low is None


def test_the_surface_and_the_noise_count_texts() -> None:
    copies = table(3)
    assert fit_surface(copies, ["alpha", "guidance"]).prompts == 6
    spread, pairs = itself(of(copies, 1.0), "score"), tied_pairs(copies, [("alpha=0", 3.0), ("alpha=1", 3.0)], "score")
    assert spread is not None
    assert pairs is not None
    assert (spread.prompts, pairs.prompts) == (6, 6)


# Prompts that differ in the negative alone are one question at CFG 1, and two above


def mixed() -> pd.DataFrame:
    """Six texts with two negatives each, at CFG 1, where both give the same picture, and at CFG 5."""
    rng = np.random.default_rng(5)
    rows = []
    for text in range(6):
        hard = rng.normal(0, 5)
        for alpha in (0.0, 0.5, 1.0):
            for guidance in (1.0, 5.0):
                values = [30 + hard + 4 * alpha + guidance + rng.normal(0, 2) for _ in "ab"]
                rows += [{"candidate": f"alpha={alpha:g}", "alpha": alpha, "guidance": guidance, "seed": 1, "score": value,
                          "objective": value, "prompt": f"p{text}-{negative}",
                          SAME_TEXT: f"p{text}-{'a' if guidance == 1 else negative}"}
                         for negative, value in zip("ab", values if guidance > 1 else values[:1] * 2, strict=True)]
    return pd.DataFrame(rows)


def test_a_cell_at_cfg_1_counts_texts_and_one_above_counts_negatives_too() -> None:
    counts = [cluster_mean(of(mixed(), 1.0, guidance), SCORE).prompts for guidance in (1.0, 5.0)]
    assert counts == [6, 12]


def test_a_comparison_with_a_cell_at_cfg_1_counts_texts_from_either_side() -> None:
    table, by = mixed(), ("prompt", "seed")
    low, high = of(table, 1.0, 1.0), of(table, 1.0, 5.0)
    there, back = paired_difference(high, low, SCORE, by), paired_difference(low, high, SCORE, by)
    assert (there.prompts, back.prompts, there.pairs) == (6, 6, 12)
    assert (there.mean, there.low) == pytest.approx((-back.mean, -back.high))
    assert paired_difference(of(table, 1.0, 5.0), of(table, 0.0, 5.0), SCORE).prompts == 12
    assert ratio_of_means(of(table, 1.0, 1.0), of(table, 0.0, 1.0), "score").prompts == 6


def test_all_cells_together_count_texts_and_lose_no_image() -> None:
    table = mixed()
    cells = score_table(table)
    assert {(cell.objective.prompts, cell.objective.pairs, cell.complete) for cell in cells} == {(6, 12, True)}
    assert {cell.behind.prompts for cell in cells} == {6}
    assert fit_surface(table, ["alpha", "guidance"]).prompts == 6
    pairs = tied_pairs(table, [("alpha=0", 1.0), ("alpha=1", 5.0)], "score")
    assert pairs is not None
    assert pairs.prompts == 6


def test_a_copy_under_another_negative_narrows_no_interval_at_cfg_1() -> None:
    table = mixed()
    once = table[table["prompt"].str.endswith("a")]
    both, single = (cluster_mean(of(rows, 0.5, 1.0), SCORE) for rows in (table, once))
    assert (both.mean, both.low, both.high) == pytest.approx((single.mean, single.low, single.high))
