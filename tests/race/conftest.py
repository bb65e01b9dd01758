"""A synthetic run for tests of the race's rules: written once per session, never changed."""

from __future__ import annotations

import pytest

from reports.read.run import Run, load_run
from tests.reports import synthetic


@pytest.fixture(scope="session")
def merge_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return load_run(synthetic.write_run(tmp_path_factory.mktemp("runs") / "merge", synthetic.merge_suite()))
