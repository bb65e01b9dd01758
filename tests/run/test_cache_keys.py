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
from harness.probes.environment import VARIABLES, deciding_pixels, deciding_seconds, environment
from harness.run.run_json import of_another_gpu
from harness.sampling import setting
from tests.adapters.test_hypernetwork import pairs, stored
from tests.fakes import tiny_grid

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


ON_GPU: dict[str, Any] = {"device": "cuda:0", "device_name": "NVIDIA H200", "cpu_capability": "AVX512",
                          "threads_per_operation": "torch's default"}


@pytest.mark.parametrize("changes", [
    {"device_name": "NVIDIA A100"}, {"cpu": "another"}, {"cpu_capability": "AVX2"}, {"torch_threads": 64}])
def test_with_a_gpu_too_what_the_host_computes_weights_by_is_in_the_key_of_a_shared_image(changes: dict[str, Any]) -> None:
    """Text encoders and quantized denoisers are merged on the host, spectral merges decompose there, and noise is drawn there."""
    assert key(**ON_GPU | changes) != key(**ON_GPU)


def test_which_of_several_gpus_of_one_model_made_an_image_is_not_in_its_key() -> None:
    assert key(**ON_GPU | {"device": "cuda:3", "cores": 64}) == key(**ON_GPU)


def test_a_timing_on_a_gpu_counts_while_the_host_is_the_same_and_needs_nothing_new_on_record() -> None:
    facts = FACTS | ON_GPU
    assert deciding_seconds(facts) == deciding_seconds({name: fact for name, fact in facts.items() if name != "cpu_capability"})
    assert deciding_seconds(facts) != deciding_seconds(facts | {"cpu": "another"})


def test_the_model_of_a_gpu_is_in_the_keys_of_its_images_and_a_processor_adds_nothing() -> None:
    assert setting(tiny_grid(), "cuda:1", "NVIDIA H200")["device_model"] == "NVIDIA H200"
    assert setting(tiny_grid(), "cpu", "CPU") == setting(tiny_grid(), "cpu")


HEAD: dict[str, Any] = {"suite": {"name": "s"}, "sampling": {"device": "cuda", "device_model": "H200"}}


@pytest.mark.parametrize(("before", "named"), [
    ({}, None), ({"sampling": "damaged"}, None), ({"sampling": {"device": "cpu"}}, None), (HEAD, None),
    ({"sampling": {"device": "cuda"}}, "did not record"), ({"sampling": {"device": "cuda", "device_model": "A100"}}, "A100")])
def test_a_folder_resumed_on_another_gpu_says_which_images_do_not_count(before: dict[str, Any], named: str | None) -> None:
    sentence = of_another_gpu(before, HEAD)
    assert (sentence == "") if named is None else (named in sentence and "H200" in sentence)


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
