"""What every row of MERGE_METHODS must satisfy: a new row is tested here without a new test."""

import itertools
import math

import pytest
import torch

from harness.merge import MERGE_METHODS, MergeMethod, merge_tensor, merge_tensors, plan_merge
from tests.merge.models import infos, model

ALL = pytest.mark.parametrize("name", MERGE_METHODS)
DTYPES = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
ALPHAS = (0.05, 0.3, 0.35, 0.5, 0.7, 0.95)


def inputs(method: MergeMethod, dtype: torch.dtype) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    drawn = [torch.randn(40, 50, generator=generator, dtype=torch.float64) for _ in range(method.models)]
    drawn[0][0, :4] = torch.tensor([-0.0, 0.0, 1e-40, 6e-8], dtype=torch.float64)
    return [tensor.to(dtype) for tensor in drawn]


def bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().view(torch.uint8)


def ulp(largest: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Distance between neighbouring numbers of `dtype` at the size of `largest`."""
    exponent = torch.frexp(largest.clamp(min=torch.finfo(dtype).tiny))[1] - 1
    return torch.finfo(dtype).eps * 2.0 ** exponent.double()


@ALL
@DTYPES
def test_alpha_0_gives_a_bit_for_bit(name, dtype):
    tensors = inputs(MERGE_METHODS[name], dtype)
    merged = merge_tensor(MERGE_METHODS[name], 0.0, tensors)
    assert torch.equal(bits(merged), bits(tensors[0]))


@ALL
@DTYPES
@pytest.mark.parametrize("alpha", ALPHAS)
def test_a_model_merged_with_itself_stays_as_it_is(name, dtype, alpha):
    method = MERGE_METHODS[name]
    a = inputs(method, dtype)[0]
    assert torch.equal(merge_tensor(method, alpha, [a] * method.models), a)


REFERENCES = {
    "weighted_sum": lambda alpha, a, b: (1 - alpha) * a + alpha * b,
    "add_difference": lambda alpha, a, b, c: a + alpha * (b - c),
}


@ALL
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("alpha", ALPHAS)
def test_values_are_within_one_last_place_of_the_exact_ones(name, dtype, alpha):
    tensors = inputs(MERGE_METHODS[name], dtype)
    exact = REFERENCES[name](alpha, *(t.double() for t in tensors))
    largest = torch.stack([*(t.double().abs() for t in tensors), exact.abs()]).amax(0)
    error = (merge_tensor(MERGE_METHODS[name], alpha, tensors).double() - exact).abs()
    assert (error <= ulp(largest, dtype)).all()


@ALL
def test_the_only_rounding_of_a_half_is_the_last_one(name):
    tensors = inputs(MERGE_METHODS[name], torch.float16)
    exact = REFERENCES[name](0.3, *(t.double() for t in tensors))
    merged = merge_tensor(MERGE_METHODS[name], 0.3, tensors)
    # float32 arithmetic may fall on the other side of a tie; arithmetic in float16 itself misses 2.5 to 21 percent.
    assert (merged != exact.half()).double().mean() < 0.005


@pytest.mark.parametrize("name", [name for name, method in MERGE_METHODS.items() if method.widens])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_a_method_that_widens_by_itself_gives_what_float32_and_one_rounding_give(name, dtype, device):
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    every = torch.arange(-2**15, 2**15, dtype=torch.int16, device=device).view(dtype)
    every = every[every.isfinite()]
    method = MERGE_METHODS[name]
    for alpha, step in itertools.product(ALPHAS, (1, 7, 1031, 29989)):
        tensors = [every.roll(step * i) for i in range(method.models)]
        wide = method.function(*(t.float() for t in tensors), alpha).to(dtype)
        assert torch.equal(merge_tensor(method, alpha, tensors), wide)


@ALL
def test_the_result_has_the_dtype_of_a(name):
    method = MERGE_METHODS[name]
    tensors = [t.to(torch.float16 if i == 0 else torch.float32) for i, t in enumerate(inputs(method, torch.float32))]
    assert merge_tensor(method, 0.3, tensors).dtype == torch.float16


@ALL
def test_inputs_are_left_alone_and_the_result_is_a_tensor_of_its_own(name):
    tensors = inputs(MERGE_METHODS[name], torch.float64)
    before = [t.clone() for t in tensors]
    for alpha in (0.0, 0.3, 1.0):
        merge_tensor(MERGE_METHODS[name], alpha, tensors).fill_(7)
    assert all(torch.equal(t, b) for t, b in zip(tensors, before, strict=True))


@ALL
@pytest.mark.parametrize("live", [torch.float16, torch.float32])
def test_in_place_holds_what_a_saved_and_reloaded_file_would(name, live):
    method = MERGE_METHODS[name]
    models = [model(seed, torch.float16) for seed in range(method.models)]
    plan = plan_merge("unet", *(infos(m) for m in models))
    apart = merge_tensors(plan, method, 0.35, models)
    out = {key: torch.nn.Parameter(torch.zeros(t.shape, dtype=live)) for key, t in apart.items() if t.is_floating_point()}
    out |= {key: torch.zeros_like(t) for key, t in apart.items() if not t.is_floating_point()}
    written = merge_tensors(plan, method, 0.35, models, out=out)
    assert all(torch.equal(out[key].detach(), t.to(out[key].dtype)) for key, t in apart.items())
    assert all(written[key].data_ptr() == out[key].data_ptr() for key in out)


@ALL
def test_the_order_of_keys_does_not_matter(name):
    method = MERGE_METHODS[name]
    models = [model(seed, torch.float16) for seed in range(method.models)]
    turned = [dict(reversed(m.items())) for m in models]
    first, second = (merge_tensors(plan_merge("unet", *(infos(m) for m in these)), method, 0.3, these)
                     for these in (models, turned))
    assert list(first) == list(second)
    assert all(torch.equal(first[key], second[key]) for key in first)


@ALL
def test_rows_say_where_they_come_from(name):
    method = MERGE_METHODS[name]
    assert method.models in (2, 3)
    assert method.version >= 1
    assert "http" in method.paper
    assert math.isfinite(sum(method.alpha_range))


@DTYPES
def test_a_weighted_sum_at_alpha_1_is_b_bit_for_bit(dtype):
    a, b = reversed(inputs(MERGE_METHODS["weighted_sum"], dtype))
    assert torch.equal(bits(merge_tensor(MERGE_METHODS["weighted_sum"], 1.0, [a, b])), bits(b))
