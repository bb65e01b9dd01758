"""A refusal of memory is read from the words of torch 2.15 and others, and becomes a record."""

from __future__ import annotations

import pytest

from harness.probes import NotMeasuredError, fits, out_of_memory
from harness.records import from_line, to_line

CUDA = ("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 79.11 GiB of which 512.00 MiB is free. "
        "Process 12 has 78.60 GiB memory in use.\nOf the allocated memory 77 GiB is allocated by PyTorch")


def torch_oom(text: str) -> Exception:
    import torch

    return torch.OutOfMemoryError(text)


def test_the_bytes_asked_free_and_there_are_read_from_torchs_message() -> None:
    found = out_of_memory(torch_oom(CUDA), "cpu")
    assert found is not None
    assert (found.asked_bytes, found.free_bytes, found.total_bytes) == (int(2.5 * 2**30), 2**29, round(79.11 * 2**30))
    assert found.message.endswith("in use.")


@pytest.mark.parametrize(("error", "asked"), [
    (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4096 bytes. Error code 12"), 4096),
    (MemoryError("Unable to allocate 1.50 GiB for an array with shape (3,)"), round(1.5 * 2**30)),
    (MemoryError(), None),
    (RuntimeError("CUDA error: out of memory"), None),
    (RuntimeError("cuBLAS: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"), None),
])
def test_other_refusals_are_known_by_their_words(error: Exception, asked: int | None) -> None:
    found = out_of_memory(error, "cpu")
    assert found is not None
    assert found.asked_bytes == asked
    assert found.message


@pytest.mark.parametrize("error", [RuntimeError("shape mismatch"), ValueError("out of memory is a band"), KeyError("x")])
def test_another_error_is_not_a_refusal(error: Exception) -> None:
    assert out_of_memory(error, "cpu") is None


def test_the_cpus_real_allocator_is_understood() -> None:
    import torch

    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    found = out_of_memory(caught.value, "cpu")
    assert found is not None
    assert found.asked_bytes == 1 << 60


def test_what_does_not_fit_is_a_record_with_the_bytes_asked_for() -> None:
    def make() -> None:
        raise torch_oom(CUDA)

    fit = fits(make, candidate="a", batch_size=4)
    assert (fit.fits, fit.batch_size, fit.asked_bytes) == (False, 4, int(2.5 * 2**30))
    assert from_line(to_line(fit)) == fit


def test_what_fits_says_so_and_another_error_goes_through() -> None:
    assert fits(lambda: None, candidate="a").fits
    with pytest.raises(ZeroDivisionError):
        fits(lambda: 1 // 0, candidate="a")  # type: ignore[arg-type, return-value]


def test_a_cap_on_a_cpu_is_refused_and_not_ignored() -> None:
    with pytest.raises(NotMeasuredError, match="cpu has no allocator"):
        fits(lambda: None, candidate="a", cap_bytes=10**9)
