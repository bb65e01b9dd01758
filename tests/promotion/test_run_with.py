"""A promotion says what of its candidate no file of weights holds."""

from harness import Candidate, DeepCache
from harness.promotion.promoting import not_in_the_file


def test_savers_and_a_step_cache_are_not_in_the_promoted_file() -> None:
    (note,) = not_in_the_file(Candidate(name="c", model="zoo:photo", savers=("vae_tiling",), step_cache=DeepCache(interval=3)))
    assert "vae tiling" in note
    assert "DeepCache" in note
    assert not_in_the_file(Candidate(name="c", model="zoo:photo")) == ()
