"""Merges on tensors in memory do what their expression says, or refuse."""

import pytest
import torch

from harness.merge import (
    MERGE_METHODS,
    Call,
    Merged,
    MergeError,
    Source,
    Target,
    elementwise,
    evaluate,
    finite,
    merge_tensor,
    simplified,
    write_live,
)
from harness.merge.apply import CHUNK

SUM, DIFFERENCE = MERGE_METHODS["weighted_sum"], MERGE_METHODS["add_difference"]
A, B, C = (Source(model=name, component="unet", key="w", dtype="F16") for name in "abc")


def merged(alpha, *inputs, method=SUM, name="weighted_sum", **more):
    return Merged(name=name, method=method, call=Call(alpha=alpha), inputs=inputs, component="unet", key="w", **more)


def tensors(*shape, dtype=torch.float16, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {source: torch.randn(*shape, generator=generator).to(dtype) for source in (A, B, C)}


def test_a_quarter_by_hand():
    held = {A: torch.tensor([1.0, 2.0]).half(), B: torch.tensor([3.0, -2.0]).half()}
    assert evaluate(merged(0.25, A, B), held.__getitem__, dtype="F16").tolist() == [1.5, 1.0]


def test_inner_merges_are_not_rounded():
    held = {A: torch.tensor([1.0]).half(), B: torch.tensor([1.0 + 2 ** -10]).half()}
    inner = merged(0.5, A, B)
    # Half-way between two float16 values: rounded first, the second merge would give 1, not 1 + 3/4 of a step.
    made = evaluate(merged(0.5, inner, B), held.__getitem__, dtype="F32")
    assert made.item() == 1 + 0.75 * 2 ** -10


def test_the_result_has_the_dtype_that_is_asked_for():
    held = tensors(4)
    assert evaluate(merged(0.5, A, B), held.__getitem__, dtype="BF16").dtype == torch.bfloat16
    assert evaluate(A, held.__getitem__, dtype="F32").dtype == torch.float32


@pytest.mark.parametrize("alpha", [0.3, 0.5, 0.9])
def test_half_tensors_merged_as_they_are_equal_the_detour_through_float32(alpha):
    held = tensors(10_000)
    quick = evaluate(merged(alpha, A, B), held.__getitem__, dtype="F16")
    assert torch.equal(quick, torch.lerp(held[A].float(), held[B].float(), alpha).half())


def test_only_the_common_channels_are_merged():
    generator = torch.Generator().manual_seed(1)
    held = {A: torch.randn(8, 9, 3, 3, generator=generator).half(), B: torch.randn(8, 4, 3, 3, generator=generator).half()}
    made = evaluate(merged(0.25, A, B, channels=4), held.__getitem__, dtype="F16")
    # B has 4 channels already: cutting it changes nothing.
    assert torch.equal(made[:, 4:], held[A][:, 4:])
    assert torch.equal(made[:, :4], torch.lerp(held[A][:, :4].float(), held[B].float(), 0.25).half())


@pytest.mark.parametrize(("alpha", "left"), [(0.0, A), (1.0, B)])
def test_an_end_of_alpha_is_the_model_itself_and_the_other_is_not_read(alpha, left):
    assert simplified(merged(alpha, A, B)) is left


def test_an_end_that_is_no_model_stays_a_merge():
    assert isinstance(simplified(merged(1.0, A, B, C, method=DIFFERENCE, name="add_difference")), Merged)


@pytest.mark.parametrize("count", [0, 1, 7, CHUNK - 1, CHUNK, 2 * CHUNK + 5])
def test_a_live_tensor_written_in_chunks_holds_the_whole(count, monkeypatch):
    monkeypatch.setattr("harness.merge.apply.NATIVE_CHUNK", CHUNK)
    held = tensors(count)
    live = torch.full((count,), float("nan"))
    write_live([Target(key="w", expression=merged(0.3, A, B), dtype="F16", live=live)], held.__getitem__)
    assert torch.equal(live, merge_tensor(SUM, Call(alpha=0.3), [held[A], held[B]]).float())


def test_a_live_tensor_that_is_not_contiguous_is_written_too():
    held = tensors(6, 4)
    live = torch.zeros(4, 6).T
    write_live([Target(key="w", expression=merged(0.3, A, B), dtype="F16", live=live)], held.__getitem__)
    assert torch.equal(live, merge_tensor(SUM, Call(alpha=0.3), [held[A], held[B]]).float())


def test_a_result_that_overflows_the_stored_dtype_is_refused_by_name():
    held = {source: torch.full((2,), value).half() for source, value in ((A, 6e4), (B, 6e4), (C, -6e4))}
    made = merged(1.0, A, B, C, method=DIFFERENCE, name="add_difference")
    with pytest.raises(MergeError, match=r"'w'.*smaller alpha") as refused:
        write_live([Target(key="w", expression=made, dtype="F16", live=torch.zeros(2))], held.__getitem__)
    assert refused.value.non_finite == ("w",)


def test_float8_models_merge_too():
    eight = [Source(model=name, component="unet", key="w", dtype="F8_E4M3") for name in "ab"]
    held = {source: torch.tensor([value]).to(torch.float8_e4m3fn) for source, value in zip(eight, (1.0, 2.0), strict=True)}
    assert evaluate(merged(0.5, *eight), held.__getitem__, dtype="F8_E4M3").float().tolist() == [1.5]


@pytest.mark.parametrize(("value", "sound"), [(1.0, True), (float("nan"), False), (float("inf"), False)])
def test_one_bad_value_is_found(value, sound):
    tensor = torch.ones(1000).half()
    tensor[500] = value
    assert finite(tensor) is sound
    assert finite(torch.zeros(0))


def test_what_needs_its_whole_tensor_is_not_cut():
    assert elementwise(merged(0.5, A, B))
    assert not elementwise(merged(0.5, A, B, channels=4))
