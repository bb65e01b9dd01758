"""A run folder that somebody else filled: whatever lies in it, a report ends in time, in one line or with a page."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import reduce
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main
from reports import judge, load_run, recommend, write_page
from tests.pairs import all_pairs
from tests.reports import synthetic

pytestmark = pytest.mark.usefixtures("no_figures", "in_time")


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages without figures, which take most of the time that a page takes."""
    monkeypatch.setattr("reports.page.build.FIGURES", {})


@pytest.fixture
def in_time() -> Iterator[None]:
    """A reader that waits for ever fails instead."""
    def late(*_: Any) -> None:
        raise AssertionError("it does not end")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(120)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic.write_run(tmp_path_factory.mktemp("made"), synthetic.merge_suite(grid=synthetic.SMALL))


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A run folder of one test's own."""
    return Path(shutil.copytree(made, tmp_path / "dress"))


def pipe(path: Path) -> None:
    os.mkfifo(path)


def listener(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as open_socket:
        open_socket.bind(str(path))


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


def endless_line(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(100 << 20)


ODD: dict[str, Callable[[Path], None]] = {
    "a folder": Path.mkdir, "a pipe": pipe, "a socket": listener, "a device": lambda path: path.symlink_to("/dev/zero"),
    "a terabyte": sparse, "one long line": endless_line, "nothing": Path.touch, "a loop": lambda path: path.symlink_to(path)}


def report(folder: Path, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = main(["report", str(folder), *words])
    err = capsys.readouterr().err
    assert err.count("\n") == code, err
    return code, err


@pytest.mark.parametrize("what", ODD)
@pytest.mark.parametrize("name", ["run.json", "journal.jsonl", "images"])
def test_an_odd_thing_in_the_place_of_a_file_is_not_waited_for(what: str, name: str, folder: Path, tmp_path: Path,
                                                               monkeypatch: pytest.MonkeyPatch,
                                                               capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(folder)  # the name of a socket may not be long
    place = Path(name) if name != "images" else next(Path("images").rglob("*.png"))
    place.unlink()
    monkeypatch.chdir(place.parent)
    ODD[what](Path(place.name))
    code, err = report(folder, capsys)
    assert code == (name == "run.json" or (name == "journal.jsonl" and what not in ("nothing", "one long line")))
    if code:
        assert name in err or "not a run folder" in err
    elif name == "images":
        assert "picture not shown" in (folder / "report.html").read_text()


@pytest.mark.parametrize("name", ["report.html", "report.md", "table.csv"])
def test_a_folder_in_the_place_of_a_page_is_said_and_another_place_taken(name: str, folder: Path, tmp_path: Path,
                                                                        capsys: pytest.CaptureFixture[str]) -> None:
    (folder / name / "in it").mkdir(parents=True)
    code, err = report(folder, capsys)
    assert (code, "-o FOLDER" in err) == (1, True)
    assert report(folder, capsys, "-o", str(tmp_path / "else"))[0] == 0
    assert (tmp_path / "else" / name).is_file()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EFBIG, errno.EACCES])
def test_a_disk_that_refuses_is_one_line(number: int, folder: Path, monkeypatch: pytest.MonkeyPatch,
                                         capsys: pytest.CaptureFixture[str]) -> None:
    def refused(path: Path, data: bytes) -> None:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr("reports.page.build.write_atomically", refused)
    code, err = report(folder, capsys)
    assert (code, os.strerror(number) in err, str(folder) in err) == (1, True, True)


DOORS: dict[str, Callable[[Path, Path], list[str]]] = {
    "compare": lambda made, folder: ["compare", str(made), str(folder)],
    "trend": lambda made, folder: ["trend", str(made), str(folder)],
    "blind": lambda made, folder: ["blind", str(folder)],
    "promote": lambda made, folder: ["promote", "alpha=0.45", "--run", str(folder), "--as", "m"]}
PLACES = ("run.json", "journal.jsonl", "images", "image", "blind", "report.html", "trend.html", "compare.html")


@pytest.mark.parametrize("case", list(all_pairs(
    list(DOORS), PLACES, [*(what for what in ODD if what not in ("a terabyte", "one long line")), "a link to nothing"])),
    ids="-".join)
def test_every_command_ends_in_time_and_in_one_line_whatever_lies_in_the_folder(
        case: tuple[str, str, str], made: Path, folder: Path, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str]) -> None:
    door, name, what = case
    place = next((folder / "images").rglob("*.png")) if name == "image" else folder / name
    if place.is_dir():
        shutil.rmtree(place)
    place.unlink(missing_ok=True)
    monkeypatch.chdir(place.parent)  # the name of a socket may not be long
    (ODD | {"a link to nothing": lambda path: path.symlink_to("nowhere")})[what](Path(place.name))
    code = main(DOORS[door](made, folder))
    err = capsys.readouterr().err
    assert code in (0, 1)
    assert err.count("\n") <= 1, err


def test_a_page_elsewhere_leads_to_the_pictures_of_the_run(folder: Path, tmp_path: Path) -> None:
    from reports.page.explorer import explorer

    run = load_run(folder)
    elsewhere = tmp_path / "a" / "page"
    links = explorer(run, recommend(run), elsewhere).data["link"]
    assert links[0].startswith("../../dress/images/")
    assert (elsewhere.resolve() / links[0]).resolve().is_file()


def test_a_picture_that_was_replaced_is_not_shown_beside_the_old_values(folder: Path) -> None:
    images = sorted((folder / "images").rglob("*.png"))
    shutil.copy(images[-1], images[0])
    assert "picture not shown: it was replaced after it was measured" in write_page(folder).read_text()


def bomb(path: Path, side: int) -> None:
    """A PNG of one colour: a few kB, and three bytes for each of its pixels once it is decoded."""
    def part(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = zlib.compress(bytes(side * (side * 3 + 1)), 9)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + part(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
                     + part(b"IDAT", rows) + part(b"IEND", b""))


def test_pictures_larger_than_any_model_makes_are_not_decoded(folder: Path) -> None:
    bomb(folder / "bomb.png", 5000)
    for image in (folder / "images").rglob("*.png"):
        shutil.copy(folder / "bomb.png", image)
    assert "25000000 pixels" in write_page(folder).read_text()


def test_a_suite_of_billions_of_images_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    head = json.loads((folder / "run.json").read_text())
    head["suite"]["grid"].update(seeds=list(range(3000)), guidance_scales=[float(n) for n in range(3000)])
    (folder / "run.json").write_text(json.dumps(head))
    code, err = report(folder, capsys)
    assert (code, "run.json" in err, "images; expected at most" in err) == (1, True, True)


@pytest.mark.parametrize("side", ["\x1b[2J", "", "lowest ", "LOWEST"])
def test_a_preference_that_is_not_one_is_refused(side: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    head = json.loads((folder / "run.json").read_text())
    head["suite"]["objective"]["prefer"] = {"guidance": side}
    (folder / "run.json").write_text(json.dumps(head))
    code, err = report(folder, capsys)
    assert (code, "the objective prefers" in err, "\x1b" in err) == (1, True, False)


VALUES = (None, 0, -1, 1e308, 2**62, "", "x", "\x1b[2J", [], [[]], {}, {"a": 1}, True, "guidance", "alpha=0", "objective")


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a JSON value."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield (*at, key)
        yield from places(inner, (*at, key))


def test_a_run_json_with_odd_values_is_read_or_refused_with_the_file(folder: Path) -> None:
    dice = random.Random(14)
    text = (folder / "run.json").read_text()
    everywhere = [at for at in places(json.loads(text)) if "prompts" not in at or dice.random() < 0.1]
    refused = 0
    for number in range(150):
        head = json.loads(text)
        for at in dice.sample(everywhere, dice.randint(1, 2)):
            with suppress(KeyError, IndexError, TypeError):  # below what was changed just before
                reduce(lambda inner, key: inner[key], at[:-1], head)[at[-1]] = dice.choice(VALUES)
        (folder / "run.json").write_text(json.dumps(head))
        try:
            run = load_run(folder)
        except ValueError as error:
            refused += 1
            assert "run.json" in str(error), number
            continue
        judge(run, recommend(run))
    assert 30 < refused < 150


def test_a_terminal_without_unicode_gets_the_page_and_a_table(folder: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "harness.cli", "report", str(folder)], capture_output=True, check=False,
                          env={**os.environ, "PYTHONIOENCODING": "cp1252"})
    assert (done.returncode, done.stderr) == (0, b"")
    assert (folder / "report.html").is_file()
    assert b"page: " in done.stdout
