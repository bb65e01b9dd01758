"""A candidate's denoiser in its declared runtime."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field

from harness.declare import Candidate
from harness.declare.mixed import of_denoiser, spelled
from harness.materialise.compiled_copies import CompiledCopies
from harness.materialise.live_model import Frame
from harness.quantize.declared import made_on_host
from harness.runtimes import RUNTIMES
from harness.weights import Pipeline, with_part


@dataclass(frozen=True, kw_only=True)
class Executing:
    """The denoisers in runtimes other than eager, and what was compiled for them."""

    copies: CompiledCopies = field(default_factory=CompiledCopies)

    def executed(self, candidate: Candidate, frame: Frame, pipeline: Pipeline,
                 number: int) -> tuple[Pipeline, Callable[[], None]]:
        """The pipeline with its denoiser in the declared runtime, and what must be called before it is used again. What was
        compiled for the frame's own parameters is kept: it stays valid when they change, and adapters on the layers only add
        compilations. So is what was compiled for a quantized copy, and for the frame of another number format. `number` tells the
        models apart that are live together."""
        row = RUNTIMES[candidate.runtime]
        if candidate.runtime == "eager":
            return pipeline, lambda: None
        refresh: Callable[[], None] = lambda: None  # noqa: E731
        copied = pipeline.denoiser is not frame.pipeline.denoiser
        mode = of_denoiser(candidate.quantization)
        if copied and not row.private and made_on_host(mode):
            name = " ".join([candidate.runtime, spelled(mode), *([f"of model {number}"] if number > 1 else [])])
            executed, refresh = self.copies.compiled(pipeline.denoiser, name, row.apply)
        elif copied:
            executed = row.apply(pipeline.denoiser)
        elif row.private:
            executed = row.apply(copy.deepcopy(pipeline.denoiser))
        else:
            if candidate.runtime not in frame.executed:
                frame.executed[candidate.runtime] = row.apply(pipeline.denoiser)
            executed = frame.executed[candidate.runtime]
        return with_part(pipeline, frame.denoiser, executed), refresh
