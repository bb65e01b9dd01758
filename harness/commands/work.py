"""`sweetspot work`: makes images of a suite for a shared cache, beside other processes on any machines. An ordinary run finds
them there."""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from harness.commands.suite_file import sound_suite
from harness.commands.terminal import add_examples, say
from harness.declare import Candidate, Suite
from harness.declare.candidate_names import hint
from harness.declare.grid import FIT
from harness.records.harmless_text import printable, printable_lines, without_credentials

if TYPE_CHECKING:
    from harness.cache import ImageCache
    from harness.cache.claims import Claims
    from harness.run.shared_work import Outcome
    from harness.run.work_parts import WorkPart

DONE, INCOMPLETE, WRONG, NO_CACHE, STOPPED, ENDED = 0, 1, 2, 3, 130, 143
"""Exit codes; ENDED is that of a process that SIGTERM ends."""
_RANKS: Final = (("SLURM_PROCID", "SLURM_NTASKS"), ("JOB_COMPLETION_INDEX", "JOB_COMPLETIONS"), ("RANK", "WORLD_SIZE"))
_LOCAL_RANKS: Final = ("SLURM_LOCALID", "OMPI_COMM_WORLD_LOCAL_RANK", "LOCAL_RANK")

_GPUS: Final = ("SLURM_GPUS_ON_NODE", "SLURM_STEP_GPUS", "SLURM_JOB_GPUS", "SLURM_GPUS", "SLURM_GPUS_PER_TASK",
                "SLURM_GPUS_PER_NODE", "NVIDIA_VISIBLE_DEVICES")
_INDICES: Final = ("SLURM_STEP_GPUS", "SLURM_JOB_GPUS", "NVIDIA_VISIBLE_DEVICES")
_NO_GPU: Final = ("", "0", "void", "none", "all")
"""Values without a GPU; images of CUDA have "all" wherever they run."""


