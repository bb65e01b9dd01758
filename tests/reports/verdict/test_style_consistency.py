"""Style consistency is the share of a candidate's images that have its most common look, every prompt counting once."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from reports.read.run import Run
from reports.verdict.style_consistency import style_consistency

LOOKS = {"p1": ("anime", "anime"), "p2": ("anime", "photo"), "p3": ("photo", "anime")}


def run_of(run: Run, looks: dict[str, tuple[str | None, ...]]) -> Run:
    rows = [{"candidate": "alpha=0", "prompt": p, "guidance": 3.0, "style": s} for p, said in looks.items() for s in said]
    return replace(run, images=pd.DataFrame(rows))


def test_the_most_common_look_and_its_share_by_hand(merge_run: Run) -> None:
    found = style_consistency(run_of(merge_run, LOOKS), "alpha=0", 3.0)
    assert found.look == "anime"
    assert found.share.mean == pytest.approx((1 + 0.5 + 0.5) / 3)
    assert (found.share.prompts, found.share.pairs) == (3, 6)


def test_its_interval_holds_the_share_and_stays_within_0_and_1(merge_run: Run) -> None:
    share = style_consistency(run_of(merge_run, {f"p{i}": ("anime",) for i in range(9)} | {"x": ("oil",)}), "alpha=0", 3.0).share
    assert 0 <= (share.low or 0) < 0.9 < (share.high or 0) <= 1


def test_images_without_a_look_do_not_count(merge_run: Run) -> None:
    assert style_consistency(run_of(merge_run, {"p1": ("oil", None), "p2": (None, "oil")}), "alpha=0", 3.0).share.pairs == 2


def test_without_looks_it_is_not_measured(merge_run: Run) -> None:
    found = style_consistency(run_of(merge_run, {"p1": (None,)}), "alpha=0", None)
    assert (found.look, found.share.mean) == ("", None)
    never = replace(merge_run, images=merge_run.images.drop(columns="style"))
    assert style_consistency(never, "alpha=0", None).share.mean is None


def test_of_equally_common_looks_the_first_by_name_is_taken(merge_run: Run) -> None:
    assert style_consistency(run_of(merge_run, {"p1": ("photo",), "p2": ("anime",)}), "alpha=0", 3.0).look == "anime"
