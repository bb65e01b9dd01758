"""A whole node of a Ray cluster is lost in the middle of a run: nothing of it is lost with the node, and nothing made twice."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.executors.contract import Batch
from harness.executors.crew import Arrival, Crew
from harness.executors.with_ray import RayHands
from harness.records.worker_sessions import WorkerSession
from reports.page.worker_table import together
from tests.executors.sleeper import MAKER, job, units

STARTS = 2


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A head without room for workers, which is this process's own node, and two nodes of one core each."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # else a token is written to the home folder
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    why = ""
    for _ in range(STARTS):
        try:
            nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
            nodes.one, _ = (nodes.add_node(num_cpus=1) for _ in range(2))
            ray.init(address=nodes.address, log_to_driver=False, configure_logging=False)
            break
        except Exception as error:
            why = f"Ray did not start on this machine: {type(error).__name__}: {error}"
    else:
        pytest.skip(why)
    yield nodes
    ray.shutdown()
    nodes.shutdown()


@pytest.mark.slow
def test_what_a_lost_node_was_given_is_made_by_the_others_and_nothing_twice(cluster: Any, tmp_path: Path) -> None:
    said: list[str] = []
    crew = Crew(RayHands("ray:2", "cpu", MAKER), job(tmp_path, seconds=0.05), 2, say=said.append)
    crew.start()
    crew.owe(units(4, 120))
    arrivals: list[Arrival] = []
    until = time.monotonic() + 120
    while crew.owed and time.monotonic() < until:
        arrivals += crew.arrivals(0.5)
        if cluster.one is not None and len(arrivals) > 8 and len([w for w in crew.work() if w.images]) == 2:
            cluster.remove_node(cluster.one, allow_graceful=False)
            cluster.one = None
    assert not crew.owed
    images = [picture.image for one in arrivals if isinstance(one.event, Batch) for picture in one.event.pictures]
    assert len(images) == len({*images}) == 480
    work = crew.work()
    assert [bool(one.lost) for one in work].count(True) == 1
    assert sum(one.images for one in work) == 480
    assert any("was lost" in line for line in said)
    assert "1 worker lost" in together(WorkerSession(asked="ray:2", started="", seconds=1.0, workers=tuple(work)))
    crew.close()
