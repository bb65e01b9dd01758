"""Images in which no edge was found although their control map has lines: their `control_f1` is 0 whatever they follow."""

from __future__ import annotations

from reports import formatting as words
from reports.read.run import Run
from reports.verdict.candidates import label


def unseen_edges(run: Run) -> list[str]:
    """How many images without an edge count as not obeying their map, and of which candidates."""
    if not {"control_f1", "edge_density"} <= set(run.images.columns):
        return []
    measured = run.images.dropna(subset=["control_f1", "edge_density"])
    unseen = measured[(measured["edge_density"] == 0) & (measured["control_f1"] == 0)]
    if unseen.empty:
        return []
    counts = unseen["candidate"].value_counts().to_dict()
    of = [f"{counts[c.name]} of {label(run, c.name)}" for c in run.suite.candidates if c.name in counts]
    return [f"No edge was found in {len(unseen)} of {len(measured)} images ({words.listed(of)}), so their control_f1 is 0, "
            "though they may follow their maps: edges are found by brightness, and a difference of colour alone does not count. "
            "Look at them, or ask for subjects and backgrounds of different brightness."]
