"""Memory that was refused while a candidate was made: a model that does not fit is not read again in vain."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from harness.declare import Candidate, plain, short_hash
from harness.declare.models import models_of
from harness.materialise.library import frame_of
from harness.probes.fits import free_memory, out_of_memory


@dataclass(frozen=True, kw_only=True)
class Room:
    """`loaded` says whether a candidate's model was loaded in this session, so that what was refused came later."""

    device: str
    loaded: Callable[[Candidate], bool]
    _refused: dict[str, tuple[int, str]] = field(default_factory=dict)
    """By model and number format: the free bytes before the attempt to load it, and the refusal."""

    @contextmanager
    def making(self, candidate: Candidate) -> Iterator[None]:
        """Around the making of a candidate. A refusal of memory is raised again without an attempt while the model would find no
        more free memory than when loading it was refused."""
        free, model = self._free_bytes(), _model_of(candidate)
        if model in self._refused and free is not None and free <= self._refused[model][0]:
            import torch

            again = f"{self._refused[model][1]} (when its model was loaded for an earlier candidate; it was not tried again)"
            raise torch.OutOfMemoryError(again)
        try:
            yield
        except Exception as error:
            refused = out_of_memory(error, self.device)
            # Main memory that was refused has nothing to do with how much a GPU has.
            if refused is not None and not refused.on_host and free is not None and not self.loaded(candidate):
                self._refused[model] = (free, str(error).strip().split("\n")[0])
            raise

    def _free_bytes(self) -> int | None:
        """Free bytes of a GPU; None for a CPU. What is cached counts as free, once something was refused."""
        if not self.device.startswith("cuda"):
            return None
        import torch

        if self._refused:
            free_memory(self.device)
        return torch.cuda.mem_get_info(self.device)[0]


def _model_of(candidate: Candidate) -> str:
    return short_hash([[plain(frame_of(model)) for model in models_of(candidate.model)], candidate.number_format])
