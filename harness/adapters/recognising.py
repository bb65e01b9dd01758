"""Recognises an adapter file from its header alone: format, training tool, base model, kinds, ranks, alphas. Shapes and
names decide; header texts that contradict them are only a warning.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from harness.adapters.adapter_file import Stored, quoted
from harness.adapters.formats import FORMATS, Format, Key
from harness.adapters.formats.headers import HEADER, flag, settings, strength
from harness.adapters.formats.refused import refusal
from harness.adapters.formats.spellings import usual_spelling
from harness.adapters.header_warnings import Module, oddities
from harness.adapters.live_plan import AdapterError
from harness.adapters.open_adapter import open_stored
from harness.adapters.textual_inversion import file_word, place_of
from harness.weights.architectures import recognised_name
from harness.weights.families import IS_ADAPTER, kind_of
from harness.weights.families import refusal as model_refusal
from harness.weights.known_files import most_probably
from harness.weights.safetensors_header import StoredTensor

INVERSION: Final = "textual-inversion"
_WIDTHS: Final = {768: "Stable Diffusion 1", 1024: "Stable Diffusion 2", 2048: "Stable Diffusion XL",
                  1280: "Stable Diffusion XL refiner"}
_BLOCKS: Final = ((r"(double|single|single_transformer)_blocks_", "Flux.1"), ("joint_blocks_", "Stable Diffusion 3"),
                  (r"^(denoiser|transformer) transformer_blocks_|add_q_proj", "Stable Diffusion 3 or Flux.1"))
_RANK_ROLES: Final = {"down": 0, "w1_b": 0, "w2_b": 0, "a2": 0}


@dataclass(frozen=True, kw_only=True)
class Recognised:
    """What a file is. `ranks` and `alphas` are (lowest, highest), or None. `alphas_missing` counts modules with a rank but
    without an alpha, `modules` the modules of each part of the model. `strength` says in words where the strength is
    stored; empty if it is always 1. `file_word` is the file's name where it is a second word for a textual inversion."""

    source: str
    format: str
    says: str
    tool: str
    base: str
    kinds: tuple[str, ...]
    modules: Mapping[str, int]
    ranks: tuple[int, int] | None
    alphas: tuple[float, float] | None
    alphas_missing: int
    strength: str
    tokens: tuple[str, ...]
    warnings: tuple[str, ...]
    file_word: str = ""


def recognise_file(path: Path) -> Recognised:
    """What the adapter file is. Raises AdapterError for an incomplete, unsafe or unsupported file, and for keys of another
    format."""
    stored = open_stored(Path(path))
    return describe(stored, format_of(stored))


def format_of(stored: Stored) -> str:
    """The name of the row of FORMATS that parses most keys, or INVERSION for a textual inversion alone. Raises AdapterError
    if no row fits."""
    if what := refusal(stored):
        raise AdapterError(f"{stored.name} is {what}")
    known = ", ".join(row.says for row in FORMATS.values())
    if not stored.entries:
        raise AdapterError(f"{stored.name}: its header is sound, but it holds no tensors: whatever saved it had nothing to save. "
                           "Save or download it again")
    keys = [key for key in stored.entries if place_of(stored, key) is None]
    if not keys:
        return INVERSION
    best, count = _best_row(stored, keys)
    if count == 0:
        if row := most_probably(keys):
            raise AdapterError(f"{stored.name} is {row.sentence}")
        tensors = {key: StoredTensor(dtype=entry.dtype, shape=entry.shape) for key, entry in stored.entries.items()}
        if (what := model_refusal(tensors)) and not what.endswith(("not a model", IS_ADAPTER)):
            raise AdapterError(f"{stored.name} is {what}")
        if kind_of(tensors) or recognised_name(tensors):
            raise AdapterError(f"{stored.name} is a model or a part of one, not an adapter; give it as a model")
        raise AdapterError(f"{stored.name}: format not recognised (its first key is {quoted(keys[0])}); supported are {known}")
    return best


def _best_row(stored: Stored, keys: Sequence[str]) -> tuple[str, int]:
    """The first of the rows of FORMATS that parse most keys, and how many these are."""
    spelled = [(key, usual_spelling(key)) for key in keys]
    best, most = "", -1
    for name, row in FORMATS.items():
        if (name == "cloneofsimo-list") != (stored.bare == "list"):
            continue
        count = sum(_parse(stored, row, key, usual) is not None for key, usual in spelled)
        if count > most:
            best, most = name, count
        if count == len(keys):
            break  # no later row parses more
    return best, most


