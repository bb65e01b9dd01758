"""One suite in one run folder: the order of the stages. An exception becomes a Failure record, and the run continues."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from harness.cache import ImageCache, open_cache
from harness.check import load_rows
from harness.declare import Candidate, Suite, grid_of, restore, short_hash
from harness.declare.effective_grid import largest_image
from harness.declare.listing import first_of
from harness.declare.picture_uses import PICTURES, files_used
from harness.executors.contract import Job
from harness.executors.crew import Crew
from harness.executors.in_process import InProcess
from harness.executors.libraries import load_libraries
from harness.executors.maker import Maker
from harness.executors.overflow import Fp16OverflowError
from harness.executors.quiet import quiet_libraries
from harness.executors.staff import Staff
from harness.executors.with_crew import WithCrew
from harness.executors.workers import crew_of, is_elsewhere
from harness.hub import moved
from harness.materialise import WiderFormats, Workbench
from harness.metrics import METRICS
from harness.probes import idle_before_use
from harness.probes.available import DeviceMemory
from harness.probes.c_allocator import keep_freed_memory
from harness.probes.environment import environment
from harness.probes.fits import cap_where_memory_spills, free_memory
from harness.records import Cell, Failure, Finished, Fit, Sample, SessionStart, Weights
from harness.records.file_version import FileVersions
from harness.records.measured_on import MEASURED_ON, MeasuredOn, with_measured
from harness.records.reusable import TIME
from harness.records.worker_sessions import WORKERS, WorkerSession, WorkerWork, with_session
from harness.run.ahead import Ahead, Known
from harness.run.announced import Announcements
from harness.run.batch_sizes import BatchSizes
from harness.run.candidate_files import CandidateFiles
from harness.run.clip_model import ClipModel
from harness.run.costs import Costs
from harness.run.device_elsewhere import DeviceElsewhere, WorkerTimer
from harness.run.device_refusals import alone_problems, refusal
from harness.run.fitted_batch import with_fitted_batch
from harness.run.images import Gallery
from harness.run.inputs import keep_inputs
from harness.run.measurement import Meter
from harness.run.memory_problems import memory_problems, memory_remarks
from harness.run.overflow import IN_BF16, overflows_of
from harness.run.owed_images import OwedImages
from harness.run.preflight import file_problems, search_remarks
from harness.run.progress import Progress
from harness.run.prompt_pictures import PromptPictures
from harness.run.prompt_poses import PromptPoses
from harness.run.race_files import race_files
from harness.run.run_json import FITTED_BATCH, REFUSED, RunJson, Session, model_before, of_another_gpu, race_of
from harness.run.stages import Stages
from harness.run.timer import BenchTimer
from harness.run.timings import Timings
from harness.run_folder.folder import lock, sweep
from harness.run_folder.ledger import Ledger
from harness.samplers import candidate_work
from harness.sampling import (
    NOT_FINITE,
    Images,
    SamplingError,
    set_determinism,
    setting,
    threads_for,
    threads_per_operation,
)


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of a run. Relative paths of the suite are resolved below `root`; `runs` holds one folder per suite. `verify`
    hashes every image that is reused; `retime` times candidates again that the journal has timings of; `cache` is the address of
    images shared with other runs (see cache.open_cache); with `own_process` nothing in the process is older than the run.
    `workers` says who makes the images, as --workers does; empty is this process. One that sends nothing for `worker_timeout`
    seconds is ended, unless it is 0."""

    root: Path
    runs: Path
    device: str = "cpu"
    fresh: bool = False
    verify: bool = False
    retime: bool = False
    cache: str = ""
    own_process: bool = False
    workers: str = ""
    worker_timeout: float = 0.0
    command: tuple[str, ...] = ()


