"""Exported graphs of other versions, and the plans built of them, are superfluous; those of this one are listed and kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cleaning.caches import clean_caches, survey_caches
from harness.runtimes.exporting import versions_of_exporting
from harness.runtimes.graph_cache import SUFFIX
from harness.runtimes.tensor_rt import SUFFIX as PLAN


@pytest.mark.parametrize("suffix", [SUFFIX, PLAN])
@pytest.mark.parametrize("installed", [True, False])
def test_only_graphs_that_other_versions_exported_are_removed(
        installed: bool, suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWEETSPOT_CACHE", str(tmp_path))
    own, other = (tmp_path / "graphs" / name / f"a{suffix}" for name in (versions_of_exporting(), "0" * 16))
    for path in (own, other):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"graph")
    if not installed:
        monkeypatch.setattr("harness.runtimes.exporting._PACKAGES", ("no-such-package",))
    assert sum(part.files for part in survey_caches("") if not part.needed_by) == int(installed)
    assert clean_caches().files == int(installed)
    assert own.is_file() and other.is_file() != installed
