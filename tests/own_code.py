"""Code of a user's own for tests: modules in a folder, installed packages, and forgetting both afterwards."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def clean_imports(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test makes importable is forgotten after it."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = {*sys.modules}
    yield
    for name in {*sys.modules} - before:
        file = getattr(sys.modules[name], "__file__", None)
        if file and "pytest-" in file:
            del sys.modules[name]


def write(folder: Path, name: str, text: str) -> Path:
    """A file of a user's, with the folders that it is in."""
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def package(folder: Path, name: str, entries: dict[str, str], group: str) -> None:
    """A folder on the path with an installed package that registers entry points."""
    info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in entries.items()))
    sys.path.append(str(folder))
