"""How long the built-in job takes beside that of another commit, and whether it says the same; nothing decides a test.

    python tests/benchmarks/built_in_job.py --folder DIR --commit af9a5fb
    python tests/benchmarks/built_in_job.py --folder DIR --commit af9a5fb --rounds 3 --suites alpha_cfg

now, then: `pytest suites/NAME.py ... --benchmark` of the suites that both commits have, in an empty runs folder and with an empty
           cache, of this checkout and of the commit, whose working tree is made below --folder.
whole:     all suites of this checkout, which may have more than the commit; only with --whole.

They take turns, in the order of the round before turned round. The processor's seconds are those of all threads and child
processes; on a machine that others use they say more than the clock's, and only ratios within a run say anything. Every ratio is
the median of the rounds' own. The images of both are compared byte for byte, and what today's code says of both runs' quality.
The picks are shown: where quality is tied, cost decides, and costs differ from run to run. The last line is JSON.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))


def main() -> None:
    """Measures in turns and prints the figures."""
    from tests.gold.facts import facts

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="where the commit's working tree and the runs go")
    parser.add_argument("--commit", default="af9a5fb")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--suites", nargs="*", default=[], help="their names; by default all that both commits have")
    parser.add_argument("--whole", action="store_true", help="also all suites of this checkout")
    given = parser.parse_args()
    folder = given.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    tree = checkout(given.commit, folder)
    suites = given.suites or sorted(p.stem for p in (tree / "suites").glob("*.py") if (ROOT / "suites" / p.name).exists())
    files = [f"suites/{name}.py" for name in suites]
    contenders = {"now": (ROOT, files), "then": (tree, files), **({"whole": (ROOT, ["suites/"])} if given.whole else {})}
    taken: dict[str, list[tuple[float, float]]] = {what: [] for what in contenders}
    order = list(contenders)
    for number in range(given.rounds):
        for what in order if number % 2 == 0 else reversed(order):
            taken[what].append(job(*contenders[what], folder / f"{what}-{number}"))
            print(number, what, "{:.1f} s, {:.1f} s of processor".format(*taken[what][-1]), flush=True)
    ratios = [(a[0] / b[0], a[1] / b[1]) for a, b in zip(taken["now"], taken["then"], strict=True)]
    runs = [folder / f"{what}-0" / "runs" for what in ("now", "then")]
    images = [images_of(each) for each in runs]
    print(json.dumps({
        "commit": given.commit, "suites": suites,
        **{what: {"seconds": median(t[0] for t in of), "processor_seconds": median(t[1] for t in of)}
           for what, of in taken.items()},
        "ratio": {"clock": median(r[0] for r in ratios), "processor": median(r[1] for r in ratios)},
        "images": len(images[0]), "images_alike": sum(images[0].get(name) == content for name, content in images[1].items()),
        "picks": {name: [facts(run / name)["pick"] for run in runs] for name in suites},
        "quality_alike": {name: quality(facts(runs[0] / name)) == quality(facts(runs[1] / name)) for name in suites},
        "cores": os.cpu_count(), "load": os.getloadavg()[0]}))


def checkout(commit: str, folder: Path) -> Path:
    """The working tree of a commit below `folder`."""
    tree = folder / f"tree-{commit}"
    if not tree.exists():
        subprocess.run(["git", "worktree", "add", "--quiet", "--detach", str(tree), commit], cwd=ROOT, check=True)
    return tree


def job(tree: Path, files: Sequence[str], folder: Path) -> tuple[float, float]:
    """Seconds by the clock and of the processor of the job of a working tree. Raises SystemExit if it fails."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    # The environment's entry point names today's plugin; an older tree may have it elsewhere.
    plugin = [] if (tree / "sweetspot_pytest.py").exists() else ["-p", "no:sweetspot", "-p", "harness.plugin"]
    command = [sys.executable, "-P", "-m", "pytest", *plugin, "-p", "no:cacheprovider", *files, "--benchmark", "--runs-dir",
               str(folder / "runs")]
    environment = {**os.environ, "PYTHONPATH": str(tree), "SWEETSPOT_CACHE": str(folder / "cache")}
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)
    clock, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    (folder / "log").write_text(done.stdout + done.stderr, encoding="utf-8")
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} in {tree} ended with {done.returncode}:\n{done.stdout[-3000:]}")
    return clock, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def images_of(runs: Path) -> dict[str, str]:
    """The hash of each image of the suites, by its path without the key, which other versions may compute otherwise."""
    return {f"{path.relative_to(runs).with_suffix('')}".rpartition("-")[0]: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(runs.glob("*/images/*/*.png"))}


def quality(of: Mapping[str, Any]) -> list[Any]:
    """Cells with their intervals, tied sets and gates of a run: what no timing can change."""
    gates = sorted((gate, status) for gate, _, status, *_ in of["verdicts"])
    return [of["cells"], of["tied_candidates"], of["tied_guidances"], gates]


if __name__ == "__main__":
    main()
