"""Written adapters say the same when they are read again: by our readers, by diffusers, and key by key."""

import dataclasses
import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from harness.adapters import AdapterError, read_changes
from harness.adapters.change import Change
from harness.adapters.kinds import KINDS, changed_weight, check_change, delta, scale_of
from harness.adapters.layout_names import names_of
from harness.adapters.writing import HEADER, LAYOUTS, Layout, adapter_tensors, write_adapter
from harness.weights import save_single_file
from tests.adapters.conftest import adaptable, forward, new_unet, planned
from tests.adapters.test_kinds import CONV, LINEAR, change, example, random

KEY = ("unet", "mid.to_q")
NAMES = {KEY: "lora_unet_mid_to_q"}


def random_changes(module, component="unet", dora=False):
    """A LoRA for every layer, ranks 1, 2 and 4 and scales of half to three by turns."""
    made = {}
    for number, (path, layer) in enumerate(adaptable(module)):
        rank, scale = (1, 2, 4)[number % 3], (0.5, 1.0, 3.0, 2.0)[number % 4]
        out, *rest = layer.weight.shape
        down = random(rank, *rest, seed=number) * 0.3
        up = random(out, rank, *([1, 1] if len(rest) == 3 else []), seed=number + 500) * 0.3
        made[component, path] = Change(component=component, path=path, kind="lora", tensors={"down": down, "up": up}, scale=scale,
                                       rank=rank, magnitude=1 + random(out, seed=number).abs() if dora else None)
    return made


def loaded_by_diffusers(path):
    """A U-Net with the file as a pipeline's load_lora_weights loads it: header strengths and all."""
    from diffusers import StableDiffusionPipeline

    tensors, alphas, header = StableDiffusionPipeline.lora_state_dict(path, return_lora_metadata=True)
    unet = new_unet()
    StableDiffusionPipeline.load_lora_into_unet(tensors, alphas, unet, adapter_name="it", metadata=header)
    return unet


def changed(changes, weight=1.0):
    """A U-Net with the changes in its weights."""
    unet = new_unet()
    for (_, path), it in changes.items():
        layer = unet.get_submodule(path)
        layer.weight.data = changed_weight(it, layer.weight, weight)
    return unet


def layout_of(name, changes, dtype="fp32"):
    paths = [path for path, _ in adaptable(new_unet())]
    return Layout(name=name, dtype=dtype, names=unet_names(paths, name))


def unet_names(paths, layout, family="sd1"):
    return names_of([("unet", path) for path in paths], {"unet": paths}, family, layout)


@pytest.fixture
def changes():
    torch.set_num_threads(1)
    return random_changes(new_unet())


@pytest.mark.parametrize("name", ["kohya", "peft"])
def test_what_is_written_is_read_again_with_equal_deltas(name, changes, tmp_path, modules):
    path = tmp_path / "adapter.safetensors"
    write_adapter(path, changes, layout_of(name, changes), {"ss_note": "a"}, save_single_file)
    plan = planned(path, modules)
    assert plan.format == {"kohya": "kohya", "peft": "diffusers"}[name]
    assert set(plan.factors) == set(changes)
    for key, factors in plan.factors.items():
        assert torch.allclose(factors.delta(), delta(changes[key], torch.zeros(factors.delta().shape)), atol=1e-6)


def test_kohyas_xl_names_are_the_original_codes_and_read_again(changes, tmp_path, modules):
    names = unet_names([path for path, _ in adaptable(new_unet())], "kohya", "sdxl")
    assert names["unet", "conv_in"] == "lora_unet_input_blocks_0_0"
    path = tmp_path / "adapter.safetensors"
    write_adapter(path, changes, Layout(name="kohya", dtype="fp32", names=names), {}, save_single_file)
    assert set(planned(path, modules).factors) == set(changes)


def test_kohyas_prefixes_are_those_of_the_model():
    def prefix(component, family):
        return names_of([(component, "it")], {}, family, "kohya")[component, "it"]

    assert prefix("text_encoder", "sd1") == "lora_te_it"
    assert prefix("text_encoder", "sdxl") == "lora_te1_it"
    assert prefix("text_encoder_2", "sdxl") == "lora_te2_it"
    assert prefix("text_encoder_2", "flux") == "lora_te3_it"
    assert prefix("text_encoder_2", "sd3") == "lora_te2_it"


