"""Which layers get which mode within a budget: known answers, and what every recipe must hold."""

from __future__ import annotations

import itertools
import random

import pytest

from harness.quantize.declared import _layers_of
from harness.sensitivity import BudgetError, Choice, LayerOptions, chosen, drawn, mixed_of, uniform
from harness.sensitivity.recipe import Option, refuse_budget

LOW, HIGH = "int4_weight_only", "int8_weight_only"


def layer(name: str, parameters: int, low: tuple[int, float], high: tuple[int, float]) -> LayerOptions:
    return LayerOptions(name=f"{name}.weight", parameters=parameters, options={
        LOW: Option(bytes=low[0], error=low[1]), HIGH: Option(bytes=high[0], error=high[1])})


def four_and_eight(name: str, parameters: int, error: float) -> LayerOptions:
    return layer(name, parameters, (parameters // 2, error), (parameters, 0.0))


LAYERS = [four_and_eight(*row) for row in (("a", 100, 1.0), ("b", 100, 3.0), ("c", 200, 4.0), ("d", 10, 0.0))]


def names_in(choice: Choice, mode: str) -> str:
    return "".join(sorted(name[0] for name, other in choice.modes.items() if other == mode))


@pytest.mark.parametrize(("bits", "larger"), [(4.0, ""), (4.9, ""), (5.0, "b"), (6.0, "ab"), (6.95, "bc"), (7.95, "abc")])
def test_bytes_go_where_the_error_falls_most_for_each_of_them(bits: float, larger: str) -> None:
    """b falls by 0.06 a byte, c by 0.04 and a by 0.02; d has nothing to gain. c does not fit into 6 bits beside b, and a does."""
    choice = chosen(LAYERS, bits)
    assert names_in(choice, HIGH) == larger
    assert choice.bits <= bits


@pytest.mark.parametrize(("bits", "facts"), [(3.9, "from 4.00 to 8.00"), (8.0, "Declare it"), (20, "Declare it"),
                                             (float("nan"), "out of reach")])
def test_a_budget_that_decides_nothing_is_refused_with_what_is_reached(bits: float, facts: str) -> None:
    for refusing in (lambda: chosen(LAYERS, bits), lambda: drawn(LAYERS, bits, 1), lambda: refuse_budget(LAYERS, bits)):
        with pytest.raises(BudgetError, match=facts):
            refusing()


def test_the_refused_budget_names_one_that_is_met() -> None:
    assert chosen(LAYERS, 4.0).bits == 4


def test_a_layer_that_the_smaller_mode_keeps_counts_with_all_its_bytes() -> None:
    """In the mode of few bits it stays as it is: 4 bytes per weight, and no error. The other mode is smaller there."""
    layers = [*LAYERS, layer("kept", 100, (400, 0.0), (100, 2.0))]
    cheap, dear = chosen(layers, 4.8), chosen(layers, 12.65)
    assert cheap.modes["kept.weight"] == HIGH
    assert dear.modes["kept.weight"] == LOW
    assert uniform(layers, LOW).bits == 8 * (50 + 50 + 100 + 5 + 400) / 510


def test_chance_has_the_same_bits_and_follows_its_seed() -> None:
    layers = [four_and_eight(f"l{number}", 10, 1.0) for number in range(60)]
    draws = [drawn(layers, 6.0, seed) for seed in (1, 2, 1)]
    assert draws[0] == draws[2] != draws[1]
    assert {choice.bits for choice in draws} == {6.0}


def test_a_recipe_has_no_more_error_than_any_by_chance() -> None:
    random.seed(0)
    layers = [four_and_eight(f"l{number}", 10, random.random()) for number in range(30)]

    def error(choice: Choice) -> float:
        return sum(of.options[choice.modes[of.name]].error for of in layers)

    assert all(error(chosen(layers, bits)) < error(drawn(layers, bits, seed)) for bits in (5, 6, 7) for seed in range(20))


NAMES = [f"{block}.{part}.{leaf}.weight" for block, part, leaf in itertools.product(
    ("up.1", "up.10", "mid"), ("attn", "ff"), ("a", "b"))] + ["conv.weight"]


@pytest.mark.parametrize("seed", range(40))
def test_the_mixed_gives_every_layer_its_mode(seed: int) -> None:
    draw = random.Random(seed)
    share = draw.choice([0.1, 0.5, 0.9])
    modes = {name: HIGH if draw.random() < share else LOW for name in NAMES}
    mixed = mixed_of(Choice(modes=modes, bits=6.0))
    assert {name: mixed.mode_of(name) for name in NAMES} == modes
    assert len(mixed.keys) <= min(sum(mode == of for of in modes.values()) for mode in (LOW, HIGH))


def test_whole_blocks_are_one_pattern_and_the_mode_of_most_layers_is_the_default() -> None:
    modes = {name: HIGH if name.startswith(("up.1.", "mid.ff.a")) else LOW for name in NAMES}
    mixed = mixed_of(Choice(modes=modes, bits=6.0))
    assert (mixed.default, dict(mixed.keys)) == (LOW, {"mid.ff.a.weight": HIGH, "up.1.*": HIGH})


def test_no_pattern_of_a_mixed_is_refused_where_it_is_declared() -> None:
    from torch import nn

    denoiser = nn.ModuleDict({"up": nn.ModuleDict({"a": nn.Linear(4, 4), "b": nn.Linear(4, 4)}), "mid": nn.Linear(4, 4)})
    modes = {"up.a.weight": HIGH, "up.b.weight": HIGH, "mid.weight": LOW}
    assert _layers_of(denoiser, mixed_of(Choice(modes=modes, bits=6.0))) == {
        name.removesuffix(".weight"): mode for name, mode in modes.items()}
