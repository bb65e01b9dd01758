"""Alpha of every key: block weights under each tool's convention, gradients and patterns, and what is refused."""

from collections.abc import Iterable

import pytest

from harness import Alphas, Blocks, Gradient, Merge, block_sweep
from harness.declare import Alpha
from harness.merge.alpha_by_key import ByKey, WhereError, alphas_by_key
from harness.merge.blocks import CONVENTIONS
from harness.merge.presets import PRESETS
from harness.merge.requested import requested_alphas, unmet

FULL = {"sd1": 12, "sd2": 12, "sdxl": 9, "sdxl_refiner": 12}


def unet(blocks: int, label: bool = False) -> dict[str, str]:
    """One key per block of a U-Net, the three of its middle, and those beside the blocks."""
    names = [*(f"input_blocks.{n}.0.weight" for n in range(blocks)), *(f"middle_block.{n}.weight" for n in range(3)),
             *(f"output_blocks.{n}.0.weight" for n in range(blocks)), "time_embed.0.weight", "out.2.weight"]
    return {f"diffusers.{name}": name for name in [*names, *(["label_emb.0.0.weight"] if label else [])]}


def same(*names: str) -> dict[str, str]:
    return {name: name for name in names}


def flux(double: int, single: int) -> dict[str, str]:
    return same("img_in.weight", "txt_in.weight", "time_in.in_layer.weight", "vector_in.in_layer.weight",
                *(f"double_blocks.{n}.img_attn.qkv.weight" for n in range(double)),
                *(f"single_blocks.{n}.linear1.weight" for n in range(single)), "final_layer.linear.weight")


TEXT = same("embeddings.token_embedding.weight", *(f"encoder.layers.{n}.mlp.fc1.weight" for n in range(5)),
            "final_layer_norm.weight")
VAE = same("encoder.conv_in.weight", "encoder.down_blocks.0.resnets.0.conv1.weight",
           "encoder.down_blocks.1.resnets.0.conv1.weight", "encoder.mid_block.resnets.0.conv1.weight",
           "encoder.conv_out.weight", "quant_conv.weight", "post_quant_conv.weight",
           "decoder.conv_in.weight", "decoder.mid_block.resnets.0.conv1.weight", "decoder.up_blocks.0.resnets.0.conv1.weight",
           "decoder.up_blocks.1.resnets.0.conv1.weight", "decoder.conv_out.weight")


def on_unet(alpha: Alpha, blocks: int = 12, family: str = "sd1", label: bool = False) -> ByKey:
    return alphas_by_key(alpha, "unet", unet(blocks, label), family=family)


def value(found: ByKey, name: str) -> float:
    return next(v for key, v in found.values.items() if key.endswith(name))


def ends(found: ByKey, names: Iterable[str]) -> list[float]:
    return [value(found, name) for name in names]


def slot(found: ByKey, name: str) -> str:
    return next(s for key, s in found.slots.items() if key.endswith(name))


def ramp(n: int) -> tuple[float, ...]:
    return tuple(i / 100 for i in range(n))


def test_a_number_holds_for_every_key() -> None:
    found = alphas_by_key(0.3, "vae", VAE, family="sd1")
    assert set(found.values.values()) == {0.3}
    assert found.values.keys() == found.slots.keys() == VAE.keys()


@pytest.mark.parametrize(("family", "blocks"), FULL.items())
def test_each_block_gets_the_value_at_its_place(family: str, blocks: int) -> None:
    found = on_unet(Blocks(values=ramp(2 * blocks + 2)), blocks, family)
    assert value(found, ".input_blocks.0.0.weight") == 0.01
    assert value(found, "middle_block.1.weight") == (blocks + 1) / 100
    assert value(found, f"output_blocks.{blocks - 1}.0.weight") == (2 * blocks + 1) / 100
    assert slot(found, "input_blocks.4.0.weight") == "IN04"


def test_a_tiny_unet_has_as_many_slots_as_its_own_blocks_say() -> None:
    assert value(on_unet(Blocks(values=ramp(10)), 4), "output_blocks.3.0.weight") == 0.09
    with pytest.raises(WhereError, match=r"26 block weights.*10 slots \(BASE, IN00 to IN03, M00, OUT00"):
        on_unet(Blocks(values=ramp(26)), 4)


