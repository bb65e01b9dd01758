"""The zoo's adapters as files of real tools: one trained LoRA in the layouts of eleven tools, exactly or with one stated
rounding, and a LoHa, a LoKr, a DoRA and a textual inversion in their usual layouts.

Needs numpy, not torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.weights.ldm import unet_to_ldm
from harness.weights.numbering import Numbering

Array = NDArray[Any]
Tensors = dict[str, Array]
Header = dict[str, str]
Pairs = dict[str, tuple[Array, Array]]
"""Path of a module to down (r, in[, kh, kw]) and up (out, r[, 1, 1])."""

NUMBERING = Numbering(layers=frozenset({1}), attended={0: False})
"""The blocks of the zoo's U-Net, `models.new_unet`, which its adapters alone do not show."""
DOWN, UP = "lora_A.weight", "lora_B.weight"
"""Names of the two factors in the repository's parts, as in PEFT."""


@dataclass(frozen=True, kw_only=True)
class File:
    """One adapter file: the part of the repository it is made from, the tool that writes such files, and the function that makes
    it. `config` makes the adapter_config.json of a folder; without it the adapter is a single file."""

    part: str
    tool: str
    make: Callable[[Tensors], tuple[Tensors, Header]]
    config: Callable[[Tensors], str] | None = None


def pairs(lora: Tensors) -> Pairs:
    """The factors of every module, ordered by path."""
    paths = sorted(key.removesuffix(f".{DOWN}") for key in lora if key.endswith(f".{DOWN}"))
    return {path: (lora[f"{path}.{DOWN}"], lora[f"{path}.{UP}"]) for path in paths}


def rank_of(lora: Tensors) -> int:
    """The rank, which is the same for all modules and equals their alpha."""
    return len(next(iter(pairs(lora).values()))[0])


def flat(path: str, prefix: str = "lora_unet_") -> str:
    """kohya's name of a module of the U-Net: dots as underscores."""
    return prefix + path.replace(".", "_")


def original(paths: list[str]) -> dict[str, str]:
    """The names of Stable Diffusion's original code, by path."""
    original_names = unet_to_ldm([f"{path}.weight" for path in paths], NUMBERING)
    return {path: original_names[f"{path}.weight"].removesuffix(".weight") for path in paths}


def _number(value: float) -> Array:
    return np.asarray(value, dtype=np.float16)


def _with_alpha(lora: Tensors, name: Callable[[str], str], down: str, up: str) -> Tensors:
    """Both factors and alpha = rank under `name(path)` and these endings."""
    file: Tensors = {}
    for path, (first, second) in pairs(lora).items():
        file |= {f"{name(path)}.{down}": first, f"{name(path)}.{up}": second, f"{name(path)}.alpha": _number(len(first))}
    return file


def _kohya_header(module: str, dim: str, more: dict[str, Any]) -> Header:
    return {
        "ss_network_module": module,
        "ss_network_dim": dim,
        "ss_network_alpha": dim,
        "ss_network_args": json.dumps(more),
        "ss_base_model_version": "sd_v1",
        "ss_v2": "False",
    }


def kohya(lora: Tensors) -> tuple[Tensors, Header]:
    """kohya's names: `lora_unet_` and the module path with underscores; alpha equals the rank."""
    rank = str(rank_of(lora))
    header = _kohya_header("networks.lora", rank, {"conv_dim": rank, "conv_alpha": rank})
    return _with_alpha(lora, flat, "lora_down.weight", "lora_up.weight"), {**header, "modelspec.title": "zoo sketch"}


def onetrainer(lora: Tensors) -> tuple[Tensors, Header]:
    """kohya's names under OneTrainer's header; its own prefix is for transformers alone."""
    header = {"ot_branch": "master", "ot_revision": "zoo", "ot_config": json.dumps({"lora_rank": rank_of(lora)})}
    return _with_alpha(lora, flat, "lora_down.weight", "lora_up.weight"), header


def lycoris(lora: Tensors) -> tuple[Tensors, Header]:
    """The names of LyCORIS' wrapper, `lycoris_` and the path with underscores."""
    named = _with_alpha(lora, lambda path: flat(path, "lycoris_"), "lora_down.weight", "lora_up.weight")
    return named, {"lycoris_config": json.dumps({"algo": "locon", "linear_dim": rank_of(lora), "linear_alpha": rank_of(lora)})}


