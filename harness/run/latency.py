"""The costs of candidates: latency, memory, energy and switching for one image at batch 1, as a user would run it, in rounds that
alternate between the candidates; and the batch-size curve. They are measured separately from the batched sampling."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from harness.declare import Candidate, Grid, Suite, grid_of, short_hash
from harness.declare.effective_grid import run_grid
from harness.declare.prompt_texts import texts_in_key
from harness.materialise.executing import executing
from harness.probes.batch_size_curve import CurveLimits, batch_curve
from harness.probes.clock import Stopwatch, device_wait
from harness.probes.environment import deciding_seconds
from harness.probes.fits import free_memory, not_fitting, out_of_memory
from harness.probes.memory import DRIVER_RESERVED, MemoryProbe
from harness.probes.nvml import NvmlGpu, find_gpu
from harness.probes.power import PowerProbe
from harness.probes.rounds import Around, Make, Rounds, Visit, interleave
from harness.quantize import stored_bytes, weight_count
from harness.records import PHASES, BatchCurve, Cell, Durations, Failure, Fit, Latency, Memory, Reading, Record, Timeline
from harness.records.costs import DENOISER_WEIGHTS, MAKING, STORED, STORED_DENOISER, WRITTEN_DENOISER
from harness.records.reusable import TIME
from harness.runtimes import packages_of
from harness.sampling import LENDING, Later, embedded, sample, setting, threads_for, time_one
from harness.savers.weights import joined_copies

if TYPE_CHECKING:
    import torch

    from harness.materialise import Prepared

WARMUP_ROUNDS: Final = 1
"""Untimed images after every switch; memory is polled during the first switch and the image after it, so polling does not disturb
the timed ones."""

TIMING_VERSION: Final = 4
"""Increased when earlier timings no longer count. Up to 2 their key did not hold the versions of torch, CUDA, driver and product,
nor the number of threads."""
SUPERSEDED: Final[Mapping[int, str]] = {3: "of an earlier version, whose memory figures counted what making a candidate takes"}
"""What is wrong with the timings of an earlier version that are otherwise as those of now."""

ROUNDS_FOR_P90: Final = 29
"""The fewest rounds of which the slowest bounds p90 with 95 % confidence, whatever the distribution: 1 - 0.9 ** 29 > 0.95."""

FIRST: Final = "first_switch"
STEP: Final = "step"
"""The stopwatch's name for one denoising step. A round has many steps, all within "denoise"."""


def timed_cell(grid: Grid) -> Cell:
    """The one cell of a candidate's effective grid that is timed: first prompt, first seed, the middle one of the guidance scales
    other than 1."""
    guided = [g for g in grid.guidance_scales if g != 1] or list(grid.guidance_scales)
    return Cell(prompt=grid.prompts[0].id, seed=grid.seeds[0], guidance=statistics.median_high(guided))


def timing_setting(suite: Suite, candidate: Candidate, identity: str, machine: Mapping[str, Any],
                   version: int = TIMING_VERSION, chunked: Collection[str] = ()) -> str:
    """Hash of everything that determines a timing: weights, cell and its texts, sampling block, rounds, and the environment as
    far as it can change a latency; as `version` took it. `chunked` are the places of texts that are read in chunks."""
    grid = grid_of(suite, candidate)
    prompt, cell = grid.prompts[0], timed_cell(grid)
    return short_hash([version, identity, *texts_in_key(prompt, chunked), cell.noise_seed, cell.guidance,
                       setting(grid, str(machine.get("device"))), suite.latency_rounds,
                       suite.latency_budget_seconds, suite.largest_batch,
                       deciding_seconds(machine, packages_of(candidate.runtime)),
                       *([sorted(suite.grid.low_memory)] if suite.grid.low_memory else [])])


