"""A merge does what its plan says, or refuses before it writes anything."""

import pytest
import torch

from harness.merge import MERGE_METHODS, MergeError, merge_tensors, plan_merge
from tests.merge.models import infos, model

SUM = MERGE_METHODS["weighted_sum"]


def merge(a, b, alpha=0.5, method=SUM, out=None, missing="error"):
    return merge_tensors(plan_merge("unet", infos(a), infos(b), missing=missing), method, alpha, [a, b], out=out)


def test_a_half_and_a_half_by_hand():
    a, b = {"w": torch.tensor([1.0, 2.0])}, {"w": torch.tensor([3.0, -2.0])}
    assert merge(a, b, 0.25)["w"].tolist() == [1.5, 1.0]


def test_an_added_difference_by_hand():
    a, b, c = ({"w": torch.tensor([value])} for value in (1.0, 5.0, 3.0))
    plan = plan_merge("unet", infos(a), infos(b), infos(c))
    assert merge_tensors(plan, MERGE_METHODS["add_difference"], 0.5, [a, b, c])["w"].tolist() == [2.0]


def test_integers_come_from_a():
    assert torch.equal(merge(model(0), model(1))["ids"], model(0)["ids"])


def test_keys_that_b_lacks_come_from_a_as_a_tensor_of_their_own():
    a, b = model(0), model(1)
    del b["conv.bias"]
    merged = merge(a, b, missing="keep_a")
    assert torch.equal(merged["conv.bias"], a["conv.bias"])
    assert merged["conv.bias"].data_ptr() != a["conv.bias"].data_ptr()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused_by_key_before_anything_is_written(value):
    a, b = model(0), model(1)
    b["conv.weight"][0, 0, 0, 0] = value
    out = {key: torch.zeros_like(tensor) for key, tensor in a.items()}
    with pytest.raises(MergeError, match=r"1 keys hold NaN .*conv\.weight") as refused:
        merge(a, b, out=out)
    assert refused.value.non_finite == ("conv.weight",)
    assert not any(tensor.any() for tensor in out.values())


def test_a_result_that_overflows_the_stored_dtype_is_refused():
    a, b, c = ({"w": torch.full((2,), value, dtype=torch.float16)} for value in (6e4, 6e4, -6e4))
    plan = plan_merge("unet", infos(a), infos(b), infos(c))
    with pytest.raises(MergeError, match="'w' overflows"):
        merge_tensors(plan, MERGE_METHODS["add_difference"], 1.0, [a, b, c])


@pytest.mark.parametrize("alpha", [-0.1, 1.1, float("nan")])
def test_an_alpha_outside_the_range_is_refused(alpha):
    with pytest.raises(MergeError, match="outside 0 to 1"):
        merge(model(0), model(1), alpha)


def test_a_plan_with_problems_is_refused():
    with pytest.raises(MergeError, match=r"unet: 'conv\.bias' is missing in B"):
        merge(model(0), {k: t for k, t in model(1).items() if k != "conv.bias"})


def test_a_method_of_three_models_is_refused_two():
    with pytest.raises(MergeError, match="2 models given, the method merges 3"):
        merge(model(0), model(1), method=MERGE_METHODS["add_difference"])


def test_a_live_tensor_of_another_shape_is_refused():
    out = {key: torch.zeros_like(tensor) for key, tensor in model(0).items()} | {"conv.bias": torch.zeros(9)}
    with pytest.raises(MergeError, match=r"'conv\.bias' into has the shape \[9\]; expected \[8\]"):
        merge(model(0), model(1), out=out)


def test_empty_tensors_merge():
    assert merge({"w": torch.zeros(0)}, {"w": torch.zeros(0)})["w"].shape == (0,)


def test_float8_models_merge_too():
    a, b = ({"w": torch.tensor([v], dtype=torch.float32).to(torch.float8_e4m3fn)} for v in (1.0, 2.0))
    plan = plan_merge("unet", infos({"w": torch.zeros(1)}), infos({"w": torch.zeros(1)}))
    assert merge_tensors(plan, SUM, 0.5, [a, b])["w"].float().tolist() == [1.5]
