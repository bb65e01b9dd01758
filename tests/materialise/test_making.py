"""The file that a recipe becomes: every tensor of it, bit for bit, whatever the files look like and however it is cut."""

import random

import pytest
import torch
from safetensors.torch import load_file, save_file

from harness import Alphas, Blocks, Checkpoint, Merge
from harness.materialise import MaterialiseError, making
from harness.weights import ModelFileError
from tests.materialise.models import (
    CONV_IN,
    CONV_OUT,
    IDS,
    SCHEDULE,
    TEXT,
    UNET,
    VAE,
    averaged,
    differing,
    folder,
    header,
    made_file,
    merge,
    parent,
    raw,
    same_bits,
    saved,
    two,
    write,
    write_in_order,
)

DTYPES = (torch.float16, torch.bfloat16, torch.float32)
ALL_PARTS = ("unet", "vae", "text_encoder")


def lerped(a: torch.Tensor, b: torch.Tensor, alpha: float = 0.3) -> torch.Tensor:
    """The ideal: in float64, rounded once."""
    return ((1 - alpha) * a.double() + alpha * b.double()).to(a.dtype)


def ulps(one: torch.Tensor, two: torch.Tensor) -> float:
    """By how many representable values two tensors of one 16- or 32-bit dtype differ at most."""
    kind = torch.int32 if one.element_size() == 4 else torch.int16
    ordered = [torch.where((i := t.contiguous().view(kind).long()) < 0, -(i & (2 ** (8 * t.element_size() - 1) - 1)), i)
               for t in (one, two)]
    return float((ordered[0] - ordered[1]).abs().max())


# What is merged, and what is not


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_every_merged_value_is_the_lerp_in_float32_rounded_once(dtype, tmp_path):
    a, b = two(tmp_path, dtype)
    out = made_file(tmp_path, merge())
    for name in (n for n in a if n.startswith(UNET)):
        # The models change places, as lerp below one half would not give A where both are equal.
        assert same_bits(out[name], torch.lerp(b[name].float(), a[name].float(), 0.7).to(dtype)), name


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_merged_value_is_the_nearest_to_the_exact_one_but_for_ties(dtype, tmp_path):
    a, b = two(tmp_path, dtype)
    out = made_file(tmp_path, merge())
    names = [n for n in a if n.startswith(UNET)]
    wrong = sum(int((out[n] != lerped(a[n], b[n])).sum()) for n in names)
    assert max(ulps(out[n], lerped(a[n], b[n])) for n in names) <= 1
    assert wrong / sum(a[n].numel() for n in names) < 0.01  # 0.3 of five steps is half a step


def test_models_in_float32_are_computed_in_float64(tmp_path):
    a, b = two(tmp_path, torch.float32)
    out = made_file(tmp_path, merge(alpha=0.7))
    assert all(same_bits(out[n], torch.lerp(a[n].double(), b[n].double(), 0.7).float()) for n in a if n.startswith(UNET))


def test_the_file_has_names_shapes_and_dtypes_of_a_and_every_one(tmp_path):
    a, b = two(tmp_path)
    out = made_file(tmp_path, merge(b=write(tmp_path / "b32.safetensors", {n: t.float() if t.is_floating_point() else t
                                                                         for n, t in b.items()})))
    assert {n: (t.dtype, t.shape) for n, t in out.items()} == {n: (t.dtype, t.shape) for n, t in a.items()}


def test_only_the_unet_is_merged_unless_the_recipe_says_more(tmp_path):
    a, b = two(tmp_path)
    out = made_file(tmp_path, merge(alpha=1.0))
    assert all(same_bits(out[n], (b if n.startswith(UNET) else a)[n]) for n in a)


def test_text_encoder_and_vae_are_merged_when_they_are_named(tmp_path):
    a, b = two(tmp_path)
    out = made_file(tmp_path, merge(parts=ALL_PARTS))
    assert all(ulps(out[n], lerped(a[n], b[n])) <= 1 for n in a if n != IDS)
    assert not any(same_bits(out[n], a[n]) for n in a if n != IDS)


def test_a_component_is_taken_whole(tmp_path):
    a, b = two(tmp_path)
    vae = write(tmp_path / "vae.safetensors", {n.removeprefix(VAE): t for n, t in b.items() if n.startswith(VAE)})
    out = made_file(tmp_path, merge(alpha=0.0, take={"vae": vae}))
    assert all(same_bits(out[n], (b if n.startswith(VAE) else a)[n]) for n in a)