def test_the_blocks_are_counted_on_the_whole_model_where_only_some_keys_are_merged() -> None:
    some = {key: name for key, name in unet(4).items() if "output_blocks.3" not in name}
    found = alphas_by_key(Blocks(values=ramp(10)), "unet", some, family="sd1", denoiser=unet(4).values())
    assert value(found, "out.2.weight") == 0.09
    depth = alphas_by_key(Gradient(values=(0, 1)), "unet", some, family="sd1", denoiser=unet(4).values())
    assert value(depth, "middle_block.0.weight") == 0.5


def test_values_may_come_without_base() -> None:
    assert value(on_unet(Blocks(values=ramp(25))), "input_blocks.0.0.weight") == 0.0


@pytest.mark.parametrize(("convention", "family", "time", "label", "out", "vae"), [
    ("supermerger", "sd1", "IN00", "BASE", "OUT11", "BASE"), ("supermerger", "sdxl", "IN00", "IN00", "OUT08", "BASE"),
    ("meh", "sd1", "IN00", "BASE", "OUT11", "BASE"), ("meh", "sdxl", "IN00", "BASE", "OUT08", "BASE"),
    ("sd-mecha", "sd1", "BASE", "BASE", "OUT11", "BASE"), ("sd-mecha", "sdxl", "BASE", "BASE", "OUT08", "VAE"),
    ("chattiori", "sd1", "OUT11", "BASE", "OUT11", "none"), ("chattiori", "sdxl", "none", "none", "OUT08", "none"),
    ("comfyui", "sd1", "time_embed", "label_emb", "out", "none"), ("comfyui", "sdxl", "time_embed", "label_emb", "out", "none"),
])
def test_a_convention_says_where_time_embed_label_emb_out_and_the_vae_count(
        convention: str, family: str, time: str, label: str, out: str, vae: str) -> None:
    blocks, names = FULL[family], unet(FULL[family], label=True)
    own = convention == "comfyui"
    alpha = Blocks(values=ramp(2 * blocks + 6 if own else 2 * blocks + 2 + (vae == "VAE")), convention=convention)
    found = alphas_by_key(alpha, "unet", names, family=family)
    assert [slot(found, n) for n in ("time_embed.0.weight", "label_emb.0.0.weight", "out.2.weight")] == [time, label, out]
    other = alphas_by_key(alpha, "vae", VAE, family=family, denoiser=names.values())
    assert set(other.slots.values()) == {vae}


def test_what_a_convention_does_not_merge_has_alpha_0_and_a_note() -> None:
    found = on_unet(Blocks(values=(0.5,) * 20, convention="chattiori"), 9, "sdxl", label=True)
    assert value(found, "label_emb.0.0.weight") == 0.0
    assert "label_emb (1 key) is not merged and stays A's (convention chattiori)" in found.notes


def test_a_note_says_what_counts_to_another_block() -> None:
    notes = on_unet(Blocks(values=ramp(26))).notes
    assert notes == ("time_embed (1 key) counts to IN00 (convention supermerger)",
                     "out (1 key) counts to OUT11 (convention supermerger)")


@pytest.mark.parametrize("block", ["IN00", "IN03", "M00", "OUT03", "time_embed", "out"])
def test_a_block_sweep_reaches_the_keys_of_its_block_and_no_other(block: str) -> None:
    swept = block_sweep(Merge(a="x", b="y"), (block,), (1,))[0].model
    assert isinstance(swept, Merge) and swept.alpha is not None
    found, own = on_unet(swept.alpha, 4), on_unet(Blocks(values=(0,) * 13, convention="comfyui"), 4)
    reached = {own.slots[key] for key, v in found.values.items() if v}
    assert reached == ({"M00", "M01", "M02"} if block == "M00" else {block})


def test_text_encoders_count_to_base() -> None:
    found = alphas_by_key(Blocks(values=(0.7, *ramp(25))), "text_encoder", TEXT, family="sd1", denoiser=unet(12).values())
    assert set(found.values.values()) == {0.7}
    assert set(found.slots.values()) == {"BASE"}


def test_base_is_the_value_of_base_when_values_come_without() -> None:
    found = alphas_by_key(Blocks(values=ramp(25), base=0.4), "text_encoder", TEXT, family="sd1")
    assert set(found.values.values()) == {0.4}


