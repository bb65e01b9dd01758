"""The training stages, their order and their processes: which run in parallel, which are already done, and their progress.

Every stage writes a file, and a stage whose file exists is not run again.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path

from harness.zoo.training.loop import Setting

Show = Callable[[str, int, int, float], None]
"""Called with a stage's name, its step, its number of steps and its mean loss."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One step of the plan: its name, the file in the working folder that says it is done, and how many processes share it."""

    name: str
    result: str
    ranks: int = 1


GROUPS: tuple[tuple[Stage, ...], ...] = (
    (Stage(name="pictures", result="pictures/held-out.npy"),),
    (Stage(name="vae", result="vae.pt"), Stage(name="clip", result="clip.pt")),
    (Stage(name="latents", result="latents/anime-dress.pt"),),
    (Stage(name="base", result="base.pt", ranks=2),),
    (Stage(name="photo", result="photo.pt"), Stage(name="anime", result="anime.pt"), Stage(name="sketch", result="sketch.pt")),
    (Stage(name="loha", result="loha.pt"), Stage(name="lokr", result="lokr.pt")),
    (Stage(name="dora", result="dora.pt"), Stage(name="word", result="word.pt")),
    (Stage(name="control-edges", result="control-edges.pt"), Stage(name="image-prompt", result="image-prompt.pt")),
    (Stage(name="pack-adapters", result="packed-adapters"), Stage(name="pack", result="packed")),
)
"""Stages of one group run side by side, groups one after the other."""

ADAPTERS = ("sketch", "loha", "lokr", "dora", "word")
"""Stages that need no earlier one: missing parts of the base and its latents are taken from the packed zoo."""

GUIDES = ("control-edges", "image-prompt")
"""Networks that are guided by a picture; they need no earlier stage either."""

STAGES = tuple(stage.name for group in GROUPS for stage in group)


def run_stage(name: str, setting: Setting, threads: int) -> None:
    """Runs one stage in this process; with several ranks, joins the others through a file in the working folder."""
    import torch

    if name not in STAGES:
        raise ValueError(f"unknown training stage {name!r}; known: {', '.join(STAGES)}")
    torch.set_num_threads(threads)
    if setting.ranks > 1:
        _keep_apart(setting.rank, threads)
        meeting = f"file://{(setting.work / f'{name}.meeting').resolve()}"
        torch.distributed.init_process_group(
            "gloo", init_method=meeting, rank=setting.rank, world_size=setting.ranks, timeout=timedelta(minutes=10)
        )
    _tasks(setting, threads)[name]()
    if setting.ranks > 1:
        torch.distributed.destroy_process_group()


def _tasks(setting: Setting, threads: int) -> dict[str, Callable[[], None]]:
    """What each stage does, by name."""
    from harness.zoo.training import clip, control, data, image_prompt, kinds, pack, unet, vae

    return {
        "pictures": lambda: data.draw_pictures(setting.work, processes=threads),
        "vae": lambda: vae.train_vae(setting),
        "clip": lambda: clip.train_clip(setting),
        "latents": lambda: vae.encode_sets(setting),
        "base": lambda: unet.train_base(setting),
        "control-edges": lambda: control.train_control(setting),
        "image-prompt": lambda: image_prompt.train_image_prompt(setting),
        "pack": lambda: pack.pack(setting.work),
        "pack-adapters": lambda: pack.pack_adapters(setting.work, ADAPTERS),
        **{style: partial(unet.train_checkpoint, setting, style) for style in ("photo", "anime")},
        **{adapter: partial(kinds.train_adapter, setting, adapter) for adapter in ADAPTERS},
    }


def _keep_apart(rank: int, threads: int) -> None:
    """Gives each rank its own cores if the system allows it, because two ranks on the same core halve each other's speed."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        own = cores[rank * threads : (rank + 1) * threads]
        os.sched_setaffinity(0, own or cores)


def train(work: Path, only: str | None, device: str, threads: int, show: Show) -> None:
    """Runs all stages that are not done, or one; the CPU `threads` are shared out, at least one to each process."""
    work.mkdir(parents=True, exist_ok=True)
    for group in GROUPS:
        waiting = [stage for stage in group if (only is None or stage.name == only) and not (work / stage.result).exists()]
        if waiting:
            ranks = {stage.name: stage.ranks if device == "cpu" and threads > 1 else 1 for stage in waiting}
            share = max(1, threads // sum(ranks.values()))
            started = [_start(stage, work, device, ranks[stage.name], share) for stage in waiting]
            _together([process for processes in started for process in processes], work, show)


def _start(stage: Stage, work: Path, device: str, ranks: int, threads: int) -> list[BaseProcess]:
    (work / f"{stage.name}.meeting").unlink(missing_ok=True)
    processes: list[BaseProcess] = []
    for rank in range(ranks):
        setting = Setting(work=work, device=device, rank=rank, ranks=ranks)
        process = multiprocessing.get_context("spawn").Process(
            target=run_stage, args=(stage.name, setting, threads), name=f"{stage.name}/{rank}"
        )
        process.start()
        processes.append(process)
    return processes


def _together(processes: list[BaseProcess], work: Path, show: Show) -> None:
    """Waits for all processes, showing their logs; the first failure stops the others and is raised."""
    while any(process.is_alive() for process in processes) or any(process.exitcode for process in processes):
        failed = [process.name for process in processes if process.exitcode]
        if failed:
            for process in processes:
                process.terminate()
            names = ", ".join(failed)
            raise RuntimeError(f"training stage {names} failed; see its message above. Run the same command again to resume.")
        for log in sorted(work.glob("*.log.jsonl")):
            lines = log.read_text(encoding="utf-8").splitlines()
            if lines:
                last = json.loads(lines[-1])
                show(last["stage"], last["step"], last["steps"], last["loss"])
        time.sleep(1.0)
