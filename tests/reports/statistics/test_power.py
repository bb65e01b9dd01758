"""The margin of a calibration does what it says: known answers, and gates judged in simulation."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm
from scipy.stats import t as student_t

from reports.gates import FAILED, PASSED, decide
from reports.statistics import margin_size as cal
from reports.statistics.intervals import cluster_means

SPREAD = cal.Spread(prompt=2.43, image=7.64, prompts=20, pairs=40, source="test")


def share_of(status: str, margin: float, truth: float, design: cal.Design, draws: int = 2000) -> float:
    """How often the gate's own code says `status` of drawn differences."""
    rng = np.random.default_rng(5)
    own = rng.normal(0, SPREAD.prompt, (draws, design.prompts, 1))
    x = truth + own + rng.normal(0, SPREAD.image, (draws, design.prompts, design.seeds))
    draw, prompt, _ = np.indices(x.shape)
    drawn = pd.DataFrame({"draw": draw.ravel(), "prompt": prompt.ravel(), "x": x.ravel()})
    found = cluster_means(drawn, "x", ["draw"], design.level).values()
    return float(np.mean([decide(one.low, one.high, at_least=-margin) == status for one in found]))


@pytest.mark.parametrize(("prompts", "seeds", "level"), [(8, 2, 0.95), (20, 4, 0.95), (12, 1, 0.975)])
def test_an_equal_candidate_passes_the_smallest_margin_as_often_as_it_says(prompts: int, seeds: int, level: float) -> None:
    design = cal.Design(prompts=prompts, seeds=seeds, level=level)
    margin = cal.smallest_margin(SPREAD, design, 0.95)
    assert cal.pass_rate(margin, SPREAD, design) == pytest.approx(0.95, abs=1e-6)
    assert share_of(PASSED, margin, 0.0, design) == pytest.approx(0.95, abs=0.015)


def test_a_drop_of_the_size_that_is_named_fails_in_nine_of_ten() -> None:
    design = cal.Design(prompts=10, seeds=2)
    drop = cal.failing_drop(1.5, SPREAD, design, 0.9)
    assert share_of(FAILED, 1.5, -drop, design) == pytest.approx(0.9, abs=0.015)


def test_another_margin_passes_as_often_as_it_says() -> None:
    design = cal.Design(prompts=10, seeds=3)
    assert share_of(PASSED, 3.0, 0.0, design) == pytest.approx(cal.pass_rate(3.0, SPREAD, design), abs=0.02)


def test_with_many_prompts_the_margin_is_the_sum_of_two_normal_quantiles() -> None:
    design = cal.Design(prompts=20_000, seeds=1)
    expected = (norm.ppf(0.975) + norm.ppf(0.95)) * SPREAD.error(20_000, 1)
    assert cal.smallest_margin(SPREAD, design) == pytest.approx(expected, rel=1e-3)


def test_a_margin_of_nothing_passes_in_one_of_forty() -> None:
    assert cal.pass_rate(0.0, SPREAD, cal.Design(prompts=9, seeds=2)) == pytest.approx(0.025)
    assert cal.prompts_needed(0.0, SPREAD, cal.Design(prompts=9, seeds=2)) is None


def test_two_prompts_need_a_huge_margin_and_one_has_none() -> None:
    two = cal.smallest_margin(SPREAD, cal.Design(prompts=2, seeds=1))
    assert two > 20 * SPREAD.error(2, 1) > 0
    with pytest.raises(ValueError, match="1 prompts: an interval needs at least two"):
        cal.smallest_margin(SPREAD, cal.Design(prompts=1, seeds=1))


@pytest.mark.parametrize("margin", [0.5, 2.0, 6.0])
def test_the_prompts_needed_are_the_fewest_that_do(margin: float) -> None:
    design = cal.Design(prompts=10, seeds=2)
    count = cal.prompts_needed(margin, SPREAD, design)
    assert count is not None
    assert cal.pass_rate(margin, SPREAD, cal.Design(prompts=count, seeds=2)) >= 0.95
    assert cal.pass_rate(margin, SPREAD, cal.Design(prompts=count - 1, seeds=2)) < 0.95


def test_what_does_not_vary_needs_no_margin() -> None:
    nothing = cal.Spread(prompt=0, image=0, prompts=4, pairs=8, source="test")
    design = cal.Design(prompts=4, seeds=2)
    assert cal.smallest_margin(nothing, design) == 0
    assert cal.pass_rate(0.0, nothing, design) == 1
    assert cal.prompts_needed(0.0, nothing, design) == 2


