"""`sweetspot work` makes the images of a suite for a shared cache, an ordinary run finds all of them, and what cannot be made is
said with an exit code."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.cache import SECRET_VARIABLE, open_cache
from harness.cache.claims import FolderClaims
from harness.cache.folder import FolderCache
from harness.cli import main
from harness.commands.work import _told, chosen_device
from harness.declare import Suite
from harness.declare.load_suite import load_suite
from harness.executors.alike import differing
from harness.executors.contract import Picture
from harness.probes.environment import environment
from harness.race.race import first_cells
from harness.records import Finished, Fit, Journal, Sample
from harness.run.announced import Announcements
from harness.run.progress import Silent
from harness.run.shared_images import Refusal
from harness.run.shared_setting import SharedSetting
from harness.run.shared_work import Outcome, SharedWork
from harness.run.suite_run import Options, SuiteRun
from harness.run.work_parts import from_place, parts_of, share
from tests.cache.test_cache import raw, server  # noqa: F401  a fixture
from tests.fakes import PROMPTS
from tests.painted import paint_runs
from tests.run.test_shared_images import Bench, Painting

SUITE = """
from harness import Adapter, Budget, Candidate, Grid, Objective, Prompt, Suite, alpha_sweep
from harness.declare.post_steps import Temperature
from harness.declare.stages import Stage
PROMPTS = tuple(Prompt(id=id, text=f"a red {{id}}") for id in ("cat", "star", "cup", "moon", "tree"))
SUITE = Suite(name="s", candidates=(*alpha_sweep("zoo:photo", "zoo:anime", (0, 0.5)),
    Candidate(name="staged", model="zoo:photo", stages=(Stage(strength=0.5, through="pixels"),)),
    Candidate(name="cool", model="zoo:photo", post=(Temperature(max_kelvin=5000),))),
    baseline="alpha=0", gates=(), metrics=("exposure",), objective=Objective(maximise="saturation", penalties=()),
    grid=Grid(prompts=PROMPTS, seeds=(1, 2), guidance_scales=(1, 4), steps=2, width=64, height=64, batch_size=4){more})
