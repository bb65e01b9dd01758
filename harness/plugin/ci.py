"""The output for CI systems: properties of the JUnit report, the job summary, and Markdown for a comment."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from harness.plugin.options import markdown_file
from harness.records.atomic import naming
from harness.records.harmless_text import in_markdown, printable

if TYPE_CHECKING:
    from harness.declare import Candidate
    from harness.records import Failure
    from harness.session.session import Session
    from harness.session.suite_session import SuiteSession
    from reports.analysis import AnalysedRun
    from reports.gates import Verdict

MARKER: Final = "<!-- sweetspot -->"
"""First line of the comment file, by which a bot finds the comment to update. Text of a run cannot forge it, because every "<" is
escaped."""
COMMENT_LIMIT: Final = 60_000
"""Most bytes of the comment file; GitHub accepts 65 536 characters."""
SUMMARY_VARIABLE: Final = "GITHUB_STEP_SUMMARY"
SUMMARY_LIMIT: Final = 1 << 20
"""Most bytes of a step's summary; GitHub rejects a larger one entirely."""


def record(item: pytest.Item, facts: Mapping[str, object]) -> None:
    """Adds properties to the item's testcase in a JUnit report. None is left out, since missing is not zero. Numbers keep all
    their digits. pytest writes characters that XML does not allow as "#x1B"."""
    item.user_properties.extend((name, value if isinstance(value, int | float) else _line(str(value)))
                                for name, value in facts.items() if value is not None)


def record_candidate(item: pytest.Item, of: SuiteSession, candidate: Candidate, failures: Sequence[Failure]) -> None:
    """Properties of a candidate: its images, its seconds per image if it has been timed, and what failed."""
    seconds = of.latency(candidate)
    record(item, {"suite": of.suite.name, "candidate": candidate.name, "key": candidate.key,
                  "images": len(of.run().gallery.at_hand(candidate.name)), "seconds_per_image": _median(seconds),
                  "failures": len(failures)})


def record_race(item: pytest.Item, of: SuiteSession) -> None:
    """The images that a race used and its result, and the candidates that it added, which have no testcase."""
    record(item, {"suite": of.suite.name, "looks": len(of.looks), "images": of.looks[-1].images if of.looks else None,
                  "said": of.looks[-1].why if of.looks else None})
    declared = {c.name for c in of.suite.candidates}
    for candidate in (c for c in of.run().suite.candidates if c.name not in declared):
        tail = f"[{_line(candidate.name)}]"
        record(item, {f"key{tail}": candidate.key, f"images{tail}": len(of.run().gallery.at_hand(candidate.name))})


def record_costs(item: pytest.Item, of: SuiteSession) -> None:
    """The median seconds per image of every candidate that was timed, with those that a race added."""
    timed = {f"seconds_per_image[{c.name}]": _median(of.latency(c)) for c in of.run().suite.candidates}
    record(item, {"suite": of.suite.name, **{_line(name): seconds for name, seconds in timed.items()}})


def record_gate(item: pytest.Item, of: SuiteSession, verdicts: Sequence[Verdict]) -> None:
    """The verdicts of one gate. With several candidates each has its own properties: "status[alpha=0.5]"."""
    record(item, {"suite": of.suite.name})
    for v in verdicts:
        tail = f"[{_line(v.candidate)}]" if len(verdicts) > 1 else ""
        facts = {"candidate": v.candidate, "status": v.status, "observed": v.observed, "low": v.low, "high": v.high,
                 "limit": v.limit, "reason": v.reason}
        record(item, {f"{name}{tail}": value for name, value in facts.items()})


def record_recommendation(item: pytest.Item, of: SuiteSession, run: AnalysedRun) -> None:
    """The verdict: pick, guidance, sentence, and where the page is."""
    record(item, {"suite": of.suite.name, "pick": run.recommendation.pick, "guidance": run.recommendation.guidance,
                  "decision": run.headline.decision, "sentence": run.headline.sentence, "page": of.page})


def publish(session: Session, config: pytest.Config) -> list[str]:
    """Writes --markdown FILE and the job summary, after the pages; returns lines for the terminal."""
    texts = [_verdict(suite) for suite in _reported(session)]
    if not texts or config.getoption("collectonly"):
        return []
    lines = []
    if (file := markdown_file(config)) is not None:
        lines.append(_write(file, comment(_head(session), texts), session.unwritten))
    if name := os.environ.get(SUMMARY_VARIABLE, ""):
        lines.append(_append(Path(name), _head(session), texts))
    return lines


def comment(head: str, texts: Sequence[str], limit: int = COMMENT_LIMIT) -> str:
    """The marker, one line about all suites, and each suite's Markdown cut to its share: at most `limit` bytes."""
    start = f"{MARKER}\n{head}\n\n"
    return start + "\n".join(shares(texts, limit - _size(start) - len(texts)))


