"""The training loop of the zoo: killed and started again it ends where an undisturbed run ends."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from harness.zoo.training.clip import fitting
from harness.zoo.training.loop import Dice, Recipe, Setting, fit
from harness.zoo.training.plan import GROUPS, STAGES

TOY = Recipe(name="toy", steps=60, batch=4, rate=1e-2, warmup=5, average=0.9, seed=1)


def _train(work: Path, die_at: int | None) -> torch.Tensor:
    """A line fitted to noise; with `die_at`, the loss raises in that call."""
    torch.manual_seed(0)
    model, calls = nn.Linear(3, 1), iter(range(1000))

    def loss(dice: Dice) -> torch.Tensor:
        if next(calls) == die_at:
            raise KeyboardInterrupt
        x = torch.randn(4, 3, generator=dice.torch)
        return (model(x) - x.sum(dim=1, keepdim=True)).square().mean()

    fit(TOY, [(model, 1.0)], loss, Setting(work=work))
    return model.weight.detach().clone()


def test_a_killed_training_ends_where_an_undisturbed_one_does(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    whole = _train(tmp_path / "whole", None)
    with pytest.raises(KeyboardInterrupt):
        _train(tmp_path, 55)
    assert torch.equal(_train(tmp_path, None), whole)


def test_the_rate_warms_up_stays_and_falls_to_two_percent() -> None:
    recipe = replace(TOY, steps=1000, warmup=100, flat=0.5, linear=True)
    assert recipe.rate_at(49) == pytest.approx(0.5 * recipe.rate)
    assert recipe.rate_at(400) == recipe.rate
    assert recipe.rate_at(1000) == pytest.approx(0.02 * recipe.rate)


def test_the_dice_of_a_step_depend_on_seed_step_and_rank_alone() -> None:
    throws = [torch.randn(2, generator=Dice(*key).torch) for key in ((1, 2, 0), (1, 2, 0), (1, 3, 0), (1, 2, 1))]
    assert torch.equal(throws[0], throws[1])
    assert not torch.equal(throws[0], throws[2])
    assert not torch.equal(throws[0], throws[3])


def test_a_caption_that_names_less_fits_more_pictures() -> None:
    rows = np.array([[0, 1, 2, 0], [0, 1, 3, 0], [0, 4, 2, 0]])
    colour_only = np.array([[True, False, False]] * 3)
    assert fitting(rows, colour_only).tolist() == [[True, True, False], [True, True, False], [False, False, True]]


def test_every_stage_has_its_own_name_and_result() -> None:
    results = [stage.result for group in GROUPS for stage in group]
    assert len(set(STAGES)) == len(STAGES) == len(set(results))