"""
NAMES = ("alpha=0", "alpha=0.5", "staged", "cool")
IMAGES = 20


@pytest.fixture
def painting(monkeypatch: pytest.MonkeyPatch) -> Painting:
    painting = Painting()
    paint_runs(monkeypatch, Bench, painting)
    for what in ("keep_freed_memory", "load_libraries"):
        monkeypatch.setattr(f"harness.run.shared_setting.{what}", lambda **_: None)
    return painting


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "cache").mkdir()
    monkeypatch.chdir(tmp_path)
    for name in ("SLURM_PROCID", "JOB_COMPLETION_INDEX", "RANK", "SWEETSPOT_SHARED_CACHE"):
        monkeypatch.delenv(name, raising=False)
    return written(tmp_path)


def written(folder: Path, more: str = "", **changes: str) -> Path:
    text = SUITE.format(more=more)
    for old, new in changes.items():
        text = text.replace(f"{old}=4", f"{old}={new}")
    (folder / "s.py").write_text(text)
    return folder


Said = tuple[int, str, str]


@pytest.fixture
def work(capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    def worked(*words: str, cache: str = "folder:cache") -> Said:
        try:
            code = main(["work", "s.py", *(["--shared-cache", cache] if cache else []), "--device", "cpu", *words])
        except SystemExit as end:
            code = int(end.code or 0)
        return code, *capsys.readouterr()

    return worked


def ordinary(folder: Path, *, first_look: bool = False, cache: str = "") -> Mapping[str, Any]:
    """An ordinary run with the cache: by candidate how many images it sampled."""
    suite = load_suite(folder / "s.py")
    assert isinstance(suite, Suite)
    options = Options(root=folder, runs=folder / "runs", cache=cache or f"folder:{folder / 'cache'}")
    run = SuiteRun(suite, "s.py", options, Silent())
    try:
        done = {c.name: run.candidate(c, first_cells(suite) if first_look else None) for c in suite.candidates}
    finally:
        run.close()
    return {name: getattr(one, "sampled", one) for name, one in done.items()}


NOTHING = dict.fromkeys(NAMES, 0)


@pytest.mark.parametrize("how", [{}, {"bad": (PROMPTS[1].id,)}, {"largest": 2}, {"largest": 1, "bad": (PROMPTS[0].id,)}],
                         ids=["all is well", "defects", "half of a batch", "a quarter, with defects"])
def test_an_ordinary_run_finds_all_that_was_made(how: dict[str, Any], painting: Painting, folder: Path,
                                                 work: Callable[..., Said]) -> None:
    vars(painting).update(how)
    code, out, err = work()
    assert (code, err) == (0, "")
    assert "pytest s.py --benchmark --shared-cache folder:cache" in out
    assert not list((folder / "cache" / "claims").iterdir())
    made = painting.batches
    assert work()[0] == 0
    assert painting.batches == made, "a second one finds everything"
    assert ordinary(folder) == NOTHING
    assert painting.batches - made <= 4, "the noise floor alone"
    refused = [r.batch_size for r in Journal(folder / "runs" / "s" / "journal.jsonl").read()[0] if isinstance(r, Fit)]
    assert set(refused) == {4, 2} - set(range(painting.largest + 1))


def test_prompts_that_bring_adapters_are_parts_of_their_own(painting: Painting, folder: Path, work: Callable[..., Said]) -> None:
    file = written(folder) / "s.py"
    file.write_text(file.read_text().replace('text=f"a red {id}")', 'text=f"a red {id}", adapters=(Adapter(path="zoo:sketch"),)'
                                             ' if id == "cup" else ())'))
    assert work()[0] == 0
    made = painting.batches
    assert ordinary(folder) == NOTHING
    assert painting.batches - made <= 4


def test_the_images_are_those_of_a_run_without_a_cache(painting: Painting, folder: Path, work: Callable[..., Said]) -> None:
    def images(runs: Path) -> set[tuple[str, str, str]]:
        return {(r.candidate, r.key, r.sha256) for r in Journal(runs / "s" / "journal.jsonl").read()[0] if isinstance(r, Sample)}

    assert work()[0] == 0
    ordinary(folder)
    suite: Any = load_suite(folder / "s.py")
    run = SuiteRun(suite, "s.py", Options(root=folder, runs=folder / "alone"), Silent())
    for candidate in suite.candidates:
        assert isinstance(run.candidate(candidate), Finished)
    run.close()
    assert images(folder / "runs") == images(folder / "alone")


def test_parts_make_everything_once_and_claim_nothing(painting: Painting, folder: Path, work: Callable[..., Said]) -> None:
    counts = []
    for number in (2, 3, 1):
        before = painting.batches
        code, out, _ = work("--part", f"{number}/3")
        assert (code, f"part {number} is in the cache" in out) == (0, True)
        counts.append(painting.batches - before)
    assert sum(counts) == 4 * 2 * 3
    assert min(counts) > 0
    assert not (folder / "cache" / "claims").exists()
    assert ordinary(folder) == NOTHING


@pytest.mark.parametrize(("words", "names"), [
    (("-k", "alpha=0.5"), {"alpha=0.5"}), (("--only", "alpha=0.5,staged"), {"alpha=0.5", "staged"}),
    (("-k", "staged", "-k", "alpha=0"), {"staged", "alpha=0"})])
def test_only_the_named_candidates_are_made(words: tuple[str, ...], names: set[str], painting: Painting, folder: Path,
                                            work: Callable[..., Said]) -> None:
    assert work(*words)[0] == 0
    made = painting.batches
    assert made == 2 * 3 * len(names)  # ten cells of a kind are three batches
    assert {name for name, sampled in ordinary(folder).items() if not sampled} == names


@pytest.mark.parametrize(("words", "said"), [
    (("-k", "alpha=0.4"), "'alpha=0.5'"), (("-k", ","), "no name given"), (("--part", "0/3"), "3/8"), (("--part", "4/3"), "3/8"),
    (("--part", "3"), "3/8"), (("--device", "gpu"), "cuda:N"), (("--device", "cuda:99"), "--device"),
    (("--prat", "1/2"), "--part")])
def test_a_wrong_command_line_is_refused_with_what_is_right(words: tuple[str, ...], said: str, folder: Path,
                                                            work: Callable[..., Said]) -> None:
    code, _, err = work(*words)
    assert (code, said in err) == (2, True), err


@pytest.mark.parametrize(("cache", "said"), [
    ("", "--shared-cache folder:"), ("/just/a/path", "expected"), ("redis://h/zero", "database")])
def test_a_cache_is_needed(cache: str, said: str, folder: Path, work: Callable[..., Said]) -> None:
    code, _, err = work(cache=cache)
    assert (code, said in err) == (2, True), err


def test_a_batch_size_that_each_process_chooses_for_itself_is_refused(folder: Path, work: Callable[..., Said]) -> None:
    written(folder, batch_size="'fit'")
    code, _, err = work()
    assert (code, "Declare a number" in err, "sweetspot plan" in err) == (2, True, True)


def test_of_a_race_the_first_look_is_made_and_the_rest_is_said(painting: Painting, folder: Path,
                                                               work: Callable[..., Said]) -> None:
    file = written(folder, ', budget=Budget(images=100, first_prompts=2, refine="alpha")') / "s.py"
    file.write_text(file.read_text().replace("(0, 0.5)", "(0, 0.5, 1)").replace(
        'text=f"a red {id}")', 'text=f"a red {id}", split="confirm" if id == "tree" else "select")'))
    code, out, _ = work()
    assert (code, "first look" in out, "refinement" in out) == (0, True, True)
    made = painting.batches
    assert set(ordinary(folder, first_look=True).values()) == {0}
    assert painting.batches - made <= 4


def test_a_candidate_that_fails_is_named_and_the_others_are_made(painting: Painting, folder: Path, work: Callable[..., Said],
                                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    prepare = Bench.prepare

    def failing(self: Bench, candidate: Any, group: int = 0) -> Any:
        if candidate.name == "alpha=0.5":
            raise ValueError("a tensor is\x1b missing")
        return prepare(self, candidate, group)

    monkeypatch.setattr(Bench, "prepare", failing)
    code, _, err = work()
    assert (code, "alpha=0.5" in err, r"a tensor is\x1b missing" in err, "20 of its images" in err) == (1, True, True, True)
    monkeypatch.undo()


def test_memory_that_no_image_alone_finds_is_a_failure_by_name(painting: Painting, folder: Path,
                                                               work: Callable[..., Said]) -> None:
    painting.largest = 0
    code, _, err = work("-k", "cool")
    assert (code, "cool failed" in err, "out of memory" in err) == (1, True, True)


def test_a_full_disk_is_said_after_some_attempts(painting: Painting, folder: Path, work: Callable[..., Said],
                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    put, waits = FolderCache.put, list[float]()
    monkeypatch.setattr("harness.run.shared_work.RETRIES_SECONDS", (0.0, 0.01, 0.01))
    monkeypatch.setattr(FolderCache, "put", lambda self, key, data: waits.append(0) if len(waits) < 4 else put(self, key, data))
    assert work("-k", "cool")[0] == 3
    assert work("-k", "cool")[0] == 0, "a cache that is there again is used"
    monkeypatch.setattr("harness.cache.folder.write_atomically", full)
    code, _, err = work()
    assert (code, "No space left on device" in err) == (3, True)


def test_a_cache_that_lets_images_go_is_said(painting: Painting, folder: Path, work: Callable[..., Said]) -> None:
    code, _, err = work(cache="folder:cache?max_bytes=8000")
    assert (code, "did not keep" in err, "max_bytes" in err) == (3, True, True)


def test_a_server_carries_images_notes_and_claims(painting: Painting, folder: Path, work: Callable[..., Said],
                                                  server: str) -> None:  # noqa: F811
    painting.bad, painting.largest = (PROMPTS[1].id,), 2
    assert work(cache=server)[0] == 0
    assert ordinary(folder, cache=server) == NOTHING
    client: Any = raw(server)
    assert not client.keys("sweetspot:claim:*")
    client.flushdb()
    client.close()


def test_a_server_that_is_away_is_said_before_the_first_image(painting: Painting, folder: Path,
                                                              work: Callable[..., Said]) -> None:
    pytest.importorskip("redis", reason="the package redis is not installed")
    code, _, err = work(cache="redis://:hush@127.0.0.1:1/0")
    assert (code, "takes nothing" in err, "hush" in err, painting.batches) == (3, True, False, 0)


def test_another_version_is_refused_by_name_and_may_take_over(painting: Painting, folder: Path, work: Callable[..., Said],
                                                              monkeypatch: pytest.MonkeyPatch) -> None:
    assert work("-k", "cool")[0] == 0
    monkeypatch.setattr("harness.run.shared_setting.environment", lambda device: {
        **(facts := environment(device)), "packages": {**facts["packages"], "torch": "1.0"}})
    made = painting.batches
    code, _, err = work()
    assert (code, "packages.torch is '1.0'" in err, "cool" in err, painting.batches) == (2, True, True, made)
    assert work("--new-environment")[0] == 0
    assert work()[0] == 0


def test_another_version_of_sweetspot_makes_images_for_the_same_keys(painting: Painting, folder: Path, work: Callable[..., Said],
                                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    assert work("-k", "cool")[0] == 0
    made = painting.batches
    monkeypatch.setattr("harness.run.shared_setting.environment", lambda device: {
        **(facts := environment(device)), "packages": {**facts["packages"], "sweetspot": "99"}})
    assert (work("-k", "cool")[0], painting.batches) == (0, made)


@pytest.mark.parametrize(("change", "words", "said"), [
    (("steps=2", "steps=3"), (), "steps is 3, there it is 2"), (("size=4", "size=2"), (), "batch_size is 2, there it is 4"),
    (("", ""), ("--exact",), "batch_size is 1, there it is 4"), (("a red", "a blue"), (), "the prompts of the suite are others")])
def test_another_suite_file_is_refused_by_what_differs(change: tuple[str, str], words: tuple[str, ...], said: str,
                                                       painting: Painting, folder: Path, work: Callable[..., Said]) -> None:
    assert work("-k", "cool")[0] == 0
    made, file = painting.batches, folder / "s.py"
    file.write_text(file.read_text().replace(*change))
    code, _, err = work("-k", "cool", *words)
    assert (code, said in err, painting.batches) == (2, True, made), err
    assert work("-k", "cool", *words, "--new-environment")[0] == 0


def test_of_two_workers_that_begin_at_once_one_is_refused(painting: Painting, folder: Path, work: Callable[..., Said],
                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one announced after this one looked, and before it announced."""
    look = Announcements.other
    looks: list[str] = []

    def late(self: Announcements, *of: Any) -> str:
        looks.append(look(self, *of))
        if len(looks) == 1:
            replace(self, sampling={**self.sampling, "steps": 9}).put(*of, over=False)
        return looks[-1]

    monkeypatch.setattr(Announcements, "other", late)
    code, _, err = work("-k", "cool")
    assert (looks[0], code, "steps is 2, there it is 9" in err, painting.batches) == ("", 2, True, 0)


