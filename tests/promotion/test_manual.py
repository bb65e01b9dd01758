"""The manual and the Makefile for model repositories show commands that exist, and the Makefile's rules do what they say."""

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from harness.cli import COMMANDS

ROOT = Path(__file__).parents[2]
MANUAL = (ROOT / "docs/promotion.md").read_text(encoding="utf-8")
MAKEFILE = ROOT / "docs/templates/models/Makefile"
SHOWN = re.findall(r"^sweetspot .*", MANUAL, re.MULTILINE)
needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def parsed(line: str) -> argparse.Namespace:
    _, name, *words = shlex.split(line, comments=True)
    parser = argparse.ArgumentParser()
    import_module(COMMANDS[name][0]).add_arguments(parser)
    return parser.parse_args(words)


def alone():
    """The environment without what a make that runs these tests says to the makes below it."""
    return {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}


def made(*words: str) -> list[str]:
    done = subprocess.run(["make", "-n", "-f", str(MAKEFILE), *words], capture_output=True, text=True, check=True, env=alone())
    return done.stdout.splitlines()


def test_the_manual_shows_all_of_its_commands():
    assert {line.split()[1] for line in SHOWN} == {"promote", "verify", "history", "rollback", "images"}


@pytest.mark.parametrize("line", SHOWN)
def test_a_command_shown_is_one(line):
    parsed(line)


@needs_make
@pytest.mark.parametrize(("target", "expected"), [
    (("photo-anime",), {"candidate": "alpha=0.35", "run": Path("runs/alpha_cfg"), "name": "photo-anime",
                        "models": Path("models")}),
    (("rollback-photo-anime",), {"name": "photo-anime", "to": 0}),
    (("rollback-photo-anime", "TO=3"), {"name": "photo-anime", "to": 3}),
    (("history-photo-anime", "MODELS=elsewhere"), {"name": "photo-anime", "models": Path("elsewhere")})])
def test_a_rule_of_the_makefile_is_a_command(target, expected):
    (line,) = made(*target)
    given = vars(parsed(line))
    assert {key: given[key] for key in expected} == expected


@needs_make
def test_make_verify_fails_where_a_model_does_not_verify(tmp_path):
    done = subprocess.run(["make", "-f", str(MAKEFILE), f"SWEETSPOT={sys.executable} -m harness.cli"], cwd=tmp_path,
                          capture_output=True, text=True, check=False, env=alone() | {"PYTHONPATH": str(ROOT)})
    assert done.returncode != 0
    assert "photo-anime: no such file" in done.stderr


def test_every_exit_code_and_link_of_the_manual_is_real():
    assert re.findall(r"^\| (\d) \|", MANUAL, re.MULTILINE) == ["0", "1", "2"]
    assert all((ROOT / "docs" / link).exists() for link in re.findall(r"\]\(([^)#]+)\)", MANUAL))
