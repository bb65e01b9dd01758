"""Hypernetworks change what keys and values are made from by the formula, compose with LoRAs, and come off without a trace."""

import copy
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from harness.adapters import AdapterError
from harness.adapters.hypernetwork import ACTIVATIONS, hook, is_hypernetwork, read_hypernetwork, recognises, run_network
from tests.adapters.conftest import forward, new_unet

A1111_CLASSES = {"swish": "Hardswish", "leakyrelu": "LeakyReLU", "linear": "Identity"} | {
    name.lower(): name for name in ("ReLU", "ELU", "Tanh", "Sigmoid", "Softsign", "Mish", "SiLU", "GELU", "SELU", "CELU",
                                    "ReLU6", "Hardtanh", "Hardsigmoid", "Hardshrink", "Softshrink", "Tanhshrink", "Softplus",
                                    "LogSigmoid", "Hardswish")}


def sequential(width, structure=(1, 2, 1), activation="linear", norm=False, output=True, dropout=()):
    """A network as A1111 builds it, of torch's own modules; `dropout` are the layers that one follows."""
    made = []
    for number in range(len(structure) - 1):
        inner, outer = int(width * structure[number]), int(width * structure[number + 1])
        made.append(nn.Linear(inner, outer))
        if activation != "linear" and (output or number < len(structure) - 2):
            made.append(getattr(nn, A1111_CLASSES[activation])())
        made += [nn.LayerNorm(outer)] if norm else []
        made += [nn.Dropout(0.3)] if number in dropout else []
    for module in made:
        for parameter in module.parameters():
            nn.init.normal_(parameter, std=0.3)
    return nn.Sequential(*made).eval().requires_grad_(False)


def pairs(widths=(16, 24), seed=0, **settings):
    torch.manual_seed(seed)
    return {width: (sequential(width, **settings), sequential(width, **settings)) for width in widths}


def stored(networks):
    return {width: tuple({f"linear.{name}": value for name, value in half.state_dict().items()} for half in both)
            for width, both in networks.items()}


@pytest.fixture
def read(tmp_path):
    def write(content, name="style.pt"):
        torch.save(content, tmp_path / name)
        return read_hypernetwork(tmp_path / name)

    return write


@pytest.fixture
def unet():
    torch.set_num_threads(1)
    return new_unet()


def attentions(unet):
    return [module for module in unet.modules() if hasattr(module, "to_k")]


def by_hand(unet, nets, weight):
    """The formula written into every attention's forward, in place of diffusers' own; forward of the whole U-Net with it."""
    changed = copy.deepcopy(unet)

    def attend(self, hidden_states, encoder_hidden_states=None, **_):
        keys = values = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        for net in nets:
            if keys.shape[-1] in net:
                of_keys, of_values = net[keys.shape[-1]]
                keys, values = keys + weight * of_keys(keys), values + weight * of_values(values)
        q, k, v = (x.unflatten(2, (self.heads, -1)).transpose(1, 2)
                   for x in (self.to_q(hidden_states), self.to_k(keys), self.to_v(values)))
        out = ((q @ k.transpose(2, 3)) * self.scale).softmax(-1) @ v
        return self.to_out[0](out.transpose(1, 2).flatten(2))

    for module in attentions(changed):
        module.forward = attend.__get__(module)
    return forward(changed)


@pytest.mark.parametrize("weight", [1.0, 0.4, -1.0])
def test_keys_and_values_are_made_by_the_formula(unet, read, weight):
    networks = pairs(activation="swish", norm=True)
    net = read({**stored(networks), "activation_func": "swish", "is_layer_norm": True, "layer_structure": [1, 2, 1]})
    plain, expected = forward(unet), by_hand(unet, [networks], weight)
    assert torch.allclose(by_hand(unet, [], 1), plain, atol=1e-5)
    hook(net, unet, weight)
    assert (forward(unet) - expected).norm() < 1e-5 * expected.norm() < (plain - expected).norm()


def test_a_width_alone_reaches_only_attention_of_that_width(unet, read):
    networks = pairs(widths=(24,))
    hooked = hook(read(stored(networks)), unet, 1.0)
    assert torch.allclose(forward(unet), by_hand(new_unet(), [networks], 1.0), atol=1e-5)
    assert set(hooked.applies) == {24} and all(path.endswith("attn2") for path in hooked.applies[24])
    assert hooked.idle == () and hooked.bare == (16, 32)


def test_widths_that_no_attention_has_are_told_and_none_at_all_is_an_error(unet, read):
    assert hook(read(stored(pairs(widths=(24, 20, 8)))), unet, 1.0).idle == (8, 20)
    with pytest.raises(AdapterError, match=r"style\.pt: .*8, 20, but the model's attention has 16, 24"):
        hook(read(stored(pairs(widths=(20, 8)))), unet, 1.0)


