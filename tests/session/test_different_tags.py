"""A run of a suite whose prompts have different LoRA tags: each prompt's images are those of the candidate with its adapters."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness import Adapter, Budget, Gate, Objective, Prompt, Suite, run_suite, zoo
from harness.check import problems, with_prompt_adapters
from harness.cli import main
from harness.declare import plain
from harness.declare.picture_chunks import texts_of
from harness.declare.picture_texts import PARAMETERS
from harness.records import Coverage, Finished, Journal, NoiseFloor, Weights
from reports.analysis import load_run
from reports.read.prompts import prompts_of
from tests.fakes import plain_candidate, tiny_grid, tiny_suite
from tests.painted import PaintedBench, paint_runs

INK = "<lora:ink:0.8>"
Keys = dict[tuple[Any, ...], str]
TEXTS = {"cat": f"a red cat {INK}", "dog": "a red dog", "owl": f"{INK} a red owl", "fox": "a red fox <lora:ink:0.4>"}


@pytest.fixture(autouse=True)
def painted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    paint_runs(monkeypatch)
    (tmp_path / "loras").mkdir()
    shutil.copy(zoo.resolve("zoo:sketch"), tmp_path / "loras/ink.safetensors")
    monkeypatch.chdir(tmp_path)


def suite(texts: dict[str, str], *adapters: Adapter, **fields: Any) -> Suite:
    candidates = tuple(replace(c, adapters=adapters) for c in (plain_candidate(), plain_candidate("base", model="zoo:base")))
    grid = tiny_grid(prompts=[Prompt(id=name, text=text) for name, text in texts.items()], syntax="a1111", adapter_folder="loras")
    return tiny_suite(**{"candidates": candidates, "baseline": "photo", "gates": (), "metrics": ("exposure",), "grid": grid,
                         "objective": Objective(maximise="saturation", penalties=()), **fields})


def keys(declared: Suite) -> Keys:
    """The key of each image by candidate, prompt, seed and guidance, after a run without a failure."""
    result = run_suite(declared, progress=False)
    assert not result.failures
    places = ("candidate", "prompt", "seed", "guidance")
    return {tuple(row[place] for place in places): row["sample"] for row in result.images.to_dict("records")}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Keys]:
    """Where the run folders of a run of TEXTS are kept, and its keys. The first test that needs them makes them."""
    return tmp_path_factory.mktemp("made") / "runs", {}


@pytest.fixture
def whole(painted: None, made: tuple[Path, Keys]) -> Keys:
    """The keys of a run of TEXTS, which lies in the folder of the test."""
    folder, keys_by_place = made
    if keys_by_place:
        shutil.copytree(folder, "runs")
    else:
        keys_by_place.update(keys(suite(TEXTS)))
        shutil.copytree("runs", folder)
    return dict(keys_by_place)


def records(kind: type) -> list[Any]:
    return [r for r in Journal(Path("runs/tiny/journal.jsonl")).read()[0] if isinstance(r, kind)]


def ink(weight: float) -> Adapter:
    return Adapter(path="loras/ink.safetensors", weight=weight)


def test_each_prompts_images_have_the_keys_of_the_candidate_with_its_adapters(whole: Keys) -> None:
    for prompts, adapters in ((("cat", "owl"), (ink(0.8),)), (("dog",), ()), (("fox",), (ink(0.4),))):
        plain = {name: TEXTS[name].replace(INK, "").replace("<lora:ink:0.4>", "").strip() for name in prompts}
        alone = keys(replace(suite(plain, *adapters), name=f"alone-{prompts[0]}"))
        assert {place: key for place, key in whole.items() if place[1] in prompts} == alone, prompts


def test_a_second_run_makes_nothing_and_another_weight_only_the_images_of_its_prompts(whole: Keys) -> None:
    assert keys(suite(TEXTS)) == whole
    assert [done.sampled for done in records(Finished)][-2:] == [0, 0]
    changed = keys(suite({**TEXTS, "fox": "a red fox <lora:ink:0.5>"}))
    assert {place[1] for place, key in changed.items() if whole[place] != key} == {"fox"}
    per_prompt = len(whole) // 2 // len(TEXTS)
    assert [done.sampled for done in records(Finished)][-2:] == [per_prompt, per_prompt]


def test_a_prompt_that_lost_its_tag_has_no_images_until_the_suite_ran_again(whole: Keys) -> None:
    """The record of a run must not show images of other adapters for a suite that is declared otherwise."""
    weights = {w.candidate: w for w in records(Weights)}["photo"]
    assert set(weights.by_prompt) == set(TEXTS)
    assert len({*weights.by_prompt.values(), weights.identity}) == 4
    head = Path("runs/tiny/run.json")
    head.write_text(head.read_text().replace('"weight": 0.4', '"weight": 0.3').replace('"weight":0.4', '"weight":0.3'))
    assert load_run(Path("runs/tiny")).images.empty


def test_the_rows_of_every_group_are_on_record_and_counted_by_the_gate() -> None:
    result = run_suite(suite(TEXTS, gates=(Gate(value="coverage"),)), progress=False)
    assert [verdict.status for verdict in result.verdicts] == ["passed"]
    rows = [row for row in records(Coverage) if row.candidate == "photo"]
    assert {row.of for row in rows if row.of} == {len([row for row in rows if row.of])}


def test_the_noise_floor_is_of_the_last_group_alone(whole: Keys) -> None:
    """Images are made once more by what is live then."""
    assert {floor.cell.prompt for floor in records(NoiseFloor)} == {"fox"}


def test_an_interrupted_candidate_goes_on_with_the_groups_that_lack_images(whole: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Path("runs/tiny/journal.jsonl")
    gone = {key for place, key in whole.items() if place[:2] == ("photo", "dog")}
    lines = [line for line in journal.read_text().splitlines() if not any(key in line for key in gone)]
    journal.write_text("\n".join(lines) + "\n")
    prepared, own = list[int](), PaintedBench.prepare

    def prepare(bench: PaintedBench, candidate: Any, group: int = 0) -> Any:
        prepared.append(group)
        return own(bench, candidate, group)

    monkeypatch.setattr(PaintedBench, "prepare", prepare)
    assert keys(suite(TEXTS)) == whole
    assert prepared == [1]


def test_the_adapters_of_a_prompt_stand_behind_its_text(whole: Keys) -> None:
    run = load_run(Path("runs/tiny"))
    assert set(run.images["text"]) == {"a red cat (with ink 0.8)", "a red dog", "a red owl (with ink 0.8)",
                                       "a red fox (with ink 0.4)"}


def test_adapters_can_be_given_to_a_prompt_without_a_tag() -> None:
    declared = suite({"cat": "a red cat", "dog": "a red dog"})
    prompts = tuple(replace(p, adapters=[ink(0.8)] if p.id == "cat" else []) for p in declared.grid.prompts)
    by_field = replace(declared, grid=replace(declared.grid, prompts=prompts))
    assert problems(by_field, Path()) == []
    assert keys(by_field) == keys(suite({"cat": f"a red cat {INK}", "dog": "a red dog"}))


def test_a_race_asks_for_the_images_of_every_group() -> None:
    held_out = {"confirm": f"a red star {INK}"}
    declared = suite({**TEXTS, **held_out})
    prompts = tuple(replace(p, split="confirm") if p.id in held_out else p for p in declared.grid.prompts)
    declared = replace(declared, grid=replace(declared.grid, prompts=prompts))
    whole = keys(declared)
    shutil.rmtree("runs")
    part = keys(replace(declared, budget=Budget(first_prompts=2, step_prompts=1)))
    assert part
    assert part.items() <= whole.items()


def test_the_first_prompts_adapters_alone_decide_whether_seconds_still_count(whole: Keys) -> None:
    first = {w.candidate: w.setting for w in records(Weights)}
    keys(suite({**TEXTS, "fox": "a red fox <lora:ink:0.5>"}))
    assert {w.candidate: w.setting for w in records(Weights)} == first
    keys(suite({**TEXTS, "cat": "a red cat"}))
    assert {w.candidate for w in records(Weights) if w.setting == first[w.candidate]} == set(first)
    assert {w.candidate: w.setting for w in records(Weights)}.items().isdisjoint(first.items())


def test_a_suite_whose_prompts_bring_adapters_is_compared_by_the_prompts_that_bring_the_same(whole: Keys) -> None:
    shutil.copytree("runs/tiny", "before")
    keys(suite({**TEXTS, "fox": "a red fox <lora:ink:0.5>"}))
    before, after = prompts_of(load_run(Path("before"))), prompts_of(load_run(Path("runs/tiny")))
    assert {name for name in TEXTS if before[name] != after[name]} == {"fox"}


def test_such_a_candidate_is_not_promoted_until_all_prompts_have_the_same_tags(capsys: pytest.CaptureFixture[str]) -> None:
    written(suite(TEXTS, gates=(Gate(value="coverage"),)))
    assert not run_suite("suites/tiny.py", progress=False).failures
    assert main(("promote", "photo", "--run", "runs/tiny", "--as", "blend")) == 1
    said = capsys.readouterr().err
    assert all(words in said for words in ("3 of 4 prompts", "'cat'", "ink 0.8", "Give all prompts the same tags"))
    same = suite({name: f"a red {name} {INK}" for name in TEXTS}, gates=(Gate(value="coverage"),))
    assert with_prompt_adapters(same, Path()).candidates[0].adapters == (ink(0.8),)


def test_an_exported_picture_has_the_tags_of_its_prompt(whole: Keys) -> None:
    assert main(("images", "runs/tiny", "--candidate", "photo", "--to", "out")) == 0
    texts = {texts_of(picture)[PARAMETERS].splitlines()[0] for picture in Path("out").iterdir()}
    assert texts == {"a red cat <lora:ink:0.8>", "a red dog", "a red owl <lora:ink:0.8>", "a red fox <lora:ink:0.4>"}
    hashed = {"Lora hashes" in texts_of(picture)[PARAMETERS] for picture in Path("out").glob("*dog*")}
    assert hashed == {False}


def written(declared: Suite) -> None:
    Path("suites").mkdir()
    Path("suites/tiny.py").write_text("import json\nfrom harness.declare import restore\n"
                                      f"SUITE = restore(json.loads({json.dumps(plain(declared))!r}))\n")
