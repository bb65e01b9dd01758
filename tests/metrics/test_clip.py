"""The CLIP scorer with a tiny untrained model: ranges, truncation, order, preprocessing, activation."""

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from harness.metrics.clip import CHUNK, Preprocess, ScorerError, activation, load_scorer, state_hash
from harness.metrics.clip_score import measure_clip_score
from harness.metrics.contract import ImageSet
from harness.metrics.text_parts import split

LONG = "a red ball on a white table beside a green cup and"


def noise(count, size=40):
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def test_the_score_is_a_hundred_times_the_cosine(tiny_clip):
    image = noise(1)
    pixels = tiny_clip.preprocess(torch.from_numpy(image).permute(0, 3, 1, 2))
    with torch.inference_mode():
        seen = tiny_clip.model.encode_image(pixels)
        said = tiny_clip.model.encode_text(tiny_clip.tokenizer(["a red ball"]))
    expected = 100 * float(torch.cosine_similarity(seen, said)[0])
    assert tiny_clip.scores(image, ["a red ball"])[0] == pytest.approx(expected, abs=1e-4)


def test_scores_below_zero_are_not_clamped(tiny_clip):
    scores = tiny_clip.scores(noise(20), [f"word{n} cup" for n in range(20)])
    assert scores.min() < 0


def test_scores_do_not_depend_on_batch_or_order(tiny_clip):
    images, texts = noise(CHUNK + 3), [f"a cup {n}" for n in range(CHUNK + 3)]
    whole = tiny_clip.scores(images, texts)
    backwards = tiny_clip.scores(images[::-1], texts[::-1])[::-1]
    alone = np.concatenate([tiny_clip.scores(images[n:n + 1], texts[n:n + 1]) for n in range(len(images))])
    assert np.abs(whole - backwards).max() < 1e-4
    assert np.abs(whole - alone).max() < 1e-4


def test_the_same_images_are_embedded_once_and_others_again(tiny_clip, monkeypatch):
    calls = []
    encode = tiny_clip.model.encode_image
    monkeypatch.setattr(tiny_clip.model, "encode_image", lambda pixels: calls.append(1) or encode(pixels))
    images = noise(CHUNK + 3, size=33)
    scores = tiny_clip.scores(images, ["a cup"] * len(images))
    assert np.abs(tiny_clip.against(images.copy(), ["a cup"])[:, 0] - scores).max() < 1e-4
    assert len(calls) == 2
    images[0, 0, 0] ^= 255
    assert tiny_clip.scores(images, ["a cup"] * len(images))[0] != scores[0]
    assert len(calls) == 4


def test_two_long_prompts_keep_their_own_embeddings(tiny_clip):
    image = noise(1)
    first = tiny_clip.scores(image, [LONG + " more"])
    other = tiny_clip.scores(image, ["an orange boat with seven blue flowers in a large gray house"])
    assert abs(first[0] - other[0]) > 1e-3


def test_a_longer_prompt_is_scored_in_parts_and_averaged(tiny_clip):
    image = noise(2)
    words = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "cats", "dogs", "fish"]
    assert [tiny_clip.text_parts(" ".join(words[:count])) for count in (0, 1, 6, 7, 12, 13)] == [1, 1, 1, 2, 2, 3]
    parts = [tiny_clip.scores(image, [" ".join(part)] * 2) for part in (words[:5], words[5:9], words[9:13])]
    assert tiny_clip.scores(image, [" ".join(words)] * 2) == pytest.approx(np.mean(parts, axis=0), abs=1e-4)
    assert tiny_clip.against(image, [" ".join(words)])[:, 0] == pytest.approx(np.mean(parts, axis=0), abs=1e-4)
    assert tiny_clip.scores(image, ["a red ball"] * 2) == pytest.approx(_of_ids(tiny_clip, image, ["a red ball"]), abs=1e-4)


def _of_ids(clip, image, texts):
    """The scores as open_clip's own tokenizer and model give them."""
    pixels = clip.preprocess(torch.from_numpy(image).permute(0, 3, 1, 2))
    with torch.inference_mode():
        seen, read = clip.model.encode_image(pixels), clip.model.encode_text(clip.tokenizer(texts))
    return 100 * torch.cosine_similarity(seen, read).numpy()


@pytest.mark.parametrize(("count", "room", "ends", "lengths"), [
    (0, 6, (), [0]), (6, 6, (), [6]), (7, 6, range(7), [4, 3]), (13, 6, range(13), [5, 4, 4]),
    (8, 6, (2, 7), [3, 5]),  # between words
    (14, 6, (13,), [5, 5, 4]),  # one long word
    (9, 6, (1, 8), [2, 4, 3]),  # a word that is longer than a part
])
def test_the_parts_of_a_text_are_about_equal_and_end_with_words(count, room, ends, lengths):
    parts = split(range(count), room, [place in ends for place in range(count)])
    assert [len(part) for part in parts] == lengths
    assert [token for part in parts for token in part] == [*range(count)]


