"""The table of pipeline classes agrees with itself and with the signatures of the classes."""

from __future__ import annotations

import inspect

import diffusers
import pytest

from harness.own_pipelines import BUILT_IN, OWN, reason
from harness.own_pipelines.classes import REFUSED
from harness.own_pipelines.declared import arguments_of, refuse_unknown_arguments


def test_a_class_is_not_in_two_tables() -> None:
    assert not OWN.keys() & REFUSED.keys()
    assert not OWN.keys() & {*BUILT_IN}
    assert not any(reason(name) for name in OWN)


@pytest.mark.parametrize("name", OWN)
def test_a_row_agrees_with_the_signature(name: str) -> None:
    kind, row = getattr(diffusers, name), OWN[name]
    refuse_unknown_arguments(kind)
    parameters = inspect.signature(kind.__call__).parameters
    needed = [p.name for p in parameters.values() if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    assert set(needed) <= {"self", "prompt"}
    assert row.negative == ("negative_prompt" in arguments_of(kind))
    ignored = name == "DreamLiteMobilePipeline"  # which takes a scale and leaves it out
    assert bool(row.guidance) == (bool({"guidance_scale", "true_cfg_scale"} & arguments_of(kind)) and not ignored)
