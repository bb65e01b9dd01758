"""One suite in one run folder: the order of the stages, written once. An exception becomes a Failure record, and the
rest goes on."""

from __future__ import annotations

import json
import logging
import os
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from harness.cache import ImageCache, open_cache
from harness.declare import Candidate, Suite, short_hash
from harness.materialise import Prepared, Workbench
from harness.metrics import METRICS
from harness.metrics.clip import load_scorer
from harness.probes import CurveLimits, Rounds, find_gpu, idle_bytes
from harness.probes.environment import environment
from harness.probes.fits import free_memory
from harness.quantize import QUANTIZATION_MODES
from harness.records import (
    Cell,
    Durations,
    Failure,
    Finished,
    Record,
    Sample,
    write_atomically,
)
from harness.run.algebra_gate import identities_of
from harness.run.images import Gallery, Made
from harness.run.latency import ROUNDS_FOR_P90, Together, time_batches, time_together, timing_setting
from harness.run.measurement import Meter
from harness.run.progress import Progress
from harness.run.run_json import Session, added_before, grown, heading, of_suite
from harness.run_folder.folder import lock, sweep
from harness.run_folder.ledger import Ledger
from harness.runtimes import RUNTIMES
from harness.samplers import sampler_problem
from harness.sampling import (
    Images,
    SamplingError,
    TextState,
    coverage_of_texts,
    encode,
    named,
    set_determinism,
    setting,
    small,
    threads_for,
)


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a run is made. `root` is where relative paths of the suite begin; `runs` holds one folder per suite. `verify` hashes
    every image that is reused; `cache` is the address of images shared with other runs (see cache.open_cache)."""

    root: Path
    runs: Path
    device: str = "cpu"
    fresh: bool = False
    verify: bool = False
    cache: str = ""
    command: tuple[str, ...] = ()


class SuiteRun:
    """The run of one suite: opens its folder, takes candidates one by one, and keeps the journal."""

    def __init__(self, suite: Suite, suite_file: str, options: Options, progress: Progress) -> None:
        self.declared = self.suite = suite
        self.options, self.progress = options, progress
        self.folder = options.runs / suite.name
        gpu = find_gpu(options.device)
        # Before anything of ours is on the device: what others hold there is not the candidates'.
        self._idle = None if isinstance(gpu, str) else idle_bytes(gpu)
        self.bench = Workbench(device=options.device, root=options.root, steps=suite.grid.steps)
        self.not_offered = {c.name: reason for c in suite.candidates if (reason := refusal(c, options.device))}
        self._shown = self._counted = 0
        self._begun: set[str] = set()
        self._fresh = {c.name for c in suite.candidates} if options.fresh else set()
        cache = open_cache(options.cache, (suite.grid.width, suite.grid.height))
        self._lock = lock(self.folder)
        try:
            self._open(suite_file, cache)
        except BaseException:
            self._lock.close()
            raise

    def _open(self, suite_file: str, cache: ImageCache) -> None:
        sweep(self.folder)
        _hush()
        set_determinism()
        self.ledger = Ledger(self.folder, verify=self.options.verify)
        self._texts: dict[str, TextState] = {}
        self._scorer: Any = None
        self._settings = self._metric_settings()
        self._write_head(suite_file)
        self.gallery = Gallery(self.suite, self.ledger, cache, self._head)
        self._meter = Meter(suite=self.suite, ledger=self.ledger, gallery=self.gallery, device=self.options.device,
                            settings=self._settings, clip=self._clip)

    def release(self) -> None:
        """Lets go of all models, so that they do not count into what the next suite's candidates take; whatever of this one is
        still to come loads them again."""
        self.bench = Workbench(device=self.options.device, root=self.options.root, steps=self.suite.grid.steps)
        self._texts.clear()
        self._scorer = None
        free_memory(self.options.device)

    def close(self) -> None:
        """Lets go of the folder."""
        self._meter.close()
        with suppress(OSError):
            self.ledger.close()
        self._lock.close()

    def preflight(self) -> list[str]:
        """Problems that the model files show by themselves, for all candidates, before the first image."""
        found = []
        for candidate in (c for c in self.suite.candidates if c.name not in self.not_offered):
            try:
                self.bench.inspect(candidate)
                said = sampler_problem(self.suite.grid.sampler, self.bench.family(candidate))
            except Exception as error:
                said = str(error)
            if said:
                found.append(f"suite {self.suite.name!r}, candidate {candidate.name!r}: {said}")
        if any(METRICS[name].needs_clip for name in self.suite.metrics):
            try:
                self._clip()
            except Exception as error:
                found.append(f"suite {self.suite.name!r}, clip {self.suite.clip!r}: {error}")
        return found

    def candidate(self, candidate: Candidate, cells: Iterable[Cell] | None = None) -> Finished | list[Failure]:
        """Takes one candidate through all stages; what is in the journal already, and whole, is not done again. With `cells`,
        these are all that is wanted of it, until another call says otherwise; without, the whole grid."""
        self._counted = len(self.gallery.wanted(candidate.name)) if candidate.name in self._begun else 0
        self._begun.add(candidate.name)
        self.gallery.want(candidate.name, cells)
        with threads_for(self.suite.grid, self.options.device):
            return self._candidate(candidate)

    def _candidate(self, candidate: Candidate) -> Finished | list[Failure]:
        started = time.perf_counter()
        failures: list[Failure] = []
        self._shown = 0
        with self._stage(candidate, "read the model files", failures):
            self.bench.inspect(candidate)
            weights = self.bench.weights(candidate)
            if fresh := candidate.name in self._fresh:
                self._fresh.discard(candidate.name)
                self.ledger.forget(candidate.name)
            self.ledger.announce(replace(weights, declared=candidate.key, setting=timing_setting(
                self.suite, weights.identity, self._head["environment"])))
        if failures:
            return self._give_up(candidate, failures)
        with self._stage(candidate, "look for images", failures):
            # Anew means from nobody: not from another candidate of the same weights, nor from a shared cache.
            absent = list(self.gallery.wanted(candidate.name)) if fresh else self.gallery.absent(candidate, weights.identity)
        if failures:
            return self._give_up(candidate, failures)
        reused = len(self.gallery.wanted(candidate.name)) - len(absent)
        # What an earlier look at the candidate asked for was counted then.
        self._shown = max(reused, self._counted)
        doing = f"{self.suite.name} {candidate.name}"
        self.progress.advance(self._shown - self._counted, doing)
        floor = candidate.name == self.suite.baseline and self.suite.grid.batch_size > 1 and not self.ledger.has_floor(
            candidate.name, weights.identity)
        untried = any(gate.value == "identities" for gate in self.suite.gates) and not self.ledger.tried(candidate.name)
        if absent or floor or untried or not self.ledger.covered(candidate.name):
            with self._stage(candidate, "materialise", failures):
                prepared = self.bench.prepare(candidate)
                texts = self._embeddings(prepared)
                said = coverage_of_texts(candidate.name, self.suite.grid.prompts, texts.values())
                self.ledger.cover(candidate.name, (*prepared.coverage, *said))
                if untried:
                    self.ledger.add(identities_of(candidate, self.bench.library))
            if failures:
                return self._give_up(candidate, failures)
            with self._stage(candidate, "sample", failures):
                made = Made(candidate=candidate, identity=weights.identity, phases=prepared.phases, texts=texts)
                self._meter.begin(candidate.name)
                self.gallery.make(made, absent, partial(self._took, doing))
                if floor:
                    self.gallery.measure_floor(made)
            # Nothing of this candidate may still be on its way when the next one begins, or is timed.
            self._meter.settle()
        if not failures:
            # Also where nothing was sampled now: images that are none were made once and stay so.
            with self._stage(candidate, "sample", failures):
                self._refuse_nothing(candidate)
        if not failures:
            self._meter.measure(self.gallery.present(candidate.name), lambda name: self._stage(candidate, name, failures))
        if failures:
            return self._give_up(candidate, failures)
        done = Finished(candidate=candidate.name, identity=weights.identity, sampled=len(absent), reused=reused,
                        seconds=time.perf_counter() - started)
        self.ledger.add([done])
        return done

    def _took(self, doing: str, samples: Sequence[Sample], pixels: Images) -> None:
        """Images were written: they are measured while the next are sampled."""
        self._shown += len(samples)
        self.progress.advance(len(samples), doing)
        self._meter.feed(samples, pixels)

    def _refuse_nothing(self, candidate: Candidate) -> None:
        """SamplingError for a candidate of which not one image came out: nothing about it could be measured."""
        defects = [self.ledger.defect(sample.key) for sample in self.gallery.present(candidate.name)]
        if defects and all(defects):
            raise SamplingError(f"all {len(defects)} images are none: {defects[0]}. Look for damaged or overflowing weights; a "
                                "smaller alpha or a wider number format may help")

    def sampled(self, name: str) -> bool:
        """Whether all images that are wanted of a candidate's present weights are at hand."""
        return bool(self.gallery.present(name))

    def costs(self, names: Sequence[str]) -> list[Failure]:
        """Times the named candidates together, in rounds that alternate between them, unless the journal has it already; then
        their batch-size curves, where the suite asks for them. A candidate that cannot be timed is a Failure."""
        suite, device = self.suite, self.options.device
        settings = {c.name: timing_setting(suite, self.ledger.identity(c.name), self._head["environment"])
                    for c in suite.candidates if c.name in names and self.ledger.latency(c.name) is None
                    and self.ledger.identity(c.name)}
        if not settings:
            return []
        declared = {c.name: c for c in suite.candidates}
        rounds = Rounds(declared=suite.latency_rounds, budget_seconds=suite.latency_budget_seconds,
                        enough=ROUNDS_FOR_P90 if suite.latency_budget_seconds else suite.latency_rounds)
        together = Together(device=device, rounds=rounds, settings=settings, idle=self._idle)
        with threads_for(suite.grid, device):
            records = [self._with_load(record, declared) for record in time_together(
                suite, lambda name: self.bench.prepare(declared[name]).phases, together)]
            failures = [record for record in records if isinstance(record, Failure)]
            failed = {failure.candidate for failure in failures}
            # With its curve or not at all: a candidate that has a latency is not timed again.
            for name, key in settings.items():
                curve: list[Record] = []
                if suite.largest_batch and name not in failed:
                    with self._stage(declared[name], "time", failures):
                        curve += time_batches(name, self.bench.prepare(declared[name]).phases, suite, key,
                                              CurveLimits(batch_size=suite.largest_batch))
                self.ledger.add([*(record for record in records if record.candidate == name), *curve])
        return failures

    def _with_load(self, record: Record, declared: Mapping[str, Candidate]) -> Record:
        """The durations of a candidate with the seconds that its architecture took to load, where this session loaded it."""
        if not isinstance(record, Durations):
            return record
        loaded = self.bench.load_seconds(declared[record.candidate])
        return replace(record, seconds={**record.seconds, "load": loaded}) if loaded else record

    def _give_up(self, candidate: Candidate, failures: list[Failure]) -> list[Failure]:
        left = len(self.gallery.wanted(candidate.name)) - max(self._shown, self._counted)
        self.progress.advance(left, f"{self.suite.name} {candidate.name} failed")
        return failures

    @contextmanager
    def _stage(self, candidate: Candidate, stage: str, failures: list[Failure]) -> Iterator[None]:
        """An exception inside becomes a Failure record in the journal; only an interruption goes through."""
        try:
            yield
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            failure = Failure(candidate=candidate.name, stage=stage, error=type(error).__name__,
                              message=str(error) or f"no message, raised at {Path(where.filename).name}:{where.lineno}")
            failures.append(failure)
            # On a full disk the record cannot be kept either; the item still fails, with the reason.
            with suppress(OSError):
                self.ledger.add([failure])

    def _embeddings(self, prepared: Prepared) -> dict[str, TextState]:
        """The embeddings of every phase, made once for each state of the text encoders. SamplingError for a word of the
        treatment that stands in no prompt: it would do nothing."""
        prompts = self.suite.grid.prompts
        for phase in prepared.phases:
            if phase.text_identity not in self._texts:
                self._texts[phase.text_identity] = encode(phase.enter(), prompts, phase.treatment)
        texts = {phase.text_identity: self._texts[phase.text_identity] for phase in prepared.phases}
        wanted = {word for phase in prepared.phases for word in named(phase.treatment)}
        if unused := sorted(wanted - {word for state in texts.values() for word in state.found}):
            raise SamplingError(f"the word {unused[0]!r} stands in no prompt of the suite, so that it does nothing; write it "
                                "into the prompts as it is spelled here, or leave it out of the candidate")
        return texts

    def _clip(self) -> Any:
        if self._scorer is None:
            self._scorer = load_scorer(self.suite.clip, device=self.options.device)
            self._head["clip_definition"] = self._scorer.definition()
            self._save_head()
        return self._scorer

    def _metric_settings(self) -> dict[str, str]:
        """By metric the hash of what else decides its values."""
        asked = sorted(name for name in {*self.suite.metrics} if METRICS[name].needs_clip)
        clip = self._clip_setting() if asked else ""
        styles = short_hash([clip, [*self.suite.styles.items()]])
        return {name: styles if METRICS[name].uses_styles else clip for name in asked}

    def _clip_setting(self) -> str:
        """Hash of the CLIP model's file and architecture; a file that cannot be read fails when it is loaded."""
        architecture, _, path = self.suite.clip.rpartition(":")
        reference = self.suite.clip if self.suite.clip.startswith("zoo:") else path
        try:
            return short_hash([architecture, self.bench.content(reference)])
        except (OSError, ValueError):
            return short_hash([self.suite.clip])

    def _write_head(self, suite_file: str) -> None:
        before = self.ledger.head()
        self._earlier = added_before(self.declared, before)
        self.suite = grown(self.declared, self._earlier)
        environs = environment(self.options.device) | {
            "threads_per_operation": 1 if small(self.suite.grid, self.options.device) else "torch's default"}
        session = Session(suite_file=suite_file, command=self.options.command, environment=environs,
                          sampling=setting(self.suite.grid, self.options.device), metric_settings=self._settings,
                          not_offered=self.not_offered)
        self._head: dict[str, Any] = heading(self.declared, self.suite, session, before)
        self._save_head()

    @property
    def race(self) -> str:
        """The hash of the declaration that a race follows; empty where the suite has no budget."""
        return str(self._head["race"])

    @property
    def head(self) -> Mapping[str, Any]:
        """What run.json says."""
        return self._head

    def grow(self, added: Mapping[str, Sequence[Candidate]]) -> None:
        """Takes more candidates into the suite, each group behind the declared one that is named (see heading.grown)."""
        known = {c.name for c in self.suite.candidates}
        self.renew([c.name for group in added.values() for c in group if c.name not in known])
        self._become(grown(self.suite, added))

    def renew(self, names: Iterable[str]) -> None:
        """Where a run is made afresh, forgets what earlier sessions left of these candidates, unless this one has begun them."""
        self._fresh |= {*names} - self._begun if self.options.fresh else set()

    def as_declared(self) -> None:
        """Takes back what an earlier session's race added to the suite: a race begins anew, and adds it again. The folder keeps
        it until the race has `settled`: its looks stand there, and a race that is stopped must not spoil them."""
        self._become(self.declared)

    def settled(self) -> None:
        """The race came to its end: what an earlier one added, and this one did not, is in the suite no more."""
        self._earlier = {}
        self._note_suite()

    def _become(self, suite: Suite) -> None:
        if suite != self.suite:
            self.suite = self.gallery.suite = self._meter.suite = suite
            self._note_suite()

    def _note_suite(self) -> None:
        now = of_suite(self.declared, grown(self.suite, self._earlier))
        if now != {name: self._head.get(name) for name in now}:
            self._head.update(now)
            self._save_head()

    def leave_out(self, names: Sequence[str]) -> None:
        """Notes the candidates that were declared but not selected for this session."""
        self._head["not_selected"] = list(names)
        self._save_head()

    def _save_head(self) -> None:
        write_atomically(self.folder / "run.json", json.dumps(self._head, indent=1, ensure_ascii=False).encode())


def refusal(candidate: Candidate, device: str) -> str:
    """Why this device does not offer what the candidate asks for ("fp16" on a CPU), or an empty string."""
    asked = ((candidate.quantization, QUANTIZATION_MODES[candidate.quantization].why_not(device)),
             (candidate.runtime, RUNTIMES[candidate.runtime].why_not(device)))
    return next((f"{name} is not offered on {device}: {reason}" for name, reason in asked if reason), "")


def _hush() -> None:
    """Keeps back what torchao, diffusers and transformers say about each other's versions while they are imported;
    a user can do nothing about it, and it would stand in the middle of the progress bar."""
    for name in ("DIFFUSERS_VERBOSITY", "TRANSFORMERS_VERBOSITY"):
        os.environ.setdefault(name, "error")
    logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)
