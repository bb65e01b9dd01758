"""The number format of a candidate's denoiser on a device where the candidate declares none, and where each component is kept."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Final

from harness.declare import Candidate
from harness.declare.candidate import NOT_QUANTIZED, NUMBER_FORMATS
from harness.declare.mixed import of_denoiser, with_denoiser
from harness.quantize import LIVE_DTYPES, QUANTIZATION_MODES
from harness.quantize.declared import made_on_host, only_casts
from harness.samplers import called_by_diffusers
from harness.weights import ModelFile
from harness.weights.live_module import KINDS
from harness.weights.placing import Home

_TRANSFORMERS: Final = "bf16"
"""Transformers are trained in bfloat16, and their activations leave the range of float16."""
_UNETS: Final = "fp16"


def in_its_format(candidate: Candidate, family: str, device: str) -> Candidate:
    """The candidate with its number format as its quantization: the declared one; where none is declared, fp32 on a CPU, and on a
    GPU fp16 for U-Nets and bf16 for transformers. That of an integer mode stays, and the format it computes in is its precision.
    `family` is that of its model."""
    default = NOT_QUANTIZED if device.partition(":")[0] == "cpu" else _TRANSFORMERS if called_by_diffusers(family) else _UNETS
    mode = of_denoiser(candidate.quantization)
    if made_on_host(mode):
        offered = NOT_QUANTIZED if QUANTIZATION_MODES[default].why_not(device) else default
        return replace(candidate, quantization=with_denoiser(candidate.quantization, mode),
                       precision=str(candidate.precision or offered))
    if mode not in NUMBER_FORMATS:
        return candidate
    resolved = str(candidate.denoiser_format or default)
    return replace(candidate, quantization=with_denoiser(candidate.quantization, resolved),
                   precision=resolved if resolved == NOT_QUANTIZED else "")


def computing_of(candidate: Candidate) -> str:
    """The dtype in which the denoiser of a candidate in its format computes; a mode of the user's own takes float32."""
    mode = of_denoiser(candidate.quantization)
    return LIVE_DTYPES[candidate.precision or NOT_QUANTIZED if made_on_host(mode) else
                       str(mode) if only_casts(mode) else NOT_QUANTIZED]


def homes_of(model: ModelFile, device: str, mode: str, *, quantized: bool = False,
             low_memory: Collection[str] = ()) -> dict[str, Home]:
    """Where the components of a live pipeline are kept, and in which dtype. On a CPU all are there, and all but the denoiser in
    float32. On a GPU, text encoders are kept on the host and lent to the device while texts are embedded; T5 is kept in bfloat16,
    in which it was trained. The VAE is kept in float32 on the device, since some overflow in float16. A `quantized`
    denoiser is kept on the host, where its copies are made; a transformer in bfloat16, as 48 GB are more than most hosts have.
    The measures of `low_memory` keep the VAE, or the denoiser, on the host."""
    denoiser = "transformer" if "transformer" in model.components else "unet"
    dtype = "bfloat16" if quantized and denoiser == "transformer" else LIVE_DTYPES[mode]
    homes = {denoiser: Home(device="cpu" if quantized else device, dtype=dtype)}
    if device.partition(":")[0] == "cpu":
        return homes
    if "vae_on_host" in low_memory:
        homes["vae"] = Home(device="cpu")
    encoders = {component: Home(device="cpu", dtype="bfloat16" if _is_t5(model.family, component) else "float32")
                for component in model.components if component.startswith("text_encoder")}
    homes |= encoders
    if "denoiser_on_host" in low_memory:
        homes = {part: replace(home, device="cpu") for part, home in homes.items()}
    return homes


def _is_t5(family: str, component: str) -> bool:
    return KINDS.get(family, {}).get(component) == "t5"
