"""What run.json says of a run: the suite, with what a race added to it, and all that decides which records count.
run.py writes it; reports read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from harness.declare import Candidate, Suite, plain, restore, short_hash
from harness.metrics import METRICS
from harness.records import RUN_FORMAT
from harness.records.values import to_plain


@dataclass(frozen=True, kw_only=True)
class Session:
    """What a session brings to run.json: where its suite was read, how pytest was called, the machine (`environment`), the
    sampling block, by metric the hash of what else decides its values, and whom the device refuses."""

    suite_file: str
    command: Sequence[str]
    environment: Mapping[str, Any]
    sampling: Mapping[str, Any]
    metric_settings: Mapping[str, str]
    not_offered: Mapping[str, str]


def race_of(suite: Suite) -> str:
    """Hash of all of a declaration that a race follows; empty where the suite has no budget."""
    if suite.budget is None:
        return ""
    free = ("gates", "description", "latency_rounds", "latency_budget_seconds", "largest_batch")
    return short_hash({name: value for name, value in plain(suite).items() if name not in free})


def added_before(declared: Suite, before: Mapping[str, Any]) -> dict[str, tuple[Candidate, ...]]:
    """By the name of the candidate that they stand behind: those that a race of this very declaration added in an earlier
    session, as far as run.json can be read."""
    found: dict[str, tuple[Candidate, ...]] = {}
    names = before.get("added")
    if not isinstance(names, list) or not names or not race_of(declared) or before.get("race") != race_of(declared):
        return found
    with suppress(TypeError, KeyError, AttributeError, ValueError, RecursionError):
        behind = ""
        for candidate in restore(before["suite"]).candidates:
            if not isinstance(candidate, Candidate):
                return {}
            if candidate.name in names:
                found[behind] = (*found.get(behind, ()), candidate)
            else:
                behind = candidate.name
    return found


def grown(suite: Suite, added: Mapping[str, Sequence[Candidate]]) -> Suite:
    """The suite with more candidates, each group behind the one that is named, or last where nobody has that name. One whose
    name is taken is left out."""
    taken = {c.name for c in suite.candidates}
    listed: list[Candidate] = []
    for candidate in suite.candidates:
        listed += [candidate, *(c for c in added.get(candidate.name, ()) if c.name not in taken)]
    listed += [c for behind, group in added.items() if behind not in taken for c in group if c.name not in taken]
    return replace(suite, candidates=tuple({c.name: c for c in listed}.values()))


def heading(declared: Suite, suite: Suite, session: Session, before: Mapping[str, Any]) -> dict[str, Any]:
    """The run.json of a session: `suite` is what was declared with what a race added, `before` what the file said until now."""
    specs = {spec.name: to_plain(spec) for name in suite.metrics for spec in METRICS[name].rows(name)}
    kept = before.get("metric_settings") == session.metric_settings
    earlier = _earlier(before)
    return {
        "format": RUN_FORMAT, **of_suite(declared, suite), "suite_file": session.suite_file,
        "environment": session.environment, "metrics": specs, "command": list(session.command),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "sampling": session.sampling, "metric_settings": session.metric_settings,
        "clip_definition": before.get("clip_definition", "") if kept else "", "not_selected": [],
        "not_offered": session.not_offered,
        "earlier_environments": earlier[:-1] if earlier[-1:] == [session.environment] else earlier,
    }


def of_suite(declared: Suite, suite: Suite) -> dict[str, Any]:
    """The part of run.json that is about the suite: as it is now, whom a race added to it, and the race's hash."""
    known = {c.name for c in declared.candidates}
    return {"suite": plain(suite), "added": [c.name for c in suite.candidates if c.name not in known], "race": race_of(declared)}


def _earlier(head: Mapping[str, Any]) -> list[Any]:
    """The different environments of earlier sessions in this folder, oldest first."""
    listed = head.get("earlier_environments")
    found: list[Any] = []
    for one in (*(listed if isinstance(listed, list) else ()), head.get("environment")):
        if one and one not in found:
            found.append(one)
    return found
