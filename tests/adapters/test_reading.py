"""Every format reads to exactly the changes that were written, accounts for every tensor, and fails on any odd name."""

import json
import math

import pytest
import torch

from harness.adapters.build_change import ASSUMED
from harness.adapters.live_plan import AdapterError
from harness.adapters.reading import read_changes
from tests.adapters import cases
from tests.adapters import fixtures as fx


@cases.by_case
def test_a_file_reads_to_exactly_what_was_written_and_the_account_closes(made, tmp_path):
    model, family, changes, tensors, metadata = made()
    reading = read_changes(fx.save(tmp_path / "a.safetensors", tensors, metadata), model, family)
    fx.same(reading, changes)
    fx.closes(reading, tensors)
    assert {status for by_status in reading.keys.values() for status in by_status} <= {"applied", "consumed"}


@cases.by_case
@pytest.mark.parametrize("how", ["beginning", "middle", "ending"])
def test_one_renamed_key_fails_and_is_named(made, how, tmp_path):
    model, family, _, tensors, metadata = made()
    old = next(key for key in tensors if "blocks" in key or "unet:0:" in key)
    new = {"beginning": "x" + old, "ending": old + "x",
           "middle": old.replace("blocks", "bloks").replace("unet:0:", "unet:999:")}[how]
    renamed = {new if key == old else key: value for key, value in tensors.items()}
    with pytest.raises(AdapterError) as error:
        read_changes(fx.save(tmp_path / "a.safetensors", renamed, metadata), model, family)
    assert new in str(error.value) or "999" in str(error.value)


@pytest.mark.parametrize("kind", list(fx.other_kinds("unet", cases.LINEAR, (16, 16))))
def test_failures_3_and_4_other_kinds_read_to_exactly_what_was_written(kind, tmp_path):
    model = fx.sd1()
    changes = {("unet", cases.LINEAR): fx.other_kinds("unet", cases.LINEAR, model["unet"][cases.LINEAR])[kind]}
    spellings = [fx.kohya(changes), fx.kohya(changes, {"unet": "lycoris_"})]
    # (IA)^3 has no dotted form: its ending is that of an ordinary weight.
    spellings += [fx.dotted(changes, "diffusion_model.")] if kind != "ia3" else []
    for tensors in spellings:
        reading = read_changes(fx.save(tmp_path / "a.safetensors", tensors), model, "sd1")
        fx.same(reading, changes)
        fx.closes(reading, tensors)


def test_norms_read_in_both_spellings(tmp_path):
    model, path = fx.sd1(), "conv_norm_out"
    for roles in (("w_norm", "b_norm"), ("diff", "diff_b")):
        tensors = {f"lora_unet_{path}.{role}": torch.ones(16) for role in roles}
        reading = read_changes(fx.save(tmp_path / "a.safetensors", tensors), model, "sd1")
        assert set(reading.changes["unet", path].tensors) == set(roles)


def test_a_tucker_core_is_read_and_its_scale_is_that_of_its_rank(tmp_path):
    model, stem = fx.sd1(), "lora_unet_conv_in"
    out, width, *kernel = model["unet"]["conv_in"]
    tensors = {f"{stem}.lora_down.weight": torch.randn(2, width, 1, 1), f"{stem}.lora_up.weight": torch.randn(out, 2, 1, 1),
               f"{stem}.lora_mid.weight": torch.randn(2, 2, *kernel), f"{stem}.alpha": torch.tensor(1.0)}
    change = read_changes(fx.save(tmp_path / "a.safetensors", tensors), model, "sd1").changes["unet", "conv_in"]
    assert set(change.tensors) == {"down", "up", "mid"}
    assert change.scale == 0.5


def test_f1_and_failure_7_every_module_keeps_its_own_alpha_and_one_without_has_scale_1(tmp_path):
    model, _, changes, tensors, _ = cases.kohya_sd1()
    key = f"lora_unet_{cases.LINEAR.replace('.', '_')}.alpha"
    del tensors[key]
    reading = read_changes(fx.save(tmp_path / "a.safetensors", tensors), model, "sd1")
    assert reading.changes["unet", cases.LINEAR].scale == 1.0
    assert all(abs(reading.changes[place].scale - changes[place].scale) < 1e-6 for place in changes if place[1] != cases.LINEAR)
    assert ASSUMED in reading.notes
    assert reading.facts["alphas"].endswith("1 modules without")


