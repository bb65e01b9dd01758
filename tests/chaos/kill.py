"""Kills a sweep of the built-in models over and over (signal 9, at random moments), resumes it each time, and compares
what is left with an unbroken sweep. `python tests/chaos/kill.py --kills 50` runs it, with `--race` a sweep that spends a budget
and adds candidates, with `--painted` one that samples nothing, and so spends its time on writing, with `--workers local:2` one
whose images are made by workers, of which any may be killed as well as their driver; tests/chaos/test_kill.py a short one of each
kind.

Everything heavy is imported once: a parent that computes nothing forks a child for every life, and the child is killed.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

SUITE = """
from harness import Grid, Prompt, Suite, alpha_sweep

SUITE = Suite(
    name="chaos", candidates=alpha_sweep("zoo:photo", "zoo:anime", (0, 0.5, 1)), baseline="alpha=0", latency_rounds=1,
    grid=Grid(prompts=[Prompt(id=w, text=f"a {w} star", split=s) for w, s in
                       (("red", "select"), ("blue", "select"), ("green", "confirm"), ("purple", "confirm"))],
              seeds=(1, 2, 3), guidance_scales=(1, 4), steps=2, width=64, height=64, batch_size=4),
    metrics=("psnr", "clip_score", "palette", "exposure"))
"""
RACE = """
from dataclasses import replace

from harness import Budget, Objective, Prompt

words = ("red", "blue", "green", "purple", "yellow", "orange", "pink", "brown")
prompts = [Prompt(id=w, text=f"a {w} star", split="confirm" if w in ("pink", "brown") else "select") for w in words]
SUITE = replace(SUITE, objective=Objective(penalties=()), grid=replace(SUITE.grid, prompts=prompts, seeds=(1, 2)),
                budget=Budget(first_prompts=2, step_prompts=2, enough=0.01, refine="alpha", finest=0.2))
