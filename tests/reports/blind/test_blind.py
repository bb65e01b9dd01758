"""The blind page: it gives nothing away, is balanced and repeatable, and in a browser it asks, keeps and exports."""

from __future__ import annotations

import json
import re
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main
from harness.declare import Grid
from reports.blind.page import Ask, Blind, write_blind
from reports.read.blind_files import read_key
from reports.read.run import load_run
from reports.verdict.recommending import recommend
from tests.browser import new_tab
from tests.reports import answered, synthetic


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return answered.write(tmp_path_factory.mktemp("runs") / "blind")


@pytest.fixture(scope="module")
def made(folder: Path) -> Blind:
    return answered.blind(folder)


def data(page: Path) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text(encoding="utf-8"), re.DOTALL)
    assert found
    held: dict[str, Any] = json.loads(found[1])
    return held


def test_nothing_of_the_candidates_stands_in_the_page(folder: Path, made: Blind) -> None:
    page, run = made.page.read_text(encoding="utf-8"), load_run(folder)
    secrets = {*run.images["candidate"], *run.images["path"], *run.images["sample"], *run.digests.values(), run.suite.name + '"',
               *(c.key for c in run.suite.candidates), *(w.identity for w in run.weights.values()), "alpha", "zoo:", "images/",
               "p04"}
    assert [secret for secret in secrets if secret in page] == []


def test_every_candidate_is_shown_at_the_same_prompts_and_seeds_confirm_first(made: Blind) -> None:
    by_name: dict[str, set[tuple[str, int]]] = {}
    for image in made.session.images:
        by_name.setdefault(image.candidate, set()).add((image.prompt, image.seed))
    assert set(by_name) == {"alpha=0", "alpha=0.45", "alpha=1"}
    assert all(cells == {(f"p{i:02d}", 1) for i in range(8)} for cells in by_name.values())


def test_fewer_prompts_are_those_of_the_confirm_split(folder: Path) -> None:
    session = answered.blind(folder, prompts=2, seeds=2).session
    assert {(i.prompt, i.seed) for i in session.images} == {("p04", 1), ("p04", 2), ("p05", 1), ("p05", 2)}


def test_some_images_are_shown_twice_under_tokens_of_their_own(made: Blind) -> None:
    session = made.session
    assert len(session.repeats) == 2
    for second, first in session.repeats.items():
        assert second != first
        assert session.shows[second] == session.shows[first]


def test_the_same_seed_makes_the_same_page_and_another_seed_another_session(folder: Path, made: Blind, tmp_path: Path) -> None:
    run = load_run(folder)
    again = write_blind(run, recommend(run), Ask(seed=3), tmp_path / "again.html")
    assert again.page.read_bytes() == made.page.read_bytes()
    assert answered.blind(folder, seed=4).session.session != made.session.session


def test_the_same_seed_makes_another_session_of_another_run(made: Blind, tmp_path: Path) -> None:
    grid = Grid(prompts=synthetic.prompts(4, 4), seeds=(5,), guidance_scales=(3.0,), width=32, height=32)
    suite = answered.small_suite(grid=grid)
    other = answered.blind(answered.write(tmp_path / "run", suite))
    assert set(other.session.shows).isdisjoint(made.session.shows)


def test_the_key_beside_the_page_is_read_back_as_it_was(made: Blind) -> None:
    assert read_key(made.key) == made.session


def test_pictures_stand_in_an_order_that_follows_from_themselves_alone(made: Blind) -> None:
    held = data(made.page)
    assert [show["token"] for show in held["shows"]] == sorted(made.session.shows)
    assert len(held["pictures"]) == len(set(held["pictures"]))
    assert all(src.startswith("data:image/webp;base64,") for src in held["pictures"])


def test_duels_pair_every_two_candidates_at_one_prompt_in_random_order(folder: Path) -> None:
    session = answered.blind(folder, preference=True).session
    firsts = [places for token, places in session.shows.items() if token not in session.repeats]
    assert len(firsts) == 8 * 3
    pairs = [(session.images[a], session.images[b]) for a, b in firsts]
    assert all((a.prompt, a.seed) == (b.prompt, b.seed) for a, b in pairs)
    assert {(a.candidate, b.candidate) for a, b in pairs} == set(permutations(answered.TASTE, 2))


def test_a_prompt_that_one_candidate_lacks_is_shown_of_none(tmp_path: Path) -> None:
    folder = answered.write(tmp_path / "run")
    journal = folder / "journal.jsonl"
    lost = '"candidate":"alpha=1","cell":{"prompt":"p05","seed":1,'
    journal.write_text("".join(line for line in journal.read_text().splitlines(keepends=True)
                               if not (lost in line and '"kind":"sample"' in line)))
    made = answered.blind(folder, prompts=2)
    assert {(i.prompt, i.seed) for i in made.session.images} == {("p04", 1), ("p05", 2)}
    assert any("passed over for lack of images: 1 " in said for said in made.notes)


def test_an_image_altered_since_it_was_written_is_refused(tmp_path: Path) -> None:
    folder = answered.write(tmp_path / "run")
    (folder / load_run(folder).images["path"].iloc[-1]).write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"\.png: altered since it was written"):
        answered.blind(folder, seeds=2)


def test_what_does_not_fit_is_left_out_in_whole_prompts_and_said(folder: Path, tmp_path: Path) -> None:
    run = load_run(folder)
    made = write_blind(run, recommend(run), Ask(seed=3), tmp_path / "small.html", budget=1500)
    shown = {i.prompt for i in made.session.images}
    assert len(made.session.images) == 3 * len(shown)
    assert any(f"the last {8 - len(shown)} of 8 prompt and seed pairs" in said for said in made.notes)


