"""From an adapter file to a plan: every tensor accounted for, every name looked up in the real model.

The harness calls `read_adapter`.
"""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from harness.adapters.contract import AdapterError, AdapterFile, AdapterFormat, AdapterPlan, Factors, Part
from harness.adapters.targets import Target, targets
from harness.adapters.unsupported import looks_like

if TYPE_CHECKING:
    import torch

_HALVES: Final = ("down", "up")


def read_file(path: Path) -> AdapterFile:
    """Tensors (on the CPU, as stored) and header of a .safetensors file; pickles are refused, since they can run code."""
    with _opened(path) as file:
        return AdapterFile(name=path.name, tensors={key: file.get_tensor(key) for key in file.keys()},  # noqa: SIM118 - not a dict
                           metadata=file.metadata() or {})


def read_keys(path: Path) -> AdapterFile:
    """The same without the numbers: every tensor is empty."""
    import torch

    with _opened(path) as file:
        return AdapterFile(name=path.name, tensors={key: torch.empty(0) for key in file.keys()},  # noqa: SIM118 - not a dict
                           metadata=file.metadata() or {})


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    if path.is_dir():
        raise AdapterError(f"{path}: this is a folder; give the .safetensors file in it")
    if path.suffix != ".safetensors":
        raise AdapterError(f"{path}: only .safetensors adapters are read, since other files can run code on loading; "
                           "convert it first")
    if not path.is_file():
        raise AdapterError(f"{path}: no such file")
    with path.open("rb") as raw:
        head = raw.read(64)
    if kind := _impostor(head):
        raise AdapterError(f"{path}: this is {kind}")
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            yield file
    except SafetensorError as error:
        raise AdapterError(f"{path}: not a whole .safetensors file ({error}); download it again") from error


def _impostor(head: bytes) -> str:
    """What a file is whose first bytes are not those of a safetensors file, and what to do; empty when they are."""
    text = head.lstrip().lower()
    if not head:
        return "an empty file; download it again"
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the weights; run `git lfs pull` or download the file itself"
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a web page, not the weights; download the file again, the link may need a login"
    if head[8:9] != b"{" and head.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")):
        return "a pickle with the name of a safetensors file, which can run code on loading; convert it first"
    return "" if len(head) < 8 or head[8:9] == b"{" else "no .safetensors file (it has no header); download it again"


def inspect_keys(file: AdapterFile, name: str, row: AdapterFormat) -> None:
    """Raises AdapterError for keys that are not of the format, a down without its up, and a header without sense."""
    halves: dict[tuple[str, str], dict[str, tuple[str, Part]]] = defaultdict(dict)
    for key in file.tensors:
        part = _part(file, key, name, row)
        halves[part.component, part.module][part.role] = (key, part)
    for found in halves.values():
        _refuse_half(file, found)
        # The rank is not known yet; what can be wrong with a header does not depend on it.
        row.strength(file, next(iter(found.values()))[1], "", 1, 1.0)


def _part(file: AdapterFile, key: str, name: str, row: AdapterFormat) -> Part:
    part = row.parse(key)
    if part is None:
        raise AdapterError(f"{file.name}: unknown key {key!r} in a file of format {name}")
    return part


def _refuse_half(file: AdapterFile, found: Mapping[str, tuple[str, Part]]) -> None:
    if set(found) == {"alpha"}:
        return
    for half in _HALVES:
        if half not in found:
            raise AdapterError(f"{file.name}: {next(iter(found.values()))[0]!r} has no {half} factor; the file is incomplete")


def recognise(file: AdapterFile, formats: Mapping[str, AdapterFormat]) -> str:
    """The name of the format that understands most keys; a file that looks like another kind is refused by that kind."""
    known = ", ".join(row.says for row in formats.values())
    if not file.tensors:
        raise AdapterError(f"{file.name}: it has no tensors; supported are {known}")
    if kind := looks_like(file.tensors):
        raise AdapterError(f"{file.name} looks like {kind}: not supported yet; supported are {known}")
    counts = {name: sum(row.parse(key) is not None for key in file.tensors) for name, row in formats.items()}
    best = max(counts, key=lambda name: counts[name])
    if counts[best] == 0:
        first = next(iter(file.tensors))
        raise AdapterError(f"{file.name}: format not recognised (its first key is {first!r}); supported are {known}")
    return best


