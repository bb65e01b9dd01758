"""Untrusted files of control networks, read into one canonical set of tensors and checked against the U-Net that they are for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from harness.control.layouts import CONTROL_LORA, DIFFUSERS, UNION, Named, named
from harness.declare.listing import first_of
from harness.records.harmless_text import visible
from harness.weights.files import ModelFileError, TensorFile, open_tensors, read_json
from harness.weights.folder import denoiser_places
from harness.weights.numbering import Numbering
from harness.weights.safetensors_header import StoredTensor

if TYPE_CHECKING:
    import torch

_CLASSES: Final = ("ControlNetModel", "ControlNetUnionModel", "T2IAdapter")
_FLOATS: Final = ("F16", "BF16", "F32", "F64", "F8_E4M3", "F8_E5M2")
_PROJECTIONS: Final = (".proj_in.weight", ".proj_out.weight")
_ENCODER: Final = ("conv_in.", "time_embedding.", "add_embedding.", "class_embedding.", "down_blocks.", "mid_block.")
"""Beginnings of the names that a control network shares with the U-Net that it is a copy of."""


@dataclass(frozen=True, kw_only=True)
class ControlFile:
    """The opened file of a control network: its tensors by diffusers' names, each in the file that holds it, and what the config
    of a diffusers folder says."""

    path: Path
    named: Named
    places: Mapping[str, TensorFile] = field(repr=False)
    config: Mapping[str, Any] = field(default_factory=dict)

    def stored(self, source: str) -> StoredTensor:
        """What the file says of a tensor, by its name there."""
        return self.places[source].stored[source]

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """By diffusers' names; of factors that of the tensor they change, as far as they show it."""
        shapes = {name: self.stored(source).shape for name, source in self.named.whole.items()}
        return shapes | {name: (self.stored(up).shape[0], *self.stored(down).shape[1:])
                         for name, (up, down) in self.named.factors.items()}

    def tensors(self) -> dict[str, torch.Tensor]:
        """The whole tensors by diffusers' names, as stored."""
        return self._read(self.named.whole)

    def products(self) -> dict[str, torch.Tensor]:
        """The products of the factors, in float32: up times down, each flattened to a matrix."""
        ups, downs = (self._read({name: pair[half] for name, pair in self.named.factors.items()}) for half in (0, 1))
        return {name: ups[name].float().flatten(1) @ downs[name].float().flatten(1) for name in ups}

    def _read(self, sources: Mapping[str, str]) -> dict[str, torch.Tensor]:
        by_file: dict[Path, list[str]] = {}
        for source in sources.values():
            by_file.setdefault(self.places[source].path, []).append(source)
        files = {file.path: file for file in self.places.values()}
        read = {source: tensor for path, wanted in by_file.items() for source, tensor in files[path].read(wanted).items()}
        return {name: read[source] for name, source in sources.items()}


def read_control(path: Path, numbering: Numbering | None = None) -> ControlFile:
    """Opens a control network: a folder of diffusers, or a file in any of the layouts. Reads names and shapes alone.

    Raises ModelFileError for files of another kind, unknown names and impossible shapes, and says what to do.
    """
    config: Mapping[str, Any] = {}
    if path.is_dir():
        file = path / "config.json"
        config = read_json(file) if file.is_file() else {}
        if (kind := config.get("_class_name", _CLASSES[0])) not in _CLASSES:
            raise ModelFileError(f"{path}: its config.json says {visible(str(kind)[:80])!r}; expected {' or '.join(_CLASSES)}. "
                                 "Give a ControlNet or a T2I-Adapter")
        places = {place.source: place.file for place in denoiser_places(path).values()}
    else:
        opened = open_tensors(path)
        places = dict.fromkeys(opened.stored, opened)
    control = ControlFile(path=path, named=named(str(path), places, numbering), places=places, config=config)
    _refuse_impossible(control)
    return control


def network_config(control: ControlFile, unet: Mapping[str, Any]) -> dict[str, Any]:
    """The config of diffusers' ControlNetModel for a file: that of the U-Net's encoder, with what the file's own tensors and its
    folder's config say. Raises ModelFileError for a folder whose config contradicts the tensors."""
    shapes = control.shapes()
    kinds = [("CrossAttnDownBlock2D" if _any(shapes, f"down_blocks.{block}.attentions.") else "DownBlock2D")
             for block in range(len(unet["block_out_channels"]))]
    if control.named.layout == CONTROL_LORA:
        kinds = list(unet["down_block_types"])
    hint = [shapes[name][0] for name in _hint_weights(shapes)]
    middle = unet["mid_block_type"] if control.named.layout == CONTROL_LORA or _any(shapes, "mid_block.attentions.") else (
        "UNetMidBlock2D")
    first = shapes.get("controlnet_cond_embedding.conv_in.weight", ())
    config = {name: unet[name] for name in _OF_UNET if name in unet}
    config |= {"down_block_types": kinds, "mid_block_type": middle, "conditioning_channels": first[1] if len(first) > 1 else 3,
               "conditioning_embedding_out_channels": [hint[0], *hint[2::2]],
               "transformer_layers_per_block": _transformer_layers(control, shapes, unet)}
    return config | {name: control.config[name] for name in _OF_FOLDER if name in control.config}