def test_f2_a_lokr_of_whole_halves_has_scale_1_whatever_its_alpha_even_infinite(tmp_path):
    model, stem = fx.sd1(), "lora_unet_" + cases.LINEAR.replace(".", "_")
    tensors = {f"{stem}.lokr_w1": torch.ones(4, 4), f"{stem}.lokr_w2": torch.ones(4, 4), f"{stem}.alpha": torch.tensor(math.inf)}
    assert read_changes(fx.save(tmp_path / "a.safetensors", tensors), model, "sd1").changes["unet", cases.LINEAR].scale == 1.0


def test_f3_both_layers_of_add_embedding_are_read_in_both_spellings(tmp_path):
    for made in (cases.kohya_sdxl_diffusers, cases.kohya_sdxl_sgm):
        model, family, changes, tensors, _ = made()
        reading = read_changes(fx.save(tmp_path / "a.safetensors", tensors), model, family)
        for number in (1, 2):
            place = "unet", f"add_embedding.linear_{number}"
            assert torch.equal(reading.changes[place].tensors["up"], changes[place].tensors["up"])


def test_f4_flux_modules_outside_the_blocks_are_read(tmp_path):
    model, family, _, tensors, _ = cases.kohya_flux()
    reading = read_changes(fx.save(tmp_path / "a.safetensors", tensors), model, family)
    for name in ("img_in", "txt_in", "time_in.in_layer", "vector_in.out_layer", "guidance_in.in_layer", "final_layer.linear"):
        assert ("transformer", name) in reading.changes


def test_f5_dora_is_kept_and_peft_magnitudes_are_by_output(tmp_path):
    model = fx.sd1()
    base = f"unet.{cases.LINEAR}"
    for ending in ("lora_magnitude_vector", "lora_magnitude_vector.weight", "lora_magnitude_vector.default.weight"):
        tensors = {f"{base}.lora_A.weight": torch.ones(1, 16), f"{base}.lora_B.weight": torch.ones(16, 1),
                   f"{base}.{ending}": torch.arange(16.0).reshape(1, 16)}
        change = read_changes(fx.save(tmp_path / "a.safetensors", tensors), model, "sd1").changes["unet", cases.LINEAR]
        assert change.magnitude.shape == (16,)


def test_f6_and_failure_8_onetrainer_modules_beside_attention_do_not_collide(tmp_path):
    model, family, _, tensors, _ = cases.onetrainer()
    reading = read_changes(fx.save(tmp_path / "a.safetensors", tensors), model, family)
    parts = ("ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "norm1.linear", "norm1_context.linear")
    assert all(("transformer", f"transformer_blocks.0.{part}") in reading.changes for part in parts)


def test_failure_15_two_spellings_of_one_module_are_an_error_that_names_both(tmp_path):
    model, _, _, tensors, _ = cases.kohya_sdxl_diffusers()
    double = {key.replace("conv_in", "input_blocks_0_0"): value for key, value in tensors.items() if "lora_unet_conv_in." in key}
    with pytest.raises(AdapterError, match=r"lora_unet_conv_in\.alpha.*lora_unet_input_blocks_0_0\.alpha.*both change"):
        read_changes(fx.save(tmp_path / "a.safetensors", tensors | double), model, "sdxl")
    model = fx.flux()
    both = fx.dotted({("transformer", path): fx.lora("transformer", path, shape, 1, baked=True) for path, shape in (
        ("transformer_blocks.0.attn.to_q", (fx.H, fx.H)), ("double_blocks.0.img_attn.qkv", (3 * fx.H, fx.H)))})
    with pytest.raises(AdapterError, match=r"(?=.*attn\.to_q)(?=.*attn\.qkv).*both change"):
        read_changes(fx.save(tmp_path / "b.safetensors", both), model, "flux")


def test_an_absent_component_is_listed_and_a_file_with_nothing_else_is_an_error(tmp_path):
    model, _, _, tensors, _ = cases.kohya_sd1()
    reading = read_changes(fx.save(tmp_path / "a.safetensors", tensors), {"unet": model["unet"]}, "sd1")
    assert set(reading.keys["text_encoder"]) == {"absent_component"}
    fx.closes(reading, tensors)
    words = {key: value for key, value in tensors.items() if "lora_te1" in key}
    with pytest.raises(AdapterError, match="this model has no text_encoder"):
        read_changes(fx.save(tmp_path / "b.safetensors", words), {"unet": model["unet"]}, "sd1")


def test_failure_5_a_file_that_would_do_nothing_is_an_error_that_says_what_it_is_for(tmp_path):
    tensors = cases.kohya_flux()[3]
    with pytest.raises(AdapterError, match=r"names no module of unet; the nearest is .*are for: Flux\.1"):
        read_changes(fx.save(tmp_path / "a.safetensors", tensors), fx.sd1(), "sd1")


def peft_folder(tmp_path, tensors, **config):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 4, **config}))
    fx.save(tmp_path / "adapter_model.safetensors", tensors)
    return tmp_path