@pytest.mark.parametrize("uniform", [False, True])
def test_diffusers_loads_the_peft_layout_with_every_modules_own_strength(uniform, changes, tmp_path):
    if uniform:
        changes = {key: it for key, it in changes.items() if it.rank == 2 and it.scale == 3.0}
    path = tmp_path / "adapter.safetensors"
    write_adapter(path, changes, layout_of("peft", changes), {}, save_single_file)
    unet = loaded_by_diffusers(path)
    for (_, name), it in changes.items():
        layer = unet.get_submodule(name)
        assert layer.scaling["it"] == pytest.approx(it.scale), name
    assert (forward(unet) - forward(changed(changes))).abs().max() < 1e-4


def test_diffusers_loads_dora_of_the_peft_layout(tmp_path):
    changes = random_changes(new_unet(), dora=True)
    path = tmp_path / "adapter.safetensors"
    write_adapter(path, changes, layout_of("peft", changes), {}, save_single_file)
    unet = loaded_by_diffusers(path)
    for (_, name), it in changes.items():
        layer = unet.get_submodule(name)
        expected = changed_weight(it, layer.base_layer.weight, 1.0)
        layer.merge()
        assert torch.allclose(layer.base_layer.weight, expected, atol=1e-5), name


def test_the_header_names_every_module_that_differs_exactly(tmp_path):
    paths = {"a.conv": 1, "b.a.conv": 2, "c": 4, "d": 4}
    changes = {("unet", path): dataclasses.replace(change("lora", down=random(rank, 6), up=random(8, rank), scale=0.5), path=path)
               for path, rank in paths.items()}
    _, header = adapter_tensors(changes, Layout(name="peft"))
    said = json.loads(header["lora_adapter_metadata"])
    assert (said["unet.r"], said["unet.lora_alpha"], said["unet.use_dora"]) == (4, 2.0, False)
    assert said["unet.rank_pattern"] == {r"^a\.conv": 1, r"^b\.a\.conv": 2}
    assert said["unet.alpha_pattern"] == {r"^a\.conv": 0.5, r"^b\.a\.conv": 1.0}
    assert said["unet.target_modules"] == sorted(paths)


def test_the_bytes_are_the_same_every_time_and_whatever_the_order(changes, tmp_path):
    turned = dict(reversed(changes.items()))
    for name in ("kohya", "peft", "comfyui"):
        for number, given in enumerate((changes, turned)):
            write_adapter(tmp_path / f"{name}{number}.safetensors", given, layout_of(name, given, "fp16"),
                          {"b": "1", "a": "2"} if number else {"a": "2", "b": "1"}, save_single_file)
        assert (tmp_path / f"{name}0.safetensors").read_bytes() == (tmp_path / f"{name}1.safetensors").read_bytes()


@pytest.mark.parametrize(("dtype", "torch_dtype"), [("fp16", torch.float16), ("bf16", torch.bfloat16), ("fp32", torch.float32)])
def test_factors_are_in_the_dtype_and_alphas_in_float32(dtype, torch_dtype, tmp_path):
    path = tmp_path / "adapter.safetensors"
    it = change("lora", scale=0.3, down=random(2, 6), up=random(8, 2))
    write_adapter(path, {KEY: it}, Layout(name="kohya", dtype=dtype, names=NAMES), {"made by": "test"}, save_single_file)
    found = load_file(path)
    assert found["lora_unet_mid_to_q.lora_down.weight"].dtype == torch_dtype
    assert found["lora_unet_mid_to_q.alpha"].dtype == torch.float32
    assert float(found["lora_unet_mid_to_q.alpha"]) == pytest.approx(0.6)
    with safe_open(path, "pt") as file:
        assert file.metadata()["made by"] == "test"


def test_values_out_of_the_dtypes_range_are_refused_before_writing(tmp_path):
    it = change("lora", down=random(2, 6) * 1e6, up=random(8, 2))
    path = tmp_path / "adapter.safetensors"
    with pytest.raises(AdapterError, match=r"lora_unet_mid_to_q\.lora_down\.weight: its largest value .* does not fit fp16"):
        write_adapter(path, {KEY: it}, Layout(name="kohya", names=NAMES), {}, save_single_file)
    assert not path.exists()
    write_adapter(path, {KEY: it}, Layout(name="kohya", dtype="bf16", names=NAMES), {}, save_single_file)


# every kind in LyCORIS' words

PARTS = {"lora_down.weight": "down", "lora_up.weight": "up", "lora_mid.weight": "mid", "dora_scale": "magnitude"}


