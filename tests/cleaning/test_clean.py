"""`sweetspot clean` says who needs what, removes what nobody needs, and never a file that it does not know."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from harness import Budget, zoo
from harness.cleaning.models import read_records, survey_models
from harness.cleaning.run_images import clean_run
from harness.cli import main
from harness.declare import plain
from harness.promotion import Models
from harness.records import Journal, Sample, to_line
from harness.run_folder.folder import lock
from harness.zoo import store
from reports.read.run import load_run
from tests.reports import answered

RUN = Path("runs/run")
LONG_AGO = 1_600_000_000


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of three candidates whose declaration has lost one since."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SWEETSPOT_CACHE", str(tmp_path / "cache"))
    answered.write(RUN)
    declare("alpha=0", "alpha=1")
    return RUN


def declare(*names: str, **changes: object) -> None:
    suite = answered.small_suite()
    kept = tuple(candidate for candidate in suite.candidates if candidate.name in names)
    head = json.loads((RUN / "run.json").read_text())
    (RUN / "run.json").write_text(json.dumps(head | {"suite": plain(replace(suite, candidates=kept, **changes))}))


def tree(root: Path = Path()) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def removed(before: dict[str, bytes]) -> set[str]:
    """The files that are gone; no other may differ, but for the lock."""
    after = tree()
    assert {name: data for name, data in after.items() if not name.endswith((".lock", ".owner"))}.items() <= before.items()
    return set(before) - set(after)


def images_of(candidate: str) -> set[str]:
    records, _ = Journal(RUN / "journal.jsonl").read()
    return {str(RUN / record.path) for record in records if isinstance(record, Sample) and record.candidate == candidate}


def test_a_dry_run_says_who_needs_what_and_changes_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = tree()
    assert main(["clean"]) == main(["clean", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert tree() == before
    assert "a declared candidate" in out
    assert "nobody: no longer declared: 'alpha=0.45'" in out
    assert "nothing was removed. To remove it: sweetspot clean --yes" in out


def test_images_of_candidates_that_are_no_longer_declared_go_and_no_others(folder: Path) -> None:
    before, standing = tree(), load_run(folder)
    assert main(["clean", "--yes"]) == 0
    assert removed(before) == images_of("alpha=0.45")
    assert not (folder / "images" / "alpha=0.45").exists()
    assert load_run(folder).images.equals(standing.images)
    assert main(["report", str(folder)]) == 0


def test_images_of_other_settings_go(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    declare("alpha=0", "alpha=0.45", "alpha=1")
    records, _ = Journal(RUN / "journal.jsonl").read()
    last = max((record for record in records if isinstance(record, Sample)), key=lambda record: record.path)
    old = replace(last, key="0" * 16, path=f"{last.path[:-4]}-old.png")
    (RUN / old.path).write_bytes((RUN / last.path).read_bytes())
    lines = (RUN / "journal.jsonl").read_text()
    (RUN / "journal.jsonl").write_text(to_line(old) + "\n" + lines)
    before = tree()
    assert main(["clean", "--yes"]) == 0
    assert removed(before) == {str(RUN / old.path)}
    assert "sampled with other weights, texts or settings" in capsys.readouterr().out


def test_images_on_a_blind_page_stay(folder: Path) -> None:
    declare("alpha=0", "alpha=0.45", "alpha=1")
    answered.blind(folder, prompts=4)
    declare("alpha=0", "alpha=1")
    shown = {one.sample for one in answered_keys(folder)}
    records, _ = Journal(RUN / "journal.jsonl").read()
    of_blind = {str(RUN / record.path) for record in records if isinstance(record, Sample) and record.key in shown}
    before = tree()
    assert main(["clean", "--yes"]) == 0
    assert removed(before) == images_of("alpha=0.45") - of_blind
    assert images_of("alpha=0.45") & of_blind


def test_images_that_a_record_lists_stay(folder: Path) -> None:
    records, _ = Journal(RUN / "journal.jsonl").read()
    sample = next(record for record in records if isinstance(record, Sample) and record.candidate == "alpha=0.45")
    done = clean_run(folder, {sample.key: "the record of blend version 1"})
    assert (done.files, done.problems) == (len(images_of("alpha=0.45")) - 1, ())
    assert (folder / sample.path).exists()


def answered_keys(folder: Path) -> list[object]:
    from reports.read.blind_files import read_keys

    return [one for key in read_keys(folder)[0].values() for one in key.images]


def test_a_race_keeps_what_it_may_ask_for_again(folder: Path) -> None:
    from harness.records import Look

    declare("alpha=0", "alpha=1", budget=Budget())
    head = json.loads((RUN / "run.json").read_text())
    (RUN / "run.json").write_text(json.dumps(head | {"race": "r"}))
    look = Look(race="r", number=1, stage="select", candidates=("alpha=0.45",), guidances=(3.0,), prompts=(), seeds=(), images=0)
    with (RUN / "journal.jsonl").open("a") as file:
        file.write(to_line(look) + "\n")
    before = tree()
    assert main(["clean", "--yes"]) == 0
    assert removed(before) == set()


def test_what_a_killed_run_left_torn_in_the_journal_is_no_hindrance(folder: Path) -> None:
    with (RUN / "journal.jsonl").open("a") as file:
        file.write('{"torn\n')
    before = tree()
    assert main(["clean", "--yes"]) == 0
    assert removed(before) == images_of("alpha=0.45")


@pytest.mark.parametrize("harm", ["blind key", "run.json", "images elsewhere"])
def test_a_run_of_which_something_is_not_known_is_kept_and_named(folder: Path, harm: str, tmp_path: Path,
                                                           capsys: pytest.CaptureFixture[str]) -> None:
    if harm == "blind key":
        (RUN / "blind").mkdir()
        (RUN / "blind" / "0123456789ab.key.json").write_text("{}")
    elif harm == "run.json":
        (RUN / "run.json").write_text("{}")
    else:
        (RUN / "images").rename(tmp_path / "mine")
        (RUN / "images").symlink_to(tmp_path / "mine")
    before = tree()
    assert main(["clean", "--yes"]) == 1
    assert removed(before) == set()
    assert f"note: {RUN}: nothing is removed, because " in capsys.readouterr().out


def test_a_file_that_is_not_the_runs_stays(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    altered = Path(max(images_of("alpha=0.45")))
    altered.write_bytes(b"mine")
    (altered.parent / "mine.png").write_bytes(b"mine")
    before = tree()
    assert main(["clean", "--yes"]) == 1
    assert removed(before) == images_of("alpha=0.45") - {str(altered)}
    assert f"{altered} has changed since it was written, and is kept" in capsys.readouterr().err


@pytest.mark.parametrize("path", ["../outside.png", "images/../../outside.png", "/etc/outside.png", "images/link/outside.png",
                                  "images/\0.png", "inputs/../../outside.png"])
def test_no_path_of_a_journal_leads_out_of_its_images(folder: Path, path: str, tmp_path: Path) -> None:
    sample = next(r for r in Journal(RUN / "journal.jsonl").read()[0] if isinstance(r, Sample) and r.candidate == "alpha=0.45")
    data = (RUN / sample.path).read_bytes()
    (tmp_path / "elsewhere").mkdir()
    for place in (Path("runs/outside.png"), Path("outside.png"), tmp_path / "elsewhere" / "outside.png"):
        place.write_bytes(data)
    (RUN / "images" / "link").symlink_to(tmp_path / "elsewhere")
    with (RUN / "journal.jsonl").open("a") as file:
        file.write(to_line(replace(sample, path=path, key="f" * 16)) + "\n")
    before = tree()
    main(["clean", "--yes"])
    assert set() < removed(before) <= images_of("alpha=0.45")
    assert len(list(tmp_path.rglob("outside.png"))) == 3


def test_nothing_of_a_run_under_way_is_removed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, held = tree(), lock(folder)
    try:
        assert main(["clean", "--yes"]) == 1
    finally:
        held.close()
    assert removed(before) == set()
    assert "another run is writing to runs/run" in capsys.readouterr().err


def weights(name: str, days_old: bool = True) -> Path:
    path = Path("models/objects") / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"w")
    if days_old:
        os.utime(path, (LONG_AGO, LONG_AGO))
    return path


def test_weights_that_no_record_names_go_once_they_are_a_day_old(folder: Path) -> None:
    declare("alpha=0", "alpha=0.45", "alpha=1")
    orphan, left = weights("a" * 64 + ".safetensors"), weights(".new-0123456789abcdef.safetensors")
    weights("b" * 64 + ".safetensors", days_old=False)
    weights("mine.safetensors")
    before = tree()
    assert main(["clean", "--yes"]) == 0
    assert removed(before) == {str(orphan), str(left)}


def test_a_damaged_record_keeps_all_weights(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    declare("alpha=0", "alpha=0.45", "alpha=1")
    weights("a" * 64 + ".safetensors")
    (Path("models/blend/records")).mkdir(parents=True)
    Path("models/blend/records/0001.json").write_text("{}")
    before = tree()
    assert main(["clean", "--yes"]) == 1
    assert removed(before) == set()
    assert "no weights are removed, because models/blend/records/0001.json" in capsys.readouterr().out


def test_built_in_models_of_another_version_go_and_those_of_this_one_stay(folder: Path, tmp_path: Path) -> None:
    declare("alpha=0", "alpha=0.45", "alpha=1")
    now = zoo.resolve("zoo:sketch")
    old = tmp_path / "cache" / "zoo" / "0123456789abcdef" / "photo.safetensors"
    old.parent.mkdir()
    old.write_bytes(b"old")
    assert now.parent.name == store.content_hash()
    before = tree()
    assert main(["clean", "--yes"]) == 0
    assert removed(before) == {str(old.relative_to(tmp_path))}
    assert not old.parent.exists()


def test_a_folder_without_anything_has_nothing_to_remove(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                         capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["clean", "--yes"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "nothing to remove"
    assert not list(tmp_path.iterdir())


def test_a_shared_cache_is_measured_and_nothing_in_it_is_removed(folder: Path, tmp_path: Path,
                                                                         capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "shared" / "ab").mkdir(parents=True)
    (tmp_path / "shared" / "ab" / "x.image").write_bytes(b"12345")
    assert main(["clean", "--yes", "--shared-cache", f"folder:{tmp_path / 'shared'}?max_bytes=9"]) == 0
    assert (tmp_path / "shared" / "ab" / "x.image").exists()
    assert "5 bytes" in next(line for line in capsys.readouterr().out.splitlines() if "shared images" in line)




def test_checkpoints_in_the_models_folder_are_not_called_records(folder: Path) -> None:
    for path in ("photo.safetensors", "loras/ink.safetensors", "blend/records/0001.json", "blend/current", "baselines/run.json"):
        (Path("models") / path).parent.mkdir(parents=True, exist_ok=True)
        (Path("models") / path).write_bytes(bytes(10))
    models = Models(Path("models"))
    parts, _ = survey_models(models, read_records(models))
    assert [(part.what, part.files, part.size) for part in parts] == [("records and baselines", 3, 30), ("other files", 2, 20)]
    assert all(part.needed_by for part in parts)


@pytest.mark.parametrize("arguments", [["--runs-dir", "run"], ["--models", "nope"], ["--shared-cache", "folder:nope"],
                                       ["--shared-cache", "ftp://x"]])
def test_a_folder_that_is_not_there_is_not_empty(folder: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    before = tree()
    assert main(["clean", *arguments]) == 2
    assert arguments[0] in capsys.readouterr().err
    assert tree() == before
    assert not Path("nope").exists()


def test_the_nearest_folder_of_runs_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["clean", "--runs-dir", "run"]) == 2
    assert "did you mean 'runs'" in capsys.readouterr().err


def test_a_cache_that_is_not_measured_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["clean", "--shared-cache", "redis://localhost:1/0"]) == 0
    assert "only a shared cache in a folder is measured" in capsys.readouterr().out