def test_a_component_that_a_lacks_is_taken_into_the_file(tmp_path):
    a, b = two(tmp_path)
    write(tmp_path / "a.safetensors", {n: t for n, t in a.items() if not n.startswith(VAE)})
    out = made_file(tmp_path, merge(alpha=0.0, take={"vae": "b.safetensors"}))
    assert differing(out, {n: (b if n.startswith(VAE) else a)[n] for n in a}) == []


def test_a_taken_component_of_other_shapes_is_refused(tmp_path):
    _, b = two(tmp_path)
    b[f"{VAE}encoder.conv_in.weight"] = torch.zeros(5, 3, 3, 3).half()
    with pytest.raises(MaterialiseError, match=r"take vae.*encoder\.conv_in\.weight"):
        saved(tmp_path, merge(take={"vae": write(tmp_path / "b.safetensors", b)}))


def test_a_component_of_another_family_is_not_taken(tmp_path):
    two(tmp_path)
    xl = write(tmp_path / "xl.safetensors", parent(3, family="sdxl"))
    with pytest.raises(MaterialiseError, match=r"sd1.*sdxl"):
        saved(tmp_path, merge(take={"vae": xl}))


# Order, windows, threads


def test_the_data_lie_in_the_order_of_the_safetensors_library(tmp_path):
    two(tmp_path)
    out = made_file(tmp_path, merge())
    save_file(out, tmp_path / "again.safetensors")
    places = [{n: e["data_offsets"] for n, e in header(tmp_path / f).items() if n != "__metadata__"}
              for f in ("out.safetensors", "again.safetensors")]
    assert places[0] == places[1]


def test_the_bytes_do_not_depend_on_the_order_of_the_tensors_in_the_inputs(tmp_path):
    a, b = two(tmp_path)
    first = saved(tmp_path, merge(parts=ALL_PARTS)).path.read_bytes()
    data = first[int.from_bytes(first[:8], "little") + 8:]
    for file, tensors in (("a", a), ("b", b)):
        write_in_order(tmp_path / f"{file}.safetensors", tensors, random.Random(file).sample(sorted(tensors), len(tensors)))
    second = saved(tmp_path, merge(parts=ALL_PARTS)).path.read_bytes()
    assert second[int.from_bytes(second[:8], "little") + 8:] == data


@pytest.mark.parametrize(("window", "at_once", "workers"), [(4096, 2 ** 18, 1), (3 * 4096, 1000, 3), (8192, 7, 2)])
@pytest.mark.parametrize("method", ["weighted_sum", "geometric", "slerp"])
def test_the_bytes_do_not_depend_on_how_the_work_is_cut(window, at_once, workers, method, tmp_path, monkeypatch):
    two(tmp_path)
    recipe = merge(method=method, parts=("unet", "text_encoder"))
    whole = saved(tmp_path, recipe).path.read_bytes()
    for name, value in (("WINDOW", window), ("AT_ONCE", at_once), ("WORKERS", workers)):
        monkeypatch.setattr(making, name, value)
    assert saved(tmp_path, recipe, "cut.safetensors").path.read_bytes() == whole


@pytest.mark.parametrize("marker", ["v_pred", "ztsnr"])
def test_an_empty_marker_does_not_hide_the_tensor_that_begins_where_it_lies(marker, tmp_path, monkeypatch):
    monkeypatch.setattr(making, "WINDOW", 4096)
    a, b = parent(1), parent(2)
    for file, tensors in (("a", a), ("b", b)):
        tensors[marker] = torch.zeros(0)
        write(tmp_path / f"{file}.safetensors", tensors)
    out = made_file(tmp_path, merge(alpha=1.0, parts=ALL_PARTS))
    assert [n for n in out if n != IDS and not same_bits(out[n], b[n])] == []


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


# Dtypes


def test_fp16_with_fp32_is_computed_in_float64_and_stored_as_a(tmp_path):
    a, b = two(tmp_path)
    b = {n: t.float() * 1.00001 if t.is_floating_point() else t for n, t in b.items()}
    write(tmp_path / "b.safetensors", b)
    out = made_file(tmp_path, merge(alpha=0.7))
    assert all(same_bits(out[n], torch.lerp(a[n].double(), b[n].double(), 0.7).half()) for n in a if n.startswith(UNET))


@pytest.mark.parametrize(("word", "dtype"), [("fp32", torch.float32), ("fp16", torch.float16), ("bf16", torch.bfloat16)])
def test_the_declared_dtype_holds_for_every_weight_and_for_nothing_else(word, dtype, tmp_path):
    a, b = two(tmp_path, torch.float16)
    write(tmp_path / "a.safetensors", {**a, **SCHEDULE})
    out = made_file(tmp_path, merge(dtype=word))
    assert {t.dtype for n, t in out.items() if n not in {*SCHEDULE, IDS}} == {dtype}
    assert all(same_bits(out[n], t) for n, t in SCHEDULE.items())
    exact = 0.7 * a[CONV_IN].double() + 0.3 * b[CONV_IN].double()
    assert torch.allclose(out[CONV_IN].double(), exact, rtol=torch.finfo(dtype).eps, atol=0)