def test_the_metric_says_in_how_many_parts_it_read_a_prompt(tiny_clip):
    long, short = measure_clip_score(ImageSet(images=noise(2), texts=("cat " * 9, "cat"), clip=tiny_clip))
    assert (long.details, long.values["tokens_dropped"]) == ({"clip_text_parts": 2}, 0)
    assert short.details == {}


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("resize_mode", ["shortest", "squash"])
@pytest.mark.parametrize("size", [(32, 32), (64, 64), (20, 20), (48, 80), (91, 50), (512, 512)])
def test_preprocessing_is_open_clips_bit_for_bit(size, resize_mode, interpolation):
    image = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
    wanted = {"mean": (0.48, 0.46, 0.41), "std": (0.27, 0.26, 0.28), "resize_mode": resize_mode, "interpolation": interpolation}
    theirs = open_clip.image_transform(32, is_train=False, **wanted)(Image.fromarray(image))
    ours = Preprocess(image_size=32, **wanted)(torch.from_numpy(image).permute(2, 0, 1)[None])[0]
    assert torch.equal(ours, theirs)


def test_squashing_keeps_the_edges_that_cropping_loses():
    image = np.zeros((32, 96, 3), dtype=np.uint8)
    image[:, :32] = 255
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None]
    either = {mode: Preprocess(image_size=32, mean=(0.0,) * 3, std=(1.0,) * 3, resize_mode=mode)(pixels).mean().item()
              for mode in ("squash", "shortest")}
    assert either["squash"] == pytest.approx(1 / 3, abs=0.01)
    assert either["shortest"] == 0.0


def test_white_reaches_the_model_as_white():
    white = torch.full((1, 3, 64, 64), 255, dtype=torch.uint8)
    assert Preprocess(image_size=32, mean=(0.5,) * 3, std=(0.5,) * 3)(white).min() == pytest.approx(1.0)


def test_the_definition_names_all_that_changes_a_score(tiny_clip):
    text = tiny_clip.definition()
    assert state_hash(tiny_clip.model) in text
    for word in ("tiny", "GELU", "not clamped", "bicubic", "fp32", "32 px", "(0.48, 0.46, 0.41)"):
        assert word in text


def test_the_hash_follows_the_weights(tiny_clip):
    changed = {"model": state_hash(tiny_clip.model)}
    with torch.no_grad():
        tiny_clip.model.logit_scale += 1
    try:
        assert state_hash(tiny_clip.model) != changed["model"]
    finally:
        with torch.no_grad():
            tiny_clip.model.logit_scale -= 1


def test_weights_trained_with_quickgelu_are_refused_under_gelu(tmp_path):
    file = tmp_path / "vit_b_32-openai.safetensors"
    save_file({"x": torch.ones(1)}, file)
    with pytest.raises(ScorerError, match="ViT-B-32-quickgelu:"):
        load_scorer(f"ViT-B-32:{file}")


@pytest.mark.parametrize(("reference", "words"), [
    ("ViT-B-32", "expected 'zoo:clip'"),
    ("ViT-B-33:x.safetensors", "did you mean 'ViT-B-32"),
    ("ViT-B-32:x.pt", "no such file"),
    ("ViT-B-32:/nowhere/x.safetensors", "no such file"),
    ("ViT-B-16-SigLIP:x.safetensors", "downloaded"),
])
def test_a_scorer_that_cannot_be_loaded_says_why(reference, words):
    with pytest.raises(ScorerError, match=words):
        load_scorer(reference)


@pytest.mark.parametrize("name", ["tiny.safetensors", "584f0b", "tiny.SAFETENSORS", "tiny.npz"])
def test_a_local_file_loads_into_its_architecture(tmp_path, monkeypatch, name):
    from open_clip import factory

    from tests.metrics.conftest import TINY, new_tiny_clip

    monkeypatch.setitem(factory._MODEL_CONFIGS, "tiny-test", TINY)
    save_file(new_tiny_clip().state_dict(), tmp_path / name)
    scorer = load_scorer(f"tiny-test:{tmp_path / name}")
    assert state_hash(scorer.model) == state_hash(new_tiny_clip())
    assert activation(scorer.model) == "GELU"
    assert scorer.scores(noise(2), ["a", "b"]).shape == (2,)


@pytest.mark.parametrize("name", ["clip.bin", "clip.safetensors"])
def test_a_pickle_of_a_clip_model_is_refused_whatever_its_name(tmp_path, name):
    torch.save({"x": torch.ones(1)}, tmp_path / name)
    with pytest.raises(ScorerError, match=f"{name}: a pickle"):
        load_scorer(f"ViT-B-32:{tmp_path / name}")


def test_all_texts_at_once_score_as_one_by_one():
    scorer = load_scorer()
    images = np.random.default_rng(5).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    texts = ("a red ball", "a blue car")
    singly = np.stack([scorer.scores(images, (text,) * 3) for text in texts], axis=1)
    assert scorer.against(images, texts) == pytest.approx(singly, abs=1e-4)
