"""What is written for each layout and family is what the layout's own tool loads, whatever names the model has: diffusers loads
the PEFT layout into its own pipelines, and its converters read kohya's; the original code's names are the published ones."""

import inspect

import pytest
import torch
from diffusers.loaders import lora_conversion_utils, lora_pipeline

from harness.adapters import AdapterError, read_changes
from harness.adapters.change import Change
from harness.adapters.kinds import delta
from harness.adapters.layout_names import names_of, spelled
from harness.adapters.module_names import in_other_layout
from harness.adapters.writing import LAYOUTS, Layout, adapter_tensors, write_adapter
from harness.weights import save_single_file
from tests.adapters import fixtures as fx
from tests.adapters.test_kinds import random
from tests.weights import real_names as real
from tests.weights.pipelines import theirs

LOADED = {"sd1": ("unet", "text_encoder"), "sd2": ("unet", "text_encoder"), "sdxl": ("unet", "text_encoder", "text_encoder_2"),
          "flux": ("transformer", "text_encoder"), "sd3": ("transformer", "text_encoder", "text_encoder_2")}
"""What diffusers' pipelines load LoRAs into."""


def shapes_of(pipe, components):
    """Shapes as an opened model file has them: text encoders without `text_model.`"""
    return {name: {key.removesuffix(".weight").removeprefix("text_model."): tuple(value.shape)
                   for key, value in getattr(pipe, name).state_dict().items() if key.endswith(".weight")} for name in components}


def loras(shapes, kohya=False):
    """A LoRA for every weight of two axes and more, of other ranks and scales in turn; of one strength for `kohya`, since
    diffusers mixes up those of several (facts on formats, F1)."""
    made = {}
    for component, modules in shapes.items():
        for number, (path, shape) in enumerate(modules.items()):
            if len(shape) > 1 and not path.endswith(("_embedding", "shared", "relative_attention_bias")):
                rank = 2 if kohya else 1 + number % 3
                down = random(rank, *shape[1:], seed=number)
                up = random(shape[0], rank, *[1] * (len(shape) - 2), seed=number + 900)
                made[component, path] = Change(component=component, path=path, kind="lora", tensors={"down": down, "up": up},
                                               scale=1.0 if kohya else (0.5, 1.0, 2.0)[number % 3], rank=rank)
    return made


def written(folder, changes, shapes, family, layout):
    it = spelled(changes, shapes, family, layout)
    write_adapter(folder / "it.safetensors", it.changes, Layout(name=layout, dtype="fp32", names=it.names), {}, save_single_file)
    return folder / "it.safetensors"


def fused_by_diffusers(pipe, file, components):
    """{component: {key: what loading and fusing the file added}}."""
    before = {name: {k: v.clone() for k, v in getattr(pipe, name).state_dict().items()} for name in components}
    pipe.load_lora_weights(file.parent, weight_name=file.name)
    pipe.fuse_lora(components=list(components))
    pipe.unload_lora_weights()
    return {name: {k: v - before[name][k] for k, v in getattr(pipe, name).state_dict().items()} for name in components}


def agrees(added, expected):
    """That diffusers added to every weight what is expected of it, and nothing to the others."""
    for component, state in added.items():
        for key, value in state.items():
            path = key.removesuffix(".weight").removeprefix("text_model." if component.startswith("text") else "\0")
            want = expected.get((component, path)) if key.endswith(".weight") else None
            torch.testing.assert_close(value, torch.zeros_like(value) if want is None else want, rtol=1e-4, atol=1e-4,
                                       msg=lambda text, where=f"{component} {key}": f"{where}: {text}")


def whole_delta(change, shape):
    return delta(change, torch.zeros(shape))


@pytest.mark.parametrize("family", LOADED)
def test_diffusers_loads_every_module_of_the_peft_layout(family, tmp_path):
    pipe = theirs(family)
    shapes = shapes_of(pipe, LOADED[family])
    changes = loras(shapes)
    added = fused_by_diffusers(pipe, written(tmp_path, changes, shapes, family, "peft"), LOADED[family])
    agrees(added, {key: whole_delta(change, shapes[key[0]][key[1]]) for key, change in changes.items()})


@pytest.mark.parametrize("family", ["flux", "sd3"])
def test_diffusers_loads_what_was_made_for_a_model_in_the_original_names(family, tmp_path):
    pipe = theirs(family)
    here = shapes_of(pipe, ("transformer",))
    there = {"transformer": in_other_layout(here["transformer"], family)}
    changes = loras(there)
    assert any("qkv" in path for _, path in changes)
    added = fused_by_diffusers(pipe, written(tmp_path, changes, there, family, "peft"), ("transformer",))
    agrees(added, rows_of_diffusers(family, there["transformer"], changes))


