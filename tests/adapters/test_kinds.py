"""Every kind's arithmetic: by hand, against numpy and PEFT, and the properties that the whole table keeps."""

import itertools
import math
import random as random_module

import numpy
import pytest
import torch

from harness.adapters import AdapterError
from harness.adapters.change import Change
from harness.adapters.kinds import (
    KINDS,
    additive_factors,
    apply_all,
    changed_bias,
    changed_weight,
    check_change,
    delta,
    is_additive,
    scale_of,
)
from harness.adapters.kinds.oft import rotations

LINEAR, CONV = (8, 6), (8, 6, 3, 3)


def random(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + sum(shape)),
                       dtype=torch.float64).to(dtype) * 0.5


def change(kind, scale=1.0, alpha=None, magnitude=None, **tensors):
    return Change(component="unet", path="mid.to_q", kind=kind, tensors=tensors, scale=scale, alpha=alpha, magnitude=magnitude)


def example(kind, shape, dtype=torch.float32):
    """A change of a kind for an (8, 6[, 3, 3]) weight, of seeded values."""
    out, inputs, *kernel = shape if len(shape) > 1 else (8, 6)
    flat, ends = inputs * math.prod(kernel), [1] * len(kernel)
    shapes = {
        "lora": {"down": (2, inputs, *kernel), "up": (out, 2, *ends)},
        "loha": {"w1_a": (out, 2), "w1_b": (2, flat), "w2_a": (out, 2), "w2_b": (2, flat)},
        "lokr": {"w1": (2, 3), "w2_a": (4, 2), "w2_b": (2, 2 * math.prod(kernel))},
        "full": {"diff": shape}, "norm": {"w_norm": shape, "b_norm": shape},
        "glora": {"a1": (inputs, 2, *ends), "a2": (2, inputs, *ends), "b1": (out, 2, *ends), "b2": (2, inputs, *kernel)},
        "ia3": {"weight": (1, out, *ends)}, "oft": {"oft_blocks": (2, 4, 4)}, "boft": {"oft_blocks": (2, 4, 2, 2)}}[kind]
    alpha = None if kind in ("oft", "boft") else 1.0
    return change(kind, alpha=alpha, scale=0.5 if kind in ("lora", "loha", "lokr", "glora") else 1.0,
                  **{role: random(*size, seed=i, dtype=dtype) for i, (role, size) in enumerate(shapes.items())})


CASES = [(kind, shape) for kind in KINDS for shape in ([(8,)] if kind == "norm" else [LINEAR, CONV])]


# the whole table


@pytest.mark.parametrize(("kind", "shape"), CASES)
def test_delta_has_the_weights_shape_and_fits(kind, shape):
    it, w0 = example(kind, shape), random(*shape, seed=9)
    check_change(it, shape)
    found = delta(it, w0)
    assert found.shape == w0.shape
    assert found.dtype == torch.float32
    assert found.abs().max() > 1e-3
    assert torch.allclose(changed_weight(it, w0, 1.0), w0 + found, atol=1e-6)


@pytest.mark.parametrize(("kind", "shape"), CASES)
def test_strength_zero_is_the_weight_itself(kind, shape):
    w0 = random(*shape, seed=9)
    assert torch.allclose(changed_weight(example(kind, shape), w0, 0.0), w0, atol=1e-6)


@pytest.mark.parametrize(("kind", "shape"), CASES)
def test_float64_agrees_with_float32(kind, shape):
    w0 = random(*shape, seed=9, dtype=torch.float64)
    precise = changed_weight(example(kind, shape), w0, 0.7)
    assert precise.dtype == torch.float64
    assert (precise - changed_weight(example(kind, shape), w0.float(), 0.7)).abs().max() < 2e-6


@pytest.mark.parametrize(("kind", "shape"), CASES)
def test_every_kind_but_boft_is_linear_in_strength(kind, shape):
    it, w0 = example(kind, shape), random(*shape, seed=9)
    linear = torch.allclose(changed_weight(it, w0, -0.6), w0 - 0.6 * delta(it, w0), atol=1e-6)
    assert linear == (kind != "boft")


@pytest.mark.parametrize(("kind", "shape"), CASES)
def test_additive_kinds_do_not_read_the_weight(kind, shape):
    it = example(kind, shape)
    same = torch.allclose(delta(it, random(*shape, seed=1)), delta(it, random(*shape, seed=2)), atol=1e-6)
    assert same == is_additive(it) == KINDS[kind].additive


