"""Savers that keep weights of a denoiser in another way: channels last, in 8 bits between uses, or joined."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from harness.declare.candidate import NUMBER_FORMATS
from harness.declare.mixed import of_denoiser
from harness.savers.attention import OF_UNETS
from harness.savers.contract import SaverError, SaverReport, Use

if TYPE_CHECKING:
    import torch

_SKIPPED: Final = ("pos_embed", "patch_embed", "norm", "^proj_in$", "^proj_out$", "lora_", "hada_", "lokr_")
"""Patterns of the layers that diffusers' layerwise casting leaves alone, PEFT's among them."""


def channels_last(module: torch.nn.Module) -> SaverReport:
    """The weights of convolutions with channels as the fastest dimension, which also decides the layout of what they compute."""
    import torch

    names = tuple(name for name, parameter in module.named_parameters() if parameter.ndim == 4)
    if not names:
        raise SaverError("the model has no convolutions")
    torch.nn.Module.to(module, memory_format=torch.channels_last)  # not diffusers' own `to`, which warns of other things
    return SaverReport(changed=names, notes=("weights of convolutions are copies with channels last",))


def of_unets(use: Use) -> str:
    """Why a saver of convolutions does not act on a transformer."""
    return "" if "unet" in use.pipeline.parts else f"{OF_UNETS.format(family=use.pipeline.family)}; remove it"


def other_layout(use: Use) -> str:
    """Why convolutions are not computed with channels last."""
    if "denoiser_on_host" in use.low_memory:
        return "the grid's low_memory lends single layers to the GPU, in their usual layout; remove it, or 'denoiser_on_host'"
    return of_unets(use) or other_format(use)


def cast_layerwise(module: torch.nn.Module) -> SaverReport:
    """Weights and biases of linear layers and convolutions as float8 e4m3 without a scale, widened for each use, as diffusers'
    `enable_layerwise_casting` keeps them. It leaves norms alone, but not the first and last layers and the time embedding.

    diffusers' own hooks widen a layer in place, which batches in several threads would do to each other.
    """
    from torch import nn

    cast: list[str] = []
    kept: list[str] = []
    for path, layer in list(module.named_modules()):
        own = [(f"{path}.{name}" if path else name, name) for name, _ in layer.named_parameters(recurse=False)]
        # As diffusers has them: an adapter's wrapper is passed through, and its base layer is cast.
        wanted = isinstance(layer, nn.Linear | nn.Conv2d | nn.Embedding) and not any(
            re.search(pattern, path) for pattern in _SKIPPED)
        if wanted:
            for _, name in own:
                _narrow(layer, name)
        (cast if wanted else kept).extend(name for name, _ in own)
    if not cast:
        raise SaverError("the model has no linear layers or convolutions")
    return SaverReport(changed=tuple(cast), kept=tuple(kept), notes=(
        f"{len(cast)} tensors are kept as e4m3 without a scale and widened for each use, the first and last layers among them; "
        f"{len(kept)} are as they were. The weights that they are made of stay beside them",))


def _narrow(layer: Any, name: str) -> None:
    """Keeps a parameter in e4m3, and gives it in its own dtype where it is read."""
    import torch
    from torch.nn.utils import parametrize

    parameter = getattr(layer, name)
    small = torch.nn.Parameter(parameter.detach().to(torch.float8_e4m3fn), requires_grad=False)
    setattr(layer, name, small)
    parametrize.register_parametrization(layer, name, _widening(parameter.dtype), unsafe=True)  # it changes the dtype


def _widening(dtype: torch.dtype) -> torch.nn.Module:
    import torch

    class Widened(torch.nn.Module):
        """Gives what is stored in the dtype of the arithmetic."""

        def forward(self, stored: torch.Tensor) -> torch.Tensor:
            return stored.to(dtype)

    return Widened()


def other_format(use: Use) -> str:
    """Why weights in a quantization of their own are not cast or joined."""
    mode = of_denoiser(use.candidate.quantization)
    if mode in NUMBER_FORMATS:
        return ""
    return f"the denoiser's weights are stored by quantization={str(mode)!r}; remove one of them"


def fuse_projections(module: torch.nn.Module) -> SaverReport:
    """Query, key and value of an attention from one product with the joined weights, as diffusers' `fuse_qkv_projections`. They
    are joined again for each candidate."""
    from diffusers.models.attention_processor import Attention

    unet: Any = module
    unet.fuse_qkv_projections()
    layers = tuple(name for name, layer in module.named_modules() if isinstance(layer, Attention) and layer.fused_projections)
    if not layers:
        raise SaverError("the model has no attention whose projections can be joined")
    return SaverReport(changed=layers, notes=("the joined weights are copies beside the single ones",))


def joined_copies(module: torch.nn.Module) -> tuple[torch.nn.Parameter, ...]:
    """The weights that `fuse_projections` added to a module: copies of others of its weights, which no file holds."""
    from diffusers.models.attention_processor import Attention

    fused = [layer for layer in module.modules() if isinstance(layer, Attention) and layer.fused_projections]
    return tuple(parameter for layer in fused for name in ("to_qkv", "to_kv") if hasattr(layer, name)
                 for parameter in getattr(layer, name).parameters())


def not_joined(use: Use) -> str:
    """Why projections cannot be joined: what acts on single ones would be lost without a word."""
    if why := of_unets(use) or other_format(use):
        return why
    if use.candidate.adapters:
        return "adapters act on single projections; remove it, or write the adapters into the weights with Fused(model=...)"
    return "" if not use.candidate.references else "references act on single projections; remove it, or the references"
