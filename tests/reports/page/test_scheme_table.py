"""What the page says of candidates that combine models and pictures: their schemes, what each costs, and how each is made."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from reports import judge, load_run, recommend
from reports.page.build import render
from reports.page.pick_recipe import recipe_section
from reports.page.scheme_table import scheme_section
from reports.page.summary import markdown
from reports.read.run import Run
from tests.reports import synthetic
from tests.reports.synthetic_schemes import costs, suite


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return load_run(synthetic.write_run(tmp_path_factory.mktemp("schemes") / "run", suite(), extra=costs))


def rows(run: Run) -> dict[str, dict[str, str]]:
    section = scheme_section(run)
    assert section is not None
    heads = section["columns"]
    return {row["name"]: {"of": row["candidates"], **{head: " ".join((cell.text, *cell.below)) for head, cell in
                                                      zip(heads, row["cells"], strict=True)}} for row in section["rows"]}


def test_candidates_of_one_scheme_share_a_row(run: Run) -> None:
    assert {name: row["of"] for name, row in rows(run).items()} == {
        "single model": "alone", "merge": "merge", "ensemble": "both and both 0.3", "relay": "turns", "two stages": "night",
        "two stages + post-steps": "graded", "single model + control + reference": "edges"}


def test_memory_is_that_beside_one_model_and_for_each_network_more(run: Run) -> None:
    table = rows(run)
    assert table["single model"]["Weights, all parts"] == "10 MiB"
    assert table["ensemble"]["Weights, all parts"] == "16 MiB +60.0 %"
    assert table["ensemble"]["Peak memory"] == "46 MiB +15.0 %"
    assert table["single model + control + reference"]["Weights, all parts"] == "14 MiB +40.0 % +20.0 % for each more"


def test_seconds_switches_and_failed_images_stand_beside_them(run: Run) -> None:
    table = rows(run)
    assert table["ensemble"]["Seconds per image"].startswith("382 ms to 402 ms 1.89 to 1.99 times")
    assert table["relay"]["Style switch, later"] == "12.5 ms"
    assert table["relay"]["Failed images"] == "0 of 4 0.0 %"


def test_the_memory_of_the_whole_process_compares_nobody(tmp_path: Path) -> None:
    of_process = load_run(synthetic.write_run(tmp_path / "run", suite()))
    section = scheme_section(of_process)
    assert section is not None
    assert "Peak memory" not in section["columns"]
    assert [said.split(":")[0] for said in section["absent"]] == ["Peak memory"]


def test_a_suite_of_merges_has_no_such_table(merge_run: Run) -> None:
    assert scheme_section(merge_run) is None


def test_the_page_and_the_markdown_say_how_candidates_are_made_and_nothing_of_it_acts(run: Run) -> None:
    verdict = recommend(run)
    page, text = render(run, verdict, judge(run, verdict)), markdown(run, verdict, judge(run, verdict))
    assert "stage 2: zoo:anime, strength 0.5, prompt &#39;{prompt}, &lt;i&gt;night&lt;/i&gt;&#39;" in page
    assert "control by edges.safetensors, picture &#39;edges&#39;, weight 0.8" in page
    assert "afterwards table teal.cube at 0.5" in text
    assert "<i>night" not in page + text


def test_the_recipe_of_a_pick_of_several_stages_is_the_whole_candidate(run: Run) -> None:
    section = recipe_section(run, "graded")
    assert section is not None
    assert (section["one_file"], json.loads(section["text"])["stages"][0]["strength"]) == ("", 0.5)
    assert "stage 2: zoo:anime" in section["notes"]


def test_without_one_model_alone_nothing_is_in_percent(run: Run) -> None:
    others = tuple(c for c in run.suite.candidates if c.name not in ("alone", "merge"))
    table = rows(replace(run, suite=replace(run.suite, candidates=others, baseline="both")))
    assert table["relay"]["Weights, all parts"] == "16 MiB"


def test_a_model_with_stages_or_pictures_is_not_the_parent_of_a_merge(run: Run) -> None:
    assert run.roles == {"alone": "parent A"}