@pytest.mark.parametrize(("ask", "said"), [
    ({"candidates": ("alpha=0", "alpha=9")}, "no candidate 'alpha=9'"), ({"candidates": ("alpha=0",)}, "two candidates or more"),
    ({"guidance": 4.0}, "no images at guidance 4")])
def test_what_cannot_be_shown_is_refused_by_name(folder: Path, ask: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        answered.blind(folder, **ask)


def visit(browser: Any, page: Path, rater: str, **how: Any) -> tuple[Any, list[str]]:
    """The page with a rater begun, and what it complained of or asked for beside its own file."""
    tab, trouble = new_tab(browser, page, **how)
    tab.fill("#name", rater)
    tab.keyboard.press("Enter")
    return tab, trouble


def saved(tab: Any, to: Path) -> Path:
    """What the page saves."""
    with tab.expect_download() as download:
        tab.click("#file")
    download.value.save_as(to)
    return to


@pytest.mark.browser
def test_pictures_are_rated_by_keyboard_exported_and_taken_in_as_a_column(browser: Any, tmp_path: Path) -> None:
    folder = answered.write(tmp_path / "run")
    made = answered.blind(folder, prompts=2)
    tab, trouble = visit(browser, made.page, "Ann")
    for key in ("2", "u", *"7890789"):
        tab.keyboard.press(key)
    tab.keyboard.press("ArrowLeft")
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("3")
    assert tab.locator("#state").text_content() == "All 8 are answered."
    file = saved(tab, tmp_path / "ann.json")
    assert main(["blind", str(folder), "--take", str(file)]) == 0
    run = load_run(folder)
    assert sorted(r.score for r in run.eyes.ratings) == [3, 7, 7, 8, 8, 9, 9, 10]
    assert run.images["rating"].notna().sum() == 6
    assert trouble == []
    tab.close()


@pytest.mark.browser
def test_a_winner_is_the_one_that_was_seen_on_that_side(browser: Any, folder: Path, tmp_path: Path) -> None:
    made = answered.blind(folder, preference=True, prompts=1)
    tab, trouble = visit(browser, made.page, "Ann")
    left, total = list[str](), len(made.session.shows)
    for _ in range(total):
        left.append(tab.locator("#stage img").first.get_attribute("src"))
        tab.keyboard.press("ArrowLeft")
    answers = json.loads(tab.locator("#text").input_value())["answers"]
    held = data(made.page)
    shows = {show["token"]: show["at"] for show in held["shows"]}
    won = [held["pictures"][shows[token][0 if answer == "a" else 1]] for token, answer in answers.items()]
    assert sorted(won) == sorted(left)
    assert trouble == []
    tab.close()


@pytest.mark.browser
def test_each_rater_has_an_order_of_their_own_and_repeats_lie_apart(browser: Any, made: Blind) -> None:
    orders = []
    for rater in ("Ann", "Ben", "ann"):
        tab, _ = visit(browser, made.page, rater)
        for _ in made.session.shows:
            tab.keyboard.press("5")
        orders.append(list(json.loads(tab.locator("#text").input_value())["answers"]))
        tab.close()
    assert orders[0] != orders[1]
    assert orders[0] == orders[2]
    for order in orders:
        assert all(abs(order.index(a) - order.index(b)) >= 4 for a, b in made.session.repeats.items())


@pytest.mark.browser
def test_answers_are_kept_when_the_page_is_opened_again(browser: Any, made: Blind) -> None:
    tab, _ = visit(browser, made.page, "Cleo")
    for key in "456":
        tab.keyboard.press(key)
    tab.reload()
    tab.fill("#name", "Cleo")
    tab.keyboard.press("Enter")
    assert "3 answered" in tab.locator("#count").text_content()
    tab.close()


@pytest.mark.browser
def test_a_browser_that_keeps_nothing_rates_and_exports_all_the_same(browser: Any, made: Blind) -> None:
    tab = browser.new_page()
    tab.add_init_script("Object.defineProperty(window, 'localStorage', {get() { throw new Error('denied'); }})")
    tab.goto(made.page.as_uri())
    tab.fill("#name", "Dora")
    for key in ("Enter", "4", "5", "u"):
        tab.keyboard.press(key)
    tab.click("#finish")
    assert list(json.loads(tab.locator("#text").input_value())["answers"].values()) == [4]
    tab.close()


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("preference", [False, True])
def test_the_page_never_scrolls_sideways(browser: Any, folder: Path, width: int, preference: bool) -> None:
    made = answered.blind(folder, preference=preference)
    tab, trouble = visit(browser, made.page, "Ann", viewport={"width": width, "height": 844}, color_scheme="dark")
    assert (tab.evaluate("document.documentElement.scrollWidth"), trouble) == (width, [])
    tab.close()


@pytest.mark.browser
def test_hostile_prompts_and_names_do_nothing(browser: Any, tmp_path: Path) -> None:
    folder = synthetic.write_run(tmp_path / "run", synthetic.hostile_suite())
    answered.renew(folder)
    made = answered.blind(folder, candidates=("alpha=0", "alpha=1"), guidance=3.0, prompts=7)
    tab, trouble = visit(browser, made.page, "<img src=x onerror=document.title=1>\u200d\u00a0")
    seen = set()
    for _ in made.session.shows:
        seen.add(tab.locator("#prompt").text_content())
        tab.keyboard.press("6")
    assert "</script><script>document.title='owned'</script>" in seen
    assert tab.title() == f"Blind rating {made.session.session}"
    assert trouble == []
    file = saved(tab, tmp_path / "x.json")
    assert main(["blind", str(folder), "--take", str(file)]) == 0
    assert [p.parent for p in tmp_path.rglob("ratings-*.json")] == [folder / "blind"]
    tab.close()
