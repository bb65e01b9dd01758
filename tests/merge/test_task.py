"""What is done to differences from a base: by hand, in the mean over draws, and the mistakes of other tools."""

import pytest
import torch

from harness.merge import task_vectors as task

T = torch.tensor
ZERO4 = torch.zeros(4)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def models(count: int = 3, shape: tuple[int, ...] = (40, 50)) -> tuple[list[torch.Tensor], torch.Tensor]:
    drawn = [torch.randn(shape, generator=seeded(i), dtype=torch.float64) for i in range(count + 1)]
    return drawn[:-1], drawn[-1]


def test_task_arithmetic_by_hand():
    merged = task.task_arithmetic([T([3.0]), T([4.0])], T([1.0]), 0.5, [1, 0.5])
    assert merged.tolist() == [1 + 0.5 * (2 + 0.5 * 3)]


def test_a_negative_weight_takes_a_difference_away():
    assert task.task_arithmetic([T([3.0]), T([4.0])], T([1.0]), 1.0, [1, -1]).tolist() == [0.0]


def test_ties_trims_elects_and_averages_those_that_agree():
    first, second = T([3.0, -2.0, 1.0, 0.1]), T([1.0, 4.0, -1.0, 0.2])
    # sums 4, 2, 0, and the smallest of each is trimmed; where the sum is 0 nothing is added
    assert task.ties([first, second], ZERO4, 1.0, [1, 1], 0.75).tolist() == [2.0, 4.0, 0.0, 0.0]


