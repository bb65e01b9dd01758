"""Gates: conditions a candidate must meet before it is promoted, each passed, failed, inconclusive or not measured."""

from reports.gates.counts import IDENTITIES, UNACCOUNTED
from reports.gates.judging import judge
from reports.gates.verdict import FAILED, INCONCLUSIVE, NOT_MEASURED, PASSED, Verdict, decide

__all__ = ["FAILED", "IDENTITIES", "INCONCLUSIVE", "NOT_MEASURED", "PASSED", "UNACCOUNTED", "Verdict", "decide",
           "judge"]
