"""Gates: conditions a candidate must meet before it is promoted, each passed, failed, inconclusive or not measured."""

from harness.records.images import IDENTITIES
from reports.gates.coverage import UNACCOUNTED
from reports.gates.judging import judge
from reports.gates.outcome import FAILED, INCONCLUSIVE, NOT_MEASURED, PASSED, Verdict, decide

__all__ = ["FAILED", "IDENTITIES", "INCONCLUSIVE", "NOT_MEASURED", "PASSED", "UNACCOUNTED", "Verdict", "decide",
           "judge"]
