"""The names of a control network's tensors in the layouts that it is stored in, and the signs of other kinds of files.

The names decide: control_model.input_hint_block... (the original code), controlnet_cond_embedding... (diffusers), those of a
Control-LoRA, whose factors change a copy of the model's encoder, and body.0... (a T2I-Adapter).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from harness.control.t2i_layouts import is_t2i, t2i_names
from harness.declare.listing import first_of
from harness.weights import ldm
from harness.weights.numbering import Numbering, numbering_of
from harness.weights.safetensors_header import ModelFileError
from harness.weights.wrapped_names import without_wrapping

ORIGINAL: Final = "original code"
DIFFUSERS: Final = "diffusers"
UNION: Final = "union, by the names of diffusers"
TASKS: Final = "task_embedding"
"""The tensor of a union network that has a row for each kind of picture."""
CONTROL_LORA: Final = "Control-LoRA"
T2I_DIFFUSERS: Final = "T2I-Adapter, by the names of diffusers"
T2I_ORIGINAL: Final = "T2I-Adapter, by the names of the original code"
PREFIX: Final = "control_model."
"""Before the names of a network that a file holds beside a whole model, or alone."""
DIFFERENCE: Final = "difference"
"""A tensor of this name says that the encoder's tensors are to be added to those of the model in use."""
MARK: Final = "lora_controlnet"
_WITHOUT_VALUES: Final = (DIFFERENCE, MARK)
_HINT: Final = re.compile(r"input_hint_block\.([0-9]{1,2})\.(weight|bias)$")
_ZERO: Final = re.compile(r"zero_convs\.([0-9]{1,2})\.0\.(weight|bias)$")
_MIDDLE: Final = re.compile(r"middle_block_out\.0\.(weight|bias)$")
_FACTOR: Final = re.compile(r"(.+)\.(up|down)$")
_KEEP: Final = "Use the tool that it was made for, or a ControlNet of the same kind"
_OTHERS: Final[tuple[tuple[str, str], ...]] = (
    (r"^(style_embedding$|ln_(pre|post)\.)",
     "a style adapter of T2I-Adapter, which reads a reference picture by CLIP and is not supported. Give an IP-Adapter to "
     "Candidate(references=...)"),
    (r"^lllite_", f"a ControlNet-LLLite, which is not supported. {_KEEP}"),
    (r"(ip_adapter|image_proj)\.|\.to_[kv]_ip\.", "an IP-Adapter, which is given a reference picture. Give it to "
     "Candidate(references=...)"),
    (r"^(controlnet_x_embedder|controlnet_single_blocks|controlnet_blocks|double_blocks|joint_blocks|"
     r"(control_)?transformer_blocks|pos_embed_input|controlnet_mode_embedder)\b",
     "a control network of a transformer (Flux, Stable Diffusion 3), and controls are supported for U-Nets alone: Stable "
     "Diffusion 1, 2 and XL"),
    (r"lora_unet_|lora_te|\.lora_[AB]\.|\.lora\.(up|down)\.", "a LoRA. Give it to Candidate(adapters=...)"),
    (r"^model\.diffusion_model\.|^first_stage_model\.", "a model without a control network. Give it as a candidate's model"),
    (r"^(up_blocks|conv_norm_out)\.", "a U-Net. Give it as a part of a model"),
)


@dataclass(frozen=True, kw_only=True)
class Named:
    """The tensors of a network by diffusers' names, each with its name in the file. `factors` are those of low rank by the tensor
    that they change: the names of up and down. With `deltas` the tensors that a U-Net has too are added to its own. `beside` are
    names that belong to a model in the same file."""

    layout: str
    whole: Mapping[str, str]
    factors: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    deltas: bool = False
    beside: tuple[str, ...] = ()

    @property
    def t2i(self) -> bool:
        """Whether it is a T2I-Adapter, which sees the picture alone and gives features for the encoder."""
        return self.layout in (T2I_DIFFUSERS, T2I_ORIGINAL)

    @property
    def needs_model(self) -> bool:
        """Whether the network is made of the model in use, and changes with it."""
        return self.deltas or self.layout == CONTROL_LORA


