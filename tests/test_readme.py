"""What the README shows works: its suite is sound, its commands exist, its links lead somewhere."""

import re
from pathlib import Path

from harness import Suite
from harness.check import problems

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_suite_shown_is_sound_but_for_the_readers_own_files() -> None:
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert code is not None
    names: dict[str, object] = {}
    exec(code.group(1), names)
    assert isinstance(names["SUITE"], Suite)
    assert all("does not exist below" in said for said in problems(names["SUITE"], ROOT))


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
        assert (ROOT / link).exists(), link


def test_the_declared_license_is_there() -> None:
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")
