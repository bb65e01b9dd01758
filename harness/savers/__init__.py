"""SAVERS: ways to run a candidate's weights in less memory or time. Declared by name in a Candidate; each acts on copies of the
modules that share their weights, so that the next candidate is as if it had not been there."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Final

from harness.savers.attention import (
    ChosenKernel,
    flash_is_usual,
    needs_cuda,
    no_flash,
    no_slices,
    nothing_to_slice,
    other_dispatch,
    slice_attention,
)
from harness.savers.contract import DENOISER, VAE, Decoding, Saver, SaverError, SaverReport, Use
from harness.savers.decoding import nothing_to_slice as one_by_one
from harness.savers.decoding import nothing_to_tile, slice_batches, tile_pictures
from harness.savers.tokens import few_tokens, merge_tokens
from harness.savers.weights import (
    cast_layerwise,
    channels_last,
    fuse_projections,
    not_joined,
    of_unets,
    other_format,
    other_layout,
)

_KERNELS: Final = ("sdpa_flash", "sdpa_efficient", "sdpa_math")
_MERGED: Final = {f"token_merging_{percent}": percent / 100 for percent in (10, 25, 40, 50, 60, 75)}
"""By name: the share of the tokens that is merged; at 75 % only the targets are left."""
_REPEATABLE: Final = "give 'sdpa_flash', 'sdpa_efficient' or 'sdpa_math'"

SAVERS: Final[dict[str, Saver]] = {
    "fuse_qkv": Saver(description="query, key and value of attention from one product with joined weights",
                      changes_pictures="within rounding", apply=fuse_projections, why_not=not_joined,
                      excludes=("attention_slicing",)),
    "channels_last": Saver(description="convolutions with channels as the fastest dimension", changes_pictures="within rounding",
                           apply=channels_last, why_not=other_layout),
    "layerwise_casting": Saver(description="weights kept as float8 e4m3 without a scale and widened for each use",
                               changes_pictures="yes", apply=cast_layerwise, why_not=other_format, changes_weights=True),
    "attention_slicing": Saver(description="attention for half of the heads at a time", changes_pictures="within rounding",
                               apply=slice_attention, why_not=no_slices, idle=nothing_to_slice, excludes=_KERNELS),
    **{name: Saver(description=f"{ratio:.0%} of the tokens merged into similar ones before self-attention, where it is finest",
                   changes_pictures="yes", apply=partial(merge_tokens, ratio), why_not=of_unets, idle=partial(few_tokens, ratio),
                   excludes=tuple(other for other in _MERGED if other != name)) for name, ratio in _MERGED.items()},
    "sdpa_flash": Saver(description="attention by PyTorch's flash kernel alone", changes_pictures="within rounding",
                        apply=ChosenKernel("FLASH_ATTENTION").choose, lacks=flash_is_usual, why_not=no_flash,
                        excludes=("sdpa_efficient", "sdpa_math"), whole_process=True),
    "sdpa_efficient": Saver(description="attention by PyTorch's memory-efficient kernel alone",
                            changes_pictures="within rounding", apply=ChosenKernel("EFFICIENT_ATTENTION").choose,
                            lacks=needs_cuda, why_not=other_dispatch, excludes=("sdpa_math",), whole_process=True),
    "sdpa_math": Saver(description="attention by plain products, with the matrix of all pairs in memory",
                       changes_pictures="within rounding", apply=ChosenKernel("MATH").choose, why_not=other_dispatch,
                       whole_process=True, version=2),
    "vae_slicing": Saver(description="the pictures of a batch decoded one by one", changes_pictures="within rounding", part=VAE,
                         apply=slice_batches, idle_decoding=one_by_one),
    "vae_tiling": Saver(description="pictures above 512 x 512 decoded in tiles of that size", changes_pictures="yes", part=VAE,
                        apply=tile_pictures, idle_decoding=nothing_to_tile),
    "sdpa_cudnn": Saver(description="attention by cuDNN", changes_pictures="within rounding", refused=(
        "cuDNN chooses its kernel by what it knows of shape and memory, so that a picture could not be made again; "
        f"{_REPEATABLE}")),
    "cpu_offload": Saver(description="parts of the model on the host until they are needed", changes_pictures="no", refused=(
        "diffusers' hooks move weights that are rewritten in place here; the grid's low_memory=('vae_on_host', "
        "'denoiser_on_host') does the same for all candidates")),
    "token_merging": Saver(description="similar tokens merged before attention", changes_pictures="yes", refused=(
        f"it does not say how many; give one of {', '.join(map(repr, _MERGED))}")),
    "xformers": Saver(description="attention by the package xformers", changes_pictures="within rounding", refused=(
        f"PyTorch has the same kernels; {_REPEATABLE}")),
    "sage_attention": Saver(description="attention in 8 bits by the package sageattention", changes_pictures="yes", refused=(
        f"its kernels gave wrong pictures on some GPUs, and diffusers downloads them; {_REPEATABLE}")),
}
"""In the order in which they act, then those that are refused."""


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Savers in the order in which they act, however they are declared."""
    declared = {*names}
    return tuple(name for name in SAVERS if name in declared)


__all__ = ["DENOISER", "SAVERS", "VAE", "Decoding", "Saver", "SaverError", "SaverReport", "Use", "in_order"]