def test_weight_zero_and_removal_leave_the_bits_of_the_model(unet, read):
    plain = forward(unet)
    hooked = hook(read(stored(pairs())), unet, 1.0)
    changed = forward(unet)
    hooked.set_weight(0.0)
    assert torch.equal(forward(unet), plain)
    hooked.set_weight(lambda: 1.0)
    assert torch.equal(forward(unet), changed) and not torch.equal(changed, plain)
    hooked.remove()
    hooked.remove()
    assert torch.equal(forward(unet), plain)
    assert not any(module._forward_pre_hooks for module in unet.modules())


def test_several_apply_in_the_order_in_which_they_came_whatever_comes_off(unet, read):
    first, second, third = (pairs(seed=seed, activation="tanh") for seed in (1, 2, 3))
    hooks = [hook(read({**stored(net), "activation_func": "tanh"}), unet, 0.5) for net in (first, second, third)]
    assert torch.allclose(forward(unet), by_hand(new_unet(), [first, second, third], 0.5), atol=1e-5)
    hooks[1].remove()
    assert torch.allclose(forward(unet), by_hand(new_unet(), [first, third], 0.5), atol=1e-5)


def with_lora(unet):
    """LoRAs around to_k and to_v of every attention, by PEFT."""
    from peft import LoraConfig
    from peft.tuners.lora.layer import Linear

    torch.manual_seed(4)
    for path, layer in [(p, m) for p, m in unet.named_modules() if p.endswith(("to_k", "to_v"))]:
        made = Linear(layer, "style", config=LoraConfig(r=2, init_lora_weights=False), r=2, lora_alpha=4)
        unet.set_submodule(path, made.eval())
    return unet


def without_lora(unet):
    for path, layer in [(p, m) for p, m in unet.named_modules() if hasattr(m, "base_layer")]:
        unet.set_submodule(path, layer.base_layer)


@pytest.mark.parametrize("when", ["before", "after", "after a forward"])
def test_a_lora_sees_the_changed_context_whenever_it_is_attached(unet, read, when):
    networks = pairs()
    net, reference = read(stored(networks)), with_lora(new_unet())
    if when == "before":
        with_lora(unet)
    hook(net, unet, 1.0)
    if when == "after a forward":
        forward(unet)
    if when != "before":
        with_lora(unet)
    expected = by_hand(reference, [networks], 1.0)
    assert (forward(unet) - expected).norm() < 1e-5 * expected.norm()
    assert not torch.allclose(expected, by_hand(new_unet(), [networks], 1.0), atol=1e-3)


def test_a_lora_that_goes_leaves_the_hypernetwork_and_order_and_removal_hold(unet, read):
    first, second, plain = pairs(seed=1), pairs(seed=2), forward(unet)
    hooks = [hook(read(stored(first)), unet, 1.0)]
    forward(unet)
    with_lora(unet)
    hooks.append(hook(read(stored(second)), unet, 1.0))
    assert torch.allclose(forward(unet), by_hand(with_lora(new_unet()), [first, second], 1.0), rtol=1e-3, atol=1e-4)
    without_lora(unet)
    assert torch.allclose(forward(unet), by_hand(new_unet(), [first, second], 1.0), rtol=1e-3, atol=1e-4)
    for hooked in hooks:
        hooked.remove()
    assert torch.equal(forward(unet), plain)
    assert not any(module._forward_pre_hooks for module in unet.modules())


def test_threads_share_a_hooked_model(unet, read):
    hook(read(stored(pairs())), unet, 1.0)
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: forward(unet), range(8)))
    assert all(torch.equal(out, made[0]) for out in made)
    hooks = [len(layer._forward_pre_hooks) for module in attentions(unet) for layer in (module.to_k, module.to_v)]
    assert max(hooks) == 1


def test_a_copy_of_a_hooked_model_is_a_model_of_its_own(unet, read):
    hooked = hook(read(stored(pairs())), unet, 1.0)
    changed = forward(unet)
    twin = copy.deepcopy(unet)
    hooked.remove()
    assert torch.equal(forward(twin), changed)


def test_it_follows_the_models_dtype(unet, read):
    net = read(stored(pairs()))
    hook(net, unet, 0.5)
    expected = forward(unet)
    unet.to(torch.bfloat16)
    generator = torch.Generator().manual_seed(7)
    noise, context = (torch.randn(*shape, generator=generator).bfloat16() for shape in ((2, 4, 8, 8), (2, 12, 24)))
    made = unet(noise, 500, encoder_hidden_states=context).sample
    assert made.dtype == torch.bfloat16 and torch.allclose(made.float(), expected, atol=0.15)


