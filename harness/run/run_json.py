"""run.json: the suite with the candidates that a race added, and everything that decides which records of a run count."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from harness.declare import Candidate, Suite, plain, restore, short_hash
from harness.declare.picture_uses import PICTURES
from harness.metrics import METRICS
from harness.records import RUN_FORMAT, write_atomically
from harness.records.harmless_text import printable, without_credentials
from harness.records.measured_on import MEASURED_ON
from harness.records.values import to_plain
from harness.records.worker_sessions import WORKERS
from harness.run.overflow import IN_BF16
from harness.sampling import DEVICE_MODEL

FITTED_BATCH: Final = "fitted_batch"
"""In run.json: for which device, families and size a batch size of "fit" was resolved, and to which number."""
REFUSED: Final = "refused"
"""In it: the batches that were refused all the same. Later sessions begin with half of them."""


@dataclass(frozen=True, kw_only=True)
class Session:
    """What a session writes to run.json: the suite file, the command line, the machine (`environment`), the sampling block, by
    metric the hash of everything else that determines its values, the candidates that the device refuses, with the reason, the
    batch size that was fitted to a device, if one was, the candidates that run in bf16 because they overflow in fp16, the
    contents of the prompts' pictures that candidates use, and the hash of a race's declaration and files."""

    suite_file: str
    command: Sequence[str]
    environment: Mapping[str, Any]
    sampling: Mapping[str, Any]
    metric_settings: Mapping[str, str]
    not_offered: Mapping[str, str]
    fitted_batch: Mapping[str, Any] | None = None
    in_bf16: Mapping[str, Any] = field(default_factory=dict)
    pictures: Mapping[str, str] = field(default_factory=dict)
    race: str = ""


class RunJson:
    """The run.json of one run, with the current suite: as declared, plus the candidates that a race added. Every change is
    written at once."""

    def __init__(self, folder: Path, declared: Suite, session: Session, before: Mapping[str, Any]) -> None:
        """`before` is the earlier content of the file."""
        self._file, self._declared = folder / "run.json", declared
        self._race = session.race
        self._earlier = added_before(session.race, before)
        self.suite = grown(declared, self._earlier)
        self.facts: Mapping[str, Any] = heading(declared, self.suite, session, before)
        self._save()

    def grow(self, added: Mapping[str, Sequence[Candidate]]) -> None:
        """Adds candidates to the suite."""
        self._become(grown(self.suite, added))

    def as_declared(self) -> None:
        """Removes the candidates that a race added. The file keeps those of an earlier session's race until `settled`."""
        self._become(self._declared)

    def settled(self) -> None:
        """Removes candidates from the file that an earlier session's race added and this session's did not."""
        self._earlier = {}
        self._note_suite()

    def note(self, **facts: Any) -> None:
        """Writes facts to the file, by their names there."""
        self.facts = {**self.facts, **facts}
        self._save()

    def _become(self, suite: Suite) -> None:
        if suite != self.suite:
            self.suite = suite
            self._note_suite()

    def _note_suite(self) -> None:
        now = of_suite(self._declared, grown(self.suite, self._earlier), self._race)
        if now != {name: self.facts.get(name) for name in now}:
            self.note(**now)

    def _save(self) -> None:
        write_atomically(self._file, json.dumps(self.facts, indent=1, ensure_ascii=False).encode())


def race_of(suite: Suite, contents: Mapping[str, str]) -> str:
    """Hash of all parts of a declaration that a race depends on, and of the contents of the files that it names; empty if the
    suite has no budget. What looks at other files decided does not count."""
    if suite.budget is None:
        return ""
    free = ("gates", "description", "latency_rounds", "latency_budget_seconds", "largest_batch")
    return short_hash([{name: value for name, value in plain(suite).items() if name not in free}, contents])


def added_before(race: str, before: Mapping[str, Any]) -> dict[str, tuple[Candidate, ...]]:
    """{candidate that they come after: candidates} that the same race added in an earlier session; empty if run.json cannot be
    read."""
    added: dict[str, tuple[Candidate, ...]] = {}
    names = before.get("added")
    if not isinstance(names, list) or not names or not race or before.get("race") != race:
        return added
    with suppress(TypeError, KeyError, AttributeError, ValueError, RecursionError):
        behind = ""
        for candidate in restore(before["suite"]).candidates:
            if not isinstance(candidate, Candidate):
                return {}
            if candidate.name in names:
                added[behind] = (*added.get(behind, ()), candidate)
            else:
                behind = candidate.name
    return added


