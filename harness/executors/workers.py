"""The words of --workers: what they ask for, and the crew that they give."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

from harness.executors.contract import Hands, Job
from harness.executors.crew import Crew
from harness.executors.local import LocalHands, PlacesError, places
from harness.probes.device import device_problem, name_problem

KINDS = ("local", "ray")
_EXPECTED = "expected local:N, local:cuda, ray, ray:N or ray:ADDRESS"


def run_device_problem(device: object, workers: str) -> str:
    """Why a run cannot use a device; empty if it can, or if `workers` on other machines may, who are asked."""
    return name_problem(device) or ("" if may_be_elsewhere(str(device), workers) else device_problem(device))


def may_be_elsewhere(device: str, workers: str) -> bool:
    """Whether workers may have a device that this machine has not."""
    return device == "cuda" and workers.partition(":")[0] == "ray"


def is_elsewhere(device: str, workers: str) -> bool:
    """Whether only workers have the device of a run."""
    return may_be_elsewhere(device, workers) and bool(device_problem(device))


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
