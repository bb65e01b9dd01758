"""The file that a recipe becomes: every tensor of it, bit for bit, whatever the files look like and however it is cut."""

import random

import pytest
import torch
from safetensors.torch import load_file, save_file

from harness import Alphas, Blocks, Merge
from harness.materialise import MaterialiseError
from harness.materialise import stream_file as making
from tests.materialise.models import (
    ALL_PARTS,
    CONV_IN,
    IDS,
    SCHEDULE,
    UNET,
    VAE,
    differing,
    header,
    lerped,
    made_file,
    merge,
    parent,
    planned,
    raw,
    same_bits,
    saved,
    two,
    ulps,
    write,
    write_in_order,
)

DTYPES = (torch.float16, torch.bfloat16, torch.float32)


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


def test_an_empty_marker_does_not_hide_the_tensor_that_begins_where_it_lies(tmp_path, monkeypatch):
    monkeypatch.setattr(making, "WINDOW", 4096)
    a, _ = two(tmp_path)
    a |= {"0 long": torch.randn(10_000).half(), "edm_mean": torch.zeros(0)}
    write_in_order(tmp_path / "a.safetensors", a, ["0 long", "edm_mean", *(n for n in a if n not in ("0 long", "edm_mean"))])
    recipe = merge(alpha=0.0, missing="keep_a", force=("prediction",))
    assert differing(made_file(tmp_path, recipe), a) == []
    assert all(segment.begin < segment.end for segment in planned(tmp_path, recipe).segments)


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
