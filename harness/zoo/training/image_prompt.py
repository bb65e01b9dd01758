"""Trains the image prompt, a plain IP-Adapter, on the frozen base: four tokens of a picture's CLIP embedding, and keys and values
for them in every cross attention."""

from __future__ import annotations

import torch
from diffusers import UNet2DConditionModel

from harness.zoo.models import TEXT_WIDTH
from harness.zoo.training.captions import Habits
from harness.zoo.training.guiding import drawn_rows, fill_in_guiding, load, noised
from harness.zoo.training.loop import Dice, Recipe, Setting, fit
from harness.zoo.training.unet import from_base

RECIPE = Recipe(name="image-prompt", steps=1100, batch=32, rate=1.5e-3, weight_decay=0.0, flat=0.5, linear=True, clip_norm=1.0,
                average=0.99, seed=12)
TOKENS = 4
HABITS = Habits(empty=0.25)
NO_PICTURE = 0.1
"""Share of a batch whose embedding is zero: the negative branch of guidance."""


def train_image_prompt(setting: Setting) -> None:
    """Writes `<work>/image-prompt.pt` under the published names: `image_proj.*` and `ip_adapter.N.to_k_ip.weight`."""
    fill_in_guiding(setting)
    unet, encoder, texts = from_base(setting)
    unet.requires_grad_(False)
    torch.manual_seed(16)
    begin(unet)
    latents, embeddings = load(setting.work, "latents"), load(setting.work, "embeddings")

    def loss(dice: Dice) -> torch.Tensor:
        rows, said = drawn_rows(dice, RECIPE.batch, HABITS)
        noisy, times, target = noised(latents[rows], dice)
        shown = torch.rand(RECIPE.batch, 1, generator=dice.torch) >= NO_PICTURE
        with torch.no_grad():
            hidden = encoder(texts(said)).last_hidden_state
        pictures = (embeddings[rows] * shown)[:, None]
        made = unet(noisy, times, hidden, added_cond_kwargs={"image_embeds": [pictures]}).sample
        error: torch.Tensor = (made - target).square()
        return error.mean()

    fit(RECIPE, [(unet, 1.0)], loss, setting)
    torch.save(published(unet), setting.work / "image-prompt.pt")


def begin(unet: UNet2DConditionModel) -> None:
    """Gives the U-Net an untrained image prompt: keys and values begin as those of the text, as the paper's code has them."""
    text = {name: module for name, module in unet.named_modules() if name.endswith("attn2")}
    attention = {f"{2 * number + 1}.{kind}_ip.weight": getattr(text[name], kind).weight.clone()
                 for number, name in enumerate(in_file_order(unet)) for kind in ("to_k", "to_v")}
    projection = {"proj.weight": torch.randn(TOKENS * TEXT_WIDTH, TEXT_WIDTH) / TEXT_WIDTH ** 0.5,
                  "proj.bias": torch.zeros(TOKENS * TEXT_WIDTH),
                  "norm.weight": torch.ones(TEXT_WIDTH), "norm.bias": torch.zeros(TEXT_WIDTH)}
    unet._load_ip_adapter_weights([{"image_proj": projection, "ip_adapter": attention}])
    for name, weight in unet.named_parameters():
        weight.requires_grad_("_ip." in name or name.startswith("encoder_hid_proj."))


def in_file_order(unet: UNet2DConditionModel) -> list[str]:
    """The paths of the cross attentions in the order in which files number them: down, up, middle."""
    names = [name.removesuffix(".processor") for name in unet.attn_processors if name.endswith("attn2.processor")]
    return sorted(names, key=lambda name: ("down_blocks", "up_blocks", "mid_block").index(name.split(".")[0]))


def published(unet: UNet2DConditionModel) -> dict[str, torch.Tensor]:
    """The trained tensors under the names of published files."""
    state = unet.state_dict()
    layer = "encoder_hid_proj.image_projection_layers.0."
    names = {"image_embeds.weight": "proj.weight", "image_embeds.bias": "proj.bias", "norm.weight": "norm.weight",
             "norm.bias": "norm.bias"}
    file = {f"image_proj.{to}": state[layer + name] for name, to in names.items()}
    for number, path in enumerate(in_file_order(unet)):
        for kind in ("to_k_ip", "to_v_ip"):
            file[f"ip_adapter.{2 * number + 1}.{kind}.weight"] = state[f"{path}.processor.{kind}.0.weight"]
    return file