"""


def import_everything() -> None:
    """What a sweep imports, without computing anything: threads do not survive a fork, and none is started here."""
    import open_clip
    import pytest
    import pytest_benchmark.plugin

    import harness.run.suite_run
    import harness.sampling
    import harness.session.session
    import harness.zoo.models
    import reports.page.build
    from harness.probes.environment import environment

    assert open_clip and pytest and pytest_benchmark and harness and reports
    environment("cpu")
    gc.freeze()  # what was imported is no garbage in any life


def paint() -> None:
    """Every sweep that is forked from here on is painted, and its page has no figures."""
    import pytest

    from tests.painted import paint_runs

    patch = pytest.MonkeyPatch()
    paint_runs(patch)
    patch.setattr("reports.page.build.FIGURES", {})


def life(home: Path, *options: str) -> int:
    """Starts `pytest suites/ --benchmark` in a child process and gives its number."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        import pytest

        os.chdir(home)
        out = os.open(home / "output.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(out, 1)
        os.dup2(out, 2)
        status = int(pytest.main(["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "suites/", "--benchmark", *options]))
    finally:
        os._exit(status)


def whole(home: Path, *options: str) -> float:
    """Runs to the end; seconds that it took. Raises RuntimeError with the output when anything failed."""
    started = time.monotonic()
    _, status = os.waitpid(life(home, *options), 0)
    if status != 0:
        raise RuntimeError(f"the sweep ended with status {status}: {(home / 'output.txt').read_text()[-3000:]}")
    return time.monotonic() - started


def prepare(home: Path, race: bool) -> Path:
    """A folder with the suite in it."""
    (home / "suites").mkdir(parents=True)
    (home / "suites" / "chaos.py").write_text(SUITE + (RACE if race else ""))
    return home


def state(home: Path) -> tuple[dict[str, str], dict[object, object], tuple[object, ...]]:
    """The pictures by path and hash, the measurements that count by candidate, metric and cell, and the looks of a race with
    its verdict.

    Raises AssertionError when a picture is lost or stands there twice, or a line that is not the torn one is damaged.
    """
    from harness.records import Journal, Measurement, Sample
    from harness.run_folder.ledger import Ledger
    from reports import load_run, recommend

    folder = home / "runs" / "chaos"
    pictures = {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*.png")}
    records, _ = Journal(folder / "journal.jsonl").read()
    named = {(r.candidate, r.cell): r for r in records if isinstance(r, Sample)}
    places = Counter(s.path for s in named.values())
    assert {s.path: s.sha256 for s in named.values()} == pictures, "the journal and the pictures differ"
    assert max(places.values()) == 1, "one file stands for two cells"
    assert all(Ledger(folder, verify=True).adopt(c, cell, s.key) for (c, cell), s in named.items())
    assert not list(folder.rglob("*.tmp")), "temporary files are left"
    values: dict[object, object] = {(m.candidate, m.metric, m.cell): (dict(m.values), dict(m.labels), m.sample, m.reference)
              for m in records if isinstance(m, Measurement)}
    run = load_run(folder)
    found = recommend(run)
    return pictures, values, (*run.looks, found.pick, found.guidance, found.sentence)


def await_pictures(home: Path, goal: int, child: int) -> None:
    """Returns when the child has brought the pictures to `goal`, or has ended."""
    while len(list((home / "runs").rglob("*.png"))) < goal:
        if over(child):
            return
        time.sleep(0.001)


def workers_of(driver: int) -> list[int]:
    """The processes of a driver's workers that are alive."""
    found = []
    for place in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            state, parent = (place / "stat").read_text().rpartition(")")[2].split()[:2]
            if int(parent) == driver and state != "Z" and b"local_worker" in (place / "cmdline").read_bytes():
                found.append(int(place.name))
    return found


def shoot(driver: int, draw: random.Random) -> bool:
    """Kills a driver or one of its workers, if it has any. Returns whether it was the driver; its workers must end with it."""
    workers = workers_of(driver)
    victim = draw.choice([driver, *workers])
    os.kill(victim, signal.SIGKILL)
    until = time.monotonic() + 20
    while victim == driver and any(Path(f"/proc/{worker}").exists() for worker in workers):
        assert time.monotonic() < until, "workers outlive their driver"
        time.sleep(0.01)
    return victim == driver


def over(child: int) -> bool:
    """Whether a child has ended."""
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def shot_life(home: Path, draw: random.Random, kills: int, wait: Callable[[int], None], options: Sequence[str],
              ) -> list[tuple[int, str]]:
    """One life of a sweep that ends with the death of its driver, or by itself. Returns how many pictures were there at each of
    at most so many kills, and of what; the last is of nothing if the sweep came to its end before."""
    child, counts = life(home, *options), list[tuple[int, str]]()
    while len(counts) < kills:
        wait(child)
        if over(child):
            break
        was_driver = shoot(child, draw)
        counts.append((pictures_in(home), "driver" if was_driver else "worker"))
        if was_driver:
            os.waitpid(child, 0)
            return counts
    _, status = os.waitpid(child, 0)
    assert status == 0, f"the sweep ended with status {status}: {(home / 'output.txt').read_text()[-3000:]}"
    return [*counts, (pictures_in(home), "")]


def pictures_in(home: Path) -> int:
    """How many pictures are there."""
    return len(list((home / "runs").rglob("*.png")))


def chaos(kills: int, seed: int, root: Path, race: bool = False, painted: bool = False, options: Sequence[str] = ()) -> str:
    """Spends `kills` kills on as many sweeps as it takes and compares each with the unbroken one, which one process makes; one
    sentence of figures. A sweep that samples is killed at a random moment, a painted one at a random count of pictures: it makes
    them in no time."""
    draw = random.Random(seed)
    unbroken = prepare(root / "unbroken", race)
    took = whole(unbroken)
    expected = state(unbroken)
    spent, sweeps, lives = 0, 0, list[tuple[int, str]]()

    def wait(home: Path, child: int) -> None:
        there = pictures_in(home)
        if painted and there + 2 < len(expected[0]):
            await_pictures(home, draw.randint(there + 1, (there + len(expected[0])) // 2), child)
        elif options:  # workers that are killed again and again before they make anything would be their candidate's failure
            await_pictures(home, there + draw.randint(1, 12), child)
        else:
            time.sleep(draw.uniform(0, took * 0.8))

    while spent < kills:
        home, ended = prepare(root / f"sweep{sweeps}", race), False
        sweeps += 1
        while spent < kills and not ended:
            counts = shot_life(home, draw, kills - spent, partial(wait, home), options)
            ended = not counts[-1][1]
            lives += [count for count in counts if count[1]]
            spent = len(lives)
        whole(home, *options)
        compare(state(home), expected)
        shutil.rmtree(home)
        print(f"{spent} kills, {sweeps} sweeps: all as unbroken ({took:.1f} s)", file=sys.stderr, flush=True)
    looks = f", {len(expected[2]) - 3} looks" if race else ""
    there, of_workers = [count for count, _ in lives], sum(of == "worker" for _, of in lives)
    return (f"{spent} kills, {of_workers} of workers, in {sweeps} sweeps of {len(expected[0])} pictures, "
            f"{len(expected[1])} measurements{looks} "
            f"({took:.1f} s unbroken), at {min(there)} to {max(there)} pictures, {len(set(there))} different counts: "
            "every sweep ended with the unbroken one's pictures and values, nothing lost, nothing doubled")


def compare(here: tuple[Any, ...], expected: tuple[Any, ...]) -> None:
    """Raises AssertionError where a sweep that was killed is not as the unbroken one."""
    assert here[0] == expected[0], "other pictures than the unbroken sweep's"
    assert here[1] == expected[1], "other measurements than the unbroken sweep's"
    assert here[2] == expected[2], "other looks or another verdict than the unbroken sweep's"


def main() -> None:
    """Runs and prints; ends with an error where anything differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=9)
    parser.add_argument("--race", action="store_true", help="a sweep that spends a budget")
    parser.add_argument("--painted", action="store_true", help="paint the images instead of sampling them")
    parser.add_argument("--workers", help="who makes the images, as pytest's option says it: local:2")
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="chaos-"))
    os.environ.update(SWEETSPOT_CACHE=str(root / "zoo"), OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1")
    import_everything()
    if options.painted:
        paint()
    workers = ("--workers", options.workers) if options.workers else ()
    print(chaos(options.kills, options.seed, root, options.race, options.painted, workers), flush=True)
    shutil.rmtree(root)


if __name__ == "__main__":
    main()
