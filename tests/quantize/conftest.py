"""A U-Net of Stable Diffusion's layout, small enough for a test."""

import pytest


def new_unet():
    import torch
    from diffusers import UNet2DConditionModel

    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, block_out_channels=(32, 64), layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=32, attention_head_dim=4, norm_num_groups=8).eval()


def forward(unet, batch=2):
    import torch

    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(batch, 4, 8, 8, generator=generator)
    context = torch.randn(batch, 12, 32, generator=generator)
    with torch.inference_mode():
        return unet(noise, 500, encoder_hidden_states=context).sample


@pytest.fixture(autouse=True)
def one_thread():
    import torch

    torch.set_num_threads(1)
