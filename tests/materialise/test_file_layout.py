"""What becomes of everything in a file that is no weight, and of files in every layout."""


import pytest
import torch
from safetensors.torch import load_file

from harness import Checkpoint
from tests.materialise.models import (
    ALL_PARTS,
    CONV_IN,
    CONV_OUT,
    IDS,
    SCHEDULE,
    averaged,
    differing,
    folder,
    header,
    lerped,
    made_file,
    merge,
    parent,
    same_bits,
    two,
    ulps,
    write,
)

# What is no weight


@pytest.mark.parametrize("ids", [torch.arange(77)[None].half(), torch.arange(77)[None] * 0.999, torch.arange(77)[None] - 1,
                                 torch.arange(77, dtype=torch.int32)[None]], ids=["F16", "fractions", "wrong", "I32"])
def test_position_ids_are_the_integers_they_stand_for_complaint_17(ids, tmp_path):
    a, _ = two(tmp_path)
    write(tmp_path / "a.safetensors", {**a, IDS: ids})
    out = made_file(tmp_path, merge(parts=ALL_PARTS))
    assert same_bits(out[IDS], torch.arange(77)[None])
    assert "position ids" in str(header(tmp_path / "out.safetensors")["__metadata__"]["sweetspot.coverage"])


def test_schedule_buffers_and_markers_are_copied_even_where_they_are_infinite(tmp_path):
    a, b = two(tmp_path)
    extra = {**SCHEDULE, "ztsnr": torch.zeros(0), "v_pred": torch.zeros(0)}
    for file, tensors in (("a", a), ("b", b)):
        write(tmp_path / f"{file}.safetensors", {**tensors, **extra})
    out = made_file(tmp_path, merge())
    assert all(same_bits(out[name], tensor) for name, tensor in extra.items())


def test_ema_copies_are_left_out_and_that_is_said(tmp_path):
    a, _ = two(tmp_path)
    write(tmp_path / "a.safetensors", {**a, **averaged(a)})
    out = made_file(tmp_path, merge())
    assert out.keys() == a.keys()
    assert "EMA copies are left out" in str(header(tmp_path / "out.safetensors"))


def test_ema_weights_are_merged_where_the_recipe_asks_for_them(tmp_path):
    a, b = two(tmp_path)
    for file, tensors in (("a", a), ("b", b)):
        write(tmp_path / f"{file}.safetensors", {**tensors, **averaged(tensors)})
    out = made_file(tmp_path, merge(a=Checkpoint(path="a.safetensors", ema=True), b=Checkpoint(path="b.safetensors", ema=True)))
    assert out.keys() == a.keys()
    assert same_bits(out[CONV_IN], torch.lerp(b[CONV_IN].float() / 2, a[CONV_IN].float() / 2, 0.7).half())


# Layouts


def test_names_without_text_model_are_the_same_tensors_bug_d(tmp_path):
    _, b = two(tmp_path)
    expected = made_file(tmp_path, merge(parts=ALL_PARTS))
    write(tmp_path / "b.safetensors", {n.replace("transformer.text_model.", "transformer."): t for n, t in b.items()})
    assert differing(made_file(tmp_path, merge(parts=ALL_PARTS)), expected) == []


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_a_folder_merges_like_the_single_file_of_the_same_values(family, tmp_path):
    parts = ("unet", "vae", "text_encoder", *(["text_encoder_2"] if family == "sdxl" else []))
    a, b = two(tmp_path, family=family)
    expected = made_file(tmp_path, merge(parts=parts))
    folder(tmp_path / "b", 2, family=family)
    assert differing(made_file(tmp_path, merge(b="b", parts=parts)), expected) == []
    folder(tmp_path / "a", 1, family=family)
    assert differing(made_file(tmp_path, merge(a="a", b="b", parts=parts)), expected) == []
    names = [n for n in a if n.endswith(("in_proj_weight", "text_projection", "conv_in.weight"))]
    assert all(ulps(expected[n], lerped(a[n], b[n])) <= 1 for n in names)


def test_a_folder_in_shards_merges_like_a_whole_one(tmp_path):
    import json

    two(tmp_path)
    expected = made_file(tmp_path, merge())
    whole = folder(tmp_path / "b", 2) / "unet" / "diffusion_pytorch_model.safetensors"
    tensors, weight_map = load_file(whole), {}
    for number, names in enumerate((sorted(tensors)[:20], sorted(tensors)[20:])):
        shard = f"diffusion_pytorch_model-0000{number + 1}-of-00002.safetensors"
        write(whole.with_name(shard), {n: tensors[n] for n in names})
        weight_map.update(dict.fromkeys(names, shard))
    whole.unlink()
    whole.with_suffix(".safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert differing(made_file(tmp_path, merge(b="b")), expected) == []


@pytest.mark.parametrize("changed", ["a", "b"])
def test_a_pickle_merges_like_the_safetensors_of_the_same_values(changed, tmp_path):
    models = dict(zip("ab", two(tmp_path), strict=True))
    for file, tensors in models.items():
        write(tmp_path / f"{file}.safetensors", {**tensors, **SCHEDULE})
    expected = made_file(tmp_path, merge())
    torch.save({"state_dict": {**models[changed], **SCHEDULE}, "global_step": 3}, tmp_path / "p.ckpt")
    assert differing(made_file(tmp_path, merge(**{changed: "p.ckpt"})), expected) == []


def test_in_a_wide_a_only_the_first_channels_are_merged(tmp_path):
    a, b = two(tmp_path)
    wide = torch.cat([a[CONV_IN], torch.randn(8, 5, 3, 3).half()], dim=1)
    write(tmp_path / "a.safetensors", {**a, CONV_IN: wide})
    out = made_file(tmp_path, merge())[CONV_IN]
    assert same_bits(out[:, 4:], wide[:, 4:])
    assert ulps(out[:, :4], lerped(a[CONV_IN], b[CONV_IN])) <= 1


def test_the_inpainting_recipe_adds_what_b_learnt_to_the_first_channels(tmp_path):
    a, b = two(tmp_path, torch.float32)
    c = parent(3, torch.float32)
    wide = torch.cat([a[CONV_IN], torch.randn(8, 5, 3, 3)], dim=1)
    write(tmp_path / "a.safetensors", {**a, CONV_IN: wide})
    out = made_file(tmp_path, merge(c=write(tmp_path / "c.safetensors", c), method="add_difference", alpha=1.0))
    added = [(x.double() + y.double() - z.double()).float() for x, y, z in ((a[n], b[n], c[n]) for n in (CONV_IN, CONV_OUT))]
    assert same_bits(out[CONV_IN], torch.cat([added[0], wide[:, 4:]], dim=1))
    assert same_bits(out[CONV_OUT], added[1])
