"""Weights of words do what the tool they are named after does, at the tokens of the word and nowhere else."""

import pytest
import torch

from harness.text import WEIGHTINGS, Treatment, Word, embed
from harness.text.tokens import lay_out

TEXT = "a photo of a Blue car, blueish, (blue)"


def heavy(encoder, text, **weights):
    """Positions with a weight other than 1."""
    layout = lay_out(encoder, text, Treatment(weights={key.replace("_", " "): value for key, value in weights.items()}))
    return {position: weight for position, weight in enumerate(layout.weights) if weight != 1}


def test_all_tokens_of_every_occurrence_carry_the_weight(encoder):
    # Start, a, photo, of, a, blue, car, ",", blue+ish, ",", "(", blue, ")"
    ids = lay_out(encoder, TEXT, Treatment()).ids
    blue = encoder.tokenizer.convert_tokens_to_ids("blue</w>")
    expected = {position: 0.7 for position, id_ in enumerate(ids) if id_ == blue}
    assert len(expected) == 2
    assert heavy(encoder, TEXT, blue=0.7) == expected


def test_a_phrase_and_a_word_of_several_pieces_are_weighted_whole(encoder):
    assert heavy(encoder, "a BLUE\n car", blue_car=1.5) == {2: 1.5, 3: 1.5}
    pieces = len(encoder.tokenizer("extraordinarilyly", add_special_tokens=False).input_ids)
    assert pieces > 1
    assert heavy(encoder, "extraordinarilyly", extraordinarilyly=2) == dict.fromkeys(range(1, pieces + 1), 2)


def test_the_longest_phrase_wins(encoder):
    assert heavy(encoder, "blue car blue", blue_car=1.5, blue=0.5) == {1: 1.5, 2: 1.5, 3: 0.5}


def test_a_word_of_a_textual_inversion_is_weighted_at_all_its_vectors(encoder, vectors):
    words = (Word(component="text_encoder", token="sks", vectors=vectors(3)),)
    layout = lay_out(encoder, "a sks cat", Treatment(words=words, weights={"sks": 0.5}))
    assert layout.weights[:7] == (1, 1, 0.5, 0.5, 0.5, 1, 1)


def by_hand(encoder, text, position, weight, method):
    z, empty = embed(encoder, text).states, embed(encoder, "").states
    out = z.clone()
    if method == "comfyui":
        out[position] = empty[position] + weight * (z[position] - empty[position])
        return out
    out[position] = z[position] * weight
    return out if method == "multiply" else out * (z.mean() / out.mean())


@pytest.mark.parametrize("method", WEIGHTINGS)
@pytest.mark.parametrize("weight", [0.0, 0.6, 1.4, -0.5])
@pytest.mark.parametrize("kind", ["encoder", "second"])
def test_a_method_is_its_formula_written_out(request, kind, method, weight):
    encoder = request.getfixturevalue(kind)
    made = embed(encoder, "a blue car", Treatment(weights={"blue": weight}, method=method))
    assert torch.allclose(made.states, by_hand(encoder, "a blue car", 2, weight, method), atol=1e-5)
    assert made.occurring == {"blue"}


@pytest.mark.parametrize("method", ["comfyui", "multiply"])
def test_tokens_without_weight_keep_their_bits(encoder, method):
    made = embed(encoder, "a blue car", Treatment(weights={"blue": 1.3}, method=method)).states
    same = (made == embed(encoder, "a blue car").states).all(dim=1)
    assert same.tolist() == [position != 2 for position in range(77)]


def test_a1111_keeps_the_mean_of_the_whole(encoder):
    made = embed(encoder, "a blue car", Treatment(weights={"blue": 1.3}))
    assert float(made.states.mean()) == pytest.approx(float(embed(encoder, "a blue car").states.mean()), rel=1e-4)


@pytest.mark.parametrize("method", WEIGHTINGS)
@pytest.mark.parametrize("weights", [{}, {"blue": 1.0, "car": 1}, {"absent": 3.0}])
def test_weights_that_change_nothing_change_no_bit(second, method, weights):
    made = embed(second, "a blue car", Treatment(weights=weights, method=method))
    assert torch.equal(made.states, embed(second, "a blue car").states)


@pytest.mark.parametrize("method", WEIGHTINGS)
def test_the_pooled_text_has_no_weights(second, method):
    made = embed(second, "a blue car", Treatment(weights={"blue": 0.1}, method=method))
    assert torch.equal(made.pooled, embed(second, "a blue car").pooled)


def test_found_names_the_keys_that_occur_as_they_were_given(encoder):
    assert embed(encoder, "a blue car", Treatment(weights={"BLUE": 1, "red": 2})).occurring == {"BLUE"}


def test_an_unknown_method_is_refused_with_the_nearest(encoder):
    with pytest.raises(ValueError, match="'comfi'; did you mean 'comfyui'"):
        embed(encoder, "a", Treatment(method="comfi"))


@pytest.mark.parametrize("weight", [float("nan"), float("inf")])
def test_a_weight_that_is_no_number_is_refused_by_its_word(encoder, weight):
    with pytest.raises(ValueError, match="'blue'"):
        embed(encoder, "a", Treatment(weights={"blue": weight}))


def test_a_mean_of_zero_cannot_be_restored():
    states = torch.tensor([[1.0], [1.0]])
    with pytest.raises(ValueError, match="mean 0"):
        WEIGHTINGS["a1111"].function(states, torch.tensor([[1.0], [-1.0]]), states)
