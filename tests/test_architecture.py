"""The house stands as drawn: imports point one way, and the words of a suite come without anything heavy."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
STAGES = ("weights", "merge", "adapters", "text", "quantize", "metrics", "probes", "zoo")
BASE = {"harness.declare", "harness.records"}
ALLOWED_BESIDES = {"zoo": {"harness.weights"}, "metrics": {"harness.zoo"}, "text": {"harness.weights.pipeline"}}
"""The zoo exports through the one writer of model files; the CLIP metric's default model is the zoo's; prompts are embedded
by the text encoders of live pipelines."""
HEAVY = ("torch", "diffusers", "transformers", "open_clip", "torchmetrics", "sklearn", "pandas", "plotly")


def imports(file: Path) -> set[str]:
    """Modules of this project that a file names in its import statements, wherever they stand."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if name.split(".")[0] in ("harness", "reports")}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_imports_itself_and_the_two_contracts_alone(stage: str) -> None:
    allowed = (f"harness.{stage}", *BASE, *ALLOWED_BESIDES.get(stage, ()))
    for file in (ROOT / "harness" / stage).rglob("*.py"):
        strangers = {name for name in imports(file)
                     if name != "harness" and not any(name == a or name.startswith(f"{a}.") for a in allowed)}
        # `from harness import zoo` names both the package and the module.
        assert not strangers, f"{file.relative_to(ROOT)} imports {strangers}"


@pytest.mark.parametrize("contract", ["declare", "records"])
def test_the_contracts_import_nothing_else_of_the_project(contract: str) -> None:
    for file in [*(ROOT / "harness").glob(f"{contract}.py"), *(ROOT / "harness").glob(f"{contract}/*.py")]:
        assert not {name for name in imports(file) if not name.startswith(f"harness.{contract}")}, file


def test_reports_import_the_contracts_and_nothing_else_of_the_harness() -> None:
    for file in (ROOT / "reports").rglob("*.py"):
        strangers = {name for name in imports(file) if name.startswith("harness")
                     and not any(name == b or name.startswith(f"{b}.") for b in BASE)} - {"harness"}
        assert not strangers, f"{file.relative_to(ROOT)} imports {strangers}"


DOORS = {"plugin/hooks.py", "plugin/session.py", "race/race.py", "promotion/gather.py",
         "promotion/record_parts.py", "plugin/ci.py", "plugin/live.py", "cli.py",
         "commands/compare.py", "commands/report.py", "commands/trend.py", "commands/blind.py", "commands/calibrate.py"}


def test_only_the_two_doors_import_reports() -> None:
    for file in (ROOT / "harness").rglob("*.py"):
        if file.relative_to(ROOT / "harness").as_posix() not in DOORS:
            assert not any(name.startswith("reports") for name in imports(file)), file


LIGHT = ("harness", "reports", "harness.check", "harness.plugin.hooks", "harness.merge", "harness.metrics", "harness.quantize",
         "harness.zoo", "harness.adapters", "harness.weights")
LIGHT_BUT_FOR_TABLES = ("harness.run.suite_run",)
IMPORT_IN_TURN = """
import importlib, json, sys
light, but_for_tables, heavy = json.loads(sys.argv[1])
loaded = {}
for module in (*light, *but_for_tables):
    importlib.import_module(module)
    forbidden = heavy if module in light else [name for name in heavy if name not in ("pandas", "plotly")]
    loaded[module] = [name for name in forbidden if name in sys.modules]
print(json.dumps(loaded))
"""


def test_importing_loads_nothing_heavy() -> None:
    """One interpreter imports all of them: the first that loads something names it."""
    asked = json.dumps([LIGHT, LIGHT_BUT_FOR_TABLES, HEAVY])
    done = subprocess.run([sys.executable, "-c", IMPORT_IN_TURN, asked], capture_output=True, text=True, check=True, cwd=ROOT)
    assert json.loads(done.stdout) == {module: [] for module in (*LIGHT, *LIGHT_BUT_FOR_TABLES)}


def test_no_file_unpickles_without_protection() -> None:
    for file in [*(ROOT / "harness").rglob("*.py"), *(ROOT / "reports").rglob("*.py")]:
        text = file.read_text(encoding="utf-8")
        assert "weights_only=False" not in text, file
        assert "pickle.load" not in text, file
