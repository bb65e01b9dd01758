"""Textual inversions of every kind, the restricted unpickler, and what only looks like one."""

import collections
import io
import os
import pickle
import zipfile

import pytest
import torch

from harness.adapters.live_plan import AdapterError
from harness.adapters.reading import read_changes, recognise_file
from harness.adapters.unpickle import RefusedError, unpickle
from tests.adapters import fixtures as fx

VECTORS = torch.arange(48.0).reshape(2, 24)


def words(reading):
    return {(word.component, word.token): word.vectors for word in reading.embeddings}


def only(reading, component="text_encoder", token="word"):
    assert reading.format == "textual-inversion" and not reading.changes
    assert torch.equal(words(reading)[component, token], VECTORS)


def test_a1111s_file_reads_with_its_name(tmp_path):
    torch.save({"string_to_token": {"*": 265}, "string_to_param": {"*": VECTORS}, "name": "word", "step": 500,
                "sd_checkpoint": None, "sd_checkpoint_name": None}, tmp_path / "file.pt")
    only(read_changes(tmp_path / "file.pt", fx.sd1(), "sd1"))


def test_failure_13_a1111s_file_without_a_name_takes_the_files(tmp_path):
    torch.save({"string_to_token": {"*": torch.tensor(265)}, "string_to_param": {"*": VECTORS}}, tmp_path / "word.pt")
    reading = read_changes(tmp_path / "word.pt", fx.sd1(), "sd1")
    only(reading)
    assert reading.keys["text_encoder"] == {"consumed": ("string_to_token.*",), "applied": ("string_to_param.*",)}


def test_diffusers_file_reads_with_its_key_and_a_single_vector_is_a_row(tmp_path):
    file = fx.save(tmp_path / "learned_embeds.safetensors", {"<cat>": torch.ones(24)})
    assert words(read_changes(file, fx.sd1(), "sd1"))["text_encoder", "<cat>"].shape == (1, 24)
    torch.save({"plain word": VECTORS}, tmp_path / "learned_embeds.bin")
    only(read_changes(tmp_path / "learned_embeds.bin", fx.sd1(), "sd1"), token="plain word")


def test_kohyas_file_takes_the_files_name(tmp_path):
    only(read_changes(fx.save(tmp_path / "word.safetensors", {"emb_params": VECTORS}), fx.sd1(), "sd1"))


@pytest.mark.parametrize(("names", "suffix"), [
    (("clip_l", "clip_g"), ".safetensors"), (("text_encoders_0", "text_encoders_1"), ".pti"), (("clip_l", "clip_g"), ".pt")])
def test_failure_13_sdxls_two_encoders_are_one_word_each(names, suffix, tmp_path):
    tensors = {names[0]: VECTORS, names[1]: torch.ones(2, 40)}
    file = tmp_path / f"word{suffix}"
    if suffix == ".safetensors":
        fx.save(file, tensors)
    else:
        torch.save(tensors, file)
    reading = read_changes(file, fx.sdxl(), "sdxl")
    only(reading)
    assert words(reading)["text_encoder_2", "word"].shape == (2, 40)
    fx.closes(reading, tensors)


def test_an_encoder_that_the_model_lacks_is_listed(tmp_path):
    file = fx.save(tmp_path / "word.safetensors", {"clip_l": VECTORS, "clip_g": torch.ones(2, 40)})
    assert read_changes(file, fx.sd1(), "sd1").keys["text_encoder_2"]["absent_component"] == ("clip_g",)


def test_vectors_of_another_models_width_are_an_error(tmp_path):
    with pytest.raises(AdapterError, match="25 numbers, but text_encoder takes 24"):
        read_changes(fx.save(tmp_path / "a.safetensors", {"emb_params": torch.ones(2, 25)}), fx.sd1(), "sd1")


def test_vectors_with_nan_are_an_error(tmp_path):
    with pytest.raises(AdapterError, match=r"emb_params.*NaN"):
        read_changes(fx.save(tmp_path / "a.safetensors", {"emb_params": VECTORS / 0}), fx.sd1(), "sd1")


def compvis(path):
    """What CompVis' trainer saved: a ParameterDict, which weights-only loading refuses."""
    torch.save({"string_to_token": {"*": torch.tensor(265)},
                "string_to_param": torch.nn.ParameterDict({"*": torch.nn.Parameter(VECTORS)})}, path)
    return path


