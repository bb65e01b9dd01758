"""What every row of MERGE_METHODS must satisfy: a new row is tested here without a new test."""

import itertools
import math

import numpy as np
import pytest
import torch

from harness.merge import MERGE_METHODS, Call, MergeMethod, merge_tensor
from tests.pairs import all_pairs

ALL = pytest.mark.parametrize("name", MERGE_METHODS)
STORED = (torch.float16, torch.bfloat16, torch.float32)
SHAPES = ((), (1,), (9,), (1, 1), (1, 6), (6, 1), (40, 50), (7, 5, 3, 3))
ALPHAS = (0.05, 0.3, 0.35, 0.5, 0.7, 0.95)
TINY = 1e-5
"""An alpha so small that 1 - (1 - alpha) has few digits of it left in float32."""


def inputs(method: MergeMethod, dtype: torch.dtype, shape: tuple[int, ...] = (40, 50), seed: int = 0) -> list[torch.Tensor]:
    """Models of random values, one more than the least where a method takes many, with zeros of both signs in A."""
    generator = torch.Generator().manual_seed(seed)
    count = method.models + method.many
    drawn = [torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(count)]
    awkward = torch.tensor([-0.0, 0.0, 1e-40, 6e-8], dtype=torch.float64)
    if drawn[0].numel() > 1:
        drawn[0].view(-1)[:4] = awkward[:drawn[0].numel()]
    return [tensor.to(dtype) for tensor in drawn]


def call(method: MergeMethod, tensors: list[torch.Tensor], alpha: float, beta: float = 0.0, **settings: float) -> Call:
    """The numbers of one merge: the defaults, weights that differ, and the limits as a pass over these tensors sets them."""
    weights = tuple(1.0 + 0.5 * i for i in range(len(tensors) - method.base)) if method.weighted else ()
    limits = (0.0, 0.0)
    if method.survey is not None and method.limits_of is not None:
        limits = method.limits_of(method.survey(*(t.double() for t in tensors)))
    return Call(alpha=alpha, beta=beta, parameters=method.defaults(settings), weights=weights, limits=limits)


def merge(method: MergeMethod, tensors: list[torch.Tensor], alpha: float, beta: float = 0.0, seed: int = 0,
          **settings: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed) if method.random else None
    return merge_tensor(method, call(method, tensors, alpha, beta, **settings), tensors, generator=generator)


def alphas(method: MergeMethod) -> list[float]:
    """Both ends of the range and what is in it of ALPHAS; a method without alpha is called once."""
    if method.alpha_range is None:
        return [0.0]
    return sorted({*method.alpha_range, *ALPHAS, TINY})


def betas(method: MergeMethod) -> list[float]:
    return [0.0] if method.beta_range is None else [*method.beta_range, 0.4]


def bits(tensor: torch.Tensor) -> bytes:
    return bytes(tensor.contiguous().reshape(-1).view(torch.uint8).tolist())


