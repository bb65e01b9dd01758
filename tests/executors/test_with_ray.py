"""Workers as actors of Ray, in a real cluster of this machine."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.executors.contract import Batch, Done, Failed
from harness.executors.crew import Arrival, Crew, NoWorkerError
from harness.executors.local import PlacesError
from harness.executors.with_ray import Asked, RayHands
from tests.executors.errand import errands_and_jobs
from tests.executors.sleeper import MAKER, job, painted, units


@pytest.mark.parametrize(("word", "address", "count"), [
    ("ray", "", 0), ("ray:4", "", 4), ("ray:auto", "auto", 0), ("ray:head:6379", "head:6379", 0),
    ("ray:head:6379,8", "head:6379", 8)])
def test_the_word_says_which_cluster_and_how_many(word: str, address: str, count: int) -> None:
    assert Asked.of(word) == Asked(address=address, count=count)


@pytest.mark.parametrize("word", ["ray:0", "ray:auto,", "ray:auto,x", "ray:auto,0", "ray:auto,²", "rays:2", "ray:ray://head:10001"])
def test_a_word_without_meaning_is_refused(word: str) -> None:
    with pytest.raises(PlacesError, match=word.partition(":")[0]):
        Asked.of(word)


def test_without_ray_the_way_to_install_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(PlacesError, match=r"pip install 'sweetspot\[ray\]'"):
        RayHands("ray", "cpu")


def test_ray_says_nothing_of_what_is_as_it_should_be_and_all_else(monkeypatch: pytest.MonkeyPatch,
                                                                  caplog: pytest.LogCaptureFixture) -> None:
    class Talking:
        def __getattr__(self, name: str) -> Any:
            return lambda *_words, **_named: False

        def init(self, **named: object) -> None:
            own = logging.getLogger("ray._private.worker")
            own.warning("SIGTERM handler is not set because current thread is not the main thread.")
            own.warning("The object store is slow")
            setup = logging.getLogger("ray._private.authentication.authentication_token_setup")
            setup.warning("Token authentication is enabled for this Ray cluster.")

        def cluster_resources(self) -> dict[str, float]:
            return {"CPU": 2.0}

    monkeypatch.setitem(sys.modules, "ray", Talking())
    RayHands("ray:2", "cpu")
    assert [record.getMessage() for record in caplog.records] == ["The object store is slow"]


@pytest.mark.parametrize("word", ["ray", "ray:2"])
def test_a_cluster_of_this_machine_alone_that_lacks_gpus_is_said_at_once(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Small:
        is_initialized = staticmethod(lambda: False)
        init = shutdown = staticmethod(lambda **_: None)
        cluster_resources = available_resources = staticmethod(lambda: {"CPU": 2.0})

    monkeypatch.setitem(sys.modules, "ray", Small())
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(PlacesError, match=r"1 GPU; the cluster has 2 CPU.* and 0 GPU.*ray:auto"):
        RayHands(word, "cuda")


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a cluster of two cores. Where Ray does not start in two attempts, its tests cannot say anything."""
    os.environ["RAY_AUTH_MODE"] = "disabled"  # else a token is written to the home folder
    pytest.importorskip("ray")
    try:
        hands = RayHands("ray:2", "cpu", MAKER)
    except PlacesError as error:
        pytest.skip(str(error))
    import ray

    yield "ray:2"
    hands.close()
    assert not ray.is_initialized()
    assert print.__module__ == "builtins"


def crew_of(cluster: str, folder: Path, count: int = 2, **behave: Any) -> Crew:
    return Crew(RayHands(cluster, "cpu", MAKER), job(folder, **behave), count)


def drained(crew: Crew) -> list[Arrival]:
    arrivals: list[Arrival] = []
    until = time.monotonic() + 120
    while crew.owed and time.monotonic() < until:
        arrivals += crew.arrivals(1.0)
    assert not crew.owed
    return arrivals


def images(arrivals: list[Arrival]) -> list[tuple[str, object]]:
    return [(one.unit.candidate.name, picture.image) for one in arrivals if isinstance(one.event, Batch)
            for picture in one.event.pictures]


@pytest.mark.slow
def test_actors_make_each_image_once(cluster: str, tmp_path: Path) -> None:
    crew = crew_of(cluster, tmp_path)
    crew.start()
    crew.owe(owed := units(5, 40))
    arrivals = drained(crew)
    assert sorted(images(arrivals)) == sorted((unit.candidate.name, painted(unit.candidate.name, cell, unit.batch_size))
                                              for unit in owed for cell in unit.cells)
    assert sorted(one.unit.number for one in arrivals if isinstance(one.event, Done)) == [0, 1, 2, 3, 4]
    assert sum(work.images for work in crew.work()) == 200  # the first to start may have made them all
    crew.close()


@pytest.mark.slow
def test_an_actor_does_errands_and_goes_over_to_another_job(cluster: str, tmp_path: Path) -> None:
    errands_and_jobs(crew_of(cluster, tmp_path, count=1), tmp_path).close()


@pytest.mark.slow
def test_an_actor_that_is_killed_is_replaced_and_nothing_is_lost_or_doubled(cluster: str, tmp_path: Path) -> None:
    crew = crew_of(cluster, tmp_path, p="kill once", seconds=0.01)
    crew.start()
    crew.owe(units(3, 24))
    arrivals = drained(crew)
    assert len(images(arrivals)) == len(set(images(arrivals))) == 72
    assert [bool(work.lost) for work in crew.work()].count(True) == 1
    crew.close()


@pytest.mark.slow
def test_what_ends_a_unit_and_what_cannot_start_is_said(cluster: str, tmp_path: Path) -> None:
    crew = crew_of(cluster, tmp_path, q="raise")
    crew.start()
    one, other = units(2, 8)
    crew.owe([replace(one, cells=tuple(replace(cell, prompt="q") for cell in one.cells)), other])
    ended = {one.unit.number: one.event for one in drained(crew) if not isinstance(one.event, Batch)}
    assert isinstance(ended[0], Failed)
    assert isinstance(ended[1], Done)
    crew.close()
    broken = crew_of(cluster, tmp_path, start="raise")
    broken.start()
    broken.owe(units(1, 8))
    with pytest.raises(NoWorkerError, match=r"did not start: .*Error: "):
        drained(broken)


@pytest.mark.slow
def test_a_worker_without_a_place_is_given_up_with_what_is_missing(cluster: str, tmp_path: Path,
                                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.executors.with_ray.PLACING_SECONDS", 8.0)
    crew = crew_of(cluster, tmp_path, count=3, seconds=0.3)
    crew.start()
    crew.owe(units(2, 240))
    said: list[str] = []
    crew._say = said.append
    drained(crew)
    assert any("each worker needs 1 CPU; the cluster has 2 CPU, of which 0 free" in one for one in said)
    crew.close()


@pytest.mark.slow
def test_a_cluster_without_gpus_has_no_room_for_workers_on_gpus(cluster: str) -> None:
    with pytest.raises(PlacesError, match="each worker needs 1 CPU and 1 GPU; the cluster has 2 CPU, of which") as refused:
        RayHands(cluster.partition(":")[0], "cuda", MAKER)
    assert Asked.of(str(refused.value).rpartition(" ")[2]).count == 8
