"""Which files of a repository make a model: those that its model_index.json names, the configs and tokenizers beside them, and
nothing twice."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Final

from harness.declare.listing import first_of
from harness.hub.address import HubError, is_file_name

SAFE: Final = ".safetensors"
SMALL: Final = (".json", ".txt", ".model", ".jinja")
"""Suffixes of configs and tokenizers. A template of chats is run by transformers in a sandbox, as where it stands in a .json."""
PICKLES: Final = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".msgpack", ".h5")
INDEX: Final = "model_index.json"
_MARKS: Final = (INDEX, "config.json", "adapter_config.json", "open_clip_config.json")
"""What tells that a folder is used as a whole."""
_STEMS: Final = ("diffusion_pytorch_model", "model", "pytorch_model", "adapter_model", "open_clip_model")
"""Names of weight files in a folder."""
_VARIANTS: Final = ("", ".fp16")
"""As harness.weights.folder prefers them."""
UNUSED: Final = ("safety_checker", "watermarker", "image_encoder", "feature_extractor", "siglip", "siglip_processor", "pe",
                 "pe_tokenizer", "prompt_enhancer_head")
"""Components that are never loaded: they judge, mark or read pictures, or rewrite prompts."""
_PARTS: Final = re.compile(r"unet|transformer(_\d)?|vae|text_encoder(_\d)?")
LARGEST_SMALL: Final = 1 << 26
"""In bytes. The largest tokenizers have half of it."""
_MOST_COMPONENTS: Final = 64

Read = Callable[[str], bytes]
"""The content of a small file of the repository, by name."""


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """The files of a folder of a repository: `names` are needed, `missing` are needed too and are not in it, with the reason,
    and `left_out` are weights that are not taken, with the reason."""

    names: tuple[str, ...]
    missing: tuple[str, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)


def chosen(listed: Collection[str], folder: str, read: Read, *, weights: bool = True) -> Chosen:
    """The files of the model in a folder of the repository, "" or "folder/", of all that are `listed`. Without `weights` only
    configs and tokenizers. Raises HubError for a folder that is not a model's, and for damaged or hostile indexes."""
    inside = {name.removeprefix(folder) for name in listed if name.startswith(folder) and is_file_name(name)}
    if not inside:
        raise HubError(f"there is no folder {folder.rstrip('/')!r} in the repository" if folder else "the repository is empty")
    components = _components(inside, folder, read)
    if components is None:
        parts = sorted({name.partition("/")[0] for name in inside if "/" in name and _PARTS.fullmatch(name.partition("/")[0])})
        components = dict.fromkeys(parts, True)
        if not parts and not any(mark in inside for mark in _MARKS):
            files = sorted(name for name in inside if name.endswith(SAFE))
            advice = f"Name a file of it: {first_of(files, between=' or ')}" if files else f"It has no {SAFE} file"
            raise HubError(f"it holds no {INDEX} and no config.json, and is not used as a whole. {advice}")
    names = {name for name in inside if "/" not in name and name.endswith(SMALL)}
    missing: list[str] = []
    left_out: dict[str, str] = {}
    for component, needed in {**({"": True} if not components else {}), **components}.items():
        below = f"{component}/" if component else ""
        own = {name.removeprefix(below) for name in inside if name.startswith(below)}
        own = {name for name in own if "/" not in name}
        names |= {below + name for name in own if name.endswith(SMALL)}
        if not own:
            missing += [f"{component}/ is not in the repository"] if needed else []
            continue
        if not weights or not (_holds_weights(own) or not component):
            continue
        if not needed:
            left_out[below] = "never loaded"
            continue
        taken, lacking = _weights(own, lambda name, below=below: read(folder + below + name))  # type: ignore[misc]
        names |= {below + name for name in taken}
        missing += [f"{below}{name}" for name in lacking]
    spare = {name for name in inside - names if PurePosixPath(name).suffix in (SAFE, *PICKLES) and not any(
        name.startswith(at) for at in left_out)}
    left_out |= {name: "others can run code" if not name.endswith(SAFE) else "not a part of the folder's model" for name in spare}
    return Chosen(names=tuple(folder + name for name in sorted(names)), missing=tuple(missing),
                  left_out={folder + name: why for name, why in sorted(left_out.items())})


def _components(inside: Collection[str], folder: str, read: Read) -> dict[str, bool] | None:
    """The components that the pipeline names, and whether they are needed; None without an index."""
    if INDEX not in inside:
        return None
    index = _parsed(INDEX, read(folder + INDEX))
    named: dict[str, bool] = {}
    for name, value in index.items():
        if name.startswith("_") or not isinstance(value, list) or len(value) != 2 or value[0] is None:
            continue
        if not is_file_name(name) or "/" in name or len(named) >= _MOST_COMPONENTS:
            raise HubError(f"{INDEX} names the component {name[:80]!r}, which is not the name of a folder")
        named[name] = name not in UNUSED
    return named


def _holds_weights(own: Collection[str]) -> bool:
    """Whether a component is a model. Schedulers and tokenizers have configs of other names."""
    return "config.json" in own or any(name.endswith((SAFE, *PICKLES)) for name in own)


def _weights(own: Collection[str], read: Read) -> tuple[list[str], list[str]]:
    """The weight files of one component, whole or in shards, and those that it lacks."""
    for variant in _VARIANTS:
        for stem in _STEMS:
            for index in (f"{stem}{SAFE}.index{variant}.json", f"{stem}{variant}{SAFE}.index.json"):
                if index in own:
                    shards = _shards(index, read(index))
                    return [name for name in shards if name in own], [name for name in shards if name not in own]
            if (whole := f"{stem}{variant}{SAFE}") in own:
                return [whole], []
    if pickled := [name for name in sorted(own) if name.endswith(PICKLES)]:
        return [], [f"*{SAFE} (only {first_of(pickled)}, which is never fetched, because it can run code)"]
    return [], [f"*{SAFE}"]


def _shards(index: str, content: bytes) -> list[str]:
    shards = _parsed(index, content).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise HubError(f"{index} has no weight_map; expected a file name for each tensor")
    files = sorted({str(file) for file in shards.values()})
    if outside := [file for file in files if not is_file_name(file) or "/" in file or not file.endswith(SAFE)]:
        raise HubError(f"{index} names the shard {outside[0][:80]!r}; expected the name of a {SAFE} file in the same folder")
    return files


def _parsed(name: str, content: bytes) -> dict[str, Any]:
    try:
        data = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise HubError(f"{name} is not JSON ({str(error)[:80]})") from None
    if not isinstance(data, dict):
        raise HubError(f"{name} is a {type(data).__name__}; expected an object")
    return data
