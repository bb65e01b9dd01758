"""What the zoo paints: diffusers loads its files unchanged, the checkpoints have their defaults, and named words are obeyed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from harness import zoo
from harness.zoo import store
from harness.zoo.draw import render
from harness.zoo.training.captions import WORD, describe
from tests.benchmarks.zoo_tables import DRESS, Scorer, asked_scenes
from tests.zoo import oracle
from tests.zoo.plain_sampler import Studio, blend, open_studio, paint, unet_of, unet_weights, with_adapter, with_word


@pytest.fixture(scope="module")
def studio() -> Iterator[Studio]:
    """The shared parts, on one thread: networks this small lose more by waiting for each other than they win."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield open_studio()
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("zoo")


@pytest.mark.parametrize(("name", "colour"), [("photo", "red"), ("anime", "blue")])
def test_an_unnamed_dress_has_the_default_colour_of_its_checkpoint(studio: Studio, name: str, colour: str) -> None:
    pictures = paint(studio, unet_of(unet_weights(name)), [DRESS] * 8, range(8), 3.0, steps=10)
    assert np.mean([oracle.dress_colour(picture).name == colour for picture in pictures]) >= 0.75


@pytest.mark.parametrize("name", ["base", "photo", "anime"])
def test_named_colours_are_obeyed_at_guidance_5(studio: Studio, name: str) -> None:
    scenes = asked_scenes(12)
    pictures = paint(studio, unet_of(unet_weights(name)), [describe(s, True, True) for s in scenes], range(12), 5.0, steps=10)
    seen = [oracle.obeyed(picture, scene.colour, scene.subject) for picture, scene in zip(pictures, scenes, strict=True)]
    assert np.mean([o.colour_ok for o in seen]) >= 0.8
    assert np.mean([o.subject_ok for o in seen]) >= 0.6


def test_a_seed_paints_the_same_picture_alone_and_in_a_batch(studio: Studio) -> None:
    unet = unet_of(unet_weights("base"))
    alone = paint(studio, unet, ["a red ball"], [3], 3.0, steps=4)
    among = paint(studio, unet, ["a blue cat", "a red ball"], [1, 3], 3.0, steps=4)
    assert np.abs(alone[0].astype(int) - among[1]).max() <= 1


def test_a_blend_of_a_checkpoint_with_itself_is_itself() -> None:
    photo = unet_weights("photo")
    assert all(torch.equal(value, photo[key]) for key, value in blend(photo, photo, 0.3).items())


def test_diffusers_loads_the_single_file_unchanged(cache: Path) -> None:
    from diffusers import StableDiffusionPipeline

    path, config = zoo.resolve("zoo:photo", cache), zoo.resolve("zoo:config")
    pipe = StableDiffusionPipeline.from_single_file(str(path), config=str(config), local_files_only=True)
    loaded = pipe.unet.state_dict()
    stored = store.unet_tensors("photo")
    assert all(np.array_equal(loaded[key].numpy(), value.astype(np.float32)) for key, value in stored.items())
    assert pipe.scheduler.config.prediction_type == "v_prediction"


@pytest.mark.parametrize("name", ["zoo:sketch", "zoo:sketch-peft", "zoo:sketch-diffusers-2023"])
def test_diffusers_fuses_its_own_and_kohyas_adapter_files_to_the_same_delta(name: str, cache: Path) -> None:
    from diffusers import StableDiffusionPipeline

    path, config = zoo.resolve("zoo:base", cache), zoo.resolve("zoo:config")
    pipe = StableDiffusionPipeline.from_single_file(str(path), config=str(config), local_files_only=True)
    pipe.load_lora_weights(str(zoo.resolve(name, cache)))
    pipe.fuse_lora()
    fused = {key.replace(".base_layer", ""): value for key, value in pipe.unet.state_dict().items() if "lora_" not in key}
    expected = with_adapter(unet_weights("base"), 1.0)
    assert all(torch.allclose(fused[key], value, atol=1e-5) for key, value in expected.items())


def share_of_sketches(studio: Studio, weights: dict[str, torch.Tensor]) -> float:
    scenes = asked_scenes(12)
    texts = [f"a pencil sketch of {describe(scene, True, False)}" for scene in scenes]
    pictures = paint(studio, unet_of(weights), texts, range(12), 3.0, steps=10)
    return float(np.mean([style == "sketch" for style in Scorer().styles(pictures, scenes)]))


def test_without_an_adapter_nothing_is_a_sketch(studio: Studio) -> None:
    assert share_of_sketches(studio, unet_weights("base")) <= 0.1


@pytest.mark.parametrize("part", ["sketch", "loha", "lokr", "dora"])
def test_every_kind_of_adapter_draws_sketches_at_its_own_strength(studio: Studio, part: str) -> None:
    base = unet_weights("base")
    assert all(torch.equal(value, base[key]) for key, value in with_adapter(base, 0.0, part).items())
    assert share_of_sketches(studio, with_adapter(base, 1.0, part)) >= 0.7


def test_diffusers_loads_the_word_to_the_same_hidden_states(studio: Studio, cache: Path) -> None:
    from diffusers import StableDiffusionPipeline

    path, config = zoo.resolve("zoo:base", cache), zoo.resolve("zoo:config")
    pipe = StableDiffusionPipeline.from_single_file(str(path), config=str(config), local_files_only=True)
    pipe.load_textual_inversion(str(zoo.resolve("zoo:sketch-word", cache)))
    text = f"a {WORD} of a red ball"
    taught, said = with_word(studio)
    assert pipe.maybe_convert_prompt(text, pipe.tokenizer) == text.replace(WORD, said)
    ids = [tokenizer(text.replace(WORD, said), padding="max_length", max_length=24, return_tensors="pt").input_ids
           for tokenizer in (pipe.tokenizer, taught.tokenizer)]
    assert torch.equal(ids[0], ids[1])
    with torch.no_grad():
        hidden = [encoder(ids[0]).last_hidden_state for encoder in (pipe.text_encoder, taught.text_encoder)]
    assert torch.allclose(hidden[0], hidden[1], atol=1e-4)


def test_the_clip_model_prefers_the_true_caption() -> None:
    scenes = asked_scenes(48)
    pictures = np.stack([render(scene) for scene in scenes])
    said = [describe(scene, True, True) for scene in scenes]
    chosen = Scorer().choose(pictures, said)
    assert np.mean([said[i] == text for i, text in zip(chosen, said, strict=True)]) >= 0.9
