"""`sweetspot blind` makes pages and takes answers in: all of them or none, once, and it says what became of each."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from harness.cli import main
from reports.blind.page import Blind
from reports.read.blind_files import read_key
from reports.read.run import load_run
from tests.reports import answered
from tests.reports.answered import exported, scores, taste


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Blind:
    return answered.blind(answered.write(tmp_path_factory.mktemp("runs") / "run"), prompts=4)


@pytest.fixture
def folder(made: Blind, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made.key.parent.parent, tmp_path / "run"))


def stored(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "blind").glob("ratings-*"))


def test_a_page_is_made_and_where_it_lies_is_said(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "out" / "page.html"
    assert main(["blind", str(folder), "--prompts", "2", "--seed", "9", "--candidates", "alpha=0,alpha=1", "-o", str(page)]) == 0
    said = capsys.readouterr().out
    assert "candidates: alpha=0 and alpha=1, at CFG 3" in said
    assert "6 pictures, 2 of them shown for the second time, from 4 images" in said
    assert page.stat().st_size < 100_000
    assert len(list((folder / "blind").glob("*.key.json"))) == 2


def test_answers_are_taken_in_and_the_agreement_is_told(folder: Path, made: Blind, tmp_path: Path,
                                                       capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(exported(tmp_path / f"{n}.json", made.session, n, scores(made.session, taste))) for n in ("Ann", "Ben")]
    assert main(["blind", str(folder), "--take", *files]) == 0
    said = capsys.readouterr().out
    assert "Ann: 14 of 14 answers imported\n" in said
    assert "2 of 3 raters have answered" in said
    assert "2 raters on 12 images: Krippendorff's alpha 1.00 [1.00, 1.00]" in said
    assert "alpha 0.45: 9.00 [9.00, 9.00], 2 raters, 4 images, 4 prompts" in said


def test_taking_a_file_twice_changes_nothing_and_says_so(folder: Path, made: Blind, tmp_path: Path,
                                                        capsys: pytest.CaptureFixture[str]) -> None:
    file = str(exported(tmp_path / "a.json", made.session, "Ann", scores(made.session, taste)))
    assert main(["blind", str(folder), "--take", file, file]) == 0
    before = (folder / "blind" / stored(folder)[0]).stat().st_mtime_ns
    assert main(["blind", str(folder), "--take", file]) == 0
    assert "already imported, nothing changed" in capsys.readouterr().out
    assert [(folder / "blind" / name).stat().st_mtime_ns for name in stored(folder)] == [before]


def test_a_later_file_of_the_same_rater_replaces_the_earlier_and_says_so(folder: Path, made: Blind, tmp_path: Path,
                                                                       capsys: pytest.CaptureFixture[str]) -> None:
    for name, score in (("Ann", 5), ("ANN ", 8)):
        file = exported(tmp_path / "a.json", made.session, name, dict.fromkeys(made.session.shows, score))
        assert main(["blind", str(folder), "--take", str(file)]) == 0
    assert "replacing this rater's earlier answers" in capsys.readouterr().out
    assert load_run(folder).images["rating"].dropna().unique().tolist() == [8.0]


def test_two_different_files_of_one_rater_at_once_are_refused(folder: Path, made: Blind, tmp_path: Path,
                                                             capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(exported(tmp_path / f"{score}.json", made.session, "Ann", dict.fromkeys(made.session.shows, score)))
             for score in (5, 8)]
    assert main(["blind", str(folder), "--take", *files]) == 1
    assert "different answers of the same rater, 'Ann'" in capsys.readouterr().err
    assert stored(folder) == []


def test_one_bad_file_keeps_the_good_ones_out_too(folder: Path, made: Blind, tmp_path: Path,
                                                 capsys: pytest.CaptureFixture[str]) -> None:
    good = exported(tmp_path / "good.json", made.session, "Ann", scores(made.session, taste))
    bad = exported(tmp_path / "bad.json", made.session, "Ben", {"ffffffffffff": 5})
    assert main(["blind", str(folder), "--take", str(good), str(bad)]) == 1
    assert "bad.json: unknown token" in capsys.readouterr().err
    assert stored(folder) == []


def test_answers_about_another_run_are_refused(made: Blind, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = answered.write(tmp_path / "other")
    file = exported(tmp_path / "a.json", made.session, "Ann", scores(made.session, taste))
    assert main(["blind", str(other), "--take", str(file)]) == 1
    assert "is not one of this run; it has none" in capsys.readouterr().err


def test_names_that_are_paths_stay_inside_the_run_folder(folder: Path, made: Blind, tmp_path: Path) -> None:
    for name in ("../../../../etc/x", "/abs/../x", "..", "ぁ", "a" * 60):
        file = exported(tmp_path / "a.json", made.session, name, scores(made.session, taste))
        assert main(["blind", str(folder), "--take", str(file)]) == 0
    assert len(stored(folder)) == 5
    assert len(load_run(folder).eyes.answered) == 5


@pytest.mark.parametrize("words", [["--take", "x.json", "--prompts", "3"], ["--prompts", "0"], ["--candidates", ","]])
def test_a_wrong_command_line_ends_with_two(folder: Path, words: list[str]) -> None:
    try:
        code: int | str | None = main(["blind", str(folder), *words])
    except SystemExit as end:
        code = end.code
    assert code == 2


def test_a_folder_that_is_no_run_is_named_and_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["blind", str(tmp_path)]) == 1
    assert str(tmp_path) in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_key_written_by_the_command_names_images_by_key_and_sha256(made: Blind) -> None:
    images = read_key(made.key).images
    assert len(images) == 12
    assert all(len(i.sha256) == 64 and len(i.sample) == 16 for i in images)
