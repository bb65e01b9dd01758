"""Storage of the family in the repository (one fp16 base, int8 differences, shared parts, adapters), and assembly of complete
files from it.

Needs numpy, not torch."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.records.atomic import write_atomically
from harness.weights.ldm import TEXT_PREFIX, UNET_PREFIX, VAE_PREFIX, text_to_ldm, unet_to_ldm, vae_conv_as_linear, vae_to_ldm
from harness.zoo.guides import GUIDES, control_from_part, pickled
from harness.zoo.layouts import FILES

Array = NDArray[Any]
Tensors = dict[str, Array]

PARTS = Path(__file__).parent / "weights"
SCALE = "::scale"
LAYOUT = 2
"""Raise it when `assemble` makes other bytes from the same parts, so that no stale cache is used."""

_DTYPES = {"float16": "F16", "float32": "F32", "int64": "I64", "int8": "I8"}


def difference(tuned: Array, base: Array) -> tuple[Array, Array]:
    """Symmetric int8 steps of (tuned - base) per output channel (axis 0), and the fp32 size of a step, shape (out,).

    `base` is the fp16 tensor as stored, `tuned` any float; both at least 2-D. |error| <= half a step.
    """
    delta = tuned.astype(np.float32) - base.astype(np.float32)
    rows = np.abs(delta).reshape(len(delta), -1).max(axis=1)
    step = np.maximum(rows, np.float32(1e-12)).astype(np.float32) / np.float32(127)
    return np.rint(delta / _column(step, delta.ndim)).astype(np.int8), step


def restore(steps: Array, step: Array, base: Array) -> Array:
    """base + steps * step in fp32, rounded once to fp16: the checkpoint's tensor."""
    moved: Array = base.astype(np.float32) + steps.astype(np.float32) * _column(step, steps.ndim)
    return moved.astype(np.float16)


def _column(values: Array, dims: int) -> Array:
    return values.reshape(-1, *[1] * (dims - 1))


def load_tensors(path: Path) -> Tensors:
    """All tensors of a safetensors file as numpy arrays."""
    from safetensors.numpy import load_file

    loaded: Tensors = load_file(path)
    return loaded


def save_tensors(tensors: Mapping[str, Array], path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Writes a safetensors file whose bytes follow from its content alone, appearing whole or not at all.

    Written by hand because safetensors' own writer orders the header's metadata differently in every process.
    """
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    offset, chunks = 0, []
    for name in sorted(tensors, key=lambda key: (-tensors[key].itemsize, key)):  # widest first keeps all aligned
        data = np.asarray(tensors[name], order="C")
        size = data.nbytes
        header[name] = {"dtype": _DTYPES[data.dtype.name], "shape": list(data.shape), "data_offsets": [offset, offset + size]}
        offset += size
        chunks.append(data.tobytes())
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    write_atomically(path, b"".join([struct.pack("<Q", len(text)), text, *chunks]))


@cache
def content_hash() -> str:
    """Sixteen hex digits over all stored parts and the layout version: the name of the cache folder."""
    digest = hashlib.sha256(f"layout {LAYOUT}".encode())
    for path in sorted(PARTS.rglob("*")):
        if path.is_file():
            digest.update(str(path.relative_to(PARTS)).encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def unet_tensors(name: str) -> Tensors:
    """The fp16 U-Net "base", "photo" or "anime" under diffusers' names."""
    base = load_tensors(PARTS / "unet.safetensors")
    if name == "base":
        return base
    moved = load_tensors(PARTS / f"{name}.safetensors")
    return {key: restore(moved[key], moved[key + SCALE], base[key]) if key + SCALE in moved else moved[key] for key in base}


def assemble(name: str, path: Path) -> None:
    """Writes one of "base", "photo", "anime" (single files in SD1's layout), an adapter of `harness.zoo.layouts.FILES`, or one of
    `harness.zoo.guides.GUIDES`; of a folder, `path` is the tensors' file, which is written last."""
    if name in GUIDES:
        _assemble_guide(name, path)
    elif adapter := FILES.get(name):
        part = load_tensors(PARTS / f"{adapter.part}.safetensors")
        if adapter.config is not None:
            write_atomically(path.with_name("adapter_config.json"), adapter.config(part).encode())
        tensors, header = adapter.make(part)
        save_tensors(tensors, path, header)
    else:
        notes = {"format": "pt", "modelspec.prediction_type": "v", "modelspec.title": f"zoo {name}"}
        save_tensors(_single_file(name), path, notes)


def _assemble_guide(name: str, path: Path) -> None:
    guide = GUIDES[name]
    part = load_tensors(PARTS / f"{guide.part}.safetensors")
    net = control_from_part(part, unet_tensors("base"), restore, SCALE) if guide.part == "control-edges" else part
    if guide.config:
        write_atomically(path.with_name("config.json"), (PARTS / guide.config).read_bytes())
    tensors = guide.make(net)
    if guide.pickled:
        write_atomically(path, pickled(tensors))
    else:
        save_tensors(tensors, path, {"format": "pt"})


def _single_file(name: str) -> Tensors:
    """A whole checkpoint under LDM names: fp16 networks, int64 position ids, fp32 schedule."""
    unet = unet_tensors(name)
    vae = load_tensors(PARTS / "vae.safetensors")
    text = load_tensors(PARTS / "text_encoder.safetensors")
    file = {UNET_PREFIX + to: unet[key] for key, to in unet_to_ldm(unet).items()}
    as_conv = vae_conv_as_linear(vae)
    file |= {VAE_PREFIX + to: vae[key][..., None, None] if key in as_conv else vae[key] for key, to in vae_to_ldm(vae).items()}
    file |= {TEXT_PREFIX + to: text[key] for key, to in text_to_ldm(text).items()}
    places = len(text["embeddings.position_embedding.weight"])
    file[TEXT_PREFIX + "embeddings.position_ids"] = np.arange(places, dtype=np.int64)[None]
    schedule = json.loads((PARTS / "config" / "scheduler" / "scheduler_config.json").read_text(encoding="utf-8"))
    first, last = float(schedule["beta_start"]), float(schedule["beta_end"])
    betas = np.linspace(first**0.5, last**0.5, int(schedule["num_train_timesteps"])) ** 2
    file["betas"] = betas.astype(np.float32)
    file["alphas_cumprod"] = np.cumprod(1.0 - betas).astype(np.float32)
    return file