def test_names_and_values_of_an_announcement_are_harmless_in_a_terminal() -> None:
    said = differing({"flags": {"\x1b[2Ja": 1}}, {"flags": {"\x1b[2Ja": "\x1b[2J"}}, "there it is")
    assert said.isprintable() and "flags" in said


@pytest.mark.parametrize(("total_bytes", "binds"), [
    (None, False), (48 << 30, False), (80 << 30, True), (int(79.2 * 2 ** 30), True)])
def test_a_refused_batch_binds_devices_of_that_memory_and_what_has_images_of_smaller_ones(
        total_bytes: int | None, binds: bool, painting: Painting, folder: Path) -> None:
    shared, parts = driver(folder)
    shared.head["environment"]["device_total_bytes"] = 80 << 30
    candidate = parts[-1].candidate
    keys, identity = shared._keys.of(candidate.name), shared._sampled(candidate).weights.identity
    shared._shared.refuse(keys, identity, [Refusal(guided=True, fit=Fit(
        candidate=candidate.name, batch_size=4, fits=False, why="full", total_bytes=total_bytes))])
    other, _ = driver(folder)
    other.head["environment"]["device_total_bytes"] = 80 << 30
    assert bool(other._binding(candidate)) is binds
    made = Picture(cell=parts[-1].cells[-1], image=np.zeros((64, 64, 3), np.uint8))
    shared._shared.put(keys, shared._making(candidate, 2).of(made))
    assert other._binding(candidate) != [], "an image of smaller batches is there"


