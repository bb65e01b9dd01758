"""Which records of a journal still count: what a later record makes void, and for what a measurement, a timing or a batch is
valid.

The ledger (before repeating work) and the reports use the same rules, so they always agree.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeAlias, TypeVar

from harness.records.costs import BatchCurve, Durations, Fit, Latency, Memory, Power, Timeline
from harness.records.events import Failure, Finished, Look, Weights
from harness.records.images import CHUNKED, PROMPTS, Coverage, Defect, Intermediate, Measurement, NoiseFloor, Sample
from harness.records.json_lines import Record

Timed: TypeAlias = Latency | Memory | Timeline | Power | Durations | BatchCurve | Fit
Kind = TypeVar("Kind", bound=Record)
TIME: Final = "time"
"""The stage of a failure to time a candidate."""
Claim: TypeAlias = tuple[int, str, str, str, str]
"""What a measurement was made with: version, setting, key of the reference, SHA-256 of the image and of the reference."""
NO_VERSION: Final = -1
"""The version in the claim of a measurement that no version of its metric counts."""
NOT_REPLACED: Final = (Sample, Measurement, Defect, Intermediate, Look)
"""Kinds with rules of their own: images and what was measured on them count by their keys, looks by their race."""


def voids(new: Record, old: Record, weights: Weights | None) -> bool:
    """Whether `new` makes `old`, an earlier record of the same candidate, void; `weights` are those announced last before `new`.

    When a candidate's weights change, a new identity is announced. It voids coverage, failures, the finish and out-of-memory
    records of the old one. A failure is also void if weights or a finish follow it, and the refusal of a single image if a
    latency follows, because it then fits. A finish says nothing of a failed timing; a latency does.
    """
    match new:
        case Weights():
            changed = weights is not None and weights.identity != new.identity
            return isinstance(old, Failure) or (changed and isinstance(old, Coverage | Finished | Fit))
        case Finished():
            return isinstance(old, Failure) and old.stage != TIME
        case Latency():
            return (isinstance(old, Fit) and old.batch_size == 1) or (isinstance(old, Failure) and old.stage == TIME)
    return False


def subject_of(record: Record) -> tuple[Any, ...]:
    """What a record is about, besides its candidate: a later record of the same subject replaces it."""
    match record:
        case Coverage():
            return Coverage, record.stage, record.component
        case Failure():
            return Failure, record.stage
        case Fit():
            return Fit, record.batch_size, record.cap_bytes
        case NoiseFloor():
            return NoiseFloor, record.cell
    return (type(record),)


class LatestRecords:
    """The last record of every subject that no later record voids, taken one by one in the journal's order. Records of kinds in
    NOT_REPLACED are passed over."""

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self._latest: dict[str, dict[tuple[Any, ...], tuple[int, Record]]] = {}
        self._taken = 0
        for record in records:
            self.take(record)

    def take(self, record: Record) -> None:
        """Adds the next record of the journal."""
        if isinstance(record, NOT_REPLACED):
            return
        own = self._latest.setdefault(record.candidate, {})
        if isinstance(record, Weights | Finished | Latency):
            weights = self.weights(record.candidate)
            for subject in [subject for subject, (_, old) in own.items() if voids(record, old, weights)]:
                del own[subject]
        self._taken += 1
        own.pop(subject := subject_of(record), None)
        own[subject] = self._taken, record

    def records(self) -> list[Record]:
        """Every record that counts, in the journal's order."""
        return [record for _, record in sorted((entry for own in self._latest.values() for entry in own.values()),
                                               key=lambda entry: entry[0])]

    def of(self, kind: type[Kind], candidate: str) -> list[Kind]:
        """A candidate's records of a kind, oldest first."""
        return [record for _, record in self._latest.get(candidate, {}).values() if isinstance(record, kind)]

    def weights(self, candidate: str) -> Weights | None:
        """The weights of a candidate that were announced last, or None."""
        entry = self._latest.get(candidate, {}).get((Weights,))
        return entry[1] if entry is not None and isinstance(entry[1], Weights) else None


def is_timed_alike(record: Timed, weights: Weights | None) -> bool:
    """Whether a record of costs was measured with the candidate's current timing setting."""
    return weights is not None and record.setting == weights.setting


def is_floor_of(record: NoiseFloor, identity: str, batch_size: int) -> bool:
    """Whether a noise floor was measured on these weights and at this batch size."""
    return record.setting == identity and record.batch_size == batch_size


def chunked_places(rows: Iterable[Coverage], prompts: str) -> frozenset[str]:
    """The places of those texts of a candidate that are read in chunks, by the row that was written for the prompts of this
    hash."""
    current = (row for row in rows if row.stage == PROMPTS and row.setting == prompts)
    return frozenset(place for row in current for place in row.keys.get(CHUNKED, ()))


def smaller_batches(batch_size: int, fits: Iterable[Fit]) -> list[int]:
    """The batch sizes below the declared one at which images of a candidate may have been sampled: repeated halves of it, down to
    half of the smallest that was refused."""
    refused = [fit.batch_size for fit in fits if not fit.fits]
    sizes, size = [], batch_size // 2
    while refused and size >= max(1, min(refused) // 2):
        sizes.append(size)
        size //= 2
    return sizes


def claim_of(version: int, setting: str, keys: tuple[str, str], by_key: Mapping[str, Sample]) -> Claim:
    """The claim of a measurement of the image and the reference with these `keys` (the second may be empty). `by_key` holds the
    newest image of each key. A measurement counts while its claim equals the current one."""
    sample, reference = keys
    return version, setting, reference, sha_of(sample, by_key), sha_of(reference, by_key)


def scored_in_part(measurement: Measurement) -> bool:
    """Whether it is a CLIP score of the beginning of a prompt alone, as earlier versions took it of long prompts. It does not
    count any more."""
    return measurement.metric == "clip_score" and measurement.values.get("tokens_dropped", 0.0) > 0


def sha_of(key: str, by_key: Mapping[str, Sample]) -> str:
    """The SHA-256 of the newest image of a key; empty if there is none."""
    sample = by_key.get(key)
    return sample.sha256 if sample is not None else ""