def omi(lora: Tensors) -> tuple[Tensors, Header]:
    """OMI's names: `unet.`, the path, and kohya's endings."""
    return _with_alpha(lora, lambda path: f"unet.{path}", "lora_down.weight", "lora_up.weight"), {"format": "pt"}


def comfyui(lora: Tensors) -> tuple[Tensors, Header]:
    """`diffusion_model.` and the original names, PEFT's endings, no alpha: the strength is in the factors."""
    return _unscaled(lora, "diffusion_model."), {"format": "pt"}


def bare(lora: Tensors) -> tuple[Tensors, Header]:
    """The original names with nothing in front, PEFT's endings, no alpha."""
    return _unscaled(lora, ""), {"format": "pt"}


def _unscaled(lora: Tensors, prefix: str) -> Tensors:
    names = original(list(pairs(lora)))
    file: Tensors = {}
    for path, (down, up) in pairs(lora).items():
        file |= {f"{prefix}{names[path]}.{DOWN}": down, f"{prefix}{names[path]}.{UP}": up}
    return file


def diffusers(lora: Tensors) -> tuple[Tensors, Header]:
    """diffusers' names today: `unet.`, the path, PEFT's endings; rank and alpha in the header."""
    config = {"unet.r": rank_of(lora), "unet.lora_alpha": rank_of(lora), "unet.target_modules": list(pairs(lora))}
    config |= {"unet.rank_pattern": {}, "unet.alpha_pattern": {}, "unet.use_dora": False, "unet.use_rslora": False}
    metadata = {"format": "pt", "lora_adapter_metadata": json.dumps(config, sort_keys=True)}
    return {f"unet.{key}": value for key, value in lora.items()}, metadata


def diffusers_2023(lora: Tensors) -> tuple[Tensors, Header]:
    """diffusers' names of autumn 2023: `unet.`, the path, `.lora.down` and `.lora.up`; it never stored an alpha."""
    file: Tensors = {}
    for path, (down, up) in pairs(lora).items():
        file |= {f"unet.{path}.lora.down.weight": down, f"unet.{path}.lora.up.weight": up}
    return file, {"format": "pt"}


def peft_folder(lora: Tensors) -> tuple[Tensors, Header]:
    """The tensors of a PEFT folder, `base_model.model.` and the path; their strength is in its configuration."""
    return {f"base_model.model.{key}": value for key, value in lora.items()}, {"format": "pt"}


def peft_config(lora: Tensors) -> str:
    """adapter_config.json of a PEFT folder."""
    rank = rank_of(lora)
    content = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "target_modules": list(pairs(lora)), "bias": "none"}
    content |= {"rank_pattern": {}, "alpha_pattern": {}, "use_dora": False, "use_rslora": False, "fan_in_fan_out": False}
    content |= {"base_model_name_or_path": None, "modules_to_save": None, "inference_mode": True, "task_type": None}
    return json.dumps(content, indent=1, sort_keys=True) + "\n"


def tucker(lora: Tensors) -> tuple[Tensors, Header]:
    """LyCORIS' LoCon with a core for kernels above 1 x 1, exactly: the identity as down (in, in, 1, 1), and up (out, in, 1, 1)
    and core (in, in, kh, kw) padded with zeros, since tools expect one rank on all sides. Alpha is that rank."""
    factors = pairs(lora)
    cores = {path: _with_core(down, up) for path, (down, up) in factors.items() if down.ndim == 4 and down.shape[2:] != (1, 1)}
    file: Tensors = {f"{flat(path)}.lora_mid.weight": core for path, (_, core, _) in cores.items()}
    for path, plain in factors.items():
        down, up = (cores[path][0], cores[path][2]) if path in cores else plain
        name = flat(path)
        file |= {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up, f"{name}.alpha": _number(len(down))}
    return file, _kohya_header("lycoris.kohya", str(rank_of(lora)), {"algo": "locon", "use_tucker": "True"})


def _with_core(down: Array, up: Array) -> tuple[Array, Array, Array]:
    """(down (in, in, 1, 1), core (in, in, kh, kw), up (out, in, 1, 1)) with the same product as down (r, in, kh, kw) and up."""
    rank, width = down.shape[:2]
    core = np.zeros((width, width, *down.shape[2:]), down.dtype)
    core[:rank] = down
    wide = np.zeros((len(up), width, 1, 1), up.dtype)
    wide[:, :rank] = up
    return np.eye(width, dtype=down.dtype)[..., None, None], core, wide