def test_a_candidate_that_fails_here_and_is_made_by_another_is_in_the_cache(folder: Path,
                                                                            capsys: pytest.CaptureFixture[str]) -> None:
    suite: Any = load_suite(folder / "s.py")
    given = Namespace(suite=folder / "s.py", part=None, shared_cache="folder:cache")
    failed = {"cool": "sample: OSError: a disk"}
    assert _told(suite, given, "cpu", Outcome(failures=failed, owed={"cool": 3})) == 1
    assert "3 of its images are not in the cache" in capsys.readouterr().err
    assert _told(suite, given, "cpu", Outcome(failures=failed)) == 0
    assert "cool failed here" in capsys.readouterr().out


def test_another_file_is_refused_by_name(painting: Painting, folder: Path, work: Callable[..., Said],
                                         monkeypatch: pytest.MonkeyPatch) -> None:
    assert work("-k", "cool")[0] == 0
    weights = Bench.weights
    monkeypatch.setattr(Bench, "weights", lambda self, candidate: replace(
        one := weights(self, candidate), inputs=dict.fromkeys(one.inputs, "0" * 64)))
    code, _, err = work("-k", "cool")
    assert (code, "zoo:photo" in err or "photo" in err, "another one" in err) == (2, True, True), err


def test_images_that_nobody_can_use_are_made_again(painting: Painting, folder: Path, work: Callable[..., Said],
                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    assert work("-k", "cool")[0] == 0
    made = painting.batches
    monkeypatch.setenv(SECRET_VARIABLE, "among us")
    assert work("-k", "cool")[0] == 0
    assert painting.batches == 2 * made
    assert work("-k", "cool")[0] == 0
    assert painting.batches == 2 * made


@pytest.mark.parametrize(("count", "variables", "device"), [
    (0, {}, "cpu"), (1, {"SLURM_LOCALID": "5"}, "cuda:0"), (8, {"SLURM_LOCALID": "5"}, "cuda:5"),
    (4, {"LOCAL_RANK": "1"}, "cuda:1")])
def test_the_device_is_that_of_the_task(count: int, variables: dict[str, str], device: str) -> None:
    chosen, why = chosen_device(count, variables)
    assert (chosen, bool(why)) == (device, True)


@pytest.mark.parametrize(("count", "variables"), [(8, {}), (4, {"SLURM_LOCALID": "4"}), (2, {"SLURM_LOCALID": "x"})])
def test_where_the_device_is_not_clear_nothing_is_made(count: int, variables: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="--device"):
        chosen_device(count, variables)


@pytest.mark.parametrize("variables", [
    {"SLURM_GPUS_ON_NODE": "1"}, {"SLURM_STEP_GPUS": "0"}, {"SLURM_GPUS_PER_TASK": "1"}, {"NVIDIA_VISIBLE_DEVICES": "GPU-1b2c"}])
def test_a_process_that_was_given_a_gpu_and_sees_none_does_not_take_the_processor(variables: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=next(iter(variables))):
        chosen_device(0, variables)


@pytest.mark.parametrize("variables", [{}, {"SLURM_GPUS_ON_NODE": "0"}, {"NVIDIA_VISIBLE_DEVICES": "void"},
                                       {"NVIDIA_VISIBLE_DEVICES": "all"}])
def test_without_a_gpu_the_processor_is_taken(variables: dict[str, str]) -> None:
    assert chosen_device(0, variables)[0] == "cpu"


def test_shares_and_places_cover_all_parts_once(folder: Path) -> None:
    suite: Any = load_suite(folder / "s.py")
    parts = parts_of(suite, suite.candidates)
    assert [cell for part in parts for cell in part.cells if part.candidate.name == "cool"]
    for of in (1, 3, 7, 50):
        assert [part for number in range(1, of + 1) for part in share(parts, number, of)] == parts
    for place in (0, 0.3, 0.999):
        assert sorted(map(parts.index, from_place(parts, place))) == list(range(len(parts)))
    assert max(len(part.cells) for part in parts_of(replace(suite, grid=replace(
        suite.grid, seeds=tuple(range(40)))), suite.candidates)) == 8 * 4


def driver(folder: Path, *, wait: Callable[[float], None] = time.sleep) -> tuple[SharedWork, list[Any]]:
    suite: Any = load_suite(folder / "s.py")
    setting = SharedSetting.of(suite, "s.py", "cpu", folder)
    cache = open_cache(f"folder:{folder / 'cache'}", (64, 64))
    shared = SharedWork(suite=suite, head=setting.head, maker=setting.maker, cache=cache, sample_of=setting.sampled, wait=wait,
                        claims=FolderClaims(folder / "cache" / "claims"), say=lambda _: None)
    return shared, parts_of(suite, suite.candidates)


def test_three_workers_at_once_make_everything_once(painting: Painting, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes: list[Outcome] = []
    turn, make = threading.Lock(), SharedWork._make

    def in_turn(self: SharedWork, part: Any, cells: Any) -> None:
        with turn:  # the libraries do not build two models at once in one process
            make(self, part, cells)

    monkeypatch.setattr(SharedWork, "_make", in_turn)
    drivers = [driver(folder, wait=lambda _: time.sleep(0.05)) for _ in range(3)]
    for shared, parts in drivers:
        for part in parts:
            shared._sampled(part.candidate)
    many = [threading.Thread(target=lambda one=one, place=place: outcomes.append(one[0].go(from_place(one[1], place))))  # type: ignore[misc]
            for one, place in zip(drivers, (0, 0.3, 0.6), strict=True)]
    for thread in many:
        thread.start()
    for thread in many:
        thread.join()
    assert sum(outcome.made for outcome in outcomes) == IMAGES * len(NAMES)
    assert painting.batches == 4 * 2 * 3
    assert ordinary(folder) == NOTHING


def test_what_a_worker_leaves_is_taken_over(painting: Painting, folder: Path) -> None:
    """Its claim is that of another machine, and lapses while the other one waits."""
    shared, parts = driver(folder)
    assert isinstance(shared.claims, FolderClaims)
    clock, seconds = [0.0], list[float]()
    shared.claims._now = lambda: clock[0]
    other = FolderClaims(folder / "cache" / "claims", beat_seconds=3600)
    other.owner = replace(other.owner, host="elsewhere", boot="another", token="theirs")
    key = shared._keys.of("cool").shared_key(parts[-1].key(shared._sampled(parts[-1].candidate).weights.identity))
    assert other.take(key)

    def wait(passing: float) -> None:
        seconds.append(passing)
        clock[0] += passing

    shared.wait = wait
    assert shared.go(parts).made == IMAGES * len(NAMES)
    assert 60 <= sum(seconds) <= 66


@pytest.fixture
def killed(folder: Path) -> Iterator[subprocess.Popen[str]]:
    words = ["work", "s.py", "--shared-cache", "folder:cache", "--device", "cpu"]
    process = subprocess.Popen([sys.executable, "-m", "harness.cli", *words], cwd=folder, text=True, stdout=subprocess.PIPE,
                               env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])})
    yield process
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def test_a_worker_that_a_scheduler_ends_gives_back_what_it_began(killed: subprocess.Popen[str], folder: Path) -> None:
    assert killed.stdout is not None
    while "made" not in killed.stdout.readline():
        assert killed.poll() is None
    killed.send_signal(signal.SIGTERM)
    killed.wait()
    assert (killed.returncode, list((folder / "cache" / "claims").iterdir())) == (143, [])


def test_a_worker_that_is_killed_in_the_middle_loses_nothing(killed: subprocess.Popen[str], folder: Path,
                                                              work: Callable[..., Said]) -> None:
    """Real sampling in two processes."""
    assert killed.stdout is not None
    while "made" not in killed.stdout.readline():
        assert killed.poll() is None
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    code, out, err = work()
    assert code == 0, err
    assert "; 0 were there" not in out
    assert ordinary(folder) == NOTHING
