"""LoRA files of diffusers and PEFT: dotted module paths, lora_A and lora_B, the strength in the file's header.

ADAPTER_FORMATS lists it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection
from typing import Any, Final

from harness.adapters.contract import AdapterError, AdapterFile, AdapterFormat, Part, Role, Spellings, Strength

COMPONENTS: Final = ("unet", "text_encoder", "text_encoder_2")
HEADER: Final = "lora_adapter_metadata"
_ROLES: Final[dict[str, Role]] = {".lora_A.weight": "down", ".lora_B.weight": "up"}


def parse(key: str) -> Part | None:
    """"unet.mid_block.attentions.0.proj_in.lora_A.weight" to its component, module name and role."""
    component, _, rest = key.partition(".")
    for suffix, role in _ROLES.items():
        if component in COMPONENTS and rest.endswith(suffix):
            return Part(component=component, module=rest[:-len(suffix)], role=role)
    return None


def spellings(paths: Collection[str]) -> Spellings:
    """Files name modules as the model does."""
    return [(path, path) for path in paths]


def strength(file: AdapterFile, part: Part, path: str, rank: int, alpha: float | None) -> Strength:  # noqa: ARG001 - one signature for all formats
    """lora_alpha / r, or lora_alpha / sqrt(r) with use_rslora, of the header; alpha_pattern overrides by module.

    The rank is that of the tensors. A file without header has its strength in the factors: scale 1.
    """
    config = _config(file, part.component)
    if not config:
        return Strength(alpha=float(rank), scale=1.0, note="no strength in the header: the factors are taken as they are")
    if config.get("use_dora"):
        raise AdapterError(f"{file.name}: its header says use_dora; DoRA is not supported yet")
    said, rank_said = (_number(file, config, part.module, *names, rank) for names in (
        ("alpha_pattern", "lora_alpha"), ("rank_pattern", "r")))
    note = "" if rank_said == rank else f"the header's rank is not the tensors' in some modules ({part.module!r})"
    return Strength(alpha=said, scale=said / (math.sqrt(rank) if config.get("use_rslora") else rank), note=note)


def _config(file: AdapterFile, component: str) -> dict[str, Any]:
    """The header's LoRA settings of one component; its keys are written "unet.r", or "r" for a single component."""
    text = file.metadata.get(HEADER)
    if text is None:
        return {}
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise AdapterError(f"{file.name}: header {HEADER} is not JSON ({error}); its strength is unknown") from error
    if not isinstance(data, dict):
        raise AdapterError(f"{file.name}: header {HEADER} is a {type(data).__name__}, expected an object")
    own = {key.removeprefix(f"{component}."): value for key, value in data.items() if key.startswith(f"{component}.")}
    return own or {key: value for key, value in data.items() if "." not in key}


def _number(file: AdapterFile, config: dict[str, Any], module: str, pattern: str, name: str, default: int) -> float:
    try:
        said = float(_override(file, config.get(pattern), module, config.get(name, default)))
    except (TypeError, ValueError, AttributeError) as error:
        if isinstance(error, AdapterError):
            raise
        raise AdapterError(f"{file.name}: {name} or {pattern} of its header is no number ({error})") from error
    if not math.isfinite(said):
        raise AdapterError(f"{file.name}: {name} or {pattern} of its header is no number ({said})")
    return said


def _override(file: AdapterFile, patterns: dict[str, Any] | None, module: str, default: Any) -> Any:
    """PEFT's rule: the first pattern that matches the module's name, or its end after a dot, as a regular expression."""
    for pattern, value in (patterns or {}).items():
        try:
            if re.match(rf"(.*\.)?({pattern})$", module):
                return value
        except re.error as error:
            raise AdapterError(f"{file.name}: pattern {pattern!r} of its header is no regular expression") from error
    return default


FORMAT: Final = AdapterFormat(says="diffusers/PEFT LoRA (unet...., .lora_A, .lora_B, strength in the header)",
                              parse=parse, spellings=spellings, strength=strength)
