"""The CLIP scorer with a tiny untrained model: ranges, truncation, order, preprocessing, activation."""

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from harness.metrics.clip import CHUNK, Preprocess, ScorerError, _check_activation, activation, load_scorer, state_hash

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


def test_dropped_tokens_are_counted(tiny_clip):
    assert tiny_clip.tokens_dropped("a red ball") == 0
    assert tiny_clip.tokens_dropped("a " * 6) == 0
    assert tiny_clip.tokens_dropped("a " * 9) == 3


@pytest.mark.parametrize("size", [(32, 32), (64, 64), (20, 20), (48, 80), (91, 50), (512, 512)])
def test_preprocessing_is_open_clips_bit_for_bit(size):
    image = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
    mean, std = (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)
    theirs = open_clip.image_transform(32, is_train=False, mean=mean, std=std)(Image.fromarray(image))
    ours = Preprocess(image_size=32, mean=mean, std=std)(torch.from_numpy(image).permute(2, 0, 1)[None])[0]
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
    with pytest.raises(ScorerError, match="ViT-B-32-quickgelu:"):
        _check_activation("ViT-B-32", tmp_path / "vit_b_32-openai.safetensors", "GELU")
    _check_activation("ViT-B-32-quickgelu", tmp_path / "vit_b_32-openai.safetensors", "QuickGELU")
    _check_activation("ViT-B-32", tmp_path / "laion2b_s34b_b79k.safetensors", "GELU")


@pytest.mark.parametrize(("reference", "words"), [
    ("ViT-B-32", "expected 'zoo:clip' or"),
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
