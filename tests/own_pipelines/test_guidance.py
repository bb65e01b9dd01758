"""What a row of OWN says of guidance and negative texts holds in diffusers' own call."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.own_pipelines import OWN
from tests.own_pipelines.own_bench import diffusers_pipeline
from tests.tiny_pipelines import BUILDERS, TINY

Folder = Callable[[str], Path]
GUIDED = sorted(name for name, row in OWN.items() if row.guidance and row.negative and name in BUILDERS)


def called(pipe: Any, guidance: float, negative: str) -> np.ndarray[Any, Any]:
    name = type(pipe).__name__
    given = {**TINY[name].call, **OWN[name].settings, OWN[name].guidance: guidance, "negative_prompt": negative}
    return np.asarray(pipe(prompt="a red cat", generator=torch.Generator().manual_seed(5), output_type="np", **given)[0]) * 255


@pytest.mark.parametrize("name", GUIDED)
def test_a_negative_text_matters_but_where_guidance_is_off(name: str, tiny_pipeline: Folder) -> None:
    pipe = diffusers_pipeline(name, tiny_pipeline(name))
    off, high = OWN[name].off, 4.0
    assert abs(called(pipe, off, "blur") - called(pipe, off, "zebra 7")).max() < 0.5
    assert abs(called(pipe, high, "blur") - called(pipe, high, "zebra 7")).max() > 1
