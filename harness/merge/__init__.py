"""The merge methods by name, and what is needed to plan and run a merge. Importing this package does not import torch."""

from __future__ import annotations

from harness.declare.rows import Rows
from harness.merge import consensus, difference, frequency, linear, selection, similarity, smooth, spectral
from harness.merge import geometric as powers
from harness.merge import spherical as sphere
from harness.merge import task_vectors as task
from harness.merge.apply import Target, finite, merge_tensor, write_live
from harness.merge.expression import Altered, Expression, Merged, Source, elementwise, evaluate, native, simplified, sources
from harness.merge.linear import add_difference, weighted_sum
from harness.merge.match_keys import MergePlan, TensorLike, plan_merge
from harness.merge.method import Call, MergeError, MergeMethod, Parameter, key_seed
from harness.merge.user_methods import adopt_method

SD_MECHA, SD_MEH = "sd-mecha, https://github.com/ljleb/sd-mecha", "sd-meh, https://github.com/s1dlx/meh"
SUPERMERGER = "SuperMerger, https://github.com/hako-mikan/sd-webui-supermerger"
MERGEKIT = "mergekit, https://github.com/arcee-ai/mergekit"
SOUPS = "Wortsman et al. 2022, Model soups, https://arxiv.org/abs/2203.05482"
TASK = "Ilharco et al. 2023, Editing models with task arithmetic, https://arxiv.org/abs/2212.04089"
DARE = "Yu et al. 2023, Language models are super mario, https://arxiv.org/abs/2311.03099"
DELLA = "Deep et al. 2024, DELLA-Merging, https://arxiv.org/abs/2406.11617"
BREADCRUMBS = "Davari and Belilovsky 2023, Model breadcrumbs, https://arxiv.org/abs/2312.06795"

SHARE, SCALE, DIFFERENCE = (0.0, 1.0), (0.0, 2.0), (-2.0, 2.0)
"""Ranges of alpha: a share of B, the scale of a merged difference, and a scale that may be negative to subtract it."""
DROP = Parameter(name="density", default=0.5, low=0.0, high=1.0, meaning="share of each difference that is kept, at random")
EPSILON = Parameter(name="epsilon", default=0.2, low=0.0, high=1.0,
                    meaning="by how much the largest value's probability to be kept exceeds the smallest one's")
MIDDLE = Parameter(name="density", default=0.9, low=0.0, high=1.0, meaning="share of each difference that is kept")
GAMMA = Parameter(name="gamma", default=0.01, low=0.0, high=1.0, meaning="share of largest values that are dropped")
TILT = Parameter(name="tilt", default=0.0, low=0.0, high=1.0,
                 meaning="softness of the cut: 0 is a step, 0.5 a ramp of 45 degrees, 1 a weighted sum")

