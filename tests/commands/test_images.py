"""`sweetspot images` exports what a run declared, in the words that other tools read, and never replaces a file of another."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from harness import Candidate, Grid, PictureText, Prompt, Sampling, Suite, picture_text, read_prompts
from harness.cli import main
from harness.declare import Control, Ensemble, Reference, Relay, Stage, Upscale
from harness.declare.effective_grid import sampler_of
from harness.declare.picture_chunks import texts_of, with_texts
from harness.declare.picture_parameters import from_parameters, to_parameters
from harness.declare.picture_texts import OWN, PARAMETERS
from harness.declare.sampler_names import AUTOMATIC, SCHEDULE_NAMES, sampler_named, schedule_named
from harness.promotion.candidate_in_a1111 import candidate_differences
from harness.promotion.picture_of_image import NOISE, as_a1111, differences_in_a1111, picture_of
from harness.promotion.samplers_in_a1111 import NEAREST_IN_A1111, SAMPLERS_IN_A1111, SCHEDULES_IN_A1111
from harness.records import Cell
from harness.samplers import SAMPLERS, SCHEDULES
from harness.samplers.building import build_scheduler, set_steps
from harness.samplers.levels import training_levels
from harness.samplers.schedules import nearest_timesteps
from harness.weights.live_pipeline import CONFIGS
from reports.read.run import load_run
from reports.verdict.recommending import recommend
from tests.declare.pictures import FORGE, png
from tests.reports import answered

TEXTS = ("a red ball", "Grüße, (blau:1.2) [x] \\ und: \"zitiert\"", "一只猫\nand a second line",
         "Steps: 3 of a stair, Size: large", "a text <lora:ink:0.8>, BREAK")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return answered.write(tmp_path / "runs" / "run")


def images(folder: Path, *words: str) -> int:
    return main(["images", str(folder), "--to", "out", *words])


def exports(root: Path = Path("out")) -> list[Path]:
    return sorted(root.iterdir())


def test_the_pick_is_exported_at_its_guidance(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert images(folder) == 0
    pick = recommend(load_run(folder)).pick
    pictures = [picture_text(file) for file in exports()]
    assert len(pictures) == 16
    assert {picture.others["Candidate"] for picture in pictures} == {pick}
    assert NOISE in capsys.readouterr().out


def test_what_is_read_from_an_export_is_what_the_run_declared(folder: Path) -> None:
    assert images(folder, "--candidate", "alpha=1") == 0
    run = load_run(folder)
    candidate = run.candidate("alpha=1")
    cells = [Cell(prompt=str(r["prompt"]), seed=int(r["seed"]), guidance=float(r["guidance"]))
             for r in run.images[run.images["candidate"] == "alpha=1"].to_dict("records")]
    read = [picture_text(file) for file in exports()]
    assert len(read) == len(cells)
    assert all(picture_of(run.suite, candidate, cell) in read for cell in cells)


def test_the_pixels_stay_and_the_origin_is_in_names_and_hashes(folder: Path) -> None:
    assert images(folder, "--candidate", "alpha=1") == 0
    run = load_run(folder)
    row = run.images[run.images["candidate"] == "alpha=1"].iloc[0]
    (file,) = (file for file in exports() if file.stem.endswith(row["sample"][:8]))
    own = json.loads(texts_of(file)[OWN])
    assert (own["suite"], own["candidate"], own["key"]) == (run.suite.name, "alpha=1", row["sample"])
    assert own["noise_seed"] == Cell(prompt=row["prompt"], seed=int(row["seed"]), guidance=float(row["guidance"])).noise_seed
    assert own["sampling"] == run.head["sampling"]
    assert str(folder.parent) not in json.dumps(own)
    before, after = (Image.open(io.BytesIO(path.read_bytes())).convert("RGB").tobytes() for path in (folder / row["path"], file))
    assert before == after


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("negative", ["", "ugly, (bad)", "zwei\nZeilen: eins, zwei"])
@pytest.mark.parametrize("syntax", ["plain", "a1111"])
def test_the_parameters_say_the_same_as_the_declaration(text: str, negative: str, syntax: str) -> None:
    grid = Grid(prompts=(Prompt(id="p", text=text, negative=negative),), seeds=(7,), guidance_scales=(4.5,), width=64, height=96)
    candidate = Candidate(name="a: b, \"c\"", model="zoo:photo", sampling=Sampling(
        sampler="dpmpp_2m", schedule="karras", steps=8, clip_skip=2))
    suite = Suite(name="s", candidates=(candidate,), baseline=candidate.name, grid=grid)
    cell = Cell(prompt="p", seed=7, guidance=4.5)
    picture = replace(picture_of(suite, candidate, cell, ("mix, v2", "0123456789")), syntax=syntax)
    read = from_parameters(to_parameters(as_a1111(picture)))
    assert read == replace(as_a1111(picture), syntax="a1111")
    assert (read.sampler, read.schedule, read.clip_skip, read.model) == ("DPM++ 2M", "Karras", 2, "mix, v2")


@pytest.mark.parametrize("name", SAMPLERS_IN_A1111)
def test_a_name_of_a1111_means_the_sampler_that_it_is_written_for(name: str) -> None:
    assert sampler_named(SAMPLERS_IN_A1111[name])[0] == name.removeprefix("flow_")
    assert [schedule_named(SCHEDULES_IN_A1111.get(schedule, schedule.capitalize())) for schedule in SCHEDULE_NAMES] == [
        *SCHEDULE_NAMES]


@pytest.mark.parametrize(("sampler", "schedule", "expected"), [
    ("dpmpp_2m_karras", None, ("dpmpp_2m", "karras")), ("dpmpp_2m", "karras", ("dpmpp_2m", "karras")),
    ("ddim", None, ("ddim", "")), ("DPM++ 2M SDE Karras", None, ("dpmpp_2m_sde", "karras")), ("my own", None, ("my own", ""))])
def test_a_name_of_a_sampler_may_hold_its_schedule(sampler: str, schedule: str | None, expected: tuple[str, str]) -> None:
    sampling = Sampling(schedule=schedule) if schedule else None
    assert sampler_of(Grid(prompts=(), seeds=(), guidance_scales=(), sampler=sampler, sampling=sampling)) == expected


@pytest.mark.parametrize("text", [*TEXTS, "a\nNegative prompt: b", "  blanks \n", "a\nSteps: 1, Sampler: x, Seed: 3",
                                  "\u202e\x7f\0"])
def test_our_own_chunk_holds_texts_that_the_parameters_cannot(tmp_path: Path, text: str) -> None:
    picture = PictureText(tool="Sweetspot", syntax="plain", prompt=text, negative=text, guidance=4.5, others={"Note": text})
    chunks = {PARAMETERS: to_parameters(picture), OWN: json.dumps({"format": 1, "picture": asdict(picture)})}
    (tmp_path / "a.png").write_bytes(with_texts(png(tmp_path / "b.png", {}).read_bytes(), chunks))
    assert picture_text(tmp_path / "a.png") == picture


@pytest.mark.parametrize("own", ["{", "[]", '{"picture": {"prompt": 3}}',
                                 '{"picture": {"tool": "x", "syntax": "y", "prompt": 3}}',
                                 '{"picture": {"tool": "x", "syntax": "y", "prompt": "z", "seed": true}}', "[" * 99_999])
def test_a_broken_chunk_of_ours_leaves_the_parameters(tmp_path: Path, own: str) -> None:
    assert picture_text(png(tmp_path / "a.png", {OWN: own, PARAMETERS: FORGE})).tool == "Forge"


def test_square_brackets_of_comfyui_are_escaped_for_a1111() -> None:
    picture = PictureText(tool="Sweetspot", syntax="comfyui", prompt="a [red] (ball:1.2)")
    assert as_a1111(picture).prompt == r"a \[red\] (ball:1.2)"


def test_brackets_of_plain_texts_are_escaped_for_a1111() -> None:
    candidate = Candidate(name="a", model="zoo:photo")
    grid = Grid(prompts=(Prompt(id="p", text="a [red] (ball)", literal=True),), seeds=(0,), guidance_scales=(3,))
    suite = Suite(name="s", candidates=(candidate,), baseline="a", grid=grid)
    assert as_a1111(picture_of(suite, candidate, Cell(prompt="p", seed=0, guidance=3.0))).prompt == r"a \[red\] \(ball\)"


def test_exports_can_be_prompts_again(folder: Path) -> None:
    assert images(folder, "--candidate", "alpha=1") == 0
    declared = load_run(folder).suite.grid.prompts
    assert {(p.text, p.negative, p.syntax) for p in read_prompts("out")} == {(p.text, p.negative, "plain") for p in declared}


def test_what_ran_is_in_the_origin_also_of_gold(tmp_path: Path) -> None:
    gold = Path(__file__).parent.parent / "gold" / "runs" / "gold"
    assert main(["images", str(gold), "--candidate", "alpha=0.5", "--to", str(tmp_path / "out")]) == 0
    own = json.loads(texts_of(exports(tmp_path / "out")[0])[OWN])
    head = json.loads((gold / "run.json").read_text())
    assert own["packages"]["torch"] == head["environment"]["packages"]["torch"]
    assert (own["device"], own["sampling"]) == ("cpu", head["sampling"])


def test_a_second_export_changes_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert images(folder) == images(folder) == 0
    assert ["0 pictures" in line for line in capsys.readouterr().out.splitlines() if "pictures of" in line] == [False, True]
    stamps = {file: file.stat().st_mtime_ns for file in exports()}
    assert images(folder) == 0
    assert {file: file.stat().st_mtime_ns for file in exports()} == stamps


@pytest.mark.parametrize("other", [b"mine", b""])
def test_the_file_of_another_is_kept_and_nothing_is_written(folder: Path, other: bytes,
                                                            capsys: pytest.CaptureFixture[str]) -> None:
    assert images(folder) == 0
    taken, *rest = exports()
    for file in rest:
        file.unlink()
    taken.write_bytes(other)
    assert images(folder) == 1
    assert f"{taken}: another file has this name, and it is kept" in capsys.readouterr().err
    assert [(file, file.read_bytes()) for file in exports()] == [(taken, other)]


def test_an_altered_image_is_refused_before_anything_is_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / str(load_run(folder).images.query("candidate == 'alpha=1'").iloc[-1]["path"])
    path.write_bytes(path.read_bytes() + b"x")
    assert images(folder, "--candidate", "alpha=1") == 1
    assert f"{path} is missing or has changed" in capsys.readouterr().err
    assert not Path("out").exists()


@pytest.mark.parametrize(("words", "error"), [
    (("--candidate", "alpha=2"), "did you mean"), (("--to", "runs/run/images"), "is in the run folder"),
    (("--to", "file"), "is not a folder")])
def test_what_cannot_be_exported_is_refused_by_name(folder: Path, words: tuple[str, str], error: str,
                                                   capsys: pytest.CaptureFixture[str]) -> None:
    Path("file").write_text("mine")
    assert images(folder, *words) == 1
    assert error in capsys.readouterr().err


def test_a_model_as_it_is_gives_its_name_and_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.promotion.exported_pictures import _checkpoint, _model
    from harness.promotion.models_folder import Models
    from harness.records import Weights
    from harness.weights import content_hash

    monkeypatch.chdir(tmp_path)
    Path("mine.safetensors").write_bytes(b"weights")
    folder = answered.write(tmp_path / "run", answered.small_suite(
        candidates=(Candidate(name="alpha=0", model="mine.safetensors"),), baseline="alpha=0", gates=()))
    run = load_run(folder)
    weights = Weights(candidate="alpha=0", identity="i", inputs={"mine.safetensors": content_hash(Path("mine.safetensors"))})
    run = replace(run, weights={"alpha=0": weights})
    model, note = _model(run, "alpha=0", set(), Models(Path("models")))
    assert (model.name, model.digest, model.fused, note) == ("mine", hashlib.sha256(b"weights").hexdigest()[:10], False, "")
    Path("mine.safetensors").write_bytes(b"others")
    assert list(_checkpoint(run, "alpha=0")) == []


def test_texts_are_in_the_chunks_that_the_tools_read(folder: Path) -> None:
    assert images(folder, "--candidate", "alpha=1") == 0
    with Image.open(exports()[0]) as image:
        assert {PARAMETERS, OWN} <= set(image.info)
        assert from_parameters(image.info[PARAMETERS]).others["Version"].startswith("sweetspot ")


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("schedule", ["", *SCHEDULE_NAMES])
def test_pasting_never_means_karras_unless_it_was_declared_and_other_steps_are_said(sampler: str, schedule: str) -> None:
    picture = PictureText(tool="Sweetspot", syntax="plain", prompt="a", sampler=sampler, schedule=schedule)
    written, differences = as_a1111(picture), differences_in_a1111(picture)
    known = SAMPLERS_IN_A1111.get(sampler, "")
    means = AUTOMATIC.get(sampler, "") if written.schedule == "Automatic" else schedule_named(written.schedule)
    assert means in (("", "normal", "sgm_uniform", "simple") if not schedule else (schedule,))
    same = bool(known) and "A1111" in SAMPLERS[sampler].same_as and schedule not in ("", "beta")
    assert (differences == ()) is same


@pytest.mark.parametrize(("sampler", "schedule", "expected"), [
    ("dpmpp_2m", "", "SGM Uniform"), ("euler", "", "Uniform"), ("ddim", "", "Automatic"), ("flow_euler", "", "Simple"),
    ("dpmpp_2m", "karras", "Karras"), ("euler", "normal", "Normal"), ("euler", "sgm_uniform", "SGM Uniform")])
def test_a_schedule_type_is_always_written(sampler: str, schedule: str, expected: str) -> None:
    picture = as_a1111(PictureText(tool="Sweetspot", syntax="plain", prompt="a", sampler=sampler, schedule=schedule))
    assert f"Schedule type: {expected}" in to_parameters(picture)


def test_the_nearest_schedule_of_a1111_is_near_the_timesteps_of_diffusers() -> None:
    """By the levels that the tools publish, with the config of Stable Diffusion 1: within one timestep of a thousand."""
    config = json.loads((CONFIGS / "sd1" / "scheduler" / "scheduler_config.json").read_text(encoding="utf-8"))
    for sampler, name in NEAREST_IN_A1111.items():
        if name in ("Automatic", "Simple"):
            continue
        scheduler = build_scheduler(sampler, config)
        set_steps(scheduler, sampler, 20)
        training = training_levels(scheduler)
        levels = SCHEDULES[schedule_named(name)].levels(training, 20)
        own = {int(t) for t in nearest_timesteps(training, levels)}
        told = {round(float(t)) for t in scheduler.timesteps}
        assert all(min(abs(t - other) for other in told) <= 1 for t in own), sampler


@pytest.mark.parametrize(("fields", "facts"), [
    ({"stages": (Stage(model="zoo:anime", strength=0.5, sampling=Sampling(width=128)),)}, ("two stages", "Size: 128x96")),
    ({"model": Ensemble(models=("zoo:photo", "zoo:anime"), weights=(0.5, 0.5))}, ("ensemble",)),
    ({"model": Relay(models=("zoo:photo", "zoo:anime"), at=(0.5,))}, ("relay",)),
    ({"controls": (Control(path="c", picture="edges"),), "references": (Reference(path="r", picture="look"),)},
     ("control", "reference")),
    ({"post": (Upscale(factor=2),)}, ("post-steps", "Size: 128x192")),
])
def test_what_made_a_picture_besides_one_model_is_said_where_a_text_has_no_words_for_it(
        fields: dict[str, Any], facts: tuple[str, ...]) -> None:
    grid = Grid(prompts=(Prompt(id="p", text="a"),), seeds=(7,), guidance_scales=(4.5,), width=64, height=96)
    candidate, alone = Candidate(**{"name": "c", "model": "zoo:photo", **fields}), Candidate(name="alone", model="zoo:photo")
    suite = Suite(name="s", candidates=(candidate, alone), baseline="alone", grid=grid)
    assert candidate_differences(suite, candidate)
    text = picture_of(suite, candidate, Cell(prompt="p", seed=7, guidance=4.5))
    assert facts[0] in from_parameters(to_parameters(as_a1111(text))).others["Made by"]
    assert all(fact in to_parameters(as_a1111(text)) for fact in facts)
    assert candidate_differences(suite, alone) == ()
