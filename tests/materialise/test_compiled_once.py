"""What was compiled for live weights stays valid when the next candidate is merged into them."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch._dynamo.utils import counters

from harness import Ensemble
from harness.materialise import Workbench
from tests.fakes import tiny_grid
from tests.rehearsal.making import MIDDLE, candidate, images


# diffusers 0.42 asks in bfloat16 for torch's version, through a cache, while it is compiled.
@pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache`:UserWarning")
@pytest.mark.parametrize("mode", ["fp32", "bf16"])
def test_the_next_alpha_compiles_nothing_and_makes_its_own_images(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Graphs are captured as for the compiler, and run as they are: no compiler is needed, and pictures are equal.
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    monkeypatch.setattr("harness.runtimes.compiling.shutil.which", lambda _: "c++")
    grid, graphs = tiny_grid(batch_size=2, steps=1), []
    compiled, eager = (Workbench(device="cpu", root=Path.cwd(), steps=1) for _ in range(2))
    for alpha in (0.5, 0.25):
        of = candidate(model=replace(MIDDLE, alpha=alpha), quantization=mode)
        before = counters["stats"]["unique_graphs"]
        made = images(compiled, replace(of, runtime="compiled"), grid)
        graphs.append(counters["stats"]["unique_graphs"] - before)
        assert np.array_equal(made, images(eager, of, grid))
    assert graphs[0] > 0
    assert graphs[1] == 0


@pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache`:UserWarning")
def test_what_was_compiled_for_a_live_model_that_went_is_valid_for_the_next_of_its_layers(
        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    monkeypatch.setattr("harness.runtimes.compiling.shutil.which", lambda _: "c++")
    grid, graphs = tiny_grid(batch_size=2, steps=1), []
    compiled, eager = (Workbench(device="cpu", root=Path.cwd(), steps=1) for _ in range(2))
    for model in ("zoo:photo", MIDDLE, "zoo:anime"):
        of = candidate(model=model, quantization="bf16")
        before = counters["stats"]["unique_graphs"]
        made = images(compiled, replace(of, runtime="compiled"), grid)
        graphs.append(counters["stats"]["unique_graphs"] - before)
        assert np.array_equal(made, images(eager, of, grid))
        for frame in compiled._frames.values():  # as on a GPU, where one live model gives way to another
            compiled._executing.copies.keep(frame, "bf16")
        compiled._frames.clear()
    assert graphs[0] > 0
    assert graphs[1:] == [0, 0]


@pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache`:UserWarning")
@pytest.mark.parametrize("mode", ["fp32", "int8_weight_only"])
def test_models_that_are_live_together_are_compiled_each_for_itself(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where their layers are alike, so that what was compiled for one would fit the other."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    monkeypatch.setattr("harness.runtimes.compiling.shutil.which", lambda _: "c++")
    grid = tiny_grid(batch_size=2, steps=1)
    of = candidate(model=Ensemble(models=("zoo:photo", "zoo:anime"), weights=(0.5, 0.5)), quantization=mode)
    compiled, eager = (Workbench(device="cpu", root=Path.cwd(), steps=1) for _ in range(2))
    assert np.array_equal(images(compiled, replace(of, runtime="compiled"), grid), images(eager, of, grid))
