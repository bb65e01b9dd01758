"""A promotion record and its baseline, written by version 0.1.0 before its modules moved: they load, and are written the same."""

import json
from pathlib import Path
from typing import Any

import pytest

from harness.promotion import Models, gather
from harness.promotion.record_parts import VERDICT_FIELDS, cells_part, figures_part, verdict_part
from harness.records.signed_json import signed_text
from tests.gold.test_gold import GOLD, same

TIED_COLOURS = ("palette_left", "objective")
"""Values that changed where two colours are equally common in an image's group."""
RECORD = GOLD / "models" / "gold" / "records" / "0001.json"


@pytest.fixture(scope="module")
def record() -> dict[str, Any]:
    """The record as JSON."""
    return dict(json.loads(RECORD.read_text(encoding="utf-8")))


def without_ties(cells: dict[str, Any]) -> list[list[Any]]:
    """The rows of the cells without the values that ties changed."""
    kept = [at for at, name in enumerate(cells["columns"]) if name not in TIED_COLOURS]
    return [[row[at] for at in kept] for row in cells["rows"]]


def test_an_old_record_loads() -> None:
    models = Models(GOLD / "models")
    version = models.promotion("gold", models.current("gold"))
    assert (version.number, version.candidate, version.suite) == (1, "alpha=0.5", "gold")


def test_the_baseline_of_an_old_record_is_written_as_it_was(tmp_path: Path) -> None:
    written = Models(tmp_path).write_baseline(Models(GOLD / "models").promotion("gold", 1))
    assert written.read_bytes() == (GOLD / "gold_record_baseline.json").read_bytes()


def test_a_record_keeps_its_text(record: dict[str, Any]) -> None:
    unsigned = {key: value for key, value in record.items() if key != "digest"}
    assert signed_text(unsigned) == RECORD.read_text(encoding="utf-8")


def test_the_same_run_makes_the_same_parts_of_a_record(record: dict[str, Any]) -> None:
    evidence = gather(GOLD / "runs" / "gold", "alpha=0.5")
    parts = {"verdicts": [verdict_part(verdict) for verdict in evidence.verdicts], "figures": figures_part(evidence),
             "cells": cells_part(evidence)}
    now = json.loads(json.dumps(parts))
    before = json.loads(json.dumps({part: record[part] for part in parts}))
    # Since then the interval of every share is Wilson's; it was t's for these four, and could leave 0 to 1.
    for value in ("saturation", "edge_jaggedness", "style_certainty", "ssim"):
        mine, old = now["figures"][value], before["figures"][value]
        assert 0 <= mine.pop("low") < mine["mean"] < mine.pop("high") <= 1
        assert old.pop("low") < old["mean"] < old.pop("high")
    # Since then a tie for the usual colour favours no side.
    before["cells"]["rows"], now["cells"]["rows"] = (without_ties(of["cells"]) for of in (before, now))
    for value in TIED_COLOURS:
        assert now["figures"].pop(value).keys() == before["figures"].pop(value).keys()
    # Since then a peak is that of one image; the one of then holds the making of the candidate too, and does not count.
    assert before["figures"].pop("peak_bytes")["unit"] == "bytes, process_rss_peak_bytes"
    assert "peak_bytes" not in now["figures"]
    for part in parts:
        assert same(now[part], before[part]), part
    assert all(tuple(verdict) == VERDICT_FIELDS for verdict in now["verdicts"])
    assert evidence.unfinished == ()