@pytest.mark.parametrize(("kind", "shape"), CASES)
def test_inputs_are_left_as_they_were(kind, shape):
    it, w0 = example(kind, shape), random(*shape, seed=9)
    before = {role: tensor.clone() for role, tensor in it.tensors.items()}, w0.clone()
    changed_weight(it, w0, 0.5)
    assert torch.equal(w0, before[1])
    assert all(torch.equal(it.tensors[role], tensor) for role, tensor in before[0].items())


@pytest.mark.parametrize(("kind", "shape"), CASES)
def test_every_tensor_of_a_wrong_shape_is_named(kind, shape):
    it = example(kind, shape)
    for role in it.tensors:
        wrong = change(kind, **{**it.tensors, role: random(5, 7)})
        with pytest.raises(AdapterError, match=r"unet mid\.to_q: .* of its \w+ has shape \("):
            check_change(wrong, shape)


@pytest.mark.parametrize(("kind", "shape"), CASES)
def test_nan_missing_and_unknown_roles_are_named(kind, shape):
    it = example(kind, shape)
    role = next(iter(it.tensors))
    with pytest.raises(AdapterError, match=rf"{role} of its {kind} contains NaN"):
        check_change(change(kind, **{**it.tensors, role: it.tensors[role] * math.nan}), shape)
    with pytest.raises(AdapterError, match="but no "):
        check_change(change(kind, **{name: t for name, t in it.tensors.items() if name != role}), shape)
    with pytest.raises(AdapterError, match="'wurst' is not a role"):
        check_change(change(kind, **it.tensors, wurst=random(2, 2)), shape)


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_check_passes_can_be_computed_and_all_else_is_an_error_in_words(kind):
    """Shapes at random, most of them wrong: an AdapterError, or a delta of the weight's shape."""
    generator, outcomes = random_module.Random(kind), set()
    for trial in range(400):
        shape = ((8,) if kind == "norm" else LINEAR, CONV, (8, 6, 1, 1))[trial % 3]
        layout = generator.choice(KINDS[kind].layouts)
        sizes = {role: [generator.choice((1, 2, 3, 4, 6, 8, 54)) for _ in range(generator.randrange(5))] for role in layout}
        right = {role: list(tensor.shape) for role, tensor in example(kind, shape).tensors.items()}
        if trial % 2 and set(right) >= set(layout):
            sizes = {**right, generator.choice(layout): sizes[generator.choice(layout)]}
        it = change(kind, **{role: random(*size) for role, size in sizes.items()})
        try:
            check_change(it, shape)
        except AdapterError as error:
            outcomes.add("refused")
            assert "mid.to_q" in str(error)
        else:
            outcomes.add("passed")
            assert delta(it, random(*shape)).shape == shape
    assert "refused" in outcomes


def test_half_precision_weights_are_changed_in_float32():
    w0 = random(*LINEAR).half()
    for kind in KINDS:
        if kind != "norm":
            assert changed_weight(example(kind, LINEAR), w0, 0.5).dtype == torch.float32


@pytest.mark.parametrize("kind", KINDS)
def test_every_row_says_its_roles_paper_and_version(kind):
    row = KINDS[kind]
    assert row.says
    assert row.layouts
    assert row.paper.startswith("https://")
    assert row.version >= 1


def test_an_unknown_kind_is_answered_with_the_nearest():
    with pytest.raises(AdapterError, match="unknown adapter kind 'lorra'; did you mean 'lora'"):
        check_change(change("lorra"), LINEAR)


# by hand


def test_lora_by_hand():
    it = change("lora", scale=0.5, down=torch.tensor([[1.0, 2.0]]), up=torch.tensor([[4.0], [6.0]]))
    assert delta(it, torch.zeros(2, 2)).tolist() == [[2.0, 4.0], [3.0, 6.0]]


@pytest.mark.parametrize("shape", [LINEAR, (8, 6, 1, 1)])
def test_lora_of_linear_layers_and_one_by_one_convolutions_hold_the_same_numbers(shape):
    down, up = random(2, 6), random(8, 2)
    for ends in ((), (1, 1)):
        it = change("lora", down=down.reshape(2, 6, *ends), up=up.reshape(8, 2, *ends))
        check_change(it, shape)
        assert torch.equal(delta(it, torch.zeros(shape)), (up @ down).reshape(shape))


