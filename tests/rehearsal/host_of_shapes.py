"""A host without values, for models that are larger than its memory: what is kept there has only shapes, and files are not read.
Used within `simulated(shapes_only=True)`; what the device holds is counted as ever."""

from __future__ import annotations

from itertools import chain
from typing import Any

import pytest
import torch

from harness.materialise import workbench
from harness.materialise.number_format import homes_of
from harness.merge import apply
from harness.sampling import text
from harness.weights import live_pipeline, upload
from harness.weights.model import ModelFile

HOST = "meta"


def without_values(patch: pytest.MonkeyPatch) -> None:
    """Keeps on the host shapes alone."""
    def place(*args: Any, **kwargs: Any) -> Any:
        homes = homes_of(*args, **kwargs)
        return {part: type(home)(device=_there(home.device), dtype=home.dtype) for part, home in homes.items()}

    def send(_: upload.Uploads, tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
        there = tensor.to(HOST)
        return there if device.type == "cpu" else there.to(device)

    patch.setattr(workbench, "homes_of", place)
    patch.setattr(live_pipeline, "load", _load)
    patch.setattr(upload.Uploads, "send", send)
    patch.setattr(workbench, "finite", lambda _: True)
    patch.setattr(text, "_on_host", lambda module: next(module.parameters()).device.type == HOST)
    patch.setattr(apply, "all_finite", lambda _: torch.ones((), dtype=torch.bool))


def positions_without_values(patch: pytest.MonkeyPatch) -> None:
    """SD3's table of positions takes gigabytes while it is computed; here its memory is asked for and never written."""
    patch.setattr("diffusers.models.embeddings.get_2d_sincos_pos_embed",
                  lambda width, size, **_: torch.empty((size * size, width)))


def _load(model: ModelFile, component: str, module: Any, device: str, dtype: torch.dtype) -> None:
    """As weights.live_module.load, without reading values."""
    place = _there(device)
    names = {name for name, _ in module.named_parameters()}
    tensors = {name: torch.empty(info.shape, dtype=dtype, device=place) for name, info in model.components[component].items()}
    module.load_state_dict(tensors, strict=False, assign=True)
    if missing := names - tensors.keys():
        assert missing == {"encoder.embed_tokens.weight"}, missing
        module.set_input_embeddings(module.shared)
    for layer in module.modules():
        layer._buffers.update({name: buffer.to(place) for name, buffer in layer._buffers.items() if buffer is not None})
    assert all(t.device.type == torch.device(place).type for t in chain(module.parameters(), module.buffers()))
    module.eval().requires_grad_(False)


def _there(device: str) -> str:
    return HOST if device == "cpu" else device
