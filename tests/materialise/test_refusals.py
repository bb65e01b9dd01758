"""What is refused with the names of its tensors, and that no file is written then."""


import pytest
import torch

from harness import Alphas, Checkpoint
from harness.materialise import MaterialiseError
from harness.weights import ModelFileError
from tests.materialise.models import (
    ALL_PARTS,
    CONV_IN,
    CONV_OUT,
    TEXT,
    VAE,
    averaged,
    differing,
    header,
    lerped,
    made_file,
    merge,
    parent,
    same_bits,
    saved,
    two,
    ulps,
    write,
)

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
    with pytest.raises(MaterialiseError, match=rf"1 tensors .*'{CONV_IN}' overflows F16"):
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
    with pytest.raises(MaterialiseError, match="must be A"):
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