@dataclass(frozen=True, kw_only=True)
class Together:
    """How candidates are timed together: the device, the number of rounds, the bytes in use on the device before any candidate
    was loaded (`idle_bytes`), by name the hash of the timing (`timing_setting`) and what of the environment can change
    it, and when it began."""

    device: str
    rounds: Rounds
    settings: Mapping[str, str]
    idle: Reading | None = None
    timed_at: str = ""
    environments: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def time_candidate(candidate: str, prepared: Prepared, suite: Suite, key: str) -> tuple[Latency, Memory]:
    """Times one candidate alone: an untimed image under the memory probe, then `suite.latency_rounds` timed ones."""
    together = Together(device=str(prepared.pipeline.device), rounds=Rounds(declared=suite.latency_rounds),
                        settings={candidate: key})
    costs = _Costs(candidate, together)
    for visit in _visits(suite, {candidate: costs}, lambda _: prepared, together):
        if visit.error is not None:
            raise visit.error
    latency, memory, *_ = costs.records(timed_cell(_grid(suite, candidate)).guidance, "")
    assert isinstance(latency, Latency)
    assert isinstance(memory, Memory)
    return latency, memory


def time_together(suite: Suite, enter: Callable[[str], Prepared], together: Together) -> tuple[Record, ...]:
    """Times all candidates in `together.settings` in interleaved rounds. `enter` returns a candidate that is ready to sample, and
    may prepare it: its seconds, and those until the first phase is live, are the switch.

    Returns for each candidate Latency, Memory, Timeline, Power and Durations; or, if it raised, a Failure, with a Fit if
    memory was refused. An error in one candidate is never raised.
    """
    costs_by_name = {name: _Costs(name, together) for name in together.settings}
    failed: dict[str, tuple[Record, ...]] = {}
    started, done = time.perf_counter(), 0
    for visit in _visits(suite, costs_by_name, enter, together):
        done = visit.round + 1
        if visit.error is not None:
            failed[visit.name] = _failure(visit, together)
    stopped = together.rounds.reached(done, time.perf_counter() - started)
    return tuple(record for name, costs in costs_by_name.items()
                 for record in failed.get(name) or costs.records(timed_cell(_grid(suite, name)).guidance, stopped))


def time_batches(candidate: str, prepared: Prepared, suite: Suite, key: str,
                 limits: CurveLimits | None = None, idle: Reading | None = None) -> tuple[BatchCurve | Fit, ...]:
    """The batch-size curve of denoising and decoding, and a Fit if memory ended it. Texts are not included, because a run embeds
    them once for all images. `idle` as in Together."""
    device, grid, phases = str(prepared.pipeline.device), _grid(suite, candidate), prepared.phases
    cell = timed_cell(grid)
    prompts = [p for p in grid.prompts if p.id == cell.prompt]
    texts = embedded(phases, prompts, steps=grid.steps, stages=prepared.stages)

    def make(size: int) -> None:
        for _ in sample(phases, grid, [(cell,) * size], texts, later=Later(stages=prepared.stages, quick=False)):
            pass

    gpu = find_gpu(device)
    points, stopped, refused = batch_curve(make, lambda: MemoryProbe(device, gpu, idle=idle), device=device, limits=limits,
                                           wait=device_wait(device))
    curve = BatchCurve(candidate=candidate, points=points, stopped=stopped, setting=key)
    if refused is None:
        return (curve,)
    size = 2 * points[-1].batch_size if points else 1
    return curve, replace(not_fitting(refused, candidate, size), setting=key)


def _visits(suite: Suite, costs: Mapping[str, _Costs], enter: Callable[[str], Prepared],
            together: Together) -> Iterator[Visit]:
    device, yardstick = together.device, Yardstick(together.device)

    def resident(name: str) -> Make:
        grid = _grid(suite, name)
        with threads_for(grid, device):
            prepared = enter(name)
            prepared.phases[0].enter()
        costs[name].prepared = prepared if costs[name].unprobed else None

        def make(watch: Stopwatch) -> None:
            with threads_for(grid, device):
                time_one(prepared.phases, grid, timed_cell(grid), watch, prepared.stages, prepared.post)

        return make

    around = Around(untimed=lambda name: costs[name].probed(), timed=lambda name: costs[name].power.during(),
                    before=lambda name: costs[name].lengths.append(yardstick.seconds()),
                    made=lambda name: costs[name].made(), failed=lambda: free_memory(device))
    for visit in interleave(tuple(costs), together.rounds, resident, around=around, watch=lambda: Stopwatch(device)):
        if visit.error is None:
            costs[visit.name].take(visit)
        yield visit


