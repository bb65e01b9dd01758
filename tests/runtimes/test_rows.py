"""A runtime computes what the eager module does, with the very same parameters."""

import re
import sys
from dataclasses import replace
from typing import Any

import pytest
import torch

from harness.probes.environment import PACKAGES, deciding_pixels
from harness.runtimes import RUNTIMES, Runtime, RuntimeRowError, adopt_runtime

LACKS = RUNTIMES["compiled"].why_not("cpu")


def test_every_runtime_says_what_it_is_and_whether_a_device_lacks_it() -> None:
    for row in RUNTIMES.values():
        assert row.description
        assert isinstance(row.why_not("cpu"), str)
    assert RUNTIMES["eager"].why_not("cpu") == ""


def test_compiling_without_a_compiler_is_refused_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.runtimes.compiling.shutil.which", lambda _: None)
    assert "C++ compiler" in RUNTIMES["compiled"].why_not("cpu")


@pytest.mark.slow
@pytest.mark.skipif(bool(LACKS), reason=LACKS or "torch.compile can be used here")
def test_a_compiled_module_follows_parameters_that_change_in_place() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.SiLU(), torch.nn.Linear(16, 4)).eval().requires_grad_(False)
    compiled = RUNTIMES["compiled"].apply(module)
    given = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.allclose(compiled(given), module(given), atol=1e-6)
        before = compiled(given).clone()
    with torch.no_grad():
        module[0].weight.mul_(0.5)
    with torch.inference_mode():
        assert torch.allclose(compiled(given), module(given), atol=1e-6)
        assert not torch.allclose(compiled(given), before)


def own(**changes: Any) -> Runtime:
    return adopt_runtime("mine:FAST", replace(Runtime(description="fast", apply=lambda module: module), **changes))


def raising(_: object) -> Any:
    raise LookupError("no such device")


@pytest.mark.parametrize(("apply", "fact"), [(raising, "LookupError: no such device"), (lambda module: None, "a NoneType"),
                                             (lambda module: sys.exit(1), "SystemExit")])
def test_a_runtime_of_ones_own_that_fails_is_an_error_that_names_it(apply: Any, fact: str) -> None:
    with pytest.raises(RuntimeRowError, match=f"mine:FAST.*{fact}"):
        own(apply=apply).apply(torch.nn.Linear(1, 1))


@pytest.mark.parametrize(("why_not", "fact"), [(raising, "LookupError"), (lambda _: None, "NoneType"), (lambda _: "no", "^no$")])
def test_a_device_is_refused_where_the_question_itself_fails(why_not: Any, fact: str) -> None:
    assert re.search(fact, own(why_not=why_not).why_not("cpu"))


@pytest.mark.parametrize("changes", [{"version": 0}, {"apply": 3}, {"why_not": None}])
def test_a_runtime_that_contradicts_itself_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        own(**changes)


def test_a_runtime_of_ones_own_works_on_copies() -> None:
    assert own().private
    assert not any(row.private for row in RUNTIMES.values())


@pytest.mark.parametrize("package", ["onnxruntime", "onnxruntime-gpu", "onnx", "onnx-ir", "onnxscript"])
def test_the_versions_of_a_runtimes_packages_are_known_only_with_what_it_made(package: str) -> None:
    facts = {"packages": {"torch": "2", package: "1.31"}}
    later = {"packages": {"torch": "2", package: "1.32"}}
    assert deciding_pixels(facts) == deciding_pixels(later)
    packages = RUNTIMES["onnxruntime"].packages
    assert deciding_pixels(facts, packages) != deciding_pixels(later, packages)


def test_the_packages_of_every_runtime_are_on_record() -> None:
    assert {package for row in RUNTIMES.values() for package in row.packages} <= {*PACKAGES}
    assert {"tensorrt", "tensorrt-cu13", "tensorrt-cu12"} <= {*RUNTIMES["tensorrt"].packages}


def test_a_runtime_has_either_a_module_or_a_graph() -> None:
    assert all((row.apply is None) != (row.open is None) for row in RUNTIMES.values())
    assert {name for name, row in RUNTIMES.items() if row.exported} == {"onnxruntime", "onnxruntime_live", "openvino", "tensorrt"}
    for wrong in (Runtime(description="neither"), replace(RUNTIMES["onnxruntime"], apply=lambda module: module)):
        with pytest.raises(ValueError, match="either apply or open"):
            adopt_runtime("mine:WRONG", wrong)


@pytest.mark.parametrize("name", ["onnxruntime", "onnxruntime_live", "openvino"])
def test_a_missing_package_is_named_with_its_extra(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.runtimes.installed.find_spec", lambda package: package == "onnx")
    assert re.search(r"onnxscript, (onnxruntime|openvino) are not installed; install the extra '(onnx|openvino)'",
                     RUNTIMES[name].why_not("cpu"))


@pytest.mark.parametrize("name", ["onnxruntime", "onnxruntime_live", "openvino"])
def test_a_package_that_does_not_load_is_named_with_its_error(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.runtimes.installed.import_module", raising)
    assert re.search("cannot be imported .*LookupError.*; install the extra '(onnx|openvino)'", RUNTIMES[name].why_not("cpu"))


@pytest.mark.parametrize("name", ["onnxruntime", "onnxruntime_live", "openvino"])
def test_a_device_that_the_package_lacks_is_refused_in_one_sentence(name: str) -> None:
    assert re.search("onnxruntime-gpu|OpenVINO executes on the CPU", RUNTIMES[name].why_not("cuda:0"))
    assert RUNTIMES[name].why_not("mps")
