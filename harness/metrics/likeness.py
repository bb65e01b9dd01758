"""How like the image is to the reference picture of its prompt, and whether it is that picture's and no other's, by CLIP."""

from __future__ import annotations

import base64
import hashlib
from typing import Final

import numpy as np
from numpy.typing import NDArray

from harness.metrics.contract import ImageScore, ImageSet
from harness.records.images import EMBEDDING, SHOWN

VALUES: Final = ("likeness", "likeness_margin", "reference_recognised")
NO_REFERENCE: Final = "the prompt has no reference picture"
NO_OTHER: Final = "no other prompt has another reference picture"


def measure_likeness(image_set: ImageSet) -> list[ImageScore]:
    """`likeness` = 100 x cosine of the image's CLIP embedding and that of its prompt's reference picture; `likeness_margin`, what
    it has before the mean of the other references of the suite; `reference_recognised`, 1 where its own is the nearest.

    Embeddings of whole images see the background too, and the CLIP that a candidate is conditioned with is no independent judge.
    The details hold each image's embedding, two bytes a number, and which reference it is of: how images of one reference agree
    is a question to several of them.
    """
    scorer = image_set.clip
    if scorer is None:
        return [ImageScore(missing=dict.fromkeys(VALUES, "no CLIP scorer was loaded for this run")) for _ in image_set.images]
    known: dict[bytes, NDArray[np.float64]] = {}

    def embedded(picture: NDArray[np.uint8]) -> NDArray[np.float64]:
        """One at a time: pictures may have any size, and an embedding must not depend on its neighbours."""
        name = _name(picture)
        if name not in known:
            known[name] = scorer.embeddings(picture[None])[0]
        return known[name]

    images = scorer.embeddings(image_set.images)
    every = {_name(picture): picture for picture in image_set.all_shown}
    scores = []
    for image, shown in zip(images, image_set.shown or (None,) * len(images), strict=True):
        if shown is None:
            scores.append(ImageScore(missing=dict.fromkeys(VALUES, NO_REFERENCE)))
            continue
        own = 100.0 * float(image @ embedded(shown))
        others = [100.0 * float(image @ embedded(picture)) for name, picture in every.items() if name != _name(shown)]
        details = {EMBEDDING: _stored(image), SHOWN: hashlib.sha256(_name(shown)).hexdigest()[:16]}
        if not others:
            scores.append(ImageScore(values={"likeness": own}, details=details, missing=dict.fromkeys(VALUES[1:], NO_OTHER)))
            continue
        scores.append(ImageScore(details=details, values={
            "likeness": own, "likeness_margin": own - float(np.mean(others)), "reference_recognised": float(own > max(others))}))
    return scores


def _stored(embedding: NDArray[np.float64]) -> str:
    """An embedding as a journal holds it: float16, little-endian, in base64. Cosines keep three digits and more."""
    return base64.b64encode(embedding.astype("<f2").tobytes()).decode("ascii")


def _name(picture: NDArray[np.uint8]) -> bytes:
    return repr(picture.shape).encode() + picture.tobytes()
