"""`sweetspot calibrate`: an A/A run of a suite's baseline, and the margins that the suite's gates need according to it."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from harness.commands.downloads import add_download
from harness.commands.suite_file import sound_suite
from harness.commands.terminal import add_examples, say
from harness.declare import Grid, Suite, grid_of
from harness.declare.effective_grid import cells_of, sampling_block
from harness.declare.listing import LONGEST_MESSAGE, first_of
from harness.declare.suite import CALIBRATION
from harness.records.harmless_text import printable

if TYPE_CHECKING:
    from rich.table import Table

    from harness.run.suite_run import Options
    from reports.read.run import Run
    from reports.verdict.margins import Margin, Measured
    from reports.verdict.recommendation import Recommendation

FORMAT: Final = 1
AGAIN: Final = " again"
"""Appended to the baseline's name to name the second of the two equal candidates."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `calibrate`."""
    add_examples(parser, "calibrate suites/my_merge.py",
                 "calibrate suites/my_merge.py --device cuda --repeats 3 --confidence 0.99")
    parser.add_argument("suite", type=Path, metavar="SUITE_FILE", help="a file with a SUITE, for example suites/alpha_cfg.py")
    parser.add_argument("--device", default="cpu", metavar="cpu|cuda|cuda:N", help="where the baseline runs (default: cpu)")
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"), metavar="DIR",
                        help="folder of the run folders (default: runs); the calibration goes to DIR/<suite>.calibration")
    parser.add_argument("--repeats", type=int, default=1, metavar="N",
                        help="sample N times as many new seeds as the suite declares, and time N times as many rounds "
                             "(default: 1)")
    parser.add_argument("--confidence", type=float, default=0.95, metavar="P",
                        help="the share of equal candidates that must pass the margin (default: 0.95)")
    parser.add_argument("--guidance", type=float, default=None, metavar="CFG",
                        help="the guidance scale that the gates judge (default: the one that a finished run of the suite "
                             "recommends, else the middle one above 1)")
    add_download(parser)


def run(given: argparse.Namespace) -> int:
    """Exit codes: 0 calibrated, 1 the run failed, 2 the command line or the suite is wrong."""
    try:
        suite = _suite(given)
    except (ValueError, OSError) as error:
        print("\n".join(printable(line) for line in f"sweetspot calibrate: {error}".splitlines()), file=sys.stderr)
        return 2
    from harness.run.suite_run import Options

    options = Options(root=Path.cwd(), runs=Path.cwd() / given.runs_dir, device=given.device,
                      command=("sweetspot", "calibrate", str(given.suite)))
    try:
        folder = _make(calibration_suite(suite, given.repeats), given.suite.name, options)
        _tell(_measured(suite, folder, given), folder)
    except (ValueError, OSError, RuntimeError) as error:
        print(f"sweetspot calibrate: {printable(str(error))}", file=sys.stderr)
        return 1
    return 0


def calibration_suite(suite: Suite, repeats: int = 1) -> Suite:
    """The A/A run: the baseline under two names, on the declared seeds and `repeats` times as many new ones, timed for
    `repeats` times the declared rounds. The new seeds follow the largest declared one."""
    declared = next(c for c in suite.candidates if c.name == suite.baseline)
    first, count = max(suite.grid.seeds) + 1, repeats * len(suite.grid.seeds)
    return replace(
        suite, name=suite.name + CALIBRATION, candidates=(declared, replace(declared, name=declared.name + AGAIN)),
        grid=replace(suite.grid, seeds=(*suite.grid.seeds, *range(first, first + count))), gates=(), budget=None, search=None,
        latency_rounds=repeats * suite.latency_rounds, largest_batch=0)


def _suite(given: argparse.Namespace) -> Suite:
    """The file's SUITE. Raises ValueError for a suite that cannot run, and for options that do not fit it or this machine."""
    from harness.probes.device import device_problem

    if given.repeats < 1:
        raise ValueError(f"--repeats {given.repeats}: expected a positive integer")
    if not 0.5 <= given.confidence <= 0.999:
        raise ValueError(f"--confidence {given.confidence:g}: expected a share from 0.5 to 0.999")
    if wrong := device_problem(given.device):
        raise ValueError(wrong)
    suite = sound_suite(given.suite, allow_download=given.allow_download)
    if given.guidance is not None and given.guidance not in (known := _grid(suite).guidance_scales):
        scales = ", ".join(f"{g:g}" for g in known)
        raise ValueError(f"--guidance {given.guidance:g}: not a guidance scale of the baseline; it has {scales}")
    return suite


def _grid(suite: Suite) -> Grid:
    """The effective grid of the baseline, which both candidates of a calibration have."""
    return grid_of(suite, next(c for c in suite.candidates if c.name == suite.baseline))


