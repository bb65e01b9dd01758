"""Sums, cuts and extractions of adapters: equal to the sums of deltas, and as near as a low rank can be."""

import math

import pytest
import torch

from harness.adapters import AdapterError
from harness.adapters.algebra import Cut, Pair, combine, combine_adapters, extract, extract_adapter, resize
from harness.adapters.algebra.low_rank import kept, nearest_to_matrix, nearest_to_product
from harness.adapters.kinds import KINDS, changed_bias, changed_weight, check_change, delta
from tests.adapters.test_kinds import CONV, LINEAR, change, example, random

SHAPES = [LINEAR, CONV, (8, 6, 1, 1)]
KEY = ("unet", "mid.to_q")


def lora(seed, rank=2, shape=LINEAR, scale=1.0, **more):
    halves = {"down": random(rank, *shape[1:], seed=seed), "up": random(shape[0], rank, seed=seed + 50)}
    return change("lora", scale=scale, **halves, **more)


def summed(parts, shape):
    return sum(weight * delta(it, torch.zeros(shape, dtype=torch.float64)) for it, weight in parts)


def distance(it, wanted):
    """Relative Frobenius distance of a change's delta from a dense one."""
    return float((delta(it, torch.zeros_like(wanted)) - wanted).norm() / wanted.norm())


# combining


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("weights", [(1.0, 1.0), (0.7, -0.4), (0.0, 2.0)])
def test_combined_loras_are_the_sum_of_deltas(shape, weights):
    parts = [(lora(1, 2, shape, scale=0.5), weights[0]), (lora(2, 3, shape, scale=-2.0), weights[1])]
    made, residual = combine(parts, shape)
    check_change(made, shape)
    assert (made.kind, made.rank, made.alpha, made.scale, residual) == ("lora", 5, 5.0, 1.0, 0.0)
    assert distance(made, summed(parts, shape)) < 1e-6


def test_combining_is_neither_kohyas_nor_pefts_average_of_factors():
    """Bugs (a) and (b): factors added up apart, each by its weight or by the root of it, are another matrix."""
    parts = [(lora(1), 0.7), (lora(2), 0.4)]
    wanted = summed(parts, LINEAR)
    for power in (1.0, 0.5):
        averaged = change("lora", **{role: sum(it.tensors[role] * weight ** power for it, weight in parts)
                                     for role in ("down", "up")})
        assert distance(averaged, wanted) > 0.3
    assert distance(combine(parts, LINEAR)[0], wanted) < 1e-6


@pytest.mark.parametrize(("weight", "scale"), [(0.5, 1.0), (2.0, 0.25), (3.0, -1.0)])
def test_a_strength_scales_the_delta_and_never_its_root(weight, scale):
    """Bugs of kohya's --concat with kept alpha and of SuperMerger (g): an intended norm times 0.3, or its root."""
    it = lora(1, scale=scale)
    made, _ = combine([(it, weight)], LINEAR)
    wanted = summed([(it, weight)], LINEAR)
    assert distance(made, wanted) < 1e-6
    cut, _ = resize(it, LINEAR, Cut(rank=2))
    assert distance(cut, summed([(it, 1.0)], LINEAR)) < 1e-6


def test_an_adapter_and_its_negation_combine_to_zero():
    for cut in (None, Cut(rank=1), Cut(relative_error=0.1)):
        made, _ = combine([(lora(1), 0.8), (lora(1), -0.8)], LINEAR, cut)
        assert delta(made, torch.zeros(LINEAR)).abs().max() < 1e-7


def test_the_order_of_the_parts_does_not_matter():
    parts = [(lora(seed), weight) for seed, weight in ((1, 0.3), (2, -1.2), (3, 0.9))]
    for cut in (None, Cut(rank=3)):
        one, other = (delta(combine(ordered, LINEAR, cut)[0], torch.zeros(LINEAR)) for ordered in (parts, parts[::-1]))
        assert torch.allclose(one, other, atol=1e-6)


@pytest.mark.parametrize("shape", [LINEAR, CONV])
@pytest.mark.parametrize("kind", [kind for kind, row in KINDS.items() if row.additive and kind != "norm"])
def test_every_additive_kind_combines_with_a_lora(kind, shape):
    parts = [(example(kind, shape), 0.6), (lora(4, 2, shape), -0.5)]
    made, _ = combine(parts, shape)
    check_change(made, shape)
    assert made.kind == ("lora" if kind == "lora" else "full")
    assert distance(made, summed(parts, shape)) < 1e-6
    whole, residual = combine(parts, shape, Cut(rank=8))
    assert whole.kind == "lora"
    assert residual < 1e-7
    assert distance(whole, summed(parts, shape)) < 1e-6


