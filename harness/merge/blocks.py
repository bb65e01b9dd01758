"""The slots of merge block weighted: which slot each key of a model belongs to, under the conventions of the common tools."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from harness.declare.nearest import did_you_mean

NONE: Final = "none"
"""The slot of keys that a convention does not merge. They stay A's."""
FULL_SIZE: Final = {"sd1": (12, 12), "sd2": (12, 12), "sdxl": (9, 9), "sdxl_refiner": (12, 12), "flux": (19, 38), "sd3": (24, 0)}
"""Blocks of the published models: input and output blocks, or double and single blocks, or joint blocks."""
DENOISERS: Final = ("unet", "transformer")

_FIRST, _LAST = "IN00", "last OUT"
_UNET_BLOCK: Final = re.compile(r"(input_blocks|output_blocks|middle_block)\.(\d+)\.")
_STREAM_BLOCK: Final = re.compile(r"(double|single|joint)_blocks\.(\d+)\.")
_COMFYUI_STREAMS: Final = {
    "flux": ("img_in", "time_in", "guidance_in", "vector_in", "txt_in"),
    "sd3": ("pos_embed", "x_embedder", "context_embedder", "y_embedder", "t_embedder"),
}

_DIFFUSERS_STREAMS: Final = {
    "flux": {"single_transformer_blocks.": "single_blocks.", "transformer_blocks.": "double_blocks.", "x_embedder.": "img_in.",
             "context_embedder.": "txt_in.", "time_text_embed.timestep_embedder.": "time_in.",
             "time_text_embed.text_embedder.": "vector_in.", "time_text_embed.guidance_embedder.": "guidance_in.",
             "norm_out.": "final_layer.", "proj_out.": "final_layer."},
    "sd3": {"transformer_blocks.": "joint_blocks.", "pos_embed.proj.": "x_embedder.",
            "time_text_embed.timestep_embedder.": "t_embedder.", "time_text_embed.text_embedder.": "y_embedder.",
            "norm_out.": "final_layer.", "proj_out.": "final_layer."},
}


class WhereError(ValueError):
    """Some key has no alpha. The message says why and what to give instead."""


@dataclass(frozen=True, kw_only=True)
class Places:
    """The slots of a U-Net's keys outside all blocks, and of the VAE. Text encoders belong to BASE in every convention."""

    time_embed: str
    label_emb: str = "BASE"
    out: str = _LAST
    vae: str = "BASE"


@dataclass(frozen=True, kw_only=True)
class Convention:
    """How a tool assigns slots: `sd` for Stable Diffusion 1 and 2 and the SDXL refiner, `xl` for SDXL, and the source.

    `transformers` names the families other than U-Nets that the tool has block weights for. With `own_slots`, time_embed,
    label_emb, out and each part of the middle block have separate slots, and there is no BASE.
    """

    sd: Places
    xl: Places
    source: str
    transformers: tuple[str, ...] = ()
    own_slots: bool = False


_OWN: Final = Places(time_embed="time_embed", label_emb="label_emb", out="out", vae=NONE)

CONVENTIONS: Final[dict[str, Convention]] = {
    "supermerger": Convention(
        sd=Places(time_embed=_FIRST), xl=Places(time_embed=_FIRST, label_emb=_FIRST), transformers=("flux",),
        source="https://github.com/hako-mikan/sd-webui-supermerger/blob/0b1c4915a6ede98ce3528b4f097361842a641d1d"
               "/scripts/mergers/mergers.py#L1459"),
    "meh": Convention(
        sd=Places(time_embed=_FIRST), xl=Places(time_embed=_FIRST),
        source="https://github.com/s1dlx/meh/blob/04af2c8d63744fb6c02d35d328a2c84380cca444/sd_meh/merge.py#L360"),
    "sd-mecha": Convention(
        sd=Places(time_embed="BASE"), xl=Places(time_embed="BASE", vae="VAE"),
        source="https://github.com/ljleb/sd-mecha/blob/main/sd_mecha/extensions/builtin/model_configs/convert_sdxl_blocks.py"),
    # For SD1 its table is indexed with -1, the last slot, although the comment there says "before input blocks".
    "chattiori": Convention(
        sd=Places(time_embed=_LAST, vae=NONE), xl=Places(time_embed=NONE, label_emb=NONE, vae=NONE),
        source="https://github.com/Faildes/Chattiori-Model-Merger/blob/main/merge.py"),
    "comfyui": Convention(
        sd=_OWN, xl=_OWN, transformers=("flux", "sd3"), own_slots=True,
        source="https://github.com/comfyanonymous/ComfyUI/blob/master/comfy_extras/nodes_model_merging_model_specific.py"),
}
"""The conventions by name. In all of them a value is the share of B. ComfyUI's own sliders give the share of its model 1, so
a slider at 0.8 is 0.2 here."""