MERGE_METHODS: Rows[MergeMethod] = Rows({
    "weighted_sum": MergeMethod(
        function=linear.weighted_sum, models=2, elementwise=True, widens=True, at_zero="a", at_one="b", symmetric=True,
        paper=SOUPS),
    "weighted_average": MergeMethod(
        function=linear.weighted_average, models=2, many=True, alpha_range=None, weighted=True, elementwise=True,
        paper=SOUPS),
    "sum_twice": MergeMethod(
        function=linear.sum_twice, models=3, beta_range=SHARE, elementwise=True, paper=SUPERMERGER),
    "triple_sum": MergeMethod(
        function=linear.triple_sum, models=3, beta_range=SHARE, elementwise=True, paper=SUPERMERGER),
    "weighted_subtraction": MergeMethod(
        function=linear.weighted_subtraction, models=2, beta_range=(0.0, 0.99), elementwise=True, at_zero="a",
        paper=SD_MEH),
    "add_difference": MergeMethod(
        function=linear.add_difference, models=3, alpha_range=DIFFERENCE, elementwise=True, at_zero="a",
        adds_difference=True, paper=TASK),
    "train_difference": MergeMethod(
        function=difference.train_difference, models=3, alpha_range=DIFFERENCE, elementwise=True, at_zero="a",
        adds_difference=True, paper=SUPERMERGER),
    "smooth_add": MergeMethod(
        function=smooth.smooth_add, models=3, alpha_range=DIFFERENCE, at_zero="a", adds_difference=True, paper=SUPERMERGER),
    "multiply_difference": MergeMethod(
        function=powers.multiply_difference, models=3, beta_range=SHARE, elementwise=True, paper=SD_MEH),
    "similarity_add": MergeMethod(
        function=difference.similarity_add, models=3, beta_range=SHARE, elementwise=True, at_zero="a", paper=SD_MEH),
    "perpendicular": MergeMethod(
        function=difference.perpendicular, models=3, alpha_range=DIFFERENCE, at_zero="a", adds_difference=True, paper=SD_MECHA),
    "cosine_a": MergeMethod(
        function=similarity.cosine_a, models=2, survey=similarity.survey_a, limits_of=similarity.limits_of, at_one="b",
        paper=SUPERMERGER),
    "cosine_b": MergeMethod(
        function=similarity.cosine_b, models=2, survey=similarity.survey_b, limits_of=similarity.limits_of, at_one="b",
        paper=SUPERMERGER),
    "tensor_sum": MergeMethod(
        function=selection.tensor_sum, models=2, beta_range=SHARE, at_zero="a", at_one="b", paper=SUPERMERGER),
    "top_k_tensor_sum": MergeMethod(
        function=selection.top_k_tensor_sum, models=2, beta_range=SHARE, at_zero="a", at_one="b", paper=SD_MEH),
    "crossover": MergeMethod(
        function=frequency.crossover, models=2, parameters=(TILT,), at_zero="a", at_one="b", paper=SD_MECHA),
    "distribution_crossover": MergeMethod(
        function=frequency.distribution_crossover, models=3, parameters=(TILT,), at_zero="a", at_one="b", paper=SD_MEH),
    "slerp": MergeMethod(
        function=sphere.slerp, models=2, at_zero="a", at_one="b", symmetric=True,
        paper="Shoemake 1985, Animating rotation with quaternion curves, https://doi.org/10.1145/325165.325242"),
    "nuslerp": MergeMethod(
        function=sphere.nuslerp, models=2, at_zero="a", at_one="b", symmetric=True, paper=MERGEKIT,
        parameters=(Parameter(name="by_row", default=0, low=0, high=1, whole=True,
                              meaning="1: one arc for each output's row; 0: one for the whole tensor"),)),
    "geometric": MergeMethod(
        function=powers.geometric, models=2, elementwise=True, at_zero="a", at_one="b", symmetric=True, paper=SD_MECHA),
    "karcher": MergeMethod(
        function=sphere.karcher, models=2, many=True, alpha_range=None, weighted=True,
        paper="Karcher 1977, Riemannian center of mass, https://doi.org/10.1002/cpa.3160300502"),
    "task_arithmetic": MergeMethod(
        function=task.task_arithmetic, models=3, many=True, base=True, alpha_range=DIFFERENCE, weighted=True,
        elementwise=True, at_zero="c", paper=TASK),
    "ties": MergeMethod(
        function=task.ties, models=3, many=True, base=True, alpha_range=SCALE, weighted=True, at_zero="c",
        paper="Yadav et al. 2023, TIES-Merging, https://arxiv.org/abs/2306.01708",
        parameters=(Parameter(name="density", default=0.2, low=0.0, high=1.0,
                              meaning="share of each difference that is kept, its largest values"),)),
    "dare_linear": MergeMethod(
        function=task.dare_linear, models=3, many=True, base=True, alpha_range=SCALE, weighted=True, random=True,
        parameters=(DROP,), at_zero="c", paper=DARE),
    "dare_ties": MergeMethod(
        function=task.dare_ties, models=3, many=True, base=True, alpha_range=SCALE, weighted=True, random=True,
        parameters=(DROP,), at_zero="c", paper=DARE),
    "della": MergeMethod(
        function=task.della, models=3, many=True, base=True, alpha_range=SCALE, weighted=True, random=True,
        parameters=(DROP, EPSILON), at_zero="c", paper=DELLA),
    "della_linear": MergeMethod(
        function=task.della_linear, models=3, many=True, base=True, alpha_range=SCALE, weighted=True, random=True,
        parameters=(DROP, EPSILON), at_zero="c", paper=DELLA),
    "breadcrumbs": MergeMethod(
        function=task.breadcrumbs, models=3, many=True, base=True, alpha_range=SCALE, weighted=True,
        parameters=(MIDDLE, GAMMA), at_zero="c", paper=BREADCRUMBS),
    "breadcrumbs_ties": MergeMethod(
        function=task.breadcrumbs_ties, models=3, many=True, base=True, alpha_range=SCALE, weighted=True,
        parameters=(MIDDLE, GAMMA), at_zero="c", paper=BREADCRUMBS),
    "model_stock": MergeMethod(
        function=consensus.model_stock, models=3, many=True, base=True, alpha_range=SCALE, at_zero="c",
        paper="Jang et al. 2024, Model stock, https://arxiv.org/abs/2403.19522"),
    "geometric_median": MergeMethod(
        function=consensus.geometric_median, models=3, many=True, alpha_range=None, weighted=True,
        paper="Vardi and Zhang 2000, The multivariate L1-median, https://doi.org/10.1073/pnas.97.4.1423"),
    "rotate": MergeMethod(
        function=spectral.rotate, models=2, at_zero="a", paper=SD_MECHA),
    "rank_k": MergeMethod(
        function=spectral.rank_k, models=3, alpha_range=DIFFERENCE, at_zero="a",
        adds_difference=True, paper="Eckart and Young 1936, Approximation by lower rank, https://doi.org/10.1007/BF02288367",
        parameters=(Parameter(name="rank", default=32, low=1, high=65536, whole=True,
                              meaning="how many singular values of B - C are added"),)),
}, word="merge method", kind=MergeMethod, group="sweetspot.merge_methods", adopt=adopt_method)



__all__ = ["MERGE_METHODS", "Altered", "Call", "Expression", "MergeError", "MergeMethod", "MergePlan", "Merged", "Parameter",
           "Source", "Target", "TensorLike", "add_difference", "elementwise", "evaluate", "finite", "key_seed", "merge_tensor",
           "native", "plan_merge", "simplified", "sources", "weighted_sum", "write_live"]
