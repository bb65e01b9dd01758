"""The merge methods by name, and the words to plan a merge and carry it out; importing this imports no torch.
Materialising a candidate calls `plan_merge` and `merge_tensors`; checking a suite looks names up in MERGE_METHODS.
"""

from __future__ import annotations

from harness.merge.apply import MergeError, MergeMethod, merge_tensor, merge_tensors, non_finite_keys
from harness.merge.linear import add_difference, weighted_sum
from harness.merge.plan import MergePlan, TensorLike, plan_merge

MERGE_METHODS: dict[str, MergeMethod] = {
    "weighted_sum": MergeMethod(
        function=weighted_sum, models=2, alpha_range=(0.0, 1.0), version=1, widens=True,
        paper="Wortsman et al. 2022, Model soups, https://arxiv.org/abs/2203.05482"),
    "add_difference": MergeMethod(
        function=add_difference, models=3, alpha_range=(-2.0, 2.0), version=1,
        paper="Ilharco et al. 2023, Editing models with task arithmetic, https://arxiv.org/abs/2212.04089"),
}


__all__ = ["MERGE_METHODS", "MergeError", "MergeMethod", "MergePlan", "TensorLike", "add_difference", "merge_tensor",
           "merge_tensors", "non_finite_keys", "plan_merge", "weighted_sum"]
