"""The networks that are guided by a picture: their files in every layout, their training, and the drawn pictures."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import ControlNetModel
from PIL import Image

from harness import zoo
from harness.control.edge_map import edge_f1, edges_of
from harness.weights.safe_pickle import read_pickle
from harness.zoo import pictures, store
from harness.zoo.draw import SUBJECTS
from harness.zoo.models import new_unet
from harness.zoo.training import control, guiding, image_prompt
from harness.zoo.training.loop import Setting
from harness.zoo.training.pack import pack_guides

SAME = {"input_hint_block.0": "controlnet_cond_embedding.conv_in", "input_hint_block.12": "controlnet_cond_embedding.blocks.5",
        "input_hint_block.14": "controlnet_cond_embedding.conv_out", "zero_convs.3.0": "controlnet_down_blocks.3",
        "middle_block_out.0": "controlnet_mid_block", "input_blocks.0.0": "conv_in", "time_embed.2": "time_embedding.linear_2",
        "input_blocks.1.0.in_layers.2": "down_blocks.0.resnets.0.conv1",
        "input_blocks.2.0.op": "down_blocks.0.downsamplers.0.conv"}
"""Some modules by the original code's names and by diffusers'."""


def test_diffusers_loads_the_control_network_with_every_key() -> None:
    _, info = ControlNetModel.from_pretrained(zoo.resolve("zoo:control-edges-diffusers"), output_loading_info=True)
    assert not any(info.values())


def test_the_original_layout_holds_the_same_tensors_under_its_own_names() -> None:
    original = store.load_tensors(zoo.resolve("zoo:control-edges"))
    named = store.load_tensors(zoo.resolve("zoo:control-edges-diffusers") / "diffusion_pytorch_model.safetensors")
    assert all(key.startswith("control_model.") for key in original)
    assert len(original) == len(named)
    for ours, theirs in SAME.items():
        assert np.array_equal(original[f"control_model.{ours}.weight"], named[f"{theirs}.weight"]), ours


def test_the_image_prompt_says_the_same_in_both_forms() -> None:
    tensors = store.load_tensors(zoo.resolve("zoo:image-prompt"))
    content = read_pickle(zoo.resolve("zoo:image-prompt-bin"))
    assert content.keys() == {"image_proj", "ip_adapter"}
    assert {f"{section}.{name}" for section, inner in content.items() for name in inner} == tensors.keys()
    assert all(np.array_equal(tensors[f"{section}.{name}"], value.numpy())
               for section, inner in content.items() for name, value in inner.items())


def test_a_drawn_picture_is_the_same_in_every_cache_and_its_edges_are_its_own(tmp_path: Path) -> None:
    first, second = (zoo.resolve("zoo:picture-fish-3", tmp_path / name) for name in "ab")
    assert first.read_bytes() == second.read_bytes()
    picture, edges = np.asarray(Image.open(first)), np.asarray(Image.open(zoo.resolve("zoo:edges-fish-3", tmp_path)))
    assert picture.shape == edges.shape == (64, 64, 3)
    assert np.array_equal(edges[..., 0] > 0, edges_of(picture))


@pytest.mark.parametrize("subject", SUBJECTS)
def test_every_drawn_picture_has_edges_of_its_own(subject: str) -> None:
    first, second = (edges_of(pictures.drawn(f"zoo:picture-{subject}-{number}")) for number in (0, 11))
    assert first.sum() > 50
    assert edge_f1(first, second) != 1


@pytest.mark.parametrize(("name", "words"), [
    ("zoo:picture-fsh-3", "did you mean 'fish'"), ("zoo:picture-fish-100", "from 0 to 99"),
    ("zoo:edges-fish", "zoo:picture-fish-3"), ("zoo:picture-fish--1", "zoo:picture-fish-3")])
def test_an_unknown_picture_is_refused_with_what_there_is(name: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        zoo.resolve(name)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six pictures and two steps of two."""
    monkeypatch.setattr(guiding, "COUNT", 6)
    for module in (control, image_prompt):
        monkeypatch.setattr(module, "RECIPE", replace(module.RECIPE, steps=2, batch=2, warmup=1))


@pytest.mark.usefixtures("few")
def test_the_guides_can_be_trained_from_the_packed_zoo_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    control.train_control(Setting(work=tmp_path))
    image_prompt.train_image_prompt(Setting(work=tmp_path))
    shipped = {name: store.load_tensors(store.PARTS / f"{name}.safetensors") for name in ("control-edges", "image-prompt")}
    parts = tmp_path / "parts"
    parts.mkdir()
    (parts / "unet.safetensors").write_bytes((store.PARTS / "unet.safetensors").read_bytes())
    monkeypatch.setattr(store, "PARTS", parts)
    pack_guides(tmp_path)
    for name, tensors in shipped.items():
        packed = store.load_tensors(parts / f"{name}.safetensors")
        assert {key: value.shape for key, value in packed.items()} == {key: value.shape for key, value in tensors.items()}


def test_the_hint_encoder_begins_at_weights_that_let_edges_through() -> None:
    torch.manual_seed(0)
    net = control.new_control_net()
    control.take_over(net, new_unet())
    hints = (torch.rand(8, 1, 64, 64) < 0.06).float().expand(-1, 3, -1, -1)
    assert net.controlnet_cond_embedding(hints).std() == 0
    control.let_through(net, hints)
    assert float(net.controlnet_cond_embedding(hints).detach().std()) == pytest.approx(0.5, rel=1e-3)
    assert not net.controlnet_down_blocks[0].weight.any()
