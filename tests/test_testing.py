"""The checks for rows of one's own: built-in rows pass them, and each broken property is named."""

from dataclasses import replace

import pytest
import torch

from harness.merge import MERGE_METHODS, MergeMethod
from harness.metrics import ImageScore, Metric, ValueSpec
from harness.quantize import QUANTIZATION_MODES
from harness.runtimes import RUNTIMES
from harness.testing import ContractError, check_merge_method, check_metric, check_quantization_mode, check_runtime

BRIGHTNESS = Metric(measure=lambda s: [ImageScore(values={"b": float(i.mean())}) for i in s.images], version=1, values=(
    ValueSpec(name="b", title="Brightness", unit="levels", better="nearer", low=0, high=255, definition="mean"),))
HALF = MergeMethod(function=lambda a, b, alpha: a + alpha / 2 * (b - a), models=2, paper="none", elementwise=True, at_zero="a")


@pytest.mark.parametrize("name", MERGE_METHODS)
def test_the_built_in_methods_keep_their_contract(name):
    check_merge_method(MERGE_METHODS[name])


@pytest.mark.parametrize("name", ["fp32", "bf16", "int4_weight_only"])
def test_the_built_in_modes_keep_their_contract(name):
    check_quantization_mode(QUANTIZATION_MODES[name])


def test_the_eager_runtime_keeps_its_contract():
    check_runtime(RUNTIMES["eager"])


class Counting:
    calls = 0

    def __call__(self, image_set):
        self.calls += 1
        return [ImageScore(values={"b": self.calls % 255}) for _ in image_set.images]


@pytest.mark.parametrize(("measure", "fact"), [
    (lambda s: [ImageScore(values={"b": float(s.images.mean())}) for _ in s.images], "measured alone"),
    (lambda s: [ImageScore(values={"b": float(n)}) for n, _ in enumerate(s.images)], "in another order"),
    (Counting(), "a second time"),
    (lambda s: [ImageScore(values={"b": 300.0}) for _ in s.images], "from 0 to 255"),
    (lambda s: [ImageScore(values={"b": float("nan")}) for _ in s.images], "nan"),
    (lambda s: BRIGHTNESS.measure(s) if len(s.images) else [ImageScore(values={"b": 1.0})], "1 scores"),
    (lambda s: [ImageScore(values={"b": 1.0 + (s.references is None)}) for _ in s.images], "changes with the reference")])
def test_a_metric_that_breaks_its_contract_is_told_how(measure, fact):
    check_metric(BRIGHTNESS)
    with pytest.raises(ContractError, match=fact):
        check_metric(replace(BRIGHTNESS, measure=measure))


def test_a_paired_value_is_missing_without_a_reference():
    with pytest.raises(ContractError, match="paired and has a value without a reference"):
        check_metric(replace(BRIGHTNESS, values=(replace(BRIGHTNESS.values[0], paired=True),)))


@pytest.mark.parametrize(("changes", "fact"), [
    ({"function": lambda a, b, alpha: a.add_(b)}, "in place"),
    ({"function": lambda a, b, alpha: a + torch.randn(()).to(a)}, "another one each time"),
    ({"function": lambda a, b, alpha: (a + b)[..., :1]}, "shape"),
    ({"function": lambda a, b, alpha: (a / 0)}, "NaN or infinite"),
    ({"function": lambda a, b, alpha: a - a.mean(), "at_zero": ""}, "in two pieces"),
    ({"at_one": "b"}, "at_one is 'b'"), ({"function": lambda a, b, alpha: b}, "at_zero is 'a'")])
def test_a_method_that_breaks_its_contract_is_told_how(changes, fact):
    check_merge_method(HALF)
    with pytest.raises(ContractError, match=fact):
        check_merge_method(replace(HALF, **changes))


def _infinite(module):
    next(module.parameters()).data.fill_(torch.inf)
    return QUANTIZATION_MODES["fp32"].apply(module)


@pytest.mark.parametrize(("apply", "fact"), [(lambda module: None, "QuantizeReport"), (_infinite, "NaN or infinite")])
def test_a_mode_that_breaks_its_contract_is_told_how(apply, fact):
    with pytest.raises(ContractError, match=fact):
        check_quantization_mode(replace(QUANTIZATION_MODES["fp32"], apply=apply))


def _zeroed(module):
    module.conv_out.weight.data.zero_()
    return module


@pytest.mark.parametrize(("changes", "fact"), [({"apply": _zeroed}, "off by"), ({"why_not": lambda _: "no tools"}, "no tools"),
                                               ({"apply": lambda _: 3}, "a int")])
def test_a_runtime_that_breaks_its_contract_is_told_how(changes, fact):
    with pytest.raises(ContractError, match=fact):
        check_runtime(replace(RUNTIMES["eager"], **changes))
