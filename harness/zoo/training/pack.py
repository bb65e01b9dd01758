"""Turns the trained weights into what the repository stores: fp16 parts, and the two fine-tunes as int8 differences.

The last two stages of the training; they replace the files in `harness/zoo/weights`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness.zoo import store
from harness.zoo.guides import CONTROL_CONFIG
from harness.zoo.models import new_control_net, write_configs


def _half(weights: dict[str, torch.Tensor]) -> store.Tensors:
    """fp16 arrays of the floating-point tensors; integer buffers (position ids) are constants and left out."""
    return {key: value.detach().to(torch.float16).numpy() for key, value in weights.items() if value.is_floating_point()}


def _moved(tuned: dict[str, torch.Tensor], base: store.Tensors) -> store.Tensors:
    """int8 steps and step sizes for matrices and convolutions, plain fp16 for vectors (norms, biases)."""
    file: store.Tensors = {}
    for key, value in tuned.items():
        if value.ndim == 1:
            file[key] = value.to(torch.float16).numpy()
        else:
            file[key], file[key + store.SCALE] = store.difference(value.numpy(), base[key])
    return file


def pack_adapters(work: Path, names: Sequence[str]) -> None:
    """Writes the parts of the adapters that were trained in `work`; those that were not stay as they are, and the stage's
    result says so."""
    trained = [name for name in names if (work / f"{name}.pt").exists()]
    for name in trained:
        store.save_tensors(_half(torch.load(work / f"{name}.pt", weights_only=True)), store.PARTS / f"{name}.safetensors")
    unchanged = [name for name in names if name not in trained]
    text = f"packed: {', '.join(trained) or 'none'}; as before: {', '.join(unchanged) or 'none'}\n"
    pack_guides(work)
    (work / "packed-adapters").write_text(text, encoding="utf-8")


def pack_guides(work: Path) -> None:
    """Writes the parts of the networks that are guided by a picture, of those that were trained in `work`: the ControlNet as int8
    steps from the base's tensors or from zero, with its configuration, and the image prompt in fp16."""
    if (work / "control-edges.pt").exists():
        base = store.load_tensors(store.PARTS / "unet.safetensors")
        net: dict[str, torch.Tensor] = torch.load(work / "control-edges.pt", weights_only=True)
        zeros = {key: np.zeros(tuple(value.shape), np.float16) for key, value in net.items()}
        known = {key: value for key, value in base.items() if key in zeros and value.shape == zeros[key].shape}
        store.save_tensors(_moved(net, {**zeros, **known}), store.PARTS / "control-edges.safetensors")
        settings = {key: value for key, value in new_control_net().config.items() if not key.startswith("_")}
        text = json.dumps({"_class_name": "ControlNetModel", **settings}, indent=1, sort_keys=True) + "\n"
        (store.PARTS / CONTROL_CONFIG).write_text(text, encoding="utf-8")
    if (work / "image-prompt.pt").exists():
        prompt = torch.load(work / "image-prompt.pt", weights_only=True)
        store.save_tensors(_half(prompt), store.PARTS / "image-prompt.safetensors")


def pack(work: Path) -> None:
    """Reads the results of the stages of networks from `work` and writes their parts."""

    def load(name: str) -> Any:
        return torch.load(work / f"{name}.pt", weights_only=True)

    trained, vae = load("base"), load("vae")
    base = _half(trained["unet"])
    store.save_tensors(base, store.PARTS / "unet.safetensors")
    store.save_tensors(_half(trained["text_encoder"]), store.PARTS / "text_encoder.safetensors")
    store.save_tensors(_half(vae["weights"]), store.PARTS / "vae.safetensors")
    store.save_tensors(_half(load("clip")), store.PARTS / "clip.safetensors")
    for name in ("photo", "anime"):
        store.save_tensors(_moved(load(name), base), store.PARTS / f"{name}.safetensors")
    folder = store.PARTS / "config"
    shutil.copytree(work / "tokenizer", folder / "tokenizer", dirs_exist_ok=True)
    vocabulary = len(trained["text_encoder"]["embeddings.token_embedding.weight"])
    write_configs(folder, vocabulary, round(float(vae["scaling_factor"]), 5))
    error = max(float(np.abs(store.unet_tensors(n)[k] - v.numpy()).max()) for n in ("photo", "anime") for k, v in load(n).items())
    (work / "packed").write_text(f"largest error of a stored weight: {error:.2e}\n", encoding="utf-8")
