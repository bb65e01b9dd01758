"""The weights of a candidate are counted with everything that is live beside its model, each tensor once."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import torch

from harness.records.costs import DENOISER_WEIGHTS, STORED, STORED_DENOISER, WRITTEN_DENOISER
from harness.run.latency import stored_readings

DENOISER = {STORED_DENOISER: 400.0, DENOISER_WEIGHTS: 100.0, WRITTEN_DENOISER: None}


def linear(width: int) -> torch.nn.Module:
    """4 * width bytes."""
    return torch.nn.Linear(width, 1, bias=False)


def phase(**beside: Any) -> Any:
    unet, vae = linear(100), linear(10)
    pipeline = SimpleNamespace(parts={"unet": unet, "vae": vae}, denoiser=unet, vae=vae, encoders=(),
                               **{"controls": (), "references": (), **beside})
    return SimpleNamespace(branches=[SimpleNamespace(enter=lambda: pipeline)])


def counted(*phases: Any) -> dict[str, float | None]:
    prepared: Any = SimpleNamespace(every_phase=phases, candidate=None)
    return {reading.name: reading.value for reading in stored_readings(cast(Any, prepared))}


def test_a_model_alone_is_its_parts() -> None:
    assert counted(phase()) == {STORED: 440.0, **DENOISER}


def test_controls_references_and_image_encoders_count_once_for_all_phases() -> None:
    network, encoder, key = linear(50), linear(30), torch.zeros(5)
    control = SimpleNamespace(network=network)
    reference = SimpleNamespace(identity="face", keys=(key,), values=(torch.zeros(5),), modules=lambda: (encoder,))
    first = phase(controls=(control, SimpleNamespace(network=None)), references=(reference,))
    again = first.branches[0].enter()
    assert counted(first, SimpleNamespace(branches=[SimpleNamespace(enter=lambda: again)])) == {
        STORED: 440.0 + 200 + 120 + 40, **DENOISER}
