"""How long `sweetspot try` takes from the command to the verdict, beside the built-in suite alpha_cfg; nothing decides a test.

    python tests/benchmarks/trying.py
    python tests/benchmarks/trying.py --rounds 3 --threads 1

try:       `sweetspot try photo.safetensors anime.safetensors` on exported files of the built-in models, in an empty folder.
alpha_cfg: `pytest suites/alpha_cfg.py --benchmark`, in an empty runs folder.
check:     `pytest suites/photo_anime.py`, the declaration of the suite that `try` wrote.

They take turns. Every figure is the median of the rounds, by the clock and in processor seconds of all threads; the ratio is the
median of the rounds' own. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[2]
COMMAND = "import sys; from harness.cli import command; sys.argv[0] = 'sweetspot'; command()"
EXPORT = "import sys; from harness.zoo.__main__ import main; main(sys.argv[1:])"
PYTEST = "import sys, pytest; sys.exit(pytest.main(sys.argv[1:]))"


def timed(words: Sequence[str], folder: Path, environment: dict[str, str]) -> tuple[float, float]:
    """Seconds by the clock and of the processor of a command. Raises SystemExit if it ends with an error."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run([sys.executable, "-P", "-c", *words], cwd=folder, env=environment, capture_output=True, text=True,
                          check=False)
    clock, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{words[1:]} ended with {done.returncode}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    return clock, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Measures in turns and prints the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", default="", help="OMP_NUM_THREADS of all commands (default: the environment's)")
    given = parser.parse_args()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **({"OMP_NUM_THREADS": given.threads} if given.threads else {})}
    taken: dict[str, list[tuple[float, float]]] = {"try": [], "alpha_cfg": [], "check": []}
    with tempfile.TemporaryDirectory() as name:
        environment["SWEETSPOT_CACHE"] = f"{name}/cache"
        timed([EXPORT, "export", "models"], Path(name), environment)
        for number in range(given.rounds):
            folder = Path(name) / str(number)
            folder.mkdir()
            files = [str(Path(name) / "models" / f"{model}.safetensors") for model in ("photo", "anime")]
            taken["try"].append(timed([COMMAND, "try", *files], folder, environment))
            taken["check"].append(timed([PYTEST, "suites/photo_anime.py", "-q"], folder, environment))
            built_in = [PYTEST, "suites/alpha_cfg.py", "--benchmark", "--runs-dir", str(folder / "runs"), "-q"]
            taken["alpha_cfg"].append(timed(built_in, ROOT, environment))
            print({what: tuple(round(x, 1) for x in of[-1]) for what, of in taken.items()}, flush=True)
    figures = {what: {"seconds": median(t[0] for t in of), "processor_seconds": median(t[1] for t in of)}
               for what, of in taken.items()}
    ratios = [[a / b for a, b in zip(one, other, strict=True)]
              for one, other in zip(taken["try"], taken["alpha_cfg"], strict=True)]
    print(json.dumps({**figures, "ratio": {"clock": median(r[0] for r in ratios), "processor": median(r[1] for r in ratios)},
                      "cores": os.cpu_count(), "load": os.getloadavg()[0]}))


if __name__ == "__main__":
    main()
