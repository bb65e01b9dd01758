"""An unknown name is answered with the nearest known ones."""

from pathlib import Path

import pytest

from harness.declare.nearest import closest, did_you_mean

METHODS = ("linear", "ties", "dare_ties", "slerp")
ROOT = Path(__file__).parents[2]


def test_the_nearest_name_comes_first_and_all_are_listed() -> None:
    text = did_you_mean("tiez", METHODS)
    assert text.index("'ties'") < text.index("linear, ties, dare_ties, slerp")


def test_a_name_like_nothing_known_gets_the_list_alone() -> None:
    assert did_you_mean("xxxxxx", METHODS) == "known: linear, ties, dare_ties, slerp"


def test_a_long_list_can_be_left_out() -> None:
    assert did_you_mean("tiez", METHODS, list_known=False) == "did you mean 'ties'?"


@pytest.mark.parametrize("name", [None, 3, ("ties",)])
def test_what_is_not_text_is_compared_as_it_reads(name: object) -> None:
    assert "linear" in did_you_mean(name, METHODS)


def test_a_name_of_megabytes_is_compared_by_its_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it against a thousand names would take hours."""
    compared = list[str]()
    monkeypatch.setattr("difflib.get_close_matches", lambda name, *_, **__: compared.append(name) or [])
    closest("t" * 5_000_000, [f"module.{n}" for n in range(1000)], cutoff=0.0)
    assert [len(name) < 1000 for name in compared] == [True]


def test_the_comparison_stands_in_one_file() -> None:
    files = {file.relative_to(ROOT).as_posix() for package in ("harness", "reports") for file in (ROOT / package).rglob("*.py")
             if "difflib" in file.read_text(encoding="utf-8")}
    assert files == {"harness/declare/nearest.py"}