def named(where: str, names: Iterable[str], numbering: Numbering | None = None) -> Named:
    """What a file with these names is. `numbering` is that of the U-Net's blocks. Raises ModelFileError, which names `where`, for
    anything but the control network of a U-Net, and for unknown names in one."""
    listed = list(names)
    inner = {without_wrapping(name): name for name in listed}
    prefixed = {name.removeprefix(PREFIX): source for name, source in inner.items() if name.startswith(PREFIX)}
    if prefixed:
        beside = tuple(source for name, source in inner.items() if not name.startswith(PREFIX) and name not in _WITHOUT_VALUES)
        inner = {**prefixed, **{name: inner[name] for name in _WITHOUT_VALUES if name in inner}}
    else:
        beside = ()
    if is_t2i(inner):
        whole, of_diffusers = t2i_names(where, inner)
        return Named(layout=T2I_DIFFUSERS if of_diffusers else T2I_ORIGINAL, whole=whole)
    for mark, what in _OTHERS:
        if not prefixed and any(re.search(mark, name) for name in inner if len(name) < 1000):
            raise ModelFileError(f"{where}: this is {what}")
    if MARK in inner:
        return _control_lora(where, inner, numbering, beside)
    if any(_HINT.match(name) for name in inner):
        tensors = {name: source for name, source in inner.items() if name not in _WITHOUT_VALUES}
        return Named(layout=ORIGINAL, whole=_to_diffusers(where, tensors, numbering), deltas=DIFFERENCE in inner, beside=beside)
    if any(name.startswith("controlnet_cond_embedding.") for name in inner):
        return Named(layout=UNION if TASKS in inner else DIFFUSERS, whole=inner)
    raise ModelFileError(f"{where}: this is not a known control network: none of its {len(listed)} tensors is of a hint "
                         f"encoder (first: {first_of(sorted(map(repr, listed)))}). Expected a ControlNet, a Control-LoRA "
                         "or a T2I-Adapter")


def _control_lora(where: str, inner: Mapping[str, str], numbering: Numbering | None, beside: tuple[str, ...]) -> Named:
    halves: dict[str, dict[str, str]] = {}
    whole: dict[str, str] = {}
    for name, source in inner.items():
        if match := _FACTOR.match(name):
            halves.setdefault(f"{match[1]}.weight", {})[match[2]] = source
        elif name not in _WITHOUT_VALUES:
            whole[name] = source
    if alone := next((name for name, pair in halves.items() if len(pair) < 2), ""):
        raise ModelFileError(f"{where}: {alone!r} has only one of its two factors, up and down; expected both. Download it again")
    if twice := next((name for name in halves if name in whole), ""):
        raise ModelFileError(f"{where}: {twice!r} is given whole and by factors; expected one of them. Download it again")
    if not any(_HINT.match(name) for name in whole):
        raise ModelFileError(f"{where}: this Control-LoRA has no hint encoder (input_hint_block...). Download it again")
    every = _to_diffusers(where, {**{name: name for name in halves}, **{name: name for name in whole}}, numbering)
    return Named(layout=CONTROL_LORA, beside=beside, whole={ours: whole[name] for ours, name in every.items() if name in whole},
                 factors={ours: (halves[name]["up"], halves[name]["down"]) for ours, name in every.items() if name in halves})


def _to_diffusers(where: str, tensors: Mapping[str, str], numbering: Numbering | None) -> dict[str, str]:
    """{diffusers' name: source} of names of the original code."""
    hints = sorted({int(match[1]) for name in tensors if (match := _HINT.match(name))})
    renamed: dict[str, str] = {}
    encoder: dict[str, str] = {}
    for name, source in tensors.items():
        if hint := _HINT.match(name):
            renamed[f"controlnet_cond_embedding.{_hint_place(hints, int(hint[1]))}.{hint[2]}"] = source
        elif zero := _ZERO.match(name):
            renamed[f"controlnet_down_blocks.{int(zero[1])}.{zero[2]}"] = source
        elif middle := _MIDDLE.match(name):
            renamed[f"controlnet_mid_block.{middle[1]}"] = source
        else:
            encoder[name] = source
    own = numbering_of(unet=encoder)
    try:
        places = ldm.unet_to_diffusers(encoder, own if numbering is None else own.beside(numbering))
    except KeyError as error:
        raise ModelFileError(f"{where}: {str(error.args[0]).replace('U-Net', 'control network')}. Download it again") from None
    return {**renamed, **{ours: encoder[name] for name, ours in places.items()}}


def _hint_place(hints: Collection[int], number: int) -> str:
    """The hint encoder's convolutions are every second layer; the first and the last have names of their own."""
    first, last = min(hints), max(hints)
    return "conv_in" if number == first else "conv_out" if number == last else f"blocks.{number // 2 - 1}"
