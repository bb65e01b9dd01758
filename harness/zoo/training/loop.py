"""One resumable optimisation loop: AdamW, warm-up and decay by step, optional averaging of weights, checkpoints, a log.

Every network of the zoo is trained by `fit`; all randomness of a step follows from (seed, step, rank),
so a killed run continues as if nothing happened.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import distributed, nn


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How one network is optimised; `batch` is the number of pictures per step over all ranks."""

    name: str
    steps: int
    batch: int
    rate: float
    beta2: float = 0.99
    weight_decay: float = 1e-4
    warmup: int = 100
    flat: float = 0.0  # share of the steps at the full rate before the decay begins
    linear: bool = False  # linear instead of cosine decay; both end at 2 % of the rate
    clip_norm: float = 0.0
    average: float = 0.0  # decay of the exponential moving average of the weights, 0 for none
    seed: int = 0

    def rate_at(self, step: int) -> float:
        """Learning rate of a step counted from 0."""
        if step < self.warmup:
            return self.rate * (step + 1) / self.warmup
        share = max(0.0, (step / self.steps - self.flat) / (1.0 - self.flat))
        fall = 1.0 - share if self.linear else 0.5 * (1.0 + math.cos(math.pi * share))
        return self.rate * (0.02 + 0.98 * fall)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Where a stage works: its folder, its device, and its place among the processes that share a batch."""

    work: Path
    device: str = "cpu"
    rank: int = 0
    ranks: int = 1


class Dice:
    """The randomness of one step on one rank: a numpy and a torch generator that follow from (seed, step, rank)."""

    def __init__(self, seed: int, step: int, rank: int = 0) -> None:
        self.numpy = np.random.default_rng([seed, step, rank])
        self.torch = torch.Generator().manual_seed(int(self.numpy.integers(2**62)))


Loss = Callable[[Dice], torch.Tensor]


def fit(recipe: Recipe, groups: list[tuple[nn.Module, float]], loss: Loss, setting: Setting) -> None:
    """Trains the trainable parameters of `groups` (module, rate factor) for `recipe.steps` steps, or what is left of them.

    The modules must be on the setting's device already. With torch.distributed initialised, gradients are averaged
    over the ranks. At the end the modules hold the averaged weights.
    """
    folder, rank = setting.work, setting.rank
    modules = nn.ModuleList([module for module, _ in groups])
    options = [{"params": [p for p in module.parameters() if p.requires_grad], "factor": factor} for module, factor in groups]
    optimizer = torch.optim.AdamW(options, lr=recipe.rate, betas=(0.9, recipe.beta2), weight_decay=recipe.weight_decay)
    weights = [p for p in modules.parameters() if p.requires_grad]
    mean = [p.detach().clone() for p in weights]
    path = folder / f"{recipe.name}.state.pt"
    begin = _resume(path, weights, mean, optimizer)
    modules.train()
    started, total = time.monotonic(), 0.0
    for step in range(begin, recipe.steps):
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate_at(step) * group["factor"]
        optimizer.zero_grad(set_to_none=True)
        value = loss(Dice(recipe.seed, step, rank))
        value.backward()  # type: ignore[no-untyped-call]
        _agree(weights)
        if recipe.clip_norm:
            nn.utils.clip_grad_norm_(weights, recipe.clip_norm)
        optimizer.step()
        _follow(mean, weights, recipe.average, step)
        total += float(value.detach())
        if rank == 0 and ((step + 1) % 50 == 0 or step + 1 == recipe.steps):
            _log(folder, recipe, step + 1, total / ((step % 50) + 1), time.monotonic() - started)
            total = 0.0
        if rank == 0 and (step + 1 == 50 or (step + 1) % 250 == 0 or step + 1 == recipe.steps):
            _save(path, step + 1, weights, mean, optimizer)
    with torch.no_grad():
        for weight, averaged in zip(weights, mean, strict=True):
            weight.copy_(averaged)
    modules.eval()


def _agree(weights: list[nn.Parameter]) -> None:
    """Averages the gradients over all ranks, as one flat vector."""
    if not distributed.is_initialized():
        return
    flat = torch.cat([_gradient(p).reshape(-1) for p in weights])
    distributed.all_reduce(flat)
    flat /= distributed.get_world_size()
    for p, part in zip(weights, torch.split(flat, [p.numel() for p in weights]), strict=True):
        p.grad = part.view_as(p)


def _gradient(p: nn.Parameter) -> torch.Tensor:
    return torch.zeros_like(p) if p.grad is None else p.grad


def _follow(mean: list[torch.Tensor], weights: list[nn.Parameter], decay: float, step: int) -> None:
    """Exponential moving average with a short memory at first: decay min(d, (1 + t) / (10 + t))."""
    decay = min(decay, (1 + step) / (10 + step)) if decay else 0.0
    with torch.no_grad():
        torch._foreach_lerp_(mean, [p.detach() for p in weights], 1.0 - decay)


def _save(path: Path, step: int, weights: list[nn.Parameter], mean: list[torch.Tensor], optimizer: torch.optim.Optimizer) -> None:
    part = path.with_suffix(".part")
    state = {"step": step, "weights": [p.data for p in weights], "mean": mean, "optimizer": optimizer.state_dict()}
    torch.save(state, part)
    part.replace(path)


def _resume(path: Path, weights: list[nn.Parameter], mean: list[torch.Tensor], optimizer: torch.optim.Optimizer) -> int:
    """Loads the last checkpoint into the given objects; returns the number of steps already done."""
    if not path.exists():
        return 0
    state: dict[str, Any] = torch.load(path, weights_only=True)
    with torch.no_grad():
        for weight, averaged, old, old_mean in zip(weights, mean, state["weights"], state["mean"], strict=True):
            weight.copy_(old)
            averaged.copy_(old_mean)
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])


def _log(folder: Path, recipe: Recipe, step: int, loss: float, seconds: float) -> None:
    line = {"stage": recipe.name, "step": step, "steps": recipe.steps, "loss": round(loss, 5), "seconds": round(seconds, 1)}
    with (folder / f"{recipe.name}.log.jsonl").open("a", encoding="utf-8") as log:
        log.write(json.dumps(line) + "\n")
