"""`sweetspot plan`: what the candidates of a suite need of a device's memory, and whether that fits. It reads headers and configs
alone, and needs no GPU if its memory is given.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from harness.commands.arguments import memory
from harness.commands.downloads import add_download
from harness.commands.suite_file import sound_suite
from harness.commands.terminal import add_examples, say
from harness.declare import Suite
from harness.declare.candidate_words import described, scheme_of
from harness.declare.grid import FIT
from harness.records.harmless_text import printable

if TYPE_CHECKING:
    from harness.run.memory_plan import Footprint, Planned

GIB: Final = 2 ** 30
_NAMED: Final = 4


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where a suite is to run: the device, its free memory in bytes, and where this number is from."""

    device: str
    memory: int
    source: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `plan`."""
    add_examples(parser, "plan suites/my_merge.py --device cuda", "plan suites/my_merge.py --device cuda --memory 12GiB")
    parser.add_argument("suite", type=Path, metavar="SUITE_FILE", help="a file with a SUITE, for example suites/alpha_cfg.py")
    parser.add_argument("--device", default="cuda", metavar="cpu|cuda|cuda:N", help="where it is to run (default: cuda)")
    parser.add_argument("--memory", type=memory, default=None, metavar="SIZE",
                        help="plan for this much free memory, such as 12GiB, instead of the device's; no GPU is needed then")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_download(parser)


def run(given: argparse.Namespace) -> int:
    """Exit codes: 0 all candidates fit, 1 some do not, 2 the command line or the suite is wrong."""
    try:
        suite, place = sound_suite(given.suite, allow_download=given.allow_download), _place(given)
    except (ValueError, OSError, RuntimeError) as error:
        print("\n".join(printable(line) for line in f"sweetspot plan: {error}".splitlines()), file=sys.stderr)
        return 2
    from harness.executors.libraries import load_libraries
    from harness.executors.quiet import quiet_libraries
    from harness.materialise import Workbench
    from harness.run.device_refusals import refusal
    from harness.run.fitted_batch import fitting_batch
    from harness.run.memory_plan import planned

    quiet_libraries()
    load_libraries(clip=False, own_process=True)
    bench = Workbench.for_grid(suite.grid, device=place.device, root=Path.cwd())
    not_offered = {c.name: reason for c in suite.candidates if (reason := refusal(c, place.device))}
    rows = planned(suite, [c for c in suite.candidates if c.name not in not_offered], bench)
    if suite.grid.batch_size == FIT:
        suite = replace(suite, grid=replace(suite.grid, batch_size=fitting_batch(rows, suite, place.memory)))
    if given.json:
        print(json.dumps({"suite": suite.name, "device": place.device, "memory": place.memory, "not_offered": not_offered,
                          "candidates": [_data(row, suite, place) for row in rows]}, indent=1))
    else:
        for line in _lines(suite, place, rows):
            say(printable(line))
        for name, reason in not_offered.items():
            say(printable(f"\n{name}\n  is not run: {reason}"))
    return int(not all(_fits(row, suite, place) for row in rows))


def _place(given: argparse.Namespace) -> _Place:
    """Raises ValueError for a device that is not here, unless its memory is given."""
    from harness.probes.available import device_memory
    from harness.probes.device import device_problem, name_problem

    if wrong := name_problem(given.device):
        raise ValueError(wrong)
    if given.memory is not None:
        return _Place(device=given.device, memory=given.memory, source="--memory")
    if wrong := device_problem(given.device):
        raise ValueError(f"{wrong}. To plan for a GPU that is not here, give its memory: --memory 12GiB")
    here = device_memory(given.device)
    return _Place(device=given.device, memory=here.free, source=f"free now on {here.name}, which has {_gib(here.total)}")


def _fits(row: Planned, suite: Suite, place: _Place) -> bool:
    if isinstance(row.footprint, str):
        return False
    return row.footprint.need(suite.grid.images_per_batch, suite.grid.low_memory).in_all <= place.memory


def _lines(suite: Suite, place: _Place, rows: list[Planned]) -> Iterator[str]:
    from harness.run.memory_plan import RESERVED_BYTES

    grid = suite.grid
    measures = f", low_memory {', '.join(grid.low_memory)}" if grid.low_memory else ""
    yield (f"{suite.name}: {grid.width} x {grid.height}, batches of {grid.images_per_batch}{measures}, on {place.device} with "
           f"{_gib(place.memory)} ({place.source})")
    purpose = "Python and its libraries" if place.device == "cpu" else "the CUDA context and workspaces"
    yield f"Computed from headers and configs, not measured. {_gib(RESERVED_BYTES)} are reserved for {purpose}, an estimate."
    for row in rows:
        yield ""
        facts = ", ".join(filter(None, (row.number_format, row.size, *_schemes(suite, row))))
        yield f"{_names(row.names)}{f': {facts}' if facts else ''}"
        if isinstance(row.footprint, str):
            yield f"  cannot be planned: {row.footprint}"
        else:
            yield from _figures(row.footprint, suite, place)


def _schemes(suite: Suite, row: Planned) -> list[str]:
    """How those candidates of a row combine models and pictures that are more than a model or a merge, each scheme once."""
    return list(dict.fromkeys(scheme_of(c) for c in suite.candidates if c.name in row.names and described(c)))


def _figures(footprint: Footprint, suite: Suite, place: _Place) -> Iterator[str]:
    from harness.run.memory_problems import ways_out

    grid = suite.grid
    need, one = (footprint.need(size, grid.low_memory) for size in (grid.images_per_batch, 1))
    parts = ", ".join(f"{part} {_gib(size)}" for part, size in need.weights.items())
    yield f"  weights on the device     {_gib(sum(need.weights.values())):>10}  {parts or 'none'}"
    yield f"  while texts are embedded  {_gib(need.texts):>10}"
    yield f"  a denoising step          {_gib(need.step):>10}  1 image: {_gib(one.step)}"
    yield f"  decoding                  {_gib(need.decode):>10}"
    if need.encode:
        yield f"  encoding pictures         {_gib(need.encode):>10}"
    yield f"  in all                    {_gib(need.in_all):>10}  1 image: {_gib(one.in_all)}"
    largest = footprint.largest_batch(place.memory, grid.low_memory)
    if need.in_all <= place.memory:
        yield f"  fits; the largest batch that fits is {max(largest, grid.images_per_batch)}"
        return
    yield f"  does not fit: {_gib(need.in_all - place.memory)} too much; {ways_out(footprint, grid, place.memory)}"


def _data(row: Planned, suite: Suite, place: _Place) -> dict[str, Any]:
    data: dict[str, Any] = {"names": row.names, "number_format": row.number_format, "schemes": _schemes(suite, row),
                            "fits": _fits(row, suite, place)}
    if isinstance(row.footprint, str):
        return data | {"error": row.footprint}
    grid = suite.grid
    needs = {size: row.footprint.need(size, grid.low_memory) for size in (1, grid.images_per_batch)}
    return data | {
        "weights": dict(needs[1].weights), "largest_batch": row.footprint.largest_batch(place.memory, grid.low_memory),
        "batches": [{"batch_size": size, "texts": need.texts, "step": need.step, "decode": need.decode, "encode": need.encode,
                     "in_all": need.in_all} for size, need in needs.items()]}


def _names(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _gib(size: int) -> str:
    return f"{size / GIB:.2f} GiB"
