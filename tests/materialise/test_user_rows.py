"""Merge methods, quantization modes and runtimes of one's own make candidates and files, are known by their code, and are never
imported because a file says so."""

import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from harness import Candidate, Checkpoint, Merge
from harness.check import load_rows
from harness.cli import main
from harness.declare.rows import RowError
from harness.materialise import Workbench
from harness.merge import MERGE_METHODS, MergeError
from harness.quantize import QUANTIZATION_MODES
from harness.runtimes import RUNTIMES
from harness.weights import open_tensors
from tests.materialise.models import header, two
from tests.own_code import clean_imports, package, write

pytestmark = pytest.mark.usefixtures(clean_imports.__name__)

METHOD = """
from harness.merge import MergeMethod
def half(a, b, alpha):
    return a + alpha / 2 * (b - a)
HALF = MergeMethod(function=half, models=2, paper="none", elementwise=True, at_zero="a")
RAISING = MergeMethod(function=lambda a, b, alpha: {}["x"], models=2, paper="none")
"""
RECIPE = 'a = "a.safetensors"\nb = "b.safetensors"\nmethod = "mine:HALF"\nalpha = 0.5\n'
HOSTILE = "from pathlib import Path\nPath(__file__).with_name('ran').touch()\n"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with two models, and a recipe in a folder of its own beside the module that it names."""
    monkeypatch.chdir(tmp_path)
    two(tmp_path)
    write(tmp_path, "recipes/mine.py", METHOD)
    write(tmp_path, "recipes/half.toml", RECIPE)
    return tmp_path


def made(root: Path) -> Path:
    assert main(["merge", "recipes/half.toml", "-o", "out.safetensors"]) == 0
    return root / "out.safetensors"


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a new process: nobody has named a module yet."""
    for table in (MERGE_METHODS, QUANTIZATION_MODES, RUNTIMES):
        monkeypatch.setattr(table, "_own", {})
    for name in ("mine", "rows_of_mine"):
        sys.modules.pop(name, None)
    sys.path[:] = [place for place in sys.path if "pytest-" not in place]


def named(out: Path, method: str) -> Path:
    """The file with another merge method in its header."""
    found = {key: text.replace("mine:HALF", method) for key, text in header(out)["__metadata__"].items()}  # type: ignore[attr-defined]
    save_file(load_file(out), out, found)
    return out


# Merged files

def test_a_method_beside_the_recipe_makes_a_file(root: Path) -> None:
    tensors, a, b = (load_file(root / name) for name in (made(root).name, "a.safetensors", "b.safetensors"))
    name = next(name for name in a if name.endswith("input_blocks.0.0.weight"))
    assert torch.equal(tensors[name], torch.lerp(a[name].float(), b[name].float(), 0.25).half())


def test_the_header_holds_the_source_of_the_method(root: Path) -> None:
    found = open_tensors(made(root)).metadata
    assert json.loads(found["sweetspot.methods"]) == {"mine:HALF": 1}
    assert list(json.loads(found["sweetspot.sources"])) == ["mine:HALF"]


def test_a_file_of_built_in_methods_has_no_sources(root: Path) -> None:
    assert main(["merge", "--a", "a.safetensors", "--b", "b.safetensors", "--alpha", "0.5", "-o", "out.safetensors"]) == 0
    assert "sweetspot.sources" not in open_tensors(root / "out.safetensors").metadata


def test_a_method_on_the_command_line_is_found_in_the_working_directory(root: Path) -> None:
    write(root, "mine.py", METHOD)
    assert main(["merge", "--a", "a.safetensors", "--b", "b.safetensors", "--alpha", "0.5", "--method", "mine:HALF",
                 "-o", "out.safetensors"]) == 0


