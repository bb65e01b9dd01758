"""May this candidate be promoted? What speaks against it in its run: gates, gaps, a suite or files that changed since."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from harness.declare import PROMOTED, Suite, plain
from harness.declare.load_suite import NoSuiteError, SuiteFileError, load_suite
from harness.promotion.errors import PromotionError
from harness.promotion.gather import Evidence

POLICIES: Final = ("inconclusive=fail", "inconclusive=pass")
_SHOWN: Final = 4


def refuse_unfit(evidence: Evidence, policy: str, *, first: bool) -> None:
    """PromotionError unless the run is whole and every gate of the suite is passed; with "inconclusive=pass", or undecided.
    The `first` candidate of a suite has no promoted one to be held against: gates that ask for it may be not measured."""
    who = f"suite {evidence.suite.name!r}, candidate {evidence.candidate!r}"
    if evidence.unfinished:
        more = f" (and {len(evidence.unfinished) - _SHOWN} more)" if len(evidence.unfinished) > _SHOWN else ""
        raise PromotionError(f"{who}: the run is incomplete: {'; '.join(evidence.unfinished[:_SHOWN])}{more}. Run the suite "
                             "again")
    allowed = ("passed", "inconclusive") if policy == "inconclusive=pass" else ("passed",)
    excused = {gate.name for gate in evidence.suite.gates if first and gate.not_worse_than == PROMOTED}
    if bad := [r for r in evidence.verdicts if r.status not in allowed
               and not (r.status == "not_measured" and r.gate in excused)]:
        said = "; ".join(f"gate {r.gate!r} on candidate {r.candidate!r} is {r.status.replace('_', ' ')} "
                         f"(limit {r.limit}, observed {_interval(r.observed, r.low, r.high)}: {r.reason})" for r in bad)
        undecided = all(r.status == "inconclusive" for r in bad)
        do = "Use more prompts or seeds, or allow it with --policy inconclusive=pass" if undecided else "Nothing was promoted"
        asking = {gate.name for gate in evidence.suite.gates if gate.not_worse_than == PROMOTED}
        if all(r.status == "not_measured" and r.gate in asking for r in bad):
            do = "Run the suite again, which takes over what was promoted last (nothing is sampled anew), then promote"
        raise PromotionError(f"{who}: {said}. {do}")
    if not any(r.candidate == evidence.candidate for r in evidence.verdicts):
        raise PromotionError(f"{who}: no gate of the suite is about this candidate, so nothing says that it may be promoted. Add "
                             "a gate that names it, or none (then gates are about whichever is promoted)")


def refuse_changed_suite(evidence: Evidence, file: Path | None, root: Path) -> None:
    """PromotionError unless the suite file still declares what ran. `file` is the one the user gave, or None: then the one that
    run.json names, which is only trusted in a suites folder below `root`, for a suite file is code."""
    found = file if file is not None else _named(evidence, root)
    try:
        declared = load_suite(found)
    except NoSuiteError as error:
        raise PromotionError(f"{error}; give the right file with --suite FILE") from error
    except SuiteFileError as error:
        raise PromotionError(f"suite file {found} cannot be run ({error}). Mend it, or give --suite FILE") from error
    if not isinstance(declared, Suite):
        raise PromotionError(f"SUITE of {found} is a {type(declared).__name__}; expected harness.Suite(...). Give --suite FILE")
    ran = _declared(evidence)
    # `--exact` runs a suite at batch size 1, whatever it declares.
    exact = replace(declared, grid=replace(declared.grid, batch_size=1))
    if ran not in (_json(plain(declared)), _json(plain(exact))):
        now = _json(plain(declared))
        names = [name for name in now if now[name] != (ran or {}).get(name)]
        raise PromotionError(f"suite {evidence.suite.name!r}, candidate {evidence.candidate!r}: the suite file {found} has "
                             f"changed since the run in {evidence.folder}: {', '.join(names)}. Run the suite again")


def refuse_changed_inputs(evidence: Evidence, content: Callable[[str], str]) -> None:
    """PromotionError for an input file of any candidate that is not the one that ran. `content` hashes a reference."""
    for name, inputs in evidence.inputs.items():
        for reference, digest in inputs.items():
            who = f"suite {evidence.suite.name!r}, candidate {name!r}: input {reference!r}"
            try:
                now = content(reference)
            except (OSError, ValueError) as error:
                raise PromotionError(f"{who} cannot be read any more ({error}). Bring it back, or run the suite again") from error
            if now != digest:
                raise PromotionError(f"{who} is another file than in the run (blake3 {now[:16]}..., the run had "
                                     f"{str(digest)[:16]}...). Bring that file back, or run the suite again")


def _declared(evidence: Evidence) -> Any:
    """The suite of run.json as JSON, without the candidates that a race added to what the suite file declares."""
    ran, added = _json(evidence.head.get("suite")), evidence.head.get("added")
    if not isinstance(ran, dict) or not isinstance(added, list) or not isinstance(ran.get("candidates"), list):
        return ran
    return {**ran, "candidates": [c for c in ran["candidates"] if not isinstance(c, dict) or c.get("name") not in added]}


def _named(evidence: Evidence, root: Path) -> Path:
    said = evidence.head.get("suite_file")
    asked = f"{evidence.folder / 'run.json'} names the suite file {said!r}"
    if not isinstance(said, str) or not said or "\0" in said:
        raise PromotionError(f"{asked}, which is no path. Give --suite FILE")
    file = (root / said).resolve()
    if not file.is_relative_to(root.resolve()) or file.suffix != ".py" or file.parent.name != "suites" or (
            file.is_relative_to(evidence.folder.resolve())):
        raise PromotionError(f"{asked}, which is no .py file in a suites folder below {root.resolve()}; since a suite is code it "
                             "is not run unasked. Give --suite FILE")
    if not file.is_file():
        raise PromotionError(f"{asked}, which is not there: {file}. Start in the folder where the suite ran, or give --suite "
                             "FILE")
    return file


def _json(data: Any) -> Any:
    """As it is after a way through a file: tuples are lists, keys are text."""
    return json.loads(json.dumps(data))


def _interval(observed: float | None, low: float | None, high: float | None) -> str:
    if observed is None:
        return "nothing"
    return f"{observed:.6g}" if low is None or high is None else f"{observed:.6g} [{low:.6g}, {high:.6g}]"
