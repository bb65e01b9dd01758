"""Shared by all tests: what surrounds the job that runs the tests must not reach a run within a test."""

import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

os.environ.pop("GITHUB_STEP_SUMMARY", None)

# One of several processes of pytest-xdist: it takes its share of the cores, before torch is imported and takes them all.
WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
if WORKERS > 1:
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // WORKERS)))
# pytest-benchmark measures nothing where these are set: in the pytest runs within the tests it must.
for name in ("PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT", "PYTEST_XDIST_TESTRUNUID"):
    os.environ.pop(name, None)


def pytest_collection_finish() -> None:
    """A run collects garbage whenever it changes the model. Among the 700,000 objects of all collected tests that takes 0.4 s
    each time; none of these objects ever goes, so the collector need not look at them."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def _unsynced() -> Iterator[None]:
    """No power fails during tests, so nothing of them waits for the disk. Tests of what is synced note the calls themselves."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture(scope="session")
def tiny_pipeline(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a tiny random pipeline by the name of its class, written when it is first asked for. Only to be read."""
    from tests.tiny_pipelines import BUILDERS  # diffusers and transformers: only where a test needs them

    root = tmp_path_factory.mktemp("tiny_pipelines")

    def folder_of(name: str) -> Path:
        folder = root / name
        if not folder.exists():
            BUILDERS[name](folder)
        return folder

    return folder_of
