"""The head of a run folder: whatever is wrong with it is said with the file, what was found and what to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from reports.read.run import load_run
from tests.reports import synthetic


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = synthetic.write_run(tmp_path_factory.mktemp("head"), synthetic.merge_suite(grid=synthetic.SMALL))
    (made / "sound.json").write_text((made / "run.json").read_text())
    return made


@pytest.fixture(scope="module")
def sound(folder: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((folder / "sound.json").read_text())
    return read


@pytest.mark.parametrize(("text", "said"), [
    ("", "is not JSON"), ('{"format": 1', "is not JSON"), ("[" * 100_000, "is not JSON"), ("[1]", "holds a list"),
    ("null", "holds null"), ('{"format": 7}', "run format 7"), ("{}", "run format None"),
    ('{"format": 1}', "no sampling settings"), ('{"format": 1, "sampling": {}}', "has no suite")])
def test_a_head_that_is_none_is_refused(folder: Path, text: str, said: str) -> None:
    (folder / "run.json").write_text(text)
    with pytest.raises(ValueError, match=rf"run\.json.*{said}"):
        load_run(folder)


@pytest.mark.parametrize(("change", "said"), [
    ({"suite": []}, "'suite' is a list"), ({"suite": {}}, "not marked as one"), ({"sampling": 3}, "'sampling' is a number"),
    ({"metrics": {"psnr_db": "dB"}}, "'psnr_db' is a text"), ({"not_offered": []}, "'not_offered' is a list"),
    ({"pictures": []}, "'pictures' is a list"), ({"pictures": {"a.png": 1}}, "'pictures' holds a number"),
    ({"suite": {"is": "Suite", "novel": 1}}, "not one that this version can read"),
    ({"metric_settings": None}, "'metric_settings' is null")])
def test_a_part_of_another_type_is_named(folder: Path, sound: dict[str, Any], change: dict[str, Any], said: str) -> None:
    (folder / "run.json").write_text(json.dumps({**sound, **change}))
    with pytest.raises(ValueError, match=rf"run\.json.*{said}.*run the suite again"):
        load_run(folder)


@pytest.mark.parametrize("change", [
    {"grid": 3}, {"candidates": [1]}, {"objective": None}, {"gates": "none"}, {"baseline": "nobody"}, {"name": 5}])
def test_a_part_of_the_suite_that_is_not_of_its_kind_is_refused(folder: Path, sound: dict[str, Any],
                                                                change: dict[str, Any]) -> None:
    (folder / "run.json").write_text(json.dumps({**sound, "suite": {**sound["suite"], **change}}))
    with pytest.raises(ValueError, match="run the suite again"):
        load_run(folder)


def test_bytes_that_are_no_text_are_refused(folder: Path) -> None:
    (folder / "run.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="is not JSON"):
        load_run(folder)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no run\.json"):
        load_run(tmp_path)
