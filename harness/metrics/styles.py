"""Zero-shot classification of images by CLIP into the suite's styles: the leanings of a model."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harness.metrics.contract import ImageScore, ImageSet


def measure_styles(image_set: ImageSet) -> list[ImageScore]:
    """The label `style` (the likeliest), `style_certainty` (its probability), and the detail `leanings` (all of them)."""
    names = tuple(image_set.styles)
    if image_set.clip is None or not names:
        why = "no CLIP scorer was loaded for this run" if image_set.clip is None else "the suite declares no styles"
        return [ImageScore(missing={"style_certainty": why}) for _ in image_set.images]
    scores = image_set.clip.against(image_set.images, [image_set.styles[name] for name in names])
    return [_score(names, row) for row in probabilities(scores)]


def probabilities(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Softmax over the styles of (n, styles) scores, which are 100 x cosine: the zero-shot classification of Radford et al.
    (2021), https://arxiv.org/abs/2103.00020, where 100 is the logit scale at which CLIP's training ends."""
    raised = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True), dtype=np.float64)


def _score(names: tuple[str, ...], row: NDArray[np.float64]) -> ImageScore:
    best = int(row.argmax())
    return ImageScore(values={"style_certainty": float(row[best])}, labels={"style": names[best]},
                      details={"leanings": {name: round(float(p), 4) for name, p in zip(names, row, strict=True)}})
