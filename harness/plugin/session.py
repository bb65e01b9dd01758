"""One benchmark session of pytest: the suites that were collected, their runs, and the verdicts read back from them.
Only the plugin uses it."""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from harness.check import problems
from harness.declare import PROMOTED, Candidate, Grid, Suite
from harness.plugin.live import LivePages
from harness.promotion.baseline import take_promoted
from harness.race.race import Race, first_cells
from harness.records import Cell, Failure, Look
from harness.run.progress import Bar
from harness.run.suite_run import Options, SuiteRun, refusal
from harness.run_folder.ledger import RunFolderError

if TYPE_CHECKING:
    from reports.gates import Verdict
    from reports.read.run import Run
    from reports.verdict.recommendation import Recommendation

_SESSION: Final = pytest.StashKey["Session"]()


def session_for(config: pytest.Config) -> Session:
    """The session of this pytest run, made when first asked for."""
    if _SESSION not in config.stash:
        config.stash[_SESSION] = Session(config)
    return config.stash[_SESSION]


class Session:
    """All suites of one `pytest --benchmark`."""

    def __init__(self, config: pytest.Config) -> None:
        root = Path(config.invocation_params.dir)
        self.options = Options(
            root=root, runs=root / config.getoption("sweetspot_runs"), device=config.getoption("sweetspot_device"),
            fresh=config.getoption("sweetspot_fresh"), verify=config.getoption("sweetspot_verify"),
            cache=config.getoption("sweetspot_cache"), command=("pytest", *map(str, config.invocation_params.args)))
        self.baselines = root / config.getoption("sweetspot_baselines")
        self.page_budget = float(config.getoption("sweetspot_page_budget"))
        self.exact = bool(config.getoption("sweetspot_exact"))
        self.suites: list[SuiteSession] = []
        self.bar, self.live = Bar(0), LivePages(config)

    def add(self, declared: object, suite_file: str) -> SuiteSession | None:
        """Takes in one suite file's SUITE; None when it is not a Suite at all."""
        if not isinstance(declared, Suite):
            return None
        if self.exact and isinstance(declared.grid, Grid):
            declared = replace(declared, grid=replace(declared.grid, batch_size=1))
        suite = SuiteSession(self, declared, suite_file)
        if any(other.suite.name == declared.name for other in self.suites):
            suite.problems.append(f"two suite files declare the name {declared.name!r}; they would share one run folder")
        self.suites.append(suite)
        return suite

    def select(self, chosen: Sequence[tuple[SuiteSession, Candidate]], timed: Sequence[SuiteSession],
               raced: Sequence[SuiteSession] = ()) -> None:
        """Which candidates pytest will run, after -k and the like, and of which suites it will run the timing by itself, and
        the race."""
        for suite in self.suites:
            suite.selected = [c.name for of, c in chosen if of is suite and (of.problems or not of.refusal(c))]
            suite.timed_apart, suite.raced = suite in timed, suite in raced
        self.bar = Bar(sum(_cells(of.suite) for of, c in chosen if not of.problems and not of.refusal(c)))

    def summary(self, colour: bool) -> list[str]:
        """The closing lines of the terminal: a table, a sentence and the page for each suite that ran."""
        lines = []
        for suite in (s for s in self.suites if s.ran):
            try:
                lines += suite.summary(colour)
            except Exception as error:
                lines.append(f"{suite.suite.name}: no summary and no page ({type(error).__name__}: {error}); "
                             f"`sweetspot report {suite.folder}` tries again")
        return lines

    def close(self) -> None:
        """Lets go of every run folder."""
        for suite in self.suites:
            suite.close()


