"""What `pip install sweetspot` brings: the wheel is built by way of the source distribution, looked into, and used from an
empty folder without a network."""

import ast
import email
import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from configparser import ConfigParser
from pathlib import Path

import pytest

import harness

ROOT = Path(__file__).parent.parent
PACKAGES = ("harness", "reports")
ENTRY = "sweetspot_pytest"
"""The module that pytest loads first, beside the packages."""
NOT_SHIPPED = "harness/zoo/training"
SUFFIXES = {".py", ".typed", ".json", ".safetensors", ".txt", ".gz", ".css", ".js", ".j2", ".toml"}
"""Kinds of files a package may hold: code, type markers, model configurations, weights, tokenizer tables, templates, prompts."""
LARGEST_BYTES = 13_000_000
NO_NETWORK = """
import socket

def refuse(*given, **named):
    raise AssertionError(f"reached for the network: {given} {named}")

socket.getaddrinfo = socket.create_connection = refuse
"""
COMMAND = "import sys; from harness.cli import command; sys.argv[0] = 'sweetspot'; command()"
"""What the script `sweetspot` does that pip writes."""
SUITE = """
from harness import Candidate, Grid, Objective, Prompt, Suite

SUITE = Suite(
    name="mine",
    candidates=(Candidate(name="photo", model="zoo:photo"),),
    baseline="photo",
    grid=Grid(prompts=(Prompt(id="ball", text="a red ball"),), seeds=(0,), guidance_scales=(3.0,),
              sampler="dpmpp_2m", steps=2, width=64, height=64),
    metrics=("clip_score",),
    objective=Objective(maximise="clip_score", penalties=()),
    latency_rounds=1,
)
"""


def tree(package: str) -> set[str]:
    """All files of a package in this checkout, without what Python leaves behind."""
    paths = (path for path in (ROOT / package).rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(ROOT).as_posix() for path in paths}


def build(kind: str, source: Path, target: Path) -> Path:
    """The one distribution that hatchling builds of a source folder; nothing is installed and nothing is downloaded."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(target)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (distribution,) = target.glob("sweetspot-*.tar.gz" if kind == "sdist" else "*.whl")
    return distribution


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from the source distribution alone, as pip builds one."""
    folder = tmp_path_factory.mktemp("build")
    with tarfile.open(build("sdist", ROOT, folder)) as archive:
        archive.extractall(folder, filter="data")
    (source,) = (path for path in folder.iterdir() if path.is_dir())
    return build("wheel", source, folder)


@pytest.fixture(scope="module")
def names(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel unpacked, as pip unpacks it."""
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """An empty folder to work in."""
    folder = tmp_path / "empty"
    folder.mkdir()
    return folder


def python(installed: Path, cwd: Path, *arguments: str, code: int = 0) -> str:
    """What Python prints when it runs with the unpacked wheel, away from the checkout and without a network."""
    guard = cwd.parent / "guard"
    guard.mkdir(exist_ok=True)
    (guard / "sitecustomize.py").write_text(NO_NETWORK)
    ours = ("PYTEST_", "HF_", "TRANSFORMERS_", "SWEETSPOT_")
    env = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
    env["PYTHONPATH"] = os.pathsep.join(map(str, (installed, guard)))
    done = subprocess.run([sys.executable, *arguments], cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_holds_the_packages_without_the_zoos_training(names: list[str]) -> None:
    expected = {name for package in PACKAGES for name in tree(package) if not name.startswith(f"{NOT_SHIPPED}/")}
    assert {name for name in names if not name.startswith("sweetspot-")} == {*expected, f"{ENTRY}.py"}


def test_the_wheel_holds_its_metadata_and_the_licence_beside_the_packages(names: list[str]) -> None:
    info = f"sweetspot-{harness.__version__}.dist-info"
    assert {name for name in names if name.split("/")[0] not in PACKAGES} == {
        f"{ENTRY}.py", *(f"{info}/{name}" for name in ("METADATA", "WHEEL", "entry_points.txt", "licenses/LICENSE", "RECORD"))}


def test_the_wheel_holds_no_file_of_an_unexpected_kind(names: list[str]) -> None:
    assert {Path(name).suffix for name in names if name.split("/")[0] in PACKAGES} == SUFFIXES


def test_the_wheel_is_no_larger_than_thirteen_megabytes(wheel: Path) -> None:
    assert wheel.stat().st_size < LARGEST_BYTES


def test_the_metadata_says_name_version_and_extras(wheel: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    with zipfile.ZipFile(wheel) as archive:
        metadata = email.message_from_bytes(archive.read(f"sweetspot-{harness.__version__}.dist-info/METADATA"))
    assert (metadata["Name"], metadata["Version"]) == ("sweetspot", harness.__version__)
    assert set(metadata.get_all("Provides-Extra", [])) == set(project["optional-dependencies"])
    required = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert len(required) == len(project["dependencies"])
    assert metadata["Requires-Python"] == project["requires-python"]


def test_the_metadata_names_the_command_and_the_pytest_plugin(wheel: Path) -> None:
    entry_points = ConfigParser()
    with zipfile.ZipFile(wheel) as archive:
        entry_points.read_string(archive.read(f"sweetspot-{harness.__version__}.dist-info/entry_points.txt").decode())
    assert dict(entry_points["console_scripts"]) == {"sweetspot": "harness.cli:command"}
    assert dict(entry_points["pytest11"]) == {"sweetspot": ENTRY}


def test_no_shipped_module_imports_what_is_not_shipped(installed: Path) -> None:
    for file in (path for package in PACKAGES for path in (installed / package).rglob("*.py")):
        modules: set[str] = set()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                modules |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        absent = {name for name in modules if name.split(".")[0] in ("tests", "suites", "conftest")
                  or f"{name}.".startswith(f"{NOT_SHIPPED.replace('/', '.')}.")}
        assert not absent, f"{file.relative_to(installed)} imports {absent}"


def test_the_command_answers_from_an_empty_folder(installed: Path, empty: Path) -> None:
    assert python(installed, empty, "-c", "import harness; print(harness.__file__)").startswith(str(installed))
    output = python(installed, empty, "-c", COMMAND, "--help")
    assert {"inspect", "merge", "promote", "report"} <= set(output.replace(",", " ").split())
    assert not list(empty.iterdir())


def test_the_command_inspects_a_model_of_the_zoo(installed: Path, empty: Path) -> None:
    assert "unet" in python(installed, empty, "-c", COMMAND, "inspect", "zoo:photo")


def test_a_suite_of_ones_own_runs_to_its_page(installed: Path, empty: Path) -> None:
    (empty / "suites").mkdir()
    (empty / "suites" / "mine.py").write_text(SUITE)
    assert "4 passed" in python(installed, empty, "-m", "pytest", "suites", "--benchmark")
    assert (empty / "runs" / "mine" / "report.html").is_file()
    assert len(list((empty / "runs" / "mine" / "images").rglob("*.png"))) == 1


def test_a_declaration_is_checked_without_a_run(installed: Path, empty: Path) -> None:
    (empty / "mine.py").write_text(SUITE.replace("zoo:photo", "zoo:foto"))
    assert "did you mean 'zoo:photo'" in python(installed, empty, "-m", "pytest", "mine.py", code=1)
