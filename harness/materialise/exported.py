"""A live U-Net in the place of the eager one, executed as an exported graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.materialise.live_graph import LiveGraph

if TYPE_CHECKING:
    import torch

Size = tuple[int, int]
_ADDED = ("text_embeds", "time_ids")


@dataclass(frozen=True)
class Predicted:
    """A denoiser's output as diffusers names it."""

    sample: torch.Tensor


@dataclass(kw_only=True)
class Exported(LiveGraph):
    """The denoiser of a frame in an exported runtime. It is called like the U-Net, and has its config; its parameters are the
    live ones, of which it was given the values."""

    def __call__(self, sample: torch.Tensor, timestep: Any, encoder_hidden_states: torch.Tensor, *,
                 added_cond_kwargs: dict[str, torch.Tensor] | None = None, **unknown: Any) -> Predicted:
        """The prediction for these latents. Raises MaterialiseError unless the executor has the live weights."""
        import torch

        if unknown:
            raise TypeError(f"runtime {self.name!r} was given {', '.join(sorted(unknown))}, which its graph does not take")
        size = (int(sample.shape[-2]), int(sample.shape[-1]))
        moment = torch.as_tensor(timestep, dtype=torch.float32, device=sample.device).reshape(())
        return Predicted(self.run(size, {"sample": sample, "timestep": moment, "encoder_hidden_states": encoder_hidden_states,
                                         **(added_cond_kwargs or {})}))

    def eager(self, given: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The live U-Net's prediction."""
        added = {name: given[name] for name in _ADDED if name in given}
        predicted: torch.Tensor = self.live_module(given["sample"], given["timestep"], given["encoder_hidden_states"],
                                                   **({"added_cond_kwargs": added} if added else {})).sample
        return predicted
