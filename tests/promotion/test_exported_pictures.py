"""The pictures of a promoted candidate name the file that was promoted, as A1111 and Civitai look it up."""

import hashlib
import json
from pathlib import Path

from harness import zoo
from harness.declare.picture_chunks import texts_of
from harness.declare.picture_texts import OWN, PARAMETERS, picture_text
from harness.promotion.adapters_in_a1111 import network_hash


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


def test_pictures_of_a_candidate_with_an_adapter_name_it_until_the_model_holds_it(work, sweetspot):
    work()
    file = zoo.resolve("zoo:sketch")
    assert sweetspot("images", "runs/tiny", "--candidate", "adapted", "--to", "before")[0] == 0
    texts = {texts_of(picture)[PARAMETERS] for picture in Path("before").iterdir()}
    assert texts
    assert all(text.splitlines()[0].endswith("<lora:sketch:0.6>") for text in texts)
    assert all(f'Lora hashes: "sketch: {network_hash(file)}"' in text for text in texts)
    assert sweetspot("promote", "adapted", "--run", "runs/tiny", "--as", "blend")[0] == 0
    assert sweetspot("images", "runs/tiny", "--candidate", "adapted", "--to", "after")[0] == 0
    texts = {texts_of(picture)[PARAMETERS] for picture in Path("after").iterdir()}
    assert all("Model: blend" in text and "<lora:" not in text and "Lora hashes" not in text for text in texts)


def test_what_a_tag_cannot_say_is_in_our_own_text_and_on_the_terminal(work, sweetspot):
    work()
    code, out, _ = sweetspot("images", "runs/tiny", "--candidate", "by step", "--to", "pictures")
    (picture, *_) = Path("pictures").iterdir()
    (*_, sentence) = json.loads(texts_of(picture)[OWN])["differs_in_a1111"]
    assert (code, sentence in out, "'sketch'" in sentence, "<lora:" in texts_of(picture)[PARAMETERS]) == (0, True, True, False)


def test_a_candidate_that_cannot_be_promoted_is_not_told_to_be(work, sweetspot):
    work()
    code, out, _ = sweetspot("images", "runs/tiny", "--candidate", "by step", "--to", "pictures")
    refusal = sweetspot("promote", "by step", "--run", "runs/tiny", "--as", "blend")[2].removeprefix("sweetspot promote: ")
    assert (code, "Once it is promoted" in out, refusal.strip() in out) == (0, False, True)