@pytest.mark.parametrize("values", [ramp(25), ramp(9)])
def test_a_component_that_needs_base_is_refused_without_it(values: tuple[float, ...]) -> None:
    with pytest.raises(WhereError, match=r"text_encoder .*BASE \(7 keys\).*give base="):
        alphas_by_key(Blocks(values=values), "text_encoder", TEXT, family="sd1")


def test_a_unet_key_that_needs_base_is_refused_without_it() -> None:
    with pytest.raises(WhereError, match=r"unet .*BASE \(1 key\) .*'sd-mecha'"):
        on_unet(Blocks(values=ramp(25), convention="sd-mecha"))


def test_base_given_twice_is_refused() -> None:
    with pytest.raises(WhereError, match=r"base is 0\.5, .*26 values .*BASE"):
        on_unet(Blocks(values=ramp(26), base=0.5))


@pytest.mark.parametrize("given", [25, 26])
def test_supermerger_turns_the_values_of_sd1_into_those_of_sdxl_and_says_so(given: int) -> None:
    found = on_unet(Blocks(values=ramp(26)[26 - given:]), 9, "sdxl")
    assert [value(found, n) for n in ("input_blocks.8.0.weight", "middle_block.0.weight", "output_blocks.8.0.weight")] == [
        0.09, 0.13, 0.22]
    assert "without IN09 to IN11 and OUT09 to OUT11" in found.notes[0]


def test_other_conventions_refuse_the_values_of_sd1_for_sdxl() -> None:
    with pytest.raises(WhereError, match=r"or 19 without BASE, or 21 with VAE last\. .*'supermerger'"):
        on_unet(Blocks(values=ramp(26), convention="sd-mecha"), 9, "sdxl")


def test_the_vae_of_sdxl_has_a_slot_of_its_own_in_sd_mecha() -> None:
    names = unet(9).values()
    found = alphas_by_key(Blocks(values=ramp(21), convention="sd-mecha"), "vae", VAE, family="sdxl", denoiser=names)
    assert set(found.values.values()) == {0.2}
    with pytest.raises(WhereError, match=r"vae .* VAE \(12 keys\)"):
        alphas_by_key(Blocks(values=ramp(20), convention="sd-mecha"), "vae", VAE, family="sdxl", denoiser=names)


def test_comfyui_has_a_slot_for_each_of_its_sliders() -> None:
    found = on_unet(Blocks(values=ramp(24), convention="comfyui"), 9, "sdxl", label=True)
    order = ("time_embed.0.weight", "label_emb.0.0.weight", "input_blocks.0.0.weight", "middle_block.0.weight",
             "middle_block.2.weight", "output_blocks.8.0.weight", "out.2.weight")
    assert [value(found, name) for name in order] == [0.0, 0.01, 0.02, 0.11, 0.13, 0.22, 0.23]
    assert value(on_unet(Blocks(values=ramp(29), convention="comfyui")), "out.2.weight") == 0.28


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_gives_sd1_its_own_values(name: str) -> None:
    found = on_unet(Blocks(preset=name))
    assert tuple(value(found, f"input_blocks.{n}.0.weight") for n in range(12)) == PRESETS[name][:12]
    assert value(found, "output_blocks.11.0.weight") == PRESETS[name][24]


def test_a_preset_on_sdxl_leaves_out_the_outer_blocks_under_supermerger_and_is_interpolated_elsewhere() -> None:
    assert value(on_unet(Blocks(preset="GRAD_A"), 9, "sdxl"), "input_blocks.8.0.weight") == pytest.approx(8 / 12)
    other = on_unet(Blocks(preset="GRAD_A", convention="meh"), 9, "sdxl")
    assert value(other, "input_blocks.8.0.weight") == pytest.approx(8 / 9)
    assert "interpolated by depth for 9 and 9" in other.notes[0]


def test_a_preset_on_a_tiny_unet_keeps_its_ends_and_its_middle() -> None:
    found = on_unet(Blocks(preset="GRAD_V"), 4)
    assert ends(found, ("input_blocks.0.0.weight", "middle_block.0.weight", "output_blocks.3.0.weight")) == [1, 0, 1]