def scaled(tensors, factor=0.25):
    """The U-Net's matrices in fp8 with a scale, as ComfyUI writes them."""
    out = {f"{UNET}scaled_fp8": torch.zeros(2).to(torch.float8_e4m3fn)}
    for name, t in tensors.items():
        if name.startswith(UNET) and t.ndim == 2:
            out[name] = (t.float() / factor).to(torch.float8_e4m3fn)
            out[f"{name.removesuffix('.weight')}.scale_weight"] = torch.tensor([factor])
        else:
            out[name] = t
    return out


@pytest.mark.parametrize("changed", ["a", "b"])
def test_scaled_fp8_is_multiplied_out_before_any_arithmetic_complaint_19(changed, tmp_path):
    models = dict(zip("ab", two(tmp_path), strict=True))
    coded = scaled(models[changed])
    write(tmp_path / f"{changed}.safetensors", coded)
    values = {n: (t.float() * 0.25).half() if t.dtype == torch.float8_e4m3fn else t for n, t in coded.items()
              if n in models[changed]}
    out = made_file(tmp_path, merge())
    expected = made_file(tmp_path, merge(**{changed: write(tmp_path / "values.safetensors", values)}))
    assert out.keys() == expected.keys()
    assert max(ulps(out[n], expected[n]) for n in out if n != IDS) <= 1


def test_scaled_fp8_that_is_not_merged_is_copied_as_it_is(tmp_path):
    a, _ = two(tmp_path)
    write(tmp_path / "a.safetensors", scaled(a))
    out = made_file(tmp_path, merge(parts=("vae",)))
    assert all(same_bits(out[n], t) for n, t in scaled(a).items() if not n.startswith(VAE))
    assert "multiplied out" not in str(header(tmp_path / "out.safetensors"))


def test_scaled_fp8_that_is_not_merged_is_multiplied_out_where_a_dtype_is_declared(tmp_path):
    a, _ = two(tmp_path)
    write(tmp_path / "a.safetensors", scaled(a))
    out = made_file(tmp_path, merge(parts=("vae",), dtype="fp16"))
    assert out.keys() == a.keys()
    assert {t.dtype for n, t in out.items() if n != IDS} == {torch.float16}


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_plain_fp8_is_merged_in_float32_and_rounded_once(dtype, tmp_path):
    a, b = two(tmp_path, dtype)
    out = made_file(tmp_path, merge())
    expected = torch.lerp(b[CONV_IN].float(), a[CONV_IN].float(), 0.7).to(dtype)
    assert raw(out[CONV_IN]) == raw(expected)


def test_fp64_precision_computes_in_float64(tmp_path):
    a, b = two(tmp_path)
    out = made_file(tmp_path, merge(alpha=0.7, precision="fp64"))
    assert all(same_bits(out[n], torch.lerp(a[n].double(), b[n].double(), 0.7).half()) for n in a if n.startswith(UNET))


# Nesting and places


def test_a_nested_merge_is_rounded_once(tmp_path):
    a, b = two(tmp_path)
    c = parent(3)
    inner = merge(b=write(tmp_path / "c.safetensors", c), alpha=0.7, precision="fp64")
    out = made_file(tmp_path, Merge(a=inner, b="b.safetensors", alpha=0.6))
    for n in (n for n in a if n.startswith(UNET)):
        once = torch.lerp(torch.lerp(a[n].double(), c[n].double(), 0.7), b[n].double(), 0.6)
        assert same_bits(out[n], once.half()), n


def test_a_merge_that_a_recipe_reads_twice_is_itself(tmp_path):
    two(tmp_path)
    inner = merge()
    expected = made_file(tmp_path, inner)
    assert differing(made_file(tmp_path, Merge(a=inner, b=inner, alpha=0.4)), expected) == []


