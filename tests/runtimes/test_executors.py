"""Every exported runtime computes what eager does, with exactly the weights that it was given, and the same twice."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

from harness.runtimes import RUNTIMES
from tests.runtimes.conftest import EXPORTED, distance, eager, inputs, small_unet

NEAR = 2e-5


def test_a_forward_is_that_of_eager(executor: Any) -> None:
    unet = small_unet()
    executor.refresh(unet.state_dict(), "a")
    for given in (inputs(), inputs(count=1), inputs(count=5), inputs(tokens=9)):
        assert distance(executor(given), eager(unet, given)) < NEAR


def test_each_weight_arrives(executor: Any) -> None:
    unet, given = small_unet(), inputs()
    before = {name: tensor.clone() for name, tensor in unet.state_dict().items()}
    executor.refresh(unet.state_dict(), "plain")
    generator = torch.Generator().manual_seed(8)
    for tensor in unet.state_dict().values():
        # One number for all would vanish in the norm that follows.
        tensor.add_(0.5 * torch.randn(tensor.shape, generator=generator))
    executor.refresh(unet.state_dict(), "changed")
    expected = eager(unet, given)
    assert distance(executor(given), expected) < NEAR
    for name, tensor in unet.state_dict().items():  # had this one alone not arrived, that would have shown
        changed = tensor.clone()
        tensor.copy_(before[name])
        assert distance(eager(unet, given), expected) > 10 * NEAR or name.endswith("to_k.bias"), name
        tensor.copy_(changed)


@pytest.mark.parametrize("runtime", [name for name in EXPORTED if not RUNTIMES[name].copies], indirect=True)
def test_weights_that_change_in_place_reach_a_live_runtime_by_themselves(executor: Any) -> None:
    unet, given = small_unet(), inputs()
    executor.refresh(unet.state_dict(), "a")
    for tensor in unet.state_dict().values():
        tensor.mul_(1.1)
        assert distance(executor(given), eager(unet, given)) < NEAR


def test_there_and_back_gives_the_bits_of_the_first_time(executor: Any) -> None:
    one, two, given = small_unet(0), small_unet(1), inputs()
    outputs = []
    for unet in (one, two, one):
        executor.refresh(unet.state_dict(), "any")
        outputs.append(executor(given).clone())
        assert distance(outputs[-1], eager(unet, given)) < NEAR
    assert torch.equal(outputs[0], outputs[2])
    assert not torch.equal(outputs[0], outputs[1])


def test_repeats_give_the_same_bits(executor: Any) -> None:
    executor.refresh(small_unet().state_dict(), "a")
    assert torch.equal(executor(inputs(3)).clone(), executor(inputs(3)))


def test_an_image_does_not_depend_on_its_neighbours(executor: Any) -> None:
    executor.refresh(small_unet().state_dict(), "a")
    given = inputs(6)
    turned = {name: tensor.flip(0) if tensor.ndim else tensor for name, tensor in given.items()}
    assert torch.equal(executor(given).clone(), executor(turned).flip(0))


def test_threads_do_not_disturb_each_other(executor: Any) -> None:
    executor.refresh(small_unet().state_dict(), "a")
    batches = [inputs(count=1 + seed % 3, seed=seed) for seed in range(12)]
    alone = [executor(given).clone() for given in batches]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(executor, batches))
    assert all(torch.equal(one, other) for one, other in zip(alone, together, strict=True))


def test_weights_that_were_refused_leave_none(executor: Any) -> None:
    unet = small_unet()
    executor.refresh(unet.state_dict(), "a")
    assert executor.holds == "a"
    with pytest.raises(ValueError, match="is missing"):
        executor.refresh({}, "b")
    assert executor.holds == ""
