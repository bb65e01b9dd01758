"""The names of Flux' and Stable Diffusion 3's transformers in the original code and in diffusers, as pairs of modules."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

_ORIGINAL: Final = ("double_blocks.", "single_blocks.", "joint_blocks.", "img_in", "txt_in", "time_in", "vector_in",
                    "guidance_in", "t_embedder", "y_embedder", "x_embedder.proj", "final_layer")


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A module of the original layout, and the diffusers modules that hold its rows, in order.

    `swapped`: diffusers has its two halves (shift and scale) in reverse order. With `rest`, each module but the last has as
    many rows as the weight has columns, and the last has the remaining rows.
    """

    original: str
    diffusers: tuple[str, ...]
    swapped: bool = False
    rest: bool = False


_EMBEDDERS: Final = (("timestep_embedder", "time_in", "t_embedder.mlp"), ("text_embedder", "vector_in", "y_embedder.mlp"),
                     ("guidance_embedder", "guidance_in", ""))
_SIDES: Final = (("img", "", ("to_q", "to_k", "to_v"), "to_out.0", ("norm_q", "norm_k")),
                 ("txt", "_context", ("add_q_proj", "add_k_proj", "add_v_proj"), "to_add_out", ("norm_added_q", "norm_added_k")))


def flux_pairs(paths: Collection[str]) -> Iterator[Pair]:
    """Flux.1: Black Forest Labs' names and diffusers'."""
    yield Pair(original="img_in", diffusers=("x_embedder",))
    yield Pair(original="txt_in", diffusers=("context_embedder",))
    for ours, theirs, _ in _EMBEDDERS:
        for layer, number in (("in_layer", 1), ("out_layer", 2)):
            yield Pair(original=f"{theirs}.{layer}", diffusers=(f"time_text_embed.{ours}.linear_{number}",))
    yield Pair(original="final_layer.linear", diffusers=("proj_out",))
    yield Pair(original="final_layer.adaLN_modulation.1", diffusers=("norm_out.linear",), swapped=True)
    for block in _numbers(paths, "double_blocks", "transformer_blocks"):
        old, new = f"double_blocks.{block}", f"transformer_blocks.{block}"
        for side, suffix, parts, out, norms in _SIDES:
            yield Pair(original=f"{old}.{side}_mod.lin", diffusers=(f"{new}.norm1{suffix}.linear",))
            yield Pair(original=f"{old}.{side}_attn.qkv", diffusers=tuple(f"{new}.attn.{part}" for part in parts))
            yield Pair(original=f"{old}.{side}_attn.proj", diffusers=(f"{new}.attn.{out}",))
            yield Pair(original=f"{old}.{side}_mlp.0", diffusers=(f"{new}.ff{suffix}.net.0.proj",))
            yield Pair(original=f"{old}.{side}_mlp.2", diffusers=(f"{new}.ff{suffix}.net.2",))
            for norm, name in zip(("query_norm", "key_norm"), norms, strict=True):
                yield Pair(original=f"{old}.{side}_attn.norm.{norm}", diffusers=(f"{new}.attn.{name}",))
    for block in _numbers(paths, "single_blocks", "single_transformer_blocks"):
        old, new = f"single_blocks.{block}", f"single_transformer_blocks.{block}"
        yield Pair(original=f"{old}.linear1", rest=True,
                   diffusers=(*(f"{new}.attn.to_{part}" for part in "qkv"), f"{new}.proj_mlp"))
        yield Pair(original=f"{old}.linear2", diffusers=(f"{new}.proj_out",))
        yield Pair(original=f"{old}.modulation.lin", diffusers=(f"{new}.norm.linear",))
        for norm, name in (("query_norm", "norm_q"), ("key_norm", "norm_k")):
            yield Pair(original=f"{old}.norm.{norm}", diffusers=(f"{new}.attn.{name}",))


