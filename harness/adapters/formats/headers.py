"""The strength that PEFT stores outside the tensors: in a folder's adapter_config.json, or in diffusers' header text."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from harness.adapters.adapter_file import Stored
from harness.adapters.live_plan import AdapterError

HEADER: Final = "lora_adapter_metadata"
_PLAIN: Final = re.compile(r"[\w.]+")
_USUAL_ALPHA: Final = 8.0
"""PEFT's alpha of a file whose settings do not name one, for every kind."""
DEFAULT_ALPHA: Final = "is used, PEFT's default"
_PLAIN_STARTS: Final = ("gaussian", "eva", "orthogonal", "mica")
"""Values of init_lora_weights with which the model's own weights stay as they are while an adapter is trained."""
_UNREAD: Final = {
    "alora_invocation_tokens": "acts only after certain words", "use_qalora": "averages the inputs first",
    "layer_replication": "is for a model with repeated layers", "arrow_config": "chooses between several adapters",
    "kasa_config": "changes the model's own weights too", "monteclora_config": "draws its factors at random",
    "use_bdlora": "has factors in blocks"}
"""{setting: what an adapter that has it does besides adding its factors}."""


def settings(stored: Stored, component: str) -> dict[str, Any]:
    """PEFT's settings of one component; empty if the file has none. Header keys are "unet.r", or plain "r". With an empty
    component, all settings."""
    if stored.config is not None:
        return dict(stored.config)
    text = stored.metadata.get(HEADER)
    if text is None:
        return {}
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        raise AdapterError(f"{stored.name}: header {HEADER} is not JSON; its strength is unknown") from None
    if not isinstance(data, dict):
        raise AdapterError(f"{stored.name}: header {HEADER} is a {type(data).__name__}, expected an object")
    own = {key.partition(".")[2]: value for key, value in data.items() if key.partition(".")[0] in components_of(component)}
    return own or {key: value for key, value in data.items() if "." not in key or not component}


def components_of(part: str) -> tuple[str, ...]:
    """The components that a part of an adapter can be for."""
    return {"denoiser": ("unet", "transformer"), "t5": ("text_encoder_2", "text_encoder_3")}.get(part, (part,))


def refuse_unread(stored: Stored, config: Mapping[str, Any]) -> None:
    """Raises AdapterError for settings with which the adapter is more than its factors times a number."""
    start = config.get("init_lora_weights")
    if isinstance(start, str) and start.lower() not in _PLAIN_STARTS:
        raise AdapterError(f"{stored.name}: its settings say init_lora_weights {start[:40]!a}, so the model's own weights were "
                           "changed before it was trained; it is wrong on others. Save it with PEFT as a plain LoRA: "
                           "save_pretrained(..., path_initial_model_for_weight_conversion=...)")
    if unread := next((name for name in _UNREAD if config.get(name)), ""):
        raise AdapterError(f"{stored.name}: its settings have {unread}: it {_UNREAD[unread]}, which is not supported. Merge it "
                           "into its model with PEFT first")


def strength(stored: Stored, config: Mapping[str, Any], module: str, rank: int) -> tuple[float, float, str]:
    """(alpha, scale, note): alpha / r, or alpha / sqrt(r) with use_rslora; alpha_pattern overrides by module. Without an alpha it
    is PEFT's default.

    `rank` is that of the tensors; 0 (LoKr of full factors) means the config's rank. Raises AdapterError for invalid
    settings.
    """
    name = "alpha" if str(config.get("peft_type", "")).rpartition(".")[2].upper() in ("LOHA", "LOKR") else "lora_alpha"
    declared_rank = _number(stored, config, module, "rank_pattern", "r", rank or 1)
    alpha = _number(stored, config, module, "alpha_pattern", name, _USUAL_ALPHA)
    used = rank or declared_rank
    if used <= 0:
        raise AdapterError(f"{stored.name}: r of its settings is {used:g}, expected a number above 0")
    note = f"no {name} in its settings: {_USUAL_ALPHA:g} {DEFAULT_ALPHA}" if name not in config else ""
    if rank and declared_rank != rank:
        note = f"the header's rank is wrong for some modules ({module!a})"
    return alpha, alpha / (math.sqrt(used) if flag(stored, config, "use_rslora") else used), note