def test_tucker_lora_is_the_explicit_loop():
    down, up, mid = random(2, 6, 1, 1), random(8, 2, 1, 1), random(2, 2, 3, 3)
    it = change("lora", scale=0.5, down=down, up=up, mid=mid)
    check_change(it, CONV)
    found = delta(it, torch.zeros(CONV))
    for i, j, k in itertools.product(range(8), range(6), range(3)):
        expected = sum(mid[m, n, k, 1] * up[i, m, 0, 0] * down[n, j, 0, 0] for m in range(2) for n in range(2))
        assert found[i, j, k, 1] == pytest.approx(0.5 * float(expected), abs=1e-6)


def test_a_tucker_core_of_a_wrong_rank_is_named():
    it = change("lora", down=random(2, 6), up=random(8, 2), mid=random(3, 2, 3, 3))
    with pytest.raises(AdapterError, match=r"mid of its lora has shape \(3, 2, 3, 3\), expected \(2, 2, 3, 3\)"):
        check_change(it, CONV)


def test_loha_counts_its_scale_once():
    ones = torch.ones(2, 1)
    it = change("loha", scale=0.5, w1_a=2 * ones, w1_b=ones.T, w2_a=3 * ones, w2_b=ones.T)
    assert delta(it, torch.zeros(2, 2)).tolist() == [[3.0, 3.0], [3.0, 3.0]]


def test_loha_with_cores_is_the_product_of_two_tucker_forms():
    t, a, b = random(2, 2, 3, 3), random(2, 8), random(2, 6)
    it = change("loha", w1_a=a, w1_b=b, w2_a=a, w2_b=b, t1=t, t2=t)
    check_change(it, CONV)
    half = sum(t[i, j] * a[i, :, None, None, None] * b[j, None, :, None, None] for i in range(2) for j in range(2))
    assert torch.allclose(delta(it, torch.zeros(CONV)), half * half, atol=1e-5)


def test_lokr_is_numpys_kronecker_product():
    w1, w2 = random(2, 3), random(4, 2)
    it = change("lokr", w1=w1, w2=w2)
    check_change(it, LINEAR)
    assert numpy.allclose(delta(it, torch.zeros(LINEAR)).numpy(), numpy.kron(w1.numpy(), w2.numpy()))


@pytest.mark.parametrize("flattened", [False, True])
def test_lokr_of_a_convolution_keeps_the_kernel_of_its_second_half(flattened):
    w1, w2 = random(2, 3), random(4, 2, 3, 3)
    it = change("lokr", w1=w1, w2=w2.flatten(1) if flattened else w2)
    check_change(it, CONV)
    found = delta(it, torch.zeros(CONV)).numpy()
    for x, y in itertools.product(range(3), range(3)):
        assert numpy.allclose(found[:, :, x, y], numpy.kron(w1.numpy(), w2[:, :, x, y].numpy()))


def test_lokr_with_a_core_and_products_equals_its_whole_halves():
    t, a, b = random(2, 2, 3, 3), random(2, 4), random(2, 2)
    w1_a, w1_b = random(2, 1), random(1, 3)
    it = change("lokr", w1_a=w1_a, w1_b=w1_b, w2_a=a, w2_b=b, t2=t)
    check_change(it, CONV)
    whole = change("lokr", w1=w1_a @ w1_b, w2=torch.einsum("ijkl,ip,jr->prkl", t, a, b))
    assert torch.allclose(delta(it, torch.zeros(CONV)), delta(whole, torch.zeros(CONV)), atol=1e-6)


def test_a_lokr_of_two_whole_halves_ignores_its_alpha():
    assert scale_of("lokr", {"w1": random(2, 3), "w2": random(4, 2)}, 1e10) == (1.0, 0)
    assert scale_of("lokr", {"w1": random(2, 3), "w2_a": random(4, 2), "w2_b": random(2, 2)}, 1.0) == (0.5, 2)
    assert scale_of("lora", {"down": random(4, 6), "up": random(8, 4)}, None) == (1.0, 4)


def test_lokr_halves_that_do_not_divide_the_weight_are_named():
    with pytest.raises(AdapterError, match=r"w1 .*rows that divide 8 and columns that divide 6"):
        check_change(change("lokr", w1=random(3, 3), w2=random(4, 2)), LINEAR)


