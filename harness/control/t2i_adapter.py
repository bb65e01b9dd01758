"""T2I-Adapters: what a file's tensors say of the network, and whether its features fit a U-Net and a size of pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from harness.weights.safetensors_header import ModelFileError

if TYPE_CHECKING:
    from harness.control.reading import ControlFile

FULL, FULL_XL, LIGHT = "full_adapter", "full_adapter_xl", "light_adapter"
_CROSS: Final = "CrossAttnDownBlock2D"

Place = tuple[int, int]
"""Channels, and how many times smaller than the picture."""


def t2i_config(control: ControlFile, factor: int) -> dict[str, Any]:
    """The config of diffusers' T2IAdapter for a file. `factor` is how much smaller the model's latents are than pictures: a full
    adapter of Stable Diffusion XL begins at half the latents' size. Raises ModelFileError for tensors that are in no adapter."""
    shapes = control.shapes()
    blocks = _count(shapes, "adapter.body.")
    light = "adapter.body.0.out_conv.weight" in shapes
    first = _shape(control, shapes, "adapter.body.0.in_conv.weight" if light else "adapter.conv_in.weight")
    last = "out_conv.weight" if light else "resnets.0.block1.weight"
    channels = [_shape(control, shapes, f"adapter.body.{block}.{last}")[0] for block in range(blocks)]
    colours, downscale = _unshuffled(control, first[1])
    kind = LIGHT if light else str(control.config.get("adapter_type") or (FULL_XL if downscale == 2 * factor else FULL))
    if kind not in (FULL, FULL_XL, LIGHT) or (kind == LIGHT) != light:
        raise ModelFileError(f"{control.path}: its config.json says adapter_type {str(kind)[:40]!r}, and its tensors are those "
                             f"of a {'light' if light else 'full'} adapter. Download the folder again")
    return {"in_channels": colours, "channels": channels[:-1] if light else channels, "downscale_factor": downscale,
            "num_res_blocks": _count(shapes, "adapter.body.0.resnets."), "adapter_type": kind}


def features_of(config: Mapping[str, Any]) -> list[Place]:
    """What an adapter of this config gives, in order."""
    channels, first, kind = list(config["channels"]), int(config["downscale_factor"]), config["adapter_type"]
    if kind == FULL_XL:
        return [(width, first * (2 if block >= 2 else 1)) for block, width in enumerate(channels)]
    widths = [*channels, channels[-1]] if kind == LIGHT else channels
    return [(width, first * 2 ** block) for block, width in enumerate(widths)]


def places_of(unet: Mapping[str, Any], factor: int) -> list[Place]:
    """Where a U-Net of this config takes features in: in each block of its encoder, before the next halving where the block
    attends to the text and after it elsewhere, and last in its middle."""
    widths, kinds = list(unet["block_out_channels"]), list(unet["down_block_types"])
    last = len(widths) - 1
    return [*((width, factor * 2 ** (block if kind == _CROSS or block == last else block + 1))
              for block, (width, kind) in enumerate(zip(widths, kinds, strict=True))), (widths[-1], factor * 2 ** last)]


def refuse_t2i_misfit(control: ControlFile, config: Mapping[str, Any], unet: Mapping[str, Any], model: str, factor: int) -> None:
    """Raises ModelFileError unless each of an adapter's features has its place in the U-Net. That of the middle is not needed."""
    features, places = features_of(config), places_of(unet, factor)
    if len(features) in (len(places) - 1, len(places)) and features == places[:len(features)]:
        return
    raise ModelFileError(f"{control.path}: the T2I-Adapter does not fit the U-Net of {model}: it gives features of "
                         f"{_said(features)}, and the U-Net takes {_said(places)}, the last of which may be left out. Give an "
                         "adapter of the model's own family")


def refuse_t2i_size(control: ControlFile, config: Mapping[str, Any], size: tuple[int, int]) -> None:
    """Raises ModelFileError for pictures of a size that the adapter cannot be given."""
    multiple = int(config["downscale_factor"])
    if size[0] % multiple or size[1] % multiple:
        raise ModelFileError(f"{control.path}: this T2I-Adapter is given pictures whose width and height are multiples of "
                             f"{multiple}, and the images are {size[0]} x {size[1]}. Change the width and height of the images")


def _said(places: list[Place]) -> str:
    return ", ".join(f"{width} channels at 1/{smaller}" for width, smaller in places)


def _unshuffled(control: ControlFile, channels: int) -> tuple[int, int]:
    """The colours of the picture, and the side of the square of pixels that the first layer reads as channels."""
    colours = 3 if channels % 3 == 0 else 1
    side = round((channels / colours) ** 0.5)
    if colours * side * side != channels or side & (side - 1) or side < 1:
        raise ModelFileError(f"{control.path}: its first layer reads {channels} channels; expected squares of pixels of one or "
                             "three colours, as 64, 192 or 768. Download it again")
    return colours, side


def _shape(control: ControlFile, shapes: Mapping[str, tuple[int, ...]], name: str) -> tuple[int, ...]:
    shape = shapes.get(name, ())
    if len(shape) != 4:
        raise ModelFileError(f"{control.path}: {name!r} is {list(shape) if name in shapes else 'missing'}; expected the four "
                             "dimensions of a convolution of a T2I-Adapter. Download it again")
    return shape


def _count(names: Mapping[str, Any], prefix: str) -> int:
    return len({name.removeprefix(prefix).partition(".")[0] for name in names if name.startswith(prefix)})
