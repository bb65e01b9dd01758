"""An opened model: its components with diffusers' names and shapes, the place of each tensor, and how to read it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

from harness.weights.architectures import Recognised, recognise
from harness.weights.constants import is_position_ids
from harness.weights.ema import EMA_PREFIX
from harness.weights.families import MARKERS
from harness.weights.files import DTYPE_BYTES, ModelFileError, TensorFile
from harness.weights.gguf_types import PACKED
from harness.weights.known_files import most_probably
from harness.weights.ldm import unet_to_ldm
from harness.weights.numbering import Numbering
from harness.weights.wrapped_names import plain_name

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["COMPONENTS", "EMA_PREFIX", "MARKERS", "PARTS", "ModelFile", "TensorInfo"]

PARTS: Final[tuple[str, ...]] = ("unet", "transformer", "vae", "text_encoder", "text_encoder_2", "text_encoder_3")
"""Every component a model can have."""
COMPONENTS: Final[tuple[str, ...]] = ("unet", "vae", "text_encoder")
"""The components of Stable Diffusion 1."""

_KNOWN_EXTRA: Final = re.compile(
    r"model_ema\.|(.*/)?(.*\.)?(betas|alphas_cumprod\w*|sqrt_\w+|log_one_minus_\w+|posterior_\w+|logvar|lvlb_weights|scale_factor"
    r"|position_ids|text_projection(\.weight)?|logit_scale|attn_mask|scaled_fp8|scale_weight|scale_input|weight_scale|input_scale|comfy_quant|spiece_model|tekken_model)$"
    r"|(.*/)?(.*\.)?((model_sampling|pos_embedder)\..+|inv_freq|freqs|freqs_cis)$"
    r"|(first_stage_model\.|vae\.)?loss\.|denoiser\.sigmas$|(.*[./])?encoder\.embed_tokens\.weight$"
    r"|cond_stage_model\.model\.transformer\.resblocks\.")
"""Names of tensors that do not affect images: leftovers of training, constants, scales of a weight, and unused parts of
CLIP (in Stable Diffusion 2 the last layer)."""

@dataclass(frozen=True, kw_only=True)
class TensorInfo:
    """One tensor of a component: its shape in diffusers, its stored dtype ("F16"), and where its values are.

    `source` is its name in `file`, `offset` the position of its first byte in the file (None for pickles). If several
    tensors share a stored one, `rows` is this tensor's range of rows in it, and `offset` is that of the first row.
    `transposed`: stored as the transpose of `shape`. Trailing dimensions of 1 may or may not be stored. `scale` names the
    tensor by which the stored values must be multiplied (scaled fp8): one number, or one per stored row; "" without a scale.
    `packed` is the format of codes ("Q4_K", "nf4") from which it is dequantised, in `bits` for each value, scales included;
    `dtype` is then that of its values, and it has no offset. A tensor with `parts` is made of the rows of these, one after the
    other, and has no offset.
    """

    source: str
    file: Path
    dtype: str
    shape: tuple[int, ...]
    offset: int | None = None
    rows: tuple[int, int] | None = None
    transposed: bool = False
    scale: str = ""
    packed: str = ""
    bits: float = 0.0
    parts: tuple[TensorInfo, ...] = ()

    @property
    def formats(self) -> tuple[str, ...]:
        """The formats from which it is dequantised, or any of its parts."""
        return tuple(part.packed for part in self.parts or (self,) if part.packed)

    @property
    def values_dtype(self) -> str:
        """The dtype of the values that are read of it."""
        return "F32" if self.scale else self.dtype

    @property
    def kept_dtype(self) -> str:
        """The dtype in which a result has it that keeps its dtype: codes are written in 16 bits."""
        coded = any(part.scale or (part.packed and part.packed not in PACKED) for part in self.parts or (self,))
        return "F16" if coded and self.values_dtype == "F32" else self.dtype

    @property
    def count(self) -> int:
        """The number of values."""
        product = 1
        for length in self.shape:
            product *= length
        return product

    @property
    def bytes(self) -> int:
        """The number of bytes of its values in the file."""
        if self.parts:
            return sum(part.bytes for part in self.parts)
        if self.packed:
            return round(self.count * self.bits / 8)
        return self.count * DTYPE_BYTES[self.dtype]


@dataclass(frozen=True, kw_only=True)
class ModelFile:
    """An opened model.

    `family` is one of `families.FAMILIES`, or "" for a part that several families share (a VAE alone). `layout` is the
    naming scheme: "ldm" (Stable Diffusion 1, 2), "sgm" (XL), "bfl" (Flux), "sai" (SD3) or "diffusers". `components` holds
    the weights by component and diffusers name (Flux and SD3 keep the names of their layout), `other` by source name all
    tensors that are not weights of a component (schedule buffers, EMA copies, position_ids, markers, unknown keys).
    `prediction` is "epsilon", "v_prediction" or "" if unknown. `markers` are the marker tensors of the file, `folder_markers`
    those that a single file needs to say what a folder's scheduler says. `channels` is the number of input channels of the
    U-Net or transformer, 0 without one. `ema` says whether the file holds averaged weights; `ema_component` has them by the
    U-Net's diffusers names. After `open_model(..., ema=True)` they are the U-Net, and `uses_ema` is true. `warnings` are
    sentences about contradictions and stray tensors. `wrapper` is the prefix of all names ("net."), `wrapped_names` says what
    else may be added to a name. `odd` are the stray tensors that are stored among the weights of a component, which has none of
    these names, by component. `structural`: the architecture is not known, and its denoiser counts as a transformer with the
    file's names. `stored` is the same model under the names of its file, if its transformer has other names here. `numbering`
    is how the blocks of its U-Net and VAE are numbered. `companion` has the components that come from another folder, which are
    among `components` too. `module` is the config of diffusers' module whose names its transformer has in place of those of the
    file, and `unused` are the tensors of the file that this module does not have.
    """

    path: Path
    family: str
    layout: str
    metadata: Mapping[str, str]
    markers: tuple[str, ...] = ()
    folder_markers: tuple[str, ...] = ()
    prediction: str = ""
    channels: int = 0
    ema: bool = False
    uses_ema: bool = False
    warnings: tuple[str, ...] = ()
    wrapper: str = ""
    numbering: Numbering = field(default_factory=Numbering)
    components: Mapping[str, Mapping[str, TensorInfo]]
    ema_component: Mapping[str, TensorInfo] = field(default_factory=dict, repr=False)
    odd: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    structural: bool = False
    pipeline: str = ""
    """The class of diffusers' pipeline by which a folder of another family is sampled: a row of `own_pipelines.OWN`."""
    stored: ModelFile | None = field(default=None, repr=False)
    companion: ModelFile | None = field(default=None, repr=False)
    module: Path | None = None
    unused: tuple[str, ...] = ()
    other: Mapping[str, TensorInfo]
    files: Mapping[Path, TensorFile] = field(repr=False)

    @property
    def is_folder(self) -> bool:
        """Whether it is a diffusers folder, not a single file."""
        return self.path not in self.files

    @property
    def own(self) -> ModelFile:
        """The model without the components of its companion."""
        if self.companion is None:
            return self
        components = {part: infos for part, infos in self.components.items() if part not in self.companion.components}
        return replace(self, companion=None, components=components, stored=self.stored and self.stored.own,
                       odd={part: names for part, names in self.odd.items() if part in components})

    @property
    def sampling_markers(self) -> tuple[str, ...]:
        """The marker tensors that say how to sample the model, in a single file of it."""
        return self.markers or self.folder_markers

    @cached_property
    def recognised(self) -> Recognised | None:
        """The row of `architectures.ARCHITECTURES` for its transformer; None for a U-Net of a known family and for one that is
        not known."""
        infos = self.components.get("transformer")
        return recognise(infos, self.family) if infos else None

    @property
    def architecture(self) -> str:
        """The name of its architecture, like "Qwen-Image"; "" if it is not known, and for the families of U-Nets."""
        return self.recognised.name if self.recognised else ""

    @property
    def guess(self) -> str:
        """What a file of an unknown architecture most probably is, in a sentence after " is "; "" where nothing is known of it,
        and for a known family."""
        row = most_probably(key for infos in self.components.values() for key in infos) if self.structural else None
        return row.sentence if row else ""

    @property
    def encoder_alone(self) -> bool:
        """Whether it is nothing but a text encoder, which does not show of which family it is which encoder."""
        return not self.family and [part[:12] for part in self.components] == ["text_encoder"]

    @property
    def known_extras(self) -> tuple[str, ...]:
        """The tensors of `other` whose purpose is known: EMA copies, schedule buffers, markers, losses, constants."""
        return tuple(name for name in self.other if name in self.unused or self._known(plain_name(name, self.wrapper)))

    @property
    def strays(self) -> tuple[str, ...]:
        """The unknown tensors of `other`: no image uses them, and coverage reports list them."""
        odd = {name for names in self.odd.values() for name in names}
        return tuple(name for name in self.other if name not in self.unused and (
            name in odd or not self._known(plain_name(name, self.wrapper))))

    def second_name_of(self, stray: str) -> str:
        """The weight whose name, without the prefix of its component, is that of an unknown tensor; "" if there is none."""
        if not stray.count("."):
            return ""
        return next((info.source for infos in self.components.values() for info in infos.values()
                     if info.source.endswith(f".{stray}")), "")

    @property
    def position_ids(self) -> tuple[str, ...]:
        """The source names of position ids, which are always the integers 0..n-1, whatever is stored, and not weights."""
        return tuple(name for name in self.other if is_position_ids(name))

    @property
    def original_unet_names(self) -> dict[str, str]:
        """{diffusers name of a U-Net's tensor: its name in the original code, which numbers the blocks}. The place of an
        upsampler within its block is a guess where the file does not tell."""
        return unet_to_ldm(self.components.get("unet", {}), self.numbering.of_any_family())

    def tensors(self, component: str) -> dict[str, Tensor]:
        """The tensors of a component by diffusers name, on the CPU, in stored dtypes and diffusers shapes; scaled tensors
        as float32 with the scale applied.

        They may be views of the mapped file, so change only copies. Raises ModelFileError if the model lacks the component.
        """
        return self._read(self._component(component))

    def tensor(self, component: str, key: str) -> Tensor:
        """One tensor, as `tensors` returns it. Raises ModelFileError if the model lacks it."""
        infos = self._component(component)
        if key not in infos:
            raise ModelFileError(f"{self.path}: {component} has no tensor {key!r}; expected one of its {len(infos)} names.")
        return self._read({key: infos[key]})[key]

    def _component(self, component: str) -> Mapping[str, TensorInfo]:
        if component not in self.components:
            raise ModelFileError(f"{self.path}: has no {component}, only {', '.join(self.components) or 'no component'}. "
                                 "Give a model with all parts, or merge only the parts it has.")
        return self.components[component]

    def _read(self, infos: Mapping[str, TensorInfo]) -> dict[str, Tensor]:
        parts = {(name, number): part for name, info in infos.items() for number, part in enumerate(info.parts or (info,))}
        read: dict[tuple[str, int], Tensor] = {}
        for path, file in self.files.items():
            mine = {place: part for place, part in parts.items() if part.file == path}
            if mine:
                stored = file.read({i.source for i in mine.values()} | {i.scale for i in mine.values() if i.scale})
                read.update({place: _cut(part, stored) for place, part in mine.items()})
        return {name: _stacked([read[name, number] for number in range(len(info.parts))]) if info.parts else read[name, 0]
                for name, info in infos.items()}

    def _known(self, name: str) -> bool:
        return name in MARKERS or _KNOWN_EXTRA.match(name) is not None


def stored_info(file: TensorFile, source: str) -> TensorInfo:
    """A stored tensor as a whole."""
    stored = file.stored[source]
    values = math.prod(stored.shape)
    return TensorInfo(source=source, file=file.path, dtype=stored.dtype, shape=stored.shape, offset=stored.offset,
                      packed=stored.packed.type if stored.packed else "",
                      bits=8 * stored.packed.bytes / values if stored.packed and values else 0.0)


def _stacked(tensors: Sequence[Tensor]) -> Tensor:
    import torch

    alike = len({tensor.dtype for tensor in tensors}) == 1
    return torch.cat(list(tensors) if alike else [tensor.float() for tensor in tensors])


def _cut(info: TensorInfo, stored: Mapping[str, Tensor]) -> Tensor:
    tensor = stored[info.source]
    if info.scale:
        # Before any reshaping: a scale per row applies to the rows as stored.
        scale = stored[info.scale].float()
        tensor = tensor.float() * (scale.reshape(()) if scale.numel() == 1 else scale.reshape(-1, *(1,) * (tensor.ndim - 1)))
    if info.rows is not None:
        tensor = tensor[info.rows[0]:info.rows[1]]
    return (tensor.T if info.transposed else tensor).reshape(info.shape)
