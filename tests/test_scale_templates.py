"""The templates for clusters are valid, and the commands in them are those of this version."""

from __future__ import annotations

import argparse
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.cli import COMMANDS
from harness.commands import work
from harness.commands.parser import Parser

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "docs" / "templates" / "scale"
SCRIPTS = sorted(FOLDER.glob("*.sh"))
MANIFESTS = sorted(FOLDER.glob("*.yaml"))
VALUES = {"$suite": "suites/alpha_cfg.py", "$cache": "folder:/shared/cache", "$folder": "/shared", "$parts": "8",
          "$SLURM_ARRAY_TASK_ID": "3"}


def documents(file: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(file.read_text(encoding="utf-8")))


def commands() -> Iterator[tuple[str, list[str]]]:
    """Every command of `sweetspot` and `pytest` in the templates, with the name of its file."""
    for file in SCRIPTS:
        text = file.read_text(encoding="utf-8").replace("\\\n", " ").replace("#     ", "")
        for name, value in sorted(VALUES.items(), reverse=True):
            text = text.replace(name, value)
        for line in re.findall(r"^.*?\b((?:sweetspot work|pytest) .*)$", text, re.MULTILINE):
            command = line.partition("||")[0].rstrip()
            yield file.name, shlex.split(command.removesuffix('"') if command.count('"') % 2 else command)
    for file in MANIFESTS:
        for one in documents(file):
            if "entrypoint" in one["spec"]:
                yield file.name, shlex.split(one["spec"]["entrypoint"])
            else:
                yield file.name, one["spec"]["template"]["spec"]["containers"][0]["command"]


COMMANDS_IN_TEMPLATES = list(commands())


@pytest.mark.parametrize("file", SCRIPTS, ids=lambda file: file.name)
def test_the_scripts_are_valid_and_stop_at_the_first_error(file: Path) -> None:
    assert subprocess.run(["bash", "-n", file], capture_output=True, text=True, check=True).stderr == ""
    assert "\nset -euo pipefail\n" in file.read_text(encoding="utf-8")


def test_every_template_has_a_command_and_is_in_the_manual() -> None:
    manual = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    files = {file.name for file in (*SCRIPTS, *MANIFESTS)}
    assert {name for name, _ in COMMANDS_IN_TEMPLATES} == files
    assert set(re.findall(r"\(templates/scale/([^)]+)\)", manual)) == files
    assert "work" in COMMANDS


@pytest.mark.parametrize(("name", "words"), COMMANDS_IN_TEMPLATES,
                         ids=lambda value: value if isinstance(value, str) else value[0])
def test_the_commands_are_those_of_this_version(name: str, words: list[str], pytestconfig: pytest.Config) -> None:
    if words[0] == "sweetspot":
        parser = Parser()
        work.add_arguments(parser)
        given: argparse.Namespace = parser.parse_args(words[2:])
        assert (given.shared_cache.startswith("folder:/"), given.device) == (True, "cuda")
        assert (given.part is not None) == ("array" in name)
    else:
        known, unknown = pytestconfig._parser.parse_known_and_unknown_args(words[1:])
        assert (unknown, known.sweetspot_benchmark, known.sweetspot_device) == ([], True, "cuda")


def test_the_indexed_job_gives_up_only_where_another_attempt_is_no_use() -> None:
    workers, run = documents(FOLDER / "kubernetes.yaml")
    spec = workers["spec"]
    assert (spec["completionMode"], spec["completions"], run["spec"]["suspend"]) == ("Indexed", spec["parallelism"], True)
    # A policy for failed pods asks for pods that are not restarted in place.
    assert spec["template"]["spec"]["restartPolicy"] == "Never"
    (codes,) = [rule["onExitCodes"]["values"] for rule in spec["podFailurePolicy"]["rules"] if rule["action"] == "FailIndex"]
    assert codes == [work.WRONG]
    head = (FOLDER / "kubernetes.yaml").read_text(encoding="utf-8").partition("apiVersion")[0]
    assert "'Complete|Failed'" in head, "a job with a failed index ends, and is never complete"
    container = spec["template"]["spec"]["containers"][0]
    assert {entry["name"]: entry.get("value") for entry in container["env"]}["JOB_COMPLETIONS"] == str(spec["completions"])
    mounts = [one["spec"]["template"]["spec"]["containers"][0]["volumeMounts"] for one in (workers, run)]
    assert mounts[0] == mounts[1]


def test_the_ray_job_is_a_new_cluster_after_a_failure_and_goes_on_from_its_volume() -> None:
    (job,) = documents(FOLDER / "kuberay.yaml")
    spec = job["spec"]
    assert (spec["submissionMode"], spec["shutdownAfterJobFinishes"]) == ("HTTPMode", True)
    assert spec["backoffLimit"] > 0
    head, (workers,) = spec["rayClusterSpec"]["headGroupSpec"], spec["rayClusterSpec"]["workerGroupSpecs"]
    for group in (head, workers):
        (container,) = group["template"]["spec"]["containers"]
        assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
        assert "--runs-dir " + container["volumeMounts"][0]["mountPath"] in spec["entrypoint"]


def test_an_array_shares_as_many_parts_as_it_has_tasks() -> None:
    text = (FOLDER / "slurm-array.sh").read_text(encoding="utf-8")
    assert re.findall(r"--array=1-(\d+)", text) == re.findall(r"^parts=(\d+)$", text, re.MULTILINE)
