"""Names of constants that tools store among weights: position ids, frequencies, and the schedule of the noise."""

from __future__ import annotations

import re
from typing import Final

_HARMLESS: Final = re.compile(
    r"(.*\.)?(position_ids|inv_freq|betas|alphas_cumprod\w*|sqrt_\w+|log_one_minus_\w+|posterior_\w+|sigmas|log_sigmas|freqs|freqs_cis"
    r"|(model_sampling|pos_embedder)\..+)")
"""Constants that tools store among the weights of a component: position ids, frequencies, and the schedule of the noise."""

DENOISER_WRAPPERS: Final = ("model.diffusion_model.model.", "diffusion_model.", "transformer.", "dit.", "unet.")
"""Prefixes that training tools add to every name of a denoiser alone. They are part of the names of a file."""


def is_position_ids(name: str) -> bool:
    """Whether a tensor holds the integers 0..n-1 that number a text encoder's positions."""
    return name.endswith(".position_ids") or name == "position_ids"


def is_harmless(name: str) -> bool:
    """Whether a name below a component's prefix, which the component does not have, is that of a constant."""
    return _HARMLESS.fullmatch(name) is not None