class SuiteRun:
    """The run of one suite: opens its folder, takes candidates one by one, and keeps the journal."""

    def __init__(self, suite: Suite, suite_file: str, options: Options, progress: Progress,
                 say: Callable[[str], None] = lambda _: None, staff: Staff | None = None) -> None:
        """`say` is called with sentences about workers, which are those of `staff` if there are suites before and after."""
        self.declared, self.started = suite, time.monotonic()
        self.options, self.progress = options, progress
        self._staff, self._own_staff = staff or Staff(), staff is None
        self._is_elsewhere = is_elsewhere(options.device, options.workers)
        self._device = "cpu" if self._is_elsewhere else options.device
        """What this process itself computes on."""
        self._elsewhere: DeviceElsewhere | None = None
        self._crew: WithCrew | None = None
        self._has_head = False
        self.folder = options.runs / suite.name
        # Only what the suite itself names: an earlier session's candidates in the folder may also name code.
        load_rows(suite, [*([(options.root / suite_file).parent] if suite_file else []), options.root])
        # Memory of other processes does not count for the candidates.
        self._idle = idle_before_use(self._device)
        self._versions, self._wider = FileVersions(), WiderFormats()
        self._maker = Maker(new_bench=self._new_bench, grid=suite.grid)
        self.not_offered: Mapping[str, str] = {} if self._is_elsewhere else {
            c.name: reason for c in suite.candidates if (reason := refusal(c, options.device))}
        self._shown, self._counted, self._say = Counter[str](), 0, say
        self._begun: set[str] = set()
        self._fresh = {c.name for c in suite.candidates} if options.fresh else set()
        self.opened_at = datetime.now(UTC).isoformat(timespec="milliseconds")
        self.images_made, self.work_made = 0, 0
        cache = open_cache(options.cache, largest_image(suite))
        self._lock = lock(self.folder)
        try:
            self._open(suite_file, cache)
        except BaseException:
            self._end_workers()
            self._lock.close()
            raise

    def _open(self, suite_file: str, cache: ImageCache) -> None:
        sweep(self.folder)
        quiet_libraries()
        self.progress.begin(f"{self.declared.name}: load torch and diffusers")
        load_libraries(clip=any(METRICS[name].needs_clip for name in self.declared.metrics),
                       own_process=self.options.own_process)
        set_determinism(self._device)
        if self.options.own_process:
            keep_freed_memory()
        self.limit = cap_where_memory_spills(self._device)
        self.ledger = Ledger(self.folder, verify=self.options.verify)
        before = {} if self.options.fresh else self.ledger.head()
        if self._is_elsewhere:
            self._ask_workers(suite_file, before)
        self.declared, self._fitted = with_fitted_batch(self.declared, self.bench, before, self._memory)
        self._maker.take_grid(self.declared.grid)
        self._wider.known.update(overflows_of(before))
        in_bf16 = dict(before[IN_BF16]) if self._wider.known else {}
        self._stages = Stages(ledger=self.ledger, begin=self._doing)
        self._sizes = BatchSizes(largest=self.declared.grid.images_per_batch)
        # Not the bound method: `release` makes a new workbench, and nothing may keep the old one's models alive.
        self._clip = ClipModel(self.declared, self._device, self.options.root, lambda file: self.bench.content(file),  # noqa: PLW0108
                               lambda definition: self.run_json.note(clip_definition=definition))
        self._poses = PromptPoses(self.declared, lambda file: self.bench.library.path(file),  # noqa: PLW0108
                                  lambda file: self.bench.content(file))  # noqa: PLW0108
        self.run_json = self._run_json(suite_file, in_bf16)
        self._has_head = True
        self._files = CandidateFiles(run_json=self.run_json, ledger=self.ledger, bench=lambda: self.bench, wider=self._wider,
                                     equal=lambda: self._equal, in_bf16=in_bf16)
        self.not_counting = of_another_gpu(before, self.head)
        self.moved = self._moved_since(before)
        keep_inputs(self.folder, self.head.get(PICTURES, {}), lambda file: self.bench.library.path(file))  # noqa: PLW0108
        self.ledger.session = SessionStart(environment=short_hash(self.head["environment"]), started=str(self.head["started"]))
        # A race adds candidates, but never changes grid, baseline or metrics.
        self.gallery = Gallery(self.suite, self.ledger, cache, self.head)
        self._sizes.remember((self._fitted or {}).get(REFUSED))
        self._meter = Meter(suite=self.declared, ledger=self.ledger, gallery=self.gallery, device=self._device,
                            settings=self.head["metric_settings"], clip=self._clip.scorer,
                            poses=self._poses, pictures=PromptPictures(self.declared, lambda file: self.bench.library.path(file)))  # noqa: PLW0108

        if self.options.workers:
            self._job = self._job_of(suite_file, self.head["environment"])
            if self._crew is None:
                self._crew = self._with_crew()
            else:
                self._crew.begin(self._job, self.options.worker_timeout)
        self._owed = OwedImages(gallery=self.gallery, stages=self._stages, sizes=self._sizes, meter=self._meter,
                                executor=self._crew or InProcess(worker=self._maker), bench=lambda: self.bench, wider=self._wider,
                                took=self._took, halved=self._halved, crew=self._crew)
        self._ahead = None if self._crew is None else Ahead(owed=self._owed, crew=self._crew, read=self._read_ahead)
        self._timings = Timings(ledger=self.ledger, costs=self._costs, timeable=self._timeable, quieten=self._quieten,
                                again=self.options.retime)

    def _moved_since(self, before: Mapping[str, Any]) -> str:
        """Which files of the hub are others than those of the last session, in a sentence; empty if none is."""
        try:
            ran = restore(before["suite"]) if before else None
        except (LookupError, TypeError, ValueError, AttributeError, RecursionError):
            return ""
        phrases = moved(self.declared, ran)
        return "" if not phrases else (f"suite {self.declared.name!r}: {first_of(phrases, between='; ')}. Candidates whose files "
                                       "have another content now are made again")

    def _job_of(self, suite_file: str, environs: Mapping[str, Any], *, asking: bool = False) -> Job:
        return Job(suite=self.declared, suite_file=suite_file, root=str(self.options.root), device=self.options.device,
                   environment=environs, asking=asking)

    def _ask_workers(self, suite_file: str, before: Mapping[str, Any]) -> None:
        """Starts the workers to ask one what the device is. It computes with as many threads as this process."""
        import torch

        self.progress.begin(f"{self.declared.name}: ask the workers what their device is")
        self._job = self._job_of(suite_file, {"torch_threads": torch.get_num_threads()}, asking=True)
        self._crew = self._with_crew()
        self._elsewhere = DeviceElsewhere(crew=self._crew, device=self.options.device)
        self._elsewhere.ask(self.declared, model_before(before))
        self.not_offered = self._elsewhere.not_offered

    @property
    def _memory(self) -> DeviceMemory | None:
        return None if self._elsewhere is None else self._elsewhere.memory

    def _with_crew(self) -> WithCrew:
        def worked(seconds: float, work: Sequence[WorkerWork]) -> None:
            if self._has_head:  # else they were only asked what they are
                session = WorkerSession(asked=self.options.workers, started=str(self.head["started"]), seconds=seconds,
                                        workers=tuple(work))
                self.run_json.note(**{WORKERS: with_session(self.head, session)})

        def new(told: Callable[[str], None]) -> Crew:
            return crew_of(self.options.workers, self._job, limit=self.options.worker_timeout, say=told)

        # On a GPU that this process has too, workers would be in the way of what it measures.
        return WithCrew(self._staff, lambda say: self._staff.crew(self._job, new, limit=self.options.worker_timeout, say=say),
                        self._say, worked, here=None if self._is_elsewhere else InProcess(worker=self._maker),
                        keep=self._device == "cpu")

    @property
    def bench(self) -> Workbench:
        """Where model files are opened, and candidates made by this process."""
        return self._maker.bench

    def release(self) -> None:
        """Releases all models, so that the next suite's memory figures do not include them. Later stages of this suite load them
        again, and must find the same files."""
        self._end_workers()
        self._maker.release()
        self._clip.release()
        self._poses.release()
        free_memory(self._device)

    def _new_bench(self) -> Workbench:
        bench = Workbench.for_grid(self.declared.grid, device=self.options.device, root=self.options.root,
                                   versions=self._versions, wider=self._wider)
        bench.has_device = not self._is_elsewhere
        return bench

    def close(self) -> None:
        """Ends the workers, closes the run folder and releases its lock."""
        self._end_workers()
        self._meter.close()
        with suppress(OSError):
            self.ledger.close()
        self._lock.close()

    def _end_workers(self) -> None:
        """Ends the workers, or lets them rest for the next suite."""
        if self._crew is not None:
            self._crew.end()
        if self._own_staff:
            self._staff.end()

    def preflight(self) -> list[str]:
        """Problems that the model files show by themselves, for all candidates, before the first image."""
        offered = [c for c in self.suite.candidates if c.name not in self.not_offered]
        wrong = file_problems(self.suite, offered, self.bench, self._equal, self._doing, self._files.text_problem)
        wrong += memory_problems(self.suite, offered, self.bench, self._memory)
        wrong += alone_problems(self.suite.name, offered, workers=self.options.workers, cache=self.options.cache)
        if self._clip.needed:
            self._doing("", "load the CLIP model")
            try:
                self._clip.scorer()
            except Exception as error:
                wrong.append(f"suite {self.suite.name!r}, clip {self.suite.clip!r}: {error}")
        if problem := self._poses.problem():
            wrong.append(f"suite {self.suite.name!r}, pose: {problem}")
        return wrong

    def remarks(self) -> list[str]:
        """What is doubtful about the device's memory and a search, before the first image; not a reason against the run."""
        offered = [c for c in self.suite.candidates if c.name not in self.not_offered]
        return [*memory_remarks(self.suite, offered, self.bench, self._memory), *search_remarks(self.suite, self.bench),
                *self._made_otherwise(offered)]

    def _made_otherwise(self, offered: Sequence[Candidate]) -> list[str]:
        """That images of workers in the shared cache are others than those of this run, which does not find them."""
        announcements = Announcements(cache=self.gallery.cache, suite=self.suite, environment=self.head["environment"],
                                      sampling=self.head["sampling"])
        others = {c.name: other for c in offered if (other := announcements.other(c, self.bench.weights(c)))}
        return [f"suite {self.suite.name!r}, {first_of(list(others))}: the images that workers put into the shared cache are "
                f"others than this run's, {next(iter(others.values()))}. It samples its own"] if others else []

    def candidate(self, candidate: Candidate, cells: Iterable[Cell] | None = None) -> Finished | list[Failure]:
        """Takes one candidate through all stages. Work that is already complete in the journal is not repeated. `cells` are the
        wanted cells from now on; by default the whole grid."""
        self._counted = len(self.gallery.wanted(candidate.name)) if candidate.name in self._begun else 0
        self._begun.add(candidate.name)
        self.gallery.want(candidate.name, cells)
        handed = None if self._ahead is None else self._ahead.of(candidate.name)
        fresh = candidate.name in self._fresh or (handed is not None and handed.known.fresh)
        with threads_for(grid_of(self.suite, candidate), self.options.device):
            try:
                try:
                    return self._candidate(candidate)
                except Fp16OverflowError as overflow:
                    self._widen(candidate, str(overflow))
                    self._fresh |= {candidate.name} if fresh else set()
                    return self._candidate(candidate)
            finally:
                self._forget_ahead(candidate)
                self._shown[candidate.name] = 0

    def ahead(self, asked: Sequence[tuple[Candidate, Iterable[Cell] | None]]) -> None:
        """Hands all that these candidates lack of these cells (None: the whole grid) to the workers, who make them side by side;
        `candidate` then waits for its own. Does nothing without workers."""
        if self._ahead is not None:
            self._doing("", "look for images")
            self._ahead.hand(asked)

    def _read_ahead(self, candidate: Candidate, cells: Iterable[Cell] | None) -> Known | None:
        """What of a candidate is to be made. None for one whose files have a problem, which `candidate` reports, or that is made
        once more in another format."""
        of_grid = self.gallery.cells(candidate.name)
        named = None if cells is None else frozenset(cells)
        asked = of_grid if named is None else [cell for cell in of_grid if cell in named]
        forgotten = candidate.name in self._fresh
        try:
            weights, fresh = self._announce(candidate)
            absent = list(asked) if fresh else self.gallery.absent(candidate, weights, asked)
            if self.bench.may_widen(candidate) and (self._overflowed(candidate) or (
                    absent and not fresh and self._overflowed_elsewhere(candidate))):
                return None
            owed = absent if fresh or not candidate.post else self._derived(candidate, weights, absent)
        except Exception:
            self._fresh |= {candidate.name} if forgotten else set()
            return None
        return Known(weights=weights, absent=tuple(owed), derived=frozenset(absent) - frozenset(owed), fresh=fresh)

    def _overflowed_elsewhere(self, candidate: Candidate) -> str:
        return self.gallery.overflowed_elsewhere(candidate, self.bench.sampled_weights(candidate))

    def _forget_ahead(self, candidate: Candidate) -> None:
        if self._ahead is not None:
            self._ahead.forget(candidate.name)

    def _widen(self, candidate: Candidate, why: str) -> None:
        """Forgets what was made of a candidate in fp16, which then runs in bf16: all its images are of one format."""
        self._meter.settle()
        self.gallery.share_overflow(candidate, self.bench.sampled_weights(candidate), why)
        self.bench.widen(candidate, why)
        self._forget_ahead(candidate)
        self.ledger.forget(candidate.name)
        self.progress.advance(-max(self._shown[candidate.name], self._counted),
                              f"{self.suite.name} {candidate.name}: overflows in fp16, now in bf16")
        self._shown[candidate.name] = self._counted = 0
        free_memory(self._device)

    def _candidate(self, candidate: Candidate) -> Finished | list[Failure]:
        started = time.perf_counter()
        failures: list[Failure] = []
        handed = None if self._ahead is None else self._ahead.of(candidate.name)
        with self._stages.stage(candidate.name, "read the model files", failures):
            weights, fresh = self._announce(candidate)
            fresh = fresh or (handed is not None and handed.known.fresh)
        if failures:
            return self._give_up(candidate, failures)
        with self._stages.stage(candidate.name, "look for images", failures):
            # Fresh means reusing nothing, neither from another candidate with the same weights nor from a shared cache.
            wanted = self.gallery.wanted(candidate.name)
            on_the_way = frozenset[Cell]() if handed is None else handed.cells
            lacking = frozenset(wanted if fresh else self.gallery.absent(candidate, weights))
            absent = [cell for cell in wanted if cell in on_the_way or cell in lacking]
        if failures:
            return self._give_up(candidate, failures)
        if self.bench.may_widen(candidate) and self._overflowed(candidate):
            raise Fp16OverflowError(NOT_FINITE)
        if absent and not fresh and self.bench.may_widen(candidate) and (
                why := self._overflowed_elsewhere(candidate)):
            raise Fp16OverflowError(why)
        derived = frozenset[Cell]() if handed is None else handed.known.derived.intersection(wanted)
        reused = len(wanted) - len(absent) - len(derived)
        # Images that an earlier look requested were counted then.
        counted = max(reused, self._counted)
        self._shown[candidate.name] += counted
        self.progress.advance(counted - self._counted, f"{self.suite.name} {candidate.name}")
        if candidate.post and not fresh:
            with self._stages.stage(candidate.name, "post-steps", failures):
                left = {*self._derived(candidate, weights, [cell for cell in absent if cell not in on_the_way])}
                absent = [cell for cell in absent if cell in on_the_way or cell in left]
            # The raw pictures of another candidate, which asks for fp16, can have overflowed.
            if not failures and self.bench.may_widen(candidate) and self._overflowed(candidate):
                raise Fp16OverflowError(NOT_FINITE)
        if not failures:
            self._owed.make(candidate, weights, absent, failures)
            self._maker.let_go()
        if not failures:
            # Even if nothing was sampled now: unusable images stay unusable.
            with self._stages.stage(candidate.name, "sample", failures):
                self._refuse_nothing(candidate)
        if not failures:
            self._meter.measure(self.gallery.present(candidate.name),
                                lambda metric: self._stages.stage(candidate.name, metric, failures))
        if failures:
            return self._give_up(candidate, failures)
        done = Finished(candidate=candidate.name, identity=weights.identity, sampled=len(absent), reused=reused,
                        seconds=time.perf_counter() - started)
        self.ledger.add([done])
        return done

    def _announce(self, candidate: Candidate) -> tuple[Weights, bool]:
        """Reads the candidate's files and records its weights. Returns them, and whether to sample its images again."""
        weights = self._files.announce(candidate, fresh=(fresh := candidate.name in self._fresh))
        self._fresh.discard(candidate.name)
        return weights, fresh

    def _overflowed(self, candidate: Candidate) -> bool:
        """Whether an earlier version kept images of a candidate that overflowed."""
        return any(self.ledger.defect(sample.key) == NOT_FINITE for sample in self.gallery.at_hand(candidate.name))

    def _derived(self, candidate: Candidate, weights: Weights, absent: Sequence[Cell]) -> list[Cell]:
        """The absent cells whose raw picture is not there yet either; of the others, the post-steps were applied to it."""
        post = self.bench.post(candidate)
        if post is None or not absent:
            return list(absent)
        self._meter.begin(candidate.name)
        return self.gallery.derive(candidate, (weights, self.bench.raw_weights(candidate)), post, absent,
                                   partial(self._took, candidate, sampled=False))

    def _halved(self, name: str, fit: Fit, guided: bool) -> None:
        """Called when memory for a batch was refused. With a batch size that was fitted, says in run.json with which batches
        later sessions begin."""
        if self._ahead is not None:
            self._ahead.outdate(name, fit, guided=guided)
        if self._fitted is not None and (refusals := self._sizes.refusals) != self._fitted.get(REFUSED, []):
            self._fitted = {**self._fitted, REFUSED: refusals}
            self.run_json.note(**{FITTED_BATCH: self._fitted})

    def _took(self, candidate: Candidate, samples: Sequence[Sample], pixels: Callable[[], Images], *,
              sampled: bool = True) -> None:
        """Called when images were written, `sampled` or made of raw pictures that were there: measures them while the next are
        made."""
        self._shown[candidate.name] += len(samples)
        if sampled:
            self.images_made += len(samples)
            self.work_made += sum(candidate_work(self.suite, candidate, sample.cell.guidance) for sample in samples)
        self.progress.advance(len(samples), f"{self.suite.name} {candidate.name}: {'sample' if sampled else 'post-steps'}")
        if self._meter.wants(candidate.name, patient=self._crew is None):
            self._meter.feed(samples, pixels())

    def _refuse_nothing(self, candidate: Candidate) -> None:
        """Raises SamplingError for a candidate without a single usable image, because nothing could be measured."""
        defects = [self.ledger.defect(sample.key) for sample in self.gallery.present(candidate.name)]
        if defects and all(defects):
            raise SamplingError(f"all {len(defects)} images are unusable: {defects[0]}. Look for damaged or overflowing weights; "
                                "a smaller alpha may help, or on a GPU precision='bf16' or 'fp32'")

    def sampled(self, name: str) -> bool:
        """Whether all requested images of the candidate's current weights exist."""
        return bool(self.gallery.present(name))

    @property
    def images_in_all(self) -> int:
        """How many images of the candidates' present weights are in the folder."""
        return sum(len(self.gallery.at_hand(candidate.name)) for candidate in self.suite.candidates)

    def costs(self, names: Sequence[str]) -> list[Failure]:
        """Times the named candidates where they are not timed yet; see Timings.time."""
        return self._timings.time(names)

    def untimed(self, names: Sequence[str]) -> list[str]:
        """Those of the named candidates that the last session could not time."""
        return self._timings.untimed(names)

    def why_timed_again(self, names: Sequence[str]) -> str:
        """Why candidates with earlier latencies are about to be timed again, in words; empty if they are not."""
        return self._timings.why_again(names)

    def _timeable(self, name: str) -> bool:
        return name in self._begun or self._files.known(next(c for c in self.suite.candidates if c.name == name))

    def _quieten(self) -> None:
        """Before a timing: ends the workers, unless one of them is to take it, and frees what belongs to no single candidate, and
        is made again if more images are sampled."""
        if self._elsewhere is None:
            self._end_workers()
        self._clip.release()
        self._maker.forget()

    def _costs(self) -> Costs:
        timer = self._timer()
        return Costs(suite=self.suite, timer=timer, ledger=self.ledger, environment=self.head["environment"],
                     device=self.options.device, timed=lambda timed_at: self._note_place(timer, timed_at))

    def _timer(self) -> BenchTimer | WorkerTimer:
        def begin(name: str) -> None:
            self._stages.begin(name, TIME)

        if self._elsewhere is None:
            return BenchTimer(suite=self.suite, bench=self.bench, device=self.options.device, idle=self._idle, begin=begin)
        return WorkerTimer(elsewhere=self._elsewhere, suite=self.suite, ledger=self.ledger, wider=self._wider,
                           environment=self.head["environment"], begin=begin)

    def _note_place(self, timer: BenchTimer | WorkerTimer, timed_at: str) -> None:
        """Says in run.json where timings were taken, if the images are made by several."""
        if self._crew is None:
            return
        place = timer.place(timed_at) if isinstance(timer, WorkerTimer) else MeasuredOn.here(timed_at, self.head["environment"])
        if place is not None:
            self.run_json.note(**{MEASURED_ON: with_measured(self.head, place)})
            if self._elsewhere is not None:
                self._say(f"{self.suite.name}: timed on {place.name}, while all other workers were idle")

    def _give_up(self, candidate: Candidate, failures: list[Failure]) -> list[Failure]:
        given_up = len(self.gallery.wanted(candidate.name)) - max(self._shown[candidate.name], self._counted)
        self.progress.advance(given_up, f"{self.suite.name} {candidate.name} failed")
        return failures

    def _run_json(self, suite_file: str, in_bf16: Mapping[str, Any]) -> RunJson:
        environs = (environment(self.options.device) if self._elsewhere is None else self._elsewhere.environment()) | {
            "threads_per_operation": threads_per_operation(self.declared.grid, self.options.device)}
        pictures = {file: self.bench.content(file) for file in files_used(self.declared)}
        session = Session(suite_file=suite_file, command=self.options.command, environment=environs,
                          sampling=setting(self.declared.grid, self.options.device, environs["device_name"]),
                          metric_settings=self._poses.settings(self._clip.settings(pictures)),
                          not_offered=self.not_offered, fitted_batch=self._fitted, in_bf16=in_bf16,
                          pictures=pictures, race=race_of(self.declared, pictures | race_files(
                              self.declared, self.bench, self.not_offered)))
        return RunJson(self.folder, self.declared, session, self.ledger.head())

    def _doing(self, name: str, stage: str) -> None:
        self.progress.begin(f"{self.suite.name} {name}: {stage}")

    @cached_property
    def _equal(self) -> Mapping[str, str]:
        """By name, what is wrong with declared candidates that have the weights of an earlier one, or of their own model A."""
        self._doing("", "compare the candidates' weights")
        return self.bench.equalities([c for c in self.declared.candidates if c.name not in self.not_offered])

    @property
    def suite(self) -> Suite:
        """The current suite: as declared, plus the candidates that a race added."""
        return self.run_json.suite

    @property
    def race(self) -> str:
        """The hash of the race's declaration; empty if the suite has no budget."""
        return str(self.head["race"])

    @property
    def head(self) -> Mapping[str, Any]:
        """The content of run.json."""
        return self.run_json.facts

    def grow(self, added: Mapping[str, Sequence[Candidate]]) -> None:
        """Adds candidates to the suite, each group after the declared candidate that its key names (see run_json.grown)."""
        known = {c.name for c in self.suite.candidates}
        self.renew([c.name for group in added.values() for c in group if c.name not in known])
        self.run_json.grow(added)
        self.gallery.take(self.suite)

    def renew(self, names: Iterable[str]) -> None:
        """In a fresh run, forgets what earlier sessions left of these candidates, unless this session has already begun them."""
        self._fresh |= {*names} - self._begun if self.options.fresh else set()

    def leave_out(self, names: Sequence[str]) -> None:
        """Records the candidates that were declared but not selected in this session."""
        self.run_json.note(not_selected=list(names))

    def leave_uncounted(self, what: str) -> None:
        """Records which gates this session did not count, in words."""
        self.run_json.note(not_counted=what)
