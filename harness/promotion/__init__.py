"""Promotion: a measured candidate becomes a file with a record of why, kept so that every version can be checked and restored.
The commands promote, verify, rollback and history call it; what reports found is handed in as `Evidence`.
"""

from harness.promotion.evidence import REFUSALS, Evidence, Figure, PromotionError, Row, Ruling
from harness.promotion.promoting import Promotion, promote
from harness.promotion.store import Models
from harness.promotion.verifying import Finding, rollback, verify

__all__ = ["REFUSALS", "Evidence", "Figure", "Finding", "Models", "Promotion", "PromotionError", "Row", "Ruling", "promote",
           "rollback", "verify"]