def sd3_pairs(paths: Collection[str], modules: Mapping[str, tuple[int, ...]]) -> Iterator[Pair]:
    """Stable Diffusion 3 and 3.5: Stability's names and diffusers'. The last block's context has only a shift and a scale,
    which diffusers has in reverse order, as in the final layer."""
    yield Pair(original="x_embedder.proj", diffusers=("pos_embed.proj",))
    yield Pair(original="context_embedder", diffusers=("context_embedder",))
    for ours, _, theirs in _EMBEDDERS[:2]:
        for layer, number in ((0, 1), (2, 2)):
            yield Pair(original=f"{theirs}.{layer}", diffusers=(f"time_text_embed.{ours}.linear_{number}",))
    yield Pair(original="final_layer.linear", diffusers=("proj_out",))
    yield Pair(original="final_layer.adaLN_modulation.1", diffusers=("norm_out.linear",), swapped=True)
    for block in _numbers(paths, "joint_blocks", "transformer_blocks"):
        new = f"transformer_blocks.{block}"
        for (_, suffix, parts, out, norms), side in zip(_SIDES, ("x_block", "context_block"), strict=True):
            old, modulation = f"joint_blocks.{block}.{side}", f"{new}.norm1{suffix}.linear"
            name = f"{old}.adaLN_modulation.1"
            shape = modules.get(name) or modules.get(modulation) or (0, 1)
            yield Pair(original=name, diffusers=(modulation,), swapped=side == "context_block" and shape[0] == 2 * shape[1])
            yield Pair(original=f"{old}.attn.qkv", diffusers=tuple(f"{new}.attn.{part}" for part in parts))
            yield Pair(original=f"{old}.attn.proj", diffusers=(f"{new}.attn.{out}",))
            yield Pair(original=f"{old}.mlp.fc1", diffusers=(f"{new}.ff{suffix}.net.0.proj",))
            yield Pair(original=f"{old}.mlp.fc2", diffusers=(f"{new}.ff{suffix}.net.2",))
            for norm, theirs in zip(("ln_q", "ln_k"), norms, strict=True):
                yield Pair(original=f"{old}.attn.{norm}", diffusers=(f"{new}.attn.{theirs}",))
        second = f"joint_blocks.{block}.x_block.attn2"
        yield Pair(original=f"{second}.qkv", diffusers=tuple(f"{new}.attn2.to_{part}" for part in "qkv"))
        yield Pair(original=f"{second}.proj", diffusers=(f"{new}.attn2.to_out.0",))
        for norm, theirs in (("ln_q", "norm_q"), ("ln_k", "norm_k")):
            yield Pair(original=f"{second}.{norm}", diffusers=(f"{new}.attn2.{theirs}",))


def _numbers(paths: Collection[str], *stems: str) -> list[int]:
    matches = (re.match(rf"({'|'.join(stems)})\.([0-9]{{1,3}})\.", path) for path in paths)
    return sorted({int(match[2]) for match in matches if match})


def is_sd3(modules: Collection[str], family: str) -> bool:
    """Whether a transformer is Stable Diffusion 3's and not Flux's, by its names, or by the family if the names fit
    both."""
    if any(path.startswith(("joint_blocks.", "pos_embed.")) for path in modules):
        return True
    return family == "sd3" and not any(path.startswith(("single_", "double_blocks.")) for path in modules)


def pairs_of(modules: Mapping[str, tuple[int, ...]], family: str) -> Iterator[Pair]:
    """The pairs of a transformer with these modules, {path: shape of its weight}, in either layout."""
    return sd3_pairs(modules, modules) if is_sd3(modules, family) else flux_pairs(modules)


def is_original(modules: Collection[str]) -> bool:
    """Whether the modules of a transformer, or of a part of one, have the original code's names."""
    return any(path.startswith(_ORIGINAL) for path in modules)


def heights_of(pair: Pair, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The rows of each part of a fused module whose weight has this shape; empty for other modules, and if it cannot be cut."""
    count = len(pair.diffusers)
    if count == 1 or len(shape) != 2:
        return ()
    if pair.rest:
        last = shape[0] - (count - 1) * shape[1]
        return (*[shape[1]] * (count - 1), last) if last > 0 else ()
    return () if shape[0] % count else (shape[0] // count,) * count


def halves(height: int) -> tuple[tuple[int, int], ...]:
    """The two halves of the rows of a weight, swapped."""
    return ((height // 2, height), (0, height // 2))