def said_rank(stored: Stored, config: Mapping[str, Any], module: str, rank: int) -> float:
    """The rank that the settings declare for a module, otherwise `rank`. Raises AdapterError like `strength`."""
    return _number(stored, config, module, "rank_pattern", "r", rank)


def _number(stored: Stored, config: Mapping[str, Any], module: str, pattern: str, name: str, default: float) -> float:
    declared = config.get(name, default)
    patterns = config.get(pattern) or {}
    if not isinstance(patterns, dict):
        raise AdapterError(f"{stored.name}: {pattern} of its settings is a {type(patterns).__name__}, expected an object")
    if (given := _first_fitting(stored, patterns, module)) is not None:
        declared = patterns[given]
    # Compared, not converted: an integer in JSON may have thousands of digits.
    if isinstance(declared, bool) or not isinstance(declared, int | float) or not abs(declared) <= sys.float_info.max:
        raise AdapterError(f"{stored.name}: {name} or {pattern} of its settings is {str(declared)[:60]!a}, expected a number")
    return float(declared)


def _first_fitting(stored: Stored, patterns: Mapping[str, Any], module: str) -> str | None:
    """The first pattern that fits a module, as by `fits`. Plain paths are looked up: a file has one for each of its modules."""
    names = tuple(patterns)
    index = _index_of(names)
    ends = (module[dot + 1:] for dot, letter in enumerate(module) if letter == ".")
    plain = min((place for place in (index.whole.get(module), *map(index.ends.get, (module, *ends))) if place is not None),
                default=len(names))
    return next((names[place] for place in index.expressions if place < plain and fits(stored, names[place], module)),
                names[plain] if plain < len(names) else None)


@dataclass(frozen=True, kw_only=True)
class _Index:
    """Places of patterns: of plain paths that are whole names (after ^), of those that may be the end of one, and of others."""

    whole: Mapping[str, int]
    ends: Mapping[str, int]
    expressions: tuple[int, ...]


@lru_cache(maxsize=2)
def _index_of(patterns: tuple[str, ...]) -> _Index:
    whole: dict[str, int] = {}
    ends: dict[str, int] = {}
    expressions = []
    for place, pattern in enumerate(patterns):
        if (plain := _plain(pattern)) is None:
            expressions.append(place)
        else:
            (whole if pattern.startswith("^") else ends).setdefault(plain, place)
    return _Index(whole=whole, ends=ends, expressions=tuple(expressions))


def _plain(pattern: str) -> str | None:
    """The path that a pattern without other signs of a regular expression is. Nearly always it is one, for which none needs to
    be compiled or run."""
    plain = pattern.removeprefix("^").replace("\\.", ".")
    return plain if _PLAIN.fullmatch(plain) else None


def flag(stored: Stored, config: Mapping[str, Any], name: str) -> bool:
    """A boolean setting, False if absent. Raises AdapterError for anything else: the text "false" would count as true."""
    declared = config.get(name)
    if declared is not None and not isinstance(declared, bool):
        raise AdapterError(f"{stored.name}: {name} of its settings is {str(declared)[:60]!a}, expected true or false")
    return bool(declared)


def fits(stored: Stored, pattern: str, module: str) -> bool:
    """Whether a pattern matches a module, by PEFT's rule: a regular expression for the whole name, or for its end after a
    dot."""
    if (plain := _plain(pattern)) is not None:
        return module == plain or (not pattern.startswith("^") and module.endswith(f".{plain}"))
    # A repeated group, or many repetitions, can take forever on a name that does not match.
    if len(pattern) > 300 or re.search(r"\)\s*[+*{]", pattern) or len(re.findall(r"[+*{]", pattern)) > 4:
        raise AdapterError(f"{stored.name}: pattern {pattern[:80]!a} of its settings is too complex to be evaluated safely")
    try:
        return re.match(rf"(.*\.)?({pattern})$", module) is not None
    except re.error:
        raise AdapterError(f"{stored.name}: pattern {pattern[:80]!a} of its settings is not a regular expression") from None
