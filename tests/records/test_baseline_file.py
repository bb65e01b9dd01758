"""The baseline file: what a promotion writes is read back, and anything else is refused with one message by everybody."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.promotion import Models
from harness.promotion.copy_baseline import take_promoted
from harness.records.baseline_file import BaselineError, baseline_text, read_baseline
from harness.records.signed_json import digest_of, signed_text
from reports.read.promoted_values import read_promoted
from reports.trend.series import read_trend

CELLS = {"columns": ["prompt", "seed", "guidance", "image", "clip_score"],
         "rows": [["cat", 1, 4.0, "k1", 71.5], ["cat", 2, 4.0, "k2", None]]}
DATA: dict[str, Any] = {
    "format": 1, "suite": {"name": "small", "run_started": "2026-01-01T00:00:00+00:00"}, "name": "ship", "version": 2,
    "figures": {}, "candidate": "alpha=0.5", "weights": {}, "inputs": {}, "metrics": {"clip_score": 2}, "metric_settings": {},
    "sampling": {"steps": 3}, "environment": {"device": "cpu"}, "prompts": {"cat": ["a cat", ""]},
    "reference": {"key": "k", "inputs": []}, "cells": CELLS}


def signed(**changes: Any) -> str:
    """The file with changes; a part that is None is left out."""
    data = {key: value for key, value in {**DATA, **changes}.items() if value is not None}
    return json.dumps({**data, "digest": digest_of(data)})


def with_row(*row: Any) -> dict[str, Any]:
    return {**CELLS, "rows": [list(row)]}


MALFORMED: dict[str, str] = {
    "empty": "", "not JSON": "{", "a list": "[]", "null": "null", "too deep": "[" * 100_000, "NaN": '{"format": NaN}',
    "infinity": '{"format": 1, "version": 1e999}', "a number of many digits": '{"format": ' + "1" * 5000 + "}",
    "no digest": json.dumps(DATA), "another digest": json.dumps({**DATA, "digest": "0"}), "digest null": '{"digest": null}',
    "format 2": signed(format=2), "format in words": signed(format="1"), "no format": signed(format=None),
    "another type of cells": signed(cells=3), "no cells": signed(cells=None), "no columns": signed(cells={"rows": []}),
    "a column twice": signed(cells={"columns": ["prompt", "seed", "guidance", "seed"], "rows": []}),
    "no seed column": signed(cells={"columns": ["prompt", "guidance"], "rows": []}),
    "a short row": signed(cells=with_row("cat", 1)), "a row that is none": signed(cells={**CELLS, "rows": [3]}),
    "a word for a value": signed(cells=with_row("cat", 1, 4.0, "k", "high")),
    "true for a value": signed(cells=with_row("cat", 1, 4.0, "k", True)),
    "a seed beyond 64 bits": signed(cells=with_row("cat", 10**30, 4.0, "k", 1.0)),
    "a seed with a fraction": signed(cells=with_row("cat", 1.5, 4.0, "k", 1.0)),
    "no guidance": signed(cells=with_row("cat", 1, None, "k", 1.0)),
    "a value beyond floats": signed(cells=with_row("cat", 1, 4.0, "k", 10**400)),
    "a cell twice": signed(cells={**CELLS, "rows": [CELLS["rows"][0], CELLS["rows"][0]]}),
    "a prompt without negative text": signed(prompts={"cat": ["a cat"]}), "prompts in a list": signed(prompts=[]),
    "no suite": signed(suite=None), "a suite without name": signed(suite={}), "a version in words": signed(version="2"),
    "a true version": signed(version=True), "no name": signed(name=None), "no candidate": signed(candidate=None),
    "metrics in a list": signed(metrics=["clip_score"]), "figures a number": signed(figures=3),
    "an environment in a list": signed(environment=[]), "settings in words": signed(metric_settings="x")}


def by_gates(file: Path) -> str:
    promoted = read_promoted(file.parent)
    assert promoted is not None
    return promoted.why


def by_trend(file: Path) -> str:
    with pytest.raises(ValueError, match="baseline") as caught:
        read_trend([file])
    return str(caught.value)


def by_taking(file: Path) -> str:
    taken = take_promoted(file, file.parent / "run")
    copied = read_promoted(file.parent / "run")
    assert copied is not None
    assert copied.why == taken
    return taken


@pytest.mark.parametrize("reader", [by_gates, by_trend, by_taking])
@pytest.mark.parametrize("kind", MALFORMED)
def test_every_reader_refuses_a_malformed_file_with_the_same_reason(kind: str, reader: Callable[[Path], str],
                                                                    tmp_path: Path) -> None:
    file = tmp_path / "baseline.json"
    file.write_text(MALFORMED[kind], encoding="utf-8")
    with pytest.raises(BaselineError) as caught:
        read_baseline(file)
    reason = str(caught.value)
    assert reader(file).removeprefix(f"{tmp_path}/") == reason.removeprefix(f"{tmp_path}/")
    assert str(file) in reason


def test_a_folder_and_a_huge_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.json").mkdir()
    with (tmp_path / "huge.json").open("wb") as huge:
        huge.truncate(64_000_001)
    for name, fact in (("folder.json", "regular file"), ("huge.json", "64 MB")):
        with pytest.raises(BaselineError, match=fact):
            read_baseline(tmp_path / name)


def test_a_damaged_baseline_belongs_to_no_name(tmp_path: Path) -> None:
    models = Models(tmp_path)
    models.baseline("small").parent.mkdir()
    models.baseline("small").write_text(signed())
    assert models.baseline_of("small") == "ship"
    models.baseline("small").write_text(signed().replace("ship", "boat"))
    assert models.baseline_of("small") == ""


def test_a_file_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    file = tmp_path / "small.json"
    record = {**{key: value for key, value in DATA.items() if key != "version"}, "number": 2,
              "figures": {"seconds_per_image": {"mean": 1.0}, "clip_score": {"mean": 71.5}}}
    file.write_text(baseline_text(record), encoding="utf-8")
    baseline = read_baseline(file)
    assert (baseline.name, baseline.version, baseline.suite, baseline.candidate) == ("ship", 2, "small", "alpha=0.5")
    assert baseline.figures == {"seconds_per_image": {"mean": 1.0}}
    assert baseline.rows == tuple(map(tuple, CELLS["rows"]))
    assert baseline.absent == ()


def test_a_file_of_an_older_version_is_read_without_what_it_lacks(tmp_path: Path) -> None:
    file = tmp_path / "small.json"
    file.write_text(signed(prompts=None, metric_settings=None))
    assert read_baseline(file).absent == ("prompts", "metric_settings")


def test_the_digest_does_not_depend_on_spaces_or_the_order_of_keys() -> None:
    data = json.loads(signed_text(DATA))
    assert digest_of(dict(reversed(list(data.items())))) == digest_of(DATA) == data["digest"]
