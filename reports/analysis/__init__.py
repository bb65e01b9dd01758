"""A run with what follows from it: its recommendation and its verdicts, computed once for all who show them."""

from reports.analysis.analysed_run import AnalysedRun, load_run

__all__ = ["AnalysedRun", "load_run"]