@pytest.mark.parametrize(("alpha", "said"), [
    (Blocks(preset="GRAD_B"), "unknown preset 'GRAD_B'; did you mean 'GRAD_"),
    (Blocks(values=ramp(26), convention="super-merger"), "unknown convention 'super-merger'; did you mean 'supermerger'"),
    (Blocks(preset="GRAD_V", convention="comfyui"), "has no values for time_embed and out"),
    (Gradient(values=(1,)), "expected at least 2"),
])
def test_what_is_unknown_is_named(alpha: Alpha, said: str) -> None:
    with pytest.raises(WhereError, match=said):
        on_unet(alpha)


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("family", FULL)
def test_no_key_is_without_a_value_and_a_slot(convention: str, family: str) -> None:
    blocks, label = FULL[family], family.startswith("sdxl")
    alpha = Blocks(values=(0.5,) * (2 * blocks + (5 + label if convention == "comfyui" else 1)), convention=convention, base=0.5)
    found = on_unet(alpha, blocks, family, label)
    assert found.values.keys() == found.slots.keys() == unet(blocks, label).keys()
    assert all(found.values[key] == (0.0 if s == "none" else 0.5) for key, s in found.slots.items())


def test_flux_has_61_slots_in_supermerger() -> None:
    found = alphas_by_key(Blocks(values=ramp(61)), "transformer", flux(19, 38), family="flux")
    assert ends(found, ("img_in.weight", "double_blocks.0.img_attn.qkv.weight", "double_blocks.18.img_attn.qkv.weight",
                        "single_blocks.37.linear1.weight", "final_layer.linear.weight")) == [0.02, 0.03, 0.21, 0.59, 0.6]


def test_the_text_encoders_of_flux_have_a_slot_each_and_its_vae_none() -> None:
    text = [alphas_by_key(Blocks(values=ramp(61)), part, TEXT, family="flux") for part in ("text_encoder", "text_encoder_2")]
    assert [set(one.values.values()) for one in text] == [{0.0}, {0.01}]
    assert set(alphas_by_key(Blocks(values=ramp(61)), "vae", VAE, family="flux").slots.values()) == {"none"}


def test_a_tiny_flux_is_counted_from_its_own_blocks() -> None:
    found = alphas_by_key(Blocks(values=ramp(9)), "transformer", flux(2, 3), family="flux")
    assert found.values["single_blocks.2.linear1.weight"] == 0.07


def test_a_flux_in_the_spelling_of_diffusers_has_the_same_slots() -> None:
    names = same("x_embedder.weight", "time_text_embed.guidance_embedder.linear_1.weight", "transformer_blocks.1.ff.net.2.weight",
                 "single_transformer_blocks.2.proj_mlp.weight", "norm_out.linear.weight", "proj_out.weight")
    found = alphas_by_key(Blocks(values=ramp(9)), "transformer", names, family="flux")
    assert list(found.slots.values()) == ["IN", "IN", "D01", "S02", "OUT", "OUT"]
    swept = block_sweep(Merge(a="x", b="y"), ("S02",), (1,))[0].model
    assert isinstance(swept, Merge) and swept.alpha is not None
    assert list(alphas_by_key(swept.alpha, "transformer", names, family="flux").values.values()) == [0, 0, 0, 1, 0, 0]


def test_block_weights_of_sd3_are_those_of_comfyui() -> None:
    names = same("pos_embed", "x_embedder.proj.weight", "joint_blocks.0.x", "joint_blocks.1.x", "final_layer.linear.weight")
    found = alphas_by_key(Blocks(values=ramp(5), convention="comfyui"), "transformer", names, family="sd3")
    assert list(found.values.values()) == [0.0, 0.01, 0.02, 0.03, 0.04]
    with pytest.raises(WhereError, match="'supermerger' has no block weights for sd3; comfyui has"):
        alphas_by_key(Blocks(values=ramp(5)), "transformer", names, family="sd3")


def test_names_without_blocks_are_refused() -> None:
    with pytest.raises(WhereError, match=r"no blocks of a model of family 'sd1'"):
        alphas_by_key(Blocks(preset="GRAD_V"), "unet", same("down_blocks.0.resnets.0.conv1.weight"), family="sd1")


def test_a_gradient_goes_from_the_first_block_to_the_last_in_equal_steps() -> None:
    found = on_unet(Gradient(values=(0, 1)), 4)
    assert ends(found, ("input_blocks.0.0.weight", "input_blocks.1.0.weight", "middle_block.0.weight", "output_blocks.3.0.weight",
                        "out.2.weight", "time_embed.0.weight")) == [0, 1 / 8, 0.5, 1, 1, 0.5]
    assert found.notes == ("alpha of 1 key in no layer is the mean of the gradient, 0.5",)


