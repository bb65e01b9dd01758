"""Relays and ensembles on a GPU: what is live together, what it takes, and that the pictures are those of a CPU."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import pytest

from harness import Ensemble, Relay
from harness.materialise import MaterialiseError, Workbench
from tests.rehearsal.making import MIDDLE, candidate, images
from tests.rehearsal.simulated_cuda import simulated

TOGETHER = {"relay": Relay(models=("zoo:photo", MIDDLE), at=(0.5,)),
            "ensemble": Ensemble(models=("zoo:photo", MIDDLE, "zoo:anime"), weights=(0.5, 0.25, 0.25))}


@pytest.mark.parametrize("kind", TOGETHER)
@pytest.mark.parametrize("mode", ["fp32", "int8_weight_only"])
def test_pictures_are_those_of_a_cpu(kind: str, mode: str) -> None:
    of = candidate(model=TOGETHER[kind], quantization=mode)
    on_cpu = images(Workbench(device="cpu", root=Path.cwd(), steps=2), of)
    with simulated():
        bench = Workbench(device="cuda", root=Path.cwd(), steps=2)
        images(bench, candidate(model="zoo:anime"))
        made = images(bench, of)
    assert np.abs(made.astype(int) - on_cpu).max() <= 2


def test_models_that_are_live_together_are_freed_when_one_alone_is_prepared() -> None:
    with simulated() as gpu:
        bench = Workbench(device="cuda", root=Path.cwd(), steps=2)
        bench.prepare(candidate(model="zoo:anime"))
        gc.collect()
        alone = gpu.live
        several = bench.prepare(candidate(model=TOGETHER["ensemble"]))
        gc.collect()
        assert gpu.live > 2 * alone
        bench.prepare(candidate(model="zoo:anime"))
        with pytest.raises(MaterialiseError, match="Prepare the candidate again"):
            several.phases[0].enter()
        del several
        gc.collect()
        assert gpu.live == alone
