"""A control network as a live module: built without values, and filled from its file and, where it is a change of one, from the
U-Net of the model in use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from harness.control.layouts import UNION
from harness.control.reading import ControlFile, misfits, network_config, refuse_misfit
from harness.control.t2i_adapter import refuse_t2i_misfit, t2i_config
from harness.control.union import union_config
from harness.declare.listing import first_of
from harness.records.harmless_text import visible
from harness.weights.safetensors_header import ModelFileError

if TYPE_CHECKING:
    import torch


def network_without_values(control: ControlFile, unet: Mapping[str, Any], model: str, factor: int) -> Any:
    """The network's module for a U-Net of this config, with all parameters on the meta device. `model` names the U-Net's file,
    and `factor` is how much smaller its latents are than pictures. Raises ModelFileError for a network that does not fit."""
    from accelerate import init_empty_weights
    from diffusers import ControlNetModel, ControlNetUnionModel

    from harness.weights.undrawn import Undrawn

    if control.named.t2i:
        return _t2i_without_values(control, unet, model, factor)
    config = network_config(control, unet)
    union = control.named.layout == UNION
    if union:  # whose middle always attends to the text
        config = {name: value for name, value in config.items() if name != "mid_block_type"} | union_config(control)
    try:
        with Undrawn(), init_empty_weights(include_buffers=False):
            module = (ControlNetUnionModel if union else ControlNetModel).from_config(config)
    except Exception as error:  # diffusers raises errors of many types for impossible numbers
        raise ModelFileError(f"{control.path}: no control network can be built for the U-Net of {model} ({error}). Give one of "
                             "the model's own family") from error
    refuse_misfit(control, {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}, model)
    own = 2 ** (len(config["conditioning_embedding_out_channels"]) - 1)
    if own != factor:
        raise ModelFileError(f"{control.path}: its hint encoder makes pictures {own} times smaller, and the latents of {model} "
                             f"are {factor} times smaller. Give a control network of the model's own family")
    return module.eval().requires_grad_(False)


def _t2i_without_values(control: ControlFile, unet: Mapping[str, Any], model: str, factor: int) -> Any:
    from accelerate import init_empty_weights
    from diffusers import T2IAdapter

    from harness.weights.undrawn import Undrawn

    config = t2i_config(control, factor)
    refuse_t2i_misfit(control, config, unet, model, factor)
    try:
        with Undrawn(), init_empty_weights(include_buffers=False):
            module = T2IAdapter.from_config(config)
    except Exception as error:  # diffusers raises errors of many types for impossible numbers
        raise ModelFileError(f"{control.path}: no T2I-Adapter can be built of its tensors ({error}). Download it "
                             "again") from error
    if wrong := misfits(control, {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}):
        raise ModelFileError(f"{control.path}: {len(wrong)} tensors are not those of a T2I-Adapter: "
                             f"{first_of([visible(phrase) for phrase in wrong], between='; ')}. Download it again")
    return module.eval().requires_grad_(False)


def filled(module: Any, control: ControlFile, base: Mapping[str, torch.Tensor], device: str, dtype: torch.dtype) -> None:
    """Loads the network's values into its module, as `dtype` on `device`. `base` are the tensors of the U-Net in use by name,
    for a network that changes them. Raises ModelFileError for values that are not finite."""
    import torch

    shapes = {name: tensor.shape for name, tensor in module.state_dict().items()}
    values = {name: tensor.reshape(shapes[name]) for name, tensor in control.tensors().items()}
    if control.named.deltas:
        values = {name: base[name].float().cpu() + tensor.float() if name in base else tensor for name, tensor in values.items()}
    elif control.named.needs_model:
        products = control.products()
        lacking = shapes.keys() - values.keys()
        if unknown := sorted(lacking - base.keys()):
            raise ModelFileError(f"{control.path}: {unknown[0]!r} is neither in it nor in the model's U-Net. Download it again")
        values |= {name: base[name].float().cpu() + products[name].reshape(shapes[name]) if name in products else base[name]
                   for name in lacking}
    sent = {name: tensor.to(device=device, dtype=dtype, copy=True) for name, tensor in values.items()}
    if broken := [name for name, tensor in sent.items() if not bool(torch.isfinite(tensor).all())]:
        raise ModelFileError(f"{control.path}: {len(broken)} tensors of the control network hold NaN or infinite values: "
                             f"{broken[0]!r}. Repair or replace it")
    module.load_state_dict(sent, strict=True, assign=True)
    torch.nn.Module.to(module, device).eval().requires_grad_(False)
