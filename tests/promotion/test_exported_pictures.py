"""The pictures of a promoted candidate name the file that was promoted, as A1111 and Civitai look it up."""

import hashlib
from pathlib import Path

from harness.declare.picture_texts import picture_text


def test_pictures_of_a_promoted_candidate_carry_the_hash_of_its_file(work, sweetspot):
    work()
    assert sweetspot("images", "runs/tiny", "--candidate", "alpha=0.5", "--to", "before")[0] == 0
    assert {picture_text(file).model_hash for file in Path("before").iterdir()} == {""}
    assert sweetspot("promote", "alpha=0.5", "--run", "runs/tiny", "--as", "blend")[0] == 0
    code, out, _ = sweetspot("images", "runs/tiny", "--candidate", "alpha=0.5", "--to", "after")
    (weights,) = Path("models/objects").iterdir()
    assert (code, "name no model" in out) == (0, False)
    assert {(picture_text(file).model, picture_text(file).model_hash) for file in Path("after").iterdir()} == {
        ("blend", hashlib.sha256(weights.read_bytes()).hexdigest()[:10])}