def test_failure_12_a_peft_folder_reads_with_its_patterns_and_rslora(tmp_path):
    model = fx.sd1()
    changes = fx.loras(model, only=("unet",))
    tensors = fx.dotted(changes, "base_model.model.", alpha="")
    patterns = {"rank_pattern": {path: change.rank for (_, path), change in changes.items()},
                "alpha_pattern": {path: change.alpha for (_, path), change in changes.items()}}
    reading = read_changes(peft_folder(tmp_path, tensors, **patterns), model, "sd1")
    fx.same(reading, changes)
    fx.closes(reading, tensors)
    rooted = read_changes(peft_folder(tmp_path, tensors, use_rslora=True, **patterns), model, "sd1")
    for place, change in changes.items():
        assert rooted.changes[place].scale == pytest.approx(change.alpha / math.sqrt(change.rank))


def test_a_peft_folder_of_a_text_encoder_finds_the_encoder_by_names_and_widths(tmp_path):
    model = fx.sdxl()
    path = "text_model.encoder.layers.0.self_attn.q_proj"
    tensors = fx.dotted({(1, path): fx.lora("text_encoder_2", path, (40, 40), 1)}, "base_model.model.", alpha="")
    reading = read_changes(peft_folder(tmp_path, tensors), model, "sdxl")
    assert set(reading.changes) == {("text_encoder_2", path)}


@pytest.mark.parametrize(("kind", "scale"), [("loha", 4.0 / 2), ("lokr-whole", 4.0 / 2)])
def test_peft_folders_of_loha_and_lokr_have_pefts_own_scale(kind, scale, tmp_path):
    model = fx.sd1()
    change = fx.other_kinds("unet", cases.LINEAR, (16, 16))[kind]
    tensors = fx.dotted({("unet", cases.LINEAR): change}, "base_model.model.", alpha="")
    reading = read_changes(peft_folder(tmp_path, tensors, peft_type=kind[:4].upper(), alpha=4), model, "sd1")
    assert reading.changes["unet", cases.LINEAR].scale == scale
    assert ("PEFT scales a LoKr" in " ".join(reading.notes)) == (kind != "loha")


def test_cloneofsimos_list_reads_in_the_order_of_its_trainer(tmp_path):
    model, _, changes, _, _ = cases.cloneofsimo()
    own = [change for place, change in changes.items() if place[0] == "unet"]
    torch.save([tensor for change in own for tensor in (change.tensors["up"], change.tensors["down"])], tmp_path / "a.pt")
    reading = read_changes(tmp_path / "a.pt", model, "sd1")
    fx.same(reading, {place: change for place, change in changes.items() if place[0] == "unet"})


