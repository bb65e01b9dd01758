"""Tiny models of every family in every form in which tools leave them on a disk."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Final, TypeAlias

import torch
from safetensors.torch import load_file, save_file

from harness.weights import open_model, single_file_layout
from harness.weights.ema import flat_name
from tests.weights.pipelines import CALLED, FAMILIES, folder_of, theirs
from tests.weights.tiny_families import made

State = dict[str, torch.Tensor]
PREFIX: Final = "model.diffusion_model."
_VAE: Final = ("first_stage_model.", "vae.")


class Model:
    """One tiny model: its components in diffusers' names, a folder of it, and the same as one file in the original code's names.
    Models of two seeds differ in all that an adapter can hold."""

    def __init__(self, family: str, seed: int) -> None:
        self.family, self.denoiser = family, "transformer" if family in CALLED else "unet"
        generator = torch.Generator().manual_seed(seed)
        self.parts: dict[str, State] = {}
        for file in sorted(_saved(family).rglob("*.safetensors")):
            self.parts[file.parent.name] = {
                name: t if name.startswith("pos_embed") else t + 0.1 * torch.randn(t.shape, generator=generator)
                for name, t in load_file(file).items()}
        whole = open_model(self.write(Path(tempfile.mkdtemp()) / "folder"))
        self.original = {name: t.clone() for name, t in made(whole, single_file_layout(whole)).items()}

    def write(self, path: Path, suffix: str = ".safetensors") -> Path:
        """The diffusers folder."""
        shutil.copytree(_saved(self.family), path)
        for file in sorted(path.rglob("*.safetensors")):
            file.unlink()
            save(file.with_suffix(suffix), self.parts[file.parent.name], "zip" if suffix == ".bin" else "safetensors")
        return path

    @property
    def core(self) -> State:
        """The denoiser in the original code's names, without prefix."""
        return {name.removeprefix(PREFIX): t for name, t in self.original.items() if name.startswith(PREFIX)}


@cache
def _saved(family: str) -> Path:
    """diffusers' own folder: weights, configs and tokenizers."""
    return folder_of(theirs(family), Path(tempfile.mkdtemp()) / family)


@cache
def model(family: str, seed: int) -> Model:
    return Model(family, seed)


def save(path: Path, state: State, kind: str = "safetensors") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "safetensors":
        save_file({name: t.clone().contiguous() for name, t in state.items()}, path, {"format": "pt"})
    else:
        torch.save(state, path, _use_new_zipfile_serialization=kind == "zip")
    return path


Form: TypeAlias = Callable[[Model, Path], Path]


def _folder(m: Model, path: Path, inside: str = "", suffix: str = ".safetensors", index: bool = True) -> Path:
    folder = m.write(path / "folder", suffix)
    if not index:
        (folder / "model_index.json").unlink()
    return folder / inside.replace("denoiser", m.denoiser)


def _sharded(m: Model, path: Path) -> Path:
    folder = m.write(path / "folder")
    for file in sorted(folder.rglob("*.safetensors")):
        state = load_file(file)
        names = {name: f"{file.stem}-{number % 2 + 1:05d}-of-00002.safetensors" for number, name in enumerate(state)}
        for shard in set(names.values()):
            save(file.with_name(shard), {name: t for name, t in state.items() if names[name] == shard})
        file.with_name(f"{file.name}.index.json").write_text(json.dumps({"weight_map": names}))
        file.unlink()
    return folder


def _links(m: Model, path: Path) -> Path:
    """A folder of the Hugging Face cache: links to blobs without suffix."""
    source = m.write(path / "copy")
    for number, file in enumerate(sorted(file for file in source.rglob("*") if file.is_file())):
        link, blob = path / "snapshots" / "0f" / file.relative_to(source), path / "blobs" / f"{number:x}"
        link.parent.mkdir(parents=True, exist_ok=True)
        blob.parent.mkdir(exist_ok=True)
        file.rename(blob)
        link.symlink_to(blob)
    return path / "snapshots" / "0f"


def _single(m: Model, path: Path, name: str = "m.safetensors", kind: str = "safetensors") -> Path:
    return save(path / name, m.original, kind)


def _link(m: Model, path: Path) -> Path:
    (path / "m.safetensors").symlink_to(save(path / "584f0b", m.original))
    return path / "m.safetensors"