@dataclass(frozen=True, kw_only=True)
class Slots:
    """The slots of one model in the order of the values. The values may omit `head` (BASE, or CLIP and T5), which `base` then
    gives, and `tail` (the VAE) if the VAE is not merged."""

    model: str
    head: tuple[str, ...] = ()
    body: tuple[str, ...]
    tail: tuple[str, ...] = ()

    def describe(self) -> str:
        """"this U-Net has 20 slots (BASE, IN00 to IN08, M00, OUT00 to OUT08), or 19 without BASE"."""
        first = f"{len(self.head + self.body)} slots ({_ranges(self.head + self.body)})"
        without = f", or {len(self.body)} without {' and '.join(self.head)}" if self.head else ""
        more = f", or {len(self.head + self.body + self.tail)} with {self.tail[0]} last" if self.tail else ""
        return f"this {self.model} has {first}{without}{more}"


def find_convention(name: str) -> Convention:
    """The convention of that name. Raises WhereError, with the nearest name, if there is no such convention."""
    if name not in CONVENTIONS:
        raise WhereError(f"unknown convention {name!r}; {did_you_mean(name, CONVENTIONS)}")
    return CONVENTIONS[name]


def single_file_name(family: str, name: str) -> str:
    """The name with its first part as in single files, if it is the diffusers name of a Flux or SD3 key; else unchanged."""
    for theirs, ours in _DIFFUSERS_STREAMS.get(family, {}).items():
        if name.startswith(theirs):
            return ours + name[len(theirs):]
    return name


def counts(names: Iterable[str], family: str) -> tuple[int, int]:
    """How many input and output blocks a U-Net has (or double and single, or joint blocks a transformer), by its own keys.

    Raises WhereError if there are no blocks: then these are not single-file names.
    """
    kinds = {"flux": ("double", "single"), "sd3": ("joint", "")}.get(family, ("input_blocks", "output_blocks"))
    pattern = _STREAM_BLOCK if family in ("flux", "sd3") else _UNET_BLOCK
    numbered = {(m[1], int(m[2])) for m in map(pattern.match, names) if m}
    first, second = (1 + max((number for kind, number in numbered if kind == counted), default=-1) for counted in kinds)
    if not first:
        raise WhereError(f"no blocks of a model of family {family!r} are among these names; expected names like "
                         f"'{kinds[0]}{'' if kinds[0].endswith('s') else '_blocks'}.0. ...'")
    return first, second


def last_blocks(family: str) -> tuple[str, ...]:
    """What the names in the last blocks of a family's published models begin with."""
    if family not in FULL_SIZE:
        return ()
    kinds = {"flux": ("double_blocks", "single_blocks"), "sd3": ("joint_blocks", "")}.get(
        family, ("input_blocks", "output_blocks"))
    return tuple(f"{kind}.{count - 1}." for kind, count in zip(kinds, FULL_SIZE[family], strict=True) if count)


def unet_blocks(inputs: int, outputs: int) -> tuple[str, ...]:
    """The slots IN00, ..., M00, OUT00, ... of a U-Net with these numbers of input and output blocks."""
    return (*(f"IN{n:02d}" for n in range(inputs)), "M00", *(f"OUT{n:02d}" for n in range(outputs)))