def test_compvis_file_reads_through_the_restricted_unpickler(tmp_path):
    with pytest.raises(pickle.UnpicklingError):
        torch.load(compvis(tmp_path / "word.pt"), weights_only=True)
    only(read_changes(tmp_path / "word.pt", fx.sd1(), "sd1"))


class Runs:
    def __init__(self, function, *arguments):
        self.called = function, arguments

    def __reduce__(self):
        return self.called


@pytest.mark.parametrize("thing", [Runs(print, "run!"), Runs(eval, "1+1"), Runs(os.getcwd),
                                   torch.nn.Linear(2, 2)], ids=["print", "eval", "getcwd", "module"])
def test_anything_else_is_refused_by_its_name_and_nothing_runs(thing, tmp_path, capsys):
    torch.save({"string_to_param": thing}, tmp_path / "word.pt")
    with pytest.raises(RefusedError, match=r"'[\w.]+', which could run code"):
        unpickle(tmp_path / "word.pt")
    with pytest.raises(AdapterError, match="which could run code"):
        read_changes(tmp_path / "word.pt", fx.sd1(), "sd1")
    assert capsys.readouterr().out == ""


def archive(path, data):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", data)
        file.writestr("archive/data/0", b"\0" * 8)
    return path


@pytest.mark.parametrize("size", [((4, 4), (0, 0)), ((3,), (1,)), ((-1,), (1,)), ((2, 2), (1,)), ((10**9, 10**9), (0, 0))])
def test_a_tensor_larger_than_its_storage_is_refused(size, tmp_path):
    class Writer(pickle.Pickler):
        def persistent_id(self, value):
            return ("storage", torch.FloatStorage, "0", "cpu", 2) if value == "here" else None

    data = io.BytesIO()
    from torch._utils import _rebuild_tensor_v2

    Writer(data, protocol=2).dump({"a": Runs(_rebuild_tensor_v2, "here", 0, *size, False, collections.OrderedDict())})
    with pytest.raises(RefusedError, match=r"\btensor\b"):
        unpickle(archive(tmp_path / "a.pt", data.getvalue()))


def test_a_bare_vector_is_an_aesthetic_gradient_and_refused(tmp_path):
    torch.save(torch.ones(1, 768), tmp_path / "aesthetic.pt")
    with pytest.raises(AdapterError, match="aesthetic gradient"):
        recognise_file(tmp_path / "aesthetic.pt")


def test_a_hypernetwork_is_refused_by_name(tmp_path):
    torch.save({768: [{"linear.0.weight": torch.ones(2, 2)}], "name": "h"}, tmp_path / "hyper.pt")
    with pytest.raises(AdapterError, match="this is a hypernetwork"):
        recognise_file(tmp_path / "hyper.pt")


def test_a_file_of_dummy_weights_is_refused(tmp_path):
    torch.save({"dummy_weights": torch.ones(100, 100)}, tmp_path / "pytorch_lora_weights.bin")
    with pytest.raises(AdapterError, match="dummy weights"):
        recognise_file(tmp_path / "pytorch_lora_weights.bin")


def test_a_picture_is_refused(tmp_path):
    (tmp_path / "word.png").write_bytes(b"\x89PNG")
    with pytest.raises(AdapterError, match=r"save the embedding"):
        recognise_file(tmp_path / "word.png")


def test_recognising_says_the_words_and_the_base(tmp_path):
    said = recognise_file(fx.save(tmp_path / "word.safetensors", {"clip_l": torch.ones(1, 768), "clip_g": torch.ones(1, 1280)}))
    assert (said.format, said.base, said.tokens) == ("textual-inversion", "Stable Diffusion XL", ("word",))


def test_a_blank_word_is_refused_by_the_file(tmp_path):
    torch.save({"string_to_param": {"*": VECTORS}, "name": "  "}, tmp_path / "word.pt")
    with pytest.raises(AdapterError, match=r"word\.pt: 'string_to_param\.\*' is for the word '  '"):
        read_changes(tmp_path / "word.pt", fx.sd1(), "sd1")


@pytest.mark.parametrize(("name", "word"), [("cat.pt", "cat"), ("cat", "cat"), ("toy.pt", "")])
def test_the_files_name_is_a_second_word_where_it_is_another(name, word, tmp_path):
    torch.save({"toy": torch.ones(1, 768)}, tmp_path / name)
    recognised = recognise_file(tmp_path / name)
    assert (recognised.tokens, recognised.file_word) == (("toy",), word)