def test_a_weight_that_is_no_number_is_refused(unet, read):
    with pytest.raises(AdapterError, match="weight nan"):
        hook(read(stored(pairs())), unet, float("nan"))
    assert not any(module._forward_pre_hooks for module in unet.modules())


@pytest.mark.parametrize("activation", ["linear", *ACTIVATIONS])
@pytest.mark.parametrize("output", [None, True, False])
@pytest.mark.parametrize("norm", [False, True])
def test_a_network_is_what_torchs_modules_make_of_its_settings(read, activation, output, norm):
    structure = [1, 2, 1.5, 1]
    networks = pairs(widths=(8,), structure=structure, activation=activation, norm=norm, output=output in (None, True))
    said = {"layer_structure": structure, "activation_func": activation, "is_layer_norm": norm}
    net = read({**stored(networks), **said, **({} if output is None else {"activate_output": output})})
    context = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(1))
    for made, expected in zip(net.layers[8], networks[8], strict=True):
        assert torch.allclose(run_network(made, context), expected(context), atol=1e-5)


@pytest.mark.parametrize("dropout", [(0,), (0, 1), (1,)])
def test_dropout_shifts_names_and_does_nothing_else(read, dropout):
    networks = pairs(widths=(8,), structure=[1, 2, 2, 1], activation="relu", norm=True, dropout=dropout)
    net = read({**stored(networks), "layer_structure": [1, 2, 2, 1], "activation_func": "relu", "is_layer_norm": True,
                "use_dropout": True, "last_layer_dropout": 1 in dropout, "dropout_structure": [0, 0.3, 0.3, 0]})
    context = torch.randn(2, 5, 8)
    assert torch.allclose(run_network(net.layers[8][0], context), networks[8][0](context), atol=1e-5)


def test_the_first_files_have_two_layers_and_no_settings(read):
    networks = pairs(widths=(8,))
    old = {8: tuple({name.replace("linear.0", "linear1").replace("linear.1", "linear2"): value for name, value in half.items()}
                    for half in stored(networks)[8])}
    net = read(old)
    context = torch.randn(2, 5, 8)
    assert torch.allclose(run_network(net.layers[8][1], context), networks[8][1](context), atol=1e-6)
    assert "8.1.linear2.bias" in net.keys["unet"]["applied"]


def test_every_tensor_and_setting_is_accounted_for(read):
    content = {**stored(pairs()), "layer_structure": None, "activation_func": None, "use_dropout": False, "step": 12000,
               "name": "style", "sd_checkpoint": None, "optional_info": "painted"}
    net = read(content)
    assert len(net.keys["unet"]["applied"]) == 2 * 2 * 4
    assert set(net.keys["unet"]["consumed"]) == {"layer_structure", "activation_func", "use_dropout"}
    assert net.source == "style.pt" and net.facts["step"] == "12000" and net.facts["layer_structure"] == "1, 2, 1"
    assert net.facts["name"] == "style" and net.facts["activations"] == "linear, linear"


def test_only_pairs_under_whole_numbers_are_recognised():
    assert recognises(stored(pairs())) and recognises({768: ("not", "understood", "yet")})
    for other in (None, [1], {}, {"768": ({}, {})}, {True: ({}, {})}, {0: torch.ones(1)}, {"name": "x"}):
        assert not recognises(other)


def test_asking_whether_a_file_is_one_never_fails(tmp_path):
    torch.save(stored(pairs(widths=(8,))), tmp_path / "style.pt")
    (tmp_path / "broken.pt").write_bytes(b"no pickle")
    torch.save({"a": torch.ones(2)}, tmp_path / "other.pt")
    asked = {name: is_hypernetwork(tmp_path / name) for name in ("style.pt", "broken.pt", "other.pt", "absent.pt")}
    assert asked == {"style.pt": True, "broken.pt": False, "other.pt": False, "absent.pt": False}


def spoilt(change):
    content = {**stored(pairs(widths=(8,))), "layer_structure": [1, 2, 1], "activation_func": "linear"}
    change(content)
    return content


def half(content):
    return content[8][1]


