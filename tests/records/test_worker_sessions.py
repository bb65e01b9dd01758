"""What run.json keeps of workers: one entry per session, and nothing that no session can have written."""

from __future__ import annotations

import json
from typing import Any

import pytest

from harness.records.worker_sessions import LONGEST, WORKERS, WorkerSession, WorkerWork, with_session, worker_sessions


def work(worker: int, **changes: Any) -> WorkerWork:
    return WorkerWork(**({"worker": worker, "host": "gpu-7", "process": 100 + worker, "device": "cuda:0", "images": 30,
                          "seconds_busy": 9.0, "seconds_waiting": 1.0} | changes))


def session(started: str = "2026-11-30T12:00:00+00:00", *workers: WorkerWork) -> WorkerSession:
    return WorkerSession(asked="local:2", started=started, seconds=10.0, workers=workers or (work(0), work(1)))


def test_sessions_are_read_as_they_were_noted_and_one_replaces_what_it_noted_before() -> None:
    head: dict[str, Any] = {}
    for one in (session("a"), session("b"), session("b", work(0, images=60, lost="killed", repeated=4))):
        head = json.loads(json.dumps({WORKERS: with_session(head, one)}))
    assert worker_sessions(head) == (session("a"), session("b", work(0, images=60, lost="killed", repeated=4)))


def test_only_the_last_sessions_are_kept() -> None:
    head: dict[str, Any] = {}
    for number in range(LONGEST + 5):
        head = {WORKERS: with_session(head, session(str(number)))}
    assert [one.started for one in worker_sessions(head)] == [str(number) for number in range(5, LONGEST + 5)]


def test_images_and_the_busy_share_are_those_of_all_workers() -> None:
    both = session("a", work(0, images=10, seconds_busy=6.0, seconds_waiting=2.0), work(1, seconds_busy=0.0, seconds_waiting=4.0))
    assert (both.images, both.share_busy) == (40, 0.5)
    assert session("a", work(0, seconds_busy=0.0, seconds_waiting=0.0)).share_busy is None


@pytest.mark.parametrize("entry", [
    None, 3, "x", [], {}, {"workers": []}, {"asked": "local:2", "started": "a", "seconds": 1.0},
    {"asked": 2, "started": "a", "seconds": 1.0, "workers": []},
    {"asked": "local:2", "started": "a", "seconds": -1.0, "workers": []},
    {"asked": "local:2", "started": "a", "seconds": 1.0, "workers": [3]},
    {"asked": "local:2", "started": "a", "seconds": 1.0, "workers": [{**vars(work(0)), "images": "<b>"}]},
    {"asked": "local:2", "started": "a", "seconds": 1.0, "workers": [{**vars(work(0)), "images": -1}]},
    {"asked": "local:2", "started": "a", "seconds": 1.0, "workers": [{**vars(work(0)), "more": 1}]},
])
def test_an_entry_that_no_session_can_have_written_is_left_out(entry: object) -> None:
    head = {WORKERS: [entry, *with_session({}, session("b"))]}
    assert worker_sessions(head) == (session("b"),)


@pytest.mark.parametrize("entries", [None, {}, "workers", 7])
def test_what_is_no_list_has_no_sessions(entries: object) -> None:
    assert worker_sessions({WORKERS: entries}) == ()
    assert len(with_session({WORKERS: entries}, session())) == 1
