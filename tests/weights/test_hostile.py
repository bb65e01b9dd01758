"""Whatever stands in a header, an index or a pickle: the answer is a model or a sentence with file and key, in no time."""

import json
import math
import random
import re
import struct

import pytest
import torch
from safetensors.torch import save_file

from harness.weights import ModelFileError, layout_of, open_model, open_tensors, single_file_layout
from harness.weights.files import DTYPE_BYTES
from tests.weights.tiny import tiny
from tests.weights.tiny_families import made, states, write_folder
from tests.work import work

TINY = tiny()
UNET = "model.diffusion_model."


def declare(path, tensors, metadata=None):
    """A safetensors file of zeros from {name: (dtype, shape)}, sparse, whatever the names are."""
    header, position = {"__metadata__": metadata or {}}, 0
    for name, (dtype, shape) in tensors.items():
        end = position + math.prod(shape) * DTYPE_BYTES[dtype]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [position, end]}
        position = end
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + position)
    return path


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory):
    """{name: (dtype, shape)} of a tiny SDXL single file."""
    folder = open_model(write_folder(tmp_path_factory.mktemp("sdxl"), states("sdxl")))
    return {p.name: (p.dtype, p.shape) for p in single_file_layout(folder)}


@pytest.mark.parametrize(("key", "shape", "said"), [
    ("conditioner.embedders.1.model.transformer.resblocks.0.attn.in_proj_weight", (61, 20), "a multiple of 3 rows"),
    ("conditioner.embedders.1.model.transformer.resblocks.0.attn.in_proj_bias", (), "a multiple of 3 rows"),
    ("conditioner.embedders.1.model.text_projection", (20,), "expected a matrix"),
    ("conditioner.embedders.1.model.text_projection", (2, 2, 2), "expected a matrix")])
def test_a_stored_tensor_that_cannot_be_cut_is_refused_with_file_and_key(tmp_path, sdxl, key, shape, said):
    path = declare(tmp_path / "m.safetensors", {**sdxl, key: ("F32", shape)})
    with pytest.raises(ModelFileError, match=said) as refused:
        open_model(path)
    assert "m.safetensors" in str(refused.value)
    assert repr(key) in str(refused.value)


def scaled(scale, weight="F8_E4M3"):
    file = {name: ("F16", tuple(t.shape)) for name, t in TINY.file().items()}
    key = f"{UNET}middle_block.1.transformer_blocks.0.attn1.to_q"
    return {**file, f"{key}.weight": (weight, file[f"{key}.weight"][1]), "scaled_fp8": ("F8_E4M3", (0,)),
            f"{key}.scale_weight": scale}


@pytest.mark.parametrize("scale", [("F32", (3,)), ("F32", (0,)), ("F32", (16,)), ("I64", ()), ("F8_E4M3", ()), ("F32", (1, 16))])
def test_a_scale_that_does_not_fit_is_refused_with_file_and_key(tmp_path, scale):
    with pytest.raises(ModelFileError, match=r"m\.safetensors: .*to_q\.scale_weight.*expected one floating-point number"):
        open_model(declare(tmp_path / "m.safetensors", scaled(scale)))


def test_a_scale_without_its_weight_is_refused(tmp_path):
    file = scaled(("F32", ()))
    del file[f"{UNET}middle_block.1.transformer_blocks.0.attn1.to_q.weight"]
    with pytest.raises(ModelFileError, match=r"to_q\.scale_weight' is the scale of .* which the file lacks"):
        open_model(declare(tmp_path / "m.safetensors", file))


@pytest.mark.parametrize("shape", [(), (1,), (16, 1)])
def test_scaled_weights_are_given_multiplied(tmp_path, shape):
    module = f"{UNET}middle_block.1.transformer_blocks.0.attn1.to_q"
    file = TINY.file()
    codes, scale = file[f"{module}.weight"].to(torch.float8_e4m3fn), torch.rand(shape) + 0.5
    extra = {f"{module}.scale_weight": scale, f"{module}.scale_input": torch.ones(()),
             "scaled_fp8": torch.zeros(0, dtype=codes.dtype)}
    save_file({**{n: t.contiguous() for n, t in file.items()}, f"{module}.weight": codes, **extra}, tmp_path / "m.safetensors")
    model = open_model(tmp_path / "m.safetensors")
    info = model.components["unet"]["mid_block.attentions.0.transformer_blocks.0.attn1.to_q.weight"]
    assert (info.dtype, info.scale, model.strays) == ("F8_E4M3", f"{module}.scale_weight", ())
    tensor = model.tensor("unet", "mid_block.attentions.0.transformer_blocks.0.attn1.to_q.weight")
    assert tensor.dtype == torch.float32
    assert torch.equal(tensor, codes.float() * (scale if shape == (16, 1) else scale.reshape(())))
    assert {p.name for p in layout_of(model) if p.role == "scale"} == set(extra)


