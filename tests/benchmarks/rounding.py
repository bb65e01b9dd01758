"""How far the weighted sum is from its float64 value, in units in the last place of the larger input, and how many values are
rounded to the other neighbour. Run by hand: `python -m tests.benchmarks.rounding`."""

from __future__ import annotations

import torch

from harness.merge import MERGE_METHODS, Call
from harness.merge.apply import merge_tensor

BITS = {torch.float16: 10, torch.bfloat16: 7, torch.float32: 23}


def distances(dtype: torch.dtype, alpha: float, count: int, seed: int = 0) -> tuple[float, float]:
    """(the largest error in units in the last place of the larger input, the share of values at the other neighbour)."""
    generator = torch.Generator().manual_seed(seed)
    a, b = ((torch.randn(count, generator=generator) * 0.03).to(dtype) for _ in range(2))
    merged = merge_tensor(MERGE_METHODS["weighted_sum"], Call(alpha=alpha), [a, b])
    exact = (1 - alpha) * a.double() + alpha * b.double()
    larger = torch.maximum(a.abs(), b.abs()).double().clamp_min(torch.finfo(dtype).smallest_normal)
    unit = 2.0 ** (torch.floor(torch.log2(larger)) - BITS[dtype])
    return (float(((merged.double() - exact).abs() / unit).max()), float((merged != exact.to(dtype)).double().mean()))


if __name__ == "__main__":
    for dtype in BITS:
        for alpha in (0.1, 0.3, 0.37, 0.5, 0.7, 0.9):
            most, share = distances(dtype, alpha, 4_000_000)
            print(f"{str(dtype).removeprefix('torch.'):9} alpha {alpha:g}: at most {most:.9f} units, {100 * share:.3f} % of "
                  "values rounded to the other neighbour")