def test_a_tucker_core_becomes_factors_of_its_rank():
    it = change("lora", down=random(2, 6, 1, 1), up=random(8, 2, 1, 1), mid=random(2, 2, 3, 3), scale=0.5)
    made, _ = combine([(it, 1.0)], CONV)
    assert set(made.tensors) == {"down", "up"}
    assert made.rank == 2
    assert distance(made, summed([(it, 1.0)], CONV)) < 1e-6


def test_norms_and_biases_add_up():
    norm = change("norm", w_norm=torch.ones(8), b_norm=torch.ones(8))
    made, _ = combine([(norm, 2.0), (change("norm", w_norm=torch.ones(8)), 0.5)], (8,), Cut(rank=1))
    assert made.kind == "norm"
    assert made.tensors["w_norm"].tolist() == [2.5] * 8
    assert made.tensors["b_norm"].tolist() == [2.0] * 8
    parts = [(lora(1, scale=0.5, bias=torch.ones(8)), 2.0), (lora(2, diff_b=torch.ones(8)), 3.0)]
    assert changed_bias(combine(parts, LINEAR)[0], torch.zeros(8), 1.0).tolist() == [4.0] * 8


def test_changes_of_a_bias_alone_stay_so():
    it = change("full", diff_b=torch.ones(8))
    for cut in (None, Cut(rank=2)):
        made, _ = combine([(it, 0.5), (it, 0.25)], LINEAR, cut)
        assert (made.kind, made.tensors["diff_b"].tolist(), set(made.tensors)) == ("full", [0.75] * 8, {"diff_b"})


@pytest.mark.parametrize("it", [lora(1, magnitude=torch.ones(8)), example("oft", LINEAR), example("glora", LINEAR)],
                         ids=["dora", "oft", "glora"])
def test_changes_that_depend_on_the_weight_have_no_sum(it):
    with pytest.raises(AdapterError, match=r"unet mid\.to_q: a .* depends on the weight it changes"):
        combine([(lora(2), 1.0), (it, 1.0)], LINEAR)


def test_a_change_that_does_not_fit_is_named():
    with pytest.raises(AdapterError, match=r"down of its lora has shape \(2, 5\), expected \(2, 6\)"):
        combine([(lora(1), 1.0), (lora(2, shape=(8, 5)), 1.0)], LINEAR)


def test_adapters_combine_module_by_module_with_a_report():
    shapes = {"unet": {"mid.to_q": LINEAR}}
    made = combine_adapters([({KEY: lora(1)}, 0.5), ({KEY: lora(2, 3)}, 1.0), ({KEY: lora(3)}, 0.0)], shapes, Cut(rank=4))
    [module] = made.modules
    assert (module.rank, module.rank_before) == (4, 5)
    assert made.largest_residual == module.residual > 0
    assert made.changes[KEY].rank == 4
    with pytest.raises(AdapterError, match=r"unet mid\.to_q: the model has no such module"):
        combine_adapters([({KEY: lora(1)}, 1.0)], {"unet": {}})
    with pytest.raises(AdapterError, match="nothing to combine"):
        combine_adapters([({KEY: lora(1)}, 0.0)], shapes)


# cutting


def svd_optimum(matrix, rank):
    u, s, v = torch.linalg.svd(matrix.double(), full_matrices=False)
    return u[:, :rank] * s[:rank] @ v[:rank], float(s[rank:].norm() / s.norm())


@pytest.mark.parametrize("shape", [LINEAR, CONV])
@pytest.mark.parametrize("rank", [1, 3, 5, 9])
def test_a_cut_sum_is_the_dense_decompositions_optimum(shape, rank):
    parts = [(lora(1, 2, shape), 0.7), (lora(2, 3, shape), -0.4)]
    wanted, lost = svd_optimum(summed(parts, shape).flatten(1), rank)
    made, residual = combine(parts, shape, Cut(rank=rank))
    assert made.rank == min(rank, 5)
    assert residual == pytest.approx(lost, abs=1e-7)
    assert (delta(made, torch.zeros(shape)).flatten(1) - wanted).norm() < 1e-5 * wanted.norm()


