"""What a device merged can be promoted: its last bits may differ from the file's, which the CPU wrote, and nothing else may."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from harness import Candidate, Merge
from harness.materialise import Workbench
from harness.promotion import export
from harness.promotion.errors import PromotionError
from harness.promotion.export import as_one_file, save_as_measured
from harness.promotion.last_places import compared
from tests.rehearsal.making import MIDDLE, candidate, sketch
from tests.rehearsal.simulated_cuda import simulated


def saved(of: Candidate, root: Path, *, other_rounding: bool) -> export.SavedFile:
    with simulated(other_rounding=other_rounding):
        bench = Workbench(device="cuda", root=root)
        return save_as_measured(as_one_file(of, bench), "cuda", bench, root / "out.safetensors", "m")


@pytest.mark.parametrize("of", [
    candidate(model=Merge(a="zoo:photo", b="zoo:anime", alpha=0.4, method="geometric")), candidate(adapters=sketch()),
    candidate(model=MIDDLE, adapters=sketch("-dora"))], ids=["geometric", "LoRA", "DoRA on a merge"])
def test_last_bits_of_a_device_do_not_prevent_a_promotion_and_are_counted(of: Candidate, tmp_path: Path) -> None:
    file = saved(of, tmp_path, other_rounding=True)
    assert file.tensors > 400
    assert (tmp_path / "out.safetensors").is_file()
    assert 0 < file.rounded < 80
    assert 0 < file.rounded_share < 0.001
    assert f"of the other {file.rounded}," in file.comparison


def test_a_plain_merge_is_equal_bit_for_bit_on_a_device_too(tmp_path: Path) -> None:
    file = saved(Candidate(name="in 16 bits", model=MIDDLE), tmp_path, other_rounding=True)
    assert (file.rounded, "equal those in memory, bit for bit" in file.comparison) == (0, True)


def test_a_file_with_other_weights_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def altered(pipeline: object, before: object = export.tensors_of) -> object:
        tensors = dict(before(pipeline))  # type: ignore[operator]
        tensors["unet.conv_in.weight"] = tensors["unet.conv_in.weight"] * (1.01 if len(calls) else 1)
        calls.append(1)
        return tensors

    calls: list[int] = []
    monkeypatch.setattr(export, "tensors_of", altered)
    with pytest.raises(PromotionError, match=r"1 of \d+ tensors differ: unet\.conv_in\.weight"):
        saved(candidate(model=MIDDLE), tmp_path, other_rounding=False)


@pytest.mark.parametrize(("ulps", "stored", "same"), [(1, "F16", True), (3, "F16", False), (3, "BF16", True), (0, "F16", None)])
def test_values_may_be_one_unit_of_the_stored_dtype_apart(ulps: int, stored: str, same: bool | None) -> None:
    one = torch.tensor([1.5, 2.5, 3.0], dtype=torch.float16)
    two = (one.view(torch.int16) + torch.tensor([ulps, 0, 0], dtype=torch.int16)).view(torch.float16)
    result = compared({"a": one}, {"a": two}, {"a": stored})
    assert (result.rounded, result.different) == {True: (("a",), ()), False: ((), ("a",)), None: ((), ())}[same]
    assert result.differing_values == (1 if same else 0)


def test_a_missing_tensor_or_another_shape_is_no_rounding() -> None:
    one = torch.ones(3)
    assert compared({"a": one}, {}, {"a": "F32"}).different == ("a",)
    assert compared({"a": one}, {"a": torch.ones(2)}, {"a": "F32"}).different == ("a",)
    assert compared({"a": "hash"}, {"a": "other"}, {"a": "F32"}).different == ("a",)
