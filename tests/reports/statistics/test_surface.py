"""Surfaces and sweet spots: an independent Gaussian process, planted shapes, and how often the plateau holds the true best."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from reports.statistics.plateau import sweet_spot
from reports.statistics.surface import Surface, fit_surface

ALPHAS = (0.0, 0.2, 0.35, 0.5, 0.65, 0.8, 1.0)
SCALES = (1.0, 3.0, 5.0, 7.5, 15.0)


def hill(alpha: float, guidance: float) -> float:
    """Highest at alpha 0.5, guidance 5."""
    return -12 * (alpha - 0.5) ** 2 - 3 * np.log(guidance / 5) ** 2


def sampled(rng: np.random.Generator, prompts: int = 12, noise: float = 1.0, scales: tuple[float, ...] = SCALES) -> pd.DataFrame:
    """Two images of each prompt at each point of the hill; prompts differ by far more than points do."""
    points = [(a, g, hill(a, g)) for a in ALPHAS for g in scales]
    rows = [(f"p{p:02d}", seed, a, g, float(50 + shift + truth + rng.normal(0, noise)))
            for p, shift in enumerate(rng.normal(0, 20, prompts)) for seed in (1, 2) for a, g, truth in points]
    return pd.DataFrame(rows, columns=["prompt", "seed", "alpha", "guidance", "objective"])


def made(points: list[tuple[float, ...]], mean: list[float], error: float, axes: tuple[str, ...] = ("alpha",)) -> Surface:
    """A surface whose points err independently."""
    values = np.array(mean)
    return Surface(axes=axes, points=np.array(points), measured=values, mean=values, prompts=9, lengths=(1.0,) * len(axes),
                   covariance=error**2 / 2 * np.eye(len(mean)))


def test_the_surface_is_that_of_scikit_learns_process_when_cells_err_independently(monkeypatch: pytest.MonkeyPatch) -> None:
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern

    monkeypatch.setattr("reports.statistics.surface._noise", lambda rows: 0.3 * np.eye(rows.shape[1]))
    monkeypatch.setattr("reports.statistics.surface._most_likely", lambda *_: (40.0, np.array([0.7])))
    table = sampled(np.random.default_rng(1), scales=(5.0,))
    found = fit_surface(table, ["alpha"])
    kernel = ConstantKernel(40.0**2, "fixed") * Matern(0.7, "fixed", nu=2.5)
    peer = GaussianProcessRegressor(kernel, alpha=0.3, optimizer=None).fit(np.array(ALPHAS)[:, None], found.measured - 50)
    mean, covariance = peer.predict(np.array(ALPHAS)[:, None], return_cov=True)
    assert found.mean - 50 == pytest.approx(mean, abs=0.05)  # the level is ours alone, and so wide a prior hardly needs it
    assert found.covariance == pytest.approx(covariance, abs=1e-6)


def test_the_surface_is_nearer_to_the_truth_than_the_cell_means() -> None:
    found = [fit_surface(sampled(np.random.default_rng(i), noise=3.0), ["alpha", "guidance"]) for i in range(8)]
    truth = np.array([hill(a, g) for a, g in found[0].points])
    worst = {"surface": 0.0, "means": 0.0}
    for s in found:
        for name, y in (("surface", s.mean), ("means", s.measured)):
            worst[name] += float(np.square(y - y.mean() - truth + truth.mean()).mean())
    assert worst["surface"] < 0.6 * worst["means"]


def test_the_plateau_holds_the_true_best_in_at_least_93_percent_of_tables() -> None:
    rng = np.random.default_rng(2)
    held = []
    for _ in range(100):
        surface = fit_surface(sampled(rng, prompts=8, noise=3.0, scales=(5.0,)), ["alpha"])
        held.append(sweet_spot(surface).plateau[ALPHAS.index(0.5)])
    assert np.mean(held) >= 0.93


def test_the_pick_is_near_the_planted_top_and_hopeless_guidance_is_off_the_plateau() -> None:
    surface = fit_surface(sampled(np.random.default_rng(3)), ["alpha", "guidance"])
    spot = sweet_spot(surface)
    assert hill(*surface.points[spot.pick]) > -0.5
    assert not any(g in (1.0, 15.0) for _, g in surface.points[spot.plateau])


def test_what_a_prompt_does_to_all_points_alike_is_no_noise() -> None:
    table = sampled(np.random.default_rng(4))
    shifted = table.assign(objective=table["objective"] + table["prompt"].map(lambda p: 1000.0 * int(p[1:])))
    one, other = fit_surface(table, ["alpha", "guidance"]), fit_surface(shifted, ["alpha", "guidance"])
    assert one.mean - one.mean.mean() == pytest.approx(other.mean - other.mean.mean(), abs=1e-3)


def test_images_without_any_noise_give_the_means_themselves() -> None:
    surface = fit_surface(sampled(np.random.default_rng(5), noise=0.0), ["alpha", "guidance"])
    assert surface.mean == pytest.approx(surface.measured, abs=0.05)
    assert surface.points[surface.best].tolist() == [0.5, 5.0]


def test_level_points_are_all_on_the_plateau_and_the_middle_and_low_guidance_are_preferred() -> None:
    points = [(a, g) for a in (0.0, 0.5, 1.0) for g in (3.0, 5.0)]
    spot = sweet_spot(made(points, [0.0, 0.1, 0.0, 0.0, 0.1, 0.0], 1.0, ("alpha", "guidance")))
    assert spot.plateau.all()
    assert points[spot.pick] == (0.5, 3.0)
    assert "alpha 0–1 and CFG 3–5 (6 of 6 points) did about as well as the best" in spot.sentence
    assert "the middle alpha and the lowest CFG" in spot.sentence


def test_a_point_two_deviations_below_is_no_part_of_the_plateau_by_hand() -> None:
    spot = sweet_spot(made([(0.0,), (0.5,), (1.0,)], [0.0, -1.95, -1.97], 1.0))
    assert spot.plateau.tolist() == [True, True, False]


def test_the_declared_preference_decides_within_one_deviation_of_the_best() -> None:
    surface = made([(0.0,), (0.5,), (1.0,), (1.5,)], [-1.5, -0.5, 0.0, -0.9], 1.0, ("weight",))
    assert sweet_spot(surface, {"weight": "lowest"}).pick == 1
    assert sweet_spot(surface, {"weight": "highest"}).pick == 3


def test_an_unknown_preference_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="not alpha='cheap'"):
        sweet_spot(made([(0.0,)] * 4, [0.0] * 4, 1.0), {"alpha": "cheap"})


def test_only_eligible_points_are_picked_and_they_are_measured_from_the_best_of_them() -> None:
    surface = made([(0.0,), (0.5,), (1.0,), (1.5,)], [-3.0, -1.0, -0.5, 9.0], 1.0, ("weight",))
    spot = sweet_spot(surface, {"weight": "lowest"}, eligible=np.array([True, True, True, False]))
    assert (spot.best, spot.pick) == (2, 1)
    assert spot.behind == pytest.approx(0.5)
    assert spot.near.tolist() == [False, True, True, False]


def test_no_eligible_point_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing to pick from"):
        sweet_spot(made([(0.0,)] * 4, [0.0] * 4, 1.0), eligible=np.zeros(4, dtype=np.bool_))


def test_the_most_another_point_may_be_better_is_the_normal_quantile_by_hand() -> None:
    surface = made([(0.0,), (0.5,), (1.0,)], [0.0, -1.0, 5.0], 1.0)
    among = np.array([True, True, False])
    assert surface.most_above(0, among, 0.95) == pytest.approx(-1.0 + 1.645, abs=0.08)
    assert surface.most_above(1, among, 0.95) == pytest.approx(1.0 + 1.645, abs=0.08)
    assert surface.most_above(0, among & False) == 0.0


def test_too_few_points_or_prompts_are_refused_with_their_numbers() -> None:
    table = sampled(np.random.default_rng(6))
    with pytest.raises(ValueError, match="there are 1 and 35"):
        fit_surface(table[table["prompt"] == "p00"], ["alpha", "guidance"])
    with pytest.raises(ValueError, match="no column 'weight'"):
        fit_surface(table, ["weight"])


def test_a_prompt_that_lacks_a_point_is_left_out() -> None:
    table = sampled(np.random.default_rng(7))
    gone = (table["prompt"] == "p03") & (table["alpha"] == 0.5)
    assert fit_surface(table[~gone], ["alpha", "guidance"]).prompts == 11


@pytest.mark.parametrize("score", [0.0, 72.5, 1e9])
def test_scores_that_are_all_the_same_make_a_level_surface(score: float) -> None:
    surface = fit_surface(sampled(np.random.default_rng(8)).assign(objective=score), ["alpha", "guidance"])
    assert surface.mean == pytest.approx(np.full(35, score))
    assert sweet_spot(surface).plateau.all()
