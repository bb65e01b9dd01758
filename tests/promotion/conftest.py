"""A tiny suite of the zoo, run once; every test gets a copy of its folder with the gates it asks for."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from harness import Adapter, Candidate, Checkpoint, Gate, Merge, Sampling, Suite, zoo
from harness.cli import main
from harness.declare import Emphasis, plain
from harness.records import Finished
from harness.run.progress import Silent
from harness.run.suite_run import Options, SuiteRun
from tests.fakes import tiny_suite

SUITE_FILE = """
from harness.declare import restore
import json
SUITE = restore(json.loads({text!r}))
"""

Prepare = Callable[..., Path]


@pytest.fixture(autouse=True, scope="session")
def zoo_cache(tmp_path_factory: pytest.TempPathFactory) -> object:
    """The zoo's files are assembled once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWEETSPOT_CACHE", str(tmp_path_factory.getbasetemp() / "zoo-cache"))
        yield


def suite() -> Suite:
    """The tiny suite with a file of the user's as second parent, and candidates that no single file can be."""
    tiny = tiny_suite()
    model = "parents/photo.safetensors"
    photo = Checkpoint(path=model, config="zoo:config")
    merges = [Candidate(name=f"alpha={alpha:g}", model=Merge(a=photo, b="zoo:anime", alpha=alpha), axes={"alpha": alpha})
              for alpha in (0, 0.5, 1)]
    others = [Candidate(name="adapted", model="zoo:base", adapters=(Adapter(path="zoo:sketch", weight=0.6),)),
              Candidate(name="quantized", model=photo, quantization="bf16"),
              Candidate(name="by step", model="zoo:base", adapters=(Adapter(path="zoo:sketch", end=0.5),)),
              Candidate(name="emphasised", model=photo, emphasis=Emphasis(weights={"red": 0.7})),
              Candidate(name="few", model=merges[1].model, sampling=Sampling(steps=1, guidance=7))]
    return replace(tiny, candidates=(*merges, *others), gates=(Gate(value="coverage"),),
                   metrics=("clip_score", "exposure", "palette"))


@pytest.fixture(scope="session")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with parents/, suites/ and the run of the suite in runs/tiny."""
    root = tmp_path_factory.mktemp("ran")
    (root / "parents").mkdir()
    (root / "suites").mkdir()
    shutil.copy(zoo.resolve("zoo:photo"), root / "parents" / "photo.safetensors")
    job = SuiteRun(suite(), "suites/tiny.py", Options(root=root, runs=root / "runs"), Silent())
    try:
        done = [job.candidate(candidate) for candidate in job.suite.candidates]
        assert all(isinstance(one, Finished) for one in done), done
    finally:
        job.close()
    return root


@pytest.fixture
def work(ran: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Prepare:
    """Makes a fresh copy of the working directory, whose run and suite file have the gates asked for, and goes there."""

    def prepare(gates: Sequence[Gate] = (Gate(value="coverage"),)) -> Path:
        root = tmp_path / "work"
        shutil.copytree(ran, root)
        head = json.loads((root / "runs/tiny/run.json").read_text())
        head["suite"] = plain(replace(suite(), gates=tuple(gates)))
        (root / "runs/tiny/run.json").write_text(json.dumps(head))
        (root / "suites/tiny.py").write_text(SUITE_FILE.format(text=json.dumps(head["suite"])))
        monkeypatch.chdir(root)
        return root

    return prepare


@pytest.fixture
def sweetspot(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs a subcommand: its exit code, what it printed, and what it said on standard error."""

    def call(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(words)
        said = capsys.readouterr()
        return code, said.out, said.err

    return call