def grown(suite: Suite, added: Mapping[str, Sequence[Candidate]]) -> Suite:
    """The suite with more candidates, each group after the candidate that its key names, or last if there is no such candidate. A
    candidate whose name is already used is left out."""
    names = {c.name for c in suite.candidates}
    listed: list[Candidate] = []
    for candidate in suite.candidates:
        listed += [candidate, *(c for c in added.get(candidate.name, ()) if c.name not in names)]
    listed += [c for behind, group in added.items() if behind not in names for c in group if c.name not in names]
    return replace(suite, candidates=tuple({c.name: c for c in listed}.values()))


def heading(declared: Suite, suite: Suite, session: Session, before: Mapping[str, Any]) -> dict[str, Any]:
    """The run.json of a session. `suite` is the declared suite plus what a race added, `before` the earlier content of the
    file."""
    specs = {spec.name: to_plain(spec) for name in suite.metrics for spec in METRICS[name].rows(name)}
    same_settings = before.get("metric_settings") == session.metric_settings
    earlier = _earlier(before)
    return {
        "format": RUN_FORMAT, **of_suite(declared, suite, session.race), "suite_file": session.suite_file,
        "environment": session.environment, "metrics": specs, "command": [without_credentials(word) for word in session.command],
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "sampling": session.sampling, "metric_settings": session.metric_settings,
        "clip_definition": before.get("clip_definition", "") if same_settings else "", "not_selected": [],
        "not_offered": session.not_offered, **({} if session.fitted_batch is None else {FITTED_BATCH: session.fitted_batch}),
        **({IN_BF16: session.in_bf16} if session.in_bf16 else {}), **({PICTURES: session.pictures} if session.pictures else {}),
        **{name: before[name] for name in (WORKERS, MEASURED_ON) if before.get(name)},
        "earlier_environments": earlier[:-1] if earlier[-1:] == [session.environment] else earlier,
    }


def model_before(before: Mapping[str, Any]) -> str:
    """The model of the GPU of a folder's earlier session, by its run.json; empty if there was none."""
    block = before.get("sampling")
    model = block.get(DEVICE_MODEL) if isinstance(block, Mapping) else None
    return model if isinstance(model, str) else ""


def of_another_gpu(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Why the images of earlier sessions do not count on this GPU, in a sentence; empty if they do. `before` and `now` are the
    earlier content of run.json and the present one."""
    block, here = before.get("sampling"), now["sampling"]
    if not isinstance(block, Mapping) or block.get("device") != here["device"] or DEVICE_MODEL not in here:
        return ""
    earlier = block.get(DEVICE_MODEL)
    if earlier is None:
        return (f"the images of {_name(now)} were made by a version that did not record the model of the GPU; they no "
                f"longer count, and are sampled again on this {here[DEVICE_MODEL]}")
    if earlier == here[DEVICE_MODEL]:
        return ""
    return (f"the last session of {_name(now)} ran on {printable(earlier)}; its images count there alone, and are sampled "
            f"again on this {here[DEVICE_MODEL]}")


def _name(head: Mapping[str, Any]) -> str:
    """The name of the suite in run.json."""
    return printable(head["suite"]["name"])


def of_suite(declared: Suite, suite: Suite, race: str) -> dict[str, Any]:
    """The part of run.json about the suite: the current suite, the names that a race added, and the race's hash."""
    known = {c.name for c in declared.candidates}
    return {"suite": plain(suite), "added": [c.name for c in suite.candidates if c.name not in known], "race": race}


def _earlier(head: Mapping[str, Any]) -> list[Any]:
    """The different environments of earlier sessions in this folder, oldest first."""
    listed = head.get("earlier_environments")
    environments: list[Any] = []
    for one in (*(listed if isinstance(listed, list) else ()), head.get("environment")):
        if one and one not in environments:
            environments.append(one)
    return environments