def _parse(stored: Stored, row: Format, key: str, usual: str) -> Key | None:
    """The parsed name of a key in its usual spelling; None for one of another format, and for a matrix called X.weight, which
    is not the vector of an (IA)^3."""
    part = row.parse(usual)
    vector = part is None or (part.kind, part.role) != ("ia3", "weight") or sum(n > 1 for n in stored.entries[key].shape) <= 1
    return part if vector else None


def strength_place(stored: Stored, name: str) -> str:
    """Where a file of a format has its strength: "alpha", "header" or "factors"; empty for a textual inversion."""
    place = FORMATS[name].strength if name in FORMATS else ""
    return ("header" if HEADER in stored.metadata else "alpha") if place == "either" else place


def parsed(stored: Stored, name: str) -> Iterator[tuple[str, Key]]:
    """(key, parsed name) for every key that is not a textual inversion's. Raises AdapterError for the first key of another
    format."""
    row = FORMATS[name]
    for key in stored.entries:
        if place_of(stored, key) is not None:
            continue
        part = _parse(stored, row, key, usual_spelling(key))
        if part is None:
            raise AdapterError(f"{stored.name}: unknown key {quoted(key)} in a file of format {name}, {row.says}; a file is "
                               "applied completely or not at all")
        yield key, part


def describe(stored: Stored, name: str) -> Recognised:
    """The description of a file in a known format."""
    modules: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    kinds: dict[tuple[str, str], set[str]] = defaultdict(set)
    if name != INVERSION:
        for key, part in parsed(stored, name):
            modules[part.places[0]][part.role] = key
            if part.kind and part.role != "rescale":
                kinds[part.places[0]].add(_kind(stored, key, part))
    with_magnitude = any(role.startswith("magnitude") for roles in modules.values() for role in roles)
    listed = [Module(part=part, name=module, keys=found, kinds=frozenset(kinds[part, module]), rank=_rank(stored, found))
              for (part, module), found in modules.items()]
    ranks = [module.rank for module in listed if module.rank]
    where = strength_place(stored, name)
    configs = _configs(stored, modules) if where == "header" else {}
    alphas, missing = _alphas(stored, modules, configs)
    base = base_of(stored, modules)
    tokens = sorted({found.token for key in stored.entries if (found := place_of(stored, key)) and found.status == "applied"})
    parts = Counter(part for part, _ in modules)
    return Recognised(
        source=stored.name, format=name, says=FORMATS[name].says if name in FORMATS else "textual inversion",
        tool=tool_of(stored, name), base=base, modules={_shown_part(part, base): count for part, count in parts.items()},
        kinds=(*sorted(set().union(*kinds.values())), *(["dora"] if with_magnitude else [])),
        ranks=(min(ranks), max(ranks)) if ranks else None, alphas=(min(alphas), max(alphas)) if alphas else None,
        alphas_missing=missing, strength=_where(stored, where, configs, bool(alphas)),
        tokens=tuple(ascii(token)[1:-1] for token in tokens), file_word=_file_word(stored, name, tokens),
        warnings=(*oddities(stored, listed, base, alphas, where == "header"), *([stored.misnamed] if stored.misnamed else [])))


def _file_word(stored: Stored, name: str, tokens: Sequence[str]) -> str:
    word = file_word(stored)
    return word if name == INVERSION and len(tokens) == 1 and word.lower() != tokens[0].lower() else ""


def _kind(stored: Stored, key: str, part: Key) -> str:
    return "boft" if part.kind == "oft" and len(stored.entries[key].shape) == 4 else part.kind


def _shown_part(part: str, base: str) -> str:
    if part == "denoiser":
        return "transformer" if base.startswith(("Flux", "Stable Diffusion 3")) else "unet"
    return ("text_encoder_2" if base == "Flux.1" else "text_encoder_3") if part == "t5" else part


def _rank(stored: Stored, found: Mapping[str, str]) -> int:
    for role, axis in _RANK_ROLES.items():
        if role in found and stored.entries[found[role]].shape:
            return stored.entries[found[role]].shape[axis]
    return 0


def _configs(stored: Stored, modules: Mapping[tuple[str, str], Mapping[str, str]]) -> dict[str, dict[str, Any]]:
    """PEFT's settings by part of the model; empty for a part whose settings cannot be read, which is among the warnings."""
    try:
        return {part: config for part in dict.fromkeys(part for part, _ in modules) if (config := settings(stored, part))}
    except AdapterError:
        return {}


