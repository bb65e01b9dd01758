"""Files of control networks: one canonical set of tensors from every layout, and refusals that name file and key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel

from harness.control.layouts import CONTROL_LORA, MARK, named
from harness.control.network import filled, network_without_values
from harness.control.reading import read_control
from harness.weights.safetensors_header import ModelFileError
from tests.control.nets import control_lora, four_files, of_unet, original_names, write, write_folder
from tests.weights.tiny import tiny

FACTOR = 2
LAYOUTS = ("folder", "bare", "original", "prefixed", "beside", "pickled", "difference")


@pytest.fixture(scope="module")
def unet() -> UNet2DConditionModel:
    made = tiny()
    module = UNet2DConditionModel(**made.configs["unet"])
    module.load_state_dict(made.unet)
    return module.eval()


@pytest.fixture(scope="module")
def files(unet: UNet2DConditionModel, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return four_files(of_unet(unet), unet, tmp_path_factory.mktemp("nets"))


def live(path: Path, unet: UNet2DConditionModel, base: UNet2DConditionModel | None = None) -> Any:
    control = read_control(path)
    module = network_without_values(control, unet.config, "model.safetensors", FACTOR)
    filled(module, control, (base or unet).state_dict(), "cpu", torch.float32)
    return module


@pytest.mark.parametrize("layout", LAYOUTS)
def test_one_network_has_the_same_tensors_in_every_layout(layout: str, files: dict[str, Path],
                                                          unet: UNet2DConditionModel) -> None:
    expected, made = of_unet(unet).state_dict(), live(files[layout], unet).state_dict()
    assert made.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(made[name], tensor, rtol=0, atol=1e-6 if layout == "difference" else 0)


def test_a_network_of_sdxl_has_the_added_embedding(tmp_path: Path) -> None:
    config = {**tiny().configs["unet"], "addition_embed_type": "text_time", "addition_time_embed_dim": 4,
              "projection_class_embeddings_input_dim": 32, "transformer_layers_per_block": [2, 1], "use_linear_projection": True}
    unet = UNet2DConditionModel(**config)
    net = of_unet(unet)
    path = tmp_path / "xl.safetensors"
    write(path, original_names(net.state_dict()))
    assert any(name.startswith("add_embedding.") for name in read_control(path).named.whole)
    torch.testing.assert_close(live(path, unet).state_dict(), net.state_dict(), rtol=0, atol=0)


def test_an_encoder_without_attention_is_a_network_too(tmp_path: Path, unet: UNet2DConditionModel) -> None:
    plain = UNet2DConditionModel(**{**tiny().configs["unet"], "down_block_types": ["DownBlock2D", "DownBlock2D"],
                                    "up_block_types": ["UpBlock2D", "UpBlock2D"], "mid_block_type": "UNetMidBlock2D"})
    net = of_unet(plain)
    write(tmp_path / "plain.safetensors", original_names(net.state_dict()))
    torch.testing.assert_close(live(tmp_path / "plain.safetensors", unet).state_dict(), net.state_dict(), rtol=0, atol=0)


def test_differences_and_control_loras_follow_the_model_in_use(tmp_path: Path, files: dict[str, Path],
                                                               unet: UNet2DConditionModel) -> None:
    other = UNet2DConditionModel(**tiny().configs["unet"])
    write(tmp_path / "lora.safetensors", control_lora(unet))
    for path, follows in ((files["difference"], True), (tmp_path / "lora.safetensors", True), (files["original"], False)):
        one, two = (live(path, unet, base).state_dict()["conv_in.weight"] for base in (unet, other))
        assert read_control(path).named.needs_model is follows
        assert torch.equal(one, two) is not follows


def test_a_control_lora_is_the_encoder_plus_its_products(tmp_path: Path, unet: UNet2DConditionModel) -> None:
    lora = control_lora(unet)
    write(tmp_path / "lora.safetensors", lora)
    control = read_control(tmp_path / "lora.safetensors")
    state = live(tmp_path / "lora.safetensors", unet).state_dict()
    up, down = lora["input_blocks.0.0.up"], lora["input_blocks.0.0.down"]
    product = (up.flatten(1) @ down.flatten(1)).reshape(unet.conv_in.weight.shape)
    assert control.named.layout == CONTROL_LORA
    torch.testing.assert_close(state["conv_in.weight"], unet.conv_in.weight + product)
    torch.testing.assert_close(state["conv_in.bias"], lora["input_blocks.0.0.bias"], rtol=0, atol=0)


def broken(state: dict[str, torch.Tensor], how: str) -> dict[str, torch.Tensor]:
    key = "middle_block_out.0.weight"
    if how == "missing":
        return {name: tensor for name, tensor in state.items() if name != key}
    if how == "extra":
        return {**state, "zero_convs.99.0.weight": state[key]}
    if how == "misshapen":
        return {**state, key: state[key][:3]}
    return {**state, key: state[key] * float("nan")}


@pytest.mark.parametrize(("how", "words"), [
    ("missing", "'controlnet_mid_block.weight' [16, 16, 1, 1] is missing"),
    ("extra", "'zero_convs.99.0.weight' [16, 16, 1, 1] has no place"),
    ("misshapen", "'middle_block_out.0.weight' is [3, 16, 1, 1], not [16, 16, 1, 1]"),
    ("nan", "NaN"),
])
def test_a_damaged_network_is_refused_with_its_file_and_key(how: str, words: str, tmp_path: Path,
                                                            unet: UNet2DConditionModel) -> None:
    write(tmp_path / "net.safetensors", broken(original_names(of_unet(unet).state_dict()), how))
    with pytest.raises(ModelFileError) as refused:
        live(tmp_path / "net.safetensors", unet)
    assert words in str(refused.value)
    assert "net.safetensors" in str(refused.value)


def test_a_name_of_no_layer_is_refused(tmp_path: Path, unet: UNet2DConditionModel) -> None:
    write(tmp_path / "net.safetensors", {**original_names(of_unet(unet).state_dict()), "input_blocks.0.0.lost": torch.zeros(2)})
    with pytest.raises(ModelFileError, match=r"input_blocks\.0\.0\.lost"):
        read_control(tmp_path / "net.safetensors")


def test_a_hint_encoder_of_another_factor_is_refused(tmp_path: Path, unet: UNet2DConditionModel) -> None:
    write(tmp_path / "net.safetensors", of_unet(unet, hint=(4, 6, 8)).state_dict())
    with pytest.raises(ModelFileError, match="4 times smaller"):
        live(tmp_path / "net.safetensors", unet)


@pytest.mark.parametrize(("key", "word"), [
    ("lllite_unet_down.weight", "LLLite"),
    ("style_embedding", "style adapter"), ("body.0.skep.weight", "early T2I-Adapter"),
    ("image_proj.proj.weight", "IP-Adapter"), ("controlnet_blocks.0.weight", "Flux"),
    ("model.diffusion_model.out.2.weight", "model without"), ("lora_unet_x.lora_up.weight", "LoRA"),
    ("up_blocks.0.resnets.0.conv1.weight", "U-Net"), ("something.weight", "not a known control network"),
])
def test_files_of_other_kinds_are_named(key: str, word: str) -> None:
    with pytest.raises(ModelFileError, match=word):
        named("net.safetensors", [key])


def test_a_folder_of_another_class_is_refused(tmp_path: Path, unet: UNet2DConditionModel) -> None:
    write_folder(of_unet(unet), tmp_path / "net", _class_name="FluxControlNetModel")
    with pytest.raises(ModelFileError, match="FluxControlNetModel"):
        read_control(tmp_path / "net")


def test_what_no_shape_shows_is_taken_from_the_folder(tmp_path: Path, unet: UNet2DConditionModel) -> None:
    write_folder(of_unet(unet), tmp_path / "net", controlnet_conditioning_channel_order="bgr", global_pool_conditions=True)
    config = live(tmp_path / "net", unet).config
    assert (config["controlnet_conditioning_channel_order"], config["global_pool_conditions"]) == ("bgr", True)


def test_half_of_two_factors_is_refused() -> None:
    with pytest.raises(ModelFileError, match="only one of its two factors"):
        named("x", [MARK, "input_hint_block.0.weight", "input_blocks.0.0.up"])


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    (tmp_path / "net.pth").write_bytes(b"cos\nsystem\n(S'touch ran'\ntR.")
    with pytest.raises(ModelFileError):
        read_control(tmp_path / "net.pth")
    assert not (tmp_path / "ran").exists()