def ulp(largest: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Distance between neighbouring numbers of `dtype` at the size of `largest`, subnormal ones included."""
    exponent = torch.frexp(largest.clamp(min=torch.finfo(dtype).tiny))[1] - 1
    return torch.finfo(dtype).eps * 2.0 ** exponent.double()


def largest(exact: torch.Tensor, tensors: list[torch.Tensor]) -> torch.Tensor:
    return torch.stack([*(t.double().abs() for t in tensors), exact.abs()]).amax(0)


@pytest.mark.parametrize(("name", "alpha", "place"), [
    (name, alpha, getattr(method, end)) for name, method in MERGE_METHODS.items()
    for alpha, end in ((0.0, "at_zero"), (1.0, "at_one")) if getattr(method, end)])
def test_the_ends_of_alpha_are_the_model_they_name_bit_for_bit(name, alpha, place):
    method = MERGE_METHODS[name]
    for dtype, shape, beta in all_pairs(STORED, SHAPES, betas(method)):
        tensors = inputs(method, dtype, shape)
        # Negative zeros, here in every model, are what a sum with 0 loses.
        tensors = [torch.where(t.abs() < 0.1, -0.0, t.float()).to(dtype) for t in tensors]
        expected = tensors[{"a": 0, "b": 1, "c": -1}[place]]
        assert bits(merge(method, tensors, alpha, beta)) == bits(expected), (dtype, shape, beta)


@ALL
def test_a_model_merged_with_itself_stays_bit_for_bit(name):
    method = MERGE_METHODS[name]
    for dtype, shape, alpha, beta in all_pairs(STORED, SHAPES, alphas(method), betas(method)):
        a = inputs(method, dtype, shape)[0]
        merged = merge(method, [a.clone() for _ in range(method.models + method.many)], alpha, beta)
        assert bits(merged) == bits(a), (dtype, shape, alpha, beta)


@ALL
def test_values_are_within_one_last_place_of_those_in_float64(name):
    method = MERGE_METHODS[name]
    for dtype, shape, alpha, beta in all_pairs(STORED, SHAPES, ALPHAS, betas(method)):
        tensors = inputs(method, dtype, shape)
        numbers = call(method, tensors, alpha, beta)
        draws = [torch.Generator().manual_seed(3) if method.random else None for _ in range(2)]
        exact = method.merge([t.double() for t in tensors], numbers, draws[0])
        error = (merge_tensor(method, numbers, tensors, generator=draws[1]).double() - exact).abs()
        assert (error <= ulp(largest(exact, tensors), dtype)).all(), (dtype, shape, alpha, beta)


def ratio(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.divide(x, y, out=np.zeros_like(x), where=y != 0)


def alike(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.where((a == 0) & (b == 0), 1, ratio(a * b, np.maximum(abs(a), abs(b)) ** 2))


def complex_power(a: np.ndarray, exponent: float) -> np.ndarray:
    return a.astype(complex) ** exponent


FORMULAS = {
    "weighted_sum": lambda t, al, be, w: (1 - al) * t[0] + al * t[1],
    "weighted_average": lambda t, al, be, w: sum(x * y for x, y in zip(t, w, strict=True)) / sum(w),
    "sum_twice": lambda t, al, be, w: (1 - be) * ((1 - al) * t[0] + al * t[1]) + be * t[2],
    "triple_sum": lambda t, al, be, w: (1 - al - be) * t[0] + al * t[1] + be * t[2],
    "weighted_subtraction": lambda t, al, be, w: (t[0] - al * be * t[1]) / (1 - al * be),
    "add_difference": lambda t, al, be, w: t[0] + al * (t[1] - t[2]),
    "train_difference": lambda t, al, be, w: t[0] + 1.8 * al * ratio(
        (t[1] - t[2]) * abs(t[1] - t[0]), abs(t[1] - t[0]) + abs(t[1] - t[2])),
    "multiply_difference": lambda t, al, be, w: t[2] + np.sign((1 - be) * t[0] + be * t[1] - t[2]) * abs(
        t[0] - t[2]) ** (1 - al) * abs(t[1] - t[2]) ** al,
    "similarity_add": lambda t, al, be, w: (1 - be * (alike(t[0], t[1]) + 1) / 2) * (t[0] + al * (t[1] - t[2])) + (
        be * (alike(t[0], t[1]) + 1) / 2) * ((1 - al / 2) * t[0] + al / 2 * t[1]),
    "geometric": lambda t, al, be, w: (complex_power(t[0], 1 - al) * complex_power(t[1], al)).real,
    "task_arithmetic": lambda t, al, be, w: t[-1] + al * sum(
        y * (x - t[-1]) for x, y in zip(t[:-1], w, strict=True)),
}


def test_every_elementwise_method_has_its_formula_written_down_here_once_more():
    assert set(FORMULAS) == {name for name, method in MERGE_METHODS.items() if method.elementwise}


@pytest.mark.parametrize("name", FORMULAS)
def test_elementwise_values_are_within_one_last_place_of_the_formula_in_numpy(name):
    method = MERGE_METHODS[name]
    for dtype, alpha, beta in all_pairs(STORED, ALPHAS, betas(method)):
        tensors = inputs(method, dtype)
        numbers = call(method, tensors, alpha, beta)
        exact = torch.from_numpy(FORMULAS[name]([t.double().numpy() for t in tensors], alpha, beta, numbers.weights))
        error = (merge_tensor(method, numbers, tensors).double() - exact).abs()
        assert (error <= ulp(largest(exact, tensors), dtype)).all(), (dtype, alpha, beta)


@pytest.mark.parametrize("name", FORMULAS)
def test_the_only_rounding_of_a_half_is_the_last_one(name):
    method = MERGE_METHODS[name]
    tensors = inputs(method, torch.float16)
    numbers = call(method, tensors, 0.3, 0.4)
    exact = torch.from_numpy(FORMULAS[name]([t.double().numpy() for t in tensors], 0.3, 0.4, numbers.weights))
    # float32 arithmetic may fall on the other side of a tie, the more so where terms cancel; arithmetic in float16 itself
    # misses 2.5 to 21 percent of a single sum.
    assert (merge_tensor(method, numbers, tensors) != exact.half()).double().mean() < 0.015


@ALL
@pytest.mark.parametrize("dtype", STORED)
def test_merging_in_two_halves_is_merging_whole_for_elementwise_methods_alone(name, dtype):
    method = MERGE_METHODS[name]
    tensors = inputs(method, dtype, (41, 50))
    whole = merge(method, tensors, 0.3, 0.4).reshape(-1)
    halves = torch.cat([merge(method, [t.reshape(-1)[part] for t in tensors], 0.3, 0.4)
                        for part in (slice(0, 1003), slice(1003, None))])
    assert torch.equal(whole, halves) == method.elementwise


@ALL
def test_inputs_are_left_alone_and_the_result_is_a_tensor_of_its_own(name):
    method = MERGE_METHODS[name]
    for shape, alpha, beta in all_pairs(SHAPES, alphas(method), betas(method)):
        tensors = inputs(method, torch.float64, shape)
        before = [bits(t) for t in tensors]
        merge(method, tensors, alpha, beta).fill_(7)
        assert [bits(t) for t in tensors] == before, (shape, alpha, beta)


@ALL
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_function_keeps_shape_and_dtype(name, dtype):
    method = MERGE_METHODS[name]
    for shape in (*SHAPES, (0,), (3, 0)):
        tensors = inputs(method, dtype, shape)
        draw = torch.Generator().manual_seed(0) if method.random else None
        merged = method.merge(tensors, call(method, tensors, 0.3, 0.4), draw)
        assert (merged.shape, merged.dtype) == (shape, dtype)


def awkward(shape: tuple[int, ...]) -> dict[str, torch.Tensor]:
    """Tensors that divisions by norms, ranks and roots stumble over."""
    plain = torch.linspace(-2, 3, max(1, math.prod(shape)), dtype=torch.float64)[:math.prod(shape)].reshape(shape)
    rows = plain.clone()
    if rows.ndim > 1:
        rows[0] = 0
        rows[:, 0] = 0
    return {"plain": plain, "zeros": torch.zeros(shape, dtype=torch.float64), "opposite": -plain, "constant": plain * 0 + 0.25,
            "zero_rows": rows, "tiny": plain * 1e-7, "large": plain * 1e4}


@ALL
def test_finite_models_of_awkward_kinds_give_finite_values(name):
    method = MERGE_METHODS[name]
    dtypes, shapes, kinds = (torch.float16, torch.float32), ((), (1,), (5,), (4, 3), (2, 3, 3, 3)), tuple(awkward(()))
    count = min(3, method.models)
    same = ((dtype, shape, *[kind] * count) for dtype, shape, kind in itertools.product(dtypes, shapes, kinds))
    for dtype, shape, *chosen in (*same, *all_pairs(dtypes, shapes, *[kinds] * count)):
        models = awkward(shape)
        tensors = [models[kind].to(dtype) for kind in chosen]
        assert merge(method, tensors, 0.3, 0.4).isfinite().all(), (dtype, shape, chosen)


@pytest.mark.parametrize("name", [name for name, method in MERGE_METHODS.items() if method.random])
@pytest.mark.parametrize("dtype", STORED)
def test_the_same_seed_gives_the_same_and_another_seed_another_result(name, dtype):
    method = MERGE_METHODS[name]
    tensors = inputs(method, dtype)
    first, again, other = (merge(method, tensors, 0.3, seed=seed) for seed in (1, 1, 2))
    assert bits(first) == bits(again)
    assert bits(first) != bits(other)


@pytest.mark.parametrize("name", [name for name, method in MERGE_METHODS.items() if method.random])
def test_a_random_method_refuses_to_draw_without_a_generator(name):
    method = MERGE_METHODS[name]
    tensors = inputs(method, torch.float32)
    with pytest.raises(ValueError, match="needs a generator"):
        merge_tensor(method, call(method, tensors, 0.3), tensors)


@pytest.mark.parametrize(("name", "parameter"), [
    (name, parameter) for name, method in MERGE_METHODS.items() for parameter in method.parameters])
def test_the_default_and_both_ends_of_a_parameter_work(name, parameter):
    method = MERGE_METHODS[name]
    assert parameter.low <= parameter.default <= parameter.high
    for value, shape in itertools.product((parameter.low, parameter.default, parameter.high), SHAPES):
        merged = merge(method, inputs(method, torch.float16, shape), 0.3, 0.4, **{parameter.name: value})
        assert merged.isfinite().all(), (value, shape)


@ALL
def test_the_result_does_not_depend_on_the_number_of_threads(name):
    method = MERGE_METHODS[name]
    tensors = [(t * 4).round() / 4 if i else t for i, t in enumerate(inputs(method, torch.float16, (150, 400)))]
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(bits(merge(method, tensors, 0.3, 0.4)))
    finally:
        torch.set_num_threads(before)
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("name", [name for name, method in MERGE_METHODS.items() if method.weighted])
@pytest.mark.parametrize("weights", [(1.0,), (1.0, math.nan, 1.0, 1.0), (1.0, math.inf, 1.0, 1.0)])
def test_weights_that_cannot_be_are_refused(name, weights):
    method = MERGE_METHODS[name]
    tensors = inputs(method, torch.float32)
    numbers = Call(alpha=0.3, weights=weights[:len(tensors) - method.base], parameters=method.defaults())
    with pytest.raises(ValueError, match="weights are"):
        merge_tensor(method, numbers, tensors, generator=torch.Generator())


@pytest.mark.parametrize("name", [name for name, method in MERGE_METHODS.items() if method.weighted])
def test_a_model_of_weight_0_has_no_say(name):
    method = MERGE_METHODS[name]
    first, *others = inputs(method, torch.float32)
    numbers = Call(alpha=0.7, weights=(0.0, *(1.0 + i for i in range(len(others) - method.base))),
                   parameters=method.defaults({"density": 1.0, "epsilon": 0.0, "gamma": 0.0}))
    one, another = (merge_tensor(method, numbers, [model, *others], generator=torch.Generator().manual_seed(0))
                    for model in (first, first * -3))
    assert torch.equal(one, another)


@pytest.mark.parametrize("name", [name for name, method in MERGE_METHODS.items() if method.widens])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_a_method_that_widens_by_itself_gives_what_float32_and_one_rounding_give(name, dtype, device):
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    every = torch.arange(-2**15, 2**15, dtype=torch.int16, device=device).view(dtype)
    every = every[every.isfinite()]
    method = MERGE_METHODS[name]
    for alpha, step in itertools.product((*ALPHAS, TINY), (1, 7, 1031, 29989)):
        tensors = [every.roll(step * i) for i in range(method.models)]
        wide = method.function(*(t.float() for t in tensors), alpha).to(dtype)
        assert torch.equal(merge_tensor(method, Call(alpha=alpha), tensors), wide)


@ALL
@pytest.mark.gpu
def test_cuda_gives_what_the_cpu_gives_to_one_last_place(name):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    method = MERGE_METHODS[name]
    tensors = inputs(method, torch.float16)
    numbers = call(method, tensors, 0.3, 0.4)
    here, there = (merge_tensor(method, numbers, [t.to(device) for t in tensors], generator=torch.Generator().manual_seed(0))
                   for device in ("cpu", "cuda"))
    error = (here.double() - there.cpu().double()).abs()
    assert (error <= ulp(largest(here.double(), tensors), torch.float16)).all()


@ALL
def test_the_result_has_the_dtype_of_a(name):
    method = MERGE_METHODS[name]
    tensors = [t.to(torch.float16 if i == 0 else torch.float32) for i, t in enumerate(inputs(method, torch.float32))]
    assert merge(method, tensors, 0.3).dtype == torch.float16


@ALL
def test_rows_say_where_they_come_from_and_are_consistent(name):
    method = MERGE_METHODS[name]
    assert "https://" in method.paper
    assert method.version >= 1
    assert method.models >= 2
    assert method.many or not (method.weighted or method.base)
    assert (method.survey is None) == (method.limits_of is None)
    assert {method.at_zero, method.at_one} <= {"", "a", "b", "c"}
    assert all(parameter.meaning for parameter in method.parameters)
    assert method.function.__doc__
    if method.alpha_range is None:
        assert not method.at_zero
    else:
        low, high = method.alpha_range
        assert low <= 0
        assert high >= 1
    if method.base:
        assert method.at_zero == "c"
