"""Kills a sweep of the built-in models over and over (signal 9, at random moments), resumes it each time, and compares
what is left with an unbroken sweep. `python tests/chaos/kill.py --kills 50` runs it, with `--race` a sweep that spends a budget
and adds candidates, with `--painted` one that samples nothing, and so spends its time on writing; tests/chaos/test_kill.py a
short one of each kind.

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
from pathlib import Path

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


def life(home: Path) -> int:
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
        status = int(pytest.main(["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "suites/", "--benchmark"]))
    finally:
        os._exit(status)


def whole(home: Path) -> float:
    """Runs to the end; seconds that it took. Raises RuntimeError with the output when anything failed."""
    started = time.monotonic()
    _, status = os.waitpid(life(home), 0)
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
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return
        time.sleep(0.001)


def chaos(kills: int, seed: int, root: Path, race: bool = False, painted: bool = False) -> str:
    """Spends `kills` kills on as many sweeps as it takes and compares each with the unbroken one; one sentence of figures. A
    sweep that samples is killed at a random moment, a painted one at a random count of pictures: it makes them in no time."""
    draw = random.Random(seed)
    unbroken = prepare(root / "unbroken", race)
    took = whole(unbroken)
    expected = state(unbroken)
    spent, sweeps, lives = 0, 0, []
    while spent < kills:
        home = prepare(root / f"sweep{sweeps}", race)
        sweeps += 1
        while spent < kills:
            there = len(list((home / "runs").rglob("*.png")))
            child = life(home)
            if painted and there + 2 < len(expected[0]):
                await_pictures(home, draw.randint(there + 1, (there + len(expected[0])) // 2), child)
            else:
                time.sleep(draw.uniform(0, took * 0.8))
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            if not os.WIFSIGNALED(status):
                break  # it came to its end before
            spent += 1
            lives.append(len(list((home / "runs").rglob("*.png"))))
        whole(home)
        found = state(home)
        assert found[0] == expected[0], "other pictures than the unbroken sweep's"
        assert found[1] == expected[1], "other measurements than the unbroken sweep's"
        assert found[2] == expected[2], "other looks or another verdict than the unbroken sweep's"
        shutil.rmtree(home)
        print(f"{spent} kills, {sweeps} sweeps: all as unbroken ({took:.1f} s)", file=sys.stderr, flush=True)
    looks = f", {len(expected[2]) - 3} looks" if race else ""
    return (f"{spent} kills in {sweeps} sweeps of {len(expected[0])} pictures, {len(expected[1])} measurements{looks} "
            f"({took:.1f} s unbroken), at {min(lives)} to {max(lives)} pictures, {len(set(lives))} different counts: "
            "every sweep ended with the unbroken one's pictures and values, nothing lost, nothing doubled")


def main() -> None:
    """Runs and prints; ends with an error where anything differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=9)
    parser.add_argument("--race", action="store_true", help="a sweep that spends a budget")
    parser.add_argument("--painted", action="store_true", help="paint the images instead of sampling them")
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="chaos-"))
    os.environ.update(SWEETSPOT_CACHE=str(root / "zoo"), OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1")
    import_everything()
    if options.painted:
        paint()
    print(chaos(options.kills, options.seed, root, options.race, options.painted), flush=True)
    shutil.rmtree(root)


if __name__ == "__main__":
    main()
