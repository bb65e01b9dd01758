"""The built-in zoo: a tiny Stable Diffusion family trained on drawn pictures, its sketch adapters, an edge ControlNet, an image
prompt, and a CLIP model of the same world.

Suites name its members ("zoo:photo"). Importing this imports neither torch nor diffusers."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.declare.nearest import did_you_mean
from harness.zoo.picture_size import SIZE

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

__all__ = ["NAMES", "SIZE", "kind_of", "load_clip", "resolve"]

NAMES: tuple[str, ...] = (
    "zoo:base",
    "zoo:photo",
    "zoo:anime",
    "zoo:sketch",
    "zoo:sketch-peft",
    "zoo:sketch-peft-folder",
    "zoo:sketch-diffusers-2023",
    "zoo:sketch-onetrainer",
    "zoo:sketch-omi",
    "zoo:sketch-comfyui",
    "zoo:sketch-original",
    "zoo:sketch-lycoris",
    "zoo:sketch-tucker",
    "zoo:sketch-full",
    "zoo:sketch-loha",
    "zoo:sketch-lokr",
    "zoo:sketch-dora",
    "zoo:sketch-word",
    "zoo:control-edges",
    "zoo:control-edges-diffusers",
    "zoo:image-prompt",
    "zoo:image-prompt-bin",
    "zoo:clip",
    "zoo:config",
)
"""Three checkpoints (single files in Stable Diffusion 1's layout), one LoRA in the layouts of eleven tools, the same style as a
LoHa, a LoKr, a DoRA and a textual inversion, an edge ControlNet in two layouts, an IP-Adapter in two, the CLIP weights, the
configurations. Pictures by name, such as "zoo:picture-fish-3", are drawn: see `harness.zoo.pictures`.
"""


def resolve(reference: str, cache: Path | None = None) -> Path:
    """The real file behind a reference (for "zoo:config", "zoo:sketch-peft-folder" and "zoo:control-edges-diffusers", the
    folder). Checkpoints and adapters are assembled, and pictures drawn, on first use.

    They go to `<cache>/zoo/<content hash>/`; `cache` defaults to $SWEETSPOT_CACHE, then to `.sweetspot` in the current folder.
    The bytes are the same on every machine (those of "zoo:image-prompt-bin" under one version of torch), and two processes may
    resolve at once. Raises ValueError for an unknown reference.
    """
    if wrong := problem_of(reference):
        raise ValueError(wrong)
    from harness.zoo import store
    from harness.zoo.guides import GUIDES, folder_of

    name = reference.removeprefix("zoo:")
    if name == "config":
        return store.PARTS / "config"
    if name == "clip":
        return store.PARTS / "clip.safetensors"
    root = cache if cache is not None else Path(os.environ.get("SWEETSPOT_CACHE", ".sweetspot"))
    folder = root / "zoo" / store.content_hash()
    if reference not in NAMES:
        return _once(folder / "pictures" / f"{name}.png", lambda path: _draw(reference, path), folder)
    if guide := GUIDES.get(name):
        return folder_of(_once(folder / guide.file, lambda path: store.assemble(name, path), folder), guide)
    path = folder / f"{name}.safetensors"
    if name.endswith("-folder"):
        path = path.with_suffix("") / "adapter_model.safetensors"
    _once(path, lambda path: store.assemble(name, path), folder)
    return path.parent if name.endswith("-folder") else path


def kind_of(reference: str) -> str:
    """What a member is: "model", "adapter", "control", "reference", "clip" or "config"; "picture" for a drawn one, and empty for
    a name that nothing has."""
    from harness.zoo import pictures

    if reference not in NAMES:
        return "picture" if pictures.is_picture(reference) else ""
    first = reference.removeprefix("zoo:").partition("-")[0]
    kinds = {"sketch": "adapter", "control": "control", "image": "reference", "clip": "clip", "config": "config"}
    return kinds.get(first, "model")


def problem_of(reference: str) -> str:
    """What is wrong with a `zoo:` name of a picture, or of a member; empty if nothing is."""
    from harness.zoo import pictures

    if pictures.is_picture(reference):
        return pictures.problem_of(reference)
    if reference in NAMES:
        return ""
    if mistyped := pictures.mistyped(reference):
        return f"unknown picture {reference!r} of the zoo; did you mean {mistyped!r}?"
    return f"unknown zoo member {reference!r}; {did_you_mean(reference, NAMES)}"


def _once(path: Path, make: Callable[[Path], None], folder: Path) -> Path:
    """The file, made if it is not there. Of processes that ask for it at once one makes it: a file that another has opened must
    not be replaced, even by the same bytes. `folder` is that of all such files."""
    if path.exists():
        return path
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f".{folder.name}.lock").open("a") as turn:
        with suppress(ImportError, OSError):  # a system or a file system without locks
            import fcntl

            fcntl.flock(turn, fcntl.LOCK_EX)
        if not path.exists():
            make(path)
    return path


def _draw(reference: str, path: Path) -> None:
    from harness.zoo import pictures

    pictures.write_picture(reference, path)


def load_clip() -> tuple[Any, Callable[[list[str]], Tensor], dict[str, Any]]:
    """The tiny CLIP, ready to score: (open_clip model in fp32 eval mode, tokenizer, preprocessing).

    The tokenizer maps a list of texts to int64 ids of shape (n, 24). The preprocessing is {"size": 64, "mean": (3), "std": (3)}
    for pixels in [0, 1]. Nothing is downloaded.
    """
    from safetensors.torch import load_file

    from harness.zoo.models import PIXEL_MEAN, PIXEL_STD, new_clip
    from harness.zoo.tokenizer import load_clip_tokenizer

    weights = load_file(resolve("zoo:clip"))
    model = new_clip(len(weights["token_embedding.weight"]))
    model.load_state_dict({key: value.float() for key, value in weights.items()})
    tokenizer = load_clip_tokenizer(resolve("zoo:config") / "tokenizer")
    return model.eval().requires_grad_(False), tokenizer, {"size": SIZE, "mean": PIXEL_MEAN, "std": PIXEL_STD}
