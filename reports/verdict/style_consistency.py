"""How consistent the look of a candidate is: the share of its images that have its most common look."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Final

import numpy as np

from reports.read.beside import rows_at
from reports.read.run import Run
from reports.statistics.intervals import CLUSTER, Estimate, cluster_interval, clustered, wilson

DEFINITION: Final = ("Style consistency: the share of a candidate's images whose style, according to CLIP, is the "
                     "candidate's most common one (every prompt counts once; the interval takes that style as given).")


@dataclass(frozen=True, kw_only=True)
class Consistency:
    """The most common look of a candidate, "" where none was told, and the share of its images that have it."""

    look: str
    share: Estimate


def style_consistency(run: Run, name: str, guidance: float | None) -> Consistency:
    """Mean over prompts of the share of a prompt's images that have the candidate's most common look (of equals the first by
    name), between 0 and 1, over both splits at a guidance; 95 % interval with prompts as clusters, within 0 and 1."""
    rows = rows_at(run, guidance, run.images[run.images["candidate"] == name])
    rated = rows.dropna(subset=["style"]) if "style" in rows.columns else rows.iloc[:0]
    if rated.empty:
        return Consistency(look="", share=Estimate(mean=None, low=None, high=None, prompts=0, pairs=0, why="no look was told"))
    looks = rated["style"].astype(str).tolist()
    counts = Counter(looks)
    look = min(counts, key=lambda one: (-counts[one], one))
    interval = cluster_interval(np.array([one == look for one in looks], dtype=np.float64), clustered(rated)[CLUSTER].tolist())
    return Consistency(look=look, share=wilson(interval, flags=True))