def test_the_elected_sign_is_that_of_the_sum_and_not_of_the_majority():
    signs = [T([-1.0]), T([-1.0]), T([5.0])]
    assert task.ties(signs, T([0.0]), 1.0, [1, 1, 1], 1.0).tolist() == [5.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_sum_that_is_0_but_for_rounding_is_a_tie(dtype):
    # 0.3 * 7 - 0.7 * 3 is 4.4e-16 in float64
    first, second, base = (T([x], dtype=dtype) for x in (7.0, -3.0, 0.0))
    assert task.ties([first, second], base, 1.0, [0.3, 0.7], 1.0).tolist() == [0.0]


def test_ties_keeps_the_largest_differences():
    assert task.ties([T([1.0, 5.0, -3.0, 2.0])], ZERO4, 1.0, [1], 0.5).tolist() == [0.0, 5.0, -3.0, 0.0]


def test_weights_are_relative_in_ties_and_vote():
    first, second = T([3.0, -2.0]), T([1.0, 4.0])
    assert task.ties([first, second], torch.zeros(2), 1.0, [1, 3], 1.0).tolist() == [1.5, 4.0]
    assert task.ties([first, second], torch.zeros(2), 1.0, [2, 6], 1.0).tolist() == [1.5, 4.0]
    assert task.ties([first, second], torch.zeros(2), 1.0, [3, 1], 1.0).tolist() == [2.5, -2.0]


def test_differences_and_not_models_are_trimmed():
    base = T([10.0, 0.0, 0.0, 0.0])
    assert task.ties([T([10.0, 0.0, 3.0, 1.0])], base, 1.0, [1], 0.25).tolist() == [10.0, 0.0, 3.0, 0.0]


def test_dare_divides_by_the_share_it_keeps():
    # supermario keeps with probability p and divides by 1 - p.
    delta = torch.ones(200, 200)
    merged = task.dare_linear([delta], delta * 0, 1.0, [1], 0.25, seeded())
    assert merged.unique().tolist() == [0.0, 4.0]
    assert (merged != 0).double().mean().item() == pytest.approx(0.25, abs=0.01)
    assert merged.mean().item() == pytest.approx(1, abs=0.04)


@pytest.mark.parametrize("method", ["dare", "della"])
def test_the_mean_over_draws_is_the_plain_sum(method):
    deltas, base = models(2, (6, 5))
    total = torch.zeros_like(base)
    for seed in range(4000):
        total += (task.dare_linear(deltas, base, 0.7, [1, 0.5], 0.5, seeded(seed)) if method == "dare" else
                  task.della_linear(deltas, base, 0.7, [1, 0.5], density=0.5, epsilon=0.4, generator=seeded(seed)))
    plain = task.task_arithmetic(deltas, base, 0.7, [1, 0.5])
    # Standard error at most 2.5 / sqrt(4000) * 1.6 at the smallest probability; four of these.
    assert (total / 4000 - plain).abs().max() < 0.2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dare_at_density_1_is_task_arithmetic_and_at_0_the_base(dtype):
    deltas, base = models()
    deltas, base = [t.to(dtype) for t in deltas], base.to(dtype)
    plain = task.task_arithmetic(deltas, base, 0.7, [1, 2, 3])
    assert torch.equal(task.dare_linear(deltas, base, 0.7, [1, 2, 3], 1.0, seeded()), plain)
    assert torch.equal(task.dare_linear(deltas, base, 0.7, [1, 2, 3], 0.0, seeded()), base)
    assert torch.equal(task.dare_ties(deltas, base, 0.7, [1, 2, 3], 1.0, seeded()), task.ties(deltas, base, 0.7, [1, 2, 3], 1.0))


def test_what_is_drawn_depends_on_no_dtype_and_differs_by_model():
    ones, base = torch.ones(40, 50), torch.zeros(40, 50)
    merged = [task.dare_linear([ones.to(t), 10 * ones.to(t)], base.to(t), 1.0, [1, 1], 0.5, seeded())
              for t in (torch.float32, torch.float64)]
    assert torch.equal(merged[0].double(), merged[1])
    assert merged[0].unique().tolist() == [0, 2, 20, 22]


def test_della_keeps_large_differences_more_often_and_divides_by_their_chance():
    row = T([[3.0, -1.0, 5.0, 2.0, -4.0]])
    chances = [0.5, 0.3, 0.7, 0.4, 0.6]
    kept = torch.zeros(1, 5)
    for seed in range(3000):
        merged = task.della_linear([row], row * 0, 1.0, [1], density=0.5, epsilon=0.4, generator=seeded(seed))
        torch.testing.assert_close(merged, torch.where(merged == 0, 0, row / T([chances])))
        kept += merged != 0
    assert (kept / 3000 - T([chances])).abs().max() < 0.04


def test_della_ranks_within_each_row():
    large, small = T([100.0, 200.0]), T([1.0, 2.0])
    rows = torch.stack([large, small])
    # epsilon 1 at density 1/2: the smallest of each row is never kept, the largest always, as it is
    merged = task.della_linear([rows], rows * 0, 1.0, [1], density=0.5, epsilon=1.0, generator=seeded())
    assert merged.tolist() == [[0.0, 200.0], [0.0, 2.0]]


def test_della_without_epsilon_is_dare():
    deltas, base = models()
    assert torch.equal(task.della_linear(deltas, base, 0.7, [1, 1, 1], density=0.5, epsilon=0.0, generator=seeded()),
                       task.dare_linear(deltas, base, 0.7, [1, 1, 1], 0.5, seeded()))
    assert torch.equal(task.della(deltas, base, 0.7, [1, 1, 1], density=0.5, epsilon=0.0, generator=seeded()),
                       task.dare_ties(deltas, base, 0.7, [1, 1, 1], 0.5, seeded()))


def test_breadcrumbs_drop_the_largest_and_the_smallest():
    delta = torch.arange(1.0, 11.0)
    merged = task.breadcrumbs([delta], delta * 0, 1.0, [1], 0.5, 0.1)
    assert merged.tolist() == [0, 0, 0, 0, 5, 6, 7, 8, 9, 0]


def test_breadcrumbs_with_gamma_n_below_1_still_keep_the_share_density():
    # mergekit 0.1.4 emptied the mask here.
    delta = torch.arange(1.0, 11.0)
    assert task.breadcrumbs([delta], delta * 0, 1.0, [1], 0.5, 0.01).tolist() == [0, 0, 0, 0, 0, 6, 7, 8, 9, 10]
    assert task.breadcrumbs([delta], delta * 0, 1.0, [1], 1.0, 0.01).tolist() == delta.tolist()


def test_breadcrumbs_take_a_weight_of_0():
    # mergekit 0.1.4 rejected it.
    deltas, base = models(2)
    one = task.breadcrumbs(deltas[:1], base, 0.7, [1], 0.9, 0.01)
    assert torch.equal(task.breadcrumbs(deltas, base, 0.7, [1, 0], 0.9, 0.01), one)
    assert torch.equal(task.breadcrumbs_ties(deltas, base, 0.7, [1, 0], 0.9, 0.01), one)


def test_breadcrumbs_ties_elect_a_sign():
    first, second = T([3.0, -2.0, 100.0, 0.1]), T([1.0, 4.0, 0.1, -100.0])
    assert task.breadcrumbs_ties([first, second], ZERO4, 1.0, [1, 1], 0.5, 0.25).tolist() == [2.0, 4.0, 0.0, 0.0]


def test_values_without_a_difference_keep_the_base_bit_for_bit():
    base = T([-0.0, -0.0, 0.0, 1.0])
    one = T([-0.0, 2.0, 0.0, 1.0])
    for weights in ([1.0, 1.0], [1.0, -1.0], [-2.0, -3.0]):
        for alpha in (0.5, -0.5):
            merged = task.task_arithmetic([one, base.clone()], base, alpha, weights)
            assert merged.signbit()[[0, 2]].tolist() == [True, False]
            assert task.ties([one, base.clone()], base, alpha, weights, 0.5).signbit()[[0, 2]].tolist() == [True, False]


@pytest.mark.parametrize("method", ["ties", "dare", "breadcrumbs"])
def test_dropped_places_keep_the_base_bit_for_bit(method):
    base = torch.full((100,), -0.0)
    one = torch.linspace(-1, 1, 100)
    merged = {"ties": lambda: task.ties([one], base, 0.5, [1], 0.3),
              "dare": lambda: task.dare_linear([one], base, 0.5, [1], 0.3, seeded()),
              "breadcrumbs": lambda: task.breadcrumbs([one], base, 0.5, [1], 0.3, 0.1)}[method]()
    assert merged[merged == 0].signbit().all()
    assert (merged == 0).sum() > 50
