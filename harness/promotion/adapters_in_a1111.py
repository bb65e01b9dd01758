"""The adapters of a candidate in A1111's words: tags for the prompt, the hashes by which sites find the files, and what has no
words there."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Final

from harness.adapters import AdapterError, Recognised, recognise_file
from harness.adapters.hypernetwork import is_hypernetwork
from harness.adapters.recognising import INVERSION
from harness.declare import Adapter, Alphas
from harness.declare.hub_names import file_name
from harness.hub import place
from harness.weights import content_hash

_HEX_DIGITS: Final = 12
_LENGTH: Final = 8
"""Bytes in front of a safetensors header, which say how long it is."""


@dataclass(frozen=True, kw_only=True)
class AdaptersInA1111:
    """`tags` go behind the prompt, `hashes` are by the name in the tag. `differences` says in a sentence each what A1111 has no
    words for."""

    tags: tuple[str, ...] = ()
    hashes: Mapping[str, str] | None = None
    differences: tuple[str, ...] = ()


def adapters_in_a1111(adapters: Sequence[Adapter], inputs: Mapping[str, str]) -> AdaptersInA1111:
    """`inputs` is the content hash of every file that the candidate was made of: of another file nothing is said."""
    tags, hashes, differences = list[str](), dict[str, str](), list[str]()
    names = [_name(adapter) for adapter in adapters]
    for adapter, name in zip(adapters, names, strict=True):
        file = _file(adapter, inputs)
        if file is None:
            differences.append(f"adapter {name!r} has no tag and no hash, because its file is not there as it ran")
        elif is_hypernetwork(file):
            tags.append(f"<hypernet:{name}:{_number(adapter.weight)}>")
        else:
            try:
                recognised = recognise_file(file)
            except AdapterError:
                differences.append(f"adapter {name!r} has no tag, because its file is no longer recognised")
                continue
            if recognised.format == INVERSION:
                differences.append(f"A1111 knows the textual inversion {name!r} by the name of its file alone")
                continue
            hashes[name.translate(_SEPARATORS)] = network_hash(file)
            if why := "; ".join(_inexpressible(adapter, name, names)):
                differences.append(f"adapter {name!r} has no tag, because {why}")
            elif weights := _weights(adapter, recognised):
                tags.append(f"<lora:{':'.join((name, *map(_number, weights)))}>")
            else:
                differences.append(f"adapter {name!r} has no tag, because its weights differ by block, depth or key")
    return AdaptersInA1111(tags=tuple(tags), hashes=hashes, differences=tuple(differences))


def network_hash(file: Path) -> str:
    """The hash of a LoRA that A1111 writes and Civitai calls AutoV3: the first 12 digits of the SHA-256 of a safetensors file's
    data without the header, whose texts change when the file is renamed or described; of any other file, of all its bytes."""
    with file.open("rb") as opened:
        if file.suffix.lower() == ".safetensors":
            opened.seek(_LENGTH + int.from_bytes(opened.read(_LENGTH), "little"))
        return hashlib.file_digest(opened, "sha256").hexdigest()[:_HEX_DIGITS]


_SEPARATORS: Final = str.maketrans("", "", ":,")
"""What A1111 leaves out of the names before hashes."""


def _name(adapter: Adapter) -> str:
    return PurePath(file_name(adapter.path).removeprefix("zoo:")).stem


def _file(adapter: Adapter, inputs: Mapping[str, str]) -> Path | None:
    """The file of an adapter if it is still the one that ran; None also for a folder, which A1111 does not load."""
    if adapter.path not in inputs:
        return None
    try:
        path = place(adapter.path, Path())
        return path if path.is_file() and content_hash(path) == inputs[adapter.path] else None
    except (OSError, ValueError):
        return None


def _inexpressible(adapter: Adapter, name: str, names: Sequence[str]) -> Iterator[str]:
    """Why a tag cannot say what an adapter does, whatever its weights."""
    if set(name) & set(":<>,"):
        yield "its name holds a character that ends a tag"
    if names.count(name) > 1:
        yield "another adapter has its name"
    if (adapter.start, adapter.end) != (0.0, 1.0):
        yield f"it acts from {adapter.start:g} to {adapter.end:g} of the steps, and a tag acts in all"


def _weights(adapter: Adapter, recognised: Recognised) -> tuple[float, ...]:
    """The weight, or the weights of the text encoders and of the denoiser; empty if these two do not say it."""
    blocks = adapter.blocks
    if blocks is None:
        return (adapter.weight,)
    if not isinstance(blocks, Alphas) or blocks.keys:
        return ()
    by_part = {part: blocks.parts.get(part, blocks.default) for part in recognised.modules}
    of_texts = {value for part, value in by_part.items() if part.startswith("text_encoder")}
    of_others = {value for part, value in by_part.items() if not part.startswith("text_encoder")}
    numbers = [value * adapter.weight for values in (of_texts or of_others, of_others or of_texts) for value in values
               if isinstance(value, int | float)]
    if len(numbers) != 2 or len(of_texts) > 1 or len(of_others) > 1:  # one number of each
        return ()
    return tuple(dict.fromkeys(numbers))


def _number(value: float) -> str:
    short = f"{value:g}"
    return short if float(short) == value else repr(value)