def rows_of_diffusers(family, shapes, changes):
    """{(transformer, diffusers path): delta}: the deltas of the original layout's weights, converted as weights by diffusers."""
    width = next(shape[1] for path, shape in shapes.items() if path.endswith("qkv"))
    weights = {f"{path}.weight": whole_delta(changes["transformer", path], shape) for path, shape in shapes.items()
               if ("transformer", path) in changes}
    made = real.converted(family, weights, width, 4 * width, blocks=(1, 1) if family == "flux" else (2, 0))
    return {("transformer", key.removesuffix(".weight")): value for key, value in made.items()}


@pytest.mark.parametrize("layout", ["kohya", "comfyui"])
@pytest.mark.parametrize("family", ["flux", "sd3"])
def test_a_diffusers_models_adapter_has_the_original_names_and_reads_to_the_same(family, layout, tmp_path):
    shapes = shapes_of(theirs(family), ("transformer",))
    changes = loras(shapes)
    it = spelled(changes, shapes, family, layout)
    published = {name.rpartition(".")[0] for name in real.original_shapes(family)}
    stems = {"kohya": {f"lora_unet_{path.replace('.', '_')}" for path in published},
             "comfyui": {f"diffusion_model.{path}" for path in published}}
    assert set(it.names.values()) <= stems[layout]
    read = read_changes(written(tmp_path, changes, shapes, family, layout), shapes, family)
    assert read.changes.keys() == changes.keys()
    for key, change in changes.items():
        shape = shapes["transformer"][key[1]]
        torch.testing.assert_close(whole_delta(read.changes[key], shape), whole_delta(change, shape), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_diffusers_loads_kohyas_layout(family, tmp_path):
    pipe = theirs(family)
    shapes = shapes_of(pipe, LOADED[family])
    # Of kohya's names diffusers knows those of the layers that kohya trains.
    changes = {key: change for key, change in loras(shapes, kohya=True).items() if ".attn" in key[1] or "self_attn" in key[1]}
    file = written(tmp_path, changes, shapes, family, "kohya")
    added = fused_by_diffusers(pipe, file, LOADED[family])
    agrees(added, {key: whole_delta(change, shapes[key[0]][key[1]]) for key, change in changes.items()})


@pytest.fixture
def flux_converter(monkeypatch):
    """diffusers' converter of kohya's and ComfyUI's Flux names, with the widths of the tiny model instead of the published ones,
    which stand in its text."""
    function = lora_conversion_utils._convert_kohya_flux_lora_to_diffusers
    text, widths = inspect.getsource(function), "dims=[3072, 3072, 3072, 12288]"
    assert widths in text
    block = theirs("flux").transformer.single_transformer_blocks[0]
    names, width = dict(vars(lora_conversion_utils)), block.attn.to_q.out_features
    exec(text.replace(widths, f"dims=[{width}, {width}, {width}, {block.proj_mlp.out_features}]"), names)
    monkeypatch.setattr(lora_pipeline, function.__name__, names[function.__name__])
    return names[function.__name__]


@pytest.mark.parametrize("only", ["", "attn.to_k", "attn.add_q_proj"])
@pytest.mark.parametrize("layout", ["kohya", "comfyui"])
def test_diffusers_loads_the_kohya_and_comfyui_layouts_of_flux(layout, only, flux_converter, tmp_path):
    """Of all blocks, or of single ones of the layers that the original code has in one tensor."""
    pipe = theirs("flux")
    shapes = shapes_of(pipe, LOADED["flux"])
    changes = {key: change for key, change in loras(shapes).items() if only in key[1] and (
        "_blocks." in key[1] or "encoder.layers." in key[1])}
    assert changes
    file, parts = written(tmp_path, changes, shapes, "flux", layout), ("transformer",) if only else LOADED["flux"]
    added = fused_by_diffusers(pipe, file, parts)
    agrees(added, {key: whole_delta(change, shapes[key[0]][key[1]]) for key, change in changes.items()})


@pytest.mark.parametrize("layout", ["kohya", "comfyui"])
def test_diffusers_converts_the_modules_of_flux_outside_its_blocks(layout, flux_converter):
    """Its loader then drops them, since its converter leaves their prefix out, and it ignores the alpha of two of them."""
    shapes = shapes_of(theirs("flux"), ("transformer",))
    changes = {key: change for key, change in loras(shapes, kohya=True).items() if "_blocks." not in key[1]}
    assert len(changes) > 6
    it = spelled(changes, shapes, "flux", layout)
    tensors, _ = adapter_tensors(it.changes, Layout(name=layout, dtype="fp32", names=it.names))
    converted = flux_converter(tensors)
    assert {key.rpartition(".lora_")[0] for key in converted} == {path for _, path in changes}
    for (_, path), change in changes.items():
        product = converted[f"{path}.lora_B.weight"] @ converted[f"{path}.lora_A.weight"]
        torch.testing.assert_close(product, whole_delta(change, tuple(product.shape)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("family", LOADED)
def test_every_layout_reads_to_the_same_changes_of_every_component(family, layout, tmp_path):
    parts = {"flux": ("transformer", "text_encoder", "text_encoder_2"),
             "sd3": ("transformer", "text_encoder", "text_encoder_2", "text_encoder_3")}.get(family, LOADED[family])
    shapes = shapes_of(theirs(family), LOADED[family] if layout == "peft" else parts)
    changes = loras(shapes)
    read = read_changes(written(tmp_path, changes, shapes, family, layout), shapes, family).changes
    assert read.keys() == changes.keys()
    for key, change in changes.items():
        shape = shapes[key[0]][key[1]]
        torch.testing.assert_close(whole_delta(read[key], shape), whole_delta(change, shape), rtol=1e-5, atol=1e-5)


def test_a_fused_projection_has_its_rank_again_after_a_way_through_single_ones():
    shapes, fused = {"transformer": fx.flux_bfl()}, ("transformer", "double_blocks.0.img_attn.qkv")
    single = {"transformer": in_other_layout(shapes["transformer"], "flux")}
    it = Change(component=fused[0], path=fused[1], kind="lora", scale=0.5, rank=2,
                tensors={"down": random(2, 8), "up": random(24, 2)})
    split = spelled({fused: it}, shapes, "flux", "peft").changes
    assert {path.rpartition(".")[2] for _, path in split} == {"to_q", "to_k", "to_v"}
    again = spelled(split, single, "flux", "kohya").changes[fused]
    assert again.tensors["down"].shape == (2, 8)
    torch.testing.assert_close(whole_delta(again, (24, 8)), whole_delta(it, (24, 8)))


def test_names_of_the_layouts_are_those_of_the_tools():
    shapes = {"unet": {"down_blocks.1.attentions.0.proj_in": (8, 8), "down_blocks.0.resnets.1.conv1": (8, 8, 3, 3)},
              "text_encoder": {"encoder.layers.0.mlp.fc1": (8, 4)}, "text_encoder_2": {"text_projection": (8, 8)}}
    clip, unet, second = ("text_encoder", "encoder.layers.0.mlp.fc1"), ("unet", "down_blocks.1.attentions.0.proj_in"), (
        "text_encoder_2", "text_projection")
    flat, dotted = "text_model_encoder_layers_0_mlp_fc1", "text_model.encoder.layers.0.mlp.fc1"
    expected = {
        ("sd1", "kohya"): {clip: f"lora_te_{flat}", unet: "lora_unet_down_blocks_1_attentions_0_proj_in"},
        ("sd1", "comfyui"): {clip: f"text_encoders.clip_l.transformer.{dotted}",
                             unet: "diffusion_model.input_blocks.4.1.proj_in"},
        ("sd1", "peft"): {clip: f"text_encoder.{dotted}", unet: "unet.down_blocks.1.attentions.0.proj_in"},
        ("sd2", "comfyui"): {clip: f"text_encoders.clip_h.transformer.{dotted}"},
        ("sdxl", "kohya"): {clip: f"lora_te1_{flat}", unet: "lora_unet_input_blocks_4_1_proj_in",
                            second: "lora_te2_text_projection"},
        ("sdxl", "comfyui"): {second: "text_encoders.clip_g.transformer.text_projection"},
        ("sd3", "kohya"): {clip: f"lora_te1_{flat}", ("text_encoder_2", clip[1]): f"lora_te2_{flat}",
                           ("text_encoder_3", "encoder.block.0.layer.0.SelfAttention.q"):
                               "lora_te3_encoder_block_0_layer_0_SelfAttention_q"},
        ("flux", "kohya"): {("text_encoder_2", "encoder.block.0.layer.0.SelfAttention.q"):
                            "lora_te3_encoder_block_0_layer_0_SelfAttention_q"},
        ("flux", "comfyui"): {("text_encoder_2", "shared"): "text_encoders.t5xxl.transformer.shared"},
        # A text encoder alone shows no family, but a T5 is one in all of them.
        ("", "kohya"): {("text_encoder_2", "shared"): "lora_te3_shared", ("text_encoder_2", clip[1]): f"lora_te2_{flat}"},
        ("", "comfyui"): {("text_encoder_2", "shared"): "text_encoders.t5xxl.transformer.shared"},
    }
    for (family, layout), names in expected.items():
        assert names_of(names, shapes, family, layout) == names


@pytest.mark.parametrize(("family", "layout", "place"), [
    ("flux", "peft", ("text_encoder_2", "encoder.block.0.layer.0.SelfAttention.q")),
    ("sd3", "peft", ("text_encoder_3", "encoder.block.0.layer.0.SelfAttention.q")),
    ("", "peft", ("text_encoder_2", "encoder.block.0.layer.0.SelfAttention.q")),
    *(("sd1", layout, ("vae", "decoder.conv_in")) for layout in LAYOUTS)])
def test_what_the_layouts_tool_does_not_load_is_refused_by_name(family, layout, place):
    it = Change(component=place[0], path=place[1], kind="lora", tensors={"down": torch.ones(1, 2), "up": torch.ones(2, 1)})
    with pytest.raises(AdapterError, match=rf"{place[0]} {place[1]}: .*loads? changes of"):
        spelled({place: it}, {}, family, layout)


@pytest.mark.parametrize(("layout", "path", "refused"), [
    ("peft", "embeddings.token_embedding", True), ("kohya", "embeddings.token_embedding", True),
    ("kohya", "embeddings.position_embedding", True), ("comfyui", "embeddings.position_embedding", False),
    ("peft", "shared", True), ("kohya", "shared", False), ("comfyui", "shared", False)])
def test_an_embedding_is_refused_where_no_tool_loads_it_under_the_layouts_name(layout, path, refused):
    """ComfyUI has every weight of a text encoder under its own names, and of kohya's names CLIP's layers and all of a T5's."""
    place = ("text_encoder", path)
    it = Change(component=place[0], path=place[1], kind="lora", tensors={"down": torch.ones(1, 2), "up": torch.ones(2, 1)})
    given = Layout(name=layout, names={place: "here"})
    if not refused:
        assert adapter_tensors({place: it}, given)[0]
        return
    with pytest.raises(AdapterError, match=rf"text_encoder {path.replace('.', '[.]')}: .*embedding.*'comfyui'"):
        adapter_tensors({place: it}, given)


@pytest.mark.parametrize(("kind", "tensors"), [
    ("loha", {"w1_a": (8, 2), "w1_b": (2, 8), "w2_a": (8, 2), "w2_b": (2, 8)}), ("full", {"diff": (8, 8)})])
def test_other_additive_kinds_of_single_layers_become_one_difference_of_the_fused_one(kind, tensors):
    shapes = {"transformer": fx.flux_diffusers()}
    place = ("transformer", "transformer_blocks.0.attn.to_k")
    it = Change(component=place[0], path=place[1], kind=kind, tensors={role: random(*shape) for role, shape in tensors.items()})
    made = spelled({place: it}, shapes, "flux", "kohya")
    fused = made.changes["transformer", "double_blocks.0.img_attn.qkv"]
    expected = torch.zeros(24, 8)
    expected[8:16] = whole_delta(it, (8, 8))
    torch.testing.assert_close(whole_delta(fused, (24, 8)), expected)


def test_a_kind_without_an_exact_form_is_refused_by_name():
    shapes = {"transformer": fx.flux_bfl()}
    place = ("transformer", "double_blocks.0.img_attn.qkv")
    it = Change(component=place[0], path=place[1], kind="oft", tensors={"oft_blocks": random(6, 4, 4)})
    with pytest.raises(AdapterError, match=r"double_blocks\.0\.img_attn\.qkv: layout 'peft' cannot hold this oft"):
        spelled({place: it}, shapes, "flux", "peft")


def test_a_part_of_a_unet_keeps_its_blocks_numbers():
    path = "down_blocks.2.attentions.1.transformer_blocks.0.attn2.to_k"
    shapes = {"unet": {path: (8, 8)}}
    assert names_of([("unet", path)], shapes, "sdxl", "kohya") == {
        ("unet", path): "lora_unet_input_blocks_8_1_transformer_blocks_0_attn2_to_k"}
