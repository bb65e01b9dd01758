"""Every format of ROWS: its deltas are the formula's, its account closes, and one odd name in it is an error that names it."""

import numpy as np
import pytest
import torch

from harness.adapters.kinds import bias_delta, changed_weight, delta
from harness.adapters.live_plan import AdapterError
from harness.adapters.reading import read_changes, recognise_file
from tests.adapters import fixtures as fx
from tests.adapters.every_format import ROWS, model

by_row = pytest.mark.parametrize("name", ROWS)


def read(name, folder, **changed):
    made = ROWS[name]()
    for field, value in changed.items():
        setattr(made, field, value)
    return made, read_changes(made.save(folder), *model(made.base))


def weight(shape):
    return np.random.default_rng(3).standard_normal(shape).astype(np.float32)


@by_row
def test_deltas_are_the_formulas_within_1e_6(name, tmp_path):
    made, reading = read(name, tmp_path)
    shapes = model(made.base)[0]
    assert set(reading.changes) == set(made.effects) | set(made.biases)
    for place, effect in made.effects.items():
        w0 = weight(shapes[place[0]][place[1]])
        expected = effect(w0.astype(np.float64))
        found = delta(reading.changes[place], torch.from_numpy(w0)).double().numpy()
        assert np.linalg.norm(found - expected) <= 1e-6 * (np.linalg.norm(expected) + np.linalg.norm(w0) * name.startswith(
            ("DoRA", "OFT", "BOFT"))), place


@pytest.mark.parametrize("name", [name for name in ROWS if name != "BOFT"])
def test_a_weight_at_a_strength_is_the_weight_and_so_much_of_the_delta(name, tmp_path):
    """BOFT turns by parts, so that its strength is not linear; test_kinds.py has it."""
    made, reading = read(name, tmp_path)
    for place, effect in made.effects.items():
        w0 = weight(model(made.base)[0][place[0]][place[1]])
        expected = w0 - 0.6 * effect(w0.astype(np.float64))
        found = changed_weight(reading.changes[place], torch.from_numpy(w0), -0.6).double().numpy()
        assert np.linalg.norm(found - expected) <= 1e-6 * np.linalg.norm(expected), place


@by_row
def test_biases_and_words_are_those_of_the_file(name, tmp_path):
    made, reading = read(name, tmp_path)
    found = {place: bias for place, change in reading.changes.items() if (bias := bias_delta(change)) is not None}
    assert set(found) == set(made.biases)
    assert all(np.array_equal(found[place].numpy(), made.biases[place]) for place in found)
    words = {(word.component, word.token): word.vectors for word in reading.embeddings}
    assert set(words) == set(made.words)
    assert all(np.array_equal(words[place].numpy(), made.words[place]) for place in words)


@by_row
def test_the_account_closes_and_nothing_is_refused(name, tmp_path):
    made, reading = read(name, tmp_path)
    fx.closes(reading, made.tensors)
    assert {status for by_status in reading.keys.values() for status in by_status} <= {"applied", "consumed"}


@by_row
def test_nothing_is_odd_about_a_file_as_its_tool_writes_it(name, tmp_path):
    assert recognise_file(ROWS[name]().save(tmp_path)).warnings == ()


def endings(tensors):
    """One key for each ending and each beginning, the first of its sort."""
    return {key for sort in ((lambda key: key.replace(":", ".").rpartition(".")[2]), (lambda key: key[:5]))
            for key in {sort(key): key for key in reversed(tensors)}.values()}


@by_row
@pytest.mark.parametrize("how", ["beginning", "middle", "ending"])
def test_a_renamed_key_fails_and_is_named(name, how, tmp_path):
    """Of every ending, one at a time. A list has no names: there a tensor that is missing is the same damage."""
    tensors = ROWS[name]().tensors
    if ROWS[name]().as_list:
        with pytest.raises(AdapterError, match=f"a list of {len(tensors) - 1} "):
            read(name, tmp_path, tensors=dict(list(tensors.items())[1:]))
        return
    for old in sorted(endings(tensors)):
        middle = len(old) // 2
        new = {"beginning": "x" + old, "middle": f"{old[:middle]}q{old[middle:]}", "ending": old + "x"}[how]
        if old.startswith("bundle_emb.") and how == "middle":
            continue  # it is in the word then, which may be any
        with pytest.raises(AdapterError) as error:
            read(name, tmp_path, tensors={new if key == old else key: value for key, value in tensors.items()})
        assert new in str(error.value), f"{new} is not in {error.value}"
