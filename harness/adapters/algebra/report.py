"""What combining, extracting or resizing did to each module."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from harness.adapters.change import Change


@dataclass(frozen=True, kw_only=True)
class ModuleReport:
    """One module: kind and rank of the result (rank 0 for kinds without one; kind "unchanged" without a result), the rank
    before, and the residual, the relative Frobenius error of the weight's change (0 if exact)."""

    component: str
    path: str
    kind: str
    rank: int
    rank_before: int
    residual: float


@dataclass(frozen=True, kw_only=True)
class Algebra:
    """The resulting changes by (component, module path), and a report for every input module."""

    changes: Mapping[tuple[str, str], Change]
    modules: tuple[ModuleReport, ...]

    @property
    def largest_residual(self) -> float:
        """The largest residual of all modules; 0 if all are exact."""
        return max((module.residual for module in self.modules), default=0.0)


def report_of(change: Change, rank_before: int, residual: float) -> ModuleReport:
    """The report of a resulting change."""
    return ModuleReport(component=change.component, path=change.path, kind=change.kind, rank=change.rank,
                        rank_before=rank_before, residual=residual)
