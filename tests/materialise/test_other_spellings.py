"""A pattern for alpha by key finds a tensor under every name that a user can see in a file, or is refused with the nearest."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from harness import Alphas
from harness.materialise.library import Library, MaterialiseError
from harness.materialise.other_spellings import keys_elsewhere
from harness.materialise.plan_recipe import plan_recipe
from harness.merge.alpha_by_key import alphas_by_key
from harness.weights import ModelFile, open_model
from harness.weights.structural import open_any
from tests.materialise.models import folder, merge, parent, two, write
from tests.materialise.tiny_dit import comfy, flux, sd3
from tests.weights.real_names import drawn, in_diffusers, original_shapes

U, G = "model.diffusion_model.", "conditioner.embedders.1.model."
State = dict[str, torch.Tensor]
FILES: dict[str, Callable[[], State]] = {
    "sd1": lambda: parent(1), "sd2": lambda: parent(1, family="sd2"), "sdxl": lambda: parent(1, family="sdxl"),
    "compiled sd1": lambda: {f"_orig_mod.{name}": tensor for name, tensor in parent(1).items()},
    "flux bare": lambda: flux(1), "flux of ComfyUI": lambda: comfy(flux(1)),
    "sd3": lambda: {U + name: tensor for name, tensor in sd3(1).items()}}


def alphas(recipe_root, pattern: str, **changes: object) -> dict[str, set[str]]:
    """{component: the keys that the pattern gives alpha 1}, where all others have 0."""
    recipe = merge(alpha=Alphas(default=0, keys={pattern: 1}), **changes)
    plan = plan_recipe(recipe, Library(recipe_root))
    return {part: {key for key, expression in one.keys.items() if getattr(expression, "model", "") == "b.safetensors"}
            for part, one in plan.parts.items() if one.blocks}


def matched(pattern: str, model: ModelFile) -> dict[str, set[str]]:
    """The keys of each component that a pattern matches."""
    elsewhere = keys_elsewhere([pattern], [model], list(model.components)).get(pattern, {})
    names = model.original_unet_names
    by_component = [alphas_by_key(
        Alphas(default=0, keys={pattern: 1}), part, {key: names.get(key, key) for key in infos}, family=model.family,
        elsewhere={pattern: elsewhere.get(part, frozenset())}) for part, infos in model.components.items()]
    return {one.component: keys for one in by_component if (keys := {key for key, value in one.values.items() if value})}


@pytest.mark.parametrize("kind", FILES)
def test_every_name_in_a_file_is_found(kind, tmp_path):
    write(tmp_path / "m.safetensors", FILES[kind]())
    model = open_model(tmp_path / "m.safetensors")
    for part, infos in model.components.items():
        for source in list(dict.fromkeys(info.source for info in infos.values()))[::7]:
            assert matched(source, model) == {part: {key for key, info in infos.items() if info.source == source}}, source


@pytest.mark.parametrize(("family", "pattern", "part", "key"), [
    ("sd1", "cond_stage_model.transformer.text_model.encoder.layers.0.mlp.fc1.weight", "text_encoder",
     "encoder.layers.0.mlp.fc1.weight"),
    ("sd1", "text_model.encoder.layers.0.mlp.fc1.weight", "text_encoder", "encoder.layers.0.mlp.fc1.weight"),
    ("sd1", "text_encoder.text_model.encoder.layers.0.mlp.fc1.*", "text_encoder", "encoder.layers.0.mlp.fc1.weight"),
    ("sd1", "cond_stage_model.transformer.encoder.layers.0.mlp.fc1.weight", "text_encoder",
     "encoder.layers.0.mlp.fc1.weight"),
    ("sd1", "first_stage_model.encoder.down.0.block.0.conv1.weight", "vae", "encoder.down_blocks.0.resnets.0.conv1.weight"),
    ("sd1", "encoder.down.0.block.0.conv1.weight", "vae", "encoder.down_blocks.0.resnets.0.conv1.weight"),
    ("sdxl", f"{G}transformer.resblocks.0.mlp.c_fc.weight", "text_encoder_2", "encoder.layers.0.mlp.fc1.weight"),
    ("sdxl", "transformer.resblocks.0.mlp.c_fc.weight", "text_encoder_2", "encoder.layers.0.mlp.fc1.weight"),
    ("sdxl", "text_model.encoder.layers.0.mlp.fc1.weight", "text_encoder", "encoder.layers.0.mlp.fc1.weight"),
    ("sdxl", "conditioner.embedders.0.transformer.text_model.encoder.layers.0.mlp.fc1.weight", "text_encoder",
     "encoder.layers.0.mlp.fc1.weight"),
])
@pytest.mark.parametrize("layout", ["file", "folder"])
def test_a_spelling_of_each_tool_finds_the_tensor(family, pattern, part, key, layout, tmp_path):
    two(tmp_path, family=family)
    parts = tuple(open_model(tmp_path / "a.safetensors").components)
    if layout == "folder":
        folder(tmp_path / "a", 1, family=family)
    found = alphas(tmp_path, pattern, a="a.safetensors" if layout == "file" else "a", parts=parts)
    assert key in found[part]
    others = {one: keys for one, keys in found.items() if one != part and keys}
    # In a folder both encoders have transformers' names.
    assert not others or (layout == "folder" and "text_model" in pattern and set(others) == {"text_encoder_2"})


def test_the_name_of_a_fused_tensor_finds_all_that_is_in_it(tmp_path):
    two(tmp_path, family="sdxl")
    found = alphas(tmp_path, f"{G}transformer.resblocks.0.attn.in_proj_weight", parts=("unet", "text_encoder_2"))
    assert found["text_encoder_2"] == {f"encoder.layers.0.self_attn.{part}_proj.weight" for part in "qkv"}


@pytest.mark.parametrize("family", ["flux", "sd3"])
@pytest.mark.parametrize("a", ["original", "diffusers"])
def test_both_layouts_of_a_transformer_are_known(family, a, tmp_path):
    states = [drawn(original_shapes(family), seed) for seed in (1, 2)]
    for name, state in zip("ab", states, strict=True):
        write(tmp_path / f"{name}.safetensors", state if a == "original" else in_diffusers(family, state))
    block = {"flux": "double_blocks.0.img_", "sd3": "joint_blocks.0.x_block."}[family]
    fused, mlp = f"{block}attn.qkv.weight", f"{block}mlp.{'0' if family == 'flux' else 'fc1'}.weight"
    parts = {f"transformer_blocks.0.attn.to_{part}.weight" for part in "qkv"}
    ours = {"original": ({fused}, {mlp}), "diffusers": (parts, {"transformer_blocks.0.ff.net.0.proj.weight"})}[a]
    for pattern, keys in ((fused, ours[0]), (mlp, ours[1]), ("transformer_blocks.0.ff.net.0.proj.weight", ours[1]),
                          ("transformer_blocks.0.attn.to_[qkv].weight", ours[0])):
        assert alphas(tmp_path, pattern, parts=("transformer",))["transformer"] == keys, pattern


def test_a_part_of_a_fused_tensor_is_refused_with_the_name_of_the_whole(tmp_path):
    for name, seed in (("a", 1), ("b", 2)):
        write(tmp_path / f"{name}.safetensors", drawn(original_shapes("flux"), seed))
    with pytest.raises(MaterialiseError, match=r"\.attn\.to_q\.weight'.*'double_blocks\.0\.img_attn\.qkv\.weight'"):
        alphas(tmp_path, "transformer_blocks.0.attn.to_q.weight", parts=("transformer",))
    assert alphas(tmp_path, "double_blocks.0.img_attn.qkv.weight", parts=("transformer",))["transformer"]


@pytest.mark.parametrize(("pattern", "nearest"), [
    ("cond_stage_model.transformer.text_model.encoder.layers.0.mlp.fc3.weight",
     "cond_stage_model.transformer.text_model.encoder.layers.0.mlp.fc"),
    ("first_stage_model.encoder.down.0.blok.0.conv1.weight", "first_stage_model.encoder.down.0.block.0.conv1.weight"),
    ("text_model.encoder.layer.0.mlp.fc1.weight", "text_model.encoder.layers.0.mlp.fc1.weight"),
])
def test_a_misspelt_name_is_refused_with_the_nearest_which_works(pattern, nearest, tmp_path):
    two(tmp_path)
    parts = ("unet", "vae", "text_encoder")
    with pytest.raises(MaterialiseError, match="Did you mean") as error:
        alphas(tmp_path, pattern, parts=parts)
    proposal = str(error.value).partition("Did you mean '")[2].partition("'")[0]
    assert proposal.startswith(nearest)
    assert any(alphas(tmp_path, proposal, parts=parts).values())


def test_a_pattern_that_matches_usual_names_means_them_alone(tmp_path):
    two(tmp_path)
    # In the original code the VAE's attention is called attn_1.
    found = alphas(tmp_path, "*attn*", parts=("unet", "vae"))
    assert found["unet"]
    assert not found["vae"]


def test_the_names_of_an_unknown_architecture_are_those_of_its_file(tmp_path):
    for name, seed in (("a", 1), ("b", 2)):
        generator = torch.Generator().manual_seed(seed)
        write(tmp_path / f"{name}.safetensors", {
            f"{U}blocks.{n}.w.weight": torch.randn(2, 2, generator=generator) for n in range(4)})
    assert open_any(tmp_path / "a.safetensors").structural
    for pattern in (f"{U}blocks.1.w.weight", "blocks.1.w.weight"):
        assert alphas(tmp_path, pattern, parts=("transformer",))["transformer"] == {"blocks.1.w.weight"}
