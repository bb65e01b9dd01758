"""KINDS: the kinds of change that an adapter can make to a weight, one row per kind, and their arithmetic."""

from harness.adapters.kinds.applying import (
    additive_factors,
    apply_all,
    bias_delta,
    changed_bias,
    changed_weight,
    check_change,
    delta,
    is_additive,
    plain_delta,
    scale_of,
    wrong_roles,
)
from harness.adapters.kinds.kind import AdapterKind
from harness.adapters.kinds.table import KINDS, kind_of

__all__ = ["KINDS", "AdapterKind", "additive_factors", "apply_all", "bias_delta", "changed_bias", "changed_weight",
           "check_change", "delta", "is_additive", "kind_of", "plain_delta", "scale_of", "wrong_roles"]