def _make(suite: Suite, suite_file: str, options: Options) -> Path:
    """Samples, measures and times; a stopped calibration resumes. Raises RuntimeError naming what failed."""
    from harness.run.latency import timed_cell
    from harness.run.progress import Bar
    from harness.run.suite_run import SuiteRun

    (one, other), grid = suite.candidates, _grid(suite)
    bar = Bar(cells_of(grid) + 1)
    suite_run = SuiteRun(suite, suite_file, options, bar)
    try:
        if refusals := [*suite_run.not_offered.values()] or suite_run.preflight():
            raise RuntimeError(first_of(dict.fromkeys(refusals), between="; ", longest=LONGEST_MESSAGE))
        bar.start()
        # The second one samples only the cell that is timed: its images would be those of the first.
        outcomes = [suite_run.candidate(one), suite_run.candidate(other, [timed_cell(grid)])]
        failures = [f for outcome in outcomes if isinstance(outcome, list) for f in outcome]
        failures = failures or suite_run.costs([one.name, other.name])
    finally:
        bar.stop()
        suite_run.close()
    if failures:
        raise RuntimeError(first_of([f"{f.candidate!r} failed at {f.stage!r} ({f.error}: {f.message})" for f in failures],
                                    between="; ", longest=LONGEST_MESSAGE))
    return suite_run.folder


def _measured(suite: Suite, folder: Path, given: argparse.Namespace) -> Measured:
    """The A/A run as read from its folder, with the tied cells of a finished run of the suite, if there is one."""
    from harness.run.latency import timed_cell
    from reports import load_run, recommend
    from reports.verdict.margins import Measured

    finished = folder.with_name(suite.name)
    measured = Measured(run=load_run(folder), names=(suite.baseline, suite.baseline + AGAIN), suite=suite,
                  guidance=timed_cell(_grid(suite)).guidance, confidence=given.confidence)
    if (finished / "run.json").exists():
        try:
            run = load_run(finished)
            recommendation = recommend(run)
        except (OSError, ValueError) as error:
            say(f"{printable(str(finished))} is ignored: {printable(str(error))}")
        else:
            tied, tie = _tie(recommendation)
            if other := _made_otherwise(run, measured.run, suite):
                say(f"The finished run {printable(str(finished))} is ignored: {printable(other)}. Run the suite again")
                return measured if given.guidance is None else replace(measured, guidance=given.guidance)
            measured = replace(measured, tied=tied, tie=tie, images=run.images)
            if recommendation.guidance in _grid(suite).guidance_scales:
                measured = replace(measured, guidance=recommendation.guidance)
    return measured if given.guidance is None else replace(measured, guidance=given.guidance)


def _tie(of: Recommendation) -> tuple[tuple[tuple[str, float], ...], str]:
    """The cells that the report of a finished run calls tied, and how many they are in its words. Of modes of quantization these
    are the ones without a loss, at every guidance scale."""
    from reports.formatting import plural
    from reports.verdict.sentences import tied_in_words

    if of.kind == "fidelity":
        alike = tuple((cell.candidate, cell.guidance) for cell in of.cells if cell.candidate in of.tied_candidates)
        return alike, f"{plural(max(0, len(of.tied_candidates) - 1), 'mode')} without a loss against the baseline"
    return tuple((cell.candidate, cell.guidance) for cell in of.cells if cell.tied), f"{tied_in_words(of)} tied with the best one"


def _made_otherwise(finished: Run, calibration: Run, suite: Suite) -> str:
    """Why the noise of a finished run is not that of the suite as it is declared now; empty if it is. A candidate's images follow
    its own sampling, and not the grid's."""
    from reports.comparable import measured_in, measured_otherwise, other_pictures, sampled_as, sampled_otherwise
    from reports.read.prompts import pictures_of

    for candidate in suite.candidates:
        if finished.declared(candidate.name) is not None and (differing := sampled_otherwise(
                sampled_as(finished, candidate.name), sampling_block(calibration.head["sampling"], suite, candidate))):
            return f"its candidate {candidate.name!r} was sampled with other settings ({differing})"
    if finished.suite.objective != calibration.suite.objective:
        return "its suite declares another objective"
    if others := sorted(other_pictures(pictures_of(finished), pictures_of(calibration))):
        return f"its pictures of prompts {first_of([*map(repr, others)])} are others"
    both = [value for value in calibration.values if value in finished.values and calibration.row(value).origin == "metric"]
    for value in both:
        # Whose image a paired value is taken against is the same question in both.
        then, now = (replace(measured_in(run, value), paired=False) for run in (finished, calibration))
        if why := measured_otherwise(then, now):
            return f"{value}: {why}"
    return ""


