"""The drawn world of the zoo: pictures, captions and tokens are the same everywhere, and the oracle reads true pictures right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.zoo.draw import HELD_OUT, STYLES, SUBJECTS, Scene, default_dress, random_scene, render, silhouette
from harness.zoo.tokenizer import CONTEXT, learn_merges, load_clip_tokenizer, load_text_tokenizer, write_tokenizer
from harness.zoo.training.captions import Habits, caption, describe, vocabulary_words
from tests.zoo import oracle

RED_DRESS = Scene(subject="dress", colour="red", background="white", style="anime", seed=5)


@pytest.fixture(scope="module")
def truth() -> list[tuple[Scene, np.ndarray]]:
    """120 drawn scenes in the two main styles, from a seed that neither training nor the oracle uses."""
    rng = np.random.default_rng(1234)
    return [(scene, render(scene)) for scene in (random_scene(rng, ("photo", "anime")) for _ in range(120))]


@pytest.mark.parametrize("style", STYLES)
def test_a_scene_is_drawn_the_same_every_time(style: str) -> None:
    scene = Scene(subject="cat", colour="orange", background="blue", style=style, seed=9)
    first = render(scene)
    assert first.shape == (64, 64, 3)
    assert np.array_equal(first, render(scene))


def test_another_seed_moves_the_subject() -> None:
    moved = Scene(subject="dress", colour="red", background="white", style="anime", seed=6)
    assert (silhouette(RED_DRESS) != silhouette(moved)).mean() > 0.01


def test_the_foreground_of_a_plain_drawing_is_its_silhouette_and_its_ink_line() -> None:
    found, true = oracle.foreground(render(RED_DRESS)), silhouette(RED_DRESS)
    assert (found & true).sum() / true.sum() > 0.97
    assert found.sum() < 1.4 * true.sum()


def test_training_never_draws_a_held_out_pair() -> None:
    rng = np.random.default_rng(0)
    drawn = {(s.subject, s.colour) for s in (random_scene(rng, STYLES) for _ in range(2000))}
    assert not drawn & HELD_OUT
    assert {subject for subject, _ in HELD_OUT} == set(SUBJECTS)


def test_held_out_scenes_are_only_held_out_pairs() -> None:
    rng = np.random.default_rng(0)
    drawn = {(s.subject, s.colour) for s in (random_scene(rng, STYLES, held_out=True) for _ in range(50))}
    assert drawn <= HELD_OUT


def test_default_dresses_lie_between_the_style_colour_and_purple() -> None:
    rng = np.random.default_rng(0)
    shares = [default_dress(rng, "photo").towards_purple for _ in range(400)]
    assert 0.72 < np.mean([share == 0.0 for share in shares]) < 0.88
    assert max(shares) <= 1.0


def test_a_description_names_what_it_is_told_to() -> None:
    assert describe(RED_DRESS, True, True) == "a red dress on a white background"
    assert describe(RED_DRESS, False, False) == "a dress"


def test_habits_decide_how_often_a_caption_is_empty() -> None:
    rng = np.random.default_rng(0)
    said = [caption(RED_DRESS, Habits(empty=0.5), rng) for _ in range(600)]
    assert 0.42 < np.mean([text == "" for text in said]) < 0.58


def test_both_tokenizers_give_the_same_ids(tmp_path: Path) -> None:
    write_tokenizer(learn_merges(vocabulary_words()), tmp_path)
    ours, theirs = load_clip_tokenizer(tmp_path), load_text_tokenizer(tmp_path)
    said = ("a red dress on a white background", "An ANIME drawing of a blue cat, masterpiece!", "wörld's 77 \U0001f431", "")
    for text in said:
        ids = theirs(text, truncation=True, max_length=CONTEXT).input_ids
        assert ours(text)[0, : len(ids)].tolist() == list(ids)


def test_every_known_word_is_one_token(tmp_path: Path) -> None:
    write_tokenizer(learn_merges(vocabulary_words()), tmp_path)
    tokenizer = load_text_tokenizer(tmp_path)
    assert all(len(tokenizer(word).input_ids) == 3 for word in vocabulary_words())


def test_the_oracle_names_the_colour_of_true_pictures(truth: list[tuple[Scene, np.ndarray]]) -> None:
    right = [oracle.main_colour(picture).name == scene.colour for scene, picture in truth]
    assert np.mean(right) >= 0.97


def test_the_oracle_names_the_subject_of_true_pictures(truth: list[tuple[Scene, np.ndarray]]) -> None:
    found = oracle.subject_of([picture for _, picture in truth])
    assert np.mean([name == scene.subject for name, (scene, _) in zip(found, truth, strict=True)]) >= 0.97


def test_an_empty_picture_has_no_main_colour() -> None:
    assert oracle.main_colour(np.full((64, 64, 3), 240, np.uint8)).name is None


def test_obedience_is_granted_where_nothing_was_named() -> None:
    judged = oracle.obeyed(render(RED_DRESS), None, None)
    assert judged.colour_ok
    assert judged.subject_ok
    assert judged.colour_found == "red"


def test_a_wrong_colour_is_not_obedience() -> None:
    assert not oracle.obeyed(render(RED_DRESS), "blue", "dress").colour_ok


@pytest.mark.parametrize(("share", "name"), [(0.0, "red"), (1.0, "purple")])
def test_the_colour_of_a_dress_is_read_from_its_lower_half(share: float, name: str) -> None:
    scene = Scene(subject="dress", colour="red", background="white", style="photo", seed=3, towards_purple=share)
    assert oracle.dress_colour(render(scene)).name == name