_OF_UNET: Final = (
    "encoder_hid_dim", "encoder_hid_dim_type", "addition_embed_type", "addition_time_embed_dim", "in_channels",
    "flip_sin_to_cos", "freq_shift", "only_cross_attention", "block_out_channels", "layers_per_block", "downsample_padding",
    "mid_block_scale_factor", "act_fn", "norm_num_groups", "norm_eps", "cross_attention_dim", "attention_head_dim",
    "num_attention_heads", "use_linear_projection", "class_embed_type", "num_class_embeds", "upcast_attention",
    "resnet_time_scale_shift", "projection_class_embeddings_input_dim")
_OF_FOLDER: Final = ("attention_head_dim", "num_attention_heads", "controlnet_conditioning_channel_order",
                     "global_pool_conditions", "flip_sin_to_cos", "freq_shift")
"""What no shape shows."""


def misfits(control: ControlFile, expected: Mapping[str, tuple[int, ...]]) -> list[str]:
    """A phrase for every tensor of the network that is missing, extra or misshapen, against the shapes by diffusers' names."""
    shapes = control.shapes()
    from_model = control.named.layout == CONTROL_LORA
    missing = [f"{name!r} {list(shape)} is missing" for name, shape in expected.items()
               if name not in shapes and not (from_model and name.startswith(_ENCODER))]
    extra = [f"{control.named.whole.get(name, name)!r} {list(shape)} has no place in it" for name, shape in shapes.items()
             if name not in expected]
    others = [f"{control.named.whole.get(name, name)!r} is {list(shapes[name])}, not {list(shape)}"
              for name, shape in expected.items() if name in shapes and not _fits(control, name, shapes[name], shape)]
    return [*missing, *extra, *others]


def refuse_misfit(control: ControlFile, expected: Mapping[str, tuple[int, ...]], model: str) -> None:
    """Raises ModelFileError, naming the first tensors, unless the network has exactly the tensors that the U-Net asks for."""
    if wrong := misfits(control, expected):
        raise ModelFileError(f"{control.path}: the control network does not fit the U-Net of {model}: {len(wrong)} tensors "
                             f"differ: {first_of([visible(phrase) for phrase in wrong], between='; ')}. Give a control network "
                             "of the model's own family")


def _fits(control: ControlFile, name: str, own: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    if name in control.named.factors:
        # The factors of a convolution may be flattened.
        up, down = (control.stored(source).shape for source in control.named.factors[name])
        return own[0] == shape[0] and prod(down[1:]) == prod(shape[1:]) and prod(up[1:]) == down[0]
    return own == shape or (name.endswith(_PROJECTIONS) and _squeezed(own) == _squeezed(shape))


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape[:2] if shape[2:] == (1, 1) else shape


def _transformer_layers(control: ControlFile, shapes: Mapping[str, Any], unet: Mapping[str, Any]) -> Any:
    """Transformer layers by block; small networks of SDXL have fewer than the U-Net. The middle has those of the last block."""
    declared = unet.get("transformer_layers_per_block", 1)
    blocks = len(unet["block_out_channels"])
    by_unet = [declared] * blocks if isinstance(declared, int) else list(declared)
    if control.named.layout == CONTROL_LORA:
        return by_unet
    counts = [_layers(shapes, f"down_blocks.{block}.attentions.0.transformer_blocks.") or by_unet[block]
              for block in range(blocks)]
    return [*counts[:-1], _layers(shapes, "mid_block.attentions.0.transformer_blocks.") or counts[-1]]


def _layers(names: Mapping[str, Any], prefix: str) -> int:
    numbers = {name.removeprefix(prefix).partition(".")[0] for name in names if name.startswith(prefix)}
    return len({number for number in numbers if number.isdecimal()})


def _hint_weights(shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    prefix = "controlnet_cond_embedding."
    blocks = sorted({int(part) for name in shapes if name.startswith(f"{prefix}blocks.")
                     and (part := name.split(".")[2]).isdecimal() and len(part) < 4})
    names = [f"{prefix}conv_in.weight", *(f"{prefix}blocks.{number}.weight" for number in blocks)]
    return [name for name in names if shapes.get(name)]


def _any(names: Mapping[str, Any], prefix: str) -> bool:
    return any(name.startswith(prefix) for name in names)


def _refuse_impossible(control: ControlFile) -> None:
    for _, source in _sources(control.named):
        entry = control.stored(source)
        if entry.dtype not in _FLOATS:
            raise ModelFileError(f"{control.path}: {visible(source)!r} is {entry.dtype}; expected floating-point numbers. "
                                 "Give the network as it was published, not quantized")
        if not entry.shape or len(entry.shape) > 4:
            raise ModelFileError(f"{control.path}: {visible(source)!r} is {list(entry.shape)}; expected one to four dimensions. "
                                 "Download it again")
    if control.named.layout in (DIFFUSERS, UNION) and not _hint_weights(control.shapes()):
        raise ModelFileError(f"{control.path}: has no first layer of a hint encoder (controlnet_cond_embedding.conv_in.weight). "
                             "Download it again")


def _sources(listed: Named) -> Iterator[tuple[str, str]]:
    yield from listed.whole.items()
    for name, pair in listed.factors.items():
        yield from ((name, source) for source in pair)