def test_each_block_gets_its_alpha_and_alpha_0_leaves_a_bit_for_bit(tmp_path):
    a, b = two(tmp_path)
    count = sum(1 for n in a if n.startswith(f"{UNET}input_blocks") and n.endswith("0.0.weight"))
    blocks = 1 + max(int(n.split(".")[3]) for n in a if n.startswith(f"{UNET}input_blocks."))
    assert count
    alphas = [0.0, *[1.0] * blocks, 0.25, *[0.0] * blocks]
    out = made_file(tmp_path, merge(alpha=Blocks(values=tuple(alphas))))
    for n in (n for n in a if n.startswith(UNET)):
        if n.startswith((f"{UNET}input", f"{UNET}time")):
            assert same_bits(out[n], b[n]), n
        elif n.startswith(f"{UNET}middle"):
            assert ulps(out[n], lerped(a[n], b[n], 0.25)) <= 1, n
        else:
            assert same_bits(out[n], a[n]), n


def test_a_pattern_gives_its_keys_their_own_alpha(tmp_path):
    a, b = two(tmp_path)
    out = made_file(tmp_path, merge(alpha=Alphas(default=0.0, keys={"*attn2*": 1.0, "*attn2.to_q*": 0.5})))
    for n in (n for n in a if n.startswith(UNET)):
        if "attn2.to_q" in n:
            assert ulps(out[n], lerped(a[n], b[n], 0.5)) <= 1, n
        else:
            assert same_bits(out[n], (b if "attn2" in n else a)[n]), n


def test_a_preset_is_written_with_the_alphas_it_has(tmp_path):
    a, _ = two(tmp_path)
    said = saved(tmp_path, merge(alpha=Blocks(preset="ALL_A")))
    assert all(same_bits(t, a[n]) for n, t in load_file(said.path).items() if n.startswith(f"{UNET}input"))


# What is refused, and that nothing is written then


