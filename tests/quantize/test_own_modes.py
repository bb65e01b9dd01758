"""A quantization mode of one's own costs only itself, and accounts for every parameter."""

import sys
from dataclasses import replace

import pytest
import torch

from harness.quantize import QuantizationMode, QuantizeError, QuantizeReport
from harness.quantize.user_modes import adopt_mode

NAME = "mine:ROUNDED"


def rounded(module):
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(parameter.round(decimals=1))
    return QuantizeReport(quantized=tuple(name for name, _ in module.named_parameters()), kept=())


ROUNDED = QuantizationMode(apply=rounded, weight_bits=8)


def report(quantized=("weight",), kept=("bias",)):
    return lambda module: QuantizeReport(quantized=quantized, kept=kept)


def applied(apply):
    module = torch.nn.Linear(3, 3)
    return module, adopt_mode(NAME, replace(ROUNDED, apply=apply)).apply(module)


def test_a_sound_mode_is_applied():
    module, said = applied(rounded)
    assert torch.equal(module.weight, module.weight.round(decimals=1))
    assert said.quantized == ("weight", "bias")


@pytest.mark.parametrize(("apply", "facts"), [
    (lambda module: 1 / 0, ["ZeroDivisionError", "test_own_modes.py, line"]),
    (lambda module: sys.exit(1), ["SystemExit"]),
    (lambda module: None, ["a NoneType", "QuantizeReport"]),
    (report(kept=()), ["leaves out 'bias'"]),
    (report(kept=("bias", "weight")), ["names twice 'weight'"]),
    (report(kept=("bias", "scale")), ["'scale'"])])
def test_whatever_goes_wrong_is_an_error_that_names_the_mode(apply, facts):
    with pytest.raises(QuantizeError) as error:
        applied(apply)
    assert all(fact in str(error.value) for fact in [repr(NAME), *facts]), error.value


@pytest.mark.parametrize(("changes", "fact"), [
    ({"apply": 3}, "apply is 3"), ({"version": 0}, "version is 0"), ({"weight_bits": 0}, "weight_bits is 0"),
    ({"refused": {"cpu": 3}}, "refused")])
def test_a_row_that_contradicts_itself_is_refused(changes, fact):
    with pytest.raises(ValueError, match=fact):
        adopt_mode(NAME, replace(ROUNDED, **changes))
