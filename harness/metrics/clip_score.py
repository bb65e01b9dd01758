"""Alignment of image and prompt by CLIP, per image. The meaning of the number depends on the scorer."""

from __future__ import annotations

from typing import Final

from harness.metrics.contract import ImageScore, ImageSet
from harness.records.images import TEXT_PARTS

NO_LENGTH: Final = "the tokenizer does not tell how long a text is"


def measure_clip_score(image_set: ImageSet) -> list[ImageScore]:
    """`clip_score` = 100 * cosine of image and prompt, the mean of its parts for a prompt that is longer than the model reads;
    `tokens_dropped` = prompt tokens that CLIP did not read, 0. The detail says in how many parts a longer prompt was read.

    Raw cosine without clamp or learned scale, so scores of different models are not comparable.
    """
    scorer = image_set.clip
    if scorer is None:
        missing = dict.fromkeys(("clip_score", "tokens_dropped"), "no CLIP scorer was loaded for this run")
        return [ImageScore(missing=missing) for _ in image_set.images]
    scores = scorer.scores(image_set.images, image_set.texts)
    parts = {text: scorer.text_parts(text) for text in set(image_set.texts)}
    return [_score(float(score), parts[text]) for score, text in zip(scores, image_set.texts, strict=True)]


def _score(score: float, parts: int | None) -> ImageScore:
    if parts is None:
        return ImageScore(values={"clip_score": score}, missing={"tokens_dropped": NO_LENGTH})
    return ImageScore(values={"clip_score": score, "tokens_dropped": 0.0}, details={TEXT_PARTS: parts} if parts > 1 else {})
