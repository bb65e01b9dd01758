"""Promotion: a measured candidate becomes a model file with a record of the evidence, so that every version can be verified and
restored."""

from harness.promotion.errors import PromotionError, in_words
from harness.promotion.gather import Evidence, gather
from harness.promotion.models_folder import Models
from harness.promotion.promoting import Promotion, promote
from harness.promotion.verifying import Finding, current_version, rollback, verify

__all__ = ["Evidence", "Finding", "Models", "Promotion", "PromotionError", "current_version", "gather", "in_words", "promote",
           "rollback", "verify"]
