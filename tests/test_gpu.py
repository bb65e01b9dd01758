"""What only a CUDA device can show; each has a sibling on the CPU in tests/run or tests/sampling."""

from pathlib import Path

import pytest

from harness.records import Finished, Journal, Memory
from harness.records.costs import MAKING
from harness.run.progress import Silent
from harness.run.suite_run import Options, SuiteRun
from tests.fakes import tiny_suite

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def cuda() -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device on this machine")


def test_a_suite_runs_on_cuda_and_its_memory_figures_are_numbers(tmp_path: Path) -> None:
    run = SuiteRun(tiny_suite(), "tiny.py", Options(root=tmp_path, runs=tmp_path / "runs", device="cuda"), Silent())
    assert all(isinstance(run.candidate(c), Finished) for c in run.suite.candidates)
    assert run.costs([c.name for c in run.suite.candidates]) == []
    memory = [r for r in Journal(run.folder / "journal.jsonl").read()[0] if isinstance(r, Memory)]
    readings = {r.name: r for r in memory[-1].readings}
    assert all(readings[name].value for name in ("torch_allocated_peak_bytes", "torch_reserved_peak_bytes"))
    for name in ("nvml_device_peak_bytes", "nvml_process_peak_bytes", "over_idle_peak_bytes"):
        assert readings[name].value or readings[name].why_missing
    for peak in ("torch_allocated_peak_bytes", "torch_reserved_peak_bytes"):
        assert readings[MAKING + peak].value
    run.close()