def test_a_gradient_passes_through_its_anchors() -> None:
    found = on_unet(Gradient(values=(0.2, 0.8, 0.5)), 4)
    assert ends(found, ("input_blocks.0.0.weight", "input_blocks.2.0.weight", "middle_block.0.weight", "output_blocks.3.0.weight")
                ) == pytest.approx([0.2, 0.5, 0.8, 0.5])


def test_a_gradient_on_a_text_encoder_goes_by_layer() -> None:
    found = alphas_by_key(Gradient(values=(0, 1)), "text_encoder", TEXT, family="sd1")
    assert list(found.values.values()) == [0.5, 0, 0.25, 0.5, 0.75, 1, 0.5]


def test_a_gradient_on_a_vae_goes_from_the_encoders_first_block_to_the_decoders_last() -> None:
    found = alphas_by_key(Gradient(values=(0, 1)), "vae", VAE, family="sd1")
    assert list(found.values.values()) == [0, 0, 0.2, 0.4, 0.4, 0.4, 0.6, 0.6, 0.6, 0.8, 1, 1]


def test_a_gradient_on_flux_goes_through_the_double_and_then_the_single_blocks() -> None:
    found = alphas_by_key(Gradient(values=(0, 1)), "transformer", flux(2, 3), family="flux")
    assert list(found.values.values()) == [0, 0, 0.5, 0.5, 0, 0.25, 0.5, 0.75, 1, 1]


def test_parts_go_before_the_default_and_keys_before_both() -> None:
    alpha = Alphas(default=0.1, parts={"unet": 0.5}, keys={"*middle_block*": 0.9, "unet.*.middle_block.1.*": 0.7})
    found = on_unet(alpha)
    assert ends(found, ("input_blocks.3.0.weight", "middle_block.0.weight", "middle_block.1.weight")) == [0.5, 0.9, 0.7]
    assert slot(found, "middle_block.1.weight") == "unet.*.middle_block.1.*"
    assert set(alphas_by_key(alpha, "vae", VAE, family="sd1").values.values()) == {0.1}


@pytest.mark.parametrize("pattern", [
    "diffusers.middle_block.1.weight", "middle_block.1.weight", "unet.diffusers.middle_block.1.weight", "unet.middle_block.1.*",
    "model.diffusion_model.middle_block.1.weight"])
def test_a_pattern_knows_every_spelling_of_a_key(pattern: str) -> None:
    found = on_unet(Alphas(default=0, keys={pattern: 1}))
    assert [key for key, v in found.values.items() if v] == ["diffusers.middle_block.1.weight"]
    assert found.matched == (pattern,)


def test_block_weights_hold_for_one_part_and_a_number_for_the_others() -> None:
    alpha = Alphas(default=0.2, parts={"unet": Blocks(values=ramp(25))})
    assert value(on_unet(alpha), "output_blocks.11.0.weight") == 0.24
    assert set(alphas_by_key(alpha, "text_encoder", TEXT, family="sd1").values.values()) == {0.2}


def test_a_key_that_a_pattern_decides_needs_no_value_of_its_block() -> None:
    alpha = Alphas(default=Blocks(values=ramp(25)), keys={"text_encoder.*": 0.6})
    assert set(alphas_by_key(alpha, "text_encoder", TEXT, family="sd1").values.values()) == {0.6}


def test_what_matches_in_no_component_is_said_once_over_all() -> None:
    alpha = Alphas(default=0, parts={"text_encoder": 1}, keys={"*attn9*": 1, "vae.*": 0.5, "unet.*": 0.5})
    found = [on_unet(alpha), alphas_by_key(alpha, "vae", VAE, family="sd1")]
    said = unmet(requested_alphas("alpha", alpha, found))
    assert len(said) == 2
    assert "alpha for the part 'text_encoder': it is not merged; merged: unet, vae" in said[0]
    assert "alpha for the keys '*attn9*': no key of unet, vae matches" in said[1]
    assert requested_alphas("alpha", 0.5, found) == []


def test_the_slots_sum_up_what_was_merged_how() -> None:
    found = on_unet(Blocks(values=ramp(10)), 4)
    assert found.by_slot["IN00"] == (0.01, 2)
    assert found.by_slot["M00"] == (0.05, 3)


def test_the_keys_keep_their_order() -> None:
    assert list(on_unet(Alphas(default=0, keys={"*time_embed*": 1})).values) == list(unet(12))
