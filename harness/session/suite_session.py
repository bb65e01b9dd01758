"""One suite within a session: its run is opened with the first candidate, and its verdict is computed once."""

from __future__ import annotations

import gc
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from harness.check import problems, remarks, resolved
from harness.declare import PROMOTED, Candidate, Suite, grid_of
from harness.declare.effective_grid import cells_of
from harness.declare.listing import first_of
from harness.executors.crew import NoWorkerError
from harness.executors.staff import Staff
from harness.executors.workers import is_elsewhere
from harness.hub import HubError
from harness.hub.availability import available
from harness.race.race import Race, first_cells
from harness.records import Cell, Failure, Latency, Look
from harness.run.batch_packing import in_order
from harness.run.device_refusals import refusal
from harness.run.progress import Display
from harness.run.suite_run import SuiteRun
from harness.run_folder.ledger import RunFolderError
from harness.session.live_page import LivePage
from harness.session.options import SessionOptions

if TYPE_CHECKING:
    from reports.analysis import AnalysedRun
    from reports.gates import Verdict


class SuiteSession:
    """One suite. `release_others` is called before its run is opened, `say` prints a line at once."""

    def __init__(self, suite: Suite, suite_file: str, options: SessionOptions, display: Display, *,
                 release_others: Callable[[], None] = lambda: None, say: Callable[[str], None] = lambda _: None) -> None:
        self.suite, self.suite_file, self.options, self.display = suite, suite_file, options, display
        self.problems = self._declared_wrong = problems(suite, options.root)
        self.written = suite
        """The suite as its file has it, before adapters that prompts name were given to the candidates."""
        self.staff: Staff | None = None
        """The workers of a session of several suites."""
        self.selected: list[str] = []
        self.timed_apart, self.raced = True, suite.budget is not None
        self.failures: list[Failure] = []
        self.looks: tuple[Look, ...] = ()
        self.page: Path | None = None
        self.trouble = ""
        self.unselected = ""
        self.live = self._new_live_page()
        self._release_others, self._say = release_others, say
        self._run: SuiteRun | None = None
        self._handed_over = False
        self._analysis: AnalysedRun | None = None
        self._refused: RunFolderError | NoWorkerError | None = None

    def fetch(self) -> None:
        """Fetches what the cache of the hub does not have of the suite's files. What cannot be fetched is a problem of the
        suite."""
        others = [sentence for sentence in self.problems if sentence not in self._declared_wrong]
        failed: list[str] = []
        try:
            available(self.written, allow_download=True, say=self._say)
        except HubError as error:
            failed = [f"suite {self.suite.name!r}: {error}"]
        self.suite = resolved(self.written, self.options.root)
        self._declared_wrong = problems(self.suite, self.options.root)
        self.problems = [*failed, *self._declared_wrong, *others]
        self.live = self._new_live_page()

    def _new_live_page(self) -> LivePage | None:
        return LivePage(self.folder, self.suite, budget=self.options.page_budget, fresh=self.options.fresh) if (
            self.options.live and not self.problems) else None

    def select(self, candidates: Sequence[Candidate], *, timed_apart: bool = True, raced: bool = True) -> None:
        """Sets which candidates will run, and whether the timing of all of them, and the race, follow as separate steps."""
        offered = [c for c in candidates if self.problems or not self._refusal_known(c)]
        self.selected = [c.name for c in offered]
        self.timed_apart, self.raced = timed_apart, raced and not self.problems and self.suite.budget is not None
        if not self.problems:
            self.display.expect(sum(_cells(self.suite, candidate) for candidate in offered))

    def go(self) -> AnalysedRun:
        """Runs the whole suite, without the candidates that the device refuses, as pytest does item by item. Problems of the
        model files are printed at once. A failed candidate does not stop the others."""
        ordered = in_order(self.suite)
        self.select(ordered)
        wrong = self.preflight()
        for sentence in (*remarks(self.written, self.options.root), *(wrong or self.run().remarks())):
            self._say(sentence)
        for candidate in (c for c in ordered if c.name in self.selected):
            self.candidate(candidate)
        if self.selected:
            self.race()
        self.costs()
        return self.report()

    @property
    def ran(self) -> bool:
        """Whether anything of the suite was selected and could be started."""
        return self._run is not None

    @property
    def folder(self) -> Path:
        """The suite's run folder."""
        return self.options.runs / str(self.suite.name)

    @property
    def failed(self) -> set[str]:
        """The names of the candidates that failed."""
        return {failure.candidate for failure in self.failures}

    def run(self) -> SuiteRun:
        """The open run. Raises RunFolderError if the run folder cannot be used, and NoWorkerError if only workers have the device
        and none can say what it is, on every call."""
        if self._refused is not None:
            raise self._refused
        if self._run is None:
            self._release_others()
            try:
                self._run = SuiteRun(self.suite, self.suite_file, self.options.of_run(), self.display, self._say, self.staff)
            except (RunFolderError, NoWorkerError) as error:
                self._refused = error
                raise
            self._leave_out(self._run.not_offered)
            for sentence in filter(None, (self._run.limit, self._run.not_counting, self._run.moved)):
                self._say(sentence)
            if any(gate.not_worse_than == PROMOTED for gate in self.suite.gates):
                from harness.promotion.copy_baseline import take_promoted

                take_promoted(self._baseline, self.folder)
            self._run.leave_out([c.name for c in self.suite.candidates
                                 if c.name not in self.selected and c.name not in self._run.not_offered])
            if self.live is not None and (address := self.live.opened()):
                self._say(f"live page: {address}")
        return self._run

    @property
    def _baseline(self) -> Path:
        """The path of this suite's baseline file, which may not exist."""
        return self.options.baselines / f"{self.suite.name}.json"

    def preflight(self) -> list[str]:
        """The problems of the declaration or, if there are none, of the model files."""
        if self.problems:
            return self.problems
        self._doing("reading the model files")
        return self.run().preflight()

    def remarks(self) -> list[str]:
        """What to know of a suite without problems before its first image; with a GPU also of its memory."""
        return [*remarks(self.written, self.options.root), *self.run().remarks()]

    def refusal(self, candidate: Candidate) -> str:
        """Why the device refuses the candidate, or an empty string."""
        if self._asks_workers and not self.problems:
            return self.run().not_offered.get(candidate.name, "")
        return refusal(candidate, self.options.device)

    @cached_property
    def _asks_workers(self) -> bool:
        """Whether only workers know what the device offers."""
        return is_elsewhere(self.options.device, self.options.workers)

    def _refusal_known(self, candidate: Candidate) -> str:
        """Why the device refuses the candidate, as far as it is known before any worker is started."""
        return "" if self._asks_workers else self.refusal(candidate)

    def _leave_out(self, not_offered: Collection[str]) -> None:
        """Takes candidates that turn out not to be offered from those that will run."""
        late = [c for c in self.suite.candidates if c.name in self.selected and c.name in not_offered]
        self.selected = [name for name in self.selected if name not in not_offered]
        if late:
            self.display.expect(-sum(_cells(self.suite, candidate) for candidate in late))

    def candidate(self, candidate: Candidate, cells: Iterable[Cell] | None = None) -> list[Failure]:
        """Runs one candidate on the given cells; by default on the whole grid or, with a budget, on the cells of the first
        look."""
        self._outdate()
        run = self.run()
        run.progress = self.display if self.live is None else self.live.watched(self.display, candidate.name)
        if cells is None and not self._handed_over:
            self._handed_over = True
            run.ahead([(one, first_cells(self.suite)) for one in in_order(self.suite) if one.name in self.selected])
        done = run.candidate(candidate, first_cells(self.suite) if cells is None else cells)
        failures = done if isinstance(done, list) else []
        self.failures += failures
        self._tick(f"{candidate.name} {'failed' if failures else 'is done'}")
        return failures

    def expect(self, images: int) -> None:
        """Announces that `images` more images will be sampled than were announced before."""
        self.display.expect(images)

    def race(self) -> list[Failure]:
        """Runs the race of a suite with a budget, without candidates that failed before. Returns new failures only."""
        self._outdate()
        if self.suite.budget is None:
            return []
        race = Race(self, self.suite.budget)
        if self.live is not None:
            self.live.looks = race.asking.looks
        try:
            return race.go()
        finally:
            self._analysis, self.looks = None, tuple(race.asking.looks)

    def times_with(self, candidate: Candidate) -> bool:
        """Whether the candidates are timed after this one, because no separate timing and no race follow."""
        return not self.timed_apart and not self.raced and self.selected[-1:] == [candidate.name]

    def costs(self) -> list[Failure]:
        """Times the selected candidates that were sampled; after a race, those that it did not drop (see `_worth_timing`).
        Candidates that failed before are not tried again."""
        self._outdate()
        run = self.run()
        self._tick("timing the candidates")
        names = [name for name in self._worth_timing() if run.sampled(name)]
        if why := run.why_timed_again(names):
            self._say(f"{self.suite.name}: timing {len(names)} candidates together again: {why}")
        elif untimed := run.untimed(names):
            self._say(f"{self.suite.name}: trying to time {first_of(untimed)} once more, which failed in an earlier session")
        failures = run.costs(names)
        self.failures += failures
        return failures

    def _worth_timing(self) -> list[str]:
        """The candidates whose cost can still matter: those that remained in the race to its end, those that the pick is compared
        with, and those that a gate names. Without a race, the selected ones and, also from an earlier session, those that they
        are compared with: only what is timed together is compared."""
        from reports.read.interim_looks import exits, last_candidates
        from reports.verdict.candidates import controls

        suite = self.run().suite
        compared = {*controls(suite), *(name for gate in suite.gates for name in (*gate.candidates, gate.not_worse_than))}
        if not self.looks:
            return [c.name for c in suite.candidates if self.selected and not self.refusal(c)
                    and (c.name in self.selected or c.name in compared)]
        declared = {c.name for c in self.suite.candidates}
        worth_timing = {*last_candidates(self.looks)} - exits(suite, self.looks).keys() | compared
        return [c.name for c in suite.candidates
                if c.name in worth_timing and (c.name in self.selected or c.name not in declared)]

    def latency(self, candidate: Candidate) -> tuple[float, ...]:
        """Total seconds per image of the candidate's timed rounds; empty if it was not timed."""
        timed = self.timing(candidate)
        return timed.seconds["total"] if timed else ()

    def timing(self, candidate: Candidate) -> Latency | None:
        """The candidate's rounds with the time and the environment in which they were taken; None if it was not timed."""
        return self.run().ledger.latency(candidate.name)

    def reused(self) -> str:
        """How many images and timings come from earlier sessions, in a line."""
        run = self.run()
        images = run.images_in_all
        timings = [latency for c in run.suite.candidates if (latency := run.ledger.latency(c.name)) is not None]
        earlier = sorted(latency.timed_at[:16] for latency in timings if latency.timed_at < run.opened_at)
        when = f" (of {earlier[0] or 'a time not on record'} UTC; --retime takes them again)" if earlier else ""
        return (f"{self.suite.name}: reused {images - run.images_made} of {images} images and {len(earlier)} of {len(timings)} "
                f"timings{when}")

    def verdicts(self, gate: str) -> list[Verdict]:
        """The verdicts of one gate."""
        return [v for v in self.analysis().verdicts if v.gate == gate]

    def waives(self, gate: str) -> bool:
        """Whether what a gate could not measure blocks nothing: nothing was promoted yet, or the pick is the baseline itself."""
        from reports.gates.decision import waived

        unmeasured = [v for v in self.verdicts(gate) if v.status == "not_measured"]
        return bool(unmeasured) and all(waived(self.analysis(), v) for v in unmeasured)

    def analysis(self) -> AnalysedRun:
        """The run as read from its folder, with its recommendation and verdicts. It is computed once, until more is sampled."""
        if self._analysis is None:
            from reports.analysis import load_run

            run = self.run()
            if self.unselected:
                run.leave_uncounted(self.unselected)
            self._doing("judging")
            self._analysis = load_run(self.folder)
        return self._analysis

    def report(self) -> AnalysedRun:
        """Writes the page. Returns the run that it shows."""
        from reports import write_page

        analysed = self.analysis()
        recommendation, verdicts = analysed.recommendation, analysed.verdicts
        self._doing("writing the page")
        self.page = write_page(analysed, recommendation, verdicts, budget=self.options.page_budget)
        if self.live is not None:
            self.live.finished = True
        return analysed

    def shared_cache(self) -> str:
        """One line on the images read from and written to the shared cache; empty without a cache."""
        facts = self.run().gallery.cache.facts()
        if not (facts.hits or facts.misses or facts.stored or facts.errors):
            return ""
        odd = "".join(f"; {count} x {reason}" for reason, count in facts.reasons.items())
        return f"shared cache: {facts.hits} images found, {facts.stored} given{odd}"

    def release(self) -> None:
        """Releases this suite's models before another suite's are loaded. In a process of the run's own, what is left then is
        exempt from collection: libraries of metrics and pages, which the next suite's timing would search again and again."""
        if self._run is not None:
            self._run.release()
            if self.options.own_process:
                gc.freeze()

    def close(self) -> None:
        """Closes the run folder."""
        if self._run is not None:
            self._run.close()

    def _outdate(self) -> None:
        """The run goes on: what was read back of it, and a page that was written, are no longer the last word."""
        self._analysis = self.page = None
        if self.live is not None:
            self.live.finished = False

    def _doing(self, what: str) -> None:
        self.display.begin(f"{self.suite.name}: {what}")

    def _tick(self, doing: str) -> None:
        self._doing(doing)
        if self.live is not None:
            self.live.tick(doing)


def _cells(suite: Suite, candidate: Candidate) -> int:
    """How many images are asked of a candidate at first."""
    first, grid = first_cells(suite), grid_of(suite, candidate)
    own = set(map(float, grid.guidance_scales))
    return cells_of(grid) if first is None else sum(cell.guidance in own for cell in first)
