"""One suite in one run folder: the order of the stages, written once. An exception becomes a Failure record, and the
rest goes on."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import statistics
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from harness.declare import Candidate, Suite, plain
from harness.ledger import Ledger
from harness.materialise import Prepared, Workbench
from harness.metrics import METRICS, ImageScore, ImageSet
from harness.metrics.clip import load_scorer
from harness.probes.clock import Stopwatch
from harness.probes.environment import environment
from harness.probes.memory import MemoryProbe
from harness.probes.nvml import find_gpu
from harness.progress import Progress
from harness.quantize import QUANTIZATION_MODES
from harness.records import Cell, Failure, Finished, Latency, Measurement, Memory, Sample, write_atomically
from harness.sample import TextState, batches, encode, from_png, sample, sample_key, set_determinism, time_one, to_png

RUN_FORMAT = 1
WARMUP_ROUNDS = 1
WRITES_AHEAD = 4


class RunInUseError(RuntimeError):
    """Another process is writing to the run folder."""


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
        self.bench = Workbench(device=options.device, root=options.root)
        self.not_offered = {c.name: reason for c in suite.candidates if (reason := refusal(c, options.device))}
        self._lock = _lock(self.folder)
        _sweep(self.folder)
        if options.fresh:
            _empty(self.folder)
        _hush()
        set_determinism()
        self.ledger = Ledger(self.folder)
        self._texts: dict[str, TextState] = {}
        self._scorer: Any = None
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
            except Exception as error:
                found.append(f"suite {self.suite.name!r}, candidate {candidate.name!r}: {error}")
        return found

    def candidate(self, candidate: Candidate) -> Finished | list[Failure]:
        """Takes one candidate through all stages; what is in the journal already, and whole, is not done again."""
        started = time.perf_counter()
        failures: list[Failure] = []
        with self._stage(candidate, "read the model files", failures):
            weights = self.bench.weights(candidate)
            self.ledger.announce(weights)
        if failures:
            return self._give_up(candidate, failures)
        todo = self._missing(candidate, weights.identity)
        reused = len(self.cells) - sum(len(batch) for batch in todo)
        self.progress.advance(reused, f"{self.suite.name} {candidate.name}")
        if todo or self.ledger.latency(candidate.name) is None:
            with self._stage(candidate, "materialise", failures):
                prepared = self.bench.prepare(candidate)
                self.ledger.cover(candidate.name, prepared.coverage)
            if failures:
                return self._give_up(candidate, failures)
            with self._stage(candidate, "sample", failures):
                self._sample(candidate, weights.identity, prepared, todo)
            if not failures and self.ledger.latency(candidate.name) is None:
                with self._stage(candidate, "time", failures):
                    self._time(candidate, prepared)
        if not failures:
            self._measure(candidate, failures)
        if failures:
            return failures
        done = Finished(candidate=candidate.name, identity=weights.identity, sampled=len(self.cells) - reused,
                        reused=reused, seconds=time.perf_counter() - started)
        self.ledger.add([done])
        return done

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
            self.ledger.add([failure])

    def _missing(self, candidate: Candidate, identity: str) -> list[tuple[Cell, ...]]:
        """Batches of which at least one image is absent, altered or of other weights: they are sampled whole again."""
        return [batch for batch in self.batches
                if not all(self._present(candidate, identity, cell) for cell in batch)]

    def _present(self, candidate: Candidate, identity: str, cell: Cell) -> bool:
        key = sample_key(identity, self.suite.grid, self.prompts[cell.prompt], cell, self.options.device)
        return self.ledger.adopt(candidate.name, cell, key)

    def _sample(self, candidate: Candidate, identity: str, prepared: Prepared, todo: Sequence[tuple[Cell, ...]]) -> None:
        """Samples the batches; images and journal are written by a second thread while the next batch is computed."""
        if not todo:
            return
        grid = self.suite.grid
        if prepared.text_identity not in self._texts:
            texts = [t for p in grid.prompts for t in (p.text, p.negative)]
            self._texts[prepared.text_identity] = encode(prepared.pipeline, texts)
        text = self._texts[prepared.text_identity]
        pending: list[Future[None]] = []
        with ThreadPoolExecutor(max_workers=1) as writer:
            for cells, images in sample(prepared.pipeline, grid, todo, text):
                pending.append(writer.submit(self._write, candidate, identity, cells, images))
                self.progress.advance(len(cells), f"{self.suite.name} {candidate.name}")
                if len(pending) > WRITES_AHEAD:  # a full disk is noticed now, and memory stays bounded
                    pending.pop(0).result()
            for written in pending:
                written.result()

    def _write(self, candidate: Candidate, identity: str, cells: Sequence[Cell], images: Any) -> None:
        records = []
        for cell, image in zip(cells, images, strict=True):
            key = sample_key(identity, self.suite.grid, self.prompts[cell.prompt], cell, self.options.device)
            data = to_png(image)
            path = f"images/{_slug(candidate.name)}/{_slug(cell.prompt)}-seed{cell.seed}-cfg{cell.guidance:g}-{key[:8]}.png"
            write_atomically(self.folder / path, data)
            records.append(Sample(key=key, candidate=candidate.name, cell=cell, path=path,
                                  sha256=hashlib.sha256(data).hexdigest()))
        self.ledger.add(records)

    def _time(self, candidate: Candidate, prepared: Prepared) -> None:
        """Latency and peak memory at batch 1, as a user would run it, apart from the batched sampling."""
        grid = self.suite.grid
        guidance = statistics.median_high([g for g in grid.guidance_scales if g != 1] or grid.guidance_scales)
        cell = Cell(prompt=grid.prompts[0].id, seed=grid.seeds[0], guidance=guidance)
        for _ in range(WARMUP_ROUNDS):
            time_one(prepared.pipeline, grid, cell, Stopwatch(self.options.device))
        seconds: dict[str, list[float]] = {"total": [], "text": [], "denoise": [], "decode": []}
        with MemoryProbe(self.options.device, find_gpu(self.options.device)) as memory:
            for _ in range(self.suite.latency_rounds):
                watch = Stopwatch(self.options.device)
                time_one(prepared.pipeline, grid, cell, watch)
                for phase, value in watch.seconds.items():
                    seconds[phase].append(value)
                seconds["total"].append(sum(watch.seconds.values()))
        self.ledger.add([
            Latency(candidate=candidate.name, batch_size=1, warmup_rounds=WARMUP_ROUNDS, guidance=guidance,
                    seconds={phase: tuple(values) for phase, values in seconds.items()}),
            Memory(candidate=candidate.name, readings=memory.readings())])

    def _measure(self, candidate: Candidate, failures: list[Failure]) -> None:
        """Every declared metric on every image. A metric is computed for all images of a candidate or for none, so
        that a resumed run measures in the same batches as an unbroken one."""
        samples = [self.ledger.samples[candidate.name, cell] for cell in self.cells]
        references = [self.ledger.samples.get((self.suite.baseline, cell)) for cell in self.cells]
        whole = all(r is not None for r in references)
        due = [name for name in self.suite.metrics if not self.ledger.measured(
            name, METRICS[name].version, samples, [r.key if r and whole else "" for r in references])]
        if not due:
            return
        images = self._images(samples)
        baseline = self._images([r for r in references if r is not None]) if whole else None
        for name in due:
            with self._stage(candidate, f"metric {name}", failures):
                scores = METRICS[name].measure(ImageSet(
                    images=images, texts=tuple(self.prompts[c.prompt].text for c in self.cells), references=baseline,
                    why_no_reference="" if whole else f"the baseline {self.suite.baseline!r} was not sampled",
                    device=self.options.device, clip=self._clip() if name == "clip_score" else None))
                self.ledger.add([_measurement(name, s, score, r.key if r and whole else "")
                                 for s, score, r in zip(samples, scores, references, strict=True)])

    def _images(self, samples: Sequence[Sample]) -> Any:
        return np.stack([from_png((self.folder / s.path).read_bytes()) for s in samples])

    def _clip(self) -> Any:
        if self._scorer is None:
            self._scorer = load_scorer(self.suite.clip, device=self.options.device)
            self._head["clip_definition"] = self._scorer.definition()
            self._save_head()
        return self._scorer

    def _write_head(self, suite_file: str) -> None:
        specs = {spec.name: {"metric": name, "unit": spec.unit, "better": spec.better, "definition": spec.definition,
                             "version": METRICS[name].version}
                 for name in self.suite.metrics for spec in METRICS[name].values}
        before = self.ledger.head()
        self._head: dict[str, Any] = {
            "format": RUN_FORMAT, "suite": plain(self.suite), "suite_file": suite_file,
            "environment": environment(self.options.device), "metrics": specs, "command": list(self.options.command),
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "clip_definition": before.get("clip_definition", ""), "not_selected": [], "not_offered": self.not_offered,
            "earlier_environments": before.get("earlier_environments", []),
        }
        was = before.get("environment")
        if was and was != self._head["environment"] and was not in self._head["earlier_environments"]:
            self._head["earlier_environments"].append(was)
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


def _measurement(metric: str, of: Sample, score: ImageScore, reference: str) -> Measurement:
    return Measurement(sample=of.key, candidate=of.candidate, cell=of.cell, metric=metric, version=METRICS[metric].version,
                       values=score.values, labels=score.labels, details=score.details, missing=score.missing,
                       reference=reference)


def _hush() -> None:
    """Keeps back what torchao, diffusers and transformers say about each other's versions while they are imported;
    a user can do nothing about it, and it would stand in the middle of the progress bar."""
    for name in ("DIFFUSERS_VERBOSITY", "TRANSFORMERS_VERBOSITY"):
        os.environ.setdefault(name, "error")
    logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)


def _slug(text: str) -> str:
    """A name any file system takes: letters, digits and "=._-", at most 60 characters."""
    return re.sub(r"[^A-Za-z0-9=._-]+", "-", text).strip(".-")[:60] or "unnamed"


def _lock(folder: Path) -> Any:
    """An exclusive lock on the run folder, held until closed; raises RunInUseError when another process has it."""
    folder.mkdir(parents=True, exist_ok=True)
    file = (folder / ".lock").open("w")
    if sys.platform != "win32":
        import fcntl

        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.close()
            raise RunInUseError(f"another run is writing to {folder}; wait for it, or give --runs-dir another folder") from error
    return file


def _sweep(folder: Path) -> None:
    """Removes the temporary files of a killed run; the lock is held, so nobody is writing them any more."""
    for left in folder.rglob(".*.tmp"):
        left.unlink(missing_ok=True)


def _empty(folder: Path) -> None:
    """Removes what a run wrote, and nothing else: journal, head, pages and images."""
    for name in ("journal.jsonl", "run.json", "report.html", "report.md", "table.csv"):
        (folder / name).unlink(missing_ok=True)
    for image in sorted((folder / "images").rglob("*.png")):
        image.unlink()
