"""How the blocks of a U-Net and a VAE are numbered: by the published architectures, and by what the names of a file prove. What
a file lacks proves nothing, so a part of a model is numbered like the whole."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

LAYERS: Final = 2
"""Resnets in a block on the way down of every published U-Net. On the way up there is one more."""
LEVELS: Final = 4
"""Levels of every published VAE."""
MOST: Final = 8
"""Blocks, levels and layers that are told apart. Higher numbers are refused as unknown."""

_LAYERS: Final = frozenset(range(1, 5))
_LEVELS: Final = frozenset(range(1, MOST + 1))
_ATTENDED_FIRST: Final = {"sd1": False, "sd2": False, "sdxl": True, "sdxl_refiner": False}
"""Whether the first block on the way up has attention. The later ones that end with an upsampler all have."""

_OURS: Final = re.compile(r"(down|up)_blocks\.([0-9]{1,3})\.(resnets|attentions|downsamplers|upsamplers)\.([0-9]{1,3})\.")
_STEP: Final = re.compile(r"(input|output)_blocks\.([0-9]{1,3})\.([0-9])\.(?:(op|conv)\.)?")
_VAE: Final = re.compile(r"(encoder|decoder)\.(down|up)(_blocks)?\.([0-9]{1,3})\.(block|resnets|downsample|upsample)")
_UNET_ENDS: Final = ({"conv_in", "conv_out", "mid_block"}, {"input_blocks.0", "out.2", "middle_block"})
_VAE_ENDS: Final = ("conv_in.", "conv_out.", "mid")

_Numbered = tuple[str, int, bool, bool]


@dataclass(frozen=True, kw_only=True)
class Numbering:
    """What is known of a model's blocks.

    `layers` and `levels` are the numbers of layers in a U-Net's block and of levels in a VAE that are still possible: one
    where the names prove it. `attended` says of blocks on the way up whether they have attention, which decides where the
    original code puts their upsampler. `whole` says that no block of the U-Net is missing.
    """

    layers: frozenset[int] = _LAYERS
    levels: frozenset[int] = _LEVELS
    attended: Mapping[int, bool] = field(default_factory=dict)
    whole: bool = False

    @property
    def layer_count(self) -> int:
        """Resnets of a block on the way down: the proven number, else that of the published models if it is possible."""
        return _chosen(self.layers, LAYERS)

    @property
    def level_count(self) -> int:
        """Levels of the VAE, in the same way."""
        return _chosen(self.levels, LEVELS)

    def has_attention(self, block: int) -> bool | None:
        """Whether a block on the way up has attention; None for the first one where neither names nor family tell."""
        return self.attended.get(block, None if block == 0 else True)

    def contradiction(self, other: Numbering) -> str:
        """Why these names cannot be numbered like those of `other`, in words; empty where they can, and for two models that
        both prove their own."""
        pairs = (("layers in a block of the U-Net", self.layers, other.layers), ("levels of the VAE", self.levels, other.levels))
        return "; ".join(f"the {what} can be {_listed(own)} here and {_listed(others)} there" for what, own, others in pairs
                         if not own & others and len(own) + len(others) > 2)

    def of_any_family(self) -> Numbering:
        """With a guess where the family does not tell, for uses to which the place of that upsampler makes no difference."""
        return replace(self, attended={0: False, **self.attended})

    def of_family(self, family: str) -> Numbering:
        """With what the family adds to the names."""
        return self if family not in _ATTENDED_FIRST else replace(
            self, attended={0: _ATTENDED_FIRST[family], **self.attended})

    def beside(self, other: Numbering) -> Numbering:
        """With what the names of another model of the same architecture add. What contradicts these names is left out."""
        return replace(self, layers=self.layers & other.layers or self.layers, levels=self.levels & other.levels or self.levels,
                       attended={**other.attended, **self.attended})


def numbering_of(unet: Iterable[str] = (), vae: Iterable[str] = ()) -> Numbering:
    """What the names of a U-Net and of a VAE prove, in diffusers' or the original code's spelling; modules count as names."""
    unet_names, vae_names = ([f"{name}." for name in names] for names in (unet, vae))
    original = any(name.startswith(("input_blocks.", "output_blocks.", "middle_block.")) for name in unet_names)
    layers, attended, whole = (_of_original if original else _of_diffusers)(unet_names)
    return Numbering(layers=layers, attended=attended, whole=whole, levels=_levels(vae_names))


def _listed(numbers: Collection[int]) -> str:
    return " or ".join(map(str, sorted(numbers))) or "no known number"


def _chosen(possible: frozenset[int], published: int) -> int:
    return published if published in possible or not possible else min(possible)


def _of_diffusers(names: Collection[str]) -> tuple[frozenset[int], dict[int, bool], bool]:
    numbered = {(m[1], int(m[2]), m[3], int(m[4])) for m in map(_OURS.match, names) if m}
    possible = frozenset(count for count in _LAYERS if all(
        layer < count + (side == "up") for side, _, kind, layer in numbered if kind in ("resnets", "attentions")))
    attended = {block: True for side, block, kind, _ in numbered if (side, kind) == ("up", "attentions")}
    blocks = 1 + max((block for _, block, _, _ in numbered), default=-1)
    proven = {count for count in possible if blocks and _ends(names, _UNET_ENDS[0]) and numbered >= {
        *((side, block, "resnets", layer) for side in ("down", "up") for block in range(blocks)
          for layer in range(count + (side == "up"))),
        *((side, block, f"{side}samplers", 0) for side in ("down", "up") for block in range(blocks - 1))}
        and not numbered & {("down", blocks - 1, "downsamplers", 0), ("up", blocks - 1, "upsamplers", 0)}}
    if proven:
        return frozenset({max(proven)}), {block: block in attended for block in range(blocks)}, True
    if blocks >= 4:
        # Only the models of four levels have such blocks, and none of them has attention at the deepest.
        attended.setdefault(0, False)
    return possible, attended, False


def _of_original(names: Collection[str]) -> tuple[frozenset[int], dict[int, bool], bool]:
    """The same from the original code's names, which count the steps of all blocks through: with n layers every step on the
    way down whose number n + 1 divides is a downsampler, and the one before it on the way up may end with an upsampler."""
    steps = {(m[1], int(m[2]), m[3], m[4] or "") for m in map(_STEP.match, names) if m}
    possible = frozenset(count for count in _LAYERS if all(_fits(count + 1, *step) for step in steps))
    down, up = ({number for side, number, _, _ in steps if side == one} for one in ("input", "output"))
    ops = {number for side, number, _, kind in steps if (side, kind) == ("input", "op")}
    total = max(down, default=0) + 1
    proven = {count for count in possible if _ends(names, _UNET_ENDS[1]) and total % (count + 1) == 0
              and down == set(range(total)) and up == set(range(total)) and ops == set(range(count + 1, total, count + 1))}
    layers = frozenset({max(proven)}) if proven else possible
    period = _chosen(layers, LAYERS) + 1
    attention = {number // period for side, number, place, kind in steps if (side, place, kind) == ("output", "1", "")}
    attended = dict.fromkeys(attention, True)
    attended |= {number // period: place == "2" for side, number, place, kind in steps if (side, kind) == ("output", "conv")}
    return layers, attended, bool(proven)


def _fits(period: int, side: str, number: int, _: str, kind: str) -> bool:
    if side == "output":
        return kind != "conv" or number % period == period - 1
    return number == 0 or (number % period == 0) == (kind == "op")


def _ends(names: Collection[str], ends: Iterable[str]) -> bool:
    return all(any(name.startswith(f"{end}.") for name in names) for end in ends)


def _levels(names: Collection[str]) -> frozenset[int]:
    """The levels that a VAE can have. A whole half proves it where its last level is the one without sampler: the encoder, and
    the decoder in diffusers' names, which begin at the deepest level."""
    numbered = {(m[1], int(m[4]), m[5].endswith("sample"), m[1] == "encoder" or bool(m[3])) for m in map(_VAE.match, names) if m}
    least = max((level + 1 + (sampler and last) for _, level, sampler, last in numbered), default=1)
    proven = any(_whole_half(half, least, numbered) and all(
        any(name.startswith(f"{half}.{end}") for name in names) for end in _VAE_ENDS) for half in ("encoder", "decoder"))
    return frozenset({least}) if proven else frozenset(count for count in _LEVELS if count >= least)


def _whole_half(half: str, levels: int, numbered: Collection[_Numbered]) -> bool:
    own = [(level, sampler) for one, level, sampler, last in numbered if one == half and last]
    return {level for level, sampler in own if not sampler} == set(range(levels)) and (
        {level for level, sampler in own if sampler} == set(range(levels - 1)))
