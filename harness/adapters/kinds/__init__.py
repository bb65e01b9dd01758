"""KINDS: what an adapter can do to a weight, one row per kind, and its arithmetic for any of them.

Readers of files make changes of these kinds; fusing, combining and writing apply them.
"""

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