def read_back(kind, tensors):
    """A change from the keys of one module, as a reader of LyCORIS files makes it."""
    roles = {}
    for key, tensor in tensors.items():
        end = key.removeprefix("lora_unet_mid_to_q.")
        role = PARTS.get(end, end.removeprefix("hada_").removeprefix("lokr_"))
        roles[role if end == "weight" else role.removesuffix(".weight")] = tensor
    magnitude, alpha = roles.pop("magnitude", None), roles.pop("alpha", None)
    alpha = None if alpha is None else float(alpha)
    scale, _ = scale_of(kind, roles, alpha)
    return change(kind, scale=scale, alpha=alpha, magnitude=magnitude, **roles)


WRITTEN = [(kind, shape) for kind in ("lora", "loha", "lokr", "full", "glora", "ia3", "oft", "boft") for shape in (LINEAR, CONV)]


@pytest.mark.parametrize(("kind", "shape"), [*WRITTEN, ("norm", (8,))])
def test_every_kind_says_the_same_in_kohyas_layout(kind, shape):
    it, w0 = example(kind, shape), random(*shape, seed=9)
    tensors, header = adapter_tensors({KEY: it}, Layout(name="kohya", dtype="fp32", names=NAMES))
    assert header == {}
    again = read_back(kind, tensors)
    check_change(again, shape)
    assert torch.allclose(changed_weight(again, w0, 0.7), changed_weight(it, w0, 0.7), atol=1e-6)


PLACES = {"down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q": LINEAR, "down_blocks.0.resnets.0.conv1": CONV,
          "down_blocks.0.resnets.0.norm1": (8,)}


@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize(("name", "kinds"), [
    ("kohya", [*KINDS]), ("comfyui", [kind for kind in KINDS if kind not in ("ia3", "oft", "boft")]), ("peft", ["lora"])])
def test_our_readers_give_every_kind_of_every_layout_back(name, kinds, dora, tmp_path):
    names = unet_names(PLACES, name)
    for kind in kinds:
        if dora and not (KINDS[kind].additive and kind in ("lora", "loha", "lokr")):
            continue
        written = {("unet", path): dataclasses.replace(
            example(kind, shape), path=path, magnitude=torch.arange(1.0, 9).reshape(8, *[1] * (len(shape) - 1)) if dora else None)
            for path, shape in PLACES.items() if (kind == "norm") == (shape == (8,))}
        path = tmp_path / f"{kind}.safetensors"
        write_adapter(path, written, Layout(name=name, dtype="fp32", names=names), {}, save_single_file)
        read = read_changes(path, {"unet": PLACES}, "sd1").changes
        assert set(read) == set(written)
        for key, it in written.items():
            w0 = random(*PLACES[it.path], seed=9)
            assert read[key].kind == kind
            assert torch.allclose(changed_weight(read[key], w0, 0.7), changed_weight(it, w0, 0.7), atol=1e-6)


@pytest.mark.parametrize(("kind", "shape"), [("full", LINEAR), ("norm", (8,)), ("ia3", LINEAR)])
def test_a_scale_without_an_alpha_is_multiplied_in(kind, shape):
    it = dataclasses.replace(example(kind, shape), scale=0.25)
    tensors, _ = adapter_tensors({KEY: it}, Layout(name="kohya", dtype="fp32", names=NAMES))
    w0 = random(*shape, seed=9)
    assert torch.allclose(delta(read_back(kind, tensors), w0), delta(it, w0), atol=1e-6)


def test_a_whole_kronecker_product_has_its_scale_in_the_first_half():
    it = change("lokr", scale=0.5, alpha=1e10, w1=random(2, 3), w2=random(4, 2))
    tensors, _ = adapter_tensors({KEY: it}, Layout(name="kohya", dtype="fp32", names=NAMES))
    assert float(tensors["lora_unet_mid_to_q.alpha"]) == 1.0
    assert torch.allclose(delta(read_back("lokr", tensors), torch.zeros(LINEAR)), delta(it, torch.zeros(LINEAR)), atol=1e-6)


