"""Which of its models a merge is at alpha 0 and at alpha 1, by method: the ends that a report calls parents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_FROM_A: Final = ("add_difference", "crossover", "distribution_crossover", "geometric", "nuslerp", "perpendicular", "rank_k",
                  "rotate", "similarity_add", "slerp", "smooth_add", "tensor_sum", "top_k_tensor_sum", "train_difference",
                  "weighted_subtraction", "weighted_sum")
_FROM_BASE: Final = ("breadcrumbs", "breadcrumbs_ties", "dare_linear", "dare_ties", "della", "della_linear", "model_stock",
                     "task_arithmetic", "ties")
_TO_B: Final = ("cosine_a", "cosine_b", "crossover", "distribution_crossover", "geometric", "nuslerp", "slerp", "tensor_sum",
                "top_k_tensor_sum", "weighted_sum")

PARENT_AT: Final[Mapping[float, Mapping[str, str]]] = {
    0.0: {**dict.fromkeys(_FROM_A, "A"), **dict.fromkeys(_FROM_BASE, "C")}, 1.0: dict.fromkeys(_TO_B, "B")}
"""By alpha, then by method: the letter of the model that the merge is. Other methods, and users' own, are no parent there."""
