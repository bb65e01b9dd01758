"""One suite in one run folder: the order of the stages, written once. An exception becomes a Failure record, and the
rest goes on."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from harness.declare import Candidate, Suite, plain, short_hash
from harness.folder import lock, slug, sweep
from harness.ledger import Ledger
from harness.materialise import Prepared, Workbench
from harness.metrics import METRICS, ImageScore, ImageSet
from harness.metrics.clip import load_scorer
from harness.probes import CurveLimits, Rounds, find_gpu, idle_bytes
from harness.probes.environment import environment
from harness.progress import Progress
from harness.quantize import QUANTIZATION_MODES
from harness.records import (
    RUN_FORMAT,
    Cell,
    Durations,
    Failure,
    Finished,
    Measurement,
    Record,
    Sample,
    sample_key,
    write_atomically,
)
from harness.samplers import sampler_problem
from harness.sampling import (
    SamplingError,
    TextState,
    batches,
    coverage_of_texts,
    encode,
    from_png,
    named,
    pool_of_single_threads,
    sample,
    set_determinism,
    setting,
    small,
    threads_for,
    to_png,
)
from harness.timing import ROUNDS_FOR_P90, Together, time_batches, time_together, timing_setting

WRITES_AHEAD = 4


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a run is made. `root` is where relative paths of the suite begin; `runs` holds one folder per suite."""

    root: Path
    runs: Path
    device: str = "cpu"
    fresh: bool = False
    command: tuple[str, ...] = ()