def shares(texts: Sequence[str], limit: int) -> list[str]:
    """The texts, cut at lines so that all together have at most `limit` bytes. Each text gets an equal share; what short texts do
    not use goes to longer ones."""
    allowed, left, open_ = [0] * len(texts), limit, len(texts)
    for at in sorted(range(len(texts)), key=lambda i: _size(texts[i])):
        allowed[at] = min(_size(texts[at]), max(left, 0) // open_)
        left, open_ = left - allowed[at], open_ - 1
    return [cut(text, size) for text, size in zip(texts, allowed, strict=True)]


def cut(text: str, limit: int) -> str:
    """The first whole lines of a text, at most `limit` bytes with the sentence that says what is missing."""
    if _size(text) <= limit:
        return text
    lines = text.splitlines(keepends=True)
    note = "\n… cut here; {} of {} lines are only on the page and in report.md next to it.\n"
    size = _size(note.format(len(lines), len(lines)))
    lines_kept: list[str] = []
    for line in lines:
        if (size := size + _size(line)) > limit:
            break
        lines_kept.append(line)
    shortened = "".join(lines_kept) + note.format(len(lines) - len(lines_kept), len(lines))
    return shortened if _size(shortened) <= limit else ""


def _reported(session: Session) -> list[SuiteSession]:
    """The suites to report: all but those of which nothing was selected."""
    return [suite for suite in session.suites if suite.ran or suite.problems]


def _verdict(suite: SuiteSession) -> str:
    """A suite's Markdown, as written next to its page, without the picture: a comment and a job's summary have no files beside
    them. Without a page of this session, the reason."""
    from reports.page.pick_strip import text_alone

    if suite.page is not None:
        with suppress(OSError):
            return text_alone(suite.page.with_name("report.md").read_text(encoding="utf-8"))
    count = len(suite.problems)
    why = (f"its declaration has {count} problem{'s' if count != 1 else ''}" if count else
           "no page could be written")
    return f"## {in_markdown(suite.suite.name)}\n\n**No verdict: {why}; see the test results.**\n"


def _head(session: Session) -> str:
    """All suites in one line: how many picks, and the gates by status."""
    from reports.page.summary import by_status

    picks, statuses = 0, list[str]()
    for suite in _reported(session):
        if suite.page is None:
            continue
        picks += suite.analysis().recommendation.pick is not None
        names = dict.fromkeys(map(suite.suite.gate_name, suite.suite.gates))
        statuses += [v.status for name in names for v in suite.verdicts(name)]
    count = len(_reported(session))
    gates = by_status(statuses) or "none judged"
    return f"**Sweetspot**: {count} suite{'s' if count != 1 else ''}, {picks} with a pick; gates: {gates}."


def _write(file: Path, text: str, unwritten: list[str]) -> str:
    from harness.records import write_atomically

    try:
        write_atomically(file, text.encode(errors="replace"))
    except OSError as error:
        unwritten.append(f"--markdown {file}")
        return f"--markdown {file}: not written ({error})"
    return f"markdown: {file}"


def _append(file: Path, head: str, texts: Sequence[str]) -> str:
    """Appends to the job summary as much as fits: GitHub would show nothing of a summary that is too large. A full disk leaves
    the summary as it was."""
    try:
        with naming(file), file.open("ab", buffering=0) as summary:
            before = summary.tell()
            left = SUMMARY_LIMIT - before - _size(head) - 4
            texts_kept = shares(texts, left - len(texts))
            data = f"\n{head}\n\n{chr(10).join(texts_kept)}\n".encode(errors="replace") if left > 0 else b""
            written = summary.write(data) or 0
            if written < len(data):
                summary.truncate(before)
    except OSError as error:
        return f"${SUMMARY_VARIABLE}: not written ({error})"
    if written < len(data):
        return f"${SUMMARY_VARIABLE}: not written ({os.strerror(errno.ENOSPC)}: {str(file)!r})"
    lost = sum(text != full for text, full in zip(texts_kept, texts, strict=True))
    return f"${SUMMARY_VARIABLE}: {len(texts) - lost} of {len(texts)} verdicts whole" if lost else f"${SUMMARY_VARIABLE}: written"


def _line(text: str) -> str:
    """Text on one line without characters that could act on a terminal: reports of CI systems are printed as well."""
    return printable(" ".join(text.split()))


def _median(seconds: Iterable[float]) -> float | None:
    from statistics import median

    rounds = tuple(seconds)
    return median(rounds) if rounds else None


def _size(text: str) -> int:
    return len(text.encode(errors="replace"))
