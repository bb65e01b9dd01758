"""A run whose images are made by actors of a real Ray cluster of this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import alpha_sweep
from harness.executors.crew import NoWorkerError
from tests.executors.test_one_and_many import content, go
from tests.fakes import PROMPTS, tiny_grid, tiny_suite


@pytest.mark.slow
def test_a_run_with_actors_of_ray_is_that_of_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                         capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # else a token is written to the home folder
    declared = tiny_suite(candidates=alpha_sweep("zoo:photo", "zoo:anime", (0, 1)), gates=(), metrics=("exposure",),
                          grid=tiny_grid(prompts=PROMPTS[:1], seeds=(1, 2), guidance_scales=(4,)))
    try:
        go(tmp_path / "many", declared, "ray:2")
    except NoWorkerError as error:
        if "Ray did not start" not in str(error):
            raise
        pytest.skip(str(error))
    go(tmp_path / "one", declared)
    assert content(tmp_path / "many") == content(tmp_path / "one")
    assert len(content(tmp_path / "many")["images"]) == 4
    assert "SIGTERM" not in capfd.readouterr().err
