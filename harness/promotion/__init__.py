"""Promotion: a measured candidate becomes a file with a record of why, kept so that every version can be checked and restored.
The commands promote, verify, rollback and history call it; what reports found is handed in as `Evidence`.
"""

from harness.promotion.evidence import Evidence, Figure, PromotionError, Row, Ruling, in_words
from harness.promotion.models_folder import Models
from harness.promotion.promoting import Promotion, promote
from harness.promotion.verifying import Finding, rollback, verify

__all__ = ["Evidence", "Figure", "Finding", "Models", "Promotion", "PromotionError", "Row", "Ruling", "in_words", "promote",
           "rollback", "verify"]
