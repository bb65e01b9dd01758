"""cloneofsimo's LoRA files, the earliest format: numbered pairs without names, in the order in which the trainer visited
the layers. The model's layers give the names; a file whose counts or shapes do not fit is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Final

from harness.adapters.adapter_file import Stored
from harness.adapters.formats.keys import Format, Key
from harness.adapters.live_plan import AdapterError
from harness.adapters.module_names import traversal

_KEY: Final = re.compile(r"(unet|text_encoder):(\d{1,5}):(up|down)")
_KNOWN_CLASSES: Final = {"CrossAttention", "Attention", "GEGLU", "CLIPAttention"}


def parse(key: str) -> Key | None:
    """"unet:0:up"."""
    match = _KEY.fullmatch(key)
    return Key(places=((match[1], match[2]),), kind="lora", role=match[3]) if match else None


def names(stored: Stored, shapes: Mapping[str, Mapping[str, tuple[int, ...]]]) -> dict[str, Key]:
    """{key: parsed name}, with the module path that each number means in this model."""
    keys_by_name = {key: part for key in stored.entries if (part := parse(key))}
    for component in {part.places[0][0] for part in keys_by_name.values()} & set(shapes):
        _refuse_classes(stored, component)
        paths = _order(stored, component, shapes[component], {int(part.places[0][1]) for part in keys_by_name.values()
                                                             if part.places[0][0] == component})
        for key, part in keys_by_name.items():
            if part.places[0][0] == component:
                keys_by_name[key] = Key(places=((component, paths[int(part.places[0][1])]),), kind="lora", role=part.role)
    return keys_by_name


def parse_list(key: str) -> Key | None:
    """A number, the position in a list of alternating up and down factors; None for other keys."""
    if not re.fullmatch(r"\d{1,5}", key):
        return None
    return Key(places=(("unet", str(int(key) // 2)),), kind="lora", role="up" if int(key) % 2 == 0 else "down")


def names_list(stored: Stored, shapes: Mapping[str, Mapping[str, tuple[int, ...]]]) -> dict[str, Key]:
    """{key: parsed name} for a list; the number of pairs shows whether it is for the U-Net or the text encoder."""
    pairs = len(stored.entries) // 2
    if len(stored.entries) % 2 or set(stored.entries) != {str(number) for number in range(2 * pairs)}:
        raise AdapterError(f"{stored.name}: a list of {len(stored.entries)} tensors; expected alternating up and down factors")
    for component in ("unet", "text_encoder"):
        for old in (False, True):
            paths = traversal(component, shapes.get(component, {}), old)
            if len(paths) == pairs:
                return {str(number): Key(places=((component, paths[number // 2]),), kind="lora",
                                         role="up" if number % 2 == 0 else "down") for number in range(2 * pairs)}
    raise _wrong_count(stored, pairs, "this model", shapes)


def _refuse_classes(stored: Stored, component: str) -> None:
    text = stored.metadata.get(component, "[]")
    try:
        classes = json.loads(text)
    except (ValueError, RecursionError):
        classes = None
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise AdapterError(f"{stored.name}: header {component!r} is {text[:80]!a}; expected a list of layer classes")
    if unknown := sorted(set(classes) - _KNOWN_CLASSES):
        listed = ", ".join(ascii(name)[1:-1] for name in unknown)[:200]
        raise AdapterError(f"{stored.name}: trained on {listed}; the order of such layers is unknown, so its factors cannot be "
                           "assigned to layers. Convert it with the tool that trained it.")


def _order(stored: Stored, component: str, modules: Mapping[str, tuple[int, ...]], numbers: set[int]) -> list[str]:
    if numbers != set(range(len(numbers))):
        raise AdapterError(f"{stored.name}: pairs of {component} are missing: it has {len(numbers)}, the last is number "
                           f"{max(numbers)}; the file is incomplete")
    for old in (False, True):
        paths = traversal(component, modules, old)
        if len(paths) == len(numbers):
            return paths
    raise _wrong_count(stored, len(numbers), component, {component: modules})


def _wrong_count(stored: Stored, pairs: int, what: str, shapes: Mapping[str, Mapping[str, tuple[int, ...]]]) -> AdapterError:
    expected = sorted({len(traversal(component, shapes.get(component, {}), old)) for component in ("unet", "text_encoder")
                       for old in (False, True)} - {0})
    return AdapterError(f"{stored.name}: {pairs} pairs for {what}, expected {' or '.join(map(str, expected)) or 'none'}; the "
                        "file is for another model")


FORMAT: Final = Format(says="cloneofsimo (unet:0:up; strength in the factors)", tool="cloneofsimo/lora", parse=parse,
                       strength="factors", names=names)
LIST: Final = Format(says="cloneofsimo's list without names (.pt; strength in the factors)", tool="cloneofsimo/lora",
                     parse=parse_list, strength="factors", names=names_list)
