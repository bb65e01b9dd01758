"""Image encoders: open_clip towers and transformers folders give what an IP-Adapter reads; others are refused with what fits."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from harness.reference.encoders import encoder_width, load_encoder, refuse_other_encoder
from harness.reference.reading import read_image_prompt
from harness.weights import ModelFileError
from harness.zoo import load_clip, resolve
from harness.zoo.pictures import drawn
from tests.reference.files import plain, plus, saved

FISH = drawn("zoo:picture-fish-3")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny transformers image encoder."""
    torch.manual_seed(0)
    config = CLIPVisionConfig(hidden_size=16, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2, image_size=32,
                              patch_size=8, projection_dim=12)
    path = tmp_path_factory.mktemp("encoder")
    CLIPVisionModelWithProjection(config).save_pretrained(path)
    return path


def test_the_built_in_encoder_gives_the_embedding_that_is_not_normalised() -> None:
    encoder = load_encoder("zoo:clip", resolve("zoo:clip"))
    model, _, _ = load_clip()
    pixels = torch.from_numpy(FISH.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
    assert torch.allclose(encoder.embedding("plain", FISH), model.encode_image(pixels), atol=1e-5)


def test_the_states_before_the_last_layer_lead_to_the_embedding() -> None:
    encoder = load_encoder("zoo:clip", resolve("zoo:clip"))
    states, tower = encoder.embedding("plus", FISH), encoder.module
    assert states.shape == (1, 65, 96)
    pooled = tower.ln_post(tower.transformer.resblocks[-1](states))[:, 0] @ tower.proj
    assert torch.allclose(pooled, encoder.embedding("plain", FISH), atol=1e-4)


def test_a_transformers_folder_gives_what_diffusers_would_give_the_adapter(folder: Path) -> None:
    encoder = load_encoder("", folder)
    module = CLIPVisionModelWithProjection.from_pretrained(folder)
    pixels = encoder.pixels(FISH)
    assert pixels.shape == (1, 3, 32, 32)
    assert torch.allclose(encoder.embedding("plain", FISH), module(pixels).image_embeds)
    states = module(pixels, output_hidden_states=True).hidden_states[-2]
    assert torch.allclose(encoder.embedding("plus", FISH), states)


def test_the_negative_branch_gets_zeros_or_the_states_of_an_image_that_is_zero_after_the_preprocessing(folder: Path) -> None:
    encoder = load_encoder("", folder)
    assert not encoder.embedding("plain", None).any()
    module = CLIPVisionModelWithProjection.from_pretrained(folder)
    gray = module(torch.zeros(1, 3, 32, 32), output_hidden_states=True).hidden_states[-2]
    assert torch.allclose(encoder.embedding("plus", None), gray)


def test_a_picture_is_cropped_to_its_middle_square(folder: Path) -> None:
    encoder = load_encoder("", folder)
    wide = np.concatenate([np.zeros((64, 20, 3), np.uint8), FISH, np.zeros((64, 20, 3), np.uint8)], axis=1)
    middle = (slice(None), slice(None), slice(None), slice(2, -2))  # bicubic resizing mixes neighbours at the border
    assert torch.allclose(encoder.pixels(wide)[middle], encoder.pixels(FISH)[middle])


def test_an_encoder_of_another_width_is_refused_with_the_one_that_fits(tmp_path: Path, folder: Path) -> None:
    sd1 = read_image_prompt(saved(plain([(8, 768)], width=1024), tmp_path / "sd1.safetensors"))
    faces = read_image_prompt(saved(plus([(8, 768)], width=1280), tmp_path / "plus.safetensors"))
    own = read_image_prompt(saved(plain([(8, 768)], width=12), tmp_path / "own.safetensors"))
    assert (encoder_width(sd1, "ViT-H-14:x", None), encoder_width(faces, "ViT-H-14:x", None)) == (1024, 1280)
    assert (encoder_width(own, "", folder), encoder_width(faces, "", folder)) == (12, 16)
    refuse_other_encoder(own, "folder", 12)
    for prompt, encoder, words in ((sd1, "zoo:clip", "gives 96. .*encoder='ViT-H-14:file'"), (faces, "ViT-bigG-14:x", "ViT-H-14"),
                                   (own, "zoo:clip", "as its page says")):
        with pytest.raises(ModelFileError, match=words):
            refuse_other_encoder(prompt, encoder, encoder_width(prompt, encoder, None))


@pytest.mark.parametrize(("config", "words"), [
    (None, "config.json cannot be read"), ({"model_type": "bert"}, "not of a CLIP image encoder"),
    ({"model_type": "clip_vision_model", "hidden_size": "big"}, "hidden_size"),
    ({"model_type": "clip_vision_model"}, "no .safetensors file")])
def test_another_folder_is_refused(config: dict[str, object] | None, words: str, tmp_path: Path) -> None:
    if config is not None:
        (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(ModelFileError, match=words):
        load_encoder("", tmp_path)
