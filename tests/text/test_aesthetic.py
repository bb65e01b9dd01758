"""Aesthetic gradients turn a copy of the encoder towards an embedding, and their files are read without trust."""

import copy
import dataclasses

import pytest
import torch
from safetensors.torch import save_file

from harness.text import Aesthetic, Treatment, Word, embed, read_aesthetic
from tests.text.conftest import DIM, WIDTH


def towards(width=WIDTH, **changes):
    generator = torch.Generator().manual_seed(9)
    made = Aesthetic(embedding=torch.randn(DIM, generator=generator), projection=torch.randn(width, DIM, generator=generator),
                     weight=1.0, steps=3, rate=1e-3)
    return dataclasses.replace(made, **changes)


def by_hand(encoder, text, aesthetic):
    """Adam written out (Kingma and Ba 2015, algorithm 1) on a copy of the encoder."""
    module = copy.deepcopy(encoder.module).requires_grad_(True)
    ids = encoder.tokenizer([text], padding="max_length", truncation=True, max_length=77, return_tensors="pt").input_ids
    inner = getattr(module, "text_model", module)
    parameters = list(inner.parameters())
    first, second = ([torch.zeros_like(p) for p in parameters] for _ in range(2))
    target = aesthetic.embedding / aesthetic.embedding.norm()
    for step in range(1, aesthetic.steps + 1):
        pooled = inner(ids).last_hidden_state[0, int((ids[0] == 49407).int().argmax())] @ aesthetic.projection
        loss = -(pooled / pooled.norm()) @ target
        gradients = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            for p, g, m, v in zip(parameters, gradients, first, second, strict=True):
                m.mul_(0.9).add_(0.1 * g)
                v.mul_(0.999).add_(0.001 * g * g)
                p.sub_(aesthetic.rate * (m / (1 - 0.9**step)) / ((v / (1 - 0.999**step)).sqrt() + 1e-8))
    with torch.no_grad():
        return inner(ids, output_hidden_states=True)


def test_the_states_are_those_of_adam_written_out(encoder):
    expected = by_hand(encoder, "a blue car", towards()).last_hidden_state[0]
    made = embed(encoder, "a blue car", Treatment(aesthetic=towards())).states
    moved = (made - embed(encoder, "a blue car").states).norm()
    assert moved > 0.1
    assert (made - expected).norm() < 1e-3 * moved


def test_the_penultimate_layer_is_steered_and_the_pooled_text_is_not(second):
    expected = by_hand(second, "a blue car", towards(20)).hidden_states[-2][0]
    made, plain = embed(second, "a blue car", Treatment(aesthetic=towards(20))), embed(second, "a blue car")
    assert (made.states - expected).norm() < 1e-3 * (made.states - plain.states).norm()
    assert torch.equal(made.pooled, plain.pooled)


def test_the_weight_is_the_share_of_the_steered_states(encoder):
    plain, full = embed(encoder, "a cat").states, embed(encoder, "a cat", Treatment(aesthetic=towards())).states
    made = embed(encoder, "a cat", Treatment(aesthetic=towards(weight=0.3))).states
    assert torch.allclose(made, 0.7 * plain + 0.3 * full, atol=1e-6)


@pytest.mark.parametrize("off", [{"weight": 0.0}, {"steps": 0}, {"rate": 0.0}])
def test_switched_off_it_changes_no_bit(encoder, off):
    assert torch.equal(embed(encoder, "a cat", Treatment(aesthetic=towards(**off))).states, embed(encoder, "a cat").states)


def test_it_repeats_bit_for_bit_and_leaves_the_encoder_alone(encoder):
    before = {name: value.clone() for name, value in encoder.module.state_dict().items()}
    first, again = (embed(encoder, "a cat", Treatment(aesthetic=towards())).states for _ in range(2))
    assert torch.equal(first, again)
    assert all(torch.equal(before[name], value) for name, value in encoder.module.state_dict().items())
    assert all(not p.requires_grad and p.grad is None for p in encoder.module.parameters())


def test_words_stand_in_the_steered_encoder_and_weights_do_not(encoder, vectors):
    words = (Word(component="text_encoder", token="sks", vectors=vectors(2)),)
    made = embed(encoder, "a sks cat", Treatment(words=words, aesthetic=towards()))
    assert not torch.allclose(made.states, embed(encoder, "a sks cat", Treatment(aesthetic=towards())).states, atol=1e-2)
    weighted = embed(encoder, "a sks cat", Treatment(words=words, weights={"cat": 2.0}, aesthetic=towards()))
    assert torch.equal(weighted.states, made.states)


def test_it_works_inside_inference_mode_on_an_encoder_made_there(encoder):
    with torch.inference_mode():
        made_there = dataclasses.replace(encoder, module=copy.deepcopy(encoder.module))
        inside = embed(made_there, "a cat", Treatment(aesthetic=towards(
            embedding=towards().embedding + 0, projection=towards().projection + 0)))
    assert torch.equal(inside.states, embed(encoder, "a cat", Treatment(aesthetic=towards())).states)


