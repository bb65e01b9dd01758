"""What README and manual show works: suites and recipes are sound, commands exist, links lead somewhere."""

import argparse
import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest

from harness import Merge, Suite, read_recipe
from harness.check import model_problems, problems
from harness.cli import COMMANDS
from harness.merge import MERGE_METHODS
from harness.merge.blocks import CONVENTIONS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
MERGING = (ROOT / "docs" / "merging.md").read_text(encoding="utf-8")
TRYING = (ROOT / "docs" / "trying.md").read_text(encoding="utf-8")
ADAPTERS = (ROOT / "docs" / "adapters.md").read_text(encoding="utf-8")
SHOWN = [line for text in (README, MERGING, ADAPTERS, TRYING) for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
         for line in block.splitlines() if line.startswith("sweetspot ")]


def test_the_suite_shown_is_sound_but_for_the_readers_own_files() -> None:
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert code is not None
    names: dict[str, object] = {}
    exec(code.group(1), names)
    assert isinstance(names["SUITE"], Suite)
    assert all("does not exist below" in said or "Fetch them once: sweetspot fetch clip" in said
               for said in problems(names["SUITE"], ROOT))


def test_the_suite_shown_takes_twelve_lines() -> None:
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert code is not None
    assert len([line for line in code.group(1).splitlines() if line.strip()]) <= 13


def test_the_make_targets_named_exist() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"make ([\w-]+)", README)) - {"benchmark", "test"} <= targets | {"is"}
    assert {"benchmark", "test", "check"} <= targets


def test_every_link_and_picture_leads_to_a_file() -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        assert link.startswith("https://") or (ROOT / link).exists(), link


def test_the_declared_license_is_there() -> None:
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")


def test_there_are_commands_to_check() -> None:
    assert {shlex.split(line)[1] for line in SHOWN} == {
        "try", "init", "merge", "replay", "inspect", "adapter", "calibrate", "blind", "compare", "promote", "trend", "plan",
        "images", "clean", "sensitivity", "work"}


@pytest.mark.parametrize("line", SHOWN)
def test_a_command_shown_is_one(line: str) -> None:
    _, name, *words = shlex.split(line, comments=True)
    parser = argparse.ArgumentParser()
    import_module(COMMANDS[name][0]).add_arguments(parser)
    parser.parse_args(words)


def test_the_recipe_shown_is_sound_but_for_the_readers_own_files(tmp_path: Path) -> None:
    code = re.search(r"```toml\n(.*?)```", MERGING, re.DOTALL)
    assert code is not None
    (tmp_path / "recipe.toml").write_text(code.group(1))
    recipe = read_recipe(tmp_path / "recipe.toml")
    assert isinstance(recipe, Merge)
    assert all("does not exist below" in said for said in model_problems(recipe, tmp_path))


def test_the_merges_shown_are_sound_but_for_the_readers_own_files(tmp_path: Path) -> None:
    code = re.search(r"```python\n(.*?)```", MERGING, re.DOTALL)
    assert code is not None
    first, *merges = re.split(r"\n(?=Merge\()", code.group(1))
    names: dict[str, object] = {}
    exec(first, names)
    assert len(merges) == 7
    for text in merges:
        assert all("does not exist below" in said for said in model_problems(eval(text.strip(), names), tmp_path)), text


def test_the_manual_lists_every_method_and_every_convention() -> None:
    assert set(re.findall(r"^\| `(\w+)` \| A, B", MERGING, re.MULTILINE)) == set(MERGE_METHODS)
    conventions = MERGING.split("| convention |")[1].split("\n\n")[0]
    assert set(re.findall(r"^\| `([\w-]+)` \|", conventions, re.MULTILINE)) == set(CONVENTIONS)


def test_the_adapters_shown_are_sound(tmp_path: Path) -> None:
    from tests.fakes import tiny_suite

    code = re.search(r"```python\n(.*?)```", ADAPTERS, re.DOTALL)
    assert code is not None
    first, candidate = code.group(1).split("\n\n", 1)
    names: dict[str, object] = {}
    exec(first, names)
    shown = eval(candidate, names)
    assert len(shown.adapters) == 2
    assert problems(tiny_suite(candidates=(shown,), baseline=shown.name), tmp_path) == []
