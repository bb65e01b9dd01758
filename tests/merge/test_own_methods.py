"""A merge method of one's own costs only itself: its errors name it, and its models stay as they are."""

import sys
from dataclasses import replace

import pytest
import torch

from harness.merge import MERGE_METHODS, Call, Merged, MergeError, MergeMethod, Source, evaluate, merge_tensor
from harness.merge.user_methods import adopt_method

NAME = "mine:HALF"


def half(a, b, alpha):
    return torch.lerp(a, b, alpha / 2)


HALF = MergeMethod(function=half, models=2, paper="none", at_zero="a")


def merged(function, **changes):
    method = adopt_method(NAME, replace(HALF, function=function, **changes))
    return merge_tensor(method, Call(alpha=0.5), [torch.zeros(3, 4), torch.ones(3, 4)])


def test_a_sound_method_gives_what_its_function_gives():
    assert torch.equal(merged(half), torch.full((3, 4), 0.25))


@pytest.mark.parametrize(("function", "facts"), [
    (lambda a, b, alpha: {}["x"], ["KeyError", "test_own_methods.py, line"]),
    (lambda a, b, alpha: sys.exit(1), ["SystemExit"]),
    (lambda a, b: a, ["TypeError", "alpha"]),
    (lambda a, b, alpha: 3, ["a int; expected a tensor"]),
    (lambda a, b, alpha: a[0], ["shape (4,)", "(3, 4)"]),
    (lambda a, b, alpha: a.sum(), ["shape ()", "(3, 4)"]),
    (lambda a, b, alpha: a.half(), ["dtype torch.float16", "torch.float64"]),
    (lambda a, b, alpha: a / 0, ["NaN or infinite values"]),
    (lambda a, b, alpha: a.to("meta"), ["device meta"]),
])
def test_whatever_goes_wrong_is_an_error_that_names_the_method(function, facts):
    with pytest.raises(MergeError) as error:
        merged(function)
    assert all(fact in str(error.value) for fact in [repr(NAME), *facts]), error.value


def test_an_interruption_goes_through():
    def stop(a, b, alpha):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        merged(stop)


def test_a_method_that_works_in_place_changes_no_model():
    a, b = torch.zeros(4, dtype=torch.float64), torch.ones(4, dtype=torch.float64)
    method = adopt_method(NAME, replace(HALF, function=lambda a, b, alpha: a.add_(b)))
    assert torch.equal(method.merge([a, b], Call(alpha=0.5)), torch.ones(4, dtype=torch.float64))
    assert not a.any()


def test_a_model_of_a_list_is_a_copy_too():
    models = [torch.zeros(4), torch.ones(4)]
    method = adopt_method(NAME, replace(HALF, function=lambda models: models[0].add_(models[1]), many=True, alpha_range=None))
    method.merge(models, Call())
    assert not models[0].any()


def test_the_error_names_the_tensor():
    method = adopt_method(NAME, replace(HALF, function=lambda a, b, alpha: a[0]))
    inputs = tuple(Source(model=name, component="unet", key="conv.weight", dtype="F32") for name in "ab")
    expression = Merged(name=NAME, method=method, call=Call(alpha=0.5), inputs=inputs, component="unet", key="conv.weight")
    with pytest.raises(MergeError, match=r"unet\.conv\.weight: .*mine:HALF"):
        evaluate(expression, lambda _: torch.zeros(2, 2), dtype="F32")


def test_damage_of_a_model_is_not_blamed_on_the_method():
    method = adopt_method(NAME, HALF)
    assert merge_tensor(method, Call(alpha=0.5), [torch.tensor([torch.nan]), torch.zeros(1)]).isnan().all()


def test_widens_is_dropped_since_such_results_are_not_looked_at():
    assert MERGE_METHODS["weighted_sum"].widens
    assert not adopt_method(NAME, MERGE_METHODS["weighted_sum"]).widens


@pytest.mark.parametrize(("changes", "fact"), [
    ({"function": "half"}, "function"), ({"version": 0}, "version is 0"), ({"models": 1}, "models is 1"),
    ({"models": 4}, "many=True"), ({"survey": half}, "survey and limits_of"), ({"at_zero": "A"}, "at_zero is 'A'"),
    ({"alpha_range": (1.0, 0.0)}, "alpha_range"), ({"parameters": ("rank",)}, "'rank'")])
def test_a_row_that_contradicts_itself_is_refused(changes, fact):
    with pytest.raises(ValueError, match=fact):
        adopt_method(NAME, replace(HALF, **changes))