class SuiteRun:
    """The run of one suite: opens its folder, takes candidates one by one, and keeps the journal."""

    def __init__(self, suite: Suite, suite_file: str, options: Options, progress: Progress) -> None:
        self.suite, self.options, self.progress = suite, options, progress
        self.folder = options.runs / suite.name
        self.prompts = {p.id: p for p in suite.grid.prompts}
        self.batches = batches(suite.grid)
        self.cells = [cell for batch in self.batches for cell in batch]
        gpu = find_gpu(options.device)
        # Before anything of ours is on the device: what others hold there is not the candidates'.
        self._idle = None if isinstance(gpu, str) else idle_bytes(gpu)
        self.bench = Workbench(device=options.device, root=options.root, steps=suite.grid.steps)
        self.not_offered = {c.name: reason for c in suite.candidates if (reason := refusal(c, options.device))}
        self._fresh = {c.name for c in suite.candidates} if options.fresh else set()
        self._lock = lock(self.folder)
        try:
            self._open(suite_file)
        except BaseException:
            self._lock.close()
            raise

    def _open(self, suite_file: str) -> None:
        sweep(self.folder)
        _hush()
        set_determinism()
        self.ledger = Ledger(self.folder)
        self._texts: dict[str, TextState] = {}
        self._scorer: Any = None
        self._settings = {"clip_score": self._clip_setting()} if "clip_score" in self.suite.metrics else {}
        self._write_head(suite_file)

    def close(self) -> None:
        """Lets go of the folder."""
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
        if "clip_score" in self.suite.metrics:
            try:
                self._clip()
            except Exception as error:
                found.append(f"suite {self.suite.name!r}, clip {self.suite.clip!r}: {error}")
        return found

    def candidate(self, candidate: Candidate) -> Finished | list[Failure]:
        """Takes one candidate through all stages; what is in the journal already, and whole, is not done again."""
        with threads_for(self.suite.grid, self.options.device):
            return self._candidate(candidate)

    def _candidate(self, candidate: Candidate) -> Finished | list[Failure]:
        started = time.perf_counter()
        failures: list[Failure] = []
        with self._stage(candidate, "read the model files", failures):
            self.bench.inspect(candidate)
            weights = self.bench.weights(candidate)
            if candidate.name in self._fresh:
                self._fresh.discard(candidate.name)
                self.ledger.forget(candidate.name)
            self.ledger.announce(replace(weights, declared=candidate.key, setting=timing_setting(
                self.suite, weights.identity, self._head["environment"])))
        if failures:
            return self._give_up(candidate, failures)
        todo = self._missing(candidate, weights.identity)
        reused = len(self.cells) - sum(len(batch) for batch in todo)
        self.progress.advance(reused, f"{self.suite.name} {candidate.name}")
        if todo or not self.ledger.covered(candidate.name):
            with self._stage(candidate, "materialise", failures):
                prepared = self.bench.prepare(candidate)
                texts = self._embeddings(prepared)
                said = coverage_of_texts(candidate.name, self.suite.grid.prompts, texts.values())
                self.ledger.cover(candidate.name, (*prepared.coverage, *said))
            if failures:
                return self._give_up(candidate, failures)
            with self._stage(candidate, "sample", failures):
                self._sample(candidate, weights.identity, (prepared, texts), todo)
        if not failures:
            self._measure(candidate, failures)
        if failures:
            return failures
        done = Finished(candidate=candidate.name, identity=weights.identity, sampled=len(self.cells) - reused,
                        reused=reused, seconds=time.perf_counter() - started)
        self.ledger.add([done])
        return done

    def sampled(self, name: str) -> bool:
        """Whether all images of a candidate's present weights are at hand."""
        identity = self.ledger.identity(name)
        return bool(identity) and all((s := self.ledger.samples.get((name, cell))) is not None
                                      and s.key == self._key(identity, cell) for cell in self.cells)

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
            failed = {record.candidate for record in records if isinstance(record, Failure)}
            for name in (settings if suite.largest_batch else ()):
                if name not in failed:
                    records += time_batches(name, self.bench.prepare(declared[name]).phases, suite, settings[name],
                                            CurveLimits(batch_size=suite.largest_batch))
        self.ledger.add(records)
        return [record for record in records if isinstance(record, Failure)]

    def _with_load(self, record: Record, declared: Mapping[str, Candidate]) -> Record:
        """The durations of a candidate with the seconds that its architecture took to load, where this session loaded it."""
        if not isinstance(record, Durations):
            return record
        loaded = self.bench.load_seconds(declared[record.candidate])
        return replace(record, seconds={**record.seconds, "load": loaded}) if loaded else record

    def _give_up(self, candidate: Candidate, failures: list[Failure]) -> list[Failure]:
        self.progress.advance(len(self.cells), f"{self.suite.name} {candidate.name} failed")
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

    def _missing(self, candidate: Candidate, identity: str) -> list[tuple[Cell, ...]]:
        """Batches of which at least one image is absent, altered or of other weights: they are sampled whole again."""
        return [batch for batch in self.batches
                if not all(self._present(candidate, identity, cell) for cell in batch)]

    def _present(self, candidate: Candidate, identity: str, cell: Cell) -> bool:
        return self.ledger.adopt(candidate.name, cell, self._key(identity, cell))

    def _key(self, identity: str, cell: Cell) -> str:
        prompt = self.prompts[cell.prompt]
        return sample_key(identity, cell, (prompt.text, prompt.negative), self._head["sampling"])

    def _sample(self, candidate: Candidate, identity: str, made: tuple[Prepared, dict[str, TextState]],
                todo: Sequence[tuple[Cell, ...]]) -> None:
        """Samples the batches; images and journal are written by a second thread while the next batch is computed."""
        if not todo:
            return
        prepared, texts = made
        pending: list[Future[None]] = []
        with ThreadPoolExecutor(max_workers=1) as writer:
            for cells, images in sample(prepared.phases, self.suite.grid, todo, texts):
                pending.append(writer.submit(self._write, candidate, identity, cells, images))
                self.progress.advance(len(cells), f"{self.suite.name} {candidate.name}")
                if len(pending) > WRITES_AHEAD:  # a full disk is noticed now, and memory stays bounded
                    pending.pop(0).result()
            for written in pending:
                written.result()

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

    def _write(self, candidate: Candidate, identity: str, cells: Sequence[Cell], images: Any) -> None:
        records = []
        for cell, image in zip(cells, images, strict=True):
            key = self._key(identity, cell)
            data = to_png(image)
            path = f"images/{slug(candidate.name)}/{slug(cell.prompt)}-seed{cell.seed}-cfg{cell.guidance:g}-{key[:8]}.png"
            write_atomically(self.folder / path, data)
            records.append(Sample(key=key, candidate=candidate.name, cell=cell, path=path,
                                  sha256=hashlib.sha256(data).hexdigest()))
        self.ledger.add(records)

    def _measure(self, candidate: Candidate, failures: list[Failure]) -> None:
        """Every declared metric on every image. A metric is computed for all images of a candidate or for none, so
        that a resumed run measures in the same batches as an unbroken one. Metrics are computed side by side."""
        samples = [self.ledger.samples[candidate.name, cell] for cell in self.cells]
        references = self._references()
        keys = [r.key for r in references] if references else [""] * len(samples)
        due = [name for name in self.suite.metrics if not self.ledger.measured(
            name, METRICS[name].version, self._settings.get(name, ""), zip(samples, keys, strict=True))]
        if not due:
            return
        images = self._images(samples)
        baseline = self._images(references) if references else None

        def scores(name: str) -> list[ImageScore]:
            return METRICS[name].measure(ImageSet(
                images=images, texts=tuple(self.prompts[c.prompt].text for c in self.cells), references=baseline,
                why_no_reference="" if references else f"the baseline {self.suite.baseline!r} was not sampled",
                device=self.options.device, clip=self._clip() if name == "clip_score" else None))

        # Side by side only where operations take one thread each; a large CLIP model wants the whole device.
        jobs = len(due) if small(self.suite.grid, self.options.device) else 1
        with pool_of_single_threads(jobs) if jobs > 1 else ThreadPoolExecutor(1) as pool:
            made = {name: pool.submit(scores, name) for name in due}
            for name in due:
                with self._stage(candidate, f"metric {name}", failures):
                    self.ledger.add([
                        Measurement(sample=s.key, candidate=s.candidate, cell=s.cell, metric=name, reference=key,
                                    version=METRICS[name].version, setting=self._settings.get(name, ""),
                                    values=score.values, labels=score.labels, details=score.details, missing=score.missing)
                        for s, score, key in zip(samples, made[name].result(), keys, strict=True)])

    def _references(self) -> list[Sample]:
        """The baseline's images of all cells under its present weights and this grid; empty unless all are there."""
        identity = self.ledger.identity(self.suite.baseline)
        found = [self.ledger.samples.get((self.suite.baseline, cell)) for cell in self.cells]
        present = [r for cell, r in zip(self.cells, found, strict=True)
                   if r is not None and r.key == self._key(identity, cell)]
        return present if len(present) == len(self.cells) else []

    def _images(self, samples: Sequence[Sample]) -> Any:
        return np.stack([from_png((self.folder / s.path).read_bytes()) for s in samples])

    def _clip(self) -> Any:
        if self._scorer is None:
            self._scorer = load_scorer(self.suite.clip, device=self.options.device)
            self._head["clip_definition"] = self._scorer.definition()
            self._save_head()
        return self._scorer

    def _clip_setting(self) -> str:
        """Hash of the CLIP model's file and architecture; a file that cannot be read fails when it is loaded."""
        architecture, _, path = self.suite.clip.rpartition(":")
        reference = self.suite.clip if self.suite.clip.startswith("zoo:") else path
        try:
            return short_hash([architecture, self.bench.content(reference)])
        except (OSError, ValueError):
            return short_hash([self.suite.clip])

    def _write_head(self, suite_file: str) -> None:
        specs = {spec.name: {"metric": name, "unit": spec.unit, "better": spec.better, "definition": spec.definition,
                             "version": METRICS[name].version}
                 for name in self.suite.metrics for spec in METRICS[name].values}
        before = self.ledger.head()
        kept = before.get("metric_settings") == self._settings
        self._head: dict[str, Any] = {
            "format": RUN_FORMAT, "suite": plain(self.suite), "suite_file": suite_file,
            "environment": environment(self.options.device) | {
                "threads_per_operation": 1 if small(self.suite.grid, self.options.device) else "torch's default"},
            "metrics": specs, "command": list(self.options.command),
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "sampling": setting(self.suite.grid, self.options.device), "metric_settings": self._settings,
            "clip_definition": before.get("clip_definition", "") if kept else "",
            "not_selected": [], "not_offered": self.not_offered, "earlier_environments": _earlier(before),
        }
        if self._head["earlier_environments"][-1:] == [self._head["environment"]]:
            self._head["earlier_environments"].pop()
        self._save_head()

    def leave_out(self, names: Sequence[str]) -> None:
        """Notes the candidates that were declared but not selected for this session."""
        self._head["not_selected"] = list(names)
        self._save_head()

    def _save_head(self) -> None:
        write_atomically(self.folder / "run.json", json.dumps(self._head, indent=1, ensure_ascii=False).encode())


def refusal(candidate: Candidate, device: str) -> str:
    """Why this device does not offer what the candidate asks for ("fp16" on a CPU), or an empty string."""
    reason = QUANTIZATION_MODES[candidate.quantization].why_not(device)
    return f"{candidate.quantization} is not offered on {device}: {reason}" if reason else ""


def _earlier(head: dict[str, Any]) -> list[Any]:
    """The different environments of earlier sessions in this folder, oldest first."""
    listed = head.get("earlier_environments")
    found: list[Any] = []
    for one in (*(listed if isinstance(listed, list) else ()), head.get("environment")):
        if one and one not in found:
            found.append(one)
    return found


def _hush() -> None:
    """Keeps back what torchao, diffusers and transformers say about each other's versions while they are imported;
    a user can do nothing about it, and it would stand in the middle of the progress bar."""
    for name in ("DIFFUSERS_VERBOSITY", "TRANSFORMERS_VERBOSITY"):
        os.environ.setdefault(name, "error")
    logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)