def table(values: dict[tuple[str, int], float], candidate: str = "A", guidance: float = 3.0) -> pd.DataFrame:
    return pd.DataFrame([{"prompt": p, "seed": s, "x": v, "candidate": candidate, "guidance": guidance}
                         for (p, s), v in values.items()])


def test_the_spread_of_two_samplings_by_hand() -> None:
    # Variances within prompts are 2 and 8, their mean is 5, and a difference of two images has twice that.
    images = table({("a", 1): 0, ("a", 2): 2, ("b", 1): 10, ("b", 2): 14})
    found = cal.again(images, "x")
    assert found is not None
    assert (found.prompt, found.image, found.prompts, found.pairs) == (0.0, math.sqrt(10), 2, 2)
    # Prompt means are 1 and 12, of variance 60.5, of which 5 / 2 is the images' own.
    value = cal.itself(images, "x")
    assert value is not None
    assert (value.prompt**2, value.image**2) == (pytest.approx(58), pytest.approx(5))


def test_the_spread_of_tied_cells_by_hand_and_over_pairs() -> None:
    one = table({("a", 1): 1, ("a", 2): 3, ("b", 1): 5, ("b", 2): 9})
    other = table({("a", 1): 0, ("a", 2): 0, ("b", 1): 0, ("b", 2): 0}, candidate="B")
    found = cal.tied_pairs(pd.concat([one, other]), [("A", 3.0), ("B", 3.0)], "x")
    assert found is not None
    # Differences 1, 3 and 5, 9: variances 2 and 8, means 2 and 7 of variance 12.5 less 5 / 2.
    assert (found.image**2, found.prompt**2) == (pytest.approx(5), pytest.approx(10))
    assert cal.tied_pairs(one, [("A", 3.0)], "x") is None


def test_values_that_are_not_there_have_no_spread() -> None:
    images = table({("a", 1): 0, ("b", 1): 2})
    assert cal.again(images, "x") is None
    assert cal.again(images, "y") is None
    assert cal.itself(images, "x") is None


def test_spreads_that_were_planted_are_found_again() -> None:
    rng = np.random.default_rng(3)
    prompt = rng.normal(0, 2.0, 300)
    images = table({(f"p{p}", s): prompt[p] + rng.normal(0, 1.0) for p in range(300) for s in range(4)})
    value, difference = cal.itself(images, "x"), cal.again(images, "x")
    assert value is not None
    assert difference is not None
    assert (value.prompt, value.image) == (pytest.approx(2.0, rel=0.1), pytest.approx(1.0, rel=0.1))
    assert difference.image == pytest.approx(math.sqrt(2), rel=0.1)


def test_rounds_of_equal_candidates_need_no_more_than_their_range_and_no_less_than_an_order_effect() -> None:
    def apart(mine: np.ndarray, theirs: np.ndarray) -> float:
        return float(mine.max() - theirs.min())

    def most(*rounds: list[float]) -> float:
        return float(np.quantile(cal.timed(rounds, apart, 3), 0.95))

    assert most([1.0, 1.0, 1.0], [1.0, 1.0, 1.0]) == 0
    assert most([1.0, 1.0, 1.0], [1.2, 1.2, 1.2]) == pytest.approx(0.2)
    assert 0.2 <= most([1.0, 1.1, 1.3], [1.05, 1.0, 1.2]) <= 0.3 + 1e-9
    with pytest.raises(ValueError, match="the two of an A/A run"):
        cal.timed([[1.0]], apart, 3)


@pytest.mark.parametrize(("margin", "up"), [(0.4132, 0.42), (0.42, 0.42), (12.01, 13.0), (1234.0, 1300.0), (0.0, 0.0),
                                            (0.000071, 0.000071), (0.0999, 0.1)])
def test_a_margin_to_paste_is_rounded_up(margin: float, up: float) -> None:
    assert cal.rounded_up(margin) == pytest.approx(up)


def test_the_quantile_is_that_of_the_gates_interval() -> None:
    design = cal.Design(prompts=6, seeds=1, level=0.9)
    tiny = cal.pass_rate(1e6, SPREAD, design)
    assert tiny == pytest.approx(1)
    # The margin at which one half passes: a little above the quantile, since the estimated error is skewed.
    half = cal.smallest_margin(SPREAD, design, 0.5) / SPREAD.error(6, 1)
    assert half == pytest.approx(student_t.ppf(0.95, 5), rel=0.1)