def _grid(suite: Suite, name: str) -> Grid:
    """The effective grid of a candidate, with the steps that are run."""
    return run_grid(suite, next((c for c in suite.candidates if c.name == name), None))


class _Costs:
    """The results of one candidate's visits so far."""

    def __init__(self, candidate: str, together: Together) -> None:
        self._candidate, self._together = candidate, together
        self._setting = together.settings[candidate]
        self._gpu: NvmlGpu | str = find_gpu(together.device)
        self._probe: MemoryProbe | None = None
        self._watching = ExitStack()
        self._to_make: tuple[Reading, ...] = ()
        self._stored: tuple[Reading, ...] = ()
        self._remarks: tuple[str, ...] = ()
        self.prepared: Prepared | None = None
        self._timeline: Timeline | None = None
        self._seconds: dict[str, list[float]] = {phase: [] for phase in PHASES}
        self._apart: dict[str, list[float]] = {}
        self.lengths: list[float] = []
        self.power = PowerProbe(self._gpu)

    @contextmanager
    def probed(self) -> Iterator[None]:
        """A context that polls memory the first time, until `made` for making the candidate and then for running it; later
        switches are timed without polling. Clocks are polled from `made` on. Memory that earlier candidates left in the
        allocator's cache is released first, or it would count for this one."""
        with ExitStack() as self._watching:
            if self._probe is not None:
                yield
                return
            with self._memory_probed():
                yield

    @contextmanager
    def _memory_probed(self) -> Iterator[None]:
        free_memory(self._together.device)
        try:
            with MemoryProbe(self._together.device, self._gpu, idle=self._together.idle) as self._probe:
                yield
            self._stored = stored_readings(self.prepared)
            self._remarks = () if self.prepared is None else tuple(dict.fromkeys(
                phase.streams.remark for phase in self.prepared.every_phase if phase.streams.remark))
        finally:
            self.prepared = None  # of one that failed too: its model must not stay beside the next

    def made(self) -> None:
        """Ends the making: what only it needed is released, so that the image which follows shows what it takes to run."""
        if self._probe is not None and not self._to_make:
            readings = self._probe.next_stretch(lambda: free_memory(self._together.device))
            self._to_make = tuple(replace(r, name=MAKING + r.name) for r in readings if r.name != DRIVER_RESERVED)
        self._watching.enter_context(self.power.watched())

    @property
    def unprobed(self) -> bool:
        """Whether neither memory nor weights were read yet."""
        return not self._stored

    def take(self, visit: Visit) -> None:
        """Adds one visit. The first visit's switch is kept separately: it may merge and load, and memory was polled during it."""
        if visit.switch_seconds is not None:
            what = "switch" if FIRST in self._apart else FIRST
            self._apart.setdefault(what, []).append(visit.switch_seconds)
        if self._timeline is None and self._probe is not None:
            timeline = self._probe.timeline(self._candidate, visit.untimed, self._setting)
            self._timeline = replace(timeline, notes=(*timeline.notes, *self._remarks))
        lent = visit.seconds.get(LENDING, 0.0)
        for phase, seconds in visit.seconds.items():
            if phase not in (STEP, LENDING):
                self._seconds.setdefault(phase, []).append(seconds - lent if phase == "total" else seconds)
        if lent:
            self._apart.setdefault(LENDING, []).append(lent)
        if steps := [round(s.end_seconds - s.start_seconds, 7) for s in visit.spans if s.phase == STEP]:
            self._apart.setdefault(STEP, []).extend(steps)

    def records(self, guidance: float, stopped: str) -> tuple[Record, ...]:
        """Latency, Memory, Power, Durations and the Timeline, in this order."""
        name, key = self._candidate, self._setting
        latency = Latency(candidate=name, batch_size=1, warmup_rounds=WARMUP_ROUNDS, guidance=guidance, setting=key,
                          seconds={phase: tuple(taken) for phase, taken in self._seconds.items()},
                          yardstick=tuple(self.lengths), stopped=stopped, timed_at=self._together.timed_at,
                          environment=self._together.environments.get(name, {}))
        apart = {what: tuple(taken) for what, taken in self._apart.items()}
        memory = Memory(candidate=name, setting=key, readings=(
            *(self._probe.readings() if self._probe else ()), *self._to_make, *self._stored))
        timeline = (self._timeline,) if self._timeline else ()
        return latency, memory, self.power.record(name, key), Durations(candidate=name, seconds=apart, setting=key), *timeline


