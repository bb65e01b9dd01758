"""What a run folder already holds, kept in step with its journal: which images are whole, which metrics are measured.
run.py asks and adds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.records import (
    Cell,
    Coverage,
    Failure,
    Finished,
    Journal,
    Latency,
    Measurement,
    Memory,
    Record,
    Sample,
    Weights,
)


class Ledger:
    """The journal of one run folder with its index. A sample counts only while its file has the hash it was written with."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.journal = Journal(folder / "journal.jsonl")
        self.samples: dict[tuple[str, Cell], Sample] = {}
        self._by_key: dict[str, Sample] = {}
        self._measured: dict[tuple[str, str, str], tuple[int, str]] = {}
        self._identities: dict[str, str] = {}
        self._coverage: set[str] = set()
        self._latencies: dict[str, Latency] = {}
        self._sound: dict[str, bool] = {}
        records, self.damaged = self.journal.read()
        for record in records:
            self._index(record)

    def add(self, records: Sequence[Record]) -> None:
        """Appends to the journal, durably, and to the index."""
        self.journal.add(records)
        for record in records:
            if isinstance(record, Sample):
                self._sound[record.key] = True
            self._index(record)

    def head(self) -> dict[str, Any]:
        """The run.json of an earlier session in this folder; empty when there is none or it cannot be read."""
        try:
            head = json.loads((self.folder / "run.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return head if isinstance(head, dict) else {}

    def announce(self, weights: Weights) -> None:
        """States what a candidate now is. If its weights changed, timings and coverage of the old ones no longer count."""
        if self._identities.get(weights.candidate) != weights.identity:
            self.add([weights])

    def adopt(self, candidate: str, cell: Cell, key: str) -> bool:
        """Whether the image of `key` is at hand, whole and unaltered; an image of another name is taken over by key."""
        held = self._by_key.get(key)
        if held is None or not self._intact(held):
            return False
        current = self.samples.get((candidate, cell))
        if current is None or current.key != key:
            self.add([replace(held, candidate=candidate, cell=cell)])
        return True

    def cover(self, candidate: str, coverage: Iterable[Coverage]) -> None:
        """Writes the coverage of a candidate's present weights once."""
        if candidate not in self._coverage:
            self.add(list(coverage))

    def latency(self, candidate: str) -> Latency | None:
        """The latency of the candidate's present weights; it is written together with the memory figures."""
        return self._latencies.get(candidate)

    def measured(self, metric: str, version: int, samples: Sequence[Sample], references: Sequence[str]) -> bool:
        """Whether `metric` stands in the journal for every sample, against the same reference images."""
        return all(self._measured.get((s.candidate, s.key, metric)) == (version, reference)
                   for s, reference in zip(samples, references, strict=True))

    def _intact(self, sample: Sample) -> bool:
        if sample.key not in self._sound:
            try:
                data = (self.folder / sample.path).read_bytes()
            except OSError:
                data = b""
            self._sound[sample.key] = hashlib.sha256(data).hexdigest() == sample.sha256
        return self._sound[sample.key]

    def _index(self, record: Record) -> None:
        match record:
            case Sample():
                self.samples[record.candidate, record.cell] = record
                self._by_key[record.key] = record
            case Measurement():
                self._measured[record.candidate, record.sample, record.metric] = (record.version, record.reference)
            case Weights():
                if self._identities.get(record.candidate) != record.identity:
                    self._coverage.discard(record.candidate)
                    self._latencies.pop(record.candidate, None)
                self._identities[record.candidate] = record.identity
            case Coverage():
                self._coverage.add(record.candidate)
            case Latency():
                self._latencies[record.candidate] = record
            case Memory() | Failure() | Finished():
                pass
