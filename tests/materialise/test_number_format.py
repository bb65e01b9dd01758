"""The number format that a denoiser has on a device, and where the parts of a live model are kept."""

from pathlib import Path

import pytest
import torch

from harness import Adapter, Candidate, Merge, adapter_sweep, alpha_sweep
from harness.declare import plain
from harness.declare.candidate import NUMBER_FORMATS
from harness.declare.from_plain import restore
from harness.materialise import Workbench
from harness.materialise.number_format import homes_of, in_its_format
from harness.merge import MERGE_METHODS, Call, Merged, Source, Target, write_live
from harness.quantize import MADE_ON_HOST
from harness.records.format_range import FormatRangeError
from harness.weights import open_model
from harness.zoo import resolve

MIDDLE = Merge(a="zoo:photo", b="zoo:anime", alpha=0.5)
DECLARED = {"default": {}, "precision": {"precision": "fp32"}, "quantization": {"quantization": "fp32"},
            "bf16": {"precision": "bf16"}, "bf16 as quantization": {"quantization": "bf16"},
            "int8": {"quantization": "int8_weight_only"}}


def candidate(**changes: str) -> Candidate:
    return Candidate(name="m", model=MIDDLE, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(("declared", "on_cpu", "unet", "transformer"), [
    ("default", "fp32", "fp16", "bf16"), ("precision", "fp32", "fp32", "fp32"), ("quantization", "fp32", "fp32", "fp32"),
    ("bf16", "bf16", "bf16", "bf16"), ("bf16 as quantization", "bf16", "bf16", "bf16"),
    ("int8", "int8_weight_only", "int8_weight_only", "int8_weight_only")])
def test_the_format_is_the_declared_one_or_that_of_the_device(declared: str, on_cpu: str, unet: str, transformer: str) -> None:
    given = candidate(**DECLARED[declared])
    for family, device, expected in (("sd1", "cpu", on_cpu), ("flux", "cpu", on_cpu), ("sdxl", "cuda", unet),
                                     ("sd2", "cuda:1", unet), ("flux", "cuda:0", transformer), ("sd3", "cuda", transformer)):
        once = in_its_format(given, family, device)
        assert (once.quantization, in_its_format(once, family, device)) == (expected, once)


@pytest.mark.parametrize("declared", DECLARED)
def test_a_run_folder_keeps_whether_a_format_was_asked_for(declared: str) -> None:
    given = candidate(**DECLARED[declared])
    again = restore(plain(given))
    assert again == given
    assert [in_its_format(c, "sd1", "cuda").quantization for c in (given, again)] == [
        in_its_format(given, "sd1", "cuda").quantization] * 2


def test_keys_are_those_of_before_precision_could_be_declared() -> None:
    # Computed by the version before.
    assert Candidate(name="a", model="zoo:photo").key == "bb342b6e62dc4561"
    assert Candidate(name="a", model="zoo:photo", quantization="bf16").key == "50cf1be2592ef9fc"
    assert candidate(precision="fp32").key == candidate().key != candidate(precision="bf16").key
    assert Candidate(name="a", model="zoo:photo", quantization="int8_weight_only").key == "e14c35708cdba693"


@pytest.mark.parametrize("mode", MADE_ON_HOST)
def test_an_integer_mode_has_another_key_for_every_precision_that_is_declared_for_it(mode: str) -> None:
    keys = {candidate(quantization=mode, **own).key for own in ({}, *({"precision": name} for name in NUMBER_FORMATS))}
    assert len(keys) == 1 + len(NUMBER_FORMATS)


def test_sweeps_declare_a_precision_for_all_their_candidates() -> None:
    swept = (*alpha_sweep("zoo:photo", "zoo:anime", [0, 1], precision="bf16"),
             *adapter_sweep("zoo:photo", "zoo:sketch", [0.5], precision="bf16"))
    assert {c.precision for c in swept} == {"bf16"}


def test_precision_and_quantization_of_one_name_are_one_candidate(tmp_path: Path) -> None:
    bench = Workbench(device="cpu", root=tmp_path)
    identities = {bench.weights(candidate(**given)).identity for given in ({"precision": "bf16"}, {"quantization": "bf16"})}
    plain_ones = {bench.weights(candidate(**given)).identity for given in ({}, {"precision": "fp32"}, {"quantization": "fp32"})}
    assert (len(identities), len(plain_ones)) == (1, 1)
    assert identities != plain_ones


def test_a_sixteen_bit_denoiser_is_live_without_a_copy_in_float32(tmp_path: Path) -> None:
    bench = Workbench(device="cpu", root=tmp_path)
    denoisers = [bench.prepare(candidate(precision="bf16")).pipeline.denoiser,
                 bench.prepare(Candidate(name="other", model="zoo:photo", precision="bf16")).pipeline.denoiser]
    assert denoisers[0] is denoisers[1]
    assert {p.dtype for p in denoisers[0].parameters()} == {torch.bfloat16}


def test_adapters_on_sixteen_bit_layers_are_counted_and_have_their_format(tmp_path: Path) -> None:
    given = Candidate(name="sketch", model="zoo:photo", precision="bf16", adapters=(Adapter(path="zoo:sketch"),))
    prepared = Workbench(device="cpu", root=tmp_path).prepare(given)
    (row,) = (row for row in prepared.coverage if row.stage == "quantize bf16")
    names = dict(prepared.pipeline.denoiser.named_parameters())
    assert set(row.keys["quantized"]) == set(names)
    assert {p.dtype for name, p in names.items() if "lora_" in name} == {torch.bfloat16}


def test_what_a_quantized_copy_keeps_is_not_the_next_candidates(tmp_path: Path) -> None:
    bench = Workbench(device="cpu", root=tmp_path)
    quantized = bench.prepare(candidate(quantization="int8_weight_only")).pipeline.denoiser
    before = {name: p.clone() for name, p in quantized.named_parameters() if type(p.data) is torch.Tensor}
    bench.prepare(Candidate(name="b", model="zoo:anime"))
    bench.prepare(Candidate(name="other", model=Merge(a="zoo:photo", b="zoo:anime", alpha=1.0)))
    after = dict(quantized.named_parameters())
    assert before
    assert all(torch.equal(value, after[name]) for name, value in before.items())


@pytest.mark.parametrize(("device", "mode", "expected"), [
    ("cpu", "fp32", {"unet": ("cpu", "float32")}), ("cpu", "bf16", {"unet": ("cpu", "bfloat16")}),
    ("cuda", "fp16", {"unet": ("cuda", "float16"), "text_encoder": ("cpu", "float32")})])
def test_on_a_gpu_text_encoders_are_kept_on_the_host(device: str, mode: str, expected: dict[str, tuple[str, str]]) -> None:
    homes = homes_of(open_model(resolve("zoo:photo")), device, mode)
    assert {part: (home.device, home.dtype) for part, home in homes.items()} == expected


@pytest.mark.parametrize("value", [65504.0, 70000.0])
def test_a_value_beyond_float16_is_refused_by_its_key(value: float) -> None:
    a, b = (Source(model=name, component="unet", key="w", dtype="F32") for name in "ab")
    held = {a: torch.tensor([1.0]), b: torch.tensor([value])}
    merged = Merged(name="weighted_sum", method=MERGE_METHODS["weighted_sum"], call=Call(alpha=1.0), inputs=(a, b),
                    component="unet", key="w")
    live = torch.zeros(1, dtype=torch.float16)
    target = Target(key="w", expression=merged, dtype="F32", live=live)
    if value < 65520:
        write_live([target], held.__getitem__)
        assert live.item() == value
    else:
        with pytest.raises(FormatRangeError, match=r"'w'.*precision='bf16'"):
            write_live([target], held.__getitem__)
