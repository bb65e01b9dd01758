"""From files of low-rank factors, in several formats' names, onto live layers: exact strength, closed accounts, reversible."""

import pytest
import torch

from harness.adapters import ADAPTER_FORMATS, STATUSES, AdapterError, attach, detach, set_weight
from tests.adapters.conftest import (
    adaptable,
    forward,
    kohya_tensors,
    new_unet,
    peft_header,
    peft_tensors,
    planned,
    random_factors,
)


def omi_tensors(factors):
    ends = {"lora_A.weight": "lora_down.weight", "lora_B.weight": "lora_up.weight"}
    tensors = {key.replace(old, new): tensor for key, tensor in peft_tensors(factors).items()
               for old, new in ends.items() if key.endswith(old)}
    return tensors | {f"unet.{path}.alpha": torch.tensor(alpha) for path, (_, _, alpha) in factors.items()}


def comfyui_tensors(factors):
    return {key.replace("unet.", "diffusion_model.", 1): tensor for key, tensor in omi_tensors(factors).items()}


WRITERS = {"kohya": lambda factors: (kohya_tensors(factors), None),
           "diffusers": lambda factors: (peft_tensors(factors), peft_header(factors)),
           "omi": lambda factors: (omi_tensors(factors), None),
           "comfyui": lambda factors: (comfyui_tensors(factors), None)}


@pytest.fixture(params=sorted(WRITERS))
def name(request):
    return request.param


@pytest.fixture
def factors(modules):
    return random_factors(modules["unet"])


@pytest.fixture
def plan(name, factors, modules, write):
    return planned(write(*WRITERS[name](factors)), modules)


def changed_by_hand(factors, weight):
    """The definition: W + weight * (alpha / rank) * up @ down, layer by layer, in the weights."""
    unet = new_unet()
    for path, layer in adaptable(unet):
        down, up, alpha = factors[path]
        with torch.no_grad():
            delta = (up.flatten(1) @ down.flatten(1)).reshape(layer.weight.shape)
            layer.weight += weight * alpha / down.shape[0] * delta
    return unet


def test_every_tensor_is_accounted_for_once(name, plan, factors):
    tensors, _ = WRITERS[name](factors)
    counted = [key for by_status in plan.keys.values() for names in by_status.values() for key in names]
    assert sorted(counted) == sorted(tensors)
    assert {status for by_status in plan.keys.values() for status in by_status} <= set(STATUSES)
    assert plan.format == name
    assert name in ADAPTER_FORMATS


@pytest.mark.parametrize("weight", [1.0, 0.4, -0.7])
def test_runtime_equals_the_definition_with_differing_alphas(plan, factors, modules, weight):
    attach(plan, modules, "style", weight)
    by_hand = changed_by_hand(factors, weight)
    assert (forward(modules["unet"]) - forward(by_hand)).abs().max() < 1e-5
    for path, layer in adaptable(by_hand):
        own = modules["unet"].get_submodule(path)
        runtime = own.base_layer.weight + own.get_delta_weight("style")
        assert (runtime - layer.weight).abs().max() < 1e-6


def test_a_plans_delta_is_the_definition(plan, factors):
    for (_, path), found in plan.factors.items():
        down, up, alpha = factors[path]
        expected = alpha / down.shape[0] * (up.flatten(1) @ down.flatten(1))
        assert torch.allclose(found.delta().flatten(1), expected, atol=1e-6)


def test_the_weight_changes_in_place_and_zero_is_the_bare_model(plan, factors, modules):
    bare = forward(modules["unet"])
    attach(plan, modules, "style", 1.0)
    set_weight(modules, "style", 0.3)
    assert (forward(modules["unet"]) - forward(changed_by_hand(factors, 0.3))).abs().max() < 1e-5
    set_weight(modules, "style", 0.0)
    assert torch.allclose(forward(modules["unet"]), bare, atol=1e-6)


def test_detaching_gives_the_bare_model_back_bit_for_bit(plan, modules):
    bare, names = forward(modules["unet"]), list(modules["unet"].state_dict())
    attach(plan, modules, "style", 1.0)
    assert not torch.equal(forward(modules["unet"]), bare)
    detach(modules, "style")
    assert torch.equal(forward(modules["unet"]), bare)
    assert list(modules["unet"].state_dict()) == names


def test_two_adapters_add_up_and_come_off_one_by_one(name, plan, factors, modules, write):
    attach(plan, modules, "style", 0.5)
    only = forward(modules["unet"])
    other = planned(write(*WRITERS[name](random_factors(new_unet(), seed=5))), modules)
    attach(other, modules, "face", 0.8)
    assert not torch.allclose(forward(modules["unet"]), only, atol=1e-4)
    detach(modules, "face")
    assert torch.equal(forward(modules["unet"]), only)


def test_a_misspelt_key_is_named_with_its_neighbour(name, factors, modules, write):
    tensors, header = WRITERS[name](factors)
    key = next(key for key in tensors if "to_q" in key)
    tensors[key.replace("to_q", "to_qq")] = tensors.pop(key)
    with pytest.raises(AdapterError, match=r"adapter\.safetensors.*to_qq.*nearest is '.*to_q'"):
        planned(write(tensors, header), modules)


def test_a_wrong_shape_is_named_with_both_shapes(name, factors, modules, write):
    tensors, header = WRITERS[name](factors)
    key = next(key for key in tensors if "to_k" in key and ("down" in key or "lora_A" in key))
    tensors[key] = torch.zeros(tensors[key].shape[0], 7)
    with pytest.raises(AdapterError, match=r"adapter\.safetensors.*to_k: down .*\(., 7\), expected \("):
        planned(write(tensors, header), modules)


def test_a_missing_half_is_an_error(name, factors, modules, write):
    tensors, header = WRITERS[name](factors)
    del tensors[next(key for key in tensors if "up.weight" in key or "lora_B" in key)]
    with pytest.raises(AdapterError, match="up factor is missing"):
        planned(write(tensors, header), modules)


def test_nan_in_a_factor_is_an_error(name, factors, modules, write):
    tensors, header = WRITERS[name](factors)
    key = next(key for key in tensors if key.endswith(".weight"))
    tensors[key] = tensors[key] * float("nan")
    with pytest.raises(AdapterError, match="NaN or infinity"):
        planned(write(tensors, header), modules)


def test_factors_of_linear_layers_fit_one_by_one_convolutions(name, factors, modules, write):
    path = "mid_block.attentions.0.proj_in"
    down, up, alpha = factors[path]
    flat = WRITERS[name]({path: (down.flatten(1), up.flatten(1), alpha)})
    plan = planned(write(*flat), modules)
    assert plan.factors["unet", path].down.shape == down.shape
    attach(plan, modules, "style", 1.0)
    assert torch.isfinite(forward(modules["unet"])).all()


def test_factors_of_one_by_one_convolutions_fit_linear_layers(name, factors, modules, write):
    modules["unet"] = new_unet(linear_projection=True)
    path = "mid_block.attentions.0.proj_in"
    plan = planned(write(*WRITERS[name]({path: factors[path]})), modules)
    assert plan.factors["unet", path].down.ndim == 2