@pytest.mark.parametrize(("one", "other"), [
    ("first_stage_model.quant_conv.bias", "vae.quant_conv.bias"),
    ("cond_stage_model.transformer.text_model.final_layer_norm.bias", "cond_stage_model.transformer.final_layer_norm.bias")])
def test_two_spellings_of_one_tensor_are_refused_with_both(tmp_path, one, other):
    with pytest.raises(ModelFileError, match=r"m\.safetensors.* are the same tensor") as refused:
        open_model(declare(tmp_path / "m.safetensors", dict.fromkeys((one, other), ("F16", (4,)))))
    assert one.split(".", 1)[1].split("transformer.")[-1] in str(refused.value)


@pytest.mark.parametrize("name", [f"{UNET}out.2.\x1b[2Jbias", f"{UNET}nan\x07", "\x1b]0;title\x07", f"{UNET}\u202egnp.weight",
                                  f"{UNET}\x9b1m"])
def test_no_name_reaches_a_terminal_as_it_is(tmp_path, name):
    try:
        said = open_model(declare(tmp_path / "m.safetensors", {f"{UNET}out.2.bias": ("F16", (4,)), name: ("F16", (4,))})).warnings
    except ModelFileError as error:
        said = (str(error),)
    assert said
    assert all(text.isprintable() for text in said)


@pytest.mark.parametrize("shard", ["../evil.safetensors", "/etc/passwd", "a/b.safetensors", "..", "", 7, None,
                                   "a\x1b.safetensors", "..\\x"])
def test_a_shard_outside_its_folder_is_refused(tmp_path, shard):
    folder = write_folder(tmp_path / "m", states("sd1"))
    save_file({"x": torch.ones(1)}, tmp_path / "evil.safetensors")
    index = folder / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"conv_in.weight": shard}}))
    with pytest.raises(ModelFileError, match=r"index\.json: says that 'conv_in\.weight' is in"):
        open_model(folder)


def test_a_shard_without_what_its_index_says_is_refused(tmp_path):
    folder = write_folder(tmp_path, states("sd1"))
    (folder / "unet" / "diffusion_pytorch_model.safetensors").rename(folder / "unet" / "one.safetensors")
    index = folder / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"conv_in.weight": "one.safetensors", "conv_9.weight": "one.safetensors"}}))
    with pytest.raises(ModelFileError, match=r"'conv_9\.weight' is in one\.safetensors, which does not hold it"):
        open_model(folder)


@pytest.mark.parametrize("index", ["[]", "{}", '{"weight_map": []}', '{"weight_map": {}}', "[" * 100_000, "\x00"])
def test_an_index_that_is_none_is_refused(tmp_path, index):
    folder = write_folder(tmp_path, states("sd1"))
    (folder / "unet" / "diffusion_pytorch_model.safetensors.index.json").write_text(index)
    with pytest.raises(ModelFileError, match=r"index\.json"):
        open_model(folder)


@pytest.mark.parametrize("shape", [(0, 1 << 62, 2), (0, 10**30), (1,) * 9, (0,) * 1000])
def test_absurd_shapes_are_refused_with_file_and_key(tmp_path, shape):
    path = declare(tmp_path / "m.safetensors", {f"{UNET}out.2.bias": ("F16", shape)})
    with pytest.raises(ModelFileError, match=r"m\.safetensors: 'model\.diffusion_model\.out\.2\.bias' has the shape"):
        open_model(path)


def test_a_number_too_long_to_be_one_is_refused(tmp_path):
    text = b'{"x": {"dtype": "F16", "shape": [' + b"9" * 5000 + b'], "data_offsets": [0, 0]}}'
    (tmp_path / "m.safetensors").write_bytes(struct.pack("<Q", len(text)) + text)
    with pytest.raises(ModelFileError, match="not the JSON"):
        open_model(tmp_path / "m.safetensors")


@pytest.mark.parametrize("shape", [(), (4,), (8, 4), (1, 2, 3, 4, 5, 6), (0, 4, 3, 3)])
def test_odd_shapes_of_known_tensors_open_or_are_refused_in_words(tmp_path, sdxl, shape):
    kinds = {re.sub(r"\d+", "N", key): key for key in sdxl}
    assert len(kinds) > 100
    for key in kinds.values():
        try:
            model = open_model(declare(tmp_path / "m.safetensors", {key: ("F32", shape)}))
            layout_of(model)
        except ModelFileError as error:
            assert "m.safetensors" in str(error)


def with_changed_names(tensors, seed):
    """The tensors with up to six names and forms changed by chance."""
    dice = random.Random(seed)
    names = list(tensors)
    changed = dict(tensors)
    for _ in range(dice.randint(1, 6)):
        name = dice.choice(names)
        entry = changed.pop(name, ("F16", (2, 2)))
        parts = name.split(".")
        where = dice.randrange(len(parts))
        odd = ["", "x", "-1", "99999999999999999999", "٣", "weight", "0", "\n", "model_ema", parts[where] * 2]
        parts[where] = dice.choice(odd)
        changed[".".join(parts)] = dice.choice([entry, ("I64", ()), ("F8_E5M2", (0, 3)), ("F32", (3, 1, 1, 1))])
    return changed


