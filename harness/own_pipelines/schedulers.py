"""The scheduler of a call: that of the folder, or one of the named samplers that fits in its place."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from typing import TYPE_CHECKING, Any, Final

from harness.samplers import SAMPLERS, build_scheduler
from harness.samplers.problems import OWN

if TYPE_CHECKING:
    from harness.weights.pipeline import Pipeline

_OF_FLOWS: Final = "use_flow_sigmas"


def scheduler_for(pipeline: Pipeline, sampler: str, shift: float | None = None) -> Any:
    """A scheduler at its beginning, with the settings of the model's folder."""
    assert pipeline.own is not None
    if sampler == OWN:
        return pipeline.own.scheduler.from_config(dict(pipeline.scheduler_config))
    return build_scheduler(sampler, pipeline.scheduler_config, shift=shift)


def scheduler_problem(kind: Any, config: Mapping[str, Any], name: str, sampler: str) -> str:
    """Why a sampler cannot take the place of the folder's scheduler, of the class `kind`, in the pipeline `name`; empty if it
    can."""
    if _fits(kind, config, sampler):
        return ""
    fitting = [OWN, *(other for other in SAMPLERS if other != OWN and _fits(kind, config, other))]
    return (f"sampler {sampler!r} does not fit into {name}, whose scheduler is {kind.__name__}; expected "
            f"{' or '.join(map(repr, fitting))}")


def _fits(kind: Any, config: Mapping[str, Any], sampler: str) -> bool:
    import diffusers

    row = SAMPLERS[sampler]
    if sampler == OWN or row.scheduler == kind.__name__:
        return True
    other = getattr(diffusers, row.scheduler, None)
    if other is None or row.scheduler not in getattr(kind, "_compatibles", ()):
        return False
    known = signature(other.__init__).parameters
    flows = config.get(_OF_FLOWS) or config.get("prediction_type") == "flow_prediction"
    return not flows or _OF_FLOWS in known
