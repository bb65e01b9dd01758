"""A grid may ask for the largest batch that fits: chosen once for a run folder and a model of device, then a number."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness import Candidate, Suite
from harness.check import problems
from harness.declare import plain
from harness.declare.stages import Stage
from harness.probes.available import DeviceMemory
from harness.records import Finished
from harness.run import fitted_batch
from harness.run.fitted_batch import with_fitted_batch
from harness.run.memory_plan import Footprint, Planned
from harness.run.progress import Silent
from harness.run.suite_run import Options, SuiteRun
from harness.run_folder.ledger import RunFolderError
from tests.fakes import PROMPTS, tiny_grid, tiny_suite

GIB = 2 ** 30


class Bench:
    """A workbench of which only the device and the family are asked."""

    def __init__(self, device: str = "cuda", family: str = "sd1") -> None:
        self.device, self._family = device, family

    def family(self, _: Candidate) -> str:
        return self._family


class Sized(Footprint):
    """A footprint of one GiB an image."""

    def __init__(self, device: str) -> None:
        self._on_gpu = device != "cpu"

    def need(self, batch_size: int, low_memory: object = ()) -> Any:
        return type("Need", (), {"in_all": batch_size * GIB})


def suite(**changes: Any) -> Suite:
    return tiny_suite(grid=tiny_grid(**{"batch_size": "fit", **changes}))


def resolved(monkeypatch: pytest.MonkeyPatch, *, gib: float, before: Any = None, bench: Any = None, name: str = "GPU",
             of: Suite | None = None) -> tuple[int, dict[str, Any]]:
    """The batch size on a device with this much free memory, and what run.json says of it."""
    monkeypatch.setattr(fitted_batch, "device_memory", lambda _: DeviceMemory(name=name, total=64 * GIB, free=int(gib * GIB)))
    sized = Sized((bench or Bench()).device)
    monkeypatch.setattr(fitted_batch, "planned", lambda *_: [Planned(footprint=sized, number_format="fp16", names=["a"]),
                                                              Planned(footprint="no such file", number_format="", names=["b"])])
    changed, chosen = with_fitted_batch(of or suite(), bench or Bench(), {"fitted_batch": before} if before else {})
    assert chosen is not None
    assert changed.grid.images_per_batch == chosen["batch_size"]
    return changed.grid.images_per_batch, dict(chosen)


@pytest.mark.parametrize(("gib", "device", "expected"), [
    (0.5, "cuda", 1), (1, "cuda", 1), (3.9, "cuda", 2), (4, "cuda", 4), (1000, "cuda", 64), (1000, "cpu", 16)])
def test_the_largest_power_of_two_that_fits_is_taken(gib: float, device: str, expected: int,
                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolved(monkeypatch, gib=gib, bench=Bench(device))[0] == expected


@pytest.mark.parametrize("fitting", [0, *(2 ** power for power in range(7))])
def test_the_largest_batch_is_the_one_that_fits_and_few_sizes_are_counted(fitting: int) -> None:
    counted = []

    class Counted(Sized):
        def need(self, batch_size: int, low_memory: object = ()) -> Any:
            counted.append(batch_size)
            return super().need(batch_size)

    assert Counted("cuda").largest_batch(fitting * GIB + 1) == fitting
    assert len(counted) <= 4


def test_a_later_session_on_the_same_device_has_the_same_number(monkeypatch: pytest.MonkeyPatch) -> None:
    size, chosen = resolved(monkeypatch, gib=9)
    assert resolved(monkeypatch, gib=2, before=json.loads(json.dumps(chosen))) == (size, chosen)


def test_another_device_is_refused_with_both_named_and_what_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    _, chosen = resolved(monkeypatch, gib=9)
    with pytest.raises(RunFolderError, match=r"resolved to 8 on 'GPU'.*'Other'.*batch_size=8.*--fresh"):
        resolved(monkeypatch, gib=9, before=chosen, name="Other")


@pytest.mark.parametrize("other", ["size", "family", "damaged"])
def test_another_size_or_architecture_is_chosen_for_again(other: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _, chosen = resolved(monkeypatch, gib=9)
    changes: dict[str, Any] = {"size": {"of": suite(width=128)}, "family": {"bench": Bench(family="sdxl")}, "damaged": {}}[other]
    before = {**chosen, "batch_size": "8"} if other == "damaged" else chosen
    assert resolved(monkeypatch, gib=2, before=before, name="Other", **changes)[0] == 2


def test_a_declared_number_is_left_alone() -> None:
    assert with_fitted_batch(tiny_suite(), None, {}) == (tiny_suite(), None)  # type: ignore[arg-type]


@pytest.mark.parametrize(("size", "right"), [("fit", True), (8, True), ("fits", False), ("8", False), (0, False)])
def test_only_the_word_fit_stands_for_a_number(size: object, right: bool, tmp_path: Path) -> None:
    wrong = "\n".join(problems(suite(batch_size=size), tmp_path))
    assert ("batch_size" not in wrong) == right


def test_what_is_not_resolved_is_no_number() -> None:
    with pytest.raises(ValueError, match="fit"):
        _ = suite().grid.images_per_batch


def test_the_run_folder_knows_only_the_number_and_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the real way, on the CPU."""
    options = Options(root=Path.cwd(), runs=tmp_path)

    def opened() -> dict[str, Any]:
        run = SuiteRun(replace(suite(), name="s"), "", options, Silent())
        try:
            assert run.suite.grid.images_per_batch == run.head["sampling"]["batch_size"] == run.head["fitted_batch"]["batch_size"]
            return dict(run.head)
        finally:
            run.close()

    first = opened()
    assert first["suite"] == plain(replace(suite(batch_size=first["fitted_batch"]["batch_size"]), name="s"))
    monkeypatch.setattr(fitted_batch, "fitting_batch", None)
    assert opened()["fitted_batch"] == first["fitted_batch"]


def test_later_stages_are_sampled_in_batches_of_the_chosen_size(tmp_path: Path) -> None:
    staged = Candidate(name="x", model="zoo:photo", stages=(Stage(strength=0.5, through="pixels"),))
    of = replace(suite(prompts=PROMPTS[:1], guidance_scales=(4,)), candidates=(staged,), baseline="x", metrics=("exposure",),
                 gates=())
    run = SuiteRun(of, "", Options(root=tmp_path, runs=tmp_path / "runs"), Silent())
    try:
        assert isinstance(run.candidate(staged), Finished)
    finally:
        run.close()
