"""Likeness to the reference picture of the prompt: by hand from CLIP's own embeddings, with the reasons where there is none."""

import base64

import numpy as np
import pytest

from harness.metrics import METRICS, ImageSet
from harness.metrics.clip import ClipScorer, load_scorer
from harness.metrics.likeness import NO_OTHER, NO_REFERENCE
from harness.records.images import EMBEDDING, SHOWN
from harness.zoo.pictures import drawn

FISH, CAT, CUP = (drawn(f"zoo:picture-{name}-3") for name in ("fish", "cat", "cup"))
NEAR = drawn("zoo:picture-fish-11")


@pytest.fixture(scope="module")
def clip() -> ClipScorer:
    return load_scorer()


def scores(clip: ClipScorer | None, images: list[np.ndarray], shown: tuple[np.ndarray | None, ...],
           every: tuple[np.ndarray, ...]) -> list[tuple[dict[str, float], dict[str, str]]]:
    given = ImageSet(images=np.stack(images), texts=("a",) * len(images), clip=clip, shown=shown, all_shown=every)
    return [(dict(score.values), dict(score.missing)) for score in METRICS["likeness"].measure(given)]


def test_likeness_is_the_cosine_to_the_own_reference_and_the_margin_is_that_before_the_others(clip: ClipScorer) -> None:
    (values, missing), = scores(clip, [NEAR], (FISH,), (FISH, CAT, CUP, FISH))
    near, fish, cat, cup = clip.embeddings(np.stack([NEAR, FISH, CAT, CUP]))
    assert not missing
    assert values["likeness"] == pytest.approx(100 * near @ fish, abs=1e-4)
    assert values["likeness_margin"] == pytest.approx(100 * (near @ fish - (near @ cat + near @ cup) / 2), abs=1e-4)
    assert values["reference_recognised"] == 1


def test_a_picture_that_is_nearer_to_another_reference_is_not_recognised(clip: ClipScorer) -> None:
    (values, _), = scores(clip, [CAT], (FISH,), (FISH, CAT))
    assert values["reference_recognised"] == 0
    assert values["likeness_margin"] < 0


def test_a_picture_is_wholly_like_itself_whatever_its_neighbours_and_sizes_are(clip: ClipScorer) -> None:
    large = np.repeat(np.repeat(FISH, 3, axis=0), 3, axis=1)
    together = scores(clip, [FISH, CAT], (FISH, large), (FISH, large))
    alone = scores(clip, [FISH], (FISH,), (FISH, large))
    assert together[0] == alone[0]
    assert together[0][0]["likeness"] == pytest.approx(100, abs=1e-3)


def test_what_cannot_be_measured_says_why(clip: ClipScorer) -> None:
    names = {"likeness", "likeness_margin", "reference_recognised"}
    assert scores(clip, [FISH], (None,), (CAT,)) == [({}, dict.fromkeys(names, NO_REFERENCE))]
    assert scores(clip, [FISH], (), ()) == [({}, dict.fromkeys(names, NO_REFERENCE))]
    (values, missing), = scores(clip, [FISH], (FISH,), (FISH, FISH.copy()))
    assert (values.keys(), missing) == ({"likeness"}, dict.fromkeys(names - {"likeness"}, NO_OTHER))
    assert all("CLIP" in why for _, missing in scores(None, [FISH], (FISH,), (FISH,)) for why in missing.values())


def test_the_details_hold_the_embedding_in_two_bytes_a_number_and_which_reference_it_is_of(clip: ClipScorer) -> None:
    given = ImageSet(images=np.stack([NEAR, CAT]), texts=("a", "b"), clip=clip, shown=(FISH, FISH.copy()), all_shown=(FISH, CAT))
    near, cat = (score.details for score in METRICS["likeness"].measure(given))
    assert near[SHOWN] == cat[SHOWN]
    stored = [np.frombuffer(base64.b64decode(one[EMBEDDING]), dtype="<f2") for one in (near, cat)]
    np.testing.assert_allclose(np.stack(stored), clip.embeddings(np.stack([NEAR, CAT])), atol=1e-3)
    assert stored[0].nbytes == 2 * clip.embeddings(NEAR[None]).shape[1]
