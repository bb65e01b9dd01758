"""Layers in the formats of other tools, as these write them: the tensors of a file by name."""

from __future__ import annotations

import json
import math
from typing import Any

import torch

State = dict[str, torch.Tensor]
H4 = torch.tensor([[1, 1, 1, -1], [1, 1, -1, 1], [1, -1, 1, 1], [-1, 1, 1, 1]], dtype=torch.float64)


def four_bits(name: str, weight: torch.Tensor, kind: str = "nf4", nested: bool = False, block: int = 64) -> State:
    """A weight as bitsandbytes saves it."""
    from bitsandbytes import functional

    codes, state = functional.quantize_4bit(weight, blocksize=block, compress_statistics=nested, quant_type=kind)
    return {name: codes, **{f"{name}.{part}": tensor for part, tensor in state.as_dict(packed=True).items()}}


def values_of(name: str, state: State) -> torch.Tensor:
    """The values that bitsandbytes reads of such a weight."""
    from bitsandbytes import functional

    beside = {key.removeprefix(f"{name}."): tensor for key, tensor in state.items() if key.startswith(f"{name}.")}
    return functional.dequantize_4bit(state[name], functional.QuantState.from_dict(beside, torch.device("cpu")))


def by_formula(name: str, state: State) -> torch.Tensor:
    """The values of a weight in nf4 whose scales are numbers: on a CPU, bitsandbytes 0.50 misreads rows shorter than a block."""
    said = json.loads(bytes(state[f"{name}.quant_state.bitsandbytes__nf4"].tolist()))
    codes = torch.stack([state[name].reshape(-1) >> 4, state[name].reshape(-1) & 15], dim=1).reshape(-1)
    count = math.prod(said["shape"])
    scales = state[f"{name}.absmax"].repeat_interleave(said["blocksize"])[:count]
    return (state[f"{name}.quant_map"][codes[:count].long()] * scales).reshape(said["shape"]).to(getattr(torch, said["dtype"]))


def described(said: dict[str, Any]) -> torch.Tensor:
    """The bytes of a description."""
    return torch.tensor(list(json.dumps(said).encode()), dtype=torch.uint8)


def hadamard(size: int) -> torch.Tensor:
    """The normalised matrix in float64."""
    matrix = H4
    while len(matrix) < size:
        matrix = torch.kron(matrix, H4)
    return matrix / size ** 0.5


def changed(state: State, name: str, **settings: Any) -> State:
    """The state with other words in one description."""
    said = json.loads(bytes(state[name].tolist()))
    return {**state, name: described({**said, **settings})}
