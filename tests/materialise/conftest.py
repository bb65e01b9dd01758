"""The zoo's files are assembled once for all tests of this folder, outside of the working tree."""

import pytest


@pytest.fixture(autouse=True)
def zoo_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("SWEETSPOT_CACHE", str(tmp_path_factory.getbasetemp() / "zoo-cache"))
