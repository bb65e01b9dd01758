"""Sums adapters, cuts them to a rank, and extracts them from the difference of two models."""

from harness.adapters.algebra.combine import add_nothing, combine, combine_adapters, resize
from harness.adapters.algebra.extract import Pair, extract, extract_adapter
from harness.adapters.algebra.low_rank import Cut
from harness.adapters.algebra.report import Algebra, ModuleReport

__all__ = ["Algebra", "Cut", "ModuleReport", "Pair", "add_nothing", "combine", "combine_adapters", "extract", "extract_adapter",
           "resize"]
