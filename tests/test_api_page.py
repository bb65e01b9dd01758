"""The page of all names has every name that a suite can import, with the fields, defaults and choices of the code."""

import re
from dataclasses import MISSING, Field, fields, is_dataclass
from inspect import Parameter, isfunction, signature
from pathlib import Path
from typing import Any

import pytest

import harness
from harness.adapters.formats import FORMATS
from harness.adapters.kinds import KINDS
from harness.declare.grid import LONG_PROMPTS, LOW_MEMORY
from harness.declare.objective import SIDES
from harness.merge import MERGE_METHODS, MergeMethod
from harness.merge.blocks import CONVENTIONS
from harness.merge.presets import PRESETS
from harness.metrics import METRICS, ImageScore, ImageSet, Metric, ValueSpec
from harness.quantize import QUANTIZATION_MODES, QuantizationMode, QuantizeReport
from harness.records.values import RUN_VALUES, values_from
from harness.runtimes import RUNTIMES, Runtime
from harness.samplers import SAMPLERS, SCHEDULES
from harness.text.weighting import WEIGHTINGS

PAGE = (Path(__file__).parent.parent / "docs" / "api.md").read_text(encoding="utf-8")
NAMES = {name: getattr(harness, name) for name in [*harness.__all__, *harness._LAZY]}
OWN = {c.__name__: c for c in (Metric, ValueSpec, ImageSet, ImageScore, MergeMethod, QuantizationMode, QuantizeReport, Runtime)}
RECORDS = {name: it for name, it in {**NAMES, **OWN}.items() if is_dataclass(it)}
FUNCTIONS = {name: it for name, it in NAMES.items() if isfunction(it)}
NAMES_TO_CHOOSE = PAGE.split("## Names to choose from")[1].split("\n## ")[0]
SECTIONS = dict(re.findall(r"^### (\w+)\n(.*?)(?=^##|\Z)", PAGE, re.DOTALL | re.MULTILINE))


def rows(text: str) -> list[list[str]]:
    """The cells of every row of a table whose first cell is code, without the backticks of that one."""
    cells = [re.split(r" \| ", line.strip().removeprefix("| ").removesuffix(" |")) for line in text.splitlines()
             if line.startswith("| `")]
    return [[row[0].strip("`"), *row[1:]] for row in cells]


def default(field: Field[Any]) -> Any:
    return field.default_factory() if field.default_factory is not MISSING else field.default


def test_every_name_is_on_the_page_once() -> None:
    constants = rows(PAGE.split("## Constants")[1].split("##")[0])
    calls = rows(PAGE.split("## Functions")[1].split("##")[0])
    named = [*SECTIONS, *(name for name, _ in constants), *(call.split("(")[0] for call, _ in calls)]
    assert sorted(named) == sorted({*NAMES, *OWN})


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_has_its_fields_with_their_defaults_and_a_meaning(name: str) -> None:
    table = rows(SECTIONS[name])
    assert [row[0] for row in table] == [field.name for field in fields(RECORDS[name])]
    for (_, shown, meaning), field in zip(table, fields(RECORDS[name]), strict=True):
        value = default(field)
        assert meaning
        assert (shown == "required") == (value is MISSING), field.name
        if value is not MISSING and not callable(value):
            assert eval(shown.strip("`"), dict(NAMES)) == value, field.name


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_has_its_parameters_with_their_defaults(name: str) -> None:
    call = next(call for call, *_ in rows(PAGE) if call.startswith(f"{name}("))
    names: dict[str, Any] = {}
    exec(f"def {call}: ...", names)
    assert [(p.name, p.default, p.kind) for p in signature(names[name]).parameters.values()] == [
        (p.name, p.default, p.kind) for p in signature(FUNCTIONS[name]).parameters.values()]
    assert Parameter.VAR_KEYWORD not in {p.kind for p in signature(FUNCTIONS[name]).parameters.values()}


@pytest.mark.parametrize(("where", "known"), [
    ("`Candidate.quantization`", QUANTIZATION_MODES), ("`Candidate.runtime`", RUNTIMES), ("`Grid.sampler`", SAMPLERS),
    ("`Grid.low_memory`", LOW_MEMORY), ("`Grid.long_prompts`", LONG_PROMPTS), ("`Sampling.schedule`", SCHEDULES),
    ("`Emphasis.method`", WEIGHTINGS), ("`Objective.prefer`", SIDES), ("`Merge.method`", MERGE_METHODS),
    ("`Blocks.convention`", CONVENTIONS), ("`Blocks.preset`", PRESETS), ("layouts of adapter files", FORMATS),
    ("kinds of adapters", KINDS), ("`prompt_set`", dict.fromkeys(prompt.tags["kind"] for prompt in harness.prompt_set()))])
def test_the_names_of_a_table_are_all_listed(where: str, known: Any) -> None:
    listed = re.findall(rf"^\| {re.escape(where)} \| (.*) \|$", NAMES_TO_CHOOSE, re.MULTILINE)
    assert re.findall(r"`([^`]+)`", re.split(r"[;:]|, for ", listed[0])[0]) == list(known)


def test_each_metric_is_listed_with_the_values_it_gives() -> None:
    listed = {row[0]: re.findall(r"`(\w+)`", row[1]) for row in rows(PAGE.split("| metric |")[1].split("\n\n")[0])}
    derived = values_from("derived")
    assert listed == {name: [*(v.name for v in metric.values), *(v for v, of in derived.items() if of.metric == name)]
                      for name, metric in METRICS.items()}


def test_the_values_that_need_no_metric_are_listed_with_their_units() -> None:
    listed = {row[0]: row[1] for row in rows(PAGE.split("| value | unit |")[1].split("\n\n")[0])}
    assert listed == {v.name: v.unit for v in RUN_VALUES.values() if not v.metric or v.origin == "people"}
