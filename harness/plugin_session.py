"""One benchmark session of pytest: the suites that were collected, their runs, and the verdicts read back from them.
Only the plugin uses it."""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from harness.check import problems
from harness.declare import Candidate, Grid, Suite
from harness.ledger import RunFolderError
from harness.progress import Bar
from harness.records import Failure
from harness.run import Options, SuiteRun, refusal

if TYPE_CHECKING:
    from reports.decision import Recommendation
    from reports.gates import Verdict
    from reports.load import Run

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
        self.exact = bool(config.getoption("sweetspot_exact"))
        self.suites: list[SuiteSession] = []
        self.bar = Bar(0)

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

    def select(self, chosen: Sequence[tuple[SuiteSession, Candidate]], timed: Sequence[SuiteSession]) -> None:
        """Which candidates pytest will run, after -k and the like, and of which suites it will run the timing by itself."""
        for suite in self.suites:
            suite.selected = [c.name for of, c in chosen if of is suite and (of.problems or not of.refusal(c))]
            suite.timed_apart = suite in timed
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
        self.timed_apart = True
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
            self._run.leave_out([c.name for c in self.suite.candidates
                                 if c.name not in self.selected and c.name not in self._run.not_offered])
        return self._run

    def preflight(self) -> list[str]:
        """What the model files say against the suite, before the first image."""
        return self.problems or self.run().preflight()

    def refusal(self, candidate: Candidate) -> str:
        """Why the device does not offer the candidate, or an empty string."""
        return refusal(candidate, self.session.options.device)

    def candidate(self, candidate: Candidate) -> list[Failure]:
        """Runs one candidate; the bar follows."""
        self._read = None
        run = self.run()
        run.progress = self.session.bar
        done = run.candidate(candidate)
        return done if isinstance(done, list) else []

    def times_with(self, candidate: Candidate) -> bool:
        """Whether the candidates are timed when this one is done: -k left out the item that does it."""
        return not self.timed_apart and self.selected[-1:] == [candidate.name]

    def costs(self) -> list[Failure]:
        """Times the selected candidates that were sampled; what failed before is not tried again."""
        self._read = None
        run = self.run()
        return run.costs([name for name in self.selected if run.sampled(name)])

    def latency(self, candidate: Candidate) -> tuple[float, ...]:
        """Total seconds per image of the candidate's timed rounds; empty when it was not timed."""
        timed = self.run().ledger.latency(candidate.name)
        return timed.seconds["total"] if timed else ()

    def verdicts(self, gate: str) -> list[Verdict]:
        """The verdicts of one gate."""
        return [v for v in self._judged()[2] if v.gate == gate]

    def report(self) -> Recommendation:
        """Writes the page and returns the recommendation."""
        from reports import write_page

        recommendation = self._judged()[1]
        self.page = write_page(self.folder)
        return recommendation

    def summary(self, colour: bool) -> list[str]:
        """Table, sentence and page path as lines of text."""
        from rich.console import Console

        from reports import terminal_table

        run, recommendation, verdicts = self._judged()
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

    def _judged(self) -> tuple[Run, Recommendation, list[Verdict]]:
        if self._read is None:
            from reports import judge, load_run, recommend

            self.run()
            run = load_run(self.folder)
            recommendation = recommend(run)
            self._read = (run, recommendation, judge(run, recommendation))
        return self._read


def _cells(suite: Suite) -> int:
    grid = suite.grid
    return len(grid.prompts) * len(grid.seeds) * len(grid.guidance_scales)
