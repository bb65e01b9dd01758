"""Reads untrusted IP-Adapter files: the kind, the projection of a picture's embedding to tokens, and the keys and values of every
cross attention. Every tensor of a file has its place, or the file is refused."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from harness.declare.listing import first_of
from harness.reference.kinds import ATTENTION, PLAIN, PROJECTION, kind_of
from harness.reference.projection import plain_names, plus_names
from harness.weights.files import TensorFile, open_tensors
from harness.weights.safetensors_header import ModelFileError, StoredTensor

if TYPE_CHECKING:
    from torch import Tensor

_HALVES: Final = ("to_k_ip", "to_v_ip")
_ATTENTION: Final = re.compile(r"ip_adapter\.(\d{1,4})\.(to_k_ip|to_v_ip)\.weight")
_FLOATS: Final = ("F64", "F32", "F16", "BF16")
FAMILIES: Final = {768: "Stable Diffusion 1", 1024: "Stable Diffusion 2", 2048: "Stable Diffusion XL"}
"""By the width of the context that a U-Net's cross attention reads."""


@dataclass(frozen=True, kw_only=True)
class ImagePrompt:
    """An IP-Adapter's file. `projection` maps our names of the projection's tensors to the file's, and `attention` holds the
    file's names of keys and values by cross attention, in the order of their numbers: down, up, middle. It reads embeddings of
    `encoder_width` numbers and makes `tokens` tokens of `context_width`."""

    path: Path
    kind: str
    file: TensorFile
    projection: Mapping[str, str]
    attention: tuple[tuple[str, str], ...]
    encoder_width: int
    context_width: int
    tokens: int

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor of the file."""
        return self.file.stored[name].shape

    def projection_tensors(self) -> dict[str, Tensor]:
        """The projection's tensors by our names, in float32. Raises ModelFileError for values that are not finite."""
        return {ours: self._read(name) for ours, name in self.projection.items()}

    def attention_tensors(self) -> list[tuple[Tensor, Tensor]]:
        """The weights of keys and values (inner width, context width) by cross attention, in float32."""
        return [(self._read(key), self._read(value)) for key, value in self.attention]

    def without_values(self) -> tuple[dict[str, Tensor], list[tuple[Tensor, Tensor]]]:
        """`projection_tensors` and `attention_tensors` on the meta device, from the header alone."""
        import torch

        def empty(name: str) -> Tensor:
            return torch.empty(self.shape(name), device="meta")

        return ({ours: empty(name) for ours, name in self.projection.items()},
                [(empty(key), empty(value)) for key, value in self.attention])

    def _read(self, name: str) -> Tensor:
        import torch

        tensor = self.file.read([name])[name].to(dtype=torch.float32, copy=True)
        if not bool(tensor.isfinite().all()):
            raise ModelFileError(f"{self.path}: {name!r} contains NaN or infinity. Download it again")
        return tensor


def read_image_prompt(path: Path) -> ImagePrompt:
    """Opens an IP-Adapter, of which only the header is read. Raises ModelFileError for any other file, for kinds that are not
    supported, by name, and for tensors that are missing, unknown or of a wrong shape."""
    file = open_tensors(path)
    kind, wrong = kind_of(file.stored)
    if wrong:
        raise ModelFileError(f"{path}: {wrong}")
    stored = {name: tensor for name, tensor in file.stored.items() if len(name) < 1000}
    if odd := [name for name, tensor in file.stored.items() if tensor.dtype not in _FLOATS]:
        raise ModelFileError(f"{path}: {odd[0]!r} is stored as {file.stored[odd[0]].dtype}; expected floating-point numbers. "
                             "Give the file in its original number format")
    inner = {name.removeprefix(PROJECTION): tensor.shape for name, tensor in stored.items() if name.startswith(PROJECTION)}
    names = plain_names(str(path), inner) if kind == PLAIN else plus_names(str(path), inner)
    attention = _attention(path, stored)
    used = {PROJECTION + name for name in names.file_names.values()} | {name for pair in attention for name in pair}
    if unknown := [name for name in file.stored if name not in used]:
        raise ModelFileError(f"{path}: {len(unknown)} of its {len(file.stored)} tensors are of no IP-Adapter of the kind {kind}: "
                             f"{first_of(sorted(map(repr, unknown)))}. They would be without effect: give another file")
    for pair in attention:
        for name in pair:
            if len(stored[name].shape) != 2 or stored[name].shape[1] != names.context_width:
                raise ModelFileError(f"{path}: {name!r} has the shape {list(stored[name].shape)}; expected a matrix for the "
                                     f"{names.context_width} numbers of its own tokens. Download it again")
    return ImagePrompt(path=path, kind=kind, file=file, attention=attention, tokens=names.tokens,
                       projection={ours: PROJECTION + name for ours, name in names.file_names.items()},
                       encoder_width=names.encoder_width, context_width=names.context_width)