@pytest.mark.parametrize("shape", [(7, 30), (30, 7), (12, 12)])
@pytest.mark.parametrize("rank", [1, 4, 7])
def test_the_nearest_to_a_matrix_is_the_dense_decompositions_optimum(shape, rank):
    matrix = random(*shape)
    wanted, lost = svd_optimum(matrix, rank)
    found = nearest_to_matrix(matrix, Cut(rank=rank))
    assert found.residual == pytest.approx(lost, abs=1e-7)
    assert (found.up @ found.down - wanted).norm() < 1e-7 * wanted.norm()


def test_a_cut_sum_never_forms_the_weight(monkeypatch):
    """Of a (1280, 5120) weight and two ranks of 16, the largest matrix that is decomposed is 5120 x 32: with 2 m n^2 flops
    for a QR and 20 n^3 for an SVD, below a twentieth of the 4 m n^2 that a dense decomposition at least takes."""
    sizes = []
    real_qr, real_svd = torch.linalg.qr, torch.linalg.svd
    monkeypatch.setattr(torch.linalg, "qr", lambda m: (sizes.append(2 * m.shape[0] * m.shape[1] ** 2), real_qr(m))[1])
    monkeypatch.setattr(torch.linalg, "svd", lambda m: (sizes.append(20 * m.shape[0] ** 3), real_svd(m))[1])
    monkeypatch.setattr(torch.linalg, "eigh", None)
    shape = (1280, 5120)
    combine([(lora(1, 16, shape), 0.7), (lora(2, 16, shape), 0.4)], shape, Cut(rank=8))
    assert len(sizes) == 3
    assert 20 * sum(sizes) < 4 * 5120 * 1280 ** 2


@pytest.mark.parametrize(("error", "rank"), [(0.0, 4), (0.05, 3), (0.2, 2), (0.6, 1), (0.99, 1)])
def test_the_least_rank_within_an_error_is_taken(error, rank):
    # Singular values 8, 4, 1, 0.1: the tails are 4.12, 1.005 and 0.1 of 9.0006.
    values = torch.tensor([8.0, 4.0, 1.0, 0.1], dtype=torch.float64)
    k, residual = kept(values.square(), Cut(relative_error=error))
    assert k == rank
    assert residual <= error
    assert residual == pytest.approx(float(values[k:].norm() / values.norm()))


def test_an_error_decides_the_rank_from_factors_and_from_matrices_alike():
    left, right = torch.linalg.qr(random(20, 4))[0], torch.linalg.qr(random(30, 4))[0]
    up, down = left * torch.tensor([8.0, 4.0, 1.0, 0.1]), right.T
    for found in (nearest_to_product(up, down, Cut(relative_error=0.2)), nearest_to_matrix(up @ down, Cut(relative_error=0.2))):
        assert found.up.shape[1] == 2
        assert found.residual == pytest.approx(math.sqrt(1.01 / 81.01), rel=1e-4)


def test_resizing_keeps_the_leading_singular_values():
    it = lora(1, 4, scale=0.5)
    before = torch.linalg.svdvals(delta(it, torch.zeros(LINEAR)))
    made, residual = resize(it, LINEAR, Cut(rank=2))
    after = torch.linalg.svdvals(delta(made, torch.zeros(LINEAR)))
    assert torch.allclose(after[:2], before[:2], rtol=1e-5)
    assert after[2:].abs().max() < 1e-6
    assert residual == pytest.approx(float(before[2:].norm() / before.norm()), abs=1e-6)


def test_resizing_to_more_than_there_is_keeps_all():
    made, residual = resize(lora(1), LINEAR, Cut(rank=64))
    assert (made.rank, made.alpha) == (2, 2.0)
    assert residual < 1e-7


@pytest.mark.parametrize("wrong", [{}, {"rank": 2, "relative_error": 0.1}, {"rank": 0}, {"relative_error": 1.0},
                                   {"relative_error": -0.1}, {"relative_error": math.nan}])
def test_a_cut_without_sense_is_refused(wrong):
    with pytest.raises(AdapterError, match="expected"):
        Cut(**wrong)


# extracting


def pair(base, difference, **more):
    return Pair(component="unet", path="mid.to_q", base=base, tuned=base + difference, **more)


