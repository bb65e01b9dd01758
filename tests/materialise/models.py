"""Tiny model files on the disk, and the shortest way from a recipe to a saved file, for the tests of this folder."""

from __future__ import annotations

import json
import struct
import tempfile
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from harness import Merge
from harness.declare import Model
from harness.materialise.file_layout import FilePlan, place
from harness.materialise.library import Library
from harness.materialise.plan_recipe import plan_recipe
from harness.materialise.saving import Saved, save
from harness.merge import MERGE_METHODS
from harness.weights import open_model, single_file_layout
from harness.weights.ema import flat_name
from tests.weights.tiny_families import State, made, states, write_folder

ALL_PARTS = ("unet", "vae", "text_encoder")
UNET, VAE, TEXT = "model.diffusion_model.", "first_stage_model.", "cond_stage_model.transformer.text_model."
IDS = f"{TEXT}embeddings.position_ids"
CONV_IN, CONV_OUT = f"{UNET}input_blocks.0.0.weight", f"{UNET}out.2.weight"
SCHEDULE = {"betas": torch.linspace(0, 1, 20), "alphas_cumprod": torch.linspace(1, 0, 20).double(),
            "sqrt_recip_alphas_cumprod": torch.tensor([1.0, 2.0, float("inf")])}


@cache
def _base(family: str) -> State:
    with tempfile.TemporaryDirectory() as folder:
        model = open_model(write_folder(Path(folder) / "model", states(family)))
        return made(model, single_file_layout(model))


def parent(seed: int, dtype: torch.dtype = torch.float16, family: str = "sd1") -> State:
    """A single file's tensors: one base for each family, and a little of its own for each seed."""
    return {name: t.clone() for name, t in _parent(seed, dtype, family).items()}


@cache
def _parent(seed: int, dtype: torch.dtype, family: str) -> State:
    generator = torch.Generator().manual_seed(seed)
    return {name: (t + 0.1 * torch.randn(t.shape, generator=generator)).to(dtype) if t.is_floating_point() else t
            for name, t in _base(family).items()}


def folder(path: Path, seed: int, dtype: torch.dtype = torch.float16, family: str = "sd1") -> Path:
    """The diffusers folder that holds the same values as `parent`."""
    write(path.with_name("single.safetensors"), parent(seed, dtype, family))
    model = open_model(path.with_name("single.safetensors"))
    parts = {part: model.tensors(part) for part in model.components}
    return write_folder(path, {part: {key: t.contiguous() for key, t in tensors.items()} for part, tensors in parts.items()})


def averaged(tensors: Mapping[str, torch.Tensor]) -> State:
    """The U-Net's tensors, half as large, under the names of EMA copies."""
    copies = {flat_name(name.removeprefix(UNET)): t / 2 for name, t in tensors.items() if name.startswith(UNET)}
    return {**copies, "model_ema.decay": torch.tensor(0.999), "model_ema.num_updates": torch.tensor(7, dtype=torch.int32)}


def write(path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None) -> str:
    """Writes the tensors and gives the file's name, which is how the recipes of these tests call it."""
    save_file({name: t.contiguous() for name, t in tensors.items()}, path, dict(metadata or {"format": "pt"}))
    return path.name


def write_in_order(path: Path, tensors: Mapping[str, torch.Tensor], names: Iterable[str]) -> str:
    """The same, with the data in the order of `names`."""
    header, data = {}, b""
    for name in names:
        raw = bytes(tensors[name].contiguous().reshape(-1).view(torch.uint8).numpy())
        word = {torch.float16: "F16", torch.bfloat16: "BF16", torch.float32: "F32", torch.int64: "I64"}[tensors[name].dtype]
        header[name] = {"dtype": word, "shape": list(tensors[name].shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path.name


def two(root: Path, dtype: torch.dtype = torch.float16, family: str = "sd1") -> tuple[State, State]:
    """Writes a.safetensors and b.safetensors below `root`."""
    for seed, name in enumerate("ab", 1):
        (root / f"{name}.safetensors").write_bytes(_file(seed, dtype, family))
    return parent(1, dtype, family), parent(2, dtype, family)


@cache
def _file(seed: int, dtype: torch.dtype, family: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return Path(folder, write(Path(folder) / "m.safetensors", parent(seed, dtype, family))).read_bytes()


def merge(**changes: object) -> Merge:
    """The weighted sum of a.safetensors and b.safetensors at 0.3, with changes."""
    values: dict[str, object] = {"a": "a.safetensors", "b": "b.safetensors", "alpha": 0.3}
    return Merge(**{**values, **changes})  # type: ignore[arg-type]


def numbers(name: str) -> dict[str, object]:
    """What a merge by this method takes: its alpha and beta, and as many more models as it needs."""
    row = MERGE_METHODS[name]
    third = {"c": "c.safetensors"} if row.base or (row.models == 3 and not row.many) else {}
    more = {"more": ("d.safetensors",)} if row.many else {}
    return {"method": name, "alpha": 0.3 if row.alpha_range else None, "beta": 0.4 if row.beta_range else None, **third, **more}


def write_four(root: Path) -> Path:
    """a, b, c and d.safetensors in bf16, each of its own."""
    for seed, name in enumerate("abcd"):
        write(root / f"{name}.safetensors", parent(seed, torch.bfloat16))
    return root


def planned(root: Path, model: Model) -> FilePlan:
    return place(plan_recipe(model, Library(root)))


def saved(root: Path, model: Model, name: str = "out.safetensors") -> Saved:
    return save(planned(root, model), Library(root), root / name, "title")


def made_file(root: Path, model: Model, name: str = "out.safetensors") -> State:
    """The tensors of the file that a recipe becomes, read by the safetensors library."""
    return load_file(saved(root, model, name).path)


def header(path: Path) -> dict[str, object]:
    with path.open("rb") as file:
        found: dict[str, object] = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
    return found


def same_bits(one: torch.Tensor, two: torch.Tensor) -> bool:
    """The same dtype, shape and bytes: a negative zero is not a positive one."""
    return one.dtype == two.dtype and one.shape == two.shape and raw(one) == raw(two)


def raw(tensor: torch.Tensor) -> bytes:
    return bytes(tensor.contiguous().reshape(-1).view(torch.uint8).numpy())


def differing(one: State, two: State) -> list[str]:
    """Names that are in only one of two files or differ there."""
    return sorted(name for name in one.keys() | two.keys()
                  if name not in one or name not in two or not same_bits(one[name], two[name]))


def lerped(a: torch.Tensor, b: torch.Tensor, alpha: float = 0.3) -> torch.Tensor:
    """The ideal: in float64, rounded once."""
    return ((1 - alpha) * a.double() + alpha * b.double()).to(a.dtype)


def ulps(one: torch.Tensor, two: torch.Tensor) -> float:
    """By how many representable values two tensors of one 16- or 32-bit dtype differ at most."""
    kind = torch.int32 if one.element_size() == 4 else torch.int16
    ordered = [torch.where((i := t.contiguous().view(kind).long()) < 0, -(i & (2 ** (8 * t.element_size() - 1) - 1)), i)
               for t in (one, two)]
    return float((ordered[0] - ordered[1]).abs().max())