def _cast(m: Model, path: Path, dtype: torch.dtype) -> Path:
    return save(path / "m.safetensors", {name: t.to(dtype) if t.is_floating_point() else t for name, t in m.original.items()})


def _scaled(m: Model, path: Path) -> Path:
    """ComfyUI's fp8: codes of half the values, and their scale."""
    state: State = {}
    for name, t in m.original.items():
        codes = t.ndim == 2 and name.startswith(PREFIX) and name.endswith(".weight")
        state |= {name: (t / 2).to(torch.float8_e4m3fn), f"{name[:-6]}weight_scale": torch.tensor(2.0)} if codes else {name: t}
    return save(path / "m.safetensors", state)


def _averaged(m: Model, path: Path) -> Path:
    return save(path / "m.safetensors", m.original | {flat_name(name): t * 2 for name, t in m.core.items()})


def _part(m: Model, path: Path, part: str) -> Path:
    return save(path / "m.safetensors", m.parts[part.replace("denoiser", m.denoiser)])


def _vae(m: Model, path: Path) -> Path:
    return save(path / "m.safetensors", {name.removeprefix(prefix): t for name, t in m.original.items() for prefix in _VAE
                                         if name.startswith(prefix)})


ENCODERS: Final = ("text_encoder", "text_encoder_2", "text_encoder_3")
WHOLE: Final[Mapping[str, Form]] = {
    "single file": _single, "folder": _folder, "variant fp16": partial(_folder, suffix=".fp16.safetensors"), "shards": _sharded,
    "links": _links, "bin": partial(_folder, suffix=".bin"), "no model_index": partial(_folder, index=False), "link": _link,
    "sft": partial(_single, name="m.sft"), "SAFETENSORS": partial(_single, name="M.SAFETENSORS"),
    "no suffix": partial(_single, name="m"), "ckpt": partial(_single, name="m.ckpt", kind="zip"),
    "CKPT": partial(_single, name="M.CKPT", kind="zip"), "legacy pt": partial(_single, name="m.pt", kind="legacy"),
    "safetensors called ckpt": partial(_single, name="m.ckpt"), "pickle called safetensors": partial(_single, kind="zip"),
    "fp16": partial(_cast, dtype=torch.float16), "bf16": partial(_cast, dtype=torch.bfloat16),
    "fp8": partial(_cast, dtype=torch.float8_e4m3fn), "scaled fp8": _scaled, "EMA": _averaged,
    "odd name": partial(_single, name="modèle 100% (v1): ±#é.safetensors")}
"""Forms of whole models."""
ALONE: Final[Mapping[str, tuple[str, Form]]] = {
    "denoiser": ("denoiser", lambda m, path: save(path / "m.safetensors", m.core)),
    "prefixed denoiser": ("denoiser", lambda m, path: save(path / "m.safetensors", {PREFIX + n: t for n, t in m.core.items()})),
    "denoiser of diffusers": ("denoiser", partial(_part, part="denoiser")),
    "denoiser folder": ("denoiser", partial(_folder, inside="denoiser")),
    "vae": ("vae", _vae), "vae of diffusers": ("vae", partial(_part, part="vae")),
    "vae folder": ("vae", partial(_folder, inside="vae")),
    **{part: (part, partial(_part, part=part)) for part in ENCODERS},
    **{f"{part} folder": (part, partial(_folder, inside=part)) for part in ENCODERS}}
"""Forms of one component, and which it is."""


def cells() -> Iterator[tuple[str, str]]:
    """Every family in every form that it has."""
    encoders = {"sd1": 1, "sd2": 1, "sdxl": 2, "flux": 2, "sd3": 3}
    for family in FAMILIES:
        absent = ENCODERS[encoders[family]:]
        yield from ((family, form) for form in WHOLE if family not in CALLED or form != "EMA")
        yield from ((family, form) for form, (part, _) in ALONE.items() if part not in absent)


def write(family: str, form: str, path: Path, seed: int = 1) -> Path:
    """A model of the family in the form, below `path`."""
    path.mkdir(parents=True, exist_ok=True)
    return (WHOLE[form] if form in WHOLE else ALONE[form][1])(model(family, seed), path)
