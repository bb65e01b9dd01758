"""A plan accounts for every key of every model, and says which ones stand in the way."""

import pytest

from harness.merge import plan_merge
from harness.merge.match_keys import model_names
from tests.merge.models import Info

FLOAT, WIDE, IDS = Info("F16", (4, 4)), Info("F16", (4, 9)), Info("I64", (1, 77))
FOUR, NINE = Info("F16", (8, 4, 3, 3)), Info("F16", (8, 9, 3, 3))


def test_equal_models_merge_all_weights_and_copy_integers():
    plan = plan_merge("unet", [{"w": FLOAT, "ids": IDS}, {"w": FLOAT, "ids": IDS}])
    assert plan.coverage_keys() == {"merged": ("w",), "copied": ("ids",)}
    assert plan.problems() == []


def test_a_key_that_b_lacks_is_a_problem_that_names_component_and_key():
    plan = plan_merge("vae", [{"w": FLOAT, "v": FLOAT}, {"w": FLOAT}])
    assert plan.coverage_keys() == {"merged": ("w",), "missing_in_b": ("v",)}
    assert "vae: 'v' is missing in B" in plan.problems()[0]


def test_keep_a_copies_what_b_lacks_and_says_so():
    plan = plan_merge("vae", [{"w": FLOAT, "v": FLOAT}, {"w": FLOAT}], missing="keep_a")
    assert plan.coverage_keys() == {"merged": ("w",), "copied": ("v",)}
    assert plan.problems() == []
    assert plan.notes() == ("vae: kept from A, as others lack them: 'v'",)


def test_a_key_that_a_lacks_is_a_problem():
    plan = plan_merge("unet", [{"w": FLOAT}, {"w": FLOAT, "new": FLOAT}])
    assert plan.missing_in_a == ("new",)
    assert "'new' is missing in A" in plan.problems()[0]


def test_keep_a_leaves_out_what_a_lacks_and_says_so():
    plan = plan_merge("unet", [{"w": FLOAT}, {"w": FLOAT, "new": FLOAT}], missing="keep_a")
    assert plan.coverage_keys() == {"merged": ("w",), "left_out": ("new",)}
    assert plan.problems() == []
    assert plan.notes() == ("unet: left out, as A has no place for them: 'new'",)


def test_different_shapes_are_a_problem_that_gives_both():
    plan = plan_merge("unet", [{"w": FLOAT}, {"w": WIDE}])
    assert plan.shape_mismatched == ("w",)
    assert "[4, 4] in A, [4, 9] in B" in plan.problems()[0]


def test_the_third_model_counts_as_well():
    plan = plan_merge("unet", [{"w": FLOAT, "v": FLOAT}, {"w": FLOAT, "v": FLOAT}, {"w": WIDE, "u": FLOAT}])
    assert plan.coverage_keys() == {"missing_in_a": ("u",), "missing_in_b": ("v",), "shape_mismatched": ("w",)}
    assert "'v' is missing in C" in " ".join(plan.problems())


def test_the_models_are_called_as_the_recipe_calls_them():
    assert model_names(2, base=False) == ("A", "B")
    assert model_names(3, base=True) == ("A", "B", "C")
    assert model_names(5, base=True) == ("A", "B", "D", "E", "C")


def test_only_the_channels_that_all_have_are_merged_where_a_has_more():
    plan = plan_merge("unet", [{"conv_in.weight": NINE}, {"conv_in.weight": FOUR}])
    assert plan.coverage_keys() == {"merged_in_part": ("conv_in.weight",)}
    assert plan.narrowed == {"conv_in.weight": 4}
    assert plan.problems() == []
    assert "merged in its first 4 input channels" in plan.notes()[0]


@pytest.mark.parametrize(("key", "wide", "other", "merged"), [
    ("conv_in.weight", 9, 4, 4), ("conv_in.weight", 8, 4, 4), ("conv_in.weight", 5, 4, 4),
    # The mask of inpainting is not depth, nor the image that is to be edited.
    ("conv_in.weight", 9, 5, 0), ("conv_in.weight", 9, 8, 0), ("conv_in.weight", 8, 5, 0),
    ("img_in.weight", 384, 64, 64), ("img_in.weight", 128, 64, 64), ("img_in.weight", 384, 128, 0),
    ("x_embedder.weight", 384, 128, 0), ("x_embedder.proj.weight", 33, 16, 16)])
def test_further_channels_are_merged_only_with_the_same_or_none(key, wide, other, merged):
    kernel = (1, 1) if "conv" in key or "proj" in key else ()
    a, b = (Info("F16", (8, count, *kernel)) for count in (wide, other))
    plan = plan_merge("unet", [{key: a}, {key: b}])
    assert plan.narrowed == ({key: merged} if merged else {})
    assert plan.shape_mismatched == (() if merged else (key,))
    assert all("latent image" in problem for problem in plan.problems())


def test_the_narrowest_of_three_decides_what_all_have():
    infos = [{"conv_in.weight": Info("F16", (8, count, 3, 3))} for count in (9, 5, 4)]
    assert plan_merge("unet", infos).narrowed == {"conv_in.weight": 4}


def test_an_inpainting_model_must_be_a():
    plan = plan_merge("unet", [{"conv_in.weight": FOUR}, {"conv_in.weight": NINE}])
    assert "must be A" in plan.problems()[0]


@pytest.mark.parametrize(("a", "b"), [(IDS, Info("F16", (1, 77))), (Info("F16", (1, 77)), IDS)])
def test_integers_against_floats_are_a_problem_that_names_the_key(a, b):
    plan = plan_merge("unet", [{"w": a}, {"w": b}])
    assert plan.coverage_keys() == {"kind_mismatched": ("w",)}
    assert f"unet: 'w' holds integers in one model and floating point in another ({a.dtype} in A, {b.dtype} in B)" in (
        plan.problems()[0])


@pytest.mark.parametrize(("a", "b", "said"), [
    ("F16", "F32", "unet: merged in fp64 and stored as F16, the dtype of A; B has F32 (2 keys)"),
    ("F16", "BF16", "unet: merged in fp32 and stored as F16, the dtype of A; B has BF16 (2 keys)")])
def test_dtypes_that_differ_are_noted_with_the_count_of_keys(a, b, said):
    plan = plan_merge("unet", [{"v": Info(dtype, (4,)), "w": Info(dtype, (4,))} for dtype in (a, b)])
    assert plan.notes() == (said,)
    assert plan.problems() == []


def test_an_unknown_policy_is_refused():
    with pytest.raises(ValueError, match="keep_b"):
        plan_merge("unet", [{}, {}], missing="keep_b")
