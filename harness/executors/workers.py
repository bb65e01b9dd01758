"""The words of --workers: what they ask for, and the crew that they give."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

from harness.executors.contract import Hands, Job
from harness.executors.crew import Crew
from harness.executors.local import LocalHands, PlacesError, places

KINDS = ("local", "ray")
_EXPECTED = "expected local:N, local:cuda, ray, ray:N or ray:ADDRESS"


def workers_problem(asked: str, device: str) -> str:
    """What is wrong with a word of --workers for a run on `device`, as far as it shows before anything is started; empty if
    nothing is."""
    if not asked:
        return ""
    kind = asked.partition(":")[0]
    if kind in KINDS and device.startswith("cuda:"):
        return (f"--workers {asked}: --device {device} names one GPU, but each worker takes one of its own; take --device cuda, "
                f"and choose GPUs with CUDA_VISIBLE_DEVICES={device.partition(':')[2]}")
    try:
        if kind == "local":
            places(asked, device)
        elif kind == "ray":
            from harness.executors.with_ray import Asked

            Asked.of(asked)
            if find_spec("ray") is None:
                return f"--workers {asked}: Ray is not installed; pip install 'sweetspot[ray]', or take local:N"
        else:
            return f"--workers {asked!r}: {_EXPECTED}"
    except PlacesError as error:
        return str(error)
    return ""


def crew_of(asked: str, job: Job, *, limit: float, say: Callable[[str], None]) -> Crew:
    """The crew of a word of --workers, which has not started yet. Raises PlacesError."""
    if asked.startswith("ray"):
        from harness.executors.with_ray import RayHands

        by_ray = RayHands(asked, job.device)
        hands: Hands = by_ray
        count = by_ray.count
    else:
        there = places(asked, job.device)
        hands, count = LocalHands(there, say=say), len(there)
    return Crew(hands, job, count, limit=limit, say=say)