def test_lokr_with_a_half_both_whole_and_factored_is_refused():
    with pytest.raises(AdapterError, match="has both"):
        check_change(change("lokr", w1=random(2, 3), w1_a=random(2, 1), w1_b=random(1, 3), w2=random(4, 2)), LINEAR)


def test_glora_by_hand():
    eye = torch.eye(2)
    it = change("glora", scale=2.0, a1=eye, a2=3 * eye, b1=eye, b2=eye)
    assert delta(it, torch.tensor([[1.0, 0.0], [5.0, 1.0]])).tolist() == [[8.0, 0.0], [30.0, 8.0]]


@pytest.mark.parametrize(("on_input", "expected"), [(0, [[2.0, 2.0], [1.5, 1.5]]), (1, [[2.0, 1.5], [2.0, 1.5]])])
def test_ia3_scales_rows_or_columns(on_input, expected):
    it = change("ia3", weight=torch.tensor([2.0, 1.0]), on_input=torch.tensor(on_input))
    check_change(it, (2, 2))
    assert changed_weight(it, torch.ones(2, 2), 0.5).tolist() == expected


def test_oft_turns_two_outputs_by_the_angle_of_cayley():
    it = change("oft", oft_blocks=torch.tensor([[[0.0, 1.0], [0.0, 0.0]]]))
    # Q = [[0, 1], [-1, 0]]: (I + Q)(I - Q)^-1 = Q, and the rows are multiplied by its transpose.
    assert torch.allclose(changed_weight(it, torch.eye(2), 1.0), torch.tensor([[0.0, -1.0], [1.0, 0.0]]), atol=1e-6)


@pytest.mark.parametrize("limit", [None, 0.3])
def test_rotations_are_orthogonal_and_obey_the_limit(limit):
    turn = rotations(random(3, 5, 5, dtype=torch.float64), limit)
    assert torch.allclose(turn @ turn.transpose(1, 2), torch.eye(5, dtype=torch.float64).expand(3, 5, 5), atol=1e-12)
    if limit is not None:
        eye = torch.eye(5, dtype=torch.float64)
        assert torch.linalg.solve(turn + eye, turn - eye).norm() == pytest.approx(limit)


@pytest.mark.parametrize("kind", ["oft", "boft"])
def test_turning_keeps_the_weights_norm_and_alpha_limits_the_turn(kind):
    it, w0 = example(kind, CONV), random(*CONV, seed=9)
    assert changed_weight(it, w0, 1.0).norm() == pytest.approx(float(w0.norm()), rel=1e-5)
    limited = change(kind, alpha=0.01, **it.tensors)
    assert delta(limited, w0).norm() < 0.5 * delta(it, w0).norm()


@pytest.mark.parametrize("kind", ["oft", "boft"])
def test_rescale_multiplies_rows_and_strength_zero_stays_the_identity(kind):
    it, w0, rows = example(kind, LINEAR), random(*LINEAR, seed=9), 1 + random(8, 1, seed=3)
    scaled = change(kind, **it.tensors, rescale=rows)
    check_change(scaled, LINEAR)
    assert torch.allclose(changed_weight(scaled, w0, 1.0), changed_weight(it, w0, 1.0) * rows, atol=1e-5)
    assert torch.allclose(changed_weight(scaled, w0, 0.0), w0)


# biases


def test_biases_a_lora_bias_is_scaled_and_a_diff_b_is_not():
    it = change("lora", scale=0.5, down=random(2, 6), up=random(8, 2), bias=torch.ones(8), diff_b=torch.full((8,), 2.0))
    check_change(it, LINEAR)
    assert changed_bias(it, torch.ones(8), 2.0).tolist() == [6.0] * 8


def test_biases_none_means_unchanged_and_a_missing_one_is_an_error():
    assert changed_bias(example("lora", LINEAR), torch.ones(8), 1.0) is None
    with pytest.raises(AdapterError, match="changes a bias"):
        changed_bias(change("full", diff_b=torch.ones(8)), None, 1.0)


def test_a_whole_difference_of_a_bias_alone_leaves_the_weight():
    it = change("full", diff_b=torch.ones(8))
    check_change(it, LINEAR)
    assert not delta(it, random(*LINEAR)).any()
    assert changed_bias(it, torch.zeros(8), 0.5).tolist() == [0.5] * 8