def test_a_header_with_changed_names_opens_or_is_refused_in_words(tmp_path, sdxl):
    refused = 0
    for seed in range(150):
        changed = with_changed_names(sdxl, seed)
        try:
            model = open_model(declare(tmp_path / "m.safetensors", changed))
            layout = layout_of(model)
        except ModelFileError as error:
            refused += 1
            assert "m.safetensors" in str(error), seed
            assert str(error).isprintable(), seed
        else:
            assert {p.name for p in layout} == set(changed), seed
            assert all(text.isprintable() for text in model.warnings), seed
    assert 0 < refused < 150


def test_the_work_with_odd_names_grows_as_their_number(tmp_path):
    calls = []
    for number in (1_000, 4_000):
        names = {f"{UNET}input_blocks.{n}.0.op.weight": ("F16", (0,)) for n in range(number)}
        file = declare(tmp_path / "m.safetensors", names)
        with work() as counted, pytest.raises(ModelFileError):
            open_model(file)
        calls.append(counted.calls)
    assert calls[1] < 6 * calls[0]


def test_more_tensors_than_any_model_has_are_refused(tmp_path):
    with pytest.raises(ModelFileError, match="declares 100001 tensors"):
        open_model(declare(tmp_path / "m.safetensors", {str(n): ("F16", (0,)) for n in range(100_001)}))


def test_position_ids_of_any_declared_length_cost_nothing(tmp_path):
    name = "cond_stage_model.transformer.text_model.embeddings.position_ids"
    path = declare(tmp_path / "m.safetensors", {f"{UNET}out.2.bias": ("F16", (4,)), name: ("I64", (1, 1 << 28))})
    assert "is not 0..268435455" in open_model(path).warnings[0]


@pytest.mark.parametrize("name", ["model_ema.diffusion_modelnothing", "betas", "v_pred",
                                  "cond_stage_model.transformer.text_model.embeddings.position_ids"])
def test_a_file_of_nothing_but_extras_is_no_model(tmp_path, name):
    with pytest.raises(ModelFileError, match="none of its 1 tensors is a"):
        open_model(declare(tmp_path / "m.safetensors", {name: ("I64", (1, 77))}))


def test_a_pickle_tensor_larger_than_its_storage_is_refused(tmp_path):
    torch.save({f"{UNET}out.2.bias": torch.zeros(1).expand(1 << 40)}, tmp_path / "m.ckpt")
    with pytest.raises(ModelFileError, match=r"m\.ckpt: 'model\.diffusion_model\.out\.2\.bias' declares \[1099511627776\]"):
        open_tensors(tmp_path / "m.ckpt")


def test_names_of_a_pickle_that_read_the_same_are_refused(tmp_path):
    torch.save({1: torch.ones(1), "1": torch.zeros(1)}, tmp_path / "m.ckpt")
    with pytest.raises(ModelFileError, match=r"m\.ckpt: two of its names"):
        open_tensors(tmp_path / "m.ckpt")


def test_a_sparse_tensor_in_a_pickle_is_refused(tmp_path):
    torch.save({f"{UNET}out.2.bias": torch.eye(3).to_sparse()}, tmp_path / "m.ckpt")
    with pytest.raises(ModelFileError, match=r"m\.ckpt"):
        open_tensors(tmp_path / "m.ckpt")


def test_pickles_that_are_other_things_are_named(tmp_path):
    torch.save({"string_to_param": {"*": torch.ones(1, 768)}, "string_to_token": {"*": 265}}, tmp_path / "a.pt")
    torch.save({768: (torch.ones(1),), "activation_func": "relu"}, tmp_path / "b.pt")
    for name, what in (("a.pt", "a textual inversion"), ("b.pt", "a hypernetwork")):
        with pytest.raises(ModelFileError, match=what):
            open_model(tmp_path / name)


@pytest.mark.parametrize(("ids", "said"), [
    (torch.arange(77)[None], ""), (torch.arange(77)[None].half(), "is stored as F16"),
    (torch.arange(77)[None] * 2, "is not 0..76"), (torch.arange(77, dtype=torch.int32)[None], "")])
def test_position_ids_that_are_none_are_reported(tmp_path, ids, said):
    path = TINY.write(tmp_path, **{"cond_stage_model.transformer.text_model.embeddings.position_ids": ids})
    warnings = open_model(path).warnings
    assert [said in warning for warning in warnings] == ([True] if said else [])


def test_what_was_made_of_a_hostile_looking_name_is_the_same_file(tmp_path):
    file = {**TINY.file(), "\x1b[2J": torch.ones(1)}
    save_file({n: t.contiguous() for n, t in file.items()}, tmp_path / "m.safetensors")
    model = open_model(tmp_path / "m.safetensors")
    assert made(model, layout_of(model)).keys() == file.keys()
