"""The first hour on a GPU: what only a device can answer, the most valuable answers first, one JSON line for each.

    python tests/benchmarks/first_hour.py
    python tests/benchmarks/first_hour.py --stages environment,bits,images --device cuda:1
    python tests/benchmarks/first_hour.py --device cpu --size zoo

Every stage runs in a process of its own, which is ended after its limit (under three minutes); what it answered until then
counts. A failed stage ends no other one. Nothing decides a test. At the end the lines are written as a section for docs/log.md,
to --out. Models are the zoo's, and random weights of the full size of SD1.5 and SDXL, 18 GB in --folder; --size sets one size for
all stages.

Where nothing can be downloaded: beside the repository carry the wheels that the machine lacks. With torch, transformers,
accelerate, safetensors, torchmetrics, scikit-learn, scipy, pandas, pillow, rich and jinja2 there, 23.5 MB remain: plotly 9.5 MB,
diffusers 6.2, torchao 3.3, open-clip-torch 1.5, and blake3, ftfy, wcwidth, peft, nvidia-ml-py, pytest and pytest-benchmark
together 3.0. With torch alone it is 138 MB; the largest are scipy 34, numpy 16, transformers 13 and pandas 12. triton comes with
torch for CUDA; `compile` needs gcc and Python.h besides.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

if TYPE_CHECKING:
    from tests.benchmarks.gpu_stages import Stage, Subject


def main() -> None:
    """Runs the stages, prints their lines, and writes the section."""
    from tests.benchmarks.gpu_stages import STAGES, Subject

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--size", choices=("zoo", "sd15", "sdxl"), help="one size for all stages")
    parser.add_argument("--stages", default=",".join(STAGES), help="names, separated by commas")
    parser.add_argument("--folder", type=Path, default=Path(".sweetspot/first_hour"), help="for random weights; kept")
    parser.add_argument("--out", type=Path, default=Path(".sweetspot/first_hour/section.md"), help="the section for docs/log.md")
    parser.add_argument("--alone", choices=tuple(STAGES), help="this stage in this process, without a limit")
    given = parser.parse_args()
    names = [given.alone] if given.alone else given.stages.split(",")
    if unknown := [name for name in names if name not in STAGES]:
        parser.error(f"unknown stages: {', '.join(unknown)}; expected some of {', '.join(STAGES)}")
    stages = chosen(names, given.size)
    if given.alone:
        stage = stages[given.alone]
        for line in lines_of(given.alone, stage, Subject(device=given.device, size=stage.size, folder=given.folder.resolve())):
            say(line)
        return
    lines = []
    for name, stage in stages.items():
        words = [sys.executable, __file__, "--alone", name, "--device", given.device, "--size", stage.size,
                 "--folder", str(given.folder)]
        for line in in_its_own_process(name, words, stage.limit_seconds):
            say(line)
            lines.append(line)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(section(lines, given.device, datetime.now(UTC).date().isoformat()))
    print(f"the section for docs/log.md: {given.out}", file=sys.stderr)


def chosen(names: Iterable[str], size: str | None) -> dict[str, Stage]:
    """The stages of these names. With one `size` for all, a stage that is named once for each size is taken once."""
    from tests.benchmarks.gpu_stages import STAGES

    stages = {name: replace(STAGES[name], size=size or STAGES[name].size) for name in names}
    first: dict[Any, str] = {}
    for name, stage in stages.items():
        first.setdefault((stage.work, stage.size), name)
    return {name: stages[name] for name in first.values()}


def lines_of(name: str, stage: Stage, subject: Subject) -> Iterator[dict[str, Any]]:
    """The results of one stage, in this process, and last how it ended."""
    from harness.sampling import set_determinism
    from tests.benchmarks.gpu_stages.subject import failure

    set_determinism(subject.device)
    started, end = time.perf_counter(), "done"
    try:
        for facts in stage.work(subject):
            yield {"stage": name, **facts}
    except Exception as error:
        end = failure(error)
    yield {"stage": name, "what": "end", "result": end, "seconds": time.perf_counter() - started}


def in_its_own_process(name: str, words: Sequence[str], limit_seconds: float) -> Iterator[dict[str, Any]]:
    """The lines of a stage as they come, and how it ended where it does not say so itself. Its process, and all that it started,
    is killed at the limit."""
    started = time.monotonic()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True) as process:
        timer = threading.Timer(limit_seconds, os.killpg, (process.pid, signal.SIGKILL))
        timer.start()
        ended = False
        try:
            for text in process.stdout or ():
                try:
                    line = json.loads(text)
                except ValueError:
                    print(text, end="", file=sys.stderr)
                    continue
                ended = line.get("what") == "end"
                yield line
        finally:
            timer.cancel()
            if process.poll() is None and not ended:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
    if not ended:
        seconds = time.monotonic() - started
        reason = (f"killed after its limit of {limit_seconds:g} s" if seconds >= limit_seconds else
                  f"its process ended with code {process.returncode}")
        yield {"stage": name, "what": "end", "result": reason, "seconds": seconds}


def section(lines: Sequence[dict[str, Any]], device: str, date: str) -> str:
    """The lines as a section for docs/log.md: device, versions and date, and a row for each result."""
    known = {line["what"]: line for line in lines if line["stage"] == "environment"}
    machine, versions = known.get("machine", {}), known.get("versions", {})
    where = machine.get("device_name") or machine.get("cpu") or device
    facts = [f"{word} {machine[word]}" for word in ("driver", "cuda", "python", "git_commit") if word in machine]
    facts += [f"{name} {versions[name]}" for name in ("torch", "diffusers", "transformers", "torchao") if name in versions]
    rows = [f"| {line['stage']} | {_cell(line['what'])} | {_figures(line)} |" for line in lines
            if known.get(line["what"]) is not line]
    return "\n".join([f"## {date} The first hour on {where}", "", f"`--device {device}`; {', '.join(facts)}.", "",
                      "| stage | what | figures |", "|---|---|---|", *rows, ""])


def _figures(line: dict[str, Any]) -> str:
    return _cell("; ".join(f"{name} {_number(value)}" for name, value in line.items() if name not in ("stage", "what")))


def _cell(text: str) -> str:
    return text.replace("|", "/").replace("\n", " ")


def _number(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_number(part)}" for name, part in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(map(_number, value)) or "none"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def say(line: dict[str, Any]) -> None:
    """One line of JSON, at once."""
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
