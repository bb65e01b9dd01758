"""What the check says of references: numbers, twice the same, the image encoder, files of other kinds, and pictures."""

from dataclasses import replace
from pathlib import Path

import pytest

from harness import alpha_sweep, reference_sweep
from harness.check import problems
from harness.check.suite import remarks
from harness.declare import Alphas, Candidate, Gate, Prompt, Reference, Stage, Suite
from tests.fakes import tiny_grid, tiny_suite
from tests.reference.files import plain, saved


def suite(*references: Reference, **changes: object) -> Suite:
    grid = tiny_grid(prompts=(Prompt(id="cat", text="a cat", pictures={"face": "zoo:picture-cat-3"}),))
    values: dict[str, object] = {"candidates": (Candidate(name="x", model="zoo:photo", references=references),),
                                 "baseline": "x", "grid": grid}
    return tiny_suite(**{**values, **changes})  # type: ignore[arg-type]


def face(**changes: object) -> Reference:
    return Reference(**{"path": "zoo:image-prompt", "picture": "face", **changes})  # type: ignore[arg-type]


def said(root: Path, *references: Reference) -> str:
    return "\n".join(problems(suite(*references), root))


def test_a_sound_reference_has_no_problem(tmp_path: Path) -> None:
    assert said(tmp_path, face(weight=0.7, end=0.5), face(start=0.5, path="zoo:image-prompt-bin")) == ""


@pytest.mark.parametrize(("changes", "words"), [
    ({"weight": float("nan")}, "weight is nan"), ({"weight": 2000}, "weight is 2000"),
    ({"start": 0.5, "end": 0.5}, "start is 0.5"),
    ({"picture": " "}, "picture is empty"), ({"picture": "fce"}, "'fce'"), ({"blocks": Alphas(default=2e6)}, "blocks"),
    ({"path": "lost.safetensors"}, "'lost.safetensors' does not exist"), ({"path": "zoo:image"}, "'zoo:image'"),
    ({"encoder": "folder"}, "'folder' is not a folder"), ({"encoder": "ViT-H-14:lost.safetensors"}, "'lost.safetensors'"),
    ({"encoder": "ViT-H14:x.safetensors"}, "'ViT-H-14'"), ({"encoder": "empty"}, "config.json")])
def test_a_bad_value_is_named(changes: dict[str, object], words: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert words in said(tmp_path, face(**changes))


def test_one_picture_twice_at_the_same_steps_is_refused_and_at_others_not(tmp_path: Path) -> None:
    assert "twice at the same steps" in said(tmp_path, face(), face(start=0.5))
    assert said(tmp_path, face(end=0.5), face(start=0.5)) == ""


def test_a_file_of_another_kind_is_refused_by_its_header(tmp_path: Path) -> None:
    tensors = plain([(8, 10)])
    del tensors["image_proj.norm.bias"]
    saved(tensors, tmp_path / "cut.safetensors")
    assert "'image_proj.norm.bias'" in said(tmp_path, face(path="cut.safetensors"))


def test_a_suite_gives_its_clip_to_references_without_an_encoder_in_every_stage() -> None:
    declared = suite(face(), face(encoder="folder"), clip="ViT-H-14:h.safetensors", candidates=(
        Candidate(name="x", model="zoo:photo", references=(face(), face(encoder="folder")),
                  stages=(Stage(strength=0.5, references=(face(),)),)),))
    (candidate,) = declared.candidates
    assert [one.encoder for one in candidate.references] == ["ViT-H-14:h.safetensors", "folder"]
    assert candidate.stages[0].references[0].encoder == "ViT-H-14:h.safetensors"


def test_a_metric_that_no_candidate_can_have_is_said(tmp_path: Path) -> None:
    def remarked(*references: Reference) -> bool:
        return any("'likeness'" in text for text in remarks(suite(*references, metrics=("likeness",)), tmp_path))

    assert (remarked(), remarked(face())) == (True, False)
    assert not any("'likeness'" in text for text in remarks(suite(metrics=("exposure",)), tmp_path))


def test_a_reference_sweep_begins_without_the_reference_and_goes_over_other_sweeps() -> None:
    plainly, half = reference_sweep("zoo:base", face(weight=9), (0, 0.5))
    assert (plainly.name, plainly.references, plainly.axes) == ("reference=0", (), {"reference": 0})
    assert (half.name, half.references[0].weight) == ("reference=0.5", 0.5)
    merges = reference_sweep(alpha_sweep("zoo:photo", "zoo:anime", (0, 1)), face(), (0, 1))
    assert [one.name for one in merges] == [f"alpha={alpha} reference={weight}" for alpha in (0, 1) for weight in (0, 1)]
    with pytest.raises(ValueError, match="'reference' already"):
        reference_sweep(merges, face(), (1,))


@pytest.mark.parametrize(("seeds", "shared", "refused"), [((1,), 1, True), ((1,), 2, True), ((1,), 3, False), ((1, 2), 1, False)])
def test_agreement_is_refused_where_no_picture_has_two_images_to_compare(seeds: tuple[int, ...], shared: int, refused: bool,
                                                                         tmp_path: Path) -> None:
    names = ["fish"] * shared + ["cat", "cup", "car"][shared:]
    prompts = tuple(Prompt(id=f"p{n}", text=f"a {n}", pictures={"look": f"zoo:picture-{name}-3"}) for n, name in enumerate(names))
    given = suite(Reference(path="zoo:image-prompt", picture="look"), metrics=("likeness",),
                  gates=(Gate(value="likeness_agreement", at_least=80),))
    given = replace(given, grid=replace(given.grid, prompts=prompts, seeds=seeds))
    assert any("two seeds" in text for text in problems(given, tmp_path)) == refused