# DoRA


@pytest.mark.parametrize("shape", [LINEAR, CONV])
@pytest.mark.parametrize("axis", [0, 1])
def test_dora_with_the_weights_own_lengths_and_no_delta_is_the_identity(shape, axis):
    w0 = random(*shape, seed=9)
    lengths = torch.linalg.vector_norm(w0, dim=[i for i in range(w0.ndim) if i != axis], keepdim=True)
    it = change("lora", down=torch.zeros(2, *shape[1:]), up=torch.zeros(8, 2), magnitude=lengths)
    check_change(it, shape)
    assert torch.allclose(changed_weight(it, w0, 1.0), w0, atol=1e-6)


@pytest.mark.parametrize("shape", [LINEAR, CONV])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("kind", ["lora", "loha", "lokr"])
def test_dora_gives_rows_or_columns_their_length(shape, axis, kind):
    given = 1 + random(shape[axis]).abs().reshape([-1 if i == axis else 1 for i in range(len(shape))])
    it = change(kind, magnitude=given, **example(kind, shape).tensors)
    check_change(it, shape)
    w0 = random(*shape, seed=9)
    others = [i for i in range(len(shape)) if i != axis]
    assert torch.allclose(torch.linalg.vector_norm(changed_weight(it, w0, 1.0), dim=others, keepdim=True), given, rtol=1e-5)
    halfway = changed_weight(it, w0, 0.5)
    assert torch.allclose(halfway, (w0 + changed_weight(it, w0, 1.0)) / 2, atol=1e-6)


def test_dora_of_one_axis_on_a_square_weight_is_by_output():
    it = change("lora", down=torch.zeros(1, 2), up=torch.zeros(2, 1), magnitude=torch.tensor([1.0, 10.0]))
    assert changed_weight(it, torch.eye(2) + 1e-9, 1.0).diagonal().tolist() == pytest.approx([1.0, 10.0])
    assert torch.allclose(changed_weight(it, torch.tensor([[3.0, 4.0], [0.0, 2.0]]), 1.0),
                          torch.tensor([[0.6, 0.8], [0.0, 10.0]]))


def test_dora_of_a_row_of_zeros_is_not_nan():
    it = change("lora", down=torch.zeros(1, 2), up=torch.zeros(2, 1), magnitude=torch.ones(2))
    assert changed_weight(it, torch.zeros(2, 2), 1.0).tolist() == [[0.0, 0.0], [0.0, 0.0]]


@pytest.mark.parametrize("shape", [(6,), (1, 8), (8, 6)])
def test_dora_of_a_wrong_length_is_named(shape):
    with pytest.raises(AdapterError, match=r"magnitude of its lora has shape .*expected \(8,\)"):
        check_change(change("lora", down=random(2, 6), up=random(8, 2), magnitude=random(*shape)), LINEAR)


def test_a_magnitude_on_a_kind_that_is_not_additive_is_refused():
    it = example("oft", LINEAR)
    with pytest.raises(AdapterError, match="magnitude needs an additive kind, not oft"):
        check_change(change("oft", magnitude=torch.ones(8), **it.tensors), LINEAR)


# several changes, and factors for run time


def test_additive_changes_commute_and_the_others_follow_their_order():
    w0, lora, loha, oft = random(*LINEAR), example("lora", LINEAR), example("loha", LINEAR), example("oft", LINEAR)
    assert torch.allclose(apply_all([(lora, 0.5), (loha, 2.0)], w0), apply_all([(loha, 2.0), (lora, 0.5)], w0), atol=1e-6)
    first = apply_all([(lora, 1.0), (oft, 1.0)], w0)
    assert torch.allclose(first, changed_weight(oft, w0 + delta(lora, w0), 1.0), atol=1e-6)
    assert not torch.allclose(first, apply_all([(oft, 1.0), (lora, 1.0)], w0), atol=1e-2)


def test_factors_for_run_time_are_a_plain_loras_alone():
    it = change("lora", scale=0.5, down=random(2, 6, dtype=torch.float16), up=random(8, 2))
    factors = additive_factors(it, (8, 6, 1, 1))
    assert factors.down.shape == (2, 6, 1, 1)
    assert factors.up.shape == (8, 2, 1, 1)
    assert torch.allclose(factors.delta(), delta(it, torch.zeros(8, 6, 1, 1)))
    assert additive_factors(change("lora", magnitude=torch.ones(8), **it.tensors), LINEAR) is None
    assert additive_factors(change("lora", mid=random(2, 2, 3, 3), **it.tensors), CONV) is None
    assert additive_factors(example("loha", LINEAR), LINEAR) is None


