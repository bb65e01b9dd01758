"""What libraries move within `Sending` arrives as it would without it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from harness.weights.sending import Sending
from tests.rehearsal.simulated_cuda import simulated

SOURCE = torch.tensor([1.5, -2.25, 3e-5])


@pytest.mark.parametrize(("move", "dtype"), [
    (lambda x: x.to("cuda"), torch.float32), (lambda x: x.to(torch.device("cuda", 0)), torch.float32),
    (lambda x: x.to("cuda", torch.float16), torch.float16), (lambda x: x.to(device="cuda", dtype=torch.float64), torch.float64),
    (lambda x: x.to(torch.zeros(1, device="cuda", dtype=torch.bfloat16)), torch.bfloat16)])
def test_a_tensor_arrives_in_its_dtype_and_without_a_wait(
        move: Callable[[torch.Tensor], torch.Tensor], dtype: torch.dtype) -> None:
    with simulated() as gpu, Sending():
        gpu.forget_counts()
        there = move(SOURCE)
        assert not gpu.waits
        assert (there.device, there.dtype) == (gpu.device, dtype)
        assert torch.equal(there.cpu(), SOURCE.to(dtype))


@pytest.mark.parametrize("stay", [lambda x: x.to(torch.float16), lambda x: x.to("cpu"), lambda x: x.to("cpu", copy=True)])
def test_what_stays_on_the_host_is_as_without_it(stay: Callable[[torch.Tensor], torch.Tensor]) -> None:
    with Sending():
        result = stay(SOURCE)
    assert torch.equal(result, stay(SOURCE))
    assert (result.dtype, result.device, result is SOURCE) == (stay(SOURCE).dtype, SOURCE.device, stay(SOURCE) is SOURCE)


def test_a_system_of_equations_has_its_solution() -> None:
    system, right = torch.tensor([[1.0, 1.0], [0.5, 2.0]]), torch.tensor([0.3, 0.7])
    with Sending():
        solved = torch.linalg.solve(system, right)
    assert torch.equal(solved, torch.linalg.solve(system, right))
