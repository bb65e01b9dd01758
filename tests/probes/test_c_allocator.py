"""The C library's heap: what is kept for the next operation, and what is given back."""

from __future__ import annotations

import subprocess
import sys

import pytest

from harness.probes.c_allocator import keep_freed_memory

glibc = pytest.mark.skipif("glibc" not in __import__("platform").libc_ver(), reason="only glibc has mallopt")
FAULTS = """
import resource
from harness.probes.c_allocator import keep_freed_memory, return_freed_memory
from harness.probes.rss import resident_bytes
import numpy as np
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        blocks = [np.ones(2 << 20, np.uint8) for _ in range(10)]
        del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
kept = keep_freed_memory() if KEEP else False
faults()
again, size = faults(), resident_bytes()
return_freed_memory()
print(int(kept), again, size - resident_bytes())
"""


def heap(keep: bool) -> tuple[int, int, int]:
    """Whether memory is kept, the page faults of twenty times 20 MB, and the bytes given back afterwards."""
    done = subprocess.run([sys.executable, "-c", FAULTS.replace("KEEP", str(keep))], capture_output=True, text=True, check=True)
    kept, faults, returned = map(int, done.stdout.split())
    return kept, faults, returned


@glibc
def test_kept_memory_is_not_cleared_page_by_page_again_and_is_given_back_when_asked() -> None:
    (_, by_default, _), (kept, faults, returned) = heap(keep=False), heap(keep=True)
    assert kept == 1
    assert faults < by_default / 4
    assert returned > 16 << 20


@pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "MALLOC_ARENA_MAX"])
def test_an_allocator_that_the_environment_sets_is_left_alone(name: str) -> None:
    assert not keep_freed_memory({name: "1"})
    assert not keep_freed_memory({"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=1"})