@pytest.mark.parametrize(("change", "says"), [
    (lambda c: c.update({8: (c[8][0],)}), "8 is a tuple of 1; expected a pair"),
    (lambda c: c.update({8: {"k": c[8][0]}, 4: c[8]}), "8 is a dict of 1; expected a pair"),
    (lambda c: c.update({8: (c[8][0], "text")}), r"8\.1 is a str of 4; expected a network's tensors"),
    (lambda c: c.update({8: (c[8][0], {})}), r"8\.1 is a dict of 0"),
    (lambda c: half(c).pop("linear.1.bias"), r"8\.1\.linear\.1\.bias is missing"),
    (lambda c: half(c).update({"linear.0.weight": "text"}), r"8\.1\.'linear\.0\.weight' is a str; expected a floating"),
    (lambda c: half(c).update({"linear.0.weight": torch.ones(16, 8, dtype=torch.int8)}), r"torch\.int8; expected a floating"),
    (lambda c: half(c).update({"linear.0.weight": torch.ones(8, 16)}), r"has shape \(8, 16\); expected \(16, 8\)"),
    (lambda c: half(c).update({"linear.0.bias": torch.tensor(1.0)}), r"has shape \(\); expected \(16,\)"),
    (lambda c: half(c).update({"linear.0.bias": torch.ones(1).expand(10**9)}), "more numbers than the file holds"),
    (lambda c: half(c)["linear.0.bias"].fill_(float("nan")), r"linear\.0\.bias' contains NaN"),
    (lambda c: half(c)["linear.1.weight"].fill_(float("-inf")), "contains NaN or infinity"),
    (lambda c: half(c).update({"linear.7.bias": torch.ones(8)}), r"linear\.7\.bias\b.*left over"),
    (lambda c: half(c).update({"other.weight": torch.ones(8)}), "'other.weight'"),
    (lambda c: half(c).update({"linear1.bias": torch.ones(16)}), "twice"),
    (lambda c: half(c).update({"linear.x.bias\n": torch.ones(16)}), "linear.x.bias"),
    (lambda c: c.update({"activation_func": "relu"}), r"linear\.2\.weight is missing; .* activation 'relu'"),
    (lambda c: c.update({"activation_func": "prelu"}), "activation_func is 'prelu'; known are linear, relu"),
    (lambda c: c.update({"activation_func": 3}), "activation_func is '3'"),
    (lambda c: c.update({"is_layer_norm": True}), r"linear\.1\.weight has shape \(8, 16\); expected \(16,\)"),
    (lambda c: c.update({"is_layer_norm": "yes"}), "is_layer_norm is 'yes'; expected true or false"),
    (lambda c: c.update({"layer_structure": [1, 3, 1]}), "expected (24, 8)".replace("(", r"\(").replace(")", r"\)")),
    (lambda c: c.update({"layer_structure": [1, 2]}), "layer_structure is"),
    (lambda c: c.update({"layer_structure": "121"}), "layer_structure is '121'"),
    (lambda c: c.update({"layer_structure": [1, float("nan"), 1]}), "layer_structure is"),
    (lambda c: c.update({"layer_structure": [1, 1e9, 1]}), "expected widths from 1 to"),
    (lambda c: c.update({"layer_structure": [1, 0.01, 1]}), "expected widths from 1 to"),
    (lambda c: c.update({-8: c[8]}), "-8 with the layer_structure"),
    (lambda c: c.update({"surprise": torch.ones(3)}), "'surprise' is an unknown Tensor"),
    (lambda c: c.update({2.5: c[8]}), "'2.5' is a float; expected widths"),
])
def test_what_is_not_understood_is_refused_with_file_and_key(read, change, says):
    with pytest.raises(AdapterError, match=rf"style\.pt: .*{says}"):
        read(spoilt(change))


class Malice:
    def __reduce__(self):
        return print, ("this must never be printed",)


@pytest.mark.parametrize(("content", "says"), [
    ({"a": torch.ones(2)}, "not a hypernetwork"), (torch.ones(2), "not a hypernetwork"), ([1, 2], "not a hypernetwork"),
    ({8: ({"linear.0.weight": Malice()}, {})}, "could run code|not plain tensors|weights only")])
def test_a_file_of_another_kind_is_refused(read, capsys, content, says):
    with pytest.raises(AdapterError, match=rf"style\.pt: .*({says})"):
        read(content)
    assert capsys.readouterr().out == ""


def test_a_web_page_a_missing_file_and_another_format_are_refused_by_name(tmp_path):
    (tmp_path / "style.pt").write_bytes(b"<!DOCTYPE html><html>not found</html>")
    for name, says in (("style.pt", "a web page"), ("absent.pt", "no such file"), ("style.safetensors", "no such file")):
        with pytest.raises(AdapterError, match=rf"{name}: .*{says}"):
            read_hypernetwork(tmp_path / name)
    save_file({"x": torch.ones(1)}, tmp_path / "style.safetensors")
    with pytest.raises(AdapterError, match=r"style\.safetensors: a safetensors file; expected a hypernetwork"):
        read_hypernetwork(tmp_path / "style.safetensors")


def test_importing_loads_nothing_heavy():
    code = "import sys, harness.adapters.hypernetwork; print([m for m in ('torch', 'diffusers', 'peft') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                          cwd=Path(__file__).parent.parent.parent)
    assert done.stdout.strip() == "[]"
