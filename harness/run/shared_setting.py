"""What a process needs to make images of a suite without a run folder: libraries and flags as in a run, a maker, the checks
before the first image, and what the keys of images follow from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.cache import ImageCache
from harness.declare import Candidate, Suite
from harness.declare.picture_uses import PICTURES, files_used
from harness.declare.same_text import prompts_hash
from harness.executors.contract import Job
from harness.executors.libraries import load_libraries
from harness.executors.maker import Maker
from harness.executors.quiet import quiet_libraries
from harness.materialise import WiderFormats, Workbench
from harness.probes.c_allocator import keep_freed_memory
from harness.probes.environment import environment
from harness.probes.fits import cap_where_memory_spills
from harness.records.reusable import chunked_places
from harness.run.announced import Announcements
from harness.run.device_refusals import alone_problems
from harness.run.memory_problems import memory_problems
from harness.run.preflight import file_problems
from harness.run.prompt_reading import PromptReadings, read_grid
from harness.run.shared_work import NotStoredError, Sampled
from harness.sampling import set_determinism, setting, threads_per_operation


@dataclass(frozen=True, kw_only=True)
class SharedSetting:
    """`limit` says what is kept free on the device, if anything is."""

    suite: Suite
    job: Job
    maker: Maker
    limit: str
    _readings: PromptReadings = field(default_factory=PromptReadings)

    @classmethod
    def of(cls, suite: Suite, suite_file: str, device: str, root: Path) -> SharedSetting:
        """Loads libraries and sets flags, as for a run in a process of its own."""
        quiet_libraries()
        load_libraries(clip=False, own_process=True)
        set_determinism(device)
        keep_freed_memory()
        limit, wider = cap_where_memory_spills(device), WiderFormats()
        facts = environment(device) | {"threads_per_operation": threads_per_operation(suite.grid, device)}
        job = Job(suite=suite, suite_file=suite_file, root=str(root), device=device, environment=facts)
        return cls(suite=suite, job=job, limit=limit, maker=Maker(grid=suite.grid, new_bench=lambda: Workbench.for_grid(
            suite.grid, device=device, root=root, wider=wider)))

    @property
    def head(self) -> Mapping[str, Any]:
        """What of run.json the keys follow from."""
        return {"sampling": setting(self.suite.grid, self.job.device, self.job.environment["device_name"]),
                "environment": self.job.environment,
                PICTURES: {file: self.maker.bench.content(file) for file in files_used(self.suite)}}

    def problems(self, candidates: Sequence[Candidate], cache: ImageCache, *, take_over: bool) -> list[str]:
        """What stands against making images of these candidates: as in a run, and that others announced them with what leads to
        other images. Announces them if nothing does, and in any case with `take_over`."""
        bench, suite = self.maker.bench, self.suite
        equal = bench.equalities(list(candidates))
        wrong = file_problems(suite, list(candidates), bench, equal, lambda *_: None, self._text_problem)
        wrong += memory_problems(suite, candidates, bench)
        wrong += alone_problems(suite.name, candidates, workers="", cache="given")
        if wrong:
            return wrong
        announcements = Announcements(cache=cache, suite=suite, environment=self.job.environment, sampling=self.head["sampling"])

        def refusals() -> list[str]:
            return [] if take_over else self._refusals({
                c.name: other for c in candidates if (other := announcements.other(c, bench.weights(c)))})

        if wrong := refusals():
            return wrong
        if not all(announcements.put(candidate, bench.weights(candidate), over=take_over) for candidate in candidates):
            reasons = "; ".join(cache.facts().reasons) or "it gave no reason"
            raise NotStoredError(f"the shared cache takes nothing: {reasons}. All workers need to write there; nothing was made")
        # Of several that found nothing before, one announced a candidate.
        return refusals()

    def _refusals(self, others: Mapping[str, str]) -> list[str]:
        """What is said of candidates that another process announced with what leads to other images."""
        suite = self.suite
        if others:
            name, other = next(iter(others.items()))
            more = f" (and {len(others) - 1} more)" if len(others) > 1 else ""
            return [f"suite {suite.name!r}, {name}{more}: the images of this process would be others than those in the cache, "
                    f"{other}. A run finds images of its own versions, device model, suite and files alone: take the same, or "
                    "use another cache. If these are to count from now on, give --new-environment"]
        return []

    def sampled(self, candidate: Candidate) -> Sampled:
        """What is sampled of a candidate: without its post-steps, which the run applies."""
        bench = self.maker.bench
        bench.inspect(candidate)
        reading = self._readings.of(candidate, read_grid(self.suite, candidate), bench)
        rows = [] if reading is None else [reading.row]
        return Sampled(weights=bench.sampled_weights(candidate),
                       chunked=chunked_places(rows, prompts_hash(self.suite.grid.prompts)))

    def _text_problem(self, candidate: Candidate) -> str:
        reading = self._readings.of(candidate, read_grid(self.suite, candidate), self.maker.bench)
        return "" if reading is None else reading.problem