@pytest.mark.parametrize("shape", SHAPES)
def test_extracted_at_full_rank_the_tuned_weight_is_rebuilt(shape):
    base, tuned = random(*shape, seed=1), random(*shape, seed=2)
    made, report = extract(Pair(component="unet", path="mid.to_q", base=base, tuned=tuned), Cut(rank=1000))
    check_change(made, shape)
    assert report.residual < 1e-7
    assert torch.allclose(changed_weight(made, base, 1.0), tuned, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_an_exactly_low_rank_difference_has_no_residual(shape):
    """Bug (c): clamping at the 0.99 quantile of the singular vectors costs such a difference 11 %."""
    exact = delta(lora(1, 3, shape), torch.zeros(shape, dtype=torch.float64))
    made, report = extract(pair(random(*shape, dtype=torch.float64), exact), Cut(rank=3))
    assert report.rank == 3
    assert report.residual < 1e-6
    assert distance(made, exact) < 1e-6


def test_the_residual_of_an_extraction_is_the_measured_one():
    base, tuned = random(*CONV, seed=1), random(*CONV, seed=2)
    made, report = extract(Pair(component="unet", path="mid.to_q", base=base, tuned=tuned), Cut(relative_error=0.5))
    assert made.tensors["down"].shape == (made.rank, 6, 3, 3)
    assert made.tensors["up"].shape == (8, made.rank, 1, 1)
    assert 0.2 < report.residual <= 0.5
    assert distance(made, (tuned - base).double()) == pytest.approx(report.residual, abs=1e-6)


def test_differences_of_biases_are_kept_whole():
    base = random(*LINEAR)
    made, _ = extract(pair(base, random(*LINEAR, seed=4), base_bias=torch.zeros(8), tuned_bias=torch.ones(8)), Cut(rank=1))
    assert made.kind == "lora"
    assert changed_bias(made, torch.zeros(8), 1.0).tolist() == [1.0] * 8
    alone, _ = extract(pair(base, 0.0, base_bias=torch.zeros(8), tuned_bias=torch.ones(8)), Cut(rank=1))
    assert (alone.kind, set(alone.tensors)) == ("full", {"diff_b"})


def test_norms_are_extracted_as_norms():
    made, report = extract(pair(torch.ones(8), 0.5, base_bias=torch.zeros(8), tuned_bias=torch.ones(8)), Cut(rank=1))
    assert (made.kind, report.residual) == ("norm", 0.0)
    assert changed_weight(made, torch.ones(8), 1.0).tolist() == [1.5] * 8
    assert changed_bias(made, torch.zeros(8), 1.0).tolist() == [1.0] * 8


def test_half_precision_models_are_subtracted_without_rounding():
    base, tuned = random(*LINEAR, seed=1).half(), random(*LINEAR, seed=2).half()
    made, _ = extract(Pair(component="unet", path="mid.to_q", base=base, tuned=tuned), Cut(rank=8))
    assert distance(made, tuned.double() - base.double()) < 1e-6


def test_other_shapes_biases_and_nan_are_refused_by_name():
    base = random(*CONV)
    with pytest.raises(AdapterError, match=r"weight has shape \(8, 6, 3, 3\) in the base and \(8, 9, 3, 3\) in the tuned"):
        extract(Pair(component="unet", path="conv_in", base=base, tuned=random(8, 9, 3, 3)), Cut(rank=1))
    with pytest.raises(AdapterError, match=r"mid\.to_q: only the tuned model has a bias"):
        extract(pair(base, 1.0, tuned_bias=torch.ones(8)), Cut(rank=1))
    with pytest.raises(AdapterError, match=r"mid\.to_q: the difference of its weight contains NaN"):
        extract(pair(base, math.nan), Cut(rank=1))


def test_unchanged_modules_are_reported_and_left_out():
    equal = Pair(component="unet", path="mid.to_k", base=random(*LINEAR), tuned=random(*LINEAR))
    made = extract_adapter(iter([equal, pair(random(*LINEAR), 1.0)]), Cut(rank=1))
    assert set(made.changes) == {KEY}
    assert [module.kind for module in made.modules] == ["unchanged", "lora"]
    with pytest.raises(AdapterError, match="equal in all 1 modules"):
        extract_adapter([equal], Cut(rank=1))
