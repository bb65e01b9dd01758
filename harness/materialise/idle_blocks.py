"""Block weights of a search that have no effect: no tensor counts to the block, or what it merges is equal in the models."""

from __future__ import annotations

from collections.abc import Callable

from harness.declare import Merge, Search
from harness.materialise.equal_weights import Limits, Weighed, equal_groups, weighed
from harness.materialise.recipe_plan import RecipePlan
from harness.merge.search_space import proposed, slots_of_search


def idle_blocks(search: Search, plan_of: Callable[[Merge], RecipePlan], limits: Limits) -> tuple[str, ...]:
    """The slots of a search ("IN03") whose weights 0, 0.5 and 1 give the same tensors while those of all others are 1. Of the
    models only as many tensors are read as it takes to find a difference. `limits` are those of earlier surveys."""
    slots = slots_of_search(search)

    def with_weight(value: float, at: int = 0) -> Weighed:
        values = [value if place == at else 1.0 for place in range(len(slots))]
        return weighed(str(value), plan_of(proposed(search, values)))

    ones = with_weight(1.0)
    return tuple(slot for at, slot in enumerate(slots) if all(
        equal_groups([ones, with_weight(value, at)], limits) for value in (0.0, 0.5)))
