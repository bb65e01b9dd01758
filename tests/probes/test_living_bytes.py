"""The bytes of tensors without values are counted as a GPU's allocator would count them."""

from collections.abc import Callable

import pytest
import torch

from harness.probes.living_bytes import LivingBytes

MIB = 2 ** 20


def meta(*shape: int) -> torch.Tensor:
    return torch.empty(shape, device="meta")


def test_what_is_freed_counts_no_longer_and_the_peak_stays() -> None:
    with LivingBytes() as counts:
        first = meta(MIB)
        second = first + 1
        del first
        assert (counts.living, counts.peak) == (4 * MIB, 8 * MIB)
        del second
    assert counts.living == 0


def test_views_and_changes_in_place_take_nothing() -> None:
    with LivingBytes() as counts:
        x = meta(4, MIB)
        kept = [x.view(2, -1), x[0], x.add_(1)]
    assert counts.peak == 16 * MIB, kept


def test_blocks_are_of_512_bytes() -> None:
    with LivingBytes() as counts:
        kept = [meta(1), meta(129)]
    assert counts.peak == 512 + 1024, kept


def test_the_weights_of_a_module_are_not_counted() -> None:
    layer = torch.nn.Linear(1024, 1024, device="meta")
    with LivingBytes(layer) as counts:
        layer(meta(1, 1024))
    assert counts.peak == 2 * 4096


def test_attention_takes_no_matrix_of_all_pairs() -> None:
    query = meta(1, 8, 4096, 64)
    with LivingBytes() as counts:
        torch.nn.functional.scaled_dot_product_attention(query, query, value=query)
    assert counts.peak == 8 * 4096 * 64 * 4


@pytest.mark.parametrize("ask", [
    lambda x: bool(torch.isfinite(x).all()), lambda x: x.sum().item() > 0, lambda x: x.cpu().tolist() == [0.0] * 3,
    lambda x: len(x.nonzero()) == 1])
@pytest.mark.parametrize("inference", [True, False])
def test_what_asks_for_values_gets_some(ask: Callable[[torch.Tensor], bool], inference: bool) -> None:
    with torch.inference_mode(inference), LivingBytes():
        assert ask(meta(3))
