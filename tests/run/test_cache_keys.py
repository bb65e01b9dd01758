"""What a memo, a cache or a timing is kept under changes with all that it depends on, and with nothing else. Inputs of candidates
are in tests/materialise/test_changed_files.py, timings in tests/session/test_timing.py."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from harness import Adapter, Candidate
from harness.cache import shared_key
from harness.check.files import MODEL, file_problem
from harness.materialise import Workbench
from harness.probes.environment import VARIABLES, deciding_pixels, environment
from tests.adapters.test_hypernetwork import pairs, stored

FACTS: dict[str, Any] = {
    "device": "cpu", "device_name": "CPU", "cpu": "a processor", "cores": 2, "torch_threads": 2, "threads_per_operation": 1,
    "cuda": "built without CUDA", "cudnn": "no CUDA device", "flags": {"deterministic_algorithms": True}, "git_commit": "abc",
    "python": "3.11", "packages": {"torch": "2.9", "diffusers": "0.36", "transformers": "5", "peft": "0.18", "torchao": "0.14",
                                   "pytest": "9", "sweetspot": "0.1.0"}}


def key(**changes: Any) -> str:
    return shared_key("an image", deciding_pixels(FACTS | changes))


@pytest.mark.parametrize("changes", [
    {"packages": FACTS["packages"] | {name: "99"}} for name in ("torch", "diffusers", "transformers", "peft", "torchao")] + [
    {"device_name": "another"}, {"cpu": "another"}, {"cuda": "13"}, {"cudnn": 9}, {"flags": {}},
    {"variables": {"ATEN_CPU_CAPABILITY": "default"}}, {"variables": {"DNNL_MAX_CPU_ISA": "SSE41"}},
    {"threads_per_operation": "torch's default"}])
def test_a_shared_image_is_found_only_where_its_last_bits_would_be_the_same(changes: dict[str, Any]) -> None:
    assert key(**changes) != key()


def test_many_threads_in_one_operation_are_in_the_key_of_a_shared_image_on_a_processor() -> None:
    many = {"threads_per_operation": "torch's default"}
    assert key(**many, torch_threads=2) != key(**many, torch_threads=8)
    assert key(**many, torch_threads=2, device="cuda") == key(**many, torch_threads=8, device="cuda")


@pytest.mark.parametrize("changes", [
    {"git_commit": "def"}, {"python": "3.12"}, {"cores": 64}, {"torch_threads": 64}, {"variables": {}},
    {"packages": FACTS["packages"] | {"pytest": "99", "sweetspot": "9"}}])
def test_what_changes_no_bit_of_an_image_is_not_in_the_key(changes: dict[str, Any]) -> None:
    assert key(**changes) == key()


def test_keys_of_earlier_versions_stay_valid() -> None:
    names = ("torch", "diffusers", "transformers", "peft", "torchao")
    assert deciding_pixels(FACTS) == {
        "packages": {name: FACTS["packages"][name] for name in names},
        **{name: FACTS[name] for name in ("device_name", "cpu", "cuda", "cudnn", "flags", "threads_per_operation")}}


@pytest.mark.parametrize("name", VARIABLES)
def test_variables_that_choose_other_instructions_are_part_of_the_environment(
        name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(name, raising=False)
    assert name not in environment().get("variables", {})
    monkeypatch.setenv(name, "x")
    assert environment()["variables"][name] == "x"


def test_every_hypernetwork_has_an_account_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                      tmp_path_factory: pytest.TempPathFactory) -> None:
    """Its reading is made anew each time, so that the `id` of one says nothing about another."""
    monkeypatch.setenv("SWEETSPOT_CACHE", str(tmp_path_factory.getbasetemp() / "zoo-cache"))
    bench = Workbench(device="cpu", root=tmp_path)
    for widths in ((96,), (32,), (96, 32), (48,)):
        name = f"{'-'.join(map(str, widths))}.pt"
        torch.save({**stored(pairs(widths)), "name": "style"}, tmp_path / name)
        candidate = Candidate(name=name, model="zoo:base", adapters=(Adapter(path=name),))
        plan = bench._layers(candidate.adapters[0], candidate.model)
        assert {key.partition(".")[0] for keys in plan.keys.values() for names in keys.values() for key in names} == {
            str(width) for width in widths}


def test_a_file_that_was_replaced_is_looked_at_again(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    file.write_bytes(b"<!doctype html>.")
    assert "web page" in file_problem(MODEL, file)
    stat = file.stat()
    new = tmp_path / "new"
    new.write_bytes(b"GGUF............")
    os.utime(new, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with file.open("r+b") as raw:
        raw.write(new.read_bytes())
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert "GGUF" in file_problem(MODEL, file)
