"""Maps stored names to diffusers' names, one function per naming scheme. Layouts for writing use the same tables, so the
two cannot differ."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from harness.weights import dit, ldm
from harness.weights.constants import is_harmless
from harness.weights.numbering import Numbering, numbering_of

_LAYER: Final = re.compile(r"transformer\.resblocks\.([0-9]{1,3})\.(.+)")
_OPENCLIP_FIXED: Final = {
    "token_embedding.weight": "embeddings.token_embedding.weight",
    "positional_embedding": "embeddings.position_embedding.weight",
    "ln_final.weight": "final_layer_norm.weight", "ln_final.bias": "final_layer_norm.bias",
}
_OPENCLIP_LAYER: Final = {
    f"{theirs}.{leaf}": f"{ours}.{leaf}" for leaf in ("weight", "bias")
    for theirs, ours in (("ln_1", "layer_norm1"), ("ln_2", "layer_norm2"), ("mlp.c_fc", "mlp.fc1"),
                         ("mlp.c_proj", "mlp.fc2"), ("attn.out_proj", "self_attn.out_proj"))}
_FUSED: Final = {"attn.in_proj_weight": "weight", "attn.in_proj_bias": "bias"}
_FUSED_ORDER: Final = ("q_proj", "k_proj", "v_proj")
_TO_OPENCLIP: Final = {ours: theirs for theirs, ours in (*_OPENCLIP_FIXED.items(), *_OPENCLIP_LAYER.items())}
_TO_FUSED: Final = {f"self_attn.{part}.{leaf}": (theirs, third) for theirs, leaf in _FUSED.items()
                    for third, part in enumerate(_FUSED_ORDER)}
PROJECTION: Final = "text_projection.weight"
_CLIP_EXTRA: Final = re.compile(r"(text_model\.)?embeddings\.position_ids|logit_scale")
_TOWER: Final = 24  # layers of OpenCLIP ViT-H; Stable Diffusion 2, like diffusers, does not use the last


@dataclass(frozen=True, kw_only=True)
class Spot:
    """Where a tensor is stored: under `name` (without the component's prefix), completely, as one third of the rows, or
    transposed."""

    name: str
    third: int | None = None
    transposed: bool = False


Spots = dict[str, Spot]
_Locate = Callable[[Sequence[str], Numbering], Spots]


def locate(naming: str, names: Sequence[str], numbering: Numbering | None = None) -> Spots:
    """{diffusers name: spot} for a component's stored names without their prefix. Without `numbering`, these names alone decide
    how the blocks of a U-Net or VAE are numbered.

    Names of the format that are not weights (position_ids, ...) are left out. Raises KeyError, with a sentence, for a name
    that the component does not have and for one tensor under two names.
    """
    return _LOCATE[naming](names, numbering or numbering_of(unet=names, vae=names))


def unknown_names(naming: str, names: Sequence[str], numbering: Numbering) -> list[str]:
    """The stored names that the component does not have, for names of which `locate` refuses one."""
    try:
        locate(naming, names, numbering)
    except KeyError:
        if len(names) == 1:
            return list(names)
        middle = len(names) // 2
        return [*unknown_names(naming, names[:middle], numbering), *unknown_names(naming, names[middle:], numbering)]
    return []


def openclip_name(key: str) -> Spot:
    """Where OpenCLIP stores the transformers tensor `key`. Raises KeyError if it has no such tensor."""
    if key == PROJECTION:
        return Spot(name="text_projection", transposed=True)
    layer = re.fullmatch(r"encoder\.layers\.([0-9]+)\.(.+)", key)
    inside, before = (layer[2], f"transformer.resblocks.{layer[1]}.") if layer else (key, "")
    if inside in _TO_FUSED and layer:
        theirs, third = _TO_FUSED[inside]
        return Spot(name=before + theirs, third=third)
    if inside in _TO_OPENCLIP and (layer is not None) == (_TO_OPENCLIP[inside] in _OPENCLIP_LAYER):
        return Spot(name=before + _TO_OPENCLIP[inside])
    raise KeyError(f"{key!r} is not a tensor of an OpenCLIP text encoder")


def _renamed(rename: Callable[[Iterable[str]], Mapping[str, str]]) -> _Locate:
    """A naming scheme that maps names one to one; `rename` returns {stored name: diffusers name}."""
    return lambda names, _: _collect((ours, Spot(name=name)) for name, ours in rename(names).items())


def _collect(pairs: Iterable[tuple[str, Spot]]) -> Spots:
    spots: Spots = {}
    for key, spot in pairs:
        if key in spots:
            raise KeyError(f"{spots[key].name!r} and {spot.name!r} are the same tensor {key!r}; keep one of them")
        spots[key] = spot
    return spots


def _vae(names: Sequence[str], numbering: Numbering) -> Spots:
    ldm.vae_to_ldm(names, numbering)  # refuses unknown names
    return _collect((ours, Spot(name=name)) for name, ours in ldm.vae_modern(names).items())


def _vae_ldm(names: Sequence[str], numbering: Numbering) -> Spots:
    weights = [name for name in names if not name.startswith("loss.")]
    return _collect((ours, Spot(name=name)) for name, ours in ldm.vae_to_diffusers(weights, numbering).items())


def _unet(names: Sequence[str], numbering: Numbering) -> Spots:
    ldm.unet_to_ldm(names, numbering.of_any_family())  # refuses unknown names
    return {name: Spot(name=name) for name in names}


def _unet_ldm(names: Sequence[str], numbering: Numbering) -> Spots:
    return _collect((ours, Spot(name=name)) for name, ours in ldm.unet_to_diffusers(names, numbering).items())


def _clip(projected: bool) -> _Locate:
    def clip(names: Sequence[str], _: Numbering) -> Spots:
        projections = ("text_projection", PROJECTION)
        weights = [n for n in names if not _CLIP_EXTRA.fullmatch(n) and n not in projections]
        spots = _collect((ours, Spot(name=name)) for name, ours in ldm.text_to_diffusers(weights).items())
        if projected and PROJECTION in names:
            spots[PROJECTION] = Spot(name=PROJECTION)
        return spots
    return clip


def _openclip(whole: bool) -> _Locate:
    """OpenCLIP names; without `whole`, the parts that Stable Diffusion 2 does not use (last layer and projection) are left
    out."""
    def openclip(names: Sequence[str], _: Numbering) -> Spots:
        last = -1 if whole else _unused_layer(names)
        pairs: list[tuple[str, Spot]] = []
        for name in names:
            m = _LAYER.fullmatch(name)
            if name in ("logit_scale", "attn_mask") or (m and int(m[1]) == last):
                continue
            if name in ("text_projection", PROJECTION):
                # Older versions of ComfyUI wrote the transposed projection, under transformers' name.
                pairs += [(PROJECTION, Spot(name=name, transposed=name != PROJECTION))] if whole else []
            elif name in _OPENCLIP_FIXED:
                pairs.append((_OPENCLIP_FIXED[name], Spot(name=name)))
            elif m and m[2] in _OPENCLIP_LAYER:
                pairs.append((f"encoder.layers.{m[1]}.{_OPENCLIP_LAYER[m[2]]}", Spot(name=name)))
            elif m and m[2] in _FUSED:
                pairs += [(f"encoder.layers.{m[1]}.self_attn.{part}.{_FUSED[m[2]]}", Spot(name=name, third=third))
                          for third, part in enumerate(_FUSED_ORDER)]
            else:
                raise KeyError(f"{name!r} is not a tensor of an OpenCLIP text encoder")
        return _collect(pairs)
    return openclip


def _unused_layer(names: Sequence[str]) -> int:
    """The layer that Stable Diffusion 2 does not use: the last one of a complete tower; -1 if the file does not have it.

    Files made from diffusers folders have 23 layers and neither projection nor logit_scale; original files have all of
    them. A smaller tower counts as complete only if no other tensor is missing: it may be a part of a larger one.
    """
    layers = {int(m[1]) for name in names if (m := _LAYER.fullmatch(name))}
    if _TOWER - 1 in layers:
        return _TOWER - 1
    whole = layers == set(range(len(layers))) and set(names) >= set(_OPENCLIP_FIXED) and (
        not {"text_projection", "logit_scale"}.isdisjoint(names))
    return len(layers) - 1 if whole and len(layers) != _TOWER - 1 else -1


_LOCATE: Final[Mapping[str, _Locate]] = {
    "unet-ldm": _unet_ldm, "unet": _unet,
    "vae-ldm": _vae_ldm, "vae": _vae,
    "clip": _clip(projected=False), "clip-projected": _clip(projected=True),
    "openclip": _openclip(whole=True), "openclip-penultimate": _openclip(whole=False),
    "as-stored": lambda names, _: {name: Spot(name=name) for name in names if not is_harmless(name)},
    **{naming: _renamed(rename) for naming, rename in dit.NAMINGS.items()},
}
