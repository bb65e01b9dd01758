"""The coverage of a candidate that is made more than once, because prompts bring adapters of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from harness.declare.prompt_groups import PromptGroup
from harness.records import Coverage


def rows_beside(rows: Sequence[Coverage], new: Sequence[Coverage], group: PromptGroup) -> list[Coverage]:
    """The `new` rows of a group of prompts that say what none of the earlier `rows` says, named after the adapters that the
    prompts bring. The first group's rows are as those of any candidate."""
    if not rows:
        return list(new)
    label = group.label or "without the prompts' adapters"
    # Other files of one name, or other blocks, read alike; a stage of the same name would replace the rows of the other group.
    while any(row.stage.startswith(f"{label}: ") for row in rows):
        label += ", also"
    return [replace(row, stage=f"{label}: {row.stage}") for row in new if row not in rows]