def full(lora: Tensors) -> tuple[Tensors, Header]:
    """LyCORIS' whole differences, up @ down, summed in float64 and rounded once to fp16."""
    file = {f"{flat(path)}.diff": product(up, down).astype(np.float16) for path, (down, up) in pairs(lora).items()}
    return file, _kohya_header("lycoris.kohya", "1", {"algo": "full"})


def product(up: Array, down: Array) -> Array:
    """up (out, r[, 1, 1]) @ down (r, ...) as float64 (out, ...), rank by rank: a library's product may add in another order
    on another machine, and the bytes of the zoo are the same on all."""
    left, right = up.reshape(len(up), -1).astype(np.float64), down.astype(np.float64)
    total = np.zeros((len(up), *down.shape[1:]))
    for number, row in enumerate(right):
        total += left[:, number].reshape(-1, *[1] * row.ndim) * row
    return total


def loha(part: Tensors) -> tuple[Tensors, Header]:
    """LyCORIS' LoHa under kohya's names; alpha equals the rank."""
    rank = len(next(value for key, value in part.items() if key.endswith(".hada_w1_b")))
    return _as_lycoris(part, rank), _kohya_header("lycoris.kohya", str(rank), {"algo": "loha"})


def lokr(part: Tensors) -> tuple[Tensors, Header]:
    """LyCORIS' LoKr of two whole halves under kohya's names. Its alpha is written because tools expect one, and has no
    effect."""
    return _as_lycoris(part, 1), _kohya_header("lycoris.kohya", "10000", {"algo": "lokr", "factor": "4", "full_matrix": "True"})


def _as_lycoris(part: Tensors, alpha: float) -> Tensors:
    file: Tensors = {}
    for key, value in part.items():
        path, role = key.rsplit(".", 1)
        file |= {f"{flat(path)}.{role}": value, f"{flat(path)}.alpha": _number(alpha)}
    return file


def dora(part: Tensors) -> tuple[Tensors, Header]:
    """kohya's names with `.dora_scale` (out, 1, ...), the length of each output's row as LyCORIS writes it."""
    file = _with_alpha(part, flat, "lora_down.weight", "lora_up.weight")
    for path, (down, _) in pairs(part).items():
        lengths = part[f"{path}.lora_magnitude_vector"]
        file[f"{flat(path)}.dora_scale"] = lengths.reshape(-1, *[1] * (down.ndim - 1))
    rank = str(rank_of(part))
    return file, _kohya_header("lycoris.kohya", rank, {"algo": "locon", "dora_wd": "True", "wd_on_output": "True"})


def word(part: Tensors) -> tuple[Tensors, Header]:
    """diffusers' textual inversion: the word and its vectors (n, 96)."""
    return dict(part), {"format": "pt"}


FILES: dict[str, File] = {
    "sketch": File(part="sketch", tool="kohya sd-scripts", make=kohya),
    "sketch-peft": File(part="sketch", tool="diffusers with PEFT", make=diffusers),
    "sketch-peft-folder": File(part="sketch", tool="PEFT", make=peft_folder, config=peft_config),
    "sketch-diffusers-2023": File(part="sketch", tool="diffusers 0.20 to 0.22", make=diffusers_2023),
    "sketch-onetrainer": File(part="sketch", tool="OneTrainer", make=onetrainer),
    "sketch-omi": File(part="sketch", tool="OneTrainer (OMI)", make=omi),
    "sketch-comfyui": File(part="sketch", tool="AI-Toolkit, ComfyUI", make=comfyui),
    "sketch-original": File(part="sketch", tool="OneTrainer (original names)", make=bare),
    "sketch-lycoris": File(part="sketch", tool="LyCORIS' wrapper", make=lycoris),
    "sketch-tucker": File(part="sketch", tool="LyCORIS, LoCon with a core", make=tucker),
    "sketch-full": File(part="sketch", tool="LyCORIS, full", make=full),
    "sketch-loha": File(part="loha", tool="LyCORIS", make=loha),
    "sketch-lokr": File(part="lokr", tool="LyCORIS", make=lokr),
    "sketch-dora": File(part="dora", tool="LyCORIS", make=dora),
    "sketch-word": File(part="word", tool="diffusers", make=word),
}
"""Adapters by their names in the zoo. The first eleven are one LoRA."""


def same_lora() -> Iterator[str]:
    """The names of the files that hold the same LoRA."""
    return (name for name, file in FILES.items() if file.part == "sketch")
