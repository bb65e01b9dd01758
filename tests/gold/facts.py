"""What a verdict says in figures, as plain data. `python tests/gold/facts.py RUN > FILE` writes what a run folder's says now."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def facts(folder: Path) -> dict[str, Any]:
    """The recommendation and the verdicts of a run folder, without any wording: names, statuses and intervals."""
    from reports import judge, load_run, recommend

    run = load_run(folder)
    recommendation = recommend(run)
    return {
        "pick": recommendation.pick, "guidance": recommendation.guidance, "axis": recommendation.axis,
        "tied_candidates": list(recommendation.tied_candidates), "tied_guidances": list(recommendation.tied_guidances),
        "cells": [[c.candidate, c.guidance, *_interval(c.objective), *_interval(c.behind), c.tied, c.complete, c.dropped]
                  for c in recommendation.cells],
        "comparisons": [[c.other, c.role, c.value, c.split, *_interval(c.difference), c.word]
                        for c in recommendation.comparisons],
        "verdicts": [[v.gate, v.candidate, v.status, v.observed, v.low, v.high] for v in judge(run, recommendation)],
        "looks": [[look.stage, list(look.candidates), list(look.prompts), look.images] for look in run.looks],
        "images": len(run.images),
    }


def _interval(estimate: Any) -> list[float | None]:
    return [estimate.mean, estimate.low, estimate.high]


if __name__ == "__main__":
    print(json.dumps(facts(Path(sys.argv[1])), indent=1))
