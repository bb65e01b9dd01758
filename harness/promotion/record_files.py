"""The records of a promoted model: plain JSON for people and git, validated when read, because anyone can edit them. Each holds
its own digest and that of the record before."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from harness.promotion.errors import PromotionError
from harness.records.signed_json import is_signed, read_json

RECORD_FORMAT: Final = 1
PROMOTION: Final = "promotion"
ROLLBACK: Final = "rollback"
_HASH: Final = re.compile(r"[0-9a-f]{64}")
_WEIGHTS: Final = ("blake3", "header_blake3", "data_blake3")
_PARTS: Final[Mapping[str, type]] = {
    "candidate": str, "suite": dict, "recipe": dict, "inputs": dict, "verdicts": list, "figures": dict, "cells": dict,
    "resampled": dict, "environment": dict, "policy": str, "metrics": dict, "sampling": dict}


@dataclass(frozen=True, kw_only=True)
class Version:
    """One record: a promotion, or a rollback `to` an earlier promotion. `weights` is the BLAKE3 of the file that became current,
    `follows` the digest of the record before (empty for the first), `replaces` the promotion that was current before (0 for
    none). `data` is the whole record."""

    name: str
    number: int
    kind: str
    date: str
    weights: str
    digest: str
    follows: str
    replaces: int
    to: int
    data: Mapping[str, Any]

    @property
    def candidate(self) -> str:
        """The promoted candidate; empty for a rollback."""
        return str(self.data.get("candidate", ""))

    @property
    def suite(self) -> str:
        """The suite it was measured in; empty for a rollback."""
        return str(self.data.get("suite", {}).get("name", ""))


def read_record(path: Path, name: str) -> Version:
    """The record in a file. Raises PromotionError, naming file and key, for a malformed record and for one that was changed after
    it was written."""
    data = _read(path)
    number, kind = data.get("number"), data.get("kind")
    if data.get("format") != RECORD_FORMAT:
        raise PromotionError(f"{path} has record format {data.get('format')!r}, but this version reads {RECORD_FORMAT}. Use the "
                             "version that wrote it")
    if kind not in (PROMOTION, ROLLBACK) or data.get("name") != name or type(number) is not int or path.stem != f"{number:04d}":
        raise PromotionError(f"{path}: kind {kind!r}, name {data.get('name')!r} and number {number!r} are not those of record "
                             f"{path.stem} of {name!r}. Restore the file from git")
    weights, previous = data.get("weights"), data.get("previous") or {}
    if not isinstance(weights, dict) or not isinstance(previous, dict) or not isinstance(data.get("date"), str) or not all(
            isinstance(weights.get(part), str) and _HASH.fullmatch(weights[part]) for part in _WEIGHTS):
        raise PromotionError(f"{path}: weights, previous or date is malformed. Restore the file from git")
    if kind == PROMOTION and (wrong := [part for part, type_ in _PARTS.items() if not isinstance(data.get(part), type_)]):
        raise PromotionError(f"{path}: {wrong[0]!r} is missing or has the wrong type. Restore the file from git")
    if kind == PROMOTION and not (isinstance(data["suite"].get("name"), str)
                                  and all(isinstance(v, dict) for v in data["verdicts"])):
        raise PromotionError(f"{path}: suite or verdicts are malformed. Restore the file from git")
    if not is_signed(data):
        raise PromotionError(f"{path} was changed after it was written (its digest does not match its content). Restore the file "
                             "from git")
    return Version(name=name, number=number, kind=kind, date=data["date"], weights=weights["blake3"], digest=data["digest"],
                   follows=str(previous.get("digest", "")), replaces=_number(path, data, "replaces"),
                   to=_number(path, data, "to"), data=data)


def _read(path: Path) -> dict[str, Any]:
    try:
        return read_json(path)
    except ValueError as error:
        raise PromotionError(f"{path} cannot be read as a record ({error}). Restore the file from git") from error


def _number(path: Path, data: Mapping[str, Any], key: str) -> int:
    value = data.get(key, 0)
    if type(value) is not int or value < 0:
        raise PromotionError(f"{path}: {key!r} is {value!r}; expected the number of a record. Restore the file from git")
    return value


def finite_or_none(value: float | None) -> float | None:
    """The value, or None for NaN and infinity, which JSON does not have."""
    return None if value is None or not math.isfinite(value) else float(value)
