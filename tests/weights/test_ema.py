"""The averaged copy of a U-Net is found under its dotless names, taken whole when asked for, and never half."""

import pytest
import torch
from safetensors.torch import save_file

from harness.weights import ModelFileError, layout_of, ldm, open_model
from harness.weights.ema import flat_name, plain_names
from tests.weights.test_layout import FULL
from tests.weights.tiny import tiny
from tests.weights.tiny_families import made, states

TINY = tiny(2, ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"))


def averaged():
    names = ldm.unet_to_ldm(TINY.unet)
    copies = {flat_name(names[key]): tensor + 1 for key, tensor in TINY.unet.items()}
    return {**copies, "model_ema.decay": torch.ones(()), "model_ema.num_updates": torch.ones((), dtype=torch.int32)}


def write(folder, tensors):
    save_file({name: t.contiguous() for name, t in tensors.items()}, folder / "m.safetensors")
    return folder / "m.safetensors"


@pytest.mark.parametrize("name", FULL)
def test_every_name_of_a_full_size_unet_comes_back_from_its_dotless_one(name):
    from accelerate import init_empty_weights
    from diffusers import UNet2DConditionModel

    from harness.weights.live_pipeline import SD1_CONFIGS

    config = {k: v for k, v in UNet2DConditionModel.load_config(SD1_CONFIGS / "unet").items() if k[0] != "_"}
    with init_empty_weights():
        names = list(ldm.unet_to_ldm(UNet2DConditionModel(**config | FULL[name][0]).state_dict()).values())
    assert plain_names(map(flat_name, names)) == {name: flat_name(name) for name in names}


def test_the_published_spelling_is_known():
    flat = "model_ema.diffusion_modelinput_blocks10in_layers0weight"
    assert plain_names([flat]) == {"input_blocks.1.0.in_layers.0.weight": flat}


def test_the_copy_is_mapped_and_taken_only_when_asked_for(tmp_path):
    path = write(tmp_path, {**TINY.file(), **averaged()})
    plain, ema = open_model(path), open_model(path, ema=True)
    assert (plain.ema, plain.uses_ema, ema.uses_ema, plain.warnings) == (True, False, True, ())
    assert plain.ema_component.keys() == plain.components["unet"].keys()
    assert torch.equal(plain.tensor("unet", "conv_in.weight"), TINY.unet["conv_in.weight"])
    assert all(torch.equal(tensor, TINY.unet[key] + 1) for key, tensor in ema.tensors("unet").items())


def test_a_file_opened_as_its_copy_is_laid_out_with_that_copy_alone(tmp_path):
    file = made(model := open_model(write(tmp_path, {**TINY.file(), **averaged()}), ema=True), layout_of(model))
    assert file.keys() == TINY.file().keys()
    assert torch.equal(file["model.diffusion_model.out.2.bias"], TINY.unet["conv_out.bias"] + 1)


def test_a_file_opened_plainly_keeps_the_copy_as_it_is(tmp_path):
    layout = layout_of(open_model(write(tmp_path, {**TINY.file(), **averaged()})))
    assert {p.name for p in layout if p.role == "ema"} == set(averaged())
    assert not any(p.pieces for p in layout if p.role == "ema")


def test_one_missing_copy_is_an_error_only_when_asked_for(tmp_path):
    ema = averaged()
    del ema["model_ema.diffusion_modelout2bias"]
    path = write(tmp_path, {**TINY.file(), **ema})
    assert any("EMA copy of the U-Net lacks 1 of" in warning for warning in open_model(path).warnings)
    with pytest.raises(ModelFileError, match=r"m\.safetensors: its EMA copy lacks 1 tensors of the U-Net: 'conv_out\.bias'"):
        open_model(path, ema=True)


def test_a_file_without_a_copy_says_so(tmp_path):
    with pytest.raises(ModelFileError, match="has no EMA copy"):
        open_model(TINY.write(tmp_path), ema=True)


def test_a_unet_that_is_there_only_as_its_copy_opens_as_such(tmp_path):
    others = {name: t for name, t in TINY.file().items() if not name.startswith(ldm.UNET_PREFIX)}
    path = write(tmp_path, {**others, **averaged()})
    plain, ema = open_model(path), open_model(path, ema=True)
    assert "unet" not in plain.components
    assert any("only as its EMA copy" in warning for warning in plain.warnings)
    assert all(torch.equal(tensor, TINY.unet[key] + 1) for key, tensor in ema.tensors("unet").items())
    assert made(ema, layout_of(ema)).keys() == TINY.file().keys()


def test_an_sdxl_copy_is_known_too(tmp_path):
    unet = states("sdxl")["unet"]
    path = write(tmp_path, {flat_name(name): unet[key] for key, name in ldm.unet_to_ldm(unet).items()})
    model = open_model(path, ema=True)
    assert (model.family, list(model.components)) == ("sdxl", ["unet"])
    assert all(torch.equal(model.tensor("unet", key), unet[key]) for key in unet)