@pytest.mark.parametrize("file", ["a", "b"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("method", ["weighted_sum", "geometric", "slerp"])
def test_values_that_are_no_numbers_are_refused_by_the_names_of_all_tensors_bug_e(file, value, method, tmp_path):
    models = dict(zip("ab", two(tmp_path), strict=True))
    (tmp_path / "out.safetensors").write_bytes(b"old")
    models[file][CONV_IN][0, 0, 0, 0] = models[file][CONV_OUT][0, 0, 0, 0] = value
    write(tmp_path / f"{file}.safetensors", models[file])
    with pytest.raises(MaterialiseError, match="2 tensors") as error:
        saved(tmp_path, merge(method=method))
    assert all(f"{name!r} holds NaN or infinite values in {file}.safetensors" in str(error.value) for name in (CONV_IN, CONV_OUT))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.safetensors", "b.safetensors", "out.safetensors"]
    assert (tmp_path / "out.safetensors").read_bytes() == b"old"


@pytest.mark.parametrize("method", ["add_difference", "rank_k"])
def test_a_result_too_large_for_its_dtype_is_refused_by_name(method, tmp_path):
    a, b = two(tmp_path)
    c = parent(3)
    a[CONV_IN][0, 0, 0, 0], b[CONV_IN][0, 0, 0, 0], c[CONV_IN][0, 0, 0, 0] = 60000, 60000, -60000
    for name, tensors in (("a", a), ("b", b), ("c", c)):
        write(tmp_path / f"{name}.safetensors", tensors)
    with pytest.raises(MaterialiseError, match=rf"1 tensors are not sound: '{CONV_IN}' overflows F16"):
        saved(tmp_path, merge(c="c.safetensors", method=method, alpha=1.0))


def test_keys_that_b_lacks_are_refused_by_name_bug_e(tmp_path):
    _, b = two(tmp_path)
    write(tmp_path / "b.safetensors", {n: t for n, t in b.items() if n != CONV_OUT})
    with pytest.raises(MaterialiseError, match=r"conv_out\.weight' is missing in B"):
        saved(tmp_path, merge())


def test_keys_that_a_lacks_are_refused_by_name_complaint_4(tmp_path):
    a, _ = two(tmp_path)
    write(tmp_path / "a.safetensors", {n: t for n, t in a.items() if n != CONV_OUT})
    with pytest.raises(MaterialiseError, match=r"conv_out\.weight' is missing in A"):
        saved(tmp_path, merge())


def test_keys_without_counterpart_stay_as_a_has_them_where_the_recipe_says_so(tmp_path):
    a, b = two(tmp_path)
    write(tmp_path / "a.safetensors", {n: t for n, t in a.items() if n != CONV_IN})
    write(tmp_path / "b.safetensors", {n: t for n, t in b.items() if n != CONV_OUT})
    out = made_file(tmp_path, merge(missing="keep_a"))
    assert same_bits(out[CONV_OUT], a[CONV_OUT])
    assert out.keys() == a.keys() - {CONV_IN}
    said = str(header(tmp_path / "out.safetensors")["__metadata__"])
    assert "kept from A" in said
    assert "left out" in said


@pytest.mark.parametrize("file", ["a", "b"])
def test_tensors_that_nothing_knows_are_refused_or_kept_complaint_4(file, tmp_path):
    models = dict(zip("ab", two(tmp_path), strict=True))
    write(tmp_path / f"{file}.safetensors", {**models[file], "strange.weight": torch.ones(3)})
    with pytest.raises(MaterialiseError, match=rf"{file}\.safetensors: 'strange\.weight'"):
        saved(tmp_path, merge())
    assert ("strange.weight" in made_file(tmp_path, merge(missing="keep_a"))) == (file == "a")


def test_a_narrow_a_with_a_wide_b_is_refused(tmp_path):
    _, b = two(tmp_path)
    write(tmp_path / "b.safetensors", {**b, CONV_IN: torch.zeros(8, 9, 3, 3).half()})
    with pytest.raises(MaterialiseError, match="an inpainting model must be A"):
        saved(tmp_path, merge())


def test_a_v_prediction_model_is_not_merged_with_another_unless_forced_complaint_18(tmp_path):
    a, _ = two(tmp_path)
    write(tmp_path / "a.safetensors", {**a, "v_pred": torch.zeros(0)})
    with pytest.raises(MaterialiseError, match="different predictions"):
        saved(tmp_path, merge())
    assert "v_pred" in made_file(tmp_path, merge(force=("prediction",)))


def test_models_of_different_families_are_refused(tmp_path):
    two(tmp_path)
    with pytest.raises(MaterialiseError, match="different families"):
        saved(tmp_path, merge(b=write(tmp_path / "xl.safetensors", parent(2, family="sdxl"))))


def test_a_vae_alone_may_be_merged_into_the_vae_of_a_model(tmp_path):
    a, b = two(tmp_path)
    vae = write(tmp_path / "vae.safetensors", {n.removeprefix(VAE): t for n, t in b.items() if n.startswith(VAE)})
    out = made_file(tmp_path, merge(b=vae, parts=("vae",)))
    assert all(ulps(out[n], lerped(a[n], b[n])) <= 1 for n in a if n.startswith(VAE))


def test_plain_weights_are_not_merged_with_averaged_ones_unless_forced(tmp_path):
    a, b = two(tmp_path)
    write(tmp_path / "a.safetensors", {**a, **averaged(a)})
    write(tmp_path / "b.safetensors", {**b, **averaged(b)})
    recipe = {"a": Checkpoint(path="a.safetensors", ema=True)}
    with pytest.raises(MaterialiseError, match=r"b\.safetensors: its plain weights would be merged with EMA weights"):
        saved(tmp_path, merge(**recipe))
    assert made_file(tmp_path, merge(**recipe, force=("ema",))).keys() == a.keys()


def test_a_pattern_that_matches_nothing_is_refused_complaint_8(tmp_path):
    two(tmp_path)
    with pytest.raises(MaterialiseError, match=r"no key of unet matches"):
        saved(tmp_path, merge(alpha=Alphas(default=0.3, keys={"*atn2*": 1.0})))


def test_a_merge_of_equal_models_at_alpha_0_is_the_model_complaint_21(tmp_path):
    a, _ = two(tmp_path)
    assert differing(made_file(tmp_path, merge(b="a.safetensors", alpha=0.0, parts=ALL_PARTS)), a) == []


def test_the_result_is_not_a_and_alpha_is_the_share_of_b_complaints_6_and_13(tmp_path):
    a, b = two(tmp_path, torch.float32)
    out = made_file(tmp_path, merge(alpha=0.1))[CONV_IN]
    assert 0 < (out - a[CONV_IN]).norm() < (out - b[CONV_IN]).norm()


def test_an_input_that_ends_early_while_it_is_read_is_named(tmp_path):
    from harness.materialise.library import Library
    from harness.materialise.saving import save
    from tests.materialise.models import planned

    two(tmp_path)
    plan = planned(tmp_path, merge())
    with (tmp_path / "b.safetensors").open("r+b") as file:
        file.truncate(60_000)
    with pytest.raises(ModelFileError, match=r"b\.safetensors: ends before byte"):
        save(plan, Library(tmp_path), tmp_path / "out.safetensors", "t")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.safetensors", "b.safetensors"]


def test_text_encoder_names_are_those_of_a(tmp_path):
    a, _ = two(tmp_path)
    write(tmp_path / "a.safetensors", {n.replace("transformer.text_model.", "transformer."): t for n, t in a.items()})
    out = made_file(tmp_path, merge(parts=ALL_PARTS))
    assert not any(n.startswith(TEXT) for n in out)
    assert len(out) == len(a)
