"""The contents of a prompt's pictures are part of the keys of the images that were made with them, and of no other."""

import pytest

from harness import Candidate, Grid, Prompt, Suite
from harness.declare.guiding import Canny, Control, Reference
from harness.declare.picture_uses import files_used, parts_in_key
from harness.declare.stages import Stage

PROMPT = Prompt(id="p", text="a cat", negative="blurry", pictures={"face": "a.png", "edges": "zoo:edges-cat-1"})
CONTENTS = {"a.png": "1f", "zoo:edges-cat-1": "2e"}
FACE = Reference(path="ip", picture="face")
EDGES = Control(path="net", picture=Canny(of="edges"))


@pytest.mark.parametrize(("candidate", "parts"), [
    (None, ()), (Candidate(name="c", model="m"), ()),
    (Candidate(name="c", model="m", references=(FACE,)), ("face 1f",)),
    (Candidate(name="c", model="m", references=(FACE, FACE), controls=(EDGES,)), ("edges 2e", "face 1f")),
    (Candidate(name="c", model="m", stages=(Stage(strength=0.5, references=(FACE,)),)), ("face 1f",))])
def test_a_key_holds_the_pictures_that_the_candidate_uses(candidate: Candidate | None, parts: tuple[str, ...]) -> None:
    assert parts_in_key(candidate, PROMPT, (), CONTENTS) == ("a cat", "blurry", *parts)


def test_another_picture_in_the_same_file_gives_another_key() -> None:
    candidate = Candidate(name="c", model="m", references=(FACE,))
    first, second = (parts_in_key(candidate, PROMPT, (), {"a.png": content}) for content in ("1f", "3a"))
    assert first != second


def test_only_files_that_a_candidate_uses_are_read() -> None:
    suite = Suite(name="s", baseline="c", candidates=(Candidate(name="c", model="m", references=(FACE,)),),
                  grid=Grid(prompts=(PROMPT, Prompt(id="q", text="a dog")), seeds=(0,), guidance_scales=(1,)))
    assert files_used(suite) == ("a.png",)
