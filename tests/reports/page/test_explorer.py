"""What the explorer is told: dimensions, places, values, links that stay in the folder, and a command a shell takes as meant."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness.declare import Candidate, Checkpoint
from reports import load_run, recommend
from reports.page.explorer import candidate_dimensions, command, explorer, link
from reports.page.thumbnails import Files
from reports.read.roles import axis_of, axis_values, controls
from reports.read.run import Run
from tests.reports import pictured, synthetic


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return load_run(pictured.write_run(tmp_path_factory.mktemp("pictured") / "dress", pictured.suite(prompts=3)))


def with_axes(axes: Iterable[dict[str, Any]], **more: Any) -> Run:
    """As much of a run as the dimensions of its candidates need."""
    made = tuple(Candidate(name=f"c{i}", model=Checkpoint(path="zoo:base"), axes=a, **more) for i, a in enumerate(axes))
    suite = synthetic.merge_suite(candidates=made, baseline="c0")
    return cast(Run, SimpleNamespace(
        suite=suite, axis=axis_of(suite), axis_values=axis_values(suite), roles=controls(suite),
        candidate=lambda name: next(c for c in made if c.name == name)))


def test_every_picture_stands_at_the_place_its_candidate_guidance_prompt_and_seed_give(run: Run) -> None:
    made = explorer(run, recommend(run))
    c, g, p, s = made.data["sizes"]
    assert (c, g, p, s) == (3, 3, 3, 2)
    for at, path in zip(made.data["at"], made.paths, strict=True):
        rest, seed = divmod(at, s)
        rest, prompt = divmod(rest, p)
        candidate, scale = divmod(rest, g)
        assert path == (f"images/{run.suite.candidates[candidate].name}/p{prompt:03d}-seed{seed + 1}"
                        f"-cfg{run.suite.grid.guidance_scales[scale]:g}.png")


def test_the_first_seed_of_every_prompt_is_kept_before_the_second(run: Run) -> None:
    seeds = ["seed2" in path for path in explorer(run, recommend(run)).paths]
    assert seeds == sorted(seeds)


def test_one_axis_gives_one_dimension_with_the_roles_of_its_ends(run: Run) -> None:
    dimension, = explorer(run, recommend(run)).data["dimensions"][:1]
    assert dimension["name"] == "alpha"
    assert [v.get("role") for v in dimension["values"]] == ["parent A", None, "parent B"]


def test_crossed_axes_become_dimensions_of_their_own_in_the_order_of_their_values() -> None:
    crossed = with_axes({"alpha": a, "weight": w} for a in (1.0, 0.0) for w in (0.5, 0.0, 1.0))
    dimensions, places = candidate_dimensions(crossed, [f"c{i}" for i in range(6)])
    assert [(d["name"], len(d["values"])) for d in dimensions] == [("alpha", 2), ("adapter weight", 3)]
    assert places == [[1, 1], [1, 0], [1, 2], [0, 1], [0, 0], [0, 2]]


def test_axes_that_do_not_tell_candidates_apart_are_no_dimensions() -> None:
    dimensions, places = candidate_dimensions(with_axes({"kind": k} for k in ("LoRA", "LoRA", "LoHa")), ["c0", "c1", "c2"])
    assert ([d["name"] for d in dimensions], places) == (["candidate"], [[0], [1], [2]])


def test_axes_of_which_most_combinations_are_missing_are_no_dimensions() -> None:
    odd = with_axes([{"alpha": 0.1, "weight": 1.0}, {"alpha": 0.2, "weight": 2.0}, {"alpha": 0.3, "weight": 3.0}])
    assert [d["name"] for d in candidate_dimensions(odd, ["c0", "c1", "c2"])[0]] == ["candidate"]


def test_a_quantization_that_varies_is_a_dimension_without_being_declared_an_axis(quantization_run: Run) -> None:
    dimensions, _ = candidate_dimensions(quantization_run, ["fp32", "bf16", "int8", "int4"])
    assert [(d["name"], [v["label"] for v in d["values"]]) for d in dimensions] == [
        ("quantization", ["fp32", "bf16", "int8", "int4"])]


def test_values_that_were_not_measured_are_empty_and_not_zero(merge_run: Run) -> None:
    images = merge_run.images.copy()
    images.loc[images.index[0], "clip_score"] = float("nan")
    made = explorer(replace(merge_run, images=images), recommend(merge_run)).data
    place = made["values"].index("CLIP score")
    assert made["says"][place].count("") == 1


@pytest.mark.parametrize("name", ["alpha=0.5", "it's $(rm -rf ~)", 'a "quoted" `name`', "two words; more", "[x]::y", "ünïcode"])
def test_a_shell_reads_the_command_as_the_words_it_is_made_of(run: Run, name: str) -> None:
    assert shlex.split(command(run, name)) == ["pytest", f"suites/dress.py::candidate[{name}]", "--benchmark", "--runs-dir",
                                               "remade", "--exact"]


def test_the_command_holds_nothing_that_acts_on_a_terminal(run: Run) -> None:
    said = command(run, "red \x1b[31m \u202e\nls")
    assert said.isprintable()
    assert "\\x1b[31m" in said


def test_the_command_names_the_device_and_is_absent_where_the_suites_file_is_unknown(run: Run) -> None:
    assert "--device cuda:1" in command(replace(run, environment={"device": "cuda:1"}), "alpha=0")
    assert command(replace(run, head={}), "alpha=0") == ""


def test_a_link_is_relative_and_escaped_and_only_to_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a #1?<x>%.png").write_bytes(b"")
    (tmp_path / "javascript:alert(1)").write_bytes(b"")
    files = Files(tmp_path)
    assert link(files, "images/a #1?<x>%.png") == "images/a%20%231%3F%3Cx%3E%25.png"
    assert link(files, "javascript:alert(1)") == "javascript%3Aalert%281%29"
    assert [link(files, p) for p in ("images/gone.png", "../x.png", "images", "\0")] == ["", "", "", ""]