def test_a_tucker_core_a_magnitude_and_biases_have_their_keys():
    it = change("lora", scale=0.5, down=random(2, 6, 1, 1), up=random(8, 2, 1, 1), mid=random(2, 2, 3, 3),
                magnitude=torch.ones(8), bias=torch.ones(8), diff_b=torch.ones(8))
    tensors, _ = adapter_tensors({KEY: it}, Layout(name="kohya", dtype="fp32", names=NAMES))
    assert tensors["lora_unet_mid_to_q.dora_scale"].shape == (8, 1, 1, 1)
    assert tensors["lora_unet_mid_to_q.diff_b"].tolist() == [1.5] * 8
    again = read_back("lora", tensors)
    check_change(again, CONV)
    w0 = random(*CONV, seed=9)
    assert torch.allclose(changed_weight(again, w0, 1.0), changed_weight(it, w0, 1.0), atol=1e-6)


def test_comfyuis_names_are_dotted_behind_diffusion_model(changes):
    tensors, _ = adapter_tensors(changes, layout_of("comfyui", changes))
    assert "diffusion_model.input_blocks.0.0.lora_down.weight" in tensors
    assert "diffusion_model.input_blocks.0.0.alpha" in tensors
    place = ("transformer", "double_blocks.0.img_attn.qkv")
    assert names_of([place], {}, "flux", "comfyui") == {place: "diffusion_model.double_blocks.0.img_attn.qkv"}


# what a layout cannot hold


@pytest.mark.parametrize(("layout", "it", "why"), [
    ("peft", example("loha", LINEAR), "only LoRA, not loha"),
    ("peft", change("lora", down=random(2, 6), up=random(8, 2), diff_b=torch.ones(8)), "no place for diff_b"),
    ("peft", change("lora", down=random(2, 6), up=random(8, 2), mid=random(2, 2, 3, 3)), "combining the adapter alone"),
    ("peft", change("lora", down=random(2, 6), up=random(8, 2), magnitude=torch.ones(1, 6)), r"per output, this one is \(1, 6\)"),
    ("comfyui", example("oft", LINEAR), "ComfyUI"),
    ("comfyui", example("ia3", LINEAR), "ComfyUI"),
    ("kohya", dataclasses.replace(example("oft", LINEAR), scale=0.5), "its scale of 0.5 "),
    ("kohya", change("loha", magnitude=torch.ones(8), **example("loha", CONV).tensors), "its magnitude has one axis"),
])
def test_what_a_layout_cannot_hold_is_refused_by_name(layout, it, why):
    with pytest.raises(AdapterError, match=rf"unet mid\.to_q: layout '{layout}' cannot hold this \w+: .*{why}"):
        adapter_tensors({KEY: it}, Layout(name=layout, names=NAMES))


def test_dora_in_some_modules_alone_is_refused_for_peft():
    plain, other = change("lora", down=random(2, 6), up=random(8, 2)), ("unet", "mid.to_k")
    dora = dataclasses.replace(plain, path="mid.to_k", magnitude=torch.ones(8))
    with pytest.raises(AdapterError, match=r"unet mid\.to_q.*use_dora applies to all modules"):
        adapter_tensors({KEY: plain, other: dora}, Layout(name="peft"))


def test_names_that_are_missing_doubled_or_unknown_are_refused():
    it = change("lora", down=random(2, 6), up=random(8, 2))
    twin = dataclasses.replace(it, path="mid_to.q")
    with pytest.raises(AdapterError, match=r"unet mid\.to_q: no name for layout 'kohya'"):
        adapter_tensors({KEY: it}, Layout(name="kohya"))
    with pytest.raises(AdapterError, match=r"unet mid_to\.q and unet mid\.to_q are both called 'lora_unet_mid_to_q'"):
        adapter_tensors({KEY: it, ("unet", "mid_to.q"): twin},
                        Layout(name="kohya", names=unet_names(["mid.to_q", "mid_to.q"], "kohya")))
    for layout in LAYOUTS:
        with pytest.raises(AdapterError, match="vae mid: no adapter layout has names for a VAE"):
            names_of([("vae", "mid")], {}, "sd1", layout)


def test_a_header_string_of_the_layout_is_not_replaced(tmp_path):
    it = change("lora", down=random(2, 6), up=random(8, 2))
    with pytest.raises(AdapterError, match="'lora_adapter_metadata' was given, but the layout writes it"):
        write_adapter(tmp_path / "a.safetensors", {KEY: it}, Layout(name="peft"), {HEADER: "{}"}, save_single_file)


def test_an_adapter_without_changes_is_not_written():
    with pytest.raises(AdapterError, match="without changes"):
        adapter_tensors({}, Layout(name="peft"))
