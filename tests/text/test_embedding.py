"""Plain texts give the encoder's own bits, words stand for their vectors, and nothing is cut off in silence."""

import copy
import dataclasses
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import pytest
import torch
from transformers import CLIPTextModelWithProjection

from harness.text import PLAIN, Treatment, Word, embed
from harness.text.tokens import lay_out
from harness.weights.pipeline import TextEncoder
from tests.text.conftest import WIDTH, config, shaken

TEXTS = ("a photo of an orange cat", "", "A  Blue\tcar!!! <3 (night), it's 1999", "naïve café 猫 🙂 e\u0301", "word " * 75,
         "one <|endoftext|> two")


def ids_of(encoder, text):
    return encoder.tokenizer([text], padding="max_length", truncation=True, return_tensors="pt",
                             max_length=encoder.tokenizer.model_max_length).input_ids


def word(token, vectors, component="text_encoder"):
    return Word(component=component, token=token, vectors=vectors)


@cache
def larger_tokenizer(tokenizer):
    """The tokenizer with a hundred tokens more: copying one takes long, so words share them."""
    larger = copy.deepcopy(tokenizer)
    larger.add_tokens([f"<|{number}|>" for number in range(100)])
    return larger


def enlarged(encoder, words):
    """The encoder with words as added tokens of a larger vocabulary: the slow, obvious way, and the text as tokens of it."""
    module = copy.deepcopy(encoder.module)
    rows = iter(range(100))
    names = {w.token: "".join(f"<|{next(rows)}|>" for _ in w.vectors) for w in words}
    table = torch.cat([module.get_input_embeddings().weight, *(w.vectors for w in words)])
    module.set_input_embeddings(torch.nn.Embedding.from_pretrained(table))
    return dataclasses.replace(encoder, module=module, tokenizer=larger_tokenizer(encoder.tokenizer)), names


@pytest.mark.parametrize("text", TEXTS)
def test_a_plain_text_gives_the_last_states_bit_for_bit(encoder, text):
    with torch.inference_mode():
        expected = encoder.module(ids_of(encoder, text))[0][0]
    made = embed(encoder, text)
    assert torch.equal(made.states, expected)
    assert made.pooled is None and made.occurring == frozenset()


@pytest.mark.parametrize("text", TEXTS)
def test_the_penultimate_states_and_the_pooled_text_are_transformers_own(second, text):
    reference = copy.deepcopy(second.module)  # recording leaves hooks behind
    with torch.inference_mode():
        expected = reference(ids_of(second, text), output_hidden_states=True)
    made = embed(second, text)
    assert torch.equal(made.states, expected.hidden_states[-2][0])
    assert torch.equal(made.pooled, expected.text_embeds[0])


@pytest.mark.parametrize("end", [49407, 2])
def test_the_pooled_text_with_words_is_taken_at_the_end_token_in_old_configs_too(second, vectors, end):
    torch.manual_seed(5)
    module = shaken(CLIPTextModelWithProjection(config(20, end)))
    old = dataclasses.replace(second, module=module)
    made = embed(old, "a sks cat", Treatment(words=(word("sks", vectors(3, 20), "text_encoder_2"),)))
    with torch.inference_mode():
        seen = []
        handle = module.text_model.final_layer_norm.register_forward_hook(lambda _, __, out: seen.append(out[0]))
        embed(old, "a sks cat", Treatment(words=(word("sks", vectors(3, 20), "text_encoder_2"),)))
        handle.remove()
        # Start, "a", three vectors, "cat", and then the end.
        assert torch.allclose(made.pooled, module.text_projection(seen[0][6]), atol=1e-6)


@pytest.mark.parametrize("text", ["a photo of sks", "sks", "(sks), by sks!", "a SKS dog", "my_sks-thing", "sks sks", "é sks é"])
@pytest.mark.parametrize("count", [1, 4])
def test_a_word_is_what_a_larger_vocabulary_would_give(encoder, vectors, text, count):
    words = (word("sks", vectors(count)),)
    made = embed(encoder, text, Treatment(words=words))
    larger, names = enlarged(encoder, words)
    with torch.inference_mode():
        expected = larger.module(ids_of(larger, text.replace("SKS", "sks").replace("sks", names["sks"])))[0][0]
    assert torch.equal(made.states, expected)
    assert made.occurring == {"sks"} and not torch.equal(made.states, embed(encoder, text).states)


@pytest.mark.parametrize("token", ["<cat-toy>", "extraordinarily_long_name-v2", "two words", "ÉTÉ", "*", "a.b"])
def test_a_token_may_look_like_anything(encoder, vectors, token):
    words = (word(token, vectors(2)),)
    larger, names = enlarged(encoder, words)
    with torch.inference_mode():
        expected = larger.module(ids_of(larger, f"art of {names[token]}, blue"))[0][0]
    assert torch.equal(embed(encoder, f"art of {token}, blue", Treatment(words=words)).states, expected)


def test_the_longest_word_wins_and_a_numbered_brother_is_another_word(encoder, vectors):
    words = (word("sks", vectors(1)), word("sks2", vectors(2, seed=1)), word("sks2 dog", vectors(1, seed=2)))
    larger, names = enlarged(encoder, words)
    text = "sks2 dog, sks2 sks"
    with torch.inference_mode():
        expected = larger.module(ids_of(larger, f"{names['sks2 dog']}, {names['sks2']} {names['sks']}"))[0][0]
    made = embed(encoder, text, Treatment(words=words))
    assert torch.equal(made.states, expected) and made.occurring == {"sks", "sks2", "sks2 dog"}
    assert embed(encoder, "asks sks23", Treatment(words=words)).occurring == frozenset()


