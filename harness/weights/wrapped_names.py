"""The names of a model's tensors without what training tools add: the words of torch.compile, of data-parallel and sharded
training and of activation checkpointing, and the prefix of a component that was added twice."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

TOOL_WORDS: Final = "_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|_forward_module"
"""Words that no model uses for a module of its own, as a regular expression."""
_ANYWHERE: Final = re.compile(rf"(?:^|(?<=\.))(?:{TOOL_WORDS})\.")
_PREFIX: Final = (r"(?:(?:model\.)?diffusion_model\.|model\.|first_stage_model\.|vae\.|(?:cond_stage_model|conditioner\.embedders"
                  r"\.[0-9]|text_encoders\.\w+)\.(?:model\.|transformer\.)?)?")
_PARALLEL: Final = re.compile(rf"^({_PREFIX})(?:module\.)+")
"""A model of another kind may have a module of this name, so it counts only before a component."""
_TWICE: Final = re.compile(
    r"^((?:model\.)?diffusion_model\.|first_stage_model\.|cond_stage_model\.|conditioner\.|text_encoders\.)\1+")
_DENOISER_TWICE: Final = re.compile(r"^model\.diffusion_model\.(?:model\.)?diffusion_model\.")
_MODEL_TWICE: Final = "model.model.diffusion_model."
_AVERAGED: Final = "model_ema."
"""Before the names of averaged copies, which have no dots."""


def without_wrapping(name: str) -> str:
    """The name of a tensor without the words of training tools and without a second prefix of its component."""
    # Asked of every tensor each time a file is opened, and nearly always there is nothing to remove.
    plain = _PARALLEL.sub(r"\1", _ANYWHERE.sub("", name)) if "module." in name or "_orig_mod" in name else name
    if plain.startswith(_AVERAGED):
        return plain.replace("_orig_mod", "")
    if twice := _TWICE.match(plain):
        plain = twice[1] + plain[twice.end():]
    return _DENOISER_TWICE.sub("model.diffusion_model.", plain) if plain.count("diffusion_model.") > 1 else plain


def plain_name(name: str, wrapper: str) -> str:
    """The same without `wrapper`, which precedes all names of the file."""
    plain = without_wrapping(name).removeprefix(wrapper)
    return plain.removeprefix("model.") if plain.startswith(_MODEL_TWICE) else plain


def twice_named(names: Iterable[str], wrapper: str = "") -> str:
    """Two names that are one tensor, in a sentence; "" if every name is the only one of its tensor."""
    sources: dict[str, str] = {}
    for name in names:
        plain = plain_name(name, wrapper)
        if (other := sources.setdefault(plain, name)) != name:
            short, long = sorted((other, name), key=len)
            return (f"{short!r} and {long!r} are one tensor under two names, because what training tools add to a name does not "
                    "count; expected one of them. Remove the one whose values are not wanted")
    return ""
