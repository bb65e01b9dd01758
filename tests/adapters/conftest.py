"""A small U-Net and text encoder, writers of adapter files for them, and the way from a file to their live layers."""

import json

import pytest

from harness.adapters import live_plan, read_changes


def new_unet(linear_projection=False):
    import torch
    from diffusers import UNet2DConditionModel

    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, block_out_channels=(16, 32), layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=24, attention_head_dim=4, norm_num_groups=8,
        use_linear_projection=linear_projection).eval()


def new_text_encoder():
    import torch
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(1)
    return CLIPTextModel(CLIPTextConfig(
        vocab_size=50, hidden_size=24, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=12, bos_token_id=48, eos_token_id=49, pad_token_id=49)).eval()


@pytest.fixture
def modules():
    import torch

    torch.set_num_threads(1)
    return {"unet": new_unet(), "text_encoder": new_text_encoder()}


def adaptable(module):
    from torch import nn

    return [(path, layer) for path, layer in module.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)]


def live_shapes(modules):
    """{component: {path: shape of its weight}} of live modules, under their own paths where adapters wrap them already."""
    return {component: {path.removesuffix(".weight").removesuffix(".base_layer"): tuple(value.shape)
                        for path, value in module.state_dict().items() if path.endswith(".weight") and ".lora_" not in path}
            for component, module in modules.items()}


def planned(path, modules):
    """What live layers take of a file for these modules."""
    shapes = live_shapes(modules)
    return live_plan(read_changes(path, shapes, "sd1"), shapes)


def random_factors(module, seed=0):
    """Path to (down, up, alpha) with ranks 1, 2 and 4 and alphas of half to three times the rank, by turns."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    made = {}
    for number, (path, layer) in enumerate(adaptable(module)):
        rank = (1, 2, 4)[number % 3]
        out, *rest = layer.weight.shape
        down = torch.randn(rank, *rest, generator=generator) * 0.1
        up = torch.randn(out, rank, *([1, 1] if len(rest) == 3 else []), generator=generator) * 0.1
        made[path] = (down, up, rank * (0.5, 1.0, 3.0, 2.0)[number % 4])
    return made


def kohya_tensors(factors, prefix="lora_unet_"):
    import torch

    tensors = {}
    for path, (down, up, alpha) in factors.items():
        stem = prefix + path.replace(".", "_")
        tensors |= {f"{stem}.lora_down.weight": down, f"{stem}.lora_up.weight": up, f"{stem}.alpha": torch.tensor(alpha)}
    return tensors


def peft_tensors(factors, component="unet"):
    tensors = {}
    for path, (down, up, _) in factors.items():
        tensors |= {f"{component}.{path}.lora_A.weight": down, f"{component}.{path}.lora_B.weight": up}
    return tensors


def peft_header(factors, component="unet", **extra):
    ranks = {path: down.shape[0] for path, (down, _, _) in factors.items()}
    config = {"r": 4, "lora_alpha": 4, "rank_pattern": {p: r for p, r in ranks.items() if r != 4},
              "alpha_pattern": {p: alpha for p, (_, _, alpha) in factors.items() if alpha != 4}, **extra}
    return {"lora_adapter_metadata": json.dumps({f"{component}.{key}": value for key, value in config.items()})}


@pytest.fixture
def write(tmp_path):
    def save(tensors, metadata=None, name="adapter.safetensors"):
        from safetensors.torch import save_file

        save_file({key: tensor.clone().contiguous() for key, tensor in tensors.items()}, tmp_path / name, metadata=metadata)
        return tmp_path / name

    return save


def forward(unet):
    import torch

    generator = torch.Generator().manual_seed(7)
    noise, context = torch.randn(2, 4, 8, 8, generator=generator), torch.randn(2, 12, 24, generator=generator)
    with torch.inference_mode():
        return unet(noise, 500, encoder_hidden_states=context).sample