def slots_of(convention: str, family: str, names: Iterable[str], size: tuple[int, int]) -> Slots:
    """The slots of a model with `size` blocks. `names` are the names in its U-Net or transformer, if they are known: they
    decide which slots it has besides the blocks. Raises WhereError if the convention has no block weights for the family."""
    rules = find_convention(convention)
    here = {name.partition(".")[0] for name in names}
    if family in ("flux", "sd3"):
        if family not in rules.transformers:
            having = [name for name, other in CONVENTIONS.items() if family in other.transformers]
            raise WhereError(f"convention {convention!r} has no block weights for {family}; {' and '.join(having)} "
                             f"{'have' if len(having) > 1 else 'has'}. Or give a Gradient, or Alphas with keys")
        first, second = size
        if family == "sd3":
            streams: tuple[str, ...] = tuple(f"J{n:02d}" for n in range(first))
        else:
            streams = (*(f"D{n:02d}" for n in range(first)), *(f"S{n:02d}" for n in range(second)))
        if not rules.own_slots:
            return Slots(model="transformer", head=("CLIP", "T5"), body=("IN", *streams, "OUT"))
        before = tuple(slot for slot in _COMFYUI_STREAMS[family] if not here or slot in here)
        return Slots(model="transformer", body=(*before, *streams, "final_layer"))
    blocks = unet_blocks(*size)
    if rules.own_slots:
        before = ("time_embed", *(("label_emb",) if "label_emb" in here or (not here and family.startswith("sdxl")) else ()))
        middle = blocks.index("M00")
        return Slots(model="U-Net", body=(*before, *blocks[:middle], "M00", "M01", "M02", *blocks[middle + 1:], "out"))
    return Slots(model="U-Net", head=("BASE",), body=blocks, tail=("VAE",) if _places(rules, family).vae == "VAE" else ())


def slot_of(convention: str, family: str, component: str, name: str, size: tuple[int, int]) -> str:
    """The slot of a key, by its component and single-file name."""
    rules = find_convention(convention)
    if component not in DENOISERS:
        return _beside_slot(rules, family, component)
    return _stream_slot(rules, family, name) if family in ("flux", "sd3") else _unet_slot(rules, family, name, size)


def _beside_slot(rules: Convention, family: str, component: str) -> str:
    """The slot of a text encoder or VAE. No tool with block weights for Flux or SD3 merges their VAE."""
    if component == "vae":
        return NONE if family in ("flux", "sd3") else _places(rules, family).vae
    if family == "flux" and not rules.own_slots:
        return "CLIP" if component == "text_encoder" else "T5"
    return "BASE"


def _unet_slot(rules: Convention, family: str, name: str, size: tuple[int, int]) -> str:
    if match := _UNET_BLOCK.match(name):
        kind, number = match[1], int(match[2])
        if kind == "middle_block":
            return f"M{number:02d}" if rules.own_slots else "M00"
        return f"{'IN' if kind == 'input_blocks' else 'OUT'}{number:02d}"
    places = _places(rules, family)
    beside = {"time_embed": places.time_embed, "label_emb": places.label_emb, "out": places.out}
    slot = beside.get(name.partition(".")[0], "BASE")
    return f"OUT{size[1] - 1:02d}" if slot == _LAST else slot


def _places(rules: Convention, family: str) -> Places:
    return rules.xl if family == "sdxl" else rules.sd


def _stream_slot(rules: Convention, family: str, name: str) -> str:
    """The slot of a key of a Flux or SD3 transformer. Keys that no slider of the tool controls are not merged."""
    if match := _STREAM_BLOCK.match(name):
        return f"{match[1][0].upper()}{int(match[2]):02d}"
    first = name.partition(".")[0]
    if rules.own_slots:
        return first if first in (*_COMFYUI_STREAMS[family], "final_layer") else NONE
    return "OUT" if first == "final_layer" else "IN" if first.endswith("_in") else NONE


def _ranges(slots: tuple[str, ...]) -> str:
    """"BASE, IN00 to IN08, M00, OUT00 to OUT08"."""
    runs: list[list[str]] = []
    for slot in slots:
        kind = slot.rstrip("0123456789")
        if runs and kind != slot and runs[-1][0].rstrip("0123456789") == kind:
            runs[-1].append(slot)
        else:
            runs.append([slot])
    return ", ".join(run[0] if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs)