@dataclass(frozen=True, kw_only=True)
class Share:
    """Share `number`, from 1, of so many."""

    number: int
    of: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `work`."""
    add_examples(parser, "work suites/my_merge.py --shared-cache folder:/shared/cache",
                 "work suites/my_merge.py --shared-cache redis://cache:6379/0 --device cuda:1 --part 3/8")
    parser.add_argument("suite", type=Path, metavar="SUITE_FILE", help="a file with a SUITE, for example suites/alpha_cfg.py")
    parser.add_argument("--shared-cache", default=os.environ.get("SWEETSPOT_SHARED_CACHE", ""), metavar="ADDRESS",
                        help="where images are put: folder:/path or redis://host:6379/0 (default: $SWEETSPOT_SHARED_CACHE)")
    parser.add_argument("--device", default="", metavar="cpu|cuda|cuda:N",
                        help="where images are made (default: the GPU that is visible; of several, that of this task on its "
                             "node; cpu without one)")
    parser.add_argument("--part", type=part, default=None, metavar="N/OF",
                        help="make this share of the images and claim nothing; by default processes claim parts of the work")
    parser.add_argument("-k", "--only", action="append", default=[], metavar="NAMES",
                        help="make only these candidates: names separated by commas; may be given several times")
    parser.add_argument("--exact", action="store_true", help="as pytest's --exact: sample at batch size 1")
    parser.add_argument("--new-environment", action="store_true",
                        help="go on although the images in the cache were announced with other versions, another device or other "
                             "files: those of this process count from now on")


def part(text: str) -> Share:
    """"3/8" as a share."""
    match = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise argparse.ArgumentTypeError(f"{text!r} is not a share; expected N/OF with N from 1 to OF, such as 3/8")
    return Share(number=int(match[1]), of=int(match[2]))


def run(given: argparse.Namespace) -> int:
    """Exit codes: 0 all that was to do is in the cache; 1 some is not, because candidates failed; 2 the command line, suite,
    device or files are wrong, or not those of the others; 3 the cache cannot be reached, or takes or keeps no images; 130
    stopped, 143 ended."""
    from harness.cache.claims import ClaimError
    from harness.run.shared_work import NotStoredError

    try:
        with _ending():
            return _work(given)
    except (NotStoredError, ClaimError) as error:
        return _failed(error, NO_CACHE)
    except (ValueError, OSError, ModuleNotFoundError) as error:
        return _failed(error, WRONG)
    except KeyboardInterrupt:
        return _failed("stopped; the images made so far are in the cache, and what was begun is free for others", STOPPED)


def _failed(error: object, code: int) -> int:
    print(printable_lines(f"sweetspot work: {error}"), file=sys.stderr)
    return code


@contextmanager
def _ending() -> Iterator[None]:
    """Lets SIGTERM, with which schedulers end a job, end this process in order: what it claimed is given back."""
    def end(*_: object) -> None:
        raise SystemExit(ENDED)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _work(given: argparse.Namespace) -> int:
    from harness.cache import open_cache
    from harness.cache.claims import open_claims
    from harness.declare.effective_grid import largest_image
    from harness.run.work_parts import from_place, parts_of, share

    if not given.shared_cache:
        raise ValueError("no shared cache is given; it is where the images go: --shared-cache folder:/path, on a disk that all "
                         "workers and the run see, or redis://host:6379/0")
    suite = _suite(given)
    device, why = _device(given.device)
    chosen, refused = _chosen(suite, given, device)
    cache = open_cache(given.shared_cache, largest_image(suite))
    say(printable(f"{suite.name}: {len(chosen)} candidates on {device}{f' ({why})' if why else ''}, into "
                  f"{without_credentials(given.shared_cache)}"))
    for sentence in (*_not_known_yet(suite), *(f"{name} is not made, here or in a run on {device}: {reason}"
                                               for name, reason in refused.items())):
        say(printable(sentence))
    parts = parts_of(suite, chosen, _first_look(suite))
    if given.part is not None:
        own = share(parts, given.part.number, given.part.of)
        say(f"part {given.part.number} of {given.part.of}: {len(own)} of {len(parts)} parts of the work")
    else:
        own = from_place(parts, _place())
    claims = open_claims(cache) if given.part is None else None
    try:
        outcome = _made(suite, given, device, own, (cache, claims))
    finally:
        if claims is not None:
            claims.close()
    return _told(suite, given, device, outcome)


def _suite(given: argparse.Namespace) -> Suite:
    """The file's SUITE. Raises ValueError for one that cannot run, or not with several workers."""
    suite = sound_suite(given.suite)
    if given.exact:
        suite = replace(suite, grid=replace(suite.grid, batch_size=1))
    if suite.grid.batch_size == FIT:
        raise ValueError(f"suite {suite.name!r}: batch_size={FIT!r} is chosen by each process for itself, and images of other "
                         "batch sizes are other images. Declare a number; sweetspot plan says which fits")
    return suite


def _device(given: str) -> tuple[str, str]:
    """The device and, if it was not given, why this one. Raises ValueError for one that is not here, or if it is not clear."""
    from harness.probes.device import device_problem

    why = ""
    if given in ("", "cuda"):
        import torch

        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if not given or (count > 1 and any(name in os.environ for name in _LOCAL_RANKS)):
            given, why = chosen_device(count, os.environ)
    if wrong := device_problem(given):
        raise ValueError(f"--device: {wrong}")
    return given, why


def chosen_device(count: int, environment: Mapping[str, str]) -> tuple[str, str]:
    """The device of a process that sees so many GPUs, and why. Raises ValueError where that is not clear."""
    if count == 0:
        for name in _GPUS:
            value = environment.get(name, "").strip()
            if value not in _NO_GPU or (value == "0" and name in _INDICES):
                raise ValueError(f"no GPU is visible, and ${name} is {value!r}: this process was given one. Look at the driver "
                                 "and the container of this machine, or give --device cpu")
        return "cpu", "no GPU is visible"
    if count == 1:
        return "cuda:0", "the one GPU that is visible"
    for name in _LOCAL_RANKS:
        if (rank := environment.get(name, "")).isdigit() and rank.isascii():
            if int(rank) >= count:
                raise ValueError(f"this is task {rank} of its node, counted from 0 (${name}), and {count} GPUs are visible; "
                                 f"start at most {count} tasks on a node, or give --device")
            return f"cuda:{int(rank)}", f"task {rank} of its node, ${name}"
    raise ValueError(f"{count} GPUs are visible, and it is not clear which one is meant: give --device cuda:0, and another "
                     "process the next one, or start it with srun --gpus-per-task=1")


