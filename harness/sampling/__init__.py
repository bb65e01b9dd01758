"""Pipeline x grid -> images: noise, samplers, text embedding, determinism flags."""

from harness.sampling.arriving import NOT_FINITE, Images, SamplingError
from harness.sampling.at_once import pool_of_single_threads
from harness.sampling.batches import (
    DEVICE_MODEL,
    SAMPLING_VERSION,
    batches,
    cores,
    kinds,
    setting,
    side_by_side,
    small,
    threads_for,
    threads_per_operation,
)
from harness.sampling.branches import LiveBranch, alone, embedded, entered, read_by
from harness.sampling.common_stages import Common, StageStore
from harness.sampling.denoise import (
    DECODE_BATCH,
    Denoising,
    decode,
)
from harness.sampling.determinism import set_determinism
from harness.sampling.noise import generators, initial_noise
from harness.sampling.packing import pack
from harness.sampling.png import from_png, to_png
from harness.sampling.prompt_coverage import (
    coverage_of_prompts,
    idle_word_problem,
    long_text_problem,
    markup_problem,
    named,
    one_text_problem,
)
from harness.sampling.staged import Later
from harness.sampling.stream import LENDING, sample, time_one
from harness.sampling.text import Conditions, TextState, encode
from harness.sampling.text_lengths import Lengths, lengths_of

__all__ = ["DECODE_BATCH", "DEVICE_MODEL", "LENDING", "NOT_FINITE", "SAMPLING_VERSION", "Common", "Conditions", "Denoising",
           "Images", "Later", "Lengths", "LiveBranch", "SamplingError", "StageStore", "TextState", "alone", "batches", "cores",
           "coverage_of_prompts", "decode", "embedded", "encode", "entered", "from_png", "generators", "idle_word_problem",
           "initial_noise", "kinds", "lengths_of", "long_text_problem", "markup_problem", "named", "one_text_problem", "pack",
           "pool_of_single_threads", "read_by", "sample", "set_determinism", "setting", "side_by_side", "small", "threads_for",
           "threads_per_operation", "time_one", "to_png"]
