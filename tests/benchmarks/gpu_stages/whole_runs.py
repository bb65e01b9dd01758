"""The machine itself, what its driver reports, and whole suites on it: promotion, and a sweep against its ceiling."""

from __future__ import annotations

import contextlib
import io
import json
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from harness import Adapter, Candidate, Gate, Objective, Suite
from harness.cli import main
from harness.declare import plain
from harness.probes import MemoryProbe, PowerProbe, Stopwatch, find_gpu
from harness.probes.device import device_problem
from harness.probes.environment import environment
from harness.probes.fits import free_memory
from harness.records import Reading
from harness.run.progress import Silent
from harness.run.suite_run import Options, SuiteRun
from harness.sampling import time_one
from tests.benchmarks.gpu_stages.subject import Facts, Subject, cells_of
from tests.benchmarks.sweep import CEILING, SWEEP, Case, compare

SUITE_FILE: Final = """
from harness.declare import restore
import json
SUITE = restore(json.loads({text!r}))
"""


def describe(subject: Subject) -> Iterator[Facts]:
    """What machine this is."""
    import torch

    facts = environment(subject.device)
    names = ("device_name", "cpu", "cores", "driver", "cuda", "cudnn", "python", "git_commit", "missing")
    yield {"what": "machine", "problem": device_problem(subject.device), **{name: facts[name] for name in names if name in facts}}
    yield {"what": "versions", **facts["packages"]}
    yield {"what": "flags", **facts["flags"]}
    if subject.cuda:
        yield {"what": "device", "total_bytes": torch.cuda.get_device_properties(subject.device).total_memory,
               "capability": list(torch.cuda.get_device_capability(subject.device)), "architectures": torch.cuda.get_arch_list(),
               "bf16_without_emulation": torch.cuda.is_bf16_supported(including_emulation=False)}


def parents(subject: Subject) -> Iterator[Facts]:
    """Writes two models of random weights, unless they are there."""
    started = time.perf_counter()
    names = subject.parents()
    yield {"what": f"parents {subject.size}", "names": list(names), "seconds": time.perf_counter() - started}


def promotion(subject: Subject) -> Iterator[Facts]:
    """The zoo's LoRA on the device, promoted by the command: fused on the CPU into a file, compared with what was measured,
    sampled again."""
    candidates = (Candidate(name="plain", model="zoo:base"),
                  Candidate(name="adapted", model="zoo:base", adapters=(Adapter(path="zoo:sketch"),)))
    grid = replace(subject.on(subject.device, "zoo").grid(batch_size=4), seeds=(0, 1))
    suite = Suite(name="promoted", candidates=candidates, baseline="plain", grid=grid, metrics=("exposure",), latency_rounds=1,
                  gates=(Gate(value="coverage"),), objective=Objective(maximise="saturation", penalties=()))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "promoted.py"
        file.write_text(SUITE_FILE.format(text=json.dumps(plain(suite))))
        run = SuiteRun(suite, str(file), Options(root=Path.cwd(), runs=Path(folder) / "runs", device=subject.device), Silent())
        try:
            for candidate in candidates:
                run.candidate(candidate)
            run.costs([candidate.name for candidate in candidates])
        finally:
            run.close()
        words = io.StringIO()
        with contextlib.redirect_stdout(words), contextlib.redirect_stderr(words):
            code = main(["promote", "adapted", "--run", str(run.folder), "--as", "adapted", "--models", f"{folder}/models",
                         "--policy", "inconclusive=pass", "--suite", str(file)])
        yield {"what": "promote a LoRA", "failed" if code else "lines": words.getvalue().splitlines()}


def sweep(subject: Subject) -> Iterator[Facts]:
    """A new alpha through a suite against the bare networks and against a plain loop; see tests/benchmarks/sweep.py."""
    a, b = subject.parents()
    grid = replace(subject.grid(batch_size=4), seeds=(0,))
    case = Case(a=a, b=b, root=subject.folder, grid=grid, device=subject.device, dtype=subject.usual_mode)
    subject.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=subject.folder) as work, contextlib.redirect_stdout(sys.stderr):
        figures = compare(case, Path(work), rounds=1, plain_prompts=1)
    yield {"what": f"sweep {subject.label} {case.dtype}", "of_ceiling": figures["sweep_of_ceiling"],
           "times_plain_loop": figures["sweep_times_plain"], "images_per_second": figures["images_per_second"][SWEEP],
           "ceiling_images_per_second": figures["images_per_second"][CEILING], "share_of_matmul_peak": figures["share_of_peak"],
           "milliseconds": {name: clock for name, (clock, _) in figures["milliseconds"].items()}}


def driver(subject: Subject) -> Iterator[Facts]:
    """What NVML reports while an image is made: at what rate, what it charges to this process beside what torch reserved, and
    what the polling costs."""
    gpu, grid = find_gpu(subject.device), subject.grid()
    live = subject.live(subject.merged(subject.usual_mode), grid)
    one = cells_of(grid, 1)[0]

    def image() -> None:
        time_one(live.phases, grid, one, Stopwatch(subject.device))
        subject.wait()

    image()
    free_memory(subject.device)
    with MemoryProbe(subject.device, gpu) as probe:
        image()
    line = probe.timeline("image")
    yield {"what": "samples", "per_second": line.samples_per_second, "longest_gap_seconds": line.longest_gap_seconds,
           "notes": list(line.notes)}
    values = {reading.name: reading.value for reading in probe.readings()}
    yield {"what": "memory readings", **_figures(probe.readings())}
    process, reserved = values["nvml_process_peak_bytes"], values["torch_reserved_peak_bytes"]
    yield {"what": "process above torch's reserve"} | (
        {"bytes": process - reserved} if process is not None and reserved is not None else
        {"not_measured": "one of the two figures is missing; see the memory readings"})
    for how in ("not read", "read at the ends", "polled") * 2:
        power = PowerProbe(gpu if how != "not read" else how)
        started = time.perf_counter()
        for _ in range(3):
            with power.watched() if how == "polled" else contextlib.nullcontext(), power.during():
                image()
        seconds = (time.perf_counter() - started) / 3
        yield {"what": f"power {how}", "seconds_per_image": seconds} | (
            _figures(power.record("image").readings) if how != "not read" else {})


def _figures(readings: Iterable[Reading]) -> Facts:
    """Each reading, or the reason why it lacks."""
    return {reading.name: reading.why_missing if reading.value is None else reading.value for reading in readings}