def _attention(path: Path, stored: Mapping[str, StoredTensor]) -> tuple[tuple[str, str], ...]:
    """The names of keys and values by number. The numbers count all attention, of which every second is cross attention."""
    numbers: dict[int, set[str]] = {}
    for name in stored:
        if name.startswith(ATTENTION) and (match := _ATTENTION.fullmatch(name)):
            numbers.setdefault(int(match[1]), set()).add(match[2])
    expected = [2 * place + 1 for place in range(len(numbers))]
    if sorted(numbers) != expected:
        raise ModelFileError(f"{path}: its cross attentions are numbered {_listed(sorted(numbers))}; expected "
                             f"{_listed(expected)}. "
                             "Tensors are missing: download it again")
    if half := next((f"{ATTENTION}{number}.{name}.weight" for number in expected for name in _HALVES
                     if name not in numbers[number]), ""):
        raise ModelFileError(f"{path}: {half!r} is missing. Download it again")
    return tuple((f"{ATTENTION}{number}.to_k_ip.weight", f"{ATTENTION}{number}.to_v_ip.weight") for number in expected)


def _listed(numbers: Sequence[int]) -> str:
    return first_of([*map(str, numbers)], 6) if numbers else "not at all"


def refuse_misfit(prompt: ImagePrompt, layers: Mapping[str, tuple[int, ...]], model: str) -> None:
    """Raises ModelFileError for an IP-Adapter that does not fit a U-Net, whose cross attentions `layers` are, in the file's
    order: {path: shape of the weight of its keys}."""
    widths = sorted({shape[1] for shape in layers.values()})
    if widths != [prompt.context_width]:
        raise ModelFileError(f"{prompt.path}: its tokens have {prompt.context_width} numbers{_of(prompt.context_width)}, and the "
                             "cross "
                             f"attention of {model} reads {' or '.join(map(str, widths)) or 'nothing'}"
                             f"{_of(widths[0]) if len(widths) == 1 else ''}. Give an IP-Adapter for this model's family")
    if len(layers) != len(prompt.attention):
        raise ModelFileError(f"{prompt.path}: it has keys and values for {len(prompt.attention)} cross attentions, and {model} "
                             "has "
                             f"{len(layers)}. Give an IP-Adapter for this model's architecture")
    for (path, shape), pair in zip(layers.items(), prompt.attention, strict=True):
        for name in pair:
            if prompt.shape(name) != shape:
                raise ModelFileError(f"{prompt.path}: {name!r} has the shape {list(prompt.shape(name))}, and {path} of {model} "
                                     "needs "
                                     f"{list(shape)}. Give an IP-Adapter for this model's architecture")


def _of(width: int) -> str:
    return f" ({FAMILIES[width]})" if width in FAMILIES else ""


def cross_attentions(unet: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """{path: shape of the weight of its keys} of a U-Net's cross attentions, from the shapes of its tensors by diffusers' names,
    in the order in which files number them: down, up, middle."""
    ending = ".attn2.to_k.weight"
    paths = [name.removesuffix(".to_k.weight") for name in unet if name.endswith(ending)]
    order = ("down_blocks", "up_blocks", "mid_block")
    paths.sort(key=lambda path: (order.index(path.split(".")[0]), [int(part) for part in path.split(".") if part.isdecimal()]))
    return {path: tuple(unet[f"{path}.to_k.weight"]) for path in paths}
