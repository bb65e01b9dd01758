"""Trains the edge ControlNet on the frozen base: its encoder begins as the base's without attention, and its hint encoder at
weights that let the edges through."""

from __future__ import annotations

import torch
from diffusers import ControlNetModel
from torch import nn

from harness.zoo.models import new_control_net
from harness.zoo.training.captions import Habits
from harness.zoo.training.guiding import drawn_rows, fill_in_guiding, load, noised
from harness.zoo.training.loop import Dice, Recipe, Setting, fit
from harness.zoo.training.unet import from_base

RECIPE = Recipe(name="control-edges", steps=850, batch=32, rate=1.5e-3, weight_decay=0.0, flat=0.5, linear=True, clip_norm=1.0,
                average=0.99, seed=11)
PROBES = 64


def train_control(setting: Setting) -> None:
    """Writes `<work>/control-edges.pt`: the network's tensors under diffusers' names. The loss is the plain squared error of v;
    min-SNR weights are about 0.02 where the layout is decided."""
    fill_in_guiding(setting)
    unet, encoder, texts = from_base(setting)
    unet.requires_grad_(False)
    latents, edges = load(setting.work, "latents"), load(setting.work, "edges")
    torch.manual_seed(15)
    net = new_control_net()
    take_over(net, unet)
    let_through(net, hints(edges[:PROBES]))

    def loss(dice: Dice) -> torch.Tensor:
        rows, said = drawn_rows(dice, RECIPE.batch, Habits())
        noisy, times, target = noised(latents[rows], dice)
        with torch.no_grad():
            hidden = encoder(texts(said)).last_hidden_state
        down, middle = net(noisy, times, hidden, hints(edges[rows]), return_dict=False)
        made = unet(noisy, times, hidden, down_block_additional_residuals=down, mid_block_additional_residual=middle).sample
        error: torch.Tensor = (made - target).square()
        return error.mean()

    fit(RECIPE, [(net, 1.0)], loss, setting)
    torch.save(net.state_dict(), setting.work / "control-edges.pt")


def hints(edges: torch.Tensor) -> torch.Tensor:
    """Control pictures (n, 3, 64, 64) of 0 and 1 from edges (n, 1, 64, 64)."""
    return edges.float().expand(-1, 3, -1, -1)


def take_over(net: ControlNetModel, unet: nn.Module) -> None:
    """Copies every tensor that the U-Net has under the same name."""
    known, own = unet.state_dict(), net.state_dict()
    net.load_state_dict({key: known.get(key, value) for key, value in own.items()})


@torch.no_grad()
def let_through(net: ControlNetModel, probes: torch.Tensor) -> None:
    """Scales every convolution of the hint encoder so that its output on the probes has deviation 1, and 0.5 at the end.

    diffusers begins with a last convolution of zeros behind weights that let the edges fade to 0.02, and nothing is learnt.
    The zero convolutions between the network and the U-Net stay zero.
    """
    hint = net.controlnet_cond_embedding
    nn.init.kaiming_uniform_(hint.conv_out.weight, a=5 ** 0.5)
    layers = [hint.conv_in, *hint.blocks, hint.conv_out]
    state = probes
    for number, layer in enumerate(layers, start=1):
        nn.init.zeros_(layer.bias)
        layer.weight /= layer(state).std()
        if number == len(layers):
            layer.weight *= 0.5
        state = nn.functional.silu(layer(state))
