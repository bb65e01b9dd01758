"""Records of images: the samples, their measurements, and what happened to the weights they were made with."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One cell of the grid: prompt (by id), seed and guidance scale."""

    prompt: str
    seed: int
    guidance: float

    @property
    def noise_seed(self) -> int:
        """Seed (32 bits) of the CPU generator that draws the initial noise.

        It depends on the prompt's id as well as on the seed, so prompts are independent draws and an interval clustered by
        prompt is valid. It depends on nothing else, so every candidate starts from the same noise.
        """
        return self._drawn_from(f"{self.prompt}\n{self.seed}")

    def stage_seed(self, stage: int) -> int:
        """Seed of the generator of a later stage, which counts from 1 for the second. It is not that of the stage before, whose
        noise the picture already follows, and it is the same for every candidate."""
        return self._drawn_from(f"{self.prompt}\n{self.seed}\n{stage}")

    @staticmethod
    def _drawn_from(text: str) -> int:
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4])


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One written image. `key` is the hash of everything that determines it; `path` is relative to the run folder."""

    key: str
    candidate: str
    cell: Cell
    path: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One metric on one image. `values` are finite floats by value name, `labels` are words ("dominant": "red"),
    `details` is JSON for figures on the page, and `missing` says why a value of the metric is absent. `reference` is the key
    of the baseline's sample that it was compared with, empty if there was none; `setting` is the hash of whatever else
    determines the values (for the CLIP score its model file), empty if nothing does."""

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


EMBEDDING: Final = "likeness_embedding"
"""Among the details of a measurement of likeness: the image's CLIP embedding, as float16 in base64."""
SHOWN: Final = "likeness_reference"
"""Among the same: which reference picture the image is compared with, as a short hash of its pixels."""
TEXT_PARTS: Final = "clip_text_parts"
"""Among the details of a CLIP score: in how many parts the prompt was scored, if it is longer than the model reads."""
MOST_PARTS: Final = 1_000_000
"""The largest such number that is read."""
LARGEST_EMBEDDING: Final = 16384
"""The longest text of an embedding that is read: 6144 numbers."""
IDENTITIES: Final = "identities"
"""The stage of the coverage rows that say which identities of the merge method hold and which are broken."""
PROMPTS: Final = "prompts"
"""The stage of the coverage row that says which prompts do not fit the text encoder. Up to version 0.1 that row had the stage
"text", counted words instead of tokens, and was not renewed when the prompts changed."""
CHUNKED: Final = "chunked"
"""The status of a text that is longer than the text encoder, and is read in chunks."""
APART: Final = (IDENTITIES, PROMPTS)
"""The stages whose rows say nothing about tensors. They are not among the rows that `of` counts."""


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """What happened to every tensor of one component in one stage ("merge", "adapter <path>", "quantize").

    `keys` maps a status to the tensor names that have it. Merge: merged, merged_in_part (some input channels), copied,
    adapted, left_out (tensors that only others have), missing_in_a, missing_in_b, shape_mismatched, non_finite, unmatched.
    File: known_extra, unmatched. Adapter: applied, consumed, refused, absent_component. Quantize: quantized, kept.
    Prompts: whole, chunked, shortened, applied (words of a treatment); `setting` is then the hash of the prompts.
    `notes` holds remarks for the reader (casts, a scheme's limits). `of` is the number of rows that belong together: if
    fewer are on record, some were lost and the candidate's coverage is unknown.
    """

    candidate: str
    stage: str
    component: str
    keys: Mapping[str, tuple[str, ...]]
    notes: tuple[str, ...] = ()
    of: int = 0
    setting: str = ""


@dataclass(frozen=True, kw_only=True)
class Defect:
    """An unusable image: `sample` is its key, `why` says what was wrong with its pixel values. In its file, pixels that were
    NaN or infinite are black. No metric is computed on it."""

    candidate: str
    cell: Cell
    sample: str
    why: str


@dataclass(frozen=True, kw_only=True)
class Intermediate:
    """A picture that an image was made of, kept beside it: that of an earlier stage ("stage 1"), or the picture before the
    post-steps ("raw"). `sample` is the key of the image, `key` the hash of everything that determines the picture; `path` and
    `sha256` as of a Sample. Several images may share one file. `notes` are remarks of the post-steps about this image."""

    candidate: str
    cell: Cell
    sample: str
    name: str
    key: str
    path: str
    sha256: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class NoiseFloor:
    """One image made twice, in a batch of `batch_size` and alone: the largest difference in levels from 0 to 255, and the
    share of values that differ. `setting` is the identity of the weights."""

    candidate: str
    cell: Cell
    batch_size: int
    largest_levels: int
    changed_share: float
    setting: str = ""


def sample_key(identity: str, cell: Cell, texts: tuple[str, ...], setting: Mapping[str, Any]) -> str:
    """Key of an image: 16 hex digits of the SHA-256 of everything that determines it.

    `identity` is that of the weights, `texts` the prompt, its negative, and the contents of its pictures that the candidate uses
    (`picture_uses.parts_in_key`), `setting` the sampling block of run.json
    (sampler, steps, size, batch size, kind of device, version of the sampling code).
    """
    parts = [identity, cell.noise_seed, float(cell.guidance), *texts, sorted(setting.items())]
    return hashlib.sha256(json.dumps(parts, ensure_ascii=False, separators=(",", ":")).encode()).hexdigest()[:16]


def finite(values: Mapping[str, float]) -> bool:
    """Whether every value is a finite number; only then may it be stored in a Measurement."""
    return all(math.isfinite(v) for v in values.values())