def plan_adapter(file: AdapterFile, name: str, row: AdapterFormat,
                 modules: Mapping[str, torch.nn.Module]) -> AdapterPlan:
    """The plan of a file in a known format. Raises AdapterError for anything that could not be applied exactly."""
    tables = {component: targets(module, row.spellings) for component, module in modules.items()}
    keys: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    reasons: dict[str, str] = {}
    found: dict[tuple[str, str], dict[str, tuple[str, Part]]] = defaultdict(dict)
    for key in file.tensors:
        part = _part(file, key, name, row)
        if part.component not in modules:
            keys[part.component]["absent_component"].append(key)
            reasons[key] = f"this model has no {part.component}"
            continue
        target = _target(file, key, part, tables[part.component])
        if target.why_not:
            keys[part.component]["refused"].append(key)
            reasons[key] = target.why_not
            continue
        halves = found[part.component, target.path]
        if part.role in halves:
            raise AdapterError(f"{file.name}: {halves[part.role][0]!r} and {key!r} both change {target.path}")
        halves[part.role] = (key, part)
        keys[part.component]["consumed" if part.role == "alpha" else "applied"].append(key)
    factors, notes = _all_factors(file, row, found, tables)
    plan = AdapterPlan(source=file.name, format=name, factors=factors, reasons=reasons, notes=notes, keys={
        component: {status: tuple(names) for status, names in by_status.items()} for component, by_status in keys.items()})
    _close(file, plan)
    return plan


def _target(file: AdapterFile, key: str, part: Part, table: Mapping[str, Target]) -> Target:
    if part.module in table:
        return table[part.module]
    near = difflib.get_close_matches(part.module, table, n=1, cutoff=0.0)
    raise AdapterError(f"{file.name}: key {key!r} names no module of {part.component}; the nearest is {near[0]!r}"
                       if near else f"{file.name}: key {key!r}: {part.component} has no modules to adapt")


def _all_factors(file: AdapterFile, row: AdapterFormat, found: Mapping[tuple[str, str], Mapping[str, tuple[str, Part]]],
                 tables: Mapping[str, Mapping[str, Target]]) -> tuple[dict[tuple[str, str], Factors], tuple[str, ...]]:
    notes: dict[str, None] = {}
    factors: dict[tuple[str, str], Factors] = {}
    silent = 0
    for (component, path), halves in found.items():
        key, part = next(iter(halves.values()))
        for half in _HALVES:
            if half not in halves:
                raise AdapterError(f"{file.name}: {key!r} has no {half} factor; the file is incomplete")
        target = tables[component][part.module]
        down, up = (_shaped(file, halves[half][0], half, target) for half in _HALVES)
        rank = int(down.shape[0])
        if rank != up.shape[1]:
            raise AdapterError(f"{file.name}: {halves['down'][0]!r} has rank {rank} and {halves['up'][0]!r} {up.shape[1]}")
        alpha = _alpha(file, halves["alpha"][0]) if "alpha" in halves else None
        strength = row.strength(file, part, path, rank, alpha)
        if strength.note:
            notes[strength.note] = None
        if strength.scale == 0:
            silent += 1
        factors[component, path] = Factors(down=down, up=up, alpha=strength.alpha, rank=rank, scale=strength.scale)
    if silent:
        notes[f"alpha is 0: no effect ({silent} of {len(factors)} modules)"] = None
    return factors, tuple(notes)


def _alpha(file: AdapterFile, key: str) -> float:
    tensor = file.tensors[key]
    if tensor.numel() != 1 or not bool(tensor.isfinite().all()):
        raise AdapterError(f"{file.name}: {key!r} of shape {tuple(tensor.shape)} is no alpha; expected one finite number")
    return float(tensor)


def _shaped(file: AdapterFile, key: str, half: str, target: Target) -> torch.Tensor:
    """The factor in float32, shaped for its layer: a 1 x 1 convolution and a linear layer hold the same numbers."""
    tensor = file.tensors[key]
    given = tuple(tensor.shape)
    if not tensor.is_floating_point() or 0 in given:
        raise AdapterError(f"{file.name}: {key!r} is {tensor.dtype} of shape {given}; expected floats, at least rank 1")
    tensor = tensor.float()
    out, *rest = target.shape
    if half == "down":
        wanted: tuple[int, ...] = (given[0] if given else 0, *rest)
    else:
        wanted = (out, given[1] if len(given) > 1 else 0, *([1, 1] if len(rest) == 3 else []))
    if _without_ones(given) != _without_ones(wanted):
        raise AdapterError(f"{file.name}: {key!r} has shape {given}, but {target.path} of shape {target.shape} "
                           f"needs {wanted}")
    if not bool(tensor.isfinite().all()):
        raise AdapterError(f"{file.name}: {key!r} contains NaN or infinity")
    return tensor.reshape(wanted)


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape[:2] if shape[2:] == (1, 1) else shape


def _close(file: AdapterFile, plan: AdapterPlan) -> None:
    counted = sum(len(names) for by_status in plan.keys.values() for names in by_status.values())
    if counted != len(file.tensors):
        raise AdapterError(f"{file.name}: {counted} of {len(file.tensors)} tensors accounted for; this is a bug of Sweetspot")
    if not plan.factors:
        raise AdapterError(f"{file.name}: nothing in it belongs to this model's {', '.join(plan.keys)}")