def _chosen(suite: Suite, given: argparse.Namespace, device: str) -> tuple[list[Candidate], dict[str, str]]:
    """The candidates to make, in the order of a run, and why the device refuses others. Raises ValueError for unknown names."""
    from harness.run.batch_packing import in_order
    from harness.run.device_refusals import refusal

    known = [candidate.name for candidate in suite.candidates]
    asked = [name for text in given.only for name in ([text] if text in known else map(str.strip, text.split(","))) if name]
    if unknown := [name for name in asked if name not in known]:
        raise ValueError(f"-k: suite {suite.name!r} has no candidate {unknown[0]!r}; {hint(unknown[0], known)}")
    if given.only and not asked:
        raise ValueError("-k: no name given; expected names of candidates, separated by commas")
    selected = [candidate for candidate in in_order(suite) if not asked or candidate.name in asked]
    refused = {c.name: reason for c in selected if (reason := refusal(c, device))}
    if asked and refused:
        name, reason = next(iter(refused.items()))
        raise ValueError(f"-k: {device} refuses {name!r}: {reason}. Leave it out, or give another --device")
    if len(refused) == len(selected):
        raise ValueError(f"suite {suite.name!r}: {device} refuses all candidates: {next(iter(refused.values()))}. Give another "
                         "--device")
    return [c for c in selected if c.name not in refused], refused


def _first_look(suite: Suite) -> Sequence[Any] | None:
    from harness.race.race import first_cells

    return first_cells(suite)


def _not_known_yet(suite: Suite) -> list[str]:
    """What of a suite with a budget cannot be made ahead, because it depends on results."""
    if suite.budget is None:
        return []
    sentences = [f"suite {suite.name!r} has a budget: which images its later looks ask for depends on the earlier ones. Only "
                 "those of the first look are made here; the run makes the others"]
    if suite.search is not None:
        sentences.append("its search tries one block weight after another; the run makes their images")
    if suite.budget.refine:
        sentences.append("its refinement adds candidates between good ones; the run makes their images")
    return sentences


def _place() -> float:
    """Where in the list of parts this process begins, from 0 to 1: by its number among all where it has one."""
    for number, count in _RANKS:
        rank, of = os.environ.get(number, ""), os.environ.get(count, "")
        if rank.isdigit() and of.isdigit() and int(rank) < int(of):
            return int(rank) / int(of)
    return int.from_bytes(os.urandom(4)) / 2 ** 32


def _made(suite: Suite, given: argparse.Namespace, device: str, own: Sequence[WorkPart],
          shared: tuple[ImageCache, Claims | None]) -> Outcome:
    """Loads what is needed, checks everything that can be checked before the first image, and makes the parts."""
    from harness.run.shared_setting import SharedSetting
    from harness.run.shared_work import SharedWork

    setting = SharedSetting.of(suite, str(given.suite), device, Path.cwd())
    candidates = list({part.candidate.name: part.candidate for part in own}.values())
    if setting.limit:
        say(setting.limit)
    if wrong := setting.problems(candidates, shared[0], take_over=given.new_environment):
        raise ValueError("\n".join(wrong))
    return SharedWork(suite=suite, head=setting.head, maker=setting.maker, cache=shared[0], claims=shared[1],
                      sample_of=setting.sampled, say=lambda text: say(printable(text))).go(own)


def _told(suite: Suite, given: argparse.Namespace, device: str, outcome: Outcome) -> int:
    """Says what was done and what is next. Returns the exit code."""
    say(f"made {outcome.made} images; {outcome.there} were there, or made by others")
    for name, why in outcome.failures.items():
        if not outcome.owed.get(name):
            say(printable(f"{name} failed here, {why}; another worker made its images"))
            continue
        print(printable(f"sweetspot work: {name} failed, {why}; {outcome.owed.get(name, 0)} of its images are not in the cache"),
              file=sys.stderr)
    if outcome.owed:
        return INCOMPLETE
    what = "all that was to do is in the cache" if given.part is None else f"part {given.part.number} is in the cache"
    where = "" if device == "cpu" else " --device cuda"
    say(printable(f"{suite.name}: {what}. When all workers are done: pytest {given.suite} --benchmark{where} --shared-cache "
                  f"{without_credentials(given.shared_cache)}"))
    return DONE
