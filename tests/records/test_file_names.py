"""A name that some file system cannot hold is known before a folder is made."""

import pytest

from harness.records.file_names import unusable_on_windows
from harness.run_folder.folder import slug


@pytest.mark.parametrize("name", ["CON", "nul", "nul.txt", "Aux.tar.gz", "com1", "LPT9.x", "com¹", "x.", "x ", "...", "CONIN$"])
def test_a_name_that_windows_cannot_hold_is_unusable(name: str) -> None:
    assert unusable_on_windows(name)


@pytest.mark.parametrize("name", ["con-1", "console", "null", "x.y", "com10", "com", "lpt", "a nul", ".x", "alpha=0.5"])
def test_other_names_are_usable(name: str) -> None:
    assert unusable_on_windows(name) == ""


@pytest.mark.parametrize("text", ["CON", "nul.txt", "x.", "...", "", "a" * 59 + ".b", "com1.png", "ünü/../x", "alpha=0.5"])
def test_the_name_of_a_folder_is_one_that_windows_holds(text: str) -> None:
    assert not unusable_on_windows(slug(text))
    assert slug(text)


def test_a_name_that_needs_no_change_keeps_its_folder() -> None:
    assert slug("alpha=0.5") == "alpha=0.5"
