"""What a candidate needs to run and to be made, against what the plan says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from harness import Grid
from harness.materialise import Workbench
from harness.materialise.shape_model import shape_model
from harness.probes.fits import free_memory
from harness.quantize import QUANTIZATION_MODES
from harness.run.memory_plan import Footprint
from tests.benchmarks.gpu_stages.subject import GIB, NEEDS_CUDA, Facts, Subject, cells_of, failure

_MODES: Final = ("fp16", "fp32", "int8_weight_only")


def memory(subject: Subject) -> Iterator[Facts]:
    """By number format, what torch holds at the most while a merge is made and while one image of it is sampled; the latter once
    more after other candidates."""
    grid = subject.grid(steps=4)
    usable = []
    for mode in _MODES:
        if reason := NEEDS_CUDA if not subject.cuda else QUANTIZATION_MODES[mode].why_not(subject.device):
            yield {"what": f"{mode} {subject.label}", "not_measured": reason}
        else:
            usable.append(mode)
    for mode in usable:
        yield _measured(subject, grid, mode, "alone", subject.bench(grid))
    bench = subject.bench(grid)
    for mode in usable:
        yield _measured(subject, grid, mode, "after others", bench)


def _measured(subject: Subject, grid: Grid, mode: str, words: str, bench: Workbench) -> Facts:
    facts: Facts = {"what": f"{mode} {subject.label}, {words}"}
    try:
        _restart(subject)
        live = subject.live(subject.merged(mode), grid, bench)
        to_make = _peaks(subject)
        _restart(subject)
        live.pictures(cells_of(grid, 1))
        to_run = _peaks(subject)
    except Exception as error:
        return facts | {"failed": failure(error)}
    return facts | {"to_make_gib": to_make[0], "to_run_gib": to_run[0], "to_run_reserved_gib": to_run[1],
                    **_planned(subject, grid, mode, to_run[0])}


def _planned(subject: Subject, grid: Grid, mode: str, measured: float) -> Facts:
    """What the plan says of one image, whose texts were embedded before."""
    need = Footprint(shape_model(subject.merged(mode), subject.bench(grid)), grid, subject.device).need(1)
    planned = max(need.step, need.decode) / GIB
    return {"planned_gib": planned, "of_plan": measured / planned}


def _restart(subject: Subject) -> None:
    """Frees what nothing uses, and starts the peaks at what is held now."""
    import torch

    subject.wait()
    free_memory(subject.device)
    torch.cuda.reset_peak_memory_stats(subject.device)


def _peaks(subject: Subject) -> tuple[float, float]:
    """Allocated and reserved GiB, at the most."""
    import torch

    subject.wait()
    return torch.cuda.max_memory_allocated(subject.device) / GIB, torch.cuda.max_memory_reserved(subject.device) / GIB
