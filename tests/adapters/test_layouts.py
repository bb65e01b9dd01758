"""Flux and Stable Diffusion 3 files in one layout read onto models in the other: exactly, or refused with a reason."""

import json

import pytest
import torch

from harness.adapters.kinds import plain_delta
from harness.adapters.reading import read_changes
from tests.adapters import fixtures as fx


def deltas(change, shape):
    return plain_delta(change, torch.zeros(shape))


def test_failures_1_and_2_an_ai_toolkit_flux_file_reads_onto_the_original_names_and_says_so(tmp_path):
    """The known pain: kohya's flux_merge_lora raises KeyError for this very key, or writes an unchanged model."""
    key = "transformer.single_transformer_blocks.0.attn.to_k.lora_A.weight"
    changes = {place: change for place, change in fx.loras({"transformer": fx.flux_diffusers()}, baked=True).items()
               if place[1].endswith(("attn.to_k", "to_q", "to_v", "proj_mlp", "norm_out.linear", "x_embedder"))}
    tensors = fx.dotted(changes)
    assert key in tensors
    model = fx.flux()
    reading = read_changes(fx.save(tmp_path / "a.safetensors", tensors, {"software": json.dumps({"name": "ai-toolkit"})}),
                           model, "flux")
    fx.closes(reading, tensors)
    assert key in reading.keys["transformer"]["applied"]
    fused = reading.changes["transformer", "single_blocks.0.linear1"]
    parts = [changes["transformer", f"single_transformer_blocks.0.{name}"]
             for name in ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp")]
    assert fused.kind == "lora" and fused.scale == 1 and fused.rank == sum(part.rank for part in parts)
    expected = torch.cat([deltas(part, (part.tensors["up"].shape[0], fx.H)) for part in parts])
    torch.testing.assert_close(deltas(fused, (3 * fx.H + fx.MLP, fx.H)), expected)
    assert "ai-toolkit" in reading.facts["training tool"]
    assert any("fused layers of this model were joined" in note for note in reading.notes)
    assert any("swapped" in note for note in reading.notes)


@pytest.mark.parametrize(("layout", "other"), [(fx.flux_bfl, fx.flux_diffusers), (fx.flux_diffusers, fx.flux_bfl)])
def test_a_flux_file_in_the_other_layout_changes_the_same_function(layout, other, tmp_path):
    """Every delta of the file, put where the layouts say by an independent hand, is the delta that was read."""
    changes = fx.loras({"transformer": other()})
    reading = read_changes(fx.save(tmp_path / "a.safetensors", fx.dotted(changes)), fx.flux(layout), "flux")
    bfl, diffusers = (changes, reading.changes) if other is fx.flux_bfl else (reading.changes, changes)

    def of(found, path, shapes):
        return deltas(found["transformer", path], shapes[path])

    small, large = fx.flux_diffusers(), fx.flux_bfl()
    fused = torch.cat([of(diffusers, f"transformer_blocks.1.attn.add_{part}_proj", small) for part in "qkv"])
    torch.testing.assert_close(of(bfl, "double_blocks.1.txt_attn.qkv", large), fused)
    fused = torch.cat([of(diffusers, f"single_transformer_blocks.0.{part}", small)
                       for part in ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp")])
    torch.testing.assert_close(of(bfl, "single_blocks.0.linear1", large), fused)
    shift, scale = of(bfl, "final_layer.adaLN_modulation.1", large).chunk(2)
    torch.testing.assert_close(torch.cat([scale, shift]), of(diffusers, "norm_out.linear", small))
    for one, two in (("img_in", "x_embedder"), ("final_layer.linear", "proj_out"),
                     ("single_blocks.1.linear2", "single_transformer_blocks.1.proj_out"),
                     ("double_blocks.0.txt_mlp.2", "transformer_blocks.0.ff_context.net.2"),
                     ("vector_in.in_layer", "time_text_embed.text_embedder.linear_1")):
        torch.testing.assert_close(of(bfl, one, large), of(diffusers, two, small))


def test_a_diffusers_sd3_file_reads_onto_stabilitys_names_with_the_last_context_swapped(tmp_path):
    path = "transformer_blocks.1.norm1_context.linear"
    change = fx.lora("transformer", path, (2 * fx.H, fx.H), 1, baked=True)
    reading = read_changes(fx.save(tmp_path / "a.safetensors", fx.dotted({("transformer", path): change})), fx.sd3(), "sd3")
    found = reading.changes["transformer", "joint_blocks.1.context_block.adaLN_modulation.1"]
    first, second = change.tensors["up"].chunk(2)
    assert torch.equal(found.tensors["up"], torch.cat([second, first]))


def test_some_parts_of_a_fused_layer_leave_the_others_alone(tmp_path):
    paths = [f"transformer_blocks.0.attn.{name}" for name in ("to_q", "to_v")]
    changes = {("transformer", path): fx.lora("transformer", path, (fx.H, fx.H), 1, baked=True) for path in paths}
    reading = read_changes(fx.save(tmp_path / "a.safetensors", fx.dotted(changes)), fx.flux(), "flux")
    delta = deltas(reading.changes["transformer", "double_blocks.0.img_attn.qkv"], (3 * fx.H, fx.H))
    assert not delta[fx.H:2 * fx.H].any() and delta[:fx.H].any() and delta[2 * fx.H:].any()


@pytest.mark.parametrize("kind", ["loha", "lokr", "lokr-whole", "full", "bias"])
def test_other_additive_kinds_split_and_join_exactly(kind, tmp_path):
    fused = fx.other_kinds("transformer", "double_blocks.0.img_attn.qkv", (3 * fx.H, fx.H))[kind]
    tensors = fx.dotted({("transformer", fused.path): fused}, "diffusion_model.")
    reading = read_changes(fx.save(tmp_path / "a.safetensors", tensors), fx.flux(fx.flux_diffusers), "flux")
    split = torch.cat([deltas(reading.changes["transformer", f"transformer_blocks.0.attn.to_{part}"], (fx.H, fx.H))
                       for part in "qkv"])
    torch.testing.assert_close(split, deltas(fused, (3 * fx.H, fx.H)))
    single = fx.other_kinds("transformer", "transformer_blocks.0.attn.to_k", (fx.H, fx.H))[kind]
    tensors = fx.dotted({("transformer", single.path): single})
    reading = read_changes(fx.save(tmp_path / "b.safetensors", tensors), fx.flux(), "flux")
    whole = deltas(reading.changes["transformer", "double_blocks.0.img_attn.qkv"], (3 * fx.H, fx.H))
    torch.testing.assert_close(whole[fx.H:2 * fx.H], deltas(single, (fx.H, fx.H)))
    assert not whole[:fx.H].any() and not whole[2 * fx.H:].any()


def test_dora_and_rotations_of_parts_are_refused_with_a_reason_and_the_rest_is_applied(tmp_path):
    kinds = fx.other_kinds("transformer", "transformer_blocks.0.attn.to_k", (fx.H, fx.H))
    path = "transformer_blocks.0.attn.to_out.0"
    for kind in ("dora-rows", "dora-columns", "oft", "glora"):
        changes = {("transformer", kinds[kind].path): kinds[kind], ("transformer", path): fx.lora(
            "transformer", path, (fx.H, fx.H), 1)}
        tensors = fx.dotted(changes)
        reading = read_changes(fx.save(tmp_path / "a.safetensors", tensors), fx.flux(), "flux")
        fx.closes(reading, tensors)
        refused = reading.keys["transformer"]["refused"]
        assert refused and all("to_k" in key and "fused" in reading.reasons[key] for key in refused)
        assert set(reading.changes) == {("transformer", "double_blocks.0.img_attn.proj")}


def split_qkv(alpha, rank=2):
    stem = "lora_unet_double_blocks_0_img_attn_qkv"
    up = torch.block_diag(*[torch.ones(fx.H, rank) for _ in range(3)])
    return {f"{stem}.lora_down.weight": torch.ones(3 * rank, fx.H), f"{stem}.lora_up.weight": up,
            f"{stem}.alpha": torch.tensor(float(alpha))}


def test_failure_10_split_qkv_counts_the_alpha_of_one_part(tmp_path):
    read = read_changes(fx.save(tmp_path / "a.safetensors", split_qkv(1)), fx.flux(), "flux")
    change = read.changes["transformer", "double_blocks.0.img_attn.qkv"]
    assert bool((deltas(change, (3 * fx.H, fx.H)) == 0.5 * 2).all()) and change.scale == 1
    assert any("alpha of one of them" in note for note in read.notes)


def test_kohyas_own_converter_writes_the_alpha_of_the_whole_and_a_dense_up_is_no_split(tmp_path):
    read = read_changes(fx.save(tmp_path / "a.safetensors", split_qkv(6)), fx.flux(), "flux")
    assert read.changes["transformer", "double_blocks.0.img_attn.qkv"].scale == 1.0
    header = {"ss_network_args": '{"split_qkv": "True"}'}
    read = read_changes(fx.save(tmp_path / "b.safetensors", split_qkv(6), header), fx.flux(), "flux")
    assert bool((deltas(read.changes["transformer", "double_blocks.0.img_attn.qkv"], (3 * fx.H, fx.H)) == 3 * 2).all())
    dense = {key: torch.ones_like(value) if "up" in key else value for key, value in split_qkv(1).items()}
    read = read_changes(fx.save(tmp_path / "c.safetensors", dense), fx.flux(), "flux")
    assert read.changes["transformer", "double_blocks.0.img_attn.qkv"].scale == pytest.approx(1 / 6)


def test_failure_11_xlabs_single_blocks_change_the_attention_rows_of_linear1_alone(tmp_path):
    tensors = {"single_blocks.0.processor.qkv_lora.down.weight": torch.ones(2, fx.H),
               "single_blocks.0.processor.qkv_lora.up.weight": torch.ones(3 * fx.H, 2)}
    for layout, count in ((fx.flux_bfl, 1), (fx.flux_diffusers, 3)):
        reading = read_changes(fx.save(tmp_path / "a.safetensors", tensors), fx.flux(layout), "flux")
        assert len(reading.changes) == count
        fx.closes(reading, tensors)
    delta = deltas(read_changes(tmp_path / "a.safetensors", fx.flux(), "flux").changes[
        "transformer", "single_blocks.0.linear1"], (3 * fx.H + fx.MLP, fx.H))
    assert bool((delta[:3 * fx.H] == 2).all()) and not delta[3 * fx.H:].any()


@pytest.mark.parametrize("prefix", ["diffusion_model.", "transformer.", "base_model.model.", "transformer.base_model.model.", ""])
def test_failure_6_peft_keys_in_the_original_names_read_onto_either_layout(prefix, tmp_path):
    path = "single_blocks.1.linear1"
    change = fx.lora("transformer", path, (3 * fx.H + fx.MLP, fx.H), 2, baked=True)
    tensors = {f"{prefix}{path}.{name}": change.tensors[role] for role, name in fx.PEFT_ROLES.items()}
    file = fx.save(tmp_path / "a.safetensors", tensors)
    fx.same(read_changes(file, fx.flux(), "flux"), {("transformer", path): change})
    split = read_changes(file, fx.flux(fx.flux_diffusers), "flux")
    assert {place[1].rpartition("1.")[2] for place in split.changes} == {"attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"}
    assert any("split by rows" in note for note in split.notes)


def test_dora_of_a_fused_layer_splits_by_rows_and_of_all_parts_joins(tmp_path):
    fused = fx.other_kinds("transformer", "double_blocks.0.img_attn.qkv", (3 * fx.H, fx.H))["dora-rows"]
    tensors = fx.dotted({("transformer", fused.path): fused}, "diffusion_model.")
    split = read_changes(fx.save(tmp_path / "a.safetensors", tensors), fx.flux(fx.flux_diffusers), "flux").changes
    assert torch.equal(torch.cat([change.magnitude for change in split.values()]), fused.magnitude)
    again = fx.dotted(split)
    joined = read_changes(fx.save(tmp_path / "b.safetensors", again), fx.flux(), "flux").changes["transformer", fused.path]
    assert torch.equal(joined.magnitude, fused.magnitude.reshape(-1))
    torch.testing.assert_close(deltas(joined, (3 * fx.H, fx.H)), deltas(fused, (3 * fx.H, fx.H)))


def test_a_split_qkv_file_read_written_and_read_again_is_the_same(tmp_path):
    from harness.adapters.writing import Layout, adapter_tensors

    place = "transformer", "double_blocks.0.img_attn.qkv"
    first = read_changes(fx.save(tmp_path / "a.safetensors", split_qkv(1)), fx.flux(), "flux").changes
    names = {place: "lora_unet_double_blocks_0_img_attn_qkv"}
    tensors, _ = adapter_tensors(first, Layout(name="kohya", dtype="fp32", names=names))
    second = read_changes(fx.save(tmp_path / "b.safetensors", tensors), fx.flux(), "flux").changes
    assert torch.equal(deltas(second[place], (3 * fx.H, fx.H)), deltas(first[place], (3 * fx.H, fx.H)))


def test_a_file_of_our_own_says_the_alpha_of_the_whole(tmp_path):
    file = fx.save(tmp_path / "a.safetensors", split_qkv(1), {"sweetspot.version": "1.0"})
    assert read_changes(file, fx.flux(), "flux").changes["transformer", "double_blocks.0.img_attn.qkv"].scale == 1 / 6
