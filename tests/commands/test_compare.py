"""`sweetspot compare` and `sweetspot trend`: exit codes that mean something, files where they were asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.cli import main
from harness.declare import Grid
from tests.reports import synthetic
from tests.reports.synthetic import Place, planted, prompts, write_run

SUITE = replace(synthetic.merge_suite(), candidates=synthetic.merge_suite().candidates[:1], gates=(),
                grid=Grid(prompts=prompts(3, 1), seeds=(1,), guidance_scales=(3.0,), width=32, height=32))


def worse(place: Place) -> dict[str, float]:
    return {k: v - (k == "clip_score") for k, v in planted(place).items()}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    root = tmp_path_factory.mktemp("runs")
    return str(write_run(root / "a", SUITE)), str(write_run(root / "b", SUITE, worse, started="2026-02-01T00:00:00Z"))


def test_a_comparison_ends_with_nothing_and_writes_page_and_markdown(folders: tuple[str, str], tmp_path: Path) -> None:
    page, text = tmp_path / "c.html", tmp_path / "c.md"
    assert main(["compare", *folders, "-o", str(page), "--markdown", str(text)]) == 0
    assert "Content-Security-Policy" in page.read_text()
    assert "1 worse" in text.read_text()


@pytest.mark.parametrize(("value", "code", "said"), [
    ("objective", 1, "objective: B is worse than A in 1 of 1 cells"), ("clipped_share", 0, ""),
    ("beauty", 1, "no such value; there are clip_score")])
def test_a_value_that_got_worse_fails_only_where_that_is_asked(folders: tuple[str, str], value: str, code: int, said: str,
                                                               capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *folders, "--fail-on-worse", value]) == code
    assert said in capsys.readouterr().err


def test_a_new_pick_that_is_worse_than_the_old_one_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The candidates that both runs have did not move; the one that B picks was added, and loses on the held-out prompts."""
    base = synthetic.merge_suite()
    grid = Grid(prompts=prompts(4, 4), seeds=(1,), guidance_scales=(3.0,), width=32, height=32)
    before = replace(base, candidates=(base.candidates[0], base.candidates[3]), gates=(), grid=grid)
    after = replace(before, candidates=(*before.candidates, base.candidates[5]))

    def overfit(place: Place) -> dict[str, float]:
        found = planted(place)
        held_out = place.rng.bit_generator.seed_seq.entropy[0] >= 4  # type: ignore[attr-defined]
        return {**found, "clip_score": found["clip_score"] + (place.x > 0.7) * (-9.0 if held_out else 9.0)}

    folders = [str(write_run(tmp_path / name, suite, overfit)) for name, suite in (("a", before), ("b", after))]
    assert main(["compare", *folders, "--fail-on-worse", "objective"]) == 1
    assert "the pick of B, alpha 0.8 at CFG 3, is worse than that of A, alpha 0.45 at CFG 3" in capsys.readouterr().err


def test_a_candidate_that_neither_device_offers_is_nobodys_fault(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite = replace(SUITE, candidates=(*SUITE.candidates, replace(SUITE.candidates[0], name="half", quantization="fp16")))
    for name, not_offered in (("a", {"half": "not here"}), ("b", {"half": "not here"}), ("c", {})):
        run = write_run(tmp_path / name, suite, not_offered=not_offered)
        lines = [x for x in (run / "journal.jsonl").read_text().splitlines(keepends=True) if '"half"' not in x]
        (run / "journal.jsonl").write_text("".join(lines))
    words = ["compare", str(tmp_path / "a"), "--fail-on-worse", "objective"]
    assert main([*words, str(tmp_path / "b")]) == 0
    assert main([*words, str(tmp_path / "c")]) == 1
    assert "no pair of images in 1 of 2 cells" in capsys.readouterr().err


def test_runs_that_cannot_be_compared_end_with_one(folders: tuple[str, str], tmp_path: Path,
                                                   capsys: pytest.CaptureFixture[str]) -> None:
    other = write_run(tmp_path / "c", replace(SUITE, grid=replace(SUITE.grid, steps=3)))
    assert main(["compare", folders[0], str(other)]) == 1
    assert "Nothing could be compared" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["compare", "{run}", "{none}"], ["trend", "{run}", "{none}", "-o", "{none}/t.html"],
                                   ["trend", "{run}", "-o", "{none}.csv"]])
def test_what_is_no_run_ends_with_one_and_is_named(folders: tuple[str, str], tmp_path: Path, words: list[str],
                                                   capsys: pytest.CaptureFixture[str]) -> None:
    given = [word.format(run=folders[0], none=tmp_path / "none") for word in words]
    assert main(given) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"sweetspot {words[0]}: ")
    assert str(tmp_path / "none") in said


def test_a_trend_writes_the_page_and_the_table_beside_it(folders: tuple[str, str], tmp_path: Path,
                                                         capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trend", *folders, "-o", str(tmp_path / "t.html")]) == 0
    assert "2 points" in (tmp_path / "t.html").read_text()
    assert (tmp_path / "t.csv").read_text().startswith("date,commit,")
    assert "2026-01-02" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["compare", "a"], ["trend"], ["trend", "a", "--guidance", "x"]])
def test_a_wrong_command_line_ends_with_two(words: list[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 2
