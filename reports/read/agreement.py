"""How much the images of one reference picture are like each other: the mean cosine of their embeddings."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.declare.same_text import SAME_TEXT
from harness.records.images import EMBEDDING, SHOWN

FEWEST_PROMPTS: Final = 3
"""Prompts of a reference from which on images are compared across them: with two, both share every pair, and no interval could
be taken over them."""


def agreement(table: pd.DataFrame) -> pd.Series[float]:
    """For each image 100 times the mean cosine to the other images of its group; NaN where it has no embedding or is alone.

    A group has one candidate, guidance, split and reference picture, and one prompt unless the reference has FEWEST_PROMPTS.
    A pair of images of two prompts counts in the values of both, so that prompts are not independent, and the error of the mean
    over them would come out as half of what it is. Across P prompts each value is therefore moved away from the group's mean U,
    to U + 2 (P - 1) / (P - 2) (own - U): the mean over prompts stays U, and its error is that of the jackknife which leaves out
    one prompt at a time. Arvesen, Annals of Mathematical Statistics 40 (1969) 2076.
    """
    values = pd.Series(np.nan, index=table.index, dtype=float)
    known = table.dropna(subset=[EMBEDDING, SHOWN])
    vectors = {at: vector for at, text in known[EMBEDDING].items() if (vector := _vector(text)) is not None}
    # One model makes vectors of one width; what else a file says is compared with its like alone.
    rows = known.loc[list(vectors)].assign(width=[len(vector) for vector in vectors.values()])
    prompt = SAME_TEXT if SAME_TEXT in rows.columns else "prompt"
    place = [column for column in ("candidate", "guidance", "split") if column in rows.columns]
    for _, group in rows.groupby([*place, SHOWN, "width"], sort=False):
        count = group[prompt].nunique()
        across = count >= FEWEST_PROMPTS
        for _, part in [(0, group)] if across else group.groupby(prompt, sort=False):
            if len(part) > 1:
                own = pd.Series(_to_others([vectors[at] for at in part.index]), index=part.index)
                mean = own.groupby(part[prompt]).mean().mean()
                values.loc[part.index] = mean + 2 * (count - 1) / (count - 2) * (own - mean) if across else own
    return values


def _to_others(vectors: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """100 times the mean cosine of each of n vectors of length 1 to the n - 1 others. The sum of all replaces the pairs."""
    stacked = np.stack(vectors)
    return np.asarray(100.0 * ((stacked @ stacked.sum(axis=0)) - 1.0) / (len(stacked) - 1), dtype=np.float64)


def _vector(text: Any) -> NDArray[np.float64] | None:
    """The stored embedding with length 1, or None where the text holds none."""
    try:
        vector = np.frombuffer(base64.b64decode(text, validate=True), dtype="<f2").astype(np.float64)
    except (TypeError, ValueError, binascii.Error):
        return None
    length = float(np.linalg.norm(vector))
    return vector / length if np.isfinite(length) and length > 0 else None