def test_a_pickle_by_names_reads_as_the_same_safetensors(tmp_path):
    model, _, changes, tensors, _ = cases.kohya_sd1()
    torch.save({"state_dict": tensors}, tmp_path / "a.ckpt")
    fx.same(read_changes(tmp_path / "a.ckpt", model, "sd1"), changes)


def test_bundled_words_are_read_beside_the_changes(tmp_path):
    model, family, changes, tensors, _ = cases.kohya_sdxl_diffusers()
    tensors |= {"bundle_emb.my.style.clip_l": torch.ones(2, 24), "bundle_emb.my.style.clip_g": torch.ones(2, 40),
                "bundle_emb.my.style.clip_l_out": torch.ones(2, 24), "bundle_emb.other.string_to_param.*": torch.ones(1, 24)}
    reading = read_changes(fx.save(tmp_path / "a.safetensors", tensors), model, family)
    fx.same(reading, changes)
    fx.closes(reading, tensors)
    assert {(word.component, word.token) for word in reading.embeddings} == {
        ("text_encoder", "my.style"), ("text_encoder_2", "my.style"), ("text_encoder", "other")}
    assert reading.keys["text_encoder"]["refused"] == ("bundle_emb.my.style.clip_l_out",)


def test_early_glora_with_swapped_matrices_reads_as_todays(tmp_path):
    model, shape = fx.sd1(), (16, 16)
    change = fx.other_kinds("unet", cases.LINEAR, shape)["glora"]
    swap = {"a1": "a2", "a2": "a1", "b1": "b2", "b2": "b1"}
    stem = f"lora_unet_{cases.LINEAR.replace('.', '_')}"
    tensors = {f"{stem}.{role}.weight": change.tensors[swap[role]] for role in swap} | {f"{stem}.alpha": torch.tensor(2.0)}
    fx.same(read_changes(fx.save(tmp_path / "a.safetensors", tensors), model, "sd1"), {("unet", cases.LINEAR): change})


def test_kohyas_oft_with_alpha_0_has_no_effect_and_lycoris_has_no_clamp(tmp_path):
    for prefix, scale in (("oft_unet_", 0.0), ("lora_unet_", 1.0)):
        stem = prefix + cases.LINEAR.replace(".", "_")
        tensors = {f"{stem}.oft_blocks": torch.ones(4, 4, 4), f"{stem}.alpha": torch.tensor(0.0)}
        change = read_changes(fx.save(tmp_path / "a.safetensors", tensors), fx.sd1(), "sd1").changes["unet", cases.LINEAR]
        assert (change.scale, change.alpha) == (scale, 0.0)


def test_layers_that_take_no_factors_are_refused_with_a_reason_and_the_rest_is_applied(tmp_path):
    model, _, changes, tensors, _ = cases.kohya_sd1()
    extra = {"lora_unet_conv_norm_out.alpha": torch.tensor(1.0)}
    reading = read_changes(fx.save(tmp_path / "a.safetensors", tensors | extra), model, "sd1")
    fx.same(reading, changes)
    assert reading.keys["unet"]["refused"] == tuple(extra)
    assert "norm" in reading.reasons["lora_unet_conv_norm_out.alpha"]


def test_failure_9_a_magnitude_of_one_axis_on_a_square_layer_stays_as_it_is(tmp_path):
    stem = f"diffusion_model.{cases.LINEAR}"
    tensors = {f"{stem}.lora_A.weight": torch.ones(1, 16), f"{stem}.lora_B.weight": torch.ones(16, 1),
               f"{stem}.magnitude": torch.ones(16)}
    change = read_changes(fx.save(tmp_path / "a.safetensors", tensors), fx.sd1(), "sd1").changes["unet", cases.LINEAR]
    assert change.magnitude.shape == (16,)


def test_a_linear_layers_factors_fit_its_1x1_convolution_and_the_other_way_round(tmp_path):
    for model, place in ((fx.sd1(), "down_blocks.0.attentions.0.proj_in"), (fx.sdxl(), "mid_block.attentions.0.proj_in")):
        out, width, *ones = model["unet"][place]
        tail = [] if ones else [1, 1]
        stem = "lora_unet_" + place.replace(".", "_")
        tensors = {f"{stem}.lora_down.weight": torch.ones(2, width, *tail), f"{stem}.lora_up.weight": torch.ones(out, 2, *tail)}
        assert len(read_changes(fx.save(tmp_path / "a.safetensors", tensors), model, "sd1").changes) == 1