def stored_readings(prepared: Prepared | None) -> tuple[Reading, ...]:
    """The bytes of the weights of a candidate that is live: of all parts with its controls, references, their encoders and the
    copies that its runtime holds, and of the denoisers alone; how many weights these have, and in how many bytes they are
    written. What two phases share counts once. The first phase is live again afterwards."""
    if prepared is None:
        return ()
    first, *others = prepared.every_phase
    pipelines = [branch.enter() for phase in (*others, first) for branch in phase.branches]
    networks = [control.network for pipeline in pipelines for control in pipeline.controls if control.network is not None]
    references = {reference.identity: reference for pipeline in pipelines for reference in pipeline.references}.values()
    whole = stored_bytes(
        *(part for pipeline in pipelines for part in pipeline.parts.values()), *networks,
        *(module for reference in references for module in reference.modules()),
        tensors=[tensor for reference in references for tensor in (*reference.keys, *reference.values)])
    whole += sum({id(one): getattr(one, "copied_bytes", 0) for pipeline in pipelines for one in executing(pipeline)}.values())
    # What executes a graph holds the live module, of which it was given the weights.
    denoisers = [getattr(pipeline.denoiser, "live_module", pipeline.denoiser) for pipeline in pipelines]
    denoiser = stored_bytes(*denoisers)
    copied = sum({id(one): one.numel() for module in denoisers for one in joined_copies(module)}.values())
    return (Reading(name=STORED, unit="bytes", value=float(whole)),
            Reading(name=STORED_DENOISER, unit="bytes", value=float(denoiser)),
            Reading(name=DENOISER_WEIGHTS, unit="weights", value=float(weight_count(*denoisers) - copied)),
            _written(prepared, denoisers[-1]))


def _written(prepared: Prepared, denoiser: Any) -> Reading:
    from harness.materialise.library import MaterialiseError
    from harness.materialise.quantized_file import written_bytes

    try:
        if prepared.candidate is None:
            return Reading(name=WRITTEN_DENOISER, unit="bytes", value=None, why_missing="the candidate is not known")
        return Reading(name=WRITTEN_DENOISER, unit="bytes", value=float(written_bytes(prepared.candidate, denoiser)))
    except MaterialiseError as error:
        return Reading(name=WRITTEN_DENOISER, unit="bytes", value=None, why_missing=str(error))


def _failure(visit: Visit, together: Together) -> tuple[Record, ...]:
    error = visit.error
    assert error is not None
    message = str(error) or "no message"
    failure = Failure(candidate=visit.name, stage=TIME, error=type(error).__name__,
                      message=f"{message} (in round {visit.round + 1})")
    refused = out_of_memory(error, together.device)
    if refused is None:
        return (failure,)
    return failure, replace(not_fitting(refused, visit.name), setting=together.settings[visit.name])


class Yardstick:
    """A fixed series of small convolutions like those of a U-Net, a few milliseconds long. Its duration shows how busy the
    machine is with other work."""

    def __init__(self, device: str) -> None:
        import torch

        generator = torch.Generator("cpu").manual_seed(0)
        self._wait = device_wait(device)
        self._input: torch.Tensor = torch.randn(2, 64, 16, 16, generator=generator).to(device)
        self._weight: torch.Tensor = (torch.randn(64, 64, 3, 3, generator=generator) / 24).to(device)
        self.seconds()

    def seconds(self) -> float:
        """Seconds that 30 convolutions of 3 x 3 on (2, 64, 16, 16) take now."""
        import torch

        self._wait()
        start = time.perf_counter()
        with torch.inference_mode():
            values = self._input
            for _ in range(30):
                values = torch.nn.functional.conv2d(values, self._weight, padding=1).clamp(-3, 3)
        self._wait()
        return time.perf_counter() - start