def test_a_method_that_fails_writes_no_file_and_is_named(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(root, "recipes/half.toml", RECIPE.replace("HALF", "RAISING"))
    assert main(["merge", "recipes/half.toml", "-o", "out.safetensors"]) == 1
    said = capsys.readouterr().err
    assert all(fact in said for fact in ("unet.", "mine:RAISING", "KeyError", "mine.py, line 6"))
    assert not (root / "out.safetensors").exists()


def test_the_methods_of_installed_packages_are_listed(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(root, "packed/packed_methods.py", METHOD)
    package(root / "packed", "packed-methods", {"half": "packed_methods:HALF", "ties": "packed_methods:HALF"},
            "sweetspot.merge_methods")
    assert main(["merge", "--methods"]) == 1
    said = capsys.readouterr()
    assert "\nhalf (packed_methods:HALF): 2 models; alpha 0 to 1" in said.out
    assert all(fact in said.err for fact in ("'ties'", "packed-methods", "built-in"))


def test_a_method_named_beside_the_question_is_listed(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(root, "mine.py", METHOD)
    assert main(["merge", "--methods", "--method", "mine:HALF"]) == 0
    assert "\nmine:HALF: 2 models; alpha 0 to 1" in capsys.readouterr().out


# Files that name code

def test_a_header_cannot_have_code_imported(root: Path, monkeypatch: pytest.MonkeyPatch,
                                            capsys: pytest.CaptureFixture[str]) -> None:
    write(root, "hostile.py", HOSTILE)
    out = named(made(root), "hostile:ROW")
    forget(monkeypatch)
    monkeypatch.syspath_prepend(root)
    for command in ("replay", "inspect", "verify"):
        main([command, str(out)])
    assert not (root / "ran").exists()
    assert "--allow-code hostile:ROW" in capsys.readouterr().err


def test_a_merge_of_a_file_whose_header_names_code_imports_none(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(root, "hostile.py", HOSTILE)
    out = named(made(root), "hostile:ROW")
    forget(monkeypatch)
    monkeypatch.syspath_prepend(root)
    assert main(["merge", "--a", out.name, "--b", "b.safetensors", "--alpha", "0.5", "-o", "again.safetensors"]) == 0
    assert not (root / "ran").exists()


def test_code_that_the_user_allows_makes_the_file_again(root: Path, monkeypatch: pytest.MonkeyPatch,
                                                        capsys: pytest.CaptureFixture[str]) -> None:
    out = made(root)
    (root / "recipes/mine.py").rename(root / "mine.py")
    forget(monkeypatch)
    assert main(["replay", str(out)]) == 1
    assert "--allow-code mine:HALF" in capsys.readouterr().err
    assert main(["replay", str(out), "--allow-code", "mine:HALF"]) == 0
    assert "identical" in capsys.readouterr().out


def test_code_that_has_changed_is_told_by_replay(root: Path, monkeypatch: pytest.MonkeyPatch,
                                                 capsys: pytest.CaptureFixture[str]) -> None:
    out = made(root)
    write(root, "mine.py", METHOD.replace("alpha / 2", "alpha / 3"))
    (root / "recipes/mine.py").unlink()
    forget(monkeypatch)
    assert main(["replay", str(out), "--allow-code", "mine:HALF"]) == 1
    said = capsys.readouterr().out
    assert "the code of mine:HALF has changed" in said
    assert "NOT identical" in said


@pytest.mark.parametrize("name", ["half", "nowhere:HALF", "mine:HALFF"])
def test_code_that_cannot_be_allowed_is_an_error_by_name(root: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    write(root, "mine.py", METHOD)
    assert main(["replay", "a.safetensors", "--allow-code", name]) == 1
    assert repr(name) in capsys.readouterr().err


# Candidates

ROWS = """
import torch
from harness.quantize import QuantizationMode, QuantizeReport
from harness.runtimes import Runtime
def rounded(module):
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(parameter.round(decimals=1))
    return QuantizeReport(quantized=tuple(name for name, _ in module.named_parameters()), kept=())
def spoiling(module):
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    return module
def failing(module):
    spoiling(module)
    raise LookupError("no such kernel")
ROUNDED = QuantizationMode(apply=rounded, weight_bits=8)
SPOILING = Runtime(description="it writes into its module", apply=spoiling)
FAILING = Runtime(description="it fails half-way", apply=failing)
""" + METHOD


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    write(tmp_path, "rows_of_mine.py", ROWS)
    return Workbench(device="cpu", root=tmp_path)


def of(bench: Workbench, **changes: object) -> Candidate:
    values: dict[str, object] = {"name": "x", "model": Checkpoint(path="zoo:photo", config="zoo:config")}
    candidate = Candidate(**{**values, **changes})  # type: ignore[arg-type]
    load_rows(candidate, [bench.library.root])
    return candidate


def denoiser(bench: Workbench, candidate: Candidate) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in bench.prepare(candidate).pipeline.parts["unet"].state_dict().items()}


def test_a_mode_of_ones_own_quantizes_and_accounts_for_every_parameter(bench: Workbench) -> None:
    prepared = bench.prepare(of(bench, quantization="rows_of_mine:ROUNDED"))
    row = next(row for row in prepared.coverage if row.stage == "quantize rows_of_mine:ROUNDED")
    assert len(row.keys["quantized"]) == len([*prepared.pipeline.parts["unet"].named_parameters()])


@pytest.mark.parametrize("changes", [{"runtime": "rows_of_mine:SPOILING"}, {"quantization": "rows_of_mine:ROUNDED"}])
def test_rows_of_ones_own_leave_no_trace_in_the_next_candidate(bench: Workbench, changes: dict[str, str]) -> None:
    before = denoiser(bench, of(bench))
    changed = denoiser(bench, of(bench, **changes))
    after = denoiser(bench, of(bench))
    assert any(not torch.equal(before[name], changed[name]) for name in before)
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(("changes", "fact"), [
    ({"runtime": "rows_of_mine:FAILING"}, "no such kernel"),
    ({"model": Merge(a="zoo:photo", b="zoo:anime", alpha=0.5, method="rows_of_mine:RAISING")}, "KeyError")])
def test_rows_that_fail_cost_their_candidate_alone(bench: Workbench, changes: dict[str, object], fact: str) -> None:
    before = denoiser(bench, of(bench))
    with pytest.raises((ValueError, MergeError), match=fact):
        bench.prepare(of(bench, **changes))
    after = denoiser(bench, of(bench))
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("changes", [
    {"quantization": "{}:ROUNDED"}, {"runtime": "{}:SPOILING"}, {"model": "{}:HALF"}])
def test_the_code_of_a_row_is_part_of_what_the_candidate_is(bench: Workbench, changes: dict[str, str],
                                                           monkeypatch: pytest.MonkeyPatch) -> None:
    identities = []
    for text in (ROWS, ROWS + "# changed\n", ROWS):
        write(bench.library.root, "rows_of_mine.py", text)
        ((field, name),) = changes.items()
        value: object = name.format("rows_of_mine")
        if field == "model":
            value = Merge(a="zoo:photo", b="zoo:anime", alpha=0.5, method=str(value))
        forget(monkeypatch)
        identities.append(bench.weights(of(bench, **{field: value})).identity)
    assert identities[0] == identities[2] != identities[1]


def test_a_candidate_whose_code_nobody_allowed_is_refused(bench: Workbench) -> None:
    candidate = Candidate(name="x", model="zoo:photo", quantization="rows_nobody_named:ROUNDED")
    with pytest.raises(RowError, match="rows_nobody_named:ROUNDED"):
        bench.inspect(candidate)
