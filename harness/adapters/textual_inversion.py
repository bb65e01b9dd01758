"""Textual inversions, vectors for a word in a text encoder: in files of A1111, diffusers, kohya, CompVis and replicate, and
bundled with a LoRA."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Final, Literal

from harness.adapters.adapter_file import Entry, Stored, quoted
from harness.adapters.change import Embedding
from harness.adapters.live_plan import AdapterError
from harness.declare.nearest import closest

if TYPE_CHECKING:
    from torch import Tensor

BUNDLE: Final = "bundle_emb."
_PARTS: Final[Mapping[str, str]] = {
    "emb_params": "text_encoder", "clip_l": "text_encoder", "clip_g": "text_encoder_2", "t5": "t5",
    "text_encoders_0": "text_encoder", "text_encoders_1": "text_encoder_2",
}
"""Fixed names of vectors, and their part of the model; the word is the file's or the bundle's name."""
_OUTPUTS: Final = ("clip_l_out", "clip_g_out", "t5_out")
_WIDEST: Final = 8192


@dataclass(frozen=True, kw_only=True)
class InversionKey:
    """The role of a textual inversion's tensor: vectors for a part of the model, an accompanying number, or unused."""

    part: str
    token: str
    status: Literal["applied", "consumed", "refused"] = "applied"
    reason: str = ""


def place_of(stored: Stored, key: str) -> InversionKey | None:
    """The meaning of a textual inversion's key; None for other keys."""
    if key.startswith(BUNDLE):
        return _bundled(key)
    name = stored.extras.get("name", "")
    if key in _PARTS and _is_vectors(stored.entries[key]):
        return InversionKey(part=_PARTS[key], token=name or file_word(stored))
    if key in _OUTPUTS:
        return _of_output(key, file_word(stored))
    if key.startswith(("string_to_param.", "string_to_token.")):
        named = name or key[len("string_to_param."):]
        return InversionKey(part="text_encoder", token=file_word(stored) if named == "*" else named,
                            status="applied" if key.startswith("string_to_param.") else "consumed")
    # diffusers saves only {token: vectors}; cloneofsimo's trainer saves <tokens> together with factors.
    alone = len(stored.entries) == 1 and not stored.bare and "." not in key and not _is_misspelt(key)
    if (alone or (key.startswith("<") and key.endswith(">"))) and _is_vectors(stored.entries[key]):
        return InversionKey(part="text_encoder", token=key)
    return None


def file_word(stored: Stored) -> str:
    """The file's name without its suffix: the word by which A1111 and ComfyUI know a textual inversion, whatever is in it."""
    return PurePath(stored.name).stem


def _bundled(key: str) -> InversionKey | None:
    """"bundle_emb.<name>.string_to_param.*": the name may contain dots; one of a few known endings follows it."""
    rest = key.removeprefix(BUNDLE)
    for ending, part in (*_PARTS.items(), ("string_to_param.*", "text_encoder"), ("string_to_token.*", "")):
        name = rest.removesuffix(f".{ending}")
        if name and name != rest:
            return InversionKey(part=part or "text_encoder", token=name, status="applied" if part else "consumed")
    ending = next((ending for ending in _OUTPUTS if rest.endswith(f".{ending}")), "")
    return _of_output(ending, rest.removesuffix(f".{ending}")) if ending else None


def _of_output(ending: str, token: str) -> InversionKey:
    return InversionKey(part=_PARTS[ending.removesuffix("_out")], token=token, status="refused",
                        reason="vectors for the encoder's output, which text encoders do not support")


def _is_misspelt(key: str) -> bool:
    """Whether a single name is nearly one of the fixed names: then the file is damaged, and the name is not a word."""
    return bool(closest(key[:40], [*_PARTS, "string_to_param"], cutoff=0.8))


def _is_vectors(entry: Entry) -> bool:
    return len(entry.shape) in (1, 2) and entry.dtype in ("F16", "BF16", "F32", "F64") and 0 < entry.shape[-1] <= _WIDEST


def embedding(stored: Stored, key: str, inversion_key: InversionKey, component: str, vectors: Tensor,
              modules: Mapping[str, tuple[int, ...]]) -> Embedding:
    """The vectors as (n, width). Raises AdapterError for other shapes, NaN and infinity, a width that does not fit the
    model, and an impossible word."""
    width = next((shape[1] for path, shape in modules.items()
                  if path.endswith(("token_embedding", "embed_tokens", "shared")) and len(shape) == 2), 0)
    if vectors.ndim not in (1, 2) or vectors.numel() == 0 or not vectors.is_floating_point():
        raise AdapterError(f"{stored.name}: {quoted(key)} of shape {tuple(vectors.shape)} and {vectors.dtype} is not a list of "
                           "vectors")
    rows = vectors.reshape(-1, vectors.shape[-1])
    if not bool(rows.float().isfinite().all()):
        raise AdapterError(f"{stored.name}: {quoted(key)} contains NaN or infinity")
    if width and rows.shape[1] != width:
        raise AdapterError(f"{stored.name}: {quoted(key)} has vectors of {rows.shape[1]} numbers, but {component} takes {width}; "
                           "the embedding is for another model")
    if not inversion_key.token.strip():
        raise AdapterError(f"{stored.name}: {quoted(key)} is for the word {quoted(inversion_key.token)}, which cannot appear in "
                           "a prompt; save it under another name")
    return Embedding(component=component, token=inversion_key.token, vectors=rows)
