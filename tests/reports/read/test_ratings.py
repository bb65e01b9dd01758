"""Answers of raters become a column of the run's table, only where the image is what they saw, and nothing is lost unsaid."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from reports.blind.page import Blind
from reports.gates import judge
from reports.page.build import write_page
from reports.page.human_ratings import eyes_section
from reports.read.blind_files import Shown, read_sheet
from reports.read.ratings import REMADE, UNSHOWN
from reports.read.run import load_run
from reports.verdict.recommending import recommend
from tests.reports import answered
from tests.reports.answered import answer, exported, scores, taste


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Blind:
    return answered.blind(answered.write(tmp_path_factory.mktemp("runs") / "rated"))


@pytest.fixture
def folder(made: Blind, tmp_path: Path) -> Path:
    """A run with a session and without an answer."""
    return Path(shutil.copytree(made.key.parent.parent, tmp_path / "run"))


def test_the_mean_over_raters_becomes_the_rating_of_an_image(folder: Path, made: Blind) -> None:
    answer(folder, made.session, "Ann", scores(made.session, taste))
    answer(folder, made.session, "Ben", scores(made.session, lambda s: taste(s) + 1))
    images = load_run(folder).images
    assert images.dropna(subset=["rating"]).groupby("candidate")["rating"].mean().to_dict() == {
        "alpha=0": 4.5, "alpha=0.45": 9.5, "alpha=1": 6.5}


def test_an_image_seen_twice_counts_once_for_its_rater(folder: Path, made: Blind) -> None:
    second, first = next(iter(made.session.repeats.items()))
    answer(folder, made.session, "Ann", {first: 4, second: 6})
    answer(folder, made.session, "Ben", {first: 9})
    rated = load_run(folder).images["rating"].dropna()
    assert rated.tolist() == [7.0]


def test_images_nobody_rated_are_absent_and_not_zero(folder: Path, made: Blind) -> None:
    answer(folder, made.session, "Ann", scores(made.session, taste))
    run = load_run(folder)
    assert run.images["rating"].isna().sum() == 24  # of 48: seed 2 was not shown
    assert {(g.count, g.why) for g in run.missing if g.value == "rating"} == {(8, UNSHOWN)}


def test_a_run_without_answers_has_no_such_column(folder: Path) -> None:
    run = load_run(folder)
    assert "rating" not in run.images.columns
    assert "rating" not in run.values


def test_a_gate_on_the_rating_is_judged(folder: Path, made: Blind) -> None:
    answer(folder, made.session, "Ann", {t: a - (t < "8") for t, a in scores(made.session, taste).items() if isinstance(a, int)})
    run = load_run(folder)
    verdict = judge(run, recommend(run))[0]
    assert (verdict.candidate, verdict.status) == ("alpha=0.45", "passed")


def test_a_rating_of_an_image_made_again_does_not_count_and_is_a_gap(folder: Path, made: Blind) -> None:
    answer(folder, made.session, "Ann", scores(made.session, taste))
    shown = made.session.images[0]
    row = load_run(folder).images.query("sample == @shown.sample").iloc[0]
    other = load_run(folder).images.query("sample != @shown.sample").iloc[0]
    shutil.copy(folder / other["path"], folder / row["path"])
    answered.renew(folder)
    run = load_run(folder)
    assert run.images.query("sample == @shown.sample")["rating"].isna().all()
    assert [(g.candidate, g.count) for g in run.missing if g.why == REMADE] == [(shown.candidate, 1)]


def test_answers_about_a_candidate_that_is_gone_are_counted_aloud(folder: Path, made: Blind) -> None:
    answer(folder, made.session, "Ann", scores(made.session, taste))
    head = json.loads((folder / "run.json").read_text())
    head["suite"]["candidates"] = [c for c in head["suite"]["candidates"] if c["name"] != "alpha=1"]
    (folder / "run.json").write_text(json.dumps(head))
    asked = sum(made.session.images[p[0]].candidate == "alpha=1" for p in made.session.shows.values())
    assert load_run(folder).eyes.notes[0].startswith(f"{asked} answers are about images that this run no longer has")


def test_damaged_files_are_named_and_the_others_count(folder: Path, made: Blind) -> None:
    answer(folder, made.session, "Ann", scores(made.session, taste))
    (folder / "blind" / f"ratings-{made.session.session}-ben.json").write_text("{")
    (folder / "blind" / "aaaaaaaaaaaa.key.json").write_text('{"format": 1}')
    run = load_run(folder)
    assert [Path(said.split(": ")[0]).name for said in run.damaged] == [
        "aaaaaaaaaaaa.key.json", f"ratings-{made.session.session}-ben.json"]
    assert run.images["rating"].notna().sum() == 24


def test_a_sheet_copied_under_another_name_does_not_count_twice(folder: Path, made: Blind) -> None:
    answer(folder, made.session, "Ann", scores(made.session, taste))
    first = next((folder / "blind").glob("ratings-*"))
    shutil.copy(first, first.with_name(f"ratings-{made.session.session}-zoe.json"))
    run = load_run(folder)
    assert len({r.rater for r in run.eyes.ratings}) == 1
    assert "belong into" in run.damaged[0]


def test_shares_of_duels_won_are_planted_ones(tmp_path: Path) -> None:
    folder = answered.write(tmp_path / "run")
    session = answered.blind(folder, preference=True).session

    def better(places: tuple[int, ...]) -> str:
        one, other = (taste(session.images[p]) for p in places)
        return "a" if one > other else "b" if other > one else "tie"

    answer(folder, session, "Ann", {t: better(p) for t, p in session.shows.items()})
    run = load_run(folder)
    assert run.images.groupby("candidate")["preferred"].mean().to_dict() == {"alpha=0": 0.0, "alpha=0.45": 1.0, "alpha=1": 0.5}
    section = eyes_section(run)
    assert section is not None
    assert [row["name"] for row in section.duels] == ["alpha 0.45", "alpha 1 (parent B)", "alpha 0 (parent A)"]


def test_the_section_tells_agreement_retest_and_who_is_far_off(folder: Path, made: Blind) -> None:
    def mild(s: Shown) -> int:
        return min(10, taste(s) + 2)
    for rater, opinion in (("Ann", taste), ("Ben", taste), ("Cleo", mild)):
        answer(folder, made.session, rater, scores(made.session, opinion))
    section = eyes_section(load_run(folder))
    assert section is not None
    assert section.agreement[0].startswith("3 raters on 24 images: Krippendorff's alpha 0.")
    assert any("Ann saw 2 images twice: within one point in 2 of 2" in said for said in section.agreement)
    assert any("Cleo scores 1.7 points above the others" in said for said in section.warnings)


def test_one_rater_and_raters_at_odds_are_warned_of(folder: Path, made: Blind) -> None:
    answer(folder, made.session, "Ann", scores(made.session, taste))
    section = eyes_section(load_run(folder))
    assert section is not None
    assert "One rater" in section.warnings[0]
    answer(folder, made.session, "Ben", scores(made.session, lambda s: 11 - taste(s)))
    section = eyes_section(load_run(folder))
    assert section is not None
    assert "agree little on images" in section.warnings[0]


def test_raters_who_differ_in_level_alone_are_told_from_raters_at_odds(folder: Path, made: Blind) -> None:
    answer(folder, made.session, "Ann", scores(made.session, lambda s: taste(s) - 3))
    answer(folder, made.session, "Ben", scores(made.session, lambda s: taste(s) + 1))
    section = eyes_section(load_run(folder))
    assert section is not None
    assert "agree on which images are better" in section.warnings[0]


def test_the_page_shows_the_section_and_a_hostile_rater_does_nothing_there(folder: Path, made: Blind) -> None:
    answer(folder, made.session, "<img src=x onerror=alert(1)>", dict(list(scores(made.session, taste).items())[:5]))
    page = write_page(folder).read_text(encoding="utf-8")
    assert "Human eyes" in page
    assert "&lt;img src=x onerror=alert(1)&gt; answered 5 of 26 in session" in page
    assert "<img src=x" not in page


@pytest.mark.parametrize(("changes", "said"), [
    ({"answers": {"ffffffffffff": 7}}, "unknown token"), ({"answers": {}}, "at least one answer"),
    ({"answers": []}, "at least one answer"), ({"session": "0" * 12}, "not one of this run"), ({"session": ["x"]}, "not one of"),
    ({"mode": "preference"}, "the session asked for 'rating'"), ({"format": "other"}, "format is"), ({"rater": "  "}, "rater is"),
    ({"rater": "a\x1b[31m"}, "printable name"), ({"rater": "a" * 61}, "1 to 60"), ({"rater": 7}, "rater is"),
    ({"extra": 1}, "unknown entry")])
def test_a_sheet_with_a_fault_is_refused_by_name(folder: Path, made: Blind, changes: dict[str, object], said: str) -> None:
    path = exported(folder / "s.json", made.session, "Ann", scores(made.session, taste), changes)
    with pytest.raises(ValueError, match=said) as refused:
        read_sheet(path, {made.session.session: made.session})
    assert str(path) in str(refused.value)


@pytest.mark.parametrize("score", [0, 11, -1, 7.0, 7.5, True, "7", None, [7]])
def test_a_score_that_is_no_whole_number_from_1_to_10_is_refused(tmp_path: Path, made: Blind, score: object) -> None:
    path = exported(tmp_path / "s.json", made.session, "Ann", {next(iter(made.session.shows)): score})
    with pytest.raises(ValueError, match="whole number from 1 to 10"):
        read_sheet(path, {made.session.session: made.session})


@pytest.mark.parametrize(("text", "said"), [
    ("[" * 100_000, "not readable as JSON"), ('{"answers": {"a": NaN}}', "no number"), ('{"a": 1, "a": 2}', "stands twice"),
    ("[]", "expected a JSON object"), ("\x00", "not readable"), (" " * (1 << 20) + "{}", "larger than 1 MiB")])
def test_a_file_that_is_no_sheet_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "s.json").write_text(text)
    with pytest.raises(ValueError, match=said):
        read_sheet(tmp_path / "s.json", {})


def test_a_key_from_another_run_does_not_open_a_sheet(tmp_path: Path, made: Blind) -> None:
    path = exported(tmp_path / "s.json", made.session, "Ann", scores(made.session, taste))
    with pytest.raises(ValueError, match="made from another run"):
        read_sheet(path, {"1" * 12: replace(made.session, session="1" * 12)})
