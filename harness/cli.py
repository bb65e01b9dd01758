"""The `sweetspot` command: what is done without pytest. Each subcommand is a module that declares its arguments and runs."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, replace
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final, NoReturn

from harness import __version__

if TYPE_CHECKING:
    from harness.promotion import Evidence, Figure, Row
    from reports.read.run import Run
    from reports.verdict.recommendation import Recommendation

COMMANDS: Final[Mapping[str, tuple[str, str]]] = {
    "inspect": ("harness.commands.inspect", "say what model files are: family, parts, dtypes, and what is wrong with them"),
    "adapter": ("harness.commands.adapter", "combine, extract, resize and convert adapters"),
    "merge": ("harness.commands.merge", "merge models into a file, or show what a merge would be"),
    "replay": ("harness.commands.replay", "make a merged file again from the recipe in its header, and compare"),
    "promote": ("harness.commands.promote", "make a measured candidate a file with a record of why, and its suite's baseline"),
    "verify": ("harness.commands.verify", "say whether a model file is one that was promoted, and which"),
    "rollback": ("harness.commands.rollback", "make an earlier version of a promoted model the current one again"),
    "history": ("harness.commands.history", "list the versions of a promoted model"),
    "blind": ("harness.commands.blind", "let people rate pictures without knowing what made them, and take the ratings in"),
    "calibrate": ("harness.commands.calibrate", "sample a suite's baseline twice, and say which margins its gates need"),
    "report": ("harness.commands.report", "re-make page, Markdown and table of a run folder"),
    "compare": ("harness.commands.compare", "two run folders side by side: what changed, and by how much each value moved"),
    "trend": ("harness.commands.trend", "every value of a suite over the commits of its runs and baselines"),
}
"""{subcommand: (module with `add_arguments(parser)` and `run(given)`, one line of help)}"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit codes: 0 done, 1 the thing asked for failed (said on standard error), 2 the command line is wrong."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(
        prog="sweetspot", description="Which merge to ship, with evidence. Benchmarks run with: pytest suites/ --benchmark")
    parser.add_argument("--version", action="version", version=f"sweetspot {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    # Only the module that is asked for is imported: `inspect` must not wait for what `report` needs.
    asked = next((word for word in words if not word.startswith("-")), "")
    for name, (module, help_line) in COMMANDS.items():
        command = commands.add_parser(name, help=help_line, description=help_line)
        if name == asked:
            import_module(module).add_arguments(command)
    # What a subcommand needs of reports it gets from here: only the doors import them.
    given = parser.parse_args(words, argparse.Namespace(read_evidence=read_evidence))
    code: int = import_module(COMMANDS[given.command][0]).run(given)
    return code


def command() -> NoReturn:
    """What the installed command runs: `main`, and out. Taking torch apart takes 0.4 s, and the system frees all of it
    anyway; what was written is written by then."""
    try:
        code = main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except KeyboardInterrupt:
        print("stopped; no file was changed", file=sys.stderr)
        code = 130
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # whoever read it has gone away
            stream.flush()
    os._exit(code)


def read_evidence(folder: Path, name: str) -> Evidence:
    """What the run in `folder` says of the candidate `name`, for `promote`. ValueError or OSError for a folder that is none,
    PromotionError for a candidate that the suite has not."""
    from harness.promotion import Evidence, PromotionError, Ruling
    from reports import judge, load_run, recommend

    run = load_run(folder)
    if name not in (names := [c.name for c in run.suite.candidates]):
        raise PromotionError(f"suite {run.suite.name!r} has no candidate {name!r}; it has {', '.join(map(repr, names))}")
    recommendation = recommend(run)
    # Gates that name nobody are about the recommended pick; here they are about what is to be promoted.
    verdicts = judge(run, replace(recommendation, pick=name))
    weights, levels = run.weights.get(name), [floor.largest_levels for floor in run.floors]
    return Evidence(
        folder=folder, suite=run.suite, head=run.head, candidate=name, identity=weights.identity if weights else "",
        rulings=tuple(Ruling(**{f.name: getattr(v, f.name) for f in fields(v)}) for v in verdicts),
        unfinished=tuple(_unfinished(run, name, recommendation)), inputs={c: w.inputs for c, w in run.weights.items()},
        guidance=recommendation.guidance, pick=recommendation.pick, tied=recommendation.tied_candidates,
        figures=_figures(run, name, recommendation.guidance), rows=_rows(run, name), floor_levels=max(levels, default=None))


def _unfinished(run: Run, name: str, recommendation: Recommendation) -> list[str]:
    """Sentences on what the run lacks before this candidate may be promoted. What the device never offers is not lacking."""
    not_offered = run.head.get("not_offered", {})
    said = [f"candidate {gap.candidate!r} lacks {gap.value} in {gap.count} cells ({gap.why})" for gap in run.missing
            if gap.candidate not in not_offered
            and (gap.value == "image" or (gap.candidate == name and gap.value == "objective"))]
    if name in not_offered:
        said.append(f"candidate {name!r} was not run: {not_offered[name]}")
    if failure := run.failure_of(name):
        said.append(f"candidate {name!r} {failure}")
    finished, weights = run.finished.get(name), run.weights.get(name)
    if finished is None or weights is None or finished.identity != weights.identity:
        said.append(f"candidate {name!r} did not go through all stages as it is declared now")
    return [*said, *_unconfirmed(run, name), *([] if recommendation.pick else [recommendation.sentence])]


def _unconfirmed(run: Run, name: str) -> list[str]:
    """Why a race says nothing that a promotion of this candidate could rely on: it was stopped before the confirm prompts, or had
    dropped the candidate by then, or never asked for it there."""
    from reports.read.looks import exits

    if not run.looks or all(p.split != "confirm" for p in run.suite.grid.prompts):
        return []
    late = [look for look in run.looks if look.stage in ("confirm", "gate")]
    if not late:
        return [f"the race did not come to the confirm prompts; its last look says: {run.looks[-1].why}"]
    if any(name in look.candidates for look in late):
        return []
    out = exits(run.suite, run.looks).get(name)
    why = f"the race dropped it at look {out.look}" if out else "the race did not pick it"
    return [f"candidate {name!r} was not sampled on the confirm prompts: {why} (without a budget all are sampled there)"]


def _figures(run: Run, name: str, guidance: float | None) -> dict[str, Figure]:
    """The means of all values over the candidate's images at the recommended guidance, with intervals; seconds per image."""
    from harness.promotion import Figure
    from reports.statistics.intervals import cluster_mean
    from reports.verdict.costs import peak_memory, seconds_per_image

    rows = run.images[run.images["candidate"] == name]
    rows = rows if guidance is None else rows[rows["guidance"] == guidance]
    found = {}
    for value in _values(run):
        mean = cluster_mean(rows, value)
        found[value] = Figure(unit=str(run.metrics[value].get("unit", "")), mean=mean.mean, low=mean.low, high=mean.high,
                              prompts=mean.prompts, images=mean.pairs, why=mean.why)
    timed = seconds_per_image(run, name)
    found["seconds_per_image"] = Figure(unit="s, median and range of the rounds", mean=timed.median, low=timed.fastest,
                                        high=timed.slowest, prompts=0, images=timed.rounds, why=timed.why)
    record, memory = run.latency.get(name), peak_memory(run, name)
    if record is not None and record.yardstick:
        middle = median(record.yardstick)
        found["yardstick_seconds"] = Figure(unit="s, median", mean=middle, low=middle, high=middle, prompts=0,
                                            images=len(record.yardstick))
    if memory.value is not None:
        found["peak_bytes"] = Figure(unit=f"bytes, {memory.name}", mean=memory.value, low=memory.value, high=memory.value,
                                     prompts=0, images=1)
    return found


def _rows(run: Run, name: str) -> tuple[Row, ...]:
    """The candidate's images with their values; what was not measured is None."""
    from harness.promotion import Row
    from harness.records import Cell

    return tuple(Row(cell=Cell(prompt=str(row["prompt"]), seed=int(row["seed"]), guidance=float(row["guidance"])),
                     key=str(row["sample"]), values={v: None if row[v] != row[v] else float(row[v]) for v in _values(run)})
                 for row in run.images[run.images["candidate"] == name].to_dict("records"))


def _values(run: Run) -> list[str]:
    """The values of the run that are numbers and stand in its table."""
    return [value for value in run.metrics if value in run.images.columns and run.images[value].dtype.kind in "fiu"]


if __name__ == "__main__":
    command()