def test_an_attached_lora_steers_as_its_merged_weights_do(encoder):
    from peft import LoraConfig, inject_adapter_in_model

    torch.manual_seed(0)
    attached = inject_adapter_in_model(LoraConfig(r=2, target_modules=["q_proj", "fc1"], init_lora_weights=False),
                                       copy.deepcopy(encoder.module)).eval()
    merged = copy.deepcopy(attached)
    for path, layer in list(merged.named_modules()):
        if hasattr(layer, "base_layer"):
            layer.merge()
            merged.set_submodule(path, layer.base_layer)
    live, fused = (embed(dataclasses.replace(encoder, module=module), "a cat", Treatment(aesthetic=towards())).states
                   for module in (attached, merged))
    assert torch.equal(live, fused)
    assert any(hasattr(layer, "base_layer") for layer in attached.modules())


def test_half_precision_is_steered_in_full(encoder):
    half = dataclasses.replace(encoder, module=copy.deepcopy(encoder.module).half())
    made = embed(half, "a cat", Treatment(aesthetic=towards())).states
    assert made.dtype == torch.float16
    assert torch.allclose(made.float(), embed(encoder, "a cat", Treatment(aesthetic=towards())).states, atol=0.05)


@pytest.mark.parametrize(("changes", "says"), [
    ({"projection": torch.ones(WIDTH + 1, DIM)}, rf"\(17, 12\).*expected \(dim,\) and \({WIDTH}, dim\)"),
    ({"embedding": torch.ones(DIM + 1)}, r"\(13,\)"), ({"embedding": torch.ones(1, DIM)}, r"\(1, 12\)"),
    ({"embedding": torch.zeros(DIM)}, "zero"), ({"projection": torch.full((WIDTH, DIM), float("nan"))}, "NaN"),
    ({"weight": 1.5}, "weight 1.5"), ({"weight": float("nan")}, "weight nan"), ({"steps": -1}, "steps -1"),
    ({"rate": -1.0}, "rate -1")])
def test_what_cannot_be_is_refused(encoder, changes, says):
    with pytest.raises(ValueError, match=says):
        embed(encoder, "a cat", Treatment(aesthetic=towards(**changes)))


def test_an_encoder_that_knows_no_images_cannot_be_steered(encoder):
    module = copy.copy(encoder.module)
    module.__class__ = type("T5EncoderModel", (type(encoder.module),), {})
    with pytest.raises(ValueError, match="T5EncoderModel; expected a text encoder of CLIP"):
        embed(dataclasses.replace(encoder, module=module), "a cat", Treatment(aesthetic=towards()))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize("shape", [(DIM,), (1, DIM)])
@pytest.mark.parametrize("name", ["look.pt", "look.safetensors"])
def test_a_file_is_read_as_one_row_of_float32(tmp_path, dtype, shape, name):
    values = torch.arange(1.0, DIM + 1).to(dtype).reshape(shape)
    save_file({"emb": values}, tmp_path / name) if name.endswith("s") else torch.save(values, tmp_path / name)
    read = read_aesthetic(tmp_path / name)
    assert read.dtype == torch.float32 and read.tolist() == list(range(1, DIM + 1))


class Malice:
    def __reduce__(self):
        return print, ("this must never be printed",)


@pytest.mark.parametrize(("content", "says"), [
    (torch.ones(2, DIM), r"\(2, 12\)"), (torch.ones(1, 1, DIM), "shape"), (torch.ones(DIM, dtype=torch.int64), "int64"),
    (torch.tensor(1.0), "shape"), (torch.ones(0), "0 numbers"), (torch.ones(1).expand(10**9), "1000000000 numbers"),
    (torch.full((DIM,), float("inf")), "infinity"), (torch.zeros(DIM), "zero"), ("text", "entries"), (3, "a int"),
    ([torch.ones(DIM)], "1 entries"), ({"*": torch.ones(DIM)}, "1 entries"), (Malice(), "plain tensor")])
def test_a_file_that_holds_something_else_is_refused_by_name(tmp_path, capsys, content, says):
    torch.save(content, tmp_path / "look.pt")
    with pytest.raises(ValueError, match=rf"look\.pt: .*{says}"):
        read_aesthetic(tmp_path / "look.pt")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("name", "data", "says"), [
    ("look.pt", b"no pickle", "a text"), ("look.safetensors", b"{}", "a JSON text"), ("look.png", b"\x89PNG\r\n", "an image"),
    ("look.pt", b"", "an empty file")])
def test_a_file_of_another_kind_is_refused_by_name(tmp_path, name, data, says):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=f"{name}.*{says}"):
        read_aesthetic(tmp_path / name)


def test_two_tensors_and_no_file_are_refused(tmp_path):
    save_file({"a": torch.ones(DIM), "b": torch.ones(DIM)}, tmp_path / "two.safetensors")
    with pytest.raises(ValueError, match=r"two\.safetensors: holds 2 entries"):
        read_aesthetic(tmp_path / "two.safetensors")
    with pytest.raises(ValueError, match=r"absent\.pt: no such file"):
        read_aesthetic(tmp_path / "absent.pt")