def test_trained_biases_of_peft_are_a_role_of_the_lora_and_8_bit_floats_are_widened(tmp_path):
    stem = f"unet.{cases.LINEAR}"
    tensors = {f"{stem}.lora_A.default.weight": torch.ones(1, 16).to(torch.float8_e4m3fn),
               f"{stem}.lora_B.default.weight": torch.ones(16, 1), f"{stem}.lora_B.default.bias": torch.ones(16)}
    change = read_changes(fx.save(tmp_path / "a.safetensors", tensors), fx.sd1(), "sd1").changes["unet", cases.LINEAR]
    assert set(change.tensors) == {"down", "up", "bias"}
    assert change.tensors["down"].dtype == torch.float32


def test_the_facts_say_what_a_file_is_in_words(tmp_path):
    model, family, changes, tensors, _ = cases.kohya_flux()
    facts = read_changes(fx.save(tmp_path / "a.safetensors", tensors), model, family).facts
    assert facts["base"] == "Flux.1"
    assert facts["ranks"] == "1 to 3"
    assert f"transformer {sum(place[0] == 'transformer' for place in changes)}" in facts["modules"]


def test_cloneofsimos_old_order_has_the_feed_forward_between_the_attentions():
    from harness.adapters.module_names import traversal

    paths = traversal("unet", fx.sd1()["unet"], True)
    assert [path.partition("transformer_blocks.0.")[2] for path in paths[:9]] == [
        "attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0", "ff.net.0.proj",
        "attn2.to_q", "attn2.to_k", "attn2.to_v", "attn2.to_out.0"]
    assert [path.partition(".")[0] for path in paths[::9]] == ["down_blocks", "up_blocks", "up_blocks", "mid_block"]


@pytest.mark.parametrize("live", ["", "text_model."])
@pytest.mark.parametrize("written", ["", "text_model."])
@pytest.mark.parametrize(("prefix", "make"), [("lora_te_", fx.kohya), ("lora_te1_", fx.kohya), ("text_encoder.", fx.dotted)])
def test_text_encoders_are_read_with_and_without_text_model_in_the_file_and_in_the_model(live, written, prefix, make, tmp_path):
    """transformers 5 dropped the prefix from its modules; files of before and of after are around."""
    model = {"text_encoder": fx.clip_shapes(24, prefix=live)}
    changes = fx.loras(model)
    rename = {path: written + path.removeprefix(live) for _, path in changes}
    given = {"text_encoder": prefix} if make is fx.kohya else prefix
    reading = read_changes(fx.save(tmp_path / "a.safetensors", make(changes, given, rename=rename)), model, "sd1")
    fx.same(reading, changes)


@pytest.mark.parametrize(("pattern", "scale"), [
    ("attn1.to_q", 4.0), ("ttn1.to_q", 1.0), (f"^{cases.LINEAR}", 4.0), ("^attn1.to_q", 1.0),
    (cases.LINEAR.replace(".", r"\."), 4.0), (".*attn1.*", 4.0), ("(to_k|to_q)", 4.0), ("to_k", 1.0)])
def test_alpha_patterns_match_as_pefts_do(pattern, scale, tmp_path):
    tensors = {f"unet.{cases.LINEAR}.lora_A.weight": torch.ones(2, 16), f"unet.{cases.LINEAR}.lora_B.weight": torch.ones(16, 2)}
    header = {"lora_adapter_metadata": json.dumps({"unet.r": 2, "unet.lora_alpha": 2, "unet.alpha_pattern": {pattern: 8}})}
    reading = read_changes(fx.save(tmp_path / "a.safetensors", tensors, header), fx.sd1(), "sd1")
    assert reading.changes["unet", cases.LINEAR].scale == scale
