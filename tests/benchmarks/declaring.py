"""How long it takes to hear what is wrong with a declaration, as ratios to pytest's own start, all measured in one run.

    python tests/benchmarks/declaring.py [SUITE_FILE ...] --rounds 5
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

START = """
import sys, pytest
code = pytest.main(sys.argv[1:])
print("loaded:", *(name for name in ("torch", "diffusers", "transformers", "scipy.stats", "pandas") if name in sys.modules))
sys.exit(code)
"""
CALLS = {"pytest --version": ["--version"], "checked: pytest SUITE": ["-q"],
         "collected: pytest --collect-only --benchmark SUITE": ["-q", "--collect-only", "--benchmark"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suites", nargs="*", type=Path, default=sorted(Path("suites").glob("*.py")))
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    print(f"{'':64} {'median s':>9} {'x start':>8}  loaded")
    for suite in given.suites:
        base = 0.0
        for name, words in CALLS.items():
            places = [] if words == ["--version"] else [str(suite)]
            seconds, loaded = zip(*(timed([*words, "-p", "no:cacheprovider", *places]) for _ in range(given.rounds)), strict=True)
            median = statistics.median(seconds)
            base = base or median
            print(f"{suite.name + ': ' + name:64} {median:9.2f} {median / base:8.1f}  {loaded[-1] or 'none of them'}")


def timed(words: list[str]) -> tuple[float, str]:
    """Seconds of the whole process, and which heavy libraries it loaded."""
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", START, *words], capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    return seconds, next((line.removeprefix("loaded:").strip() for line in reversed(done.stdout.splitlines())
                          if line.startswith("loaded:")), done.stderr[-200:])


if __name__ == "__main__":
    main()
