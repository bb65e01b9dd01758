"""Records of images: which there are, what was measured on them, and what became of the weights that they were made with."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One place of the grid: which prompt (by id), seed and guidance scale."""

    prompt: str
    seed: int
    guidance: float

    @property
    def noise_seed(self) -> int:
        """Seed (32 bits) of the CPU generator that draws the initial noise.

        It depends on the prompt's id as well as on the seed, so that prompts are independent draws and an interval
        with the prompt as cluster is honest; it depends on nothing else, so every candidate starts from the same noise.
        """
        return int.from_bytes(hashlib.sha256(f"{self.prompt}\n{self.seed}".encode()).digest()[:4])


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One written image. `key` is the hash of all that determines it; `path` is relative to the run folder."""

    key: str
    candidate: str
    cell: Cell
    path: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One metric on one image. `values` are finite floats by value name, `labels` are words ("dominant": "red"),
    `details` is JSON for pictures of the page, and `missing` says why a value of the metric is absent. `reference` is
    the key of the baseline's sample that it was compared with, empty where there was none; `setting` is the hash of
    whatever else decides the values (for the CLIP score its model file), empty where nothing does."""

    sample: str
    candidate: str
    cell: Cell
    metric: str
    version: int
    values: Mapping[str, float]
    labels: Mapping[str, str] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    reference: str = ""
    setting: str = ""


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """What happened to every tensor of one component in one stage ("merge", "adapter <path>", "quantize").

    `keys` maps a status to the tensor names that have it. Merge: merged, merged_in_part (some input channels), copied,
    adapted, left_out (what only others have), missing_in_a, missing_in_b, shape_mismatched, non_finite, unmatched. File:
    known_extra, unmatched. Adapter: applied, consumed, refused, absent_component. Quantize: quantized, kept.
    `notes` says in words what a reader should know (casts, a scheme's limits). `of` is the number of rows that belong
    together: a candidate with fewer on record has lost some, and its coverage is not known.
    """

    candidate: str
    stage: str
    component: str
    keys: Mapping[str, tuple[str, ...]]
    notes: tuple[str, ...] = ()
    of: int = 0


@dataclass(frozen=True, kw_only=True)
class Defect:
    """An image that is none: `sample` is its key, `why` what was wrong with the numbers it was to be made of. Its file is black
    where they were no numbers; no metric is computed on it."""

    candidate: str
    cell: Cell
    sample: str
    why: str


@dataclass(frozen=True, kw_only=True)
class NoiseFloor:
    """One image made twice, in a batch of `batch_size` and alone: the largest difference in levels of 0 to 255, and the share
    of values that differ at all. `setting` is the identity of the weights."""

    candidate: str
    cell: Cell
    batch_size: int
    largest_levels: int
    changed_share: float
    setting: str = ""


def sample_key(identity: str, cell: Cell, texts: tuple[str, str], setting: Mapping[str, Any]) -> str:
    """Key of an image: 16 hex digits of the SHA-256 over everything that determines it.

    `identity` is that of the weights, `texts` the prompt and its negative, `setting` the sampling block of run.json
    (sampler, steps, size, batch size, kind of device, version of the sampling code).
    """
    parts = [identity, cell.noise_seed, float(cell.guidance), *texts, sorted(setting.items())]
    return hashlib.sha256(json.dumps(parts, ensure_ascii=False, separators=(",", ":")).encode()).hexdigest()[:16]


def finite(values: Mapping[str, float]) -> bool:
    """Whether every value is a finite number; only then may it enter a Measurement."""
    return all(math.isfinite(v) for v in values.values())
