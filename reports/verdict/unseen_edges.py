"""Images whose edges were not found, or lie nowhere near those that they are compared with: their edge F1 is 0 whatever they
show."""

from __future__ import annotations

from typing import Final

import pandas as pd

from reports import formatting as words
from reports.read.run import Run
from reports.verdict.candidates import label

_BY_BRIGHTNESS: Final = "edges are found by brightness, and a difference of colour alone does not count. Look at them"


def unseen_edges(run: Run) -> list[str]:
    """How many images have an edge F1 of 0 that may say nothing of what they show, and of which candidates: those without an
    edge beside a control map, and those of which no edge lies where the baseline's image has one."""
    columns = set(run.images.columns)
    sentences = []
    if {"control_f1", "edge_density"} <= columns:
        measured = run.images.dropna(subset=["control_f1", "edge_density"])
        unseen = measured[(measured["edge_density"] == 0) & (measured["control_f1"] == 0)]
        if not unseen.empty:
            sentences.append(f"No edge was found in {len(unseen)} of {len(measured)} images ({_by_candidate(run, unseen)}), so "
                             f"their control_f1 is 0, though they may follow their maps: {_BY_BRIGHTNESS}, or ask for subjects "
                             "and backgrounds of different brightness.")
    if "edge_f1" in columns:
        measured = run.images.dropna(subset=["edge_f1"])
        apart = measured[measured["edge_f1"] == 0]
        if not apart.empty:
            sentences.append(f"The edge_f1 of {len(apart)} of {len(measured)} images is 0 ({_by_candidate(run, apart)}): no edge "
                             "was found in the image or in the baseline's, or none lies where the other has one. In such images "
                             f"{_BY_BRIGHTNESS}.")
    return sentences


def _by_candidate(run: Run, images: pd.DataFrame) -> str:
    counts = images["candidate"].value_counts().to_dict()
    return words.listed([f"{counts[c.name]} of {label(run, c.name)}" for c in run.suite.candidates if c.name in counts])
