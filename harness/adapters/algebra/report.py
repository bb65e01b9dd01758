"""What an operation on adapters did to each module. Combining, extracting and resizing return it with the changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from harness.adapters.change import Change


@dataclass(frozen=True, kw_only=True)
class ModuleReport:
    """One module: the kind and rank that came out (rank 0 for kinds without; kind "unchanged" where nothing came out), the
    rank that went in, and the residual: relative Frobenius error of the weight's change, 0 where it is exact."""

    component: str
    path: str
    kind: str
    rank: int
    rank_before: int
    residual: float


@dataclass(frozen=True, kw_only=True)
class Algebra:
    """The changes that came out, by (component, module path), and a report of every module that went in."""

    changes: Mapping[tuple[str, str], Change]
    modules: tuple[ModuleReport, ...]

    @property
    def largest_residual(self) -> float:
        """The worst module's; 0 when all are exact."""
        return max((module.residual for module in self.modules), default=0.0)


def report_of(change: Change, rank_before: int, residual: float) -> ModuleReport:
    """The report of a change that came out."""
    return ModuleReport(component=change.component, path=change.path, kind=change.kind, rank=change.rank,
                        rank_before=rank_before, residual=residual)