def _where(stored: Stored, where: str, configs: Mapping[str, Mapping[str, Any]], with_alphas: bool) -> str:
    """Where the strength of a file is stored, in words."""
    if not configs and (with_alphas or where not in ("header", "factors")):
        return "alpha tensors" if with_alphas else ""
    if not configs:
        return "the factors, used unscaled"
    try:
        root = any(flag(stored, config, "use_rslora") for config in configs.values())
    except AdapterError:
        root = False
    place = "adapter_config.json" if stored.config is not None else f"the header's {HEADER}"
    return f"{place}{', alpha / sqrt(rank) (use_rslora)' if root else ''}"


def _alphas(stored: Stored, modules: Mapping[tuple[str, str], Mapping[str, str]], configs: Mapping[str, Mapping[str, Any]],
            ) -> tuple[list[float], int]:
    """The alphas of all modules with a rank, from tensors or settings, and the number of modules without one."""
    alphas, missing = [], 0
    for (part, module), found in modules.items():
        rank = _rank(stored, found)
        if not rank:
            continue
        if "alpha" not in found:
            if part not in configs:
                missing += 1
                continue
            with suppress(AdapterError):  # among the warnings
                alphas.append(strength(stored, configs[part], module, rank)[0])
            continue
        alpha = stored.number(found["alpha"])
        if not math.isfinite(alpha):
            raise AdapterError(f"{stored.name}: {quoted(found['alpha'])} is {alpha}, expected a finite number")
        alphas.append(alpha)
    return alphas, missing


def base_of(stored: Stored, modules: Mapping[tuple[str, str], Mapping[str, str]]) -> str:
    """The family that a file was made for, from the names of its blocks and the text width of its cross-attention."""
    names = "\n".join(f"{part} {name}" for part, name in modules).replace(".", "_")
    for mark, base in _BLOCKS:
        if re.search(mark, names, re.MULTILINE):
            return base
    widths = {_width(stored, found) for (_, name), found in modules.items() if re.search(r"attn2[._]to_[kv]$", name)} - {0}
    if len(widths) == 1:
        width = widths.pop()
        return _WIDTHS.get(width, f"a U-Net for text of width {width}")
    parts = {part for part, _ in modules}
    if re.search(r"(add_embedding|label_emb)_", names) or ("text_encoder_2" in parts and "t5" not in parts):
        return "Stable Diffusion XL"
    return "unknown" if modules else _base_of_words(stored)


def _base_of_words(stored: Stored) -> str:
    widths = {found.part: stored.entries[key].shape[-1] for key in stored.entries
              if (found := place_of(stored, key)) and found.status == "applied" and stored.entries[key].shape}
    if "t5" in widths:
        return "Flux.1 or Stable Diffusion 3"
    if "text_encoder_2" in widths:
        return "Stable Diffusion XL"
    return {768: "Stable Diffusion 1", 1024: "Stable Diffusion 2"}.get(widths.get("text_encoder", 0), "unknown")


def _width(stored: Stored, found: Mapping[str, str]) -> int:
    """The input width of a module, 0 if its tensors do not show it."""
    shapes = {role: stored.entries[key].shape for role, key in found.items()}
    kronecker = any(".lokr_" in key for key in found.values())
    for role in () if kronecker else ("down", "diff", "w1_b", "b2"):
        if len(shapes.get(role, ())) >= 2:
            return shapes[role][1]
    left, right = (shapes.get(name) or shapes.get(f"{name}_b") or () for name in ("w1", "w2"))
    return left[1] * right[1] if len(left) >= 2 and len(right) >= 2 else 0


def tool_of(stored: Stored, name: str) -> str:
    """The program that wrote the file, from its header, otherwise the format's usual one."""
    header = stored.metadata
    usual = FORMATS[name].tool if name in FORMATS else "unknown"
    if software := header.get("software", ""):
        return _short(_name_in(software))
    if module := header.get("ss_network_module", ""):
        return f"{'LyCORIS with ' if 'lycoris' in module else ''}kohya sd-scripts ({_short(module)})"
    for mark, tool in (("sweetspot.", "Sweetspot"), ("ot_", "OneTrainer"),
                       ("lycoris_config", "LyCORIS (lycoris_config in its header)"),
                       (HEADER, "diffusers with PEFT")):
        if any(name.startswith(mark) for name in header):
            return tool
    implementation = header.get("modelspec.implementation", "")
    return f"{usual} ({_short(implementation)})" if implementation else f"{usual}, by its names" if name in FORMATS else usual


def _name_in(software: str) -> str:
    """The name in a header's software entry: AI-Toolkit writes {"name": "ai-toolkit", ...}, others a plain name."""
    try:
        data = json.loads(software)
    except (ValueError, RecursionError):
        return software
    return str(data.get("name", "")) if isinstance(data, dict) else software


def _short(text: str) -> str:
    return ascii(text[:80])[1:-1]
