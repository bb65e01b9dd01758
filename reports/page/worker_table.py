"""The page's section on workers: what each did, how many images they made together in a second, and what was made again."""

from __future__ import annotations

from typing import Any, Final

from harness.records.measured_on import measured_on
from harness.records.worker_sessions import WorkerSession, WorkerWork, worker_sessions
from reports import formatting as words
from reports.read.run import Run

NOTE: Final = (
    "Busy are the seconds in which a worker had something to make, waiting those in which it had nothing; the start of its "
    "process, in which it loads its libraries, is in neither. Images that a lost worker was given and had not sent went to "
    "others; most of them it had not begun. Latency and memory are never those of workers at work: they are "
    "measured when no worker makes anything.")
COLUMNS: Final = ("Device", "Images", "Busy", "Waiting", "Went to others", "Took part")
ROWS: Final = 64
"""Workers with a row of their own."""


def worker_section(run: Run) -> dict[str, Any] | None:
    """`sessions` has the sessions with workers, the last one first: a title, what they did together in a sentence, and a row of
    cells for each worker. None if no session had workers."""
    sessions = worker_sessions(run.head)
    if not sessions:
        return None
    return {"sessions": [{"title": words.visible(f"--workers {one.asked}, {one.started}"), "together": together(one),
                          "rows": [_row(worker) for worker in one.workers[:ROWS]],
                          "more": _more(one)} for one in reversed(sessions)], "columns": COLUMNS, "note": NOTE,
            "measured": where_measured(run)}


def where_measured(run: Run) -> str:
    """On which machine and device the timings that count were taken, in a sentence; empty if it is not on record."""
    times = {latency.timed_at for latency in run.latency.values()}
    places = dict.fromkeys(("a worker" if one.by == "worker" else "the run itself", one.name)
                           for one in measured_on(run.head) if one.timed_at in times)
    named = " and ".join(f"{who} on {words.visible(name)}" for who, name in places)
    return f"Latency and memory were measured by {named}." if named else ""


def workers_of_session(run: Run) -> str:
    """What the workers of the last session did together, and where was measured, in sentences; empty if it had none."""
    did = next((together(one) for one in worker_sessions(run.head) if one.started == run.head.get("started")), "")
    return " ".join(filter(None, (did, where_measured(run)))) if did else ""


def together(session: WorkerSession) -> str:
    """What the workers of a session did together, in a sentence."""
    count = words.plural(len(session.workers), "worker")
    if not session.images:
        return f"{count} made no image."
    pace = f", {session.images / session.seconds:.3g} a second" if session.seconds else ""
    busy = "" if session.share_busy is None else f" They were busy {session.share_busy:.0%} of their time."
    lost = sum(bool(worker.lost) for worker in session.workers)
    who = "it was" if lost == 1 else "they were"
    gone = (f" {words.plural(lost, 'worker')} lost; {words.plural(_repeated(session), 'image')} that {who} given went to others."
            if lost else "")
    return f"{count} made {words.plural(session.images, 'image')} in {words.duration(session.seconds)}{pace}.{busy}{gone}"


def _repeated(session: WorkerSession) -> int:
    return sum(worker.repeated for worker in session.workers)


def _more(session: WorkerSession) -> str:
    rest = session.workers[ROWS:]
    images = words.plural(sum(worker.images for worker in rest), "image")
    return f"{words.plural(len(rest), 'more worker')} made {images}." if rest else ""


def _row(worker: WorkerWork) -> dict[str, Any]:
    return {"name": str(worker.worker), "where": words.visible(f"{worker.host}, process {worker.process}"),
            "cells": [words.visible(worker.device), f"{worker.images:,}", words.duration(worker.seconds_busy),
                      words.duration(worker.seconds_waiting), f"{worker.repeated:,}"], "lost": words.visible(worker.lost)}
