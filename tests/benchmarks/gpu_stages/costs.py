"""What fits into smaller cards, and what loading, switching, compiling and each number format take."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

from harness import Candidate, Suite
from harness.probes.clock import Stopwatch
from harness.probes.fits import capped, free_memory
from harness.quantize import QUANTIZATION_MODES
from harness.records import Failure
from harness.run.progress import Silent
from harness.run.suite_run import Options, SuiteRun
from harness.runtimes import RUNTIMES
from harness.sampling import time_one
from tests.benchmarks.gpu_stages.subject import GIB, NEEDS_CUDA, Facts, Live, Subject, cells_of, failure

CAPS_GIB: Final = (7.5, 11.5, 23.5)
"""What torch may take on cards of 8, 12 and 24 GB."""


def caps(subject: Subject, caps_gib: Sequence[float] = CAPS_GIB) -> Iterator[Facts]:
    """A suite under a cap of torch's memory, as on a smaller card: which candidates finish, and which batch sizes are refused."""
    if not subject.cuda:
        yield {"what": "caps", "not_measured": NEEDS_CUDA}
        return
    grid = subject.grid(batch_size=8 if subject.size != "sdxl" else 4, steps=2)
    grid = replace(grid, seeds=grid.seeds[:grid.batch_size // len(grid.prompts)])
    chosen = tuple(subject.merged(mode) for mode in ("fp16", "fp32", "int8_weight_only"))
    suite = Suite(name="capped", candidates=chosen, baseline=chosen[0].name, grid=grid, metrics=("exposure",))
    for gib in caps_gib:
        with tempfile.TemporaryDirectory() as folder, capped(subject.device, int(gib * GIB)):
            run = SuiteRun(suite, "", Options(root=subject.folder, runs=Path(folder), device=subject.device), Silent())
            try:
                yield from (_under_cap(run, candidate, f"{gib:g} GiB, {candidate.name} {subject.label}") for candidate in chosen)
            finally:
                run.release()
                run.close()


def _under_cap(run: SuiteRun, candidate: Candidate, what: str) -> Facts:
    started = time.perf_counter()
    done = run.candidate(candidate)
    refused = [fit.batch_size for fit in run.ledger.fits(candidate.name) if not fit.fits]
    result = "; ".join(f"{f.stage}: {f.message.splitlines()[0][:200]}" for f in done if isinstance(f, Failure)) if isinstance(
        done, list) else "fits"
    return {"what": what, "result": result, "refused_batch_sizes": refused, "seconds": time.perf_counter() - started}


def load(subject: Subject) -> Iterator[Facts]:
    """Seconds until a model is on the device and until the next alpha is, and what the bus could do."""
    import torch

    grid = subject.grid()
    bench = subject.bench(grid)

    def prepared(alpha: float) -> float:
        return _seconds(subject, lambda: bench.prepare(subject.merged(subject.usual_mode, alpha)))

    yield {"what": f"load {subject.label}, alpha 0", "seconds": prepared(0.0)}
    yield {"what": f"first merge {subject.label}", "seconds": prepared(0.5)}
    switches = [prepared(alpha) for alpha in (0.3, 0.6, 0.4)]
    unet = bench.prepare(subject.merged(subject.usual_mode, 0.4)).pipeline.denoiser
    # Each switch reads the parents, in 16 bits, and keeps one copy in place.
    sent = 2 * 2 * sum(parameter.numel() for parameter in unet.parameters())
    seconds = statistics.median(switches)
    yield {"what": f"next alpha {subject.label}", "seconds": seconds, "parents_gb_per_second": sent / 1e9 / seconds}
    if not subject.cuda:
        yield {"what": "bus", "not_measured": NEEDS_CUDA}
        return
    half = torch.zeros(2 ** (20 if subject.size == "zoo" else 28), dtype=torch.float16)
    pinned = half.pin_memory()
    for what, source in (("pageable", half), ("pinned", pinned)):
        times = [_seconds(subject, partial(source.to, subject.device, non_blocking=True)) for _ in range(4)]
        yield {"what": f"bus, {what}", "gb_per_second": half.nbytes / 1e9 / min(times[1:])}


def _seconds(subject: Subject, work: Callable[[], object]) -> float:
    subject.wait()
    started = time.perf_counter()
    work()
    subject.wait()
    return time.perf_counter() - started


def compiled(subject: Subject) -> Iterator[Facts]:
    """The eager and the compiled denoiser: seconds of the first image and of the next, and how many graphs are compiled at first
    and after a switch to another alpha."""
    from torch._dynamo.utils import counters

    if reason := RUNTIMES["compiled"].why_not(subject.device):
        yield {"what": "compiled", "not_measured": reason}
        return
    grid = subject.grid()
    for mode in ("fp16", "bf16") if subject.cuda else (subject.usual_mode,):
        for runtime in ("eager", "compiled"):
            bench = subject.bench(grid)
            for alpha in (0.5, 0.3):
                before = counters["stats"]["unique_graphs"]
                live = subject.live(subject.merged(mode, alpha, runtime=runtime), grid, bench)
                first, second = (_seconds(subject, partial(live.pictures, cells_of(grid, 1))) for _ in range(2))
                yield {"what": f"{runtime} {mode} {subject.label}, alpha {alpha:g}", "first_image_seconds": first,
                       "next_image_seconds": second, "graphs_compiled": counters["stats"]["unique_graphs"] - before}


def modes(subject: Subject) -> Iterator[Facts]:
    """Seconds of one image by phase, in every number format that the device has, and why it lacks the others."""
    grid = subject.grid()
    bench = subject.bench(grid)
    for mode, row in QUANTIZATION_MODES.items():
        facts: Facts = {"what": f"{mode} {subject.label}"}
        if reason := row.why_not(subject.device):
            yield facts | {"not_measured": reason}
            continue
        try:
            yield facts | _phases(subject, subject.live(subject.merged(mode), grid, bench))
        except Exception as error:
            yield facts | {"failed": failure(error)}
        free_memory(subject.device)
    yield from ({"what": f"runtime {name}", "offered": not row.why_not(subject.device), "reason": row.why_not(subject.device)}
                for name, row in RUNTIMES.items())


def _phases(subject: Subject, live: Live) -> Facts:
    """The median of three images after one that is not counted."""
    taken = []
    for number in range(4):
        watch = Stopwatch(subject.device)
        time_one(live.phases, live.grid, cells_of(live.grid, number + 1)[-1], watch)
        taken.append(watch.seconds)
    return {f"{phase}_seconds": statistics.median(times[phase] for times in taken[1:])
            for phase in ("text", "denoise", "decode")}
