"""The suite for some files: what is asked, that the text is sound as it stands, and what the files may not be."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from harness import Suite, zoo
from harness.check import problems
from harness.cli import main
from harness.declare.load_suite import load_suite
from harness.first_suite.extent import Extent, extents, fitting
from harness.first_suite.given_files import UnfitFileError, look
from harness.first_suite.prompts import ZOO, prompts_for
from harness.first_suite.python_text import call, listed, numbers, quoted
from harness.first_suite.questions import Options, question
from harness.first_suite.writing import MARK

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="session")
def copies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of two trainings, and others that differ from them by their place alone: links to one file are one file."""
    root = tmp_path_factory.mktemp("copies")
    for name, source in (*((f"ink-{number:06d}", "sketch") for number in (2, 4, 6, 10)), ("ink", "sketch"), ("other", "sketch"),
                         *((f"tuned-{number:06d}", "photo") for number in (2, 4, 6, 10))):
        shutil.copy(zoo.resolve(f"zoo:{source}"), root / f"{name}.safetensors")
    return root


@pytest.fixture
def folder(tmp_path: Path, copies: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with copies of built-in models and adapters, as a user would have them."""
    for name in ("photo", "anime", "base", "sketch", "sketch-dora", "sketch-loha"):
        (tmp_path / f"{name}.safetensors").symlink_to(zoo.resolve(f"zoo:{name}").absolute())
    for number in (2, 10, 4):
        for training in ("ink", "tuned"):
            (tmp_path / f"{training}-{number:06d}.safetensors").symlink_to(copies / f"{training}-{number:06d}.safetensors")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "none"))
    return tmp_path


def init(*words: str) -> Suite:
    """The suite that `sweetspot init` writes, loaded from its file."""
    assert main(["init", *words, "--to", "suites/s.py"]) == 0
    suite = load_suite(Path("suites/s.py"))
    assert isinstance(suite, Suite)
    assert problems(suite, Path.cwd()) == []
    return suite


def called(*words: str) -> str:
    """The name of the suite that `sweetspot init` writes without --to."""
    assert main(["init", *words]) == 0
    (file,) = Path("suites").glob("*.py")
    return str(load_suite(file).name)


CASES: dict[str, tuple[Sequence[str], str, int]] = {
    "two models": (["photo.safetensors", "anime.safetensors"], "alpha=0", 5),
    "built-in names": (["zoo:photo", "zoo:anime"], "alpha=0", 5),
    "three models": (["photo.safetensors", "anime.safetensors", "base.safetensors"], "photo", 3),
    "models of one training": (["tuned-*.safetensors"], "epoch=2", 3),
    "a model and an adapter": (["photo.safetensors", "--lora", "sketch.safetensors"], "weight=0", 5),
    "an adapter among the models": (["photo.safetensors", "sketch.safetensors"], "weight=0", 5),
    "two adapters": (["photo.safetensors", "--lora", "sketch.safetensors", "--lora", "sketch-loha.safetensors"],
                     "sketch=0 sketch_loha=0", 9),
    "a training": (["photo.safetensors", "--lora", "ink-*.safetensors"], "weight=0", 1 + 3 * 3),
    "two models with an adapter": (["photo.safetensors", "anime.safetensors", "--lora", "sketch.safetensors"], "alpha=0", 5),
    "one model": (["photo.safetensors"], "steps=20 sampler=dpmpp_2m", 12),
    "fewer bits": (["photo.safetensors", "--quantize"], "fp32", 5),
}


@pytest.mark.parametrize("case", CASES)
def test_the_files_get_the_suite_that_their_question_asks_for(case: str, folder: Path) -> None:
    words, baseline, candidates = CASES[case]
    suite = init(*words)
    assert (suite.baseline, len(suite.candidates)) == (baseline, candidates)
    assert (suite.budget is None) == (case == "fewer bits")


def test_files_of_a_training_are_swept_in_its_order_and_the_earliest_is_preferred(folder: Path) -> None:
    suite = init("photo.safetensors", "--lora", "ink-*.safetensors")
    assert list(dict.fromkeys(c.axes["epoch"] for c in suite.candidates)) == [2, 4, 10]
    assert suite.objective.prefer == {"guidance": "lowest", "epoch": "lowest"}


def test_an_exported_built_in_model_needs_no_option_and_has_its_size_and_prompts(folder: Path) -> None:
    suite = init("photo.safetensors", "anime.safetensors", "--minutes", "7")
    assert (suite.grid.width, suite.clip, suite.budget and suite.budget.minutes) == (64, "zoo:clip", 7.0)
    assert len(suite.grid.prompts) == 20
    assert (folder / "suites" / "zoo_prompts.toml").read_bytes() == ZOO.read_bytes()


def test_the_built_in_suites_have_the_same_prompts_as_a_first_suite() -> None:
    assert (ROOT / "suites" / "zoo_prompts.toml").read_bytes() == ZOO.read_bytes()


def test_size_steps_and_prompts_are_the_users(folder: Path) -> None:
    Path("p.txt").write_text("\n".join(f"a red star number {i}" for i in range(8)))
    suite = init("zoo:photo", "zoo:anime", "--size", "128", "--steps", "3", "--prompts", "p.txt")
    assert (suite.grid.width, suite.grid.height, suite.grid.steps, len(suite.grid.prompts)) == (128, 128, 3, 8)


def test_steps_of_one_model_are_the_most_that_are_tried(folder: Path) -> None:
    suite = init("zoo:photo", "--steps", "8")
    assert sorted({c.axes["steps"] for c in suite.candidates}) == [2, 3, 5, 8]
    assert suite.baseline == "steps=8 sampler=dpmpp_2m"
    assert init("zoo:photo", "--steps", "1").baseline == "sampler=dpmpp_2m"


def test_the_number_of_a_last_file_is_asked_for_by_the_option_and_taken(folder: Path, copies: Path,
                                                                        capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "ink.safetensors").symlink_to(copies / "ink.safetensors")
    assert main(["init", "zoo:photo", "--lora", "ink*.safetensors"]) == 2
    assert "give --last and its number" in capsys.readouterr().err
    suite = init("zoo:photo", "--lora", "ink*.safetensors", "--last", "12")
    assert suite.candidates[-1].adapters[0].path == "ink.safetensors"


def test_prompts_of_one_split_are_taken_in_turns_so_that_a_choice_can_be_confirmed(folder: Path) -> None:
    Path("p.toml").write_text("".join(f'[[prompt]]\nid = "p{i}"\ntext = "a red star {i}"\n' for i in range(8)))
    suite = init("zoo:photo", "zoo:anime", "--prompts", "p.toml")
    assert [p.split for p in suite.grid.prompts] == ["select", "confirm"] * 4
    assert suite.budget is not None


@pytest.mark.parametrize(("text", "syntax"), [
    ("(masterpiece:1.2), a red star", "a1111"), ("a red star BREAK a car", "a1111"), ("a red star", "")])
def test_prompts_with_markup_are_read_in_the_syntax_that_they_are_written_in(text: str, syntax: str, folder: Path,
                                                                              capsys: pytest.CaptureFixture[str]) -> None:
    Path("p.txt").write_text("\n".join([text, *(f"a blue car number {i}" for i in range(7))]))
    suite = init("zoo:photo", "zoo:anime", "--prompts", "p.txt")
    assert {prompt.syntax for prompt in suite.grid.prompts} == {syntax}
    assert ("in the syntax of a1111" in capsys.readouterr().out) == bool(syntax)


def test_loras_that_prompts_name_are_looked_up_in_the_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("p.txt").write_text("\n".join(f"a blue car number {i} <lora:sketch:0.5>" for i in range(8)))
    assert main(["init", "zoo:photo", "zoo:anime", "--prompts", "p.txt"]) == 2
    assert "--adapter-folder FOLDER" in capsys.readouterr().err
    assert init("zoo:photo", "zoo:anime", "--prompts", "p.txt", "--adapter-folder", ".").grid.adapter_folder == "."


@pytest.mark.parametrize(("text", "options", "says", "way"), [
    ("a cat <lora:ink:0.5>", (), "--adapter-folder FOLDER", ("--adapter-folder", "loras")),
    ("a (cat:1.2) --ar 3:2", (), "--syntax a1111", ()),
    ("a cat", ("--adapter-folder", "loras"), "leave out --adapter-folder", None)])
def test_what_prompts_lack_is_said_as_an_option_and_giving_it_is_enough(
        text: str, options: tuple[str, ...], says: str, way: tuple[str, ...] | None, folder: Path,
        capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "loras").mkdir()
    (folder / "loras" / "ink.safetensors").symlink_to(folder / "sketch.safetensors")
    (folder / "p.txt").write_text(f"{text}\n")
    words = ["init", "zoo:photo", "zoo:anime", "--prompts", "p.txt"]
    assert main([*words, *options]) == 2
    refusal = capsys.readouterr().err
    assert says in refusal
    assert not {"Grid(", "Prompt(", "read_prompts(", "adapter_folder="} & set(refusal.split())
    if way != ():
        assert main([*words, *(way or ())]) == 0


def test_two_prompts_make_a_suite_without_looks(folder: Path) -> None:
    Path("p.txt").write_text("a red star\na blue car\n")
    assert init("zoo:photo", "zoo:anime", "--prompts", "p.txt").budget is None


REFUSED: dict[str, tuple[Sequence[str], str]] = {
    "a missing file": (["phota.safetensors"], "does not exist below .*'photo.safetensors'"),
    "a file twice": (["photo.safetensors", "photo.safetensors"], "are the same file; give it once"),
    "a file under two paths": (["photo.safetensors", "./photo.safetensors"], "'./photo.safetensors' are the same file"),
    "a built-in model twice": (["zoo:photo", "zoo:photo"], "'zoo:photo' are the same file"),
    "an adapter twice": (["zoo:photo", "sketch.safetensors", "--lora", "./sketch.safetensors"],
                         "'./sketch.safetensors' are the same"),
    "two links to one model": (["anime.safetensors", "link.safetensors"], "'link.safetensors' are the same file; give it once"),
    "two links to one adapter": (["zoo:photo", "sketch.safetensors", "--lora", "sketch-link.safetensors"], "are the same file"),
    "a link among the files of a pattern": (["zoo:photo", "--lora", "sketch[.-]*safetensors"],
                                            "are the same file; give it once, or a pattern that leaves one of them out"),
    "an empty path": (["zoo:photo", ""], "a file's path is empty"),
    "no model": (["sketch.safetensors"], "there is no model among the files"),
    "an unknown built-in model": (["zoo:foto"], "unknown built-in model 'zoo:foto'"),
    "a pattern without files": (["photo.safetensors", "--lora", "x-*.safetensors"], "'x-.*' matches no file"),
    "a word": (["photo.safetensors", "--lora", "zoo:sketch-word"], "textual inversion, which has no weight"),
    "an adapter of another family": (["photo.safetensors", "--lora", "xl.safetensors"],
                                     "'xl.safetensors' was made for Stable Diffusion XL, but 'photo.safetensors'"),
    "fewer bits of two": (["photo.safetensors", "anime.safetensors", "--quantize"], "--quantize takes one model"),
    "models and adapters": (["zoo:photo", "zoo:anime", "zoo:base", "--lora", "zoo:sketch"], "3 models and adapters"),
    "a number of nothing": (["zoo:photo", "zoo:anime", "--last", "3"], "--last is 3, but the files are not of one training"),
    "no Python file": (["zoo:photo", "zoo:anime", "--to", "x.txt"], "expected a .py file"),
    "no prompts": (["zoo:photo", "zoo:anime", "--prompts", "none.txt"], "--prompts: .*none.txt"),
    "a wrong clip": (["zoo:photo", "zoo:anime", "--clip", "ViT-B-32"], "--clip: .*expected 'zoo:clip', .*'ARCHITECTURE:file'"),
    "a bad size": (["zoo:photo", "zoo:anime", "--size", "100"], "expected a multiple of 8 pixels"),
    "no pixels": (["zoo:photo", "zoo:anime", "--size", "0"], "width is 0; expected an integer of at least 8"),
    "no steps": (["zoo:photo", "zoo:anime", "--steps", "0"], "steps is 0; expected an integer of at least 1"),
    "a part of a model": (["zoo:photo", "vae.safetensors"], r"only vae.*Leave it out.*take=\{'vae': 'vae.safetensors'\}"),
    "a part of a model as an adapter": (["zoo:photo", "--lora", "vae.safetensors"], "only vae.*Leave it out"),
    "two trainings": (["photo.safetensors", "--lora", "ink-000002.safetensors", "--lora", "other-000004.safetensors"],
                      "ink-000002.*other-000004.*two names"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused_by_name_and_nothing_is_written(case: str, folder: Path, copies: Path,
                                                                      capsys: pytest.CaptureFixture[str]) -> None:
    words, message = REFUSED[case]
    (folder / "other-000004.safetensors").symlink_to(copies / "other.safetensors")
    (folder / "link.safetensors").symlink_to(folder / "anime.safetensors")
    (folder / "sketch-link.safetensors").symlink_to(folder / "sketch.safetensors")
    module = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
    save_file({f"{module}.lora_down.weight": np.zeros((1, 2048), np.float16),
               f"{module}.lora_up.weight": np.zeros((4, 1), np.float16)}, folder / "xl.safetensors")
    parts = load_file(zoo.resolve("zoo:photo"))
    save_file({name: parts[name] for name in parts if name.startswith("first_stage_model.")}, folder / "vae.safetensors")
    assert main(["init", *words]) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (folder / "suites").exists()


HOSTILE = ('a"; import os; os.mkdir("pwned") #.safetensors', "b'\n\nimport os\nos.mkdir('pwned')\n.safetensors",
           '"""\nimport os\n\\".safetensors', "c\x1b[31m\u202e\r.safetensors", "d{os.mkdir('pwned')}\\.safetensors")


@pytest.mark.parametrize("name", HOSTILE)
def test_what_a_file_is_called_cannot_become_code(name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for kind, source in ((name, "photo"), (f"lora {name}", "sketch")):
        (folder / kind).symlink_to(folder / f"{source}.safetensors")
    suite = init(name, "--lora", f"lora {name}")
    assert suite.candidates[1].adapters[0].path == f"lora {name}"
    assert not (folder / "pwned").exists()
    printed = capsys.readouterr()
    assert not re.search("[\x1b\u202e\r]", printed.out + printed.err)


def test_an_edited_file_is_never_written_over(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    init("zoo:photo", "zoo:anime")
    file = folder / "suites" / "s.py"
    edited = file.read_text().replace("0.25, 0.5", "0.3")
    file.write_text(edited)
    for words in (["zoo:photo", "zoo:anime"], ["zoo:photo", "zoo:base"]):
        assert main(["init", *words, "--to", "suites/s.py"]) == 2
        assert "is not as it was written; nothing was changed" in capsys.readouterr().err
    assert file.read_text() == edited
    file.write_text("mine\n")
    assert main(["init", "zoo:photo", "zoo:anime", "--to", "suites/s.py"]) == 2


def test_an_unedited_file_is_kept_for_the_same_command_and_replaced_for_another(folder: Path) -> None:
    init("zoo:photo", "zoo:anime")
    first = (folder / "suites" / "s.py").read_text()
    init("zoo:photo", "zoo:anime")
    assert (folder / "suites" / "s.py").read_text() == first
    init("zoo:photo", "zoo:anime", "--minutes", "3")
    assert (folder / "suites" / "s.py").read_text() != first


@pytest.mark.parametrize("words", [("photo.safetensors", "--lora", "ink-*.safetensors"), ("tuned-*.safetensors",)])
def test_a_file_that_a_pattern_matches_since_is_in_the_suite_of_the_same_command(
        folder: Path, copies: Path, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    init(*words)
    init(*words)
    assert "is there already" in capsys.readouterr().out
    new = words[-1].replace("*", "000020")
    (folder / new).symlink_to(copies / words[-1].replace("*", "000006"))
    assert 20 in {c.axes.get("epoch") for c in init(*words).candidates}
    assert "is there already" not in capsys.readouterr().out


def test_the_prompts_beside_the_suite_are_those_that_are_announced(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "suites").mkdir()
    (folder / "suites" / "zoo_prompts.toml").write_bytes(b'[[prompt]]\nid = "mine"\ntext = "a red star"\n' + ZOO.read_bytes())
    before, after = (prompts_for("", built_in=True, beside=beside) for beside in (None, folder / "suites"))
    init("zoo:photo", "zoo:anime")
    assert (after.select, after.confirm) == (before.select + 1, before.confirm)
    assert after.says in capsys.readouterr().out


def test_prompts_beside_the_suite_that_cannot_be_read_are_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "suites").mkdir()
    (folder / "suites" / "zoo_prompts.toml").write_bytes(b"[[prompt]\n")
    assert main(["init", "zoo:photo", "zoo:anime", "--to", "suites/s.py"]) == 2
    assert "zoo_prompts.toml" in capsys.readouterr().err
    assert not (folder / "suites" / "s.py").exists()
    assert main(["init", "zoo:photo", "zoo:anime", "--to", "other/s.py"]) == 0


def test_prompts_beside_the_suite_are_not_written_over(folder: Path) -> None:
    (folder / "suites").mkdir()
    mine = b'[[prompt]]\nid = "mine"\ntext = "a red star"\n' + ZOO.read_bytes()
    (folder / "suites" / "zoo_prompts.toml").write_bytes(mine)
    assert len(init("zoo:photo", "zoo:anime").grid.prompts) == 21
    assert (folder / "suites" / "zoo_prompts.toml").read_bytes() == mine


def asked() -> tuple[list[Extent], dict[int | None, object]]:
    models, adapters = look(["zoo:photo", "zoo:anime"], [])
    ask, prompts = question(models, adapters, Options()), prompts_for("", built_in=True)
    return extents(ask, prompts, "sd1", built_in_set=False), {None: prompts, "question": ask}  # type: ignore[dict-item]


@pytest.mark.parametrize(("pace", "seconds", "images"), [(0.01, 1200, 216), (1.0, 400, 108), (1.0, 200, 72), (10.0, 650, 15)])
def test_as_much_is_asked_as_the_time_allows_at_the_measured_pace(pace: float, seconds: float, images: int) -> None:
    listed_, of = asked()
    chosen = fitting(listed_, of["question"], of, pace, seconds)  # type: ignore[arg-type, index]
    assert chosen.images(of["question"], of[None]) == images  # type: ignore[arg-type, index]


def test_too_little_time_is_refused_with_the_minutes_that_are_enough() -> None:
    listed_, of = asked()
    with pytest.raises(UnfitFileError, match=r"give --minutes (\d+)") as refused:
        fitting(listed_, of["question"], of, 60.0, 60.0)  # type: ignore[arg-type, index]
    minutes = re.search(r"--minutes (\d+)", str(refused.value))
    assert minutes
    assert fitting(listed_, of["question"], of, 60.0, 60.0 * int(minutes[1]))  # type: ignore[arg-type, index]


@pytest.mark.parametrize("text", ["plain", "it's", 'say "x"', "both ' and \"", "\\", "\n", "é", "\ud800", "", "'", "#"])
def test_quoted_text_is_the_text(text: str) -> None:
    assert eval(quoted(text)) == text


def test_numbers_and_calls_are_python() -> None:
    assert eval(numbers((0, 0.2, 1))) == (0, 0.2, 1)
    assert eval(numbers((3,))) == (3,)
    assert eval(call("dict", *(f"a{i}={i}" for i in range(40)))) == {f"a{i}": i for i in range(40)}
    assert eval(listed([quoted("x" * 60), quoted("y" * 60)])) == ["x" * 60, "y" * 60]


def test_the_file_says_how_it_is_known_to_be_unedited(folder: Path) -> None:
    init("zoo:photo", "zoo:anime")
    assert (folder / "suites" / "s.py").read_text().splitlines()[-1].startswith(MARK)


def test_a_last_file_without_a_number_is_named_and_the_suite_is_called_without_one(folder: Path, copies: Path,
                                                                                  capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "ink.safetensors").symlink_to(copies / "ink.safetensors")
    assert called("photo.safetensors", "--lora", "ink-*.safetensors") == "photo_ink"
    assert "--lora ink.safetensors" in capsys.readouterr().out
    words = ["photo.safetensors", "--lora", "ink-*.safetensors", "--lora", "ink.safetensors", "--last", "20"]
    assert init(*words).candidates[-1].axes["epoch"] == 20
    assert "was not given" not in capsys.readouterr().out


@pytest.mark.parametrize("pattern", ["ink", "tuned"])
def test_a_suite_of_a_training_is_called_after_it_and_not_after_a_file(folder: Path, pattern: str) -> None:
    models = ["photo.safetensors"] if pattern == "ink" else []
    assert called(*models, f"{pattern}-*.safetensors") == "_".join([*(["photo"] if models else []), pattern])


def test_files_that_the_shell_puts_in_place_of_a_pattern_are_all_adapters(folder: Path) -> None:
    files = [f"ink-{number:06d}.safetensors" for number in (2, 4, 10)]
    quoted = init("photo.safetensors", "--lora", "ink-*.safetensors").candidates
    (folder / "suites" / "s.py").unlink()
    assert init("photo.safetensors", "--lora", *files).candidates == quoted


def test_a_clip_model_among_the_models_is_said_to_be_one(folder: Path) -> None:
    tensors = {name: np.zeros(8, np.float32) for name in ("visual.class_embedding", "ln_final.weight")}
    save_file(tensors, folder / "c.safetensors")
    with pytest.raises(UnfitFileError, match=r"is a CLIP model.*--clip ARCHITECTURE:c\.safetensors"):
        look(["photo.safetensors", "c.safetensors"], [])


def test_a_missing_clip_file_is_answered_with_the_option(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "photo.safetensors", "--clip", "ViT-B-32:c.safetensors"]) == 2
    assert "--clip ViT-B-32/openai" in (problem := capsys.readouterr().err)
    assert "clip=" not in problem


def test_of_few_prompts_it_is_said_that_none_confirm_the_choice(folder: Path) -> None:
    (folder / "p.txt").write_text("a red ball\n")
    assert prompts_for("p.txt", built_in=True).says == "1 prompt: 1 to choose on, none to confirm the choice with"


def test_a_file_of_another_name_is_a_suite_of_another_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                           capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["init", "zoo:photo", "zoo:anime"]) == 0
    assert main(["init", "zoo:photo", "zoo:anime", "--steps", "6", "--to", "suites/few steps.py"]) == 0
    names = {load_suite(file).name for file in (tmp_path / "suites").glob("*.py")}
    assert names == {"photo_anime", "few_steps"}
    capsys.readouterr()
    assert main(["init", "zoo:photo", "zoo:anime", "--steps", "6"]) == 0
    assert "is replaced" in capsys.readouterr().out


def test_a_part_of_a_model_is_refused_with_a_way_to_a_whole_one(folder: Path) -> None:
    unet = {name: value for name, value in load_file("photo.safetensors").items() if name.startswith("model.diffusion_model.")}
    save_file(unet, "unet.safetensors")
    with pytest.raises(UnfitFileError, match=r"has no vae and no text_encoder, only unet") as refused:
        look(["unet.safetensors", "anime.safetensors"], [])
    command = re.search(r"`sweetspot (.*?)`", str(refused.value))
    assert command is not None
    words = command[1].replace("WHOLE", "anime.safetensors").replace("OUTPUT", "whole.safetensors").split()
    assert main(words) == 0
    (model,), _ = look(["whole.safetensors"], [])
    assert model.family == "sd1"
