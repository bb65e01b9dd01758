"""The options of the pytest plugin, and their values as one record. All have no effect without --benchmark."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import pytest

from harness.commands.arguments import megabytes, seconds
from harness.executors.workers import run_device_problem, workers_problem
from harness.session.options import SessionOptions, cache_problem, download_problem, timeout_problem

POLICIES: Final = ("fail", "pass")


def add_options(parser: pytest.Parser) -> None:
    """Adds all options to pytest's parser."""
    group = parser.getgroup("sweetspot")
    group.addoption("--benchmark", action="store_true", dest="sweetspot_benchmark",
                    help="materialise, sample and measure the suites' candidates, and write the report")
    group.addoption("--device", default="cpu", dest="sweetspot_device", metavar="cpu|cuda|cuda:N",
                    help="where candidates run (default: cpu)")
    group.addoption("--workers", default="", dest="sweetspot_workers", metavar="WHO",
                    help="who makes the images: local:N for N processes, local:cuda for one on each GPU, ray or ray:ADDRESS for "
                         "a Ray cluster (default: this process)")
    group.addoption("--worker-timeout", type=seconds, default=0.0, dest="sweetspot_worker_timeout", metavar="SECONDS",
                    help="end a worker that makes no batch in this time, and give its images to others (default: never)")
    group.addoption("--runs-dir", default="runs", dest="sweetspot_runs", metavar="DIR",
                    help="folder that holds one folder per suite (default: runs)")
    group.addoption("--fresh", action="store_true", dest="sweetspot_fresh",
                    help="discard the results of an earlier run of these suites, and start over")
    group.addoption("--exact", action="store_true", dest="sweetspot_exact",
                    help="sample at batch size 1, so that images equal single ones bit for bit")
    group.addoption("--verify", action="store_true", dest="sweetspot_verify",
                    help="hash every image that is reused, instead of trusting files that look unchanged")
    group.addoption("--retime", action="store_true", dest="sweetspot_retime",
                    help="time all selected candidates again, together; nothing is sampled again")
    group.addoption("--shared-cache", default=os.environ.get("SWEETSPOT_SHARED_CACHE", ""), dest="sweetspot_cache",
                    metavar="ADDRESS", help="images shared between runs: folder:/path or redis://host:6379/0 "
                                            "(default: $SWEETSPOT_SHARED_CACHE, else none)")
    group.addoption("--allow-download", action="store_true", dest="sweetspot_allow_download",
                    help="fetch files of the Hugging Face hub that suites name and its local cache does not have (default: "
                         "refuse such suites)")
    group.addoption("--baselines", default="models/baselines", dest="sweetspot_baselines", metavar="DIR",
                    help="folder of the baseline files that promotions leave, one per suite (default: models/baselines)")
    group.addoption("--page-budget", type=megabytes, default=10.0, dest="sweetspot_page_budget", metavar="MB",
                    help="largest size of a page; it omits images that do not fit, and says so (default: 10)")
    group.addoption("--live", action="store_true", dest="sweetspot_live",
                    help="write the page before the first image, and again during the run; it is marked as unfinished, and "
                         "reloads itself")
    group.addoption("--timings", action="store_true", dest="sweetspot_timings",
                    help="show pytest-benchmark's tables of the latencies, which are always on the page")
    group.addoption("--inconclusive", choices=POLICIES, default="pass", dest="sweetspot_inconclusive",
                    help="whether a gate that the data cannot decide is a failed test, or a skipped one with its reason "
                         "(default: pass)")
    group.addoption("--markdown", default="", dest="sweetspot_markdown", metavar="FILE",
                    help="write the verdicts of all suites as one Markdown text of at most 60 kB, for a comment")
    parser.addini("sweetspot_suites", "names of folders whose files may declare a SUITE", type="args", default=["suites"])


def benchmarking(config: pytest.Config) -> bool:
    """Whether --benchmark was given."""
    return bool(config.getoption("sweetspot_benchmark", default=False))


