"""Names of diffusion transformers (Flux, Stable Diffusion 3) and of T5, which are kept as stored. A name that matches none
of these patterns is refused."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final

_LEAF: Final = r"\.(weight|bias)"
_NORMS: Final = r"\.norm\.(query|key)_norm\.(scale|weight)"
_FLUX_BFL: Final = re.compile(
    rf"(img_in|txt_in|(time_in|vector_in|guidance_in)\.(in|out)_layer|final_layer\.(linear|adaLN_modulation\.1)){_LEAF}"
    rf"|double_blocks\.[0-9]+\.(img|txt)_((mod\.lin|attn\.(qkv|proj)|mlp\.[02]){_LEAF}|attn{_NORMS})"
    rf"|single_blocks\.[0-9]+\.((linear[12]|modulation\.lin){_LEAF}|norm\.(query|key)_norm\.(scale|weight))")
_SD3_SAI: Final = re.compile(
    rf"pos_embed|(x_embedder\.proj|[yt]_embedder\.mlp\.[02]|context_embedder|final_layer\.(linear|adaLN_modulation\.1)){_LEAF}"
    rf"|joint_blocks\.[0-9]+\.(x|context)_block\.((adaLN_modulation\.1|attn2?\.(qkv|proj)|mlp\.fc[12]){_LEAF}"
    r"|attn2?\.ln_[qk]\.(scale|weight))")
_EMBEDDERS: Final = r"time_text_embed\.(timestep|text|guidance)_embedder\.linear_[12]|context_embedder|norm_out\.linear|proj_out"
_JOINT: Final = (
    r"transformer_blocks\.[0-9]+\.((norm1(_context)?\.linear|attn2?\.(to_[qkv]|to_out\.0|add_[qkv]_proj|to_add_out)"
    rf"|ff(_context)?\.net\.(0\.proj|2)){_LEAF}|attn2?\.norm_(added_)?[qk]\.weight)")
_FLUX: Final = re.compile(
    rf"(x_embedder|{_EMBEDDERS}){_LEAF}|{_JOINT}"
    rf"|single_transformer_blocks\.[0-9]+\.((norm\.linear|proj_mlp|proj_out|attn\.to_[qkv]){_LEAF}|attn\.norm_[qk]\.weight)")
_SD3: Final = re.compile(rf"pos_embed\.pos_embed|(pos_embed\.proj|{_EMBEDDERS}){_LEAF}|{_JOINT}")
_ORIGINAL: Final = re.compile(rf"(?:{_FLUX_BFL.pattern})|(?:{_SD3_SAI.pattern})")
_FLUX_OR_SD3: Final = re.compile(rf"(?:{_FLUX.pattern})|(?:{_SD3.pattern})")
_T5: Final = re.compile(
    r"shared\.weight|encoder\.final_layer_norm\.weight|encoder\.block\.[0-9]+\.layer\.(0\.(SelfAttention\.([qkvo]"
    r"|relative_attention_bias)|layer_norm)|1\.(DenseReluDense\.(wi|wi_0|wi_1|wo)|layer_norm))\.weight")
TIED_EMBEDDING: Final = "encoder.embed_tokens.weight"
"""T5's second name of its embedding."""


def _same(pattern: re.Pattern[str], what: str) -> Callable[[Iterable[str]], dict[str, str]]:
    def same(names: Iterable[str]) -> dict[str, str]:
        names_by_name = {name: name for name in names}
        if unknown := next((name for name in names_by_name if not pattern.fullmatch(name)), None):
            raise KeyError(f"{unknown!r} is not a tensor of {what}")
        return names_by_name
    return same


def _t5(names: Iterable[str]) -> dict[str, str]:
    """T5's embedding has two names, and files use one or both; if both, the second is not counted as a weight."""
    stored = list(names)
    both = TIED_EMBEDDING in stored and "shared.weight" in stored
    weights = {name: "shared.weight" if name == TIED_EMBEDDING else name for name in stored
               if not (both and name == TIED_EMBEDDING) and name != "spiece_model"}
    _same(_T5, "a T5 text encoder")(weights.values())
    return weights


NAMINGS: Final[Mapping[str, Callable[[Iterable[str]], dict[str, str]]]] = {
    "flux-bfl": _same(_FLUX_BFL, "a Flux transformer (Black Forest Labs names)"),
    "flux": _same(_FLUX, "a Flux transformer (diffusers names)"),
    "sd3-sai": _same(_SD3_SAI, "a Stable Diffusion 3 transformer (Stability names)"),
    "sd3": _same(_SD3, "a Stable Diffusion 3 transformer (diffusers names)"),
    "flux-or-sd3-original": _same(_ORIGINAL, "a Flux or Stable Diffusion 3 transformer (original names)"),
    "flux-or-sd3": _same(_FLUX_OR_SD3, "a Flux or Stable Diffusion 3 transformer (diffusers names)"),
    "t5": _t5,
}
"""By naming: the function that gives {stored name: component's name}."""