def test_words_of_another_encoder_are_plain_text(encoder, vectors):
    made = embed(encoder, "a sks cat", Treatment(words=(word("sks", vectors(1, 20), "text_encoder_2"),)))
    assert torch.equal(made.states, embed(encoder, "a sks cat").states)


def test_a_word_keeps_the_second_encoders_padding_and_penultimate_layer(second, vectors):
    words = (word("sks", vectors(2, 20), "text_encoder_2"),)
    larger, names = enlarged(second, words)
    with torch.inference_mode():
        expected = larger.module(ids_of(larger, f"a {names['sks']} cat!"), output_hidden_states=True)
    made = embed(second, "a sks cat!", Treatment(words=words))
    assert torch.equal(made.states, expected.hidden_states[-2][0]) and torch.equal(made.pooled, expected.text_embeds[0])


def test_what_one_pass_does_not_read_is_said(encoder):
    made = lay_out(encoder, "word " * 74 + "last extraordinarilyly, blue car.", PLAIN)
    assert made.dropped == ("extraordinarilyly,", "blue", "car.")
    assert lay_out(encoder, "word " * 75, PLAIN).dropped == ()


def test_vectors_that_one_pass_does_not_read_are_said(encoder, vectors):
    words = Treatment(words=(word("sks", vectors(4)),))
    assert lay_out(encoder, "word " * 73 + "sks sks", words).dropped == ("sks (the last 2 of 4 vectors)", "sks")
    made = lay_out(encoder, "word " * 75 + "sks, cat", words)
    assert made.dropped == ("sks", ",", "cat") and made.occurring == {"sks"}
    assert made.ids == lay_out(encoder, "word " * 75, PLAIN).ids


def test_more_vectors_than_positions_leave_the_end_in_its_place(encoder, vectors):
    words = (word("sks", vectors(90)),)
    larger, names = enlarged(encoder, words)
    with torch.inference_mode():
        expected = larger.module(ids_of(larger, names["sks"]))[0][0]
    assert torch.equal(embed(encoder, "sks", Treatment(words=words)).states[:77], expected)


@pytest.mark.parametrize(("broken", "says"), [
    (torch.zeros(0, WIDTH), "n at least 1"), (torch.zeros(WIDTH), r"shape \(16,\)"), (torch.ones(1, 20), "for another model"),
    (torch.full((1, WIDTH), float("nan")), "NaN"), (torch.ones(1, WIDTH, dtype=torch.long), "int64")])
def test_vectors_that_are_none_are_refused_by_name(encoder, broken, says):
    with pytest.raises(ValueError, match=f"'sks'.*{says}"):
        embed(encoder, "cat", Treatment(words=(word("sks", broken),)))


@pytest.mark.parametrize("tokens", [("sks", "SKS"), ("sks", "sks"), ("my  word", "my word")])
def test_two_words_of_one_name_are_refused(encoder, vectors, tokens):
    with pytest.raises(ValueError, match="same"):
        embed(encoder, "cat", Treatment(words=tuple(word(token, vectors(1)) for token in tokens)))


@pytest.mark.parametrize("token", ["", "  "])
def test_a_word_without_text_is_refused(encoder, vectors, token):
    with pytest.raises(ValueError, match="not a word"):
        embed(encoder, "cat", Treatment(words=(word(token, vectors(1)),)))


def test_an_encoder_without_projection_cannot_pool(encoder):
    with pytest.raises(ValueError, match="CLIPTextModelWithProjection"):
        embed(dataclasses.replace(encoder, pooled=True), "cat")


def test_neither_module_nor_tokenizer_is_changed(second, vectors):
    before = {name: value.clone() for name, value in second.module.state_dict().items()}
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in second.module.modules()]
    vocabulary = len(second.tokenizer)
    embed(second, "a sks cat", Treatment(words=(word("sks", vectors(2, 20), "text_encoder_2"),), weights={"cat": 1.4}))
    assert all(torch.equal(before[name], value) for name, value in second.module.state_dict().items())
    assert hooks == [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in second.module.modules()]
    assert len(second.tokenizer) == vocabulary


def test_threads_with_different_words_do_not_disturb_one_another(second, vectors):
    kinds = [Treatment(words=(word("sks", vectors(n, 20, seed=n), "text_encoder_2"),)) for n in (1, 2, 3)] + [Treatment()]
    expected = [embed(second, "a sks cat", kind).states for kind in kinds]
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda number: embed(second, "a sks cat", kinds[number % 4]).states, range(80)))
    assert all(torch.equal(states, expected[number % 4]) for number, states in enumerate(made))


def test_a_half_precision_encoder_takes_full_precision_vectors(encoder, vectors):
    half = TextEncoder(component="text_encoder", module=copy.deepcopy(encoder.module).bfloat16(), tokenizer=encoder.tokenizer)
    made = embed(half, "a sks cat", Treatment(words=(word("sks", vectors(1)),), weights={"cat": 1.2}))
    assert made.states.dtype == torch.bfloat16
    assert torch.allclose(made.states.float(), embed(encoder, "a sks cat", Treatment(
        words=(word("sks", vectors(1)),), weights={"cat": 1.2})).states, atol=0.2)


def test_importing_loads_nothing_heavy():
    code = "import sys, harness.text; print([m for m in ('torch', 'transformers') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                          cwd=Path(__file__).parent.parent.parent)
    assert done.stdout.strip() == "[]"
