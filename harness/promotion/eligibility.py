"""Whether a candidate may be promoted: checks gates, gaps in the run, and whether the suite or its files have changed since."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from harness.check import load_rows, problems, resolved
from harness.declare import PROMOTED, Candidate, Suite, plain
from harness.declare.grid import FIT
from harness.declare.listing import LONGEST_MESSAGE, first_of
from harness.declare.load_suite import NoSuiteError, SuiteFileError, load_suite
from harness.declare.prompt_groups import spelled
from harness.hub import as_ran
from harness.promotion.errors import PromotionError
from harness.promotion.gather import Evidence

POLICIES: Final = ("inconclusive=fail", "inconclusive=pass")
_SHOWN: Final = 4


def refuse_unfit(evidence: Evidence, policy: str, *, first: bool) -> None:
    """Raises PromotionError unless the run is complete and every gate of the suite passed, or with "inconclusive=pass" passed or
    was inconclusive. Before the `first` promotion of a suite there is nothing to compare with, so gates against the promoted
    model may be unmeasured."""
    who = f"suite {evidence.suite.name!r}, candidate {evidence.candidate!r}"
    if evidence.unfinished:
        lacking = first_of(evidence.unfinished, between="; ", longest=LONGEST_MESSAGE)
        raise PromotionError(f"{who}: the run is incomplete: {lacking}. Run the suite again")
    from reports.gates.decision import of_itself

    # A gate that compares the candidate with itself neither speaks for it nor against it.
    telling = [r for r in evidence.verdicts if not (r.status == "not_measured" and of_itself(evidence.run, r))]
    allowed = ("passed", "inconclusive") if policy == "inconclusive=pass" else ("passed",)
    if bad := [r for r in telling if r.status not in allowed
               and not (first and r.status == "not_measured" and r.other == PROMOTED)]:
        reasons = first_of([f"gate {r.gate!r} on candidate {r.candidate!r} is {r.status.replace('_', ' ')} "
                            f"(limit {r.limit}, observed {_interval(r.observed, r.low, r.high)}: {r.reason})" for r in bad],
                           between="; ", longest=LONGEST_MESSAGE)
        undecided = all(r.status == "inconclusive" for r in bad)
        do = "Use more prompts or seeds, or allow it with --policy inconclusive=pass" if undecided else "Nothing was promoted"
        if all(r.status == "not_measured" and r.other == PROMOTED for r in bad):
            do = "Run the suite again to load the values of the last promotion (nothing is sampled again), then promote"
        raise PromotionError(f"{who}: {reasons}. {do}")
    if not any(r.candidate == evidence.candidate for r in telling):
        raise PromotionError(f"{who}: no gate of the suite applies to this candidate, so there is no evidence for promoting it. "
                             "Add a gate that names it, or a gate without candidates (it applies to the promoted candidate)")


def refuse_changed_suite(evidence: Evidence, file: Path | None, root: Path) -> None:
    """Raises PromotionError unless the suite file still declares what ran. `file` is the user's, or None for the one named in
    run.json, which is trusted only in a suites folder below `root`, because a suite file is code."""
    suite_file = file if file is not None else _named(evidence, root)
    try:
        declared = resolved(as_ran(load_suite(suite_file), evidence.suite), root)
    except NoSuiteError as error:
        raise PromotionError(f"{error}; give the right file with --suite FILE") from error
    except SuiteFileError as error:
        raise PromotionError(f"suite file {suite_file} cannot be run ({error}). Fix it, or give --suite FILE") from error
    if not isinstance(declared, Suite):
        raise PromotionError(f"SUITE of {suite_file} is a {type(declared).__name__}; expected harness.Suite(...). Give --suite "
                             "FILE")
    ran = _declared(evidence)
    # `--exact` runs a suite at batch size 1, whatever it declares; "fit" stands for the size that the run records.
    sizes: list[int | str] = [declared.grid.batch_size, 1]
    if declared.grid.batch_size == FIT and isinstance(fitted := evidence.head.get("fitted_batch"), Mapping):
        sizes.append(fitted.get("batch_size", 0))
    if ran not in [_json(plain(replace(declared, grid=replace(declared.grid, batch_size=size)))) for size in sizes]:
        now = _json(plain(declared))
        names = [name for name in now if now[name] != (ran or {}).get(name)]
        raise PromotionError(f"suite {evidence.suite.name!r}, candidate {evidence.candidate!r}: the suite file {suite_file} has "
                             f"changed since the run in {evidence.folder}: {', '.join(names)}. Run the suite again")
    # Only now, and only what the suite file itself names: what else run.json may name is not imported.
    load_rows(declared, [suite_file.parent, root])


def refuse_prompts_adapters(evidence: Evidence) -> None:
    """Raises PromotionError where prompts bring adapters of their own: one file has the same weights for all prompts."""
    if own := [prompt for prompt in evidence.suite.grid.prompts if prompt.adapters]:
        raise PromotionError(f"suite {evidence.suite.name!r}, candidate {evidence.candidate!r}: {len(own)} of "
                             f"{len(evidence.suite.grid.prompts)} prompts bring adapters of their own (prompt {own[0].id!r}: "
                             f"{spelled(own[0].adapters)}), and one file cannot have them for these prompts alone. Give all "
                             "prompts the same tags, which the file then holds, or none, and run the suite again")


def refuse_changed_inputs(evidence: Evidence, content: Callable[[Candidate, str], str]) -> None:
    """Raises PromotionError if an input file of any candidate has changed since the run. `content` hashes what a candidate uses
    of a reference."""
    for name, inputs in evidence.inputs.items():
        for reference, digest in inputs.items():
            who = f"suite {evidence.suite.name!r}, candidate {name!r}: input {reference!r}"
            try:
                now = content(evidence.run.candidate(name), reference)
            except (OSError, ValueError) as error:
                raise PromotionError(f"{who} can no longer be read ({error}). Restore it, or run the suite again") from error
            if now != digest:
                raise PromotionError(f"{who} has changed since the run (blake3 {now[:16]}..., the run had "
                                     f"{str(digest)[:16]}...). Restore that file, or run the suite again")


def refuse_faulty_suite(evidence: Evidence, root: Path) -> None:
    """Raises PromotionError for a suite that would not run today: what its run measured is not what its author meant."""
    if faults := problems(evidence.suite, root):
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise PromotionError(f"{faults[0]}{more}. The run was made before this was checked: mend the suite, and run it again")


def _declared(evidence: Evidence) -> Any:
    """The suite of run.json as JSON, without the candidates that a race added to what the suite file declares."""
    ran, added = _json(evidence.head.get("suite")), evidence.head.get("added")
    if not isinstance(ran, dict) or not isinstance(added, list) or not isinstance(ran.get("candidates"), list):
        return ran
    return {**ran, "candidates": [c for c in ran["candidates"] if not isinstance(c, dict) or c.get("name") not in added]}


def _named(evidence: Evidence, root: Path) -> Path:
    declared_file = evidence.head.get("suite_file")
    asked = f"{evidence.folder / 'run.json'} names the suite file {declared_file!r}"
    if not isinstance(declared_file, str) or not declared_file or "\0" in declared_file:
        raise PromotionError(f"{asked}, which is not a path. Give --suite FILE")
    file = Path(os.path.realpath(root / declared_file))
    if not file.is_relative_to(root.resolve()) or file.suffix != ".py" or not _in_suites(file, root) or (
            file.is_relative_to(evidence.folder.resolve())):
        raise PromotionError(f"{asked}, which is not a .py file in a suites folder below {root.resolve()}. A suite is code, so "
                             "one from elsewhere runs only if you name it. Give --suite FILE")
    if came_with(evidence.folder, file, root):
        raise PromotionError(f"{asked}, which may have come with that run: both are in {_top(evidence.folder, root)}, and git "
                             f"does not track the file. A suite is code, so read it, and then give --suite {declared_file}")
    if not file.is_file():
        raise PromotionError(f"{asked}, which does not exist: {file}. Start in the folder where the suite ran, or give --suite "
                             "FILE")
    return file


def came_with(run: Path, file: Path, root: Path) -> bool:
    """Whether a suite file may have been unpacked together with a run folder: both are in one folder below `root`, and git does
    not track the file."""
    top = _top(run, root)
    return top is not None and file.is_relative_to(top) and not _tracked(file, root)


def _top(run: Path, root: Path) -> Path | None:
    """The folder directly below `root` that leads to the run folder; None for a run folder elsewhere."""
    inside, start = run.resolve(), root.resolve()
    return start / inside.relative_to(start).parts[0] if inside.is_relative_to(start) and inside != start else None


def _tracked(file: Path, root: Path) -> bool:
    # A hostile repository can name a program as its fsmonitor.
    words = ("git", "-c", "core.fsmonitor=false", "ls-files", "--error-unmatch", "--", str(file))
    try:
        return subprocess.run(words, cwd=root, capture_output=True, timeout=10, check=False).returncode == 0
    except (OSError, subprocess.SubprocessError):
        return False


def _in_suites(file: Path, root: Path) -> bool:
    """Whether a file lies below a folder called suites, at any depth, as pytest looks for suites."""
    return "suites" in file.relative_to(root.resolve()).parts[:-1]


def _json(data: Any) -> Any:
    """The data as read back from JSON: tuples become lists, keys become text."""
    return json.loads(json.dumps(data))


def _interval(observed: float | None, low: float | None, high: float | None) -> str:
    if observed is None:
        return "nothing"
    return f"{observed:.6g}" if low is None or high is None else f"{observed:.6g} [{low:.6g}, {high:.6g}]"
