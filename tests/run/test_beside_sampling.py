"""What is measured beside sampling, in another thread, and what has to wait."""

from pathlib import Path

import pytest

from harness.records import Measurement
from harness.run.measurement import Meter
from tests.fakes import PROMPTS, plain_candidate, tiny_grid
from tests.painted import paint_runs
from tests.run.test_images import go, records, suite


def test_nothing_is_measured_beside_a_candidate_that_chooses_kernels_for_the_whole_process(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paint_runs(monkeypatch)
    fed: list[str] = []
    quietly = Meter._quietly
    monkeypatch.setattr(Meter, "_quietly", lambda self, names, batch: (
        fed.extend(sample.candidate for sample in batch.samples), quietly(self, names, batch)))
    names = {"photo": (), "sliced": ("attention_slicing",), "math": ("sdpa_math",)}
    candidates = tuple(plain_candidate(name, savers=savers) for name, savers in names.items())
    go(tmp_path, suite(candidates=candidates, grid=tiny_grid(prompts=PROMPTS[:3])))
    assert {name: fed.count(name) for name in names} == {"photo": 6, "sliced": 6, "math": 0}
    measured = [one.candidate for one in records(tmp_path, Measurement)]  # type: ignore[attr-defined]
    assert {name: measured.count(name) for name in names} == dict.fromkeys(names, 6)