# PEFT's own layers


def layer(shape):
    torch.manual_seed(3)
    return torch.nn.Linear(6, 8) if shape == LINEAR else torch.nn.Conv2d(6, 8, 3)


def filled(config, shape):
    """A PEFT layer of a config on a layer of the shape, all of its parameters random."""
    from peft import inject_adapter_in_model

    model = torch.nn.ModuleDict({"it": layer(shape)})
    inject_adapter_in_model(config, model)
    wrapped = model["it"]
    for number, (name, parameter) in enumerate(sorted(wrapped.named_parameters())):
        if "base_layer" not in name:
            parameter.data = random(*parameter.shape, seed=number)
    return wrapped


def agrees(wrapped, it, shape):
    base = wrapped.base_layer.weight.detach().clone()
    check_change(it, shape)
    wrapped.merge()
    return torch.allclose(wrapped.base_layer.weight, changed_weight(it, base, 1.0), atol=1e-5)


def own(wrapped, *names):
    return [getattr(wrapped, name)["default"].detach().clone() for name in names]


@pytest.mark.parametrize("shape", [LINEAR, CONV])
@pytest.mark.parametrize("dora", [False, True])
def test_peft_agrees_on_lora_dora_and_their_bias(shape, dora):
    from peft import LoraConfig

    wrapped = filled(LoraConfig(r=2, lora_alpha=3, target_modules=["it"], use_dora=dora, lora_bias=not dora), shape)
    down, up = (half["default"].weight.detach().clone() for half in (wrapped.lora_A, wrapped.lora_B))
    magnitude = wrapped.lora_magnitude_vector["default"].weight.detach().reshape(-1).clone() if dora else None
    bias = {} if dora else {"bias": wrapped.lora_B["default"].bias.detach().clone()}
    it = change("lora", scale=1.5, down=down, up=up, magnitude=magnitude, **bias)
    before = wrapped.base_layer.bias.detach().clone()
    assert agrees(wrapped, it, shape)
    if not dora:
        assert torch.allclose(wrapped.base_layer.bias, changed_bias(it, before, 1.0), atol=1e-6)


@pytest.mark.parametrize(("shape", "core"), [(LINEAR, False), (CONV, False), (CONV, True)])
def test_peft_agrees_on_loha(shape, core):
    from peft import LoHaConfig

    wrapped = filled(LoHaConfig(r=2, alpha=3, target_modules=["it"], use_effective_conv2d=core), shape)
    names = ["w1_a", "w1_b", "w2_a", "w2_b", *(["t1", "t2"] if core else [])]
    tensors = dict(zip(names, own(wrapped, *(f"hada_{name}" for name in names)), strict=True))
    assert agrees(wrapped, change("loha", scale=1.5, **tensors), shape)


@pytest.mark.parametrize(("shape", "core"), [(LINEAR, False), (CONV, False), (CONV, True)])
def test_peft_agrees_on_lokr_with_factored_halves(shape, core):
    from peft import LoKrConfig

    config = LoKrConfig(r=1, alpha=1, target_modules=["it"], use_effective_conv2d=core, decompose_both=True)
    wrapped = filled(config, shape)
    names = [name for name in ("w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b", "t2")
             if "default" in getattr(wrapped, f"lokr_{name}")]
    assert "w2_a" in names
    tensors = dict(zip(names, own(wrapped, *(f"lokr_{name}" for name in names)), strict=True))
    assert agrees(wrapped, change("lokr", **tensors), shape)


@pytest.mark.parametrize("on_input", [False, True])
@pytest.mark.parametrize("shape", [LINEAR, CONV])
def test_peft_agrees_on_ia3_whose_vector_is_one_more(shape, on_input):
    from peft import IA3Config

    wrapped = filled(IA3Config(target_modules=["it"], feedforward_modules=["it"] if on_input else []), shape)
    [vector] = own(wrapped, "ia3_l")
    it = change("ia3", weight=vector.reshape(-1) - 1, on_input=torch.tensor(int(on_input)))
    assert agrees(wrapped, it, shape)
