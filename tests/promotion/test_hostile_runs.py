"""Run folders that were edited by hand: whatever stands in them, a promotion ends in a sentence and leaves nothing behind."""

import json
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from harness.promotion.eligibility import came_with

ODD = (None, "../../\x1b[2J", [[]], {"a": 1})
PROMOTE = ("promote", "alpha=0.5", "--run", "runs/tiny", "--as", "blend", "--suite", "suites/tiny.py")


def ends_in_a_sentence(sweetspot, root: Path) -> None:
    before = set(root.parent.rglob("*"))
    code, out, err = sweetspot(*PROMOTE)
    assert code in (0, 1)
    assert "\x1b" not in out + err
    assert err.count("\n") == code
    new = {at for at in set(root.parent.rglob("*")) - before if "__pycache__" not in at.parts}
    allowed = root / "models" if code == 0 else root / "models/objects"
    assert all(at.is_relative_to(root / "models") if code == 0 else at in (root / "models", allowed) for at in new), (err, new)


@pytest.mark.parametrize("field", ["format", "suite", "environment", "metrics", "sampling", "metric_settings", "not_offered"])
def test_a_field_of_run_json_may_be_anything(field, work, sweetspot):
    root = work()
    head = json.loads((root / "runs/tiny/run.json").read_text())
    for odd in ODD:
        (root / "runs/tiny/run.json").write_text(json.dumps({**head, field: odd}))
        ends_in_a_sentence(sweetspot, root)


@pytest.mark.parametrize("kind", ["sample", "weights", "noise_floor", "coverage", "measurement"])
def test_a_field_of_a_journal_line_may_be_anything(kind, work, sweetspot):
    root = work()
    journal = root / "runs/tiny/journal.jsonl"
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    chance = random.Random(kind)
    mine = [place for place, line in enumerate(lines) if line["kind"] == kind and line["candidate"] in ("alpha=0.5", "alpha=0")]
    for _ in range(2):
        place = chance.choice(mine)
        field = chance.choice([name for name in lines[place] if name != "kind"])
        changed = [*lines[:place], {**lines[place], field: chance.choice(ODD)}, *lines[place + 1:]]
        journal.write_text("".join(json.dumps(line) + "\n" for line in changed))
        (root / "runs/tiny/journal.index").unlink(missing_ok=True)
        ends_in_a_sentence(sweetspot, root)


@pytest.mark.parametrize("path", ["/etc/passwd", "../../../x.png", "images", "", "a\0b"])
def test_an_image_outside_of_the_run_is_not_read(path, work, sweetspot):
    root = work()
    journal = root / "runs/tiny/journal.jsonl"
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    changed = [{**line, "path": path} if line["kind"] == "sample" else line for line in lines]
    journal.write_text("".join(json.dumps(line) + "\n" for line in changed))
    (root / "runs/tiny/journal.index").unlink(missing_ok=True)
    code, _, err = sweetspot(*PROMOTE)
    assert (code, "is not a file in the run folder" in err) == (1, True)


@pytest.mark.parametrize("folder", ["nowhere", "suites", "runs/tiny/run.json", "a\0b", ""])
def test_a_folder_that_is_no_run_is_named(folder, work, sweetspot):
    work()
    code, _, err = sweetspot("promote", "alpha=0.5", "--run", folder, "--as", "blend")
    assert (code, err.startswith("sweetspot promote: ")) == (1, True)


def test_a_candidate_that_the_suite_has_not_is_said_with_those_it_has(work, sweetspot):
    work()
    code, _, err = sweetspot("promote", "alpha=0.4", "--run", "runs/tiny", "--as", "blend")
    assert (code, "alpha=0, alpha=0.5, alpha=1" in err) == (1, True)


def test_code_that_only_the_run_names_is_not_imported(work, sweetspot, monkeypatch):
    root = work()
    (root / "hostile.py").write_text("from pathlib import Path\nPath(__file__).with_name('ran').touch()")
    monkeypatch.syspath_prepend(root)
    head = json.loads((root / "runs/tiny/run.json").read_text())
    candidate = next(c for c in head["suite"]["candidates"] if c["name"] == "alpha=0.5")
    merge = {**candidate["model"], "method": "hostile:M"}
    for field, value in (("runtime", "hostile:R"), ("quantization", "hostile:Q"), ("model", merge)):
        suite = {**head["suite"], "candidates": [{**c, field: value} if c["name"] == "alpha=0.5" else c
                                                 for c in head["suite"]["candidates"]]}
        for added in ([], ["alpha=0.5"]):
            (root / "runs/tiny/run.json").write_text(json.dumps({**head, "suite": suite, "added": added}))
            code, _, err = sweetspot(*PROMOTE)
            assert (code, err.count("\n")) == (1, 1)
    assert not (root / "ran").exists()


@pytest.mark.parametrize("named", ["downloaded/suites/t.py", "downloaded/runs/other/suites/t.py",
                                   "suites/../downloaded/suites/t.py"])
def test_a_suite_file_that_came_with_a_run_is_not_run_unasked(named, work, sweetspot):
    root = work()
    (root / "downloaded").mkdir()
    shutil.move(root / "runs", root / "downloaded" / "runs")
    file = (root / named).resolve()
    file.parent.mkdir(parents=True)
    file.write_text(f"from pathlib import Path\nPath({str(root / 'ran')!r}).touch()\n")
    head = json.loads((root / "downloaded/runs/tiny/run.json").read_text())
    (root / "downloaded/runs/tiny/run.json").write_text(json.dumps({**head, "suite_file": named}))
    code, _, err = sweetspot("promote", "alpha=0.5", "--run", "downloaded/runs/tiny", "--as", "blend")
    assert (code, "--suite" in err, (root / "ran").exists()) == (1, True, False)
    sweetspot("promote", "alpha=0.5", "--run", "downloaded/runs/tiny", "--as", "blend", "--suite", named)
    assert (root / "ran").exists()


def git(root, *words):
    subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *words], cwd=root, check=True, capture_output=True)


@pytest.mark.parametrize(("run", "file", "tracked", "came"), [
    ("runs/t", "suites/t.py", False, False), ("project/runs/t", "project/suites/t.py", False, True),
    ("project/runs/t", "project/suites/t.py", True, False), ("runs/t", "runs/suites/t.py", False, True),
    ("../elsewhere/t", "suites/t.py", False, False), ("t", "suites/t.py", False, False)])
def test_what_came_with_a_run_is_told_by_its_place_and_by_git(run, file, tracked, came, tmp_path):
    root = tmp_path / "root"
    for place in (root / run, (root / file).parent):
        place.mkdir(parents=True, exist_ok=True)
    (root / file).touch()
    git(root, "init", "-q")
    if tracked:
        git(root, "add", file)
    assert came_with(root / run, (root / file).resolve(), root) is came
