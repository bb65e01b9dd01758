"""The original code's names of a U-Net's layers: as it has them, back through diffusers' converter, and in adapter files."""

import torch
from diffusers import UNet2DConditionModel

from harness.adapters.original_names import original_names
from tests.adapters.conftest import kohya_tensors, planned, random_factors


def test_original_names_are_those_of_stable_diffusion():
    paths = [f"down_blocks.{b}.resnets.{n}.conv1" for b in range(4) for n in range(2)]
    paths += [f"up_blocks.{b}.{kind}" for b in range(4) for kind in ("resnets.2.time_emb_proj", "upsamplers.0.conv")]
    paths += [f"up_blocks.{b}.attentions.1.proj_in" for b in range(1, 4)]
    paths += ["conv_in", "mid_block.resnets.1.conv2", "mid_block.attentions.0.proj_out", "time_embedding.linear_2",
              "down_blocks.1.attentions.1.transformer_blocks.0.attn1.to_q", "down_blocks.0.downsamplers.0.conv"]
    names = original_names(paths)
    assert names["down_blocks.1.attentions.1.transformer_blocks.0.attn1.to_q"] == (
        "input_blocks.5.1.transformer_blocks.0.attn1.to_q")
    assert names["down_blocks.0.downsamplers.0.conv"] == "input_blocks.3.0.op"
    assert names["down_blocks.3.resnets.1.conv1"] == "input_blocks.11.0.in_layers.2"
    assert names["up_blocks.0.upsamplers.0.conv"] == "output_blocks.2.1.conv"
    assert names["up_blocks.1.upsamplers.0.conv"] == "output_blocks.5.2.conv"
    assert names["up_blocks.3.resnets.2.time_emb_proj"] == "output_blocks.11.0.emb_layers.1"
    assert names["mid_block.resnets.1.conv2"] == "middle_block.2.out_layers.3"
    assert names["mid_block.attentions.0.proj_out"] == "middle_block.1.proj_out"
    assert names["time_embedding.linear_2"] == "time_embed.2"


def test_original_and_diffusers_names_give_the_same_plan(modules, write):
    factors = random_factors(modules["unet"])
    names = original_names(factors)
    assert set(names) == set(factors)
    renamed = planned(write(kohya_tensors({names[path]: values for path, values in factors.items()})), modules)
    plain = planned(write(kohya_tensors(factors)), modules)
    assert set(renamed.factors) == set(plain.factors)
    for target, found in plain.factors.items():
        assert torch.equal(found.delta(), renamed.factors[target].delta())


def test_original_names_come_back_through_diffusers_converter():
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    unet = UNet2DConditionModel(
        block_out_channels=(8, 16, 16), layers_per_block=2, norm_num_groups=4, attention_head_dim=2, cross_attention_dim=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"), transformer_layers_per_block=(1, 1, 2),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), use_linear_projection=True)
    state = unet.state_dict()
    names = original_names({key.rpartition(".")[0] for key in state})
    original = {f"model.diffusion_model.{names[path]}.{kind}": state[key]
                for key in state for path, _, kind in [key.rpartition(".")]}
    back = convert_ldm_unet_checkpoint(original, {**unet.config, "layers_per_block": 2})
    assert set(back) == set(state)
    assert all(back[key] is state[key] for key in state)
