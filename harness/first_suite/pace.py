"""How long an image of a suite takes here: by an earlier run, or by making a few of them in a process of its own, whose memory
does not count for the run that follows."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from harness.check import load_rows, resolved
from harness.check.expected_time import pace
from harness.declare import Suite
from harness.declare.effective_grid import grid_of
from harness.declare.load_suite import load_suite
from harness.first_suite.given_files import UnfitFileError

TRIED: Final = 4
"""Images of the first batch that are made, at most."""
_WORD: Final = "sweetspot-pace "


def seconds_per_image(suite: Suite, file: Path, runs: Path, device: str, say: Callable[[str], None]) -> float:
    """Seconds per image. Raises UnfitFileError with what went wrong if none could be made."""
    if known := pace(suite, runs, device):
        say(f"  an image takes {known.seconds_per_image:.2g} s on {device}, as in {known.run}")
        return known.seconds_per_image
    say(f"  making a few images on {device} to see how long they take ...")
    done = subprocess.run([sys.executable, "-P", "-m", "harness.first_suite.pace", str(file), device], capture_output=True,
                          text=True, errors="replace", check=False)
    answer = next((line.removeprefix(_WORD) for line in done.stdout.splitlines() if line.startswith(_WORD)), "")
    result = json.loads(answer) if answer else {}
    if "seconds" not in result:
        why = result.get("error") or (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise UnfitFileError(f"no image could be made: {why}")
    say(f"  an image takes about {result['seconds']:.2g} s on {device}")
    return float(result["seconds"])


def measured(suite: Suite, device: str) -> float:
    """Seconds per image in a batch of the baseline's, without loading. Makes one image more, which warms up."""
    from harness.materialise import Workbench
    from harness.run.fitted_batch import with_fitted_batch
    from harness.run.preflight import file_problems
    from harness.sampling import batches, embedded, lengths_of, pack, sample, set_determinism, threads_for

    set_determinism(device)
    candidate = next(c for c in suite.candidates if c.name == suite.baseline)
    bench = Workbench.for_grid(suite.grid, device=device, root=Path.cwd())
    if wrong := file_problems(suite, [candidate], bench, {}, lambda *_: None):
        raise ValueError(wrong[0])
    suite = with_fitted_batch(suite, bench, {})[0]
    grid = grid_of(suite, candidate)
    with threads_for(grid, device):
        phases = bench.prepare(candidate).phases
        texts = embedded(phases, grid.prompts, steps=grid.steps)
        first = next(iter(batches(grid)))[:TRIED]
        batch = pack(grid, first, len(first), lengths_of(phases, texts, grid))[0]
        for cells in (batch[:1], batch):
            started = time.perf_counter()
            for _ in sample(phases, grid, [cells], texts):
                pass
        return (time.perf_counter() - started) / len(batch)


def main(file: str, device: str) -> int:
    """Prints the seconds, or the error, of the suite in a file."""
    from harness.executors.libraries import load_libraries
    from harness.executors.quiet import own_warnings, quiet_libraries

    quiet_libraries()
    load_libraries(clip=False, own_process=True)
    try:
        suite = resolved(load_suite(Path(file)), Path.cwd())
        assert isinstance(suite, Suite)
        load_rows(suite, [Path(file).parent, Path.cwd()])
        with own_warnings():
            result: dict[str, object] = {"seconds": measured(suite, device)}
    except Exception as error:
        result = {"error": f"{error}" or type(error).__name__}
    print(f"{_WORD}{json.dumps(result)}", flush=True)
    return int("error" in result)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