class SuiteSession:
    """One suite within the session; its run is opened with the first candidate."""

    def __init__(self, session: Session, suite: Suite, suite_file: str) -> None:
        self.session, self.suite, self.suite_file = session, suite, suite_file
        self.problems = problems(suite, session.options.root)
        self.selected: list[str] = []
        self.timed_apart, self.raced = True, suite.budget is not None
        self.failed: set[str] = set()
        self.looks: tuple[Look, ...] = ()
        self.looks_so_far: Sequence[Look] | None = None if suite.budget is None else ()
        self.items: dict[str, pytest.Item] = {}
        self._run: SuiteRun | None = None
        self._read: tuple[Run, Recommendation, list[Verdict]] | None = None
        self._refused: RunFolderError | None = None
        self.page: Path | None = None

    @property
    def ran(self) -> bool:
        """Whether anything of the suite was asked for and could be started."""
        return self._run is not None

    @property
    def folder(self) -> Path:
        """The suite's run folder."""
        return self.session.options.runs / self.suite.name

    def run(self) -> SuiteRun:
        """The open run."""
        if self._refused is not None:
            raise self._refused
        if self._run is None:
            for other in self.session.suites:
                other.release()
            try:
                self._run = SuiteRun(self.suite, self.suite_file, self.session.options, self.session.bar)
            except RunFolderError as error:
                self._refused = error
                raise
            if any(gate.not_worse_than == PROMOTED for gate in self.suite.gates):
                take_promoted(self._baseline, self.folder)
            self._run.leave_out([c.name for c in self.suite.candidates
                                 if c.name not in self.selected and c.name not in self._run.not_offered])
            self.session.live.opened(self)
        return self._run

    @property
    def _baseline(self) -> Path:
        """The file of what was promoted last from this suite, whether or not there is one."""
        folder: Path = self.session.baselines
        return folder / f"{self.suite.name}.json"

    def preflight(self) -> list[str]:
        """What the model files say against the suite, before the first image."""
        return self.problems or self.run().preflight()

    def refusal(self, candidate: Candidate) -> str:
        """Why the device does not offer the candidate, or an empty string."""
        return refusal(candidate, self.session.options.device)

    def candidate(self, candidate: Candidate, cells: Iterable[Cell] | None = None) -> list[Failure]:
        """Runs one candidate on the cells given; without, on the whole grid or, where there is a budget, on what its first look
        asks for. The bar follows."""
        self._read = None
        run = self.run()
        run.progress = self.session.live.watched(self, candidate.name)
        done = run.candidate(candidate, first_cells(self.suite) if cells is None else cells)
        failures = done if isinstance(done, list) else []
        self.failed |= {failure.candidate for failure in failures}
        self.session.live.tick(self, f"{candidate.name} {'failed' if failures else 'is done'}")
        return failures

    def expect(self, images: int) -> None:
        """So many images more than the bar knew of; it is drawn anew, for its total is fixed while it is shown."""
        bar = self.session.bar
        shown = bar.rich is not None
        bar.stop()
        bar.total += images
        if shown:
            bar.start()

    def race(self) -> list[Failure]:
        """The race of a suite that has a budget; what failed in a candidate's own item is not raced, nor told again."""
        self._read = None
        if self.suite.budget is None:
            return []
        race = Race(self, self.suite.budget)
        self.looks_so_far = race.asking.looks
        try:
            return race.go()
        finally:
            self._read, self.looks = None, tuple(race.asking.looks)

    def times_with(self, candidate: Candidate) -> bool:
        """Whether the candidates are timed when this one is done: -k left out the item that does it, and the race."""
        return not self.timed_apart and not self.raced and self.selected[-1:] == [candidate.name]

    def costs(self) -> list[Failure]:
        """Times the selected candidates that were sampled, after a race those that it did not drop (see `_worth_timing`); what
        failed before is not tried again."""
        self._read = None
        run = self.run()
        self.session.live.tick(self, "the candidates are being timed")
        return run.costs([name for name in self._worth_timing() if run.sampled(name)])

    def _worth_timing(self) -> list[str]:
        """The candidates whose cost can still matter: those that a race took to its end, what the pick is compared with, and
        those that a gate names. Without a race the selected ones."""
        if not self.looks:
            return self.selected
        from reports.read.looks import exits, last_candidates
        from reports.verdict.candidates import controls

        suite = self.run().suite
        declared = {c.name for c in self.suite.candidates}
        named = {name for gate in suite.gates for name in (*gate.candidates, gate.not_worse_than)}
        held = {*last_candidates(self.looks)} - exits(suite, self.looks).keys() | {*controls(suite), *named}
        return [c.name for c in suite.candidates if c.name in held and (c.name in self.selected or c.name not in declared)]

    def latency(self, candidate: Candidate) -> tuple[float, ...]:
        """Total seconds per image of the candidate's timed rounds; empty when it was not timed."""
        timed = self.run().ledger.latency(candidate.name)
        return timed.seconds["total"] if timed else ()

    def verdicts(self, gate: str) -> list[Verdict]:
        """The verdicts of one gate."""
        return [v for v in self.judged()[2] if v.gate == gate]

    def nothing_promoted(self, gate: str) -> bool:
        """Whether a gate asks for what was promoted last while nothing was yet: on the way to the first promotion it cannot be
        judged, and must not stand in its way."""
        asks = any(g.name == gate and g.not_worse_than == PROMOTED for g in self.suite.gates)
        return asks and not self._baseline.exists()

    def report(self) -> Recommendation:
        """Writes the page and returns the recommendation."""
        from reports import write_page

        run, recommendation, verdicts = self.judged()
        self.page = write_page(run, recommendation, verdicts, budget=self.session.page_budget)
        return recommendation

    def summary(self, colour: bool) -> list[str]:
        """Table, sentence and page path as lines of text."""
        from rich.console import Console

        from reports import terminal_table

        run, recommendation, verdicts = self.judged()
        if self.page is None:
            self.report()
        text = io.StringIO()
        width = max(shutil.get_terminal_size((120, 40)).columns, 80)
        console = Console(file=text, width=width, force_terminal=colour and sys.platform != "win32", highlight=False)
        console.print(terminal_table(run, recommendation, verdicts))
        return [*text.getvalue().rstrip().splitlines(), *self._shared(), f"page: {self.page}", ""]

    def _shared(self) -> list[str]:
        """What the shared cache gave and took, where there is one."""
        facts = self.run().gallery.cache.facts()
        if not (facts.hits or facts.misses or facts.stored or facts.errors):
            return []
        odd = "".join(f"; {count} x {reason}" for reason, count in facts.reasons.items())
        return [f"shared cache: {facts.hits} images found, {facts.stored} given{odd}"]

    def release(self) -> None:
        """Lets go of this suite's models before another one's are loaded."""
        if self._run is not None:
            self._run.release()

    def close(self) -> None:
        """Lets go of the run folder."""
        if self._run is not None:
            self._run.close()

    def judged(self) -> tuple[Run, Recommendation, list[Verdict]]:
        """The run as read back, its recommendation and the verdicts on its gates."""
        if self._read is None:
            from reports import judge, load_run, recommend

            self.run()
            run = load_run(self.folder)
            recommendation = recommend(run)
            self._read = (run, recommendation, judge(run, recommendation))
        return self._read


def _cells(suite: Suite) -> int:
    first = first_cells(suite)
    grid = suite.grid
    return len(grid.prompts) * len(grid.seeds) * len(grid.guidance_scales) if first is None else len(first)
