"""The faster library for linear layers is taken only where it gives torch's own bits."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from harness.weights import linear_kernels
from harness.weights.linear_kernels import columns_at_once, multiplied, quick, quick_linears


@pytest.fixture(autouse=True)
def _forgotten() -> None:
    columns_at_once.cache_clear()


def _layer(inputs: int, outputs: int, *, bias: bool = True) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(inputs, outputs, bias=bias).requires_grad_(False)


@pytest.mark.parametrize("shape", [(40, 64, 64), (2560, 96), (7, 131, 256), (600, 320), (300, 1280), (1, 3, 64)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_has_its_own_bits_whichever_library_it_uses(shape: tuple[int, ...], bias: bool) -> None:
    layer = _layer(shape[-1], 128, bias=bias)
    values = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        own = layer(values)
        with quick_linears(layer):
            assert torch.equal(layer(values), own)


@pytest.mark.parametrize("columns", [300, 150, 128, 70])
@pytest.mark.parametrize("rows_at_once", [1, 4, 99])
def test_the_sum_over_parts_of_the_columns_is_the_linear_function(
        columns: int, rows_at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear_kernels, "CACHED_VALUES", rows_at_once * 8)
    for bias in (True, False):
        layer, values = _layer(300, 8, bias=bias), torch.randn(2, 5, 300)
        with torch.inference_mode():
            torch.testing.assert_close(multiplied(values, layer.weight, layer.bias, columns), layer(values))


def test_other_bits_are_refused_however_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear_kernels, "_seconds", lambda call: float(isinstance(call.func, type(nn.functional.linear))))
    monkeypatch.setattr(linear_kernels, "multiplied",
                        lambda values, weight, bias, _: torch.nextafter(nn.functional.linear(values, weight, bias),
                                                                        torch.tensor(torch.inf)))
    assert columns_at_once((512, 64), 64, with_bias=True, threads=torch.get_num_threads()) == 0


def test_equal_bits_are_taken_only_where_they_come_sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = iter([1.0, 1.0, 0.5, 1.0])
    monkeypatch.setattr(linear_kernels, "_seconds", lambda _: next(taken))
    monkeypatch.setattr(linear_kernels, "multiplied",
                        lambda values, weight, bias, _: nn.functional.linear(values, weight, bias))
    assert [columns_at_once((512, 64), n, with_bias=True, threads=torch.get_num_threads()) for n in (64, 32)] == [0, 64]


class _Other(nn.Linear):
    """A linear layer of somebody else's."""


@pytest.mark.parametrize("case", ["gradients", "half", "transposed", "offset", "other kind", "few"])
def test_what_was_not_tried_out_is_left_to_torch(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> int:
        raise AssertionError(f"tried out: {case}")

    monkeypatch.setattr(linear_kernels, "columns_at_once", refused)
    dtype = torch.bfloat16 if case == "half" else torch.float32
    layer = (_Other if case == "other kind" else nn.Linear)(512, 512, dtype=dtype)
    values = {"transposed": torch.randn(512, 512).t(), "offset": torch.randn(512 * 512 + 1)[1:].view(512, 512),
              "few": torch.randn(2, 512)}.get(case, torch.randn(512, 512, dtype=dtype))
    with torch.inference_mode(case != "gradients"):
        own = layer(values)
        with quick_linears(layer):
            assert torch.equal(layer(values), own)


def test_a_new_weight_in_the_layer_is_the_one_that_is_multiplied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear_kernels, "columns_at_once", lambda shape, *_, **__: shape[-1])
    layer, values = _layer(512, 512), torch.randn(512, 512)
    with torch.inference_mode(), quick_linears(layer):
        layer(values)
        layer.weight.mul_(2)
        torch.testing.assert_close(layer(values), nn.functional.linear(values, layer.weight, layer.bias))


def test_layers_get_their_own_forward_back_and_keep_that_of_others() -> None:
    layer, hooked = _layer(8, 8), _layer(8, 8)
    somebodys = vars(hooked)["forward"] = lambda values: values
    with pytest.raises(KeyError), quick_linears(nn.ModuleList([layer, hooked]), object()):
        assert vars(layer)["forward"].__qualname__.startswith(quick.__name__)
        assert vars(hooked)["forward"] is somebodys
        raise KeyError
    assert "forward" not in vars(layer)
    assert vars(hooked)["forward"] is somebodys


def test_what_was_tried_holds_for_one_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(linear_kernels, "columns_at_once", lambda *_, with_bias, threads: asked.append(threads) or 0)
    forward, values, before = quick(_layer(64, 4096)), torch.randn(512, 64), torch.get_num_threads()
    try:
        with torch.inference_mode():
            for threads in (1, 2, 1, 2):
                torch.set_num_threads(threads)
                forward(values)
    finally:
        torch.set_num_threads(before)
    assert asked == [1, 2]