def _tell(of: Measured, folder: Path) -> None:
    """The tables on the terminal, and calibration.json."""
    from rich.console import Console

    from harness.records import write_atomically
    from reports.verdict.margins import margins

    rows, console = margins(of), Console(highlight=False)
    title = f"{of.suite.name}: gates at CFG {of.guidance:g}"
    console.print(_table(of.run, title, [row for row in rows if row.gate], of.confidence))
    console.print(_table(of.run, "Values without a gate", [row for row in rows if not row.gate], of.confidence))
    for line in (notes := _notes(of, rows)):
        console.print(line, markup=False)
    for paste in dict.fromkeys(row.paste for row in rows if row.gate and row.paste):
        console.print(f"write: {paste}", markup=False, soft_wrap=True)
    data = {"format": FORMAT, "suite": of.suite.name, "guidance": of.guidance, "confidence": of.confidence, "power": _power(),
            "seeds": list(of.run.suite.grid.seeds), "said": notes, "floor": _floor(of.run),
            "ratios": _ratios(of), "rows": [asdict(row) for row in rows]}
    path = folder / "calibration.json"
    write_atomically(path, json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False).encode())
    console.print(f"calibration: {path}", markup=False)


def _table(run: Run, title: str, rows: Sequence[Margin], confidence: float) -> Table:
    from rich.table import Table
    from rich.text import Text

    from reports import formatting as words

    table = Table(title=words.visible(title), title_justify="left")
    gates = any(row.gate for row in rows)
    columns = ["Gate" if gates else "Value", "Noise from", "Standard error", f"{confidence:.0%} pass", "Declared", "Equal pass",
               f"{_power():.0%} fail", "Prompts"][:8 if gates else 4]
    for name in columns:
        # A gate's name is folded and never cut: two gates of one value differ at its end.
        table.add_column(name, justify="left" if name in columns[:2] else "right", overflow="fold",
                         min_width=16 if name == columns[0] else None)
    for row in rows:
        def shown(number: float | None, row: Margin = row) -> str:
            return "–" if number is None else words.number(number, run.row(row.value))

        needed = "–" if row.margin is None or row.design is None else f"{row.prompts or 'none do'}, has {row.design.prompts}"
        texts = (row.gate or words.title(run.row(row.value)), row.source.partition(",")[0], shown(row.error),
                 shown(row.smallest), shown(row.margin), "–" if row.passes is None else f"{row.passes:.1%}", shown(row.drop),
                 needed)
        table.add_row(*(Text(words.visible(text)) for text in texts[:len(columns)]))
    return table


def _notes(of: Measured, rows: Sequence[Margin]) -> list[str]:
    """The notes below the tables."""
    from reports import formatting as words

    floor = _floor(of.run)
    lines = [f"{of.confidence:.0%} pass: the margin that {of.confidence:.0%} of equal candidates pass (for a limit, the distance "
             "that the baseline's mean must keep from it). Equal pass: the share of equal candidates that pass the declared "
             f"margin. {_power():.0%} fail: the drop that fails the declared margin this often. Prompts: the number of prompts "
             "with which the declared margin would suffice."]
    lines.append("Numeric floor: " + (
        f"the same image made in a batch and alone differs by at most {floor['largest_levels']} of 255 levels, in "
        f"{floor['changed_share']:.2%} of its values ({words.plural(floor['images'], 'image')})." if floor else
        "not measured, because images are made one at a time."))
    lines += [f"The same candidate measured twice: {name} ratio {ratio:.3f}." for name, ratio in _ratios(of).items()]
    lines.append("A/A: the baseline on other seeds. Two candidates on the same seeds differ less from image to image; they also "
                 "differ from prompt to prompt, which A/A cannot show.")
    if any("tied cells" in row.source for row in rows):
        lines.append(f"Tied cells: the finished run has {of.tie}; their pairs, on the same seeds, are compared as gates do.")
    else:
        lines.append(f"The finished run has {of.tie}, but no pair of them shares two prompts in a value that was calibrated, so "
                     "none shows the noise that gates see." if of.tie else
                     "There is no finished run of the suite next to this one. Calibrate again after one: its pairs of tied cells "
                     "show the noise that gates see.")
    return lines + [words.visible(f"{row.gate or words.title(of.run.row(row.value))}: {row.note}.") for row in rows if row.note]


def _floor(run: Run) -> dict[str, Any]:
    floors = run.floors
    return {} if not floors else {"images": len(floors), "largest_levels": max(f.largest_levels for f in floors),
                                  "changed_share": max(f.changed_share for f in floors)}


def _ratios(of: Measured) -> dict[str, float]:
    """The second name's median latency and peak memory, divided by the first's."""
    from reports.verdict.costs import peak_memory

    one, other = of.names
    timed = [statistics.median(of.run.latency[name].seconds["total"]) for name in of.names if name in of.run.latency]
    readings = [peak_memory(of.run, one), peak_memory(of.run, other)]
    peaks = [reading.value for reading in readings if reading.value and reading.name == readings[0].name]
    return {name: pair[1] / pair[0] for name, pair in (("latency", timed), ("peak memory", peaks)) if len(pair) == 2}


def _power() -> float:
    from reports.statistics.margin_size import POWER

    return POWER
