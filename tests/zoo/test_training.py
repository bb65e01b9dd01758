"""The training loop of the zoo: killed and started again it ends where an undisturbed run ends."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from harness.zoo import store
from harness.zoo.training import kinds, packed, unet
from harness.zoo.training.captions import WORD
from harness.zoo.training.clip import fitting
from harness.zoo.training.loop import Dice, Recipe, Setting, fit
from harness.zoo.training.pack import pack_adapters
from harness.zoo.training.plan import ADAPTERS, GROUPS, STAGES

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


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight pictures and two steps of two for every adapter."""
    shown = packed.scenes("sketch")[:8]
    for module in (packed, unet, kinds):
        monkeypatch.setattr(module, "scenes", lambda _: shown)
    monkeypatch.setattr(kinds, "SKETCH", replace(kinds.SKETCH, steps=2, batch=2, warmup=1))
    monkeypatch.setattr(kinds, "INVERSION", replace(kinds.INVERSION, steps=2, batch=2, warmup=1))


@pytest.mark.parametrize("name", ["loha", "lokr", "dora", "word"])
@pytest.mark.usefixtures("few")
def test_an_adapter_can_be_trained_from_the_packed_zoo_alone(name: str, tmp_path: Path) -> None:
    kinds.train_adapter(Setting(work=tmp_path), name)
    trained = torch.load(tmp_path / f"{name}.pt", weights_only=True)
    shipped = store.load_tensors(store.PARTS / f"{name}.safetensors")
    assert {key: tuple(value.shape) for key, value in trained.items()} == {key: value.shape for key, value in shipped.items()}
    assert all(value.isfinite().all() for value in trained.values())


@pytest.mark.usefixtures("few")
def test_only_the_word_s_own_vectors_are_trained(tmp_path: Path) -> None:
    kinds.train_adapter(Setting(work=tmp_path), "word")
    state = torch.load(tmp_path / "word.state.pt", weights_only=True)
    assert [tuple(weight.shape) for weight in state["weights"]] == [(2, 96)]
    first, second = torch.load(tmp_path / "word.pt", weights_only=True)[WORD]
    assert not torch.equal(first, second)


@pytest.mark.usefixtures("few")
def test_what_earlier_stages_left_behind_is_kept(tmp_path: Path) -> None:
    (tmp_path / "latents").mkdir()
    torch.save(torch.ones(1), tmp_path / "latents" / "sketch.pt")
    packed.fill_in(Setting(work=tmp_path))
    assert torch.equal(torch.load(tmp_path / "latents" / "sketch.pt", weights_only=True), torch.ones(1))
    base = torch.load(tmp_path / "base.pt", weights_only=True)["unet"]
    assert all(np.array_equal(base[key].numpy(), value.astype(np.float32)) for key, value in store.unet_tensors("base").items())
    assert not list(tmp_path.rglob("*.part"))


def test_packing_says_which_adapters_stay_as_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "PARTS", tmp_path / "parts")
    torch.save({"<a>": torch.ones(2, 3)}, tmp_path / "word.pt")
    pack_adapters(tmp_path, ADAPTERS)
    assert (tmp_path / "packed-adapters").read_text(encoding="utf-8") == "packed: word; as before: sketch, loha, lokr, dora\n"
    assert [path.name for path in (tmp_path / "parts").iterdir()] == ["word.safetensors"]
    assert store.load_tensors(tmp_path / "parts" / "word.safetensors")["<a>"].dtype == np.float16
