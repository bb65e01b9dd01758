"""The page of all names is what the code's docstrings and tables give, and has everything that can be written."""

import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from inspect import signature
from pathlib import Path
from typing import Any, TypeAlias

import cmarkgfm
import pytest

import harness
from harness.adapters.formats import FORMATS
from harness.adapters.kinds import KINDS
from harness.cli import COMMANDS
from harness.declare.syntax import SYNTAXES
from harness.merge import MERGE_METHODS
from harness.metrics import METRICS
from harness.quantize import QUANTIZATION_MODES
from harness.records.values import RUN_VALUES
from harness.runtimes import RUNTIMES
from harness.samplers import SAMPLERS, SCHEDULES
from harness.savers import SAVERS
from tests.api_page.docstrings import markdown, slug
from tests.api_page.page import CONSTANTS, DECLARED, FUNCTIONS, OWN, PUBLIC, page
from tests.api_page.records import call, default, reached, record_section, type_text

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^### ([^\n]+)\n(.*?)(?=^##|\Z)", PAGE, re.DOTALL | re.MULTILINE))
RECORDS = {**DECLARED, **OWN}
TABLES: Mapping[str, Mapping[str, Any]] = {
    "METRICS": METRICS, "RUN_VALUES": RUN_VALUES, "MERGE_METHODS": MERGE_METHODS, "QUANTIZATION_MODES": QUANTIZATION_MODES,
    "RUNTIMES": RUNTIMES, "SAVERS": SAVERS, "SYNTAXES": SYNTAXES, "SAMPLERS": SAMPLERS, "SCHEDULES": SCHEDULES,
    "FORMATS": FORMATS, "KINDS": KINDS,
    "COMMANDS": {f"sweetspot {name}": row for name, row in COMMANDS.items()}}
NOT_NAMES = {"GATE_KINDS", "JUDGES", "FIGURES"}
"""Tables whose rows nobody names in a suite or on the command line."""


def test_the_page_is_what_the_code_gives() -> None:
    assert page() == PAGE, "docs/api.md is older than the code; write it again with: make docs (or python -m tests.api_page)"


def test_every_public_name_has_its_place() -> None:
    assert set(PUBLIC) == {*harness.__all__, *harness._LAZY}
    assert set(PUBLIC) <= {*SECTIONS} | {name for name in CONSTANTS if f"| `{name}` |" in PAGE}


@pytest.mark.parametrize("name", TABLES)
def test_every_row_of_a_table_is_on_the_page(name: str) -> None:
    missing = [row for row in TABLES[name] if f"\n| `{row}` |" not in PAGE and row not in SECTIONS]
    assert missing == []


def test_no_table_that_can_be_added_to_is_forgotten() -> None:
    to_add = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("| to add |")[1].split("\n\n")[0]
    assert set(re.findall(r"`([A-Z][A-Z_]+)`", to_add)) == {*TABLES, *NOT_NAMES}


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_is_shown_with_its_fields_and_their_defaults(name: str) -> None:
    rows = [re.split(r"(?<!\\) \| ", line.strip("| ")) for line in SECTIONS[name].splitlines() if line.startswith("| `")]
    assert [row[0].strip("`") for row in rows] == [field.name for field in fields(RECORDS[name])]
    for (_, _, shown, _), field in zip(rows, fields(RECORDS[name]), strict=True):
        value = default(field)
        assert (shown == "required") == (value is MISSING), field.name
        if value is not MISSING and not callable(value):
            assert eval(shown.strip("`"), dict(PUBLIC)) == value, field.name


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_is_shown_with_its_parameters_and_their_defaults(name: str) -> None:
    names: dict[str, Any] = {}
    exec(f"from __future__ import annotations\ndef {call(name, FUNCTIONS[name])}: ...", names)
    assert [(p.name, p.default, p.kind) for p in signature(names[name]).parameters.values()] == [
        (p.name, p.default, p.kind) for p in signature(FUNCTIONS[name]).parameters.values()]
    assert call(name, FUNCTIONS[name]) in SECTIONS[name]


Size: TypeAlias = float | str
Shape: TypeAlias = Size | float


@dataclass(frozen=True)
class Inner:
    """Within another."""

    size: int = 1


@dataclass(frozen=True)
class Outer:
    """Holds another."""

    inner: "Inner | None" = None
    """What it holds."""


def test_a_record_is_found_by_the_field_that_holds_it() -> None:
    assert list(reached([Outer])) == ["Outer", "Inner"]


def test_a_field_without_a_docstring_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"Inner\.size"):
        record_section("Inner", Inner, [])


def test_a_name_for_a_union_is_shown_as_its_members() -> None:
    assert type_text("Shape | None", __name__) == "float | str | None"


def test_every_link_within_the_page_leads_to_a_heading() -> None:
    headings = {slug(title) for title in re.findall(r"^#+ (.*)", PAGE, re.MULTILINE)}
    assert set(re.findall(r"\]\(#([^)]*)\)", PAGE)) <= headings


def test_every_link_to_another_page_leads_to_one_of_its_headings() -> None:
    for name, anchor in set(re.findall(r"\]\(([\w-]+\.md)#?([\w-]*)\)", PAGE)):
        text = (ROOT / "docs" / name).read_text(encoding="utf-8")
        assert not anchor or anchor in {slug(title) for title in re.findall(r"^#+ (.*)", text, re.MULTILINE)}, (name, anchor)


def test_nothing_on_the_page_becomes_emphasis_or_html_by_accident() -> None:
    html = cmarkgfm.github_flavored_markdown_to_html(PAGE)
    assert set(re.findall(r"</(\w+)>", html)) == {
        "a", "code", "h1", "h2", "h3", "li", "p", "pre", "table", "tbody", "td", "th", "thead", "tr", "ul"}


@pytest.mark.parametrize("text", ["A**2 * B**alpha", "unet.*attn2*", "<lora:name>", "__main__ and _x", "`a | *b*` <c>"])
def test_a_docstring_is_shown_character_by_character(text: str) -> None:
    html = cmarkgfm.github_flavored_markdown_to_html(markdown(text))
    shown = re.sub(r"</?(?:p|code)>", "", html).replace("&lt;", "<").replace("&gt;", ">").strip()
    assert shown == text.replace("`", "")


def test_every_public_record_is_a_record_of_the_page() -> None:
    assert {name for name, thing in PUBLIC.items() if is_dataclass(thing)} <= set(RECORDS)