def session_options(config: pytest.Config) -> SessionOptions:
    """The session options from the command line."""
    given, root = config.option, Path(config.invocation_params.dir)
    return SessionOptions(
        root=root, runs=root / given.sweetspot_runs, baselines=root / given.sweetspot_baselines, device=given.sweetspot_device,
        fresh=given.sweetspot_fresh, exact=given.sweetspot_exact, verify=given.sweetspot_verify, retime=given.sweetspot_retime,
        cache=given.sweetspot_cache, workers=given.sweetspot_workers,
        worker_timeout=given.sweetspot_worker_timeout, live=given.sweetspot_live, page_budget=float(given.sweetspot_page_budget),
        own_process=True, allow_download=given.sweetspot_allow_download,
        command=("pytest", *map(str, config.invocation_params.args)))


def tolerates_inconclusive(config: pytest.Config) -> bool:
    """Whether a gate that the data cannot decide is skipped (True) or fails (False), by --inconclusive."""
    return bool(config.option.sweetspot_inconclusive == "pass")


def markdown_file(config: pytest.Config) -> Path | None:
    """The file given with --markdown, or None."""
    name = config.option.sweetspot_markdown
    return Path(config.invocation_params.dir) / name if name else None


def shows_timings(config: pytest.Config) -> bool:
    """Whether to show pytest-benchmark's tables of our latencies: with --timings, or any pytest-benchmark option about tables."""
    given = config.option
    changed = (given.benchmark_sort != "min", given.benchmark_group_by != "group", given.benchmark_columns,
               given.benchmark_histogram, given.benchmark_compare, given.benchmark_compare_fail, given.benchmark_verbose)
    spelled = ("--benchmark-sort", "--benchmark-group-by", "--benchmark-columns")
    return bool(given.sweetspot_timings or any(changed) or any(
        str(word).startswith(spelled) for word in config.invocation_params.args))


def refuse(config: pytest.Config) -> None:
    """Raises UsageError for options that would make measurements meaningless, or whose output could not be written at the end."""
    given = config.option
    if getattr(given, "numprocesses", None):
        raise pytest.UsageError(
            "--benchmark with -n: candidates that run in parallel disturb each other's latency and memory, and pytest-benchmark "
            "switches itself off. Remove -n, or add -n 0 where the ini file's addopts has it; batching already uses the whole "
            "device.")
    if getattr(given, "benchmark_skip", False) and not getattr(given, "benchmark_only", False):
        raise pytest.UsageError(
            "--benchmark with --benchmark-skip: one runs the suites, the other skips every benchmark. Remove --benchmark-skip, "
            "from the ini file's addopts too; to skip the project's own benchmarks, name the suites' folder: pytest suites/ "
            "--benchmark")
    if getattr(given, "setupplan", False) or getattr(given, "setuponly", False):
        raise pytest.UsageError(
            "--benchmark with --setup-plan or --setup-only: these run nothing, and nothing would be in the result. Remove them; "
            "to see what would run, give --collect-only")
    if wrong := run_device_problem(given.sweetspot_device, given.sweetspot_workers):
        raise pytest.UsageError(f"--device: {wrong}")
    if wrong := workers_problem(given.sweetspot_workers, given.sweetspot_device):
        raise pytest.UsageError(wrong)
    if wrong := timeout_problem(given.sweetspot_worker_timeout, given.sweetspot_workers):
        raise pytest.UsageError(f"--worker-timeout: {wrong}")
    if wrong := download_problem(given.sweetspot_allow_download):
        raise pytest.UsageError(wrong)
    if wrong := cache_problem(given.sweetspot_cache):
        raise pytest.UsageError(wrong.replace("shared cache", "--shared-cache", 1))
    file = markdown_file(config)
    if file is not None and (file.is_dir() or not file.parent.is_dir()):
        wrong = "is a folder" if file.is_dir() else f"cannot be written: there is no folder {file.parent}"
        raise pytest.UsageError(f"--markdown {given.sweetspot_markdown}: {wrong}; expected a file, such as comment.md")
