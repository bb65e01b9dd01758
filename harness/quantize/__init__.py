"""QUANTIZATION_MODES: component in, component out.

The harness applies one row to a candidate's U-Net after its adapters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from harness.declare.rows import Rows
from harness.quantize.by_layer import (
    fp8_dynamic,
    fp8_scaled,
    fp8_weight_only,
    gguf_q4_0,
    gguf_q4_1,
    gguf_q5_0,
    gguf_q5_1,
    gguf_q8_0,
    int4_weight_only,
    int8_dynamic,
    int8_weight_only,
    nf4,
)
from harness.quantize.cast import FP8_ON_CPU, FP16_ON_CPU, below_fp8, bf16_emulated, live_in, to_bf16, to_fp16, to_fp32
from harness.quantize.contract import QuantizationMode, QuantizeError, QuantizeReport
from harness.quantize.sdnq_codes import PACKAGE as SDNQ
from harness.quantize.sdnq_codes import without_sdnq
from harness.quantize.sdnq_modes import (
    sdnq_float8_e4m3fn,
    sdnq_int4,
    sdnq_int5,
    sdnq_int6,
    sdnq_int8,
    sdnq_uint4,
)
from harness.quantize.storage import stored_bytes, weight_count
from harness.quantize.user_modes import adopt_mode

if TYPE_CHECKING:
    import torch

QUANTIZATION_MODES: Final[Rows[QuantizationMode]] = Rows({
    "fp32": QuantizationMode(apply=to_fp32, weight_bits=32),
    "bf16": QuantizationMode(apply=to_bf16, weight_bits=16, version=2, lacks=bf16_emulated),
    "fp16": QuantizationMode(apply=to_fp16, weight_bits=16, version=2, refused={"cpu": FP16_ON_CPU}),
    "int8_weight_only": QuantizationMode(apply=int8_weight_only, weight_bits=8, package="torchao"),
    "int8_dynamic": QuantizationMode(apply=int8_dynamic, weight_bits=8, package="torchao"),
    "int4_weight_only": QuantizationMode(apply=int4_weight_only, weight_bits=4),
    "fp8_weight_only": QuantizationMode(apply=fp8_weight_only, weight_bits=8),
    "fp8_scaled": QuantizationMode(apply=fp8_scaled, weight_bits=8),
    "fp8_dynamic": QuantizationMode(apply=fp8_dynamic, weight_bits=8, package="torchao", refused={"cpu": FP8_ON_CPU},
                                    lacks=below_fp8),
    "nf4": QuantizationMode(apply=nf4, weight_bits=4.5),
    "gguf_q8_0": QuantizationMode(apply=gguf_q8_0, weight_bits=8.5),
    "gguf_q5_1": QuantizationMode(apply=gguf_q5_1, weight_bits=6),
    "gguf_q5_0": QuantizationMode(apply=gguf_q5_0, weight_bits=5.5),
    "gguf_q4_1": QuantizationMode(apply=gguf_q4_1, weight_bits=5),
    "gguf_q4_0": QuantizationMode(apply=gguf_q4_0, weight_bits=4.5),
    "sdnq_int8": QuantizationMode(apply=sdnq_int8, weight_bits=8, package=SDNQ, lacks=without_sdnq, values_of=SDNQ),
    "sdnq_float8_e4m3fn": QuantizationMode(apply=sdnq_float8_e4m3fn, weight_bits=8, package=SDNQ, lacks=without_sdnq,
                                           values_of=SDNQ),
    "sdnq_int6": QuantizationMode(apply=sdnq_int6, weight_bits=6, package=SDNQ, lacks=without_sdnq, values_of=SDNQ),
    "sdnq_int5": QuantizationMode(apply=sdnq_int5, weight_bits=5.25, package=SDNQ, lacks=without_sdnq, values_of=SDNQ),
    "sdnq_int4": QuantizationMode(apply=sdnq_int4, weight_bits=4.5, package=SDNQ, lacks=without_sdnq, values_of=SDNQ),
    "sdnq_uint4": QuantizationMode(apply=sdnq_uint4, weight_bits=5, package=SDNQ, lacks=without_sdnq, values_of=SDNQ),
}, word="quantization", kind=QuantizationMode, group="sweetspot.quantization_modes", adopt=adopt_mode)

LIVE_DTYPES: Final = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
"""By mode that only casts: the dtype in which live weights are kept for it, so that it needs no copy of them; `apply` then sets
the casts at the module's border."""
MADE_ON_HOST: Final[Mapping[str, Callable[[torch.nn.Module, str], QuantizeReport]]] = {
    "int8_weight_only": int8_weight_only, "int8_dynamic": int8_dynamic, "int4_weight_only": int4_weight_only,
    "fp8_weight_only": fp8_weight_only, "fp8_scaled": fp8_scaled, "fp8_dynamic": fp8_dynamic, "nf4": nf4,
    "gguf_q8_0": gguf_q8_0, "gguf_q5_1": gguf_q5_1,
    "gguf_q5_0": gguf_q5_0, "gguf_q4_1": gguf_q4_1, "gguf_q4_0": gguf_q4_0,
    "sdnq_int8": sdnq_int8, "sdnq_float8_e4m3fn": sdnq_float8_e4m3fn, "sdnq_int6": sdnq_int6, "sdnq_int5": sdnq_int5,
    "sdnq_int4": sdnq_int4, "sdnq_uint4": sdnq_uint4}
"""Modes that work on a module on the CPU, which moves to its device afterwards, and replace parameters without writing into them;
each as a function of the module and the dtype in which it then computes ("float16")."""

__all__ = ["LIVE_DTYPES", "MADE_ON_HOST", "QUANTIZATION_MODES", "QuantizationMode", "QuantizeError", "QuantizeReport",
           "live_in", "stored_bytes", "weight_count"]
