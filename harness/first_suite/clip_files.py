"""The CLIP model that scores the images: the given one, the built-in one for built-in models, or a local file of known
places. Nothing is fetched unless it is asked for."""

from __future__ import annotations

import hashlib
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final
from urllib.error import URLError

from harness.check.clip import EXAMPLE, TAGGED, WHERE_FROM, clip_problems
from harness.first_suite.given_files import UnfitFileError
from harness.hub import caches

ARCHITECTURE, _, DEFAULT_FILE = EXAMPLE.partition(":")
ADDRESS: Final = ("https://huggingface.co/timm/vit_base_patch32_clip_224.openai/resolve/"
                  "a6f597a30f7b82c51704746581f9a4e41421e878/open_clip_model.safetensors")
SHA256: Final = "e6d1bd7789aa45192b3bf90570a789b478bae1b74ebcce7eddd908e83a2b7c31"
SIZE: Final = 605_143_284
HUB: Final[Mapping[str, str]] = {
    "timm/vit_base_patch32_clip_224.openai": "ViT-B-32-quickgelu",
    "timm/vit_large_patch14_clip_224.openai": "ViT-L-14-quickgelu",
    "laion/CLIP-ViT-B-32-laion2B-s34B-b79K": "ViT-B-32",
    "laion/CLIP-ViT-L-14-laion2B-s32B-b82K": "ViT-L-14",
    "laion/CLIP-ViT-H-14-laion2B-s32B-b79K": "ViT-H-14",
}
"""Repositories whose file open_clip_model.safetensors is of an architecture of open_clip, in the order of preference."""
_CHUNK: Final = 1 << 20


def choose(given: str, built_in: bool, download: bool, say: Callable[[str], None]) -> str:
    """The suite's `clip`. Raises UnfitFileError for one that cannot be used, and where there is none."""
    if given:
        if wrong := [*clip_problems(given, Path.cwd())]:
            raise UnfitFileError(f"--clip: {_as_option(wrong[0].removeprefix('clip: '))}")
        return given
    if built_in:
        say("  scored by the built-in CLIP, which knows only the built-in models and what was trained from them")
        return "zoo:clip"
    for reference in _local():
        if not [*clip_problems(reference, Path.cwd())]:
            say(f"  scored by the CLIP found at {reference}")
            return reference
    if download:
        return _downloaded(say)
    raise UnfitFileError(
        "a CLIP model is needed to score the images, and none was found below models/ or in the caches of Hugging Face. Give "
        f"--download-clip to fetch one once (605 MB), or {_as_option(WHERE_FROM)}")


def _as_option(text: str) -> str:
    """A message to the writer of a suite as one to the user of a command line."""
    return text.replace(f"clip={TAGGED!r}", f"--clip {TAGGED}")


def _local() -> Iterator[str]:
    """References to CLIP files in the places where they usually are."""
    yield EXAMPLE
    for cache in caches():
        for repository, architecture in HUB.items():
            folder = cache / f"models--{repository.replace('/', '--')}" / "snapshots"
            with suppress(OSError):
                files = sorted(folder.glob("*/open_clip_model.safetensors"), key=lambda file: file.stat().st_mtime, reverse=True)
                yield from (f"{architecture}:{file}" for file in files)


def _downloaded(say: Callable[[str], None]) -> str:
    """Fetches the pinned file and checks its hash. Raises UnfitFileError; a file that is not the expected one is deleted."""
    target = Path(DEFAULT_FILE)
    part = target.with_suffix(".part")
    say(f"  fetching {ADDRESS} to {target} (605 MB)")
    digest, size = hashlib.sha256(), 0
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with urllib.request.urlopen(ADDRESS, timeout=60) as source, part.open("wb") as file:
            while (chunk := source.read(_CHUNK)) and size <= SIZE:
                size += len(chunk)
                digest.update(chunk)
                file.write(chunk)
        if digest.hexdigest() != SHA256:
            raise UnfitFileError(f"{ADDRESS} gave {size} bytes with the SHA-256 {digest.hexdigest()}, and {SHA256} is expected; "
                                 "nothing was kept. Fetch the file by hand, and give --clip")
        part.replace(target)
    except (URLError, OSError) as error:
        raise UnfitFileError(f"{ADDRESS} could not be fetched ({error}); fetch it by hand, save it as {target}, and run again"
                             ) from None
    finally:
        part.unlink(missing_ok=True)
    return f"{ARCHITECTURE}:{target}"
