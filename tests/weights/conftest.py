"""Tiny pipelines of every family, saved by diffusers once for all tests of this folder."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.weights.pipelines import folder_of, theirs

SavedFolder = Callable[[str], Path]
CopiedFolder = Callable[[str, Path], Path]


@pytest.fixture(scope="session")
def saved_folder(tmp_path_factory: pytest.TempPathFactory) -> SavedFolder:
    """The diffusers folder of a family, to be read only."""
    root = tmp_path_factory.mktemp("families")

    def saved(family: str) -> Path:
        return root / family if (root / family).exists() else folder_of(theirs(family), root / family)

    return saved


@pytest.fixture
def copied_folder(saved_folder: SavedFolder) -> CopiedFolder:
    """A copy of a family's folder at the given place, to be edited."""
    return lambda family, place: Path(shutil.copytree(saved_folder(family), place))
