"""The names of a T2I-Adapter's tensors: diffusers', which are nested by block, and the original code's, which are not."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from harness.weights.safetensors_header import ModelFileError

SIGN: Final = re.compile(r"^(adapter\.)?body\.[0-9]{1,4}\.(block[12]|resnets|body|in_conv|out_conv|skep|down_opt)\.")
_PREFIX: Final = "adapter."
_NESTED: Final = re.compile(r"body\.([0-9]{1,2})\.(?:resnets|body)\.([0-9]{1,2})\.(block[12])\.(weight|bias)$")
_FLAT: Final = re.compile(r"body\.([0-9]{1,2})\.(block[12])\.(weight|bias)$")
_BETWEEN: Final = re.compile(r"body\.([0-9]{1,2})\.(in_conv|out_conv)\.(weight|bias)$")
_FIRST: Final = re.compile(r"conv_in\.(weight|bias)$")
_PER_BLOCK: Final = 2
"""Residual layers of each block in every published file of the original code, whose names count them through all blocks."""
_EARLY: Final = re.compile(r"^body\.[0-9]{1,4}\.(skep|down_opt)\.")


def is_t2i(names: Iterable[str]) -> bool:
    """Whether these are the names of a T2I-Adapter."""
    return any(SIGN.match(name) for name in names)


def t2i_names(where: str, sources: Mapping[str, str]) -> tuple[dict[str, str], bool]:
    """{diffusers' name: source} of a T2I-Adapter's tensors, and whether the file has the names of diffusers. Raises
    ModelFileError, which names `where`, for an unknown name, or one that two tensors have."""
    inner = {name.removeprefix(_PREFIX): source for name, source in sources.items()}
    if early := next((name for name in inner if _EARLY.match(name)), ""):
        raise ModelFileError(f"{where}: {early!r} belongs to an early T2I-Adapter, whose layers halve or skip "
                             "by convolutions of their own, which is not supported. Give the published adapter for the same "
                             "kind of picture")
    flat = any(_FLAT.match(name) for name in inner)
    renamed: dict[str, str] = {}
    for name, source in inner.items():
        ours = _PREFIX + _of_diffusers(where, name, source, flat=flat)
        if ours in renamed:
            raise ModelFileError(f"{where}: {renamed[ours]!r} and {source!r} are one tensor under two names. Download it again")
        renamed[ours] = source
    return renamed, any(".resnets." in name for name in inner)


def _of_diffusers(where: str, name: str, source: str, *, flat: bool) -> str:
    if match := _NESTED.match(name):
        return f"body.{int(match[1])}.resnets.{int(match[2])}.{match[3]}.{match[4]}"
    if match := _FLAT.match(name):
        block, layer = divmod(int(match[1]), _PER_BLOCK)
        return f"body.{block}.resnets.{layer}.{match[2]}.{match[3]}"
    if match := _BETWEEN.match(name):
        block, layer = divmod(int(match[1]), _PER_BLOCK if flat else 1)
        if not layer:
            return f"body.{block}.{match[2]}.{match[3]}"
    elif _FIRST.match(name):
        return name
    raise ModelFileError(f"{where}: {source!r} has no place in a T2I-Adapter. Download it again")
