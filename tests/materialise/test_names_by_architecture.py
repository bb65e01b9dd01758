"""Parts of models merge under the right names, in every spelling: the map between spellings is the architecture's, never a count
of what a file holds. diffusers' conversion functions say what stands where."""

import random

import pytest
import torch

from harness import Blocks, Gradient, Merge
from harness.materialise.library import MaterialiseError
from harness.weights import open_model
from tests.materialise.models import made_file, merge, write
from tests.weights import real_names as real

ALPHA = 0.25
UNET_CUTS = {
    "one block on the way down": lambda name: name.startswith(("down_blocks.1.",)),
    "the second layer of a block": lambda name: name.startswith("down_blocks.0.resnets.1."),
    "one block on the way up": lambda name: name.startswith("up_blocks.1."),
    "a downsampler": lambda name: ".downsamplers." in name and name.startswith("down_blocks.1."),
    "upsamplers": lambda name: ".upsamplers." in name,
    "cross attention": lambda name: ".attn2." in name,
    "attention": lambda name: ".attentions." in name,
    "the middle": lambda name: name.startswith("mid_block."),
    "the way down": lambda name: name.startswith(("conv_in", "down_blocks.", "mid_block.")),
    "no block": lambda name: not name.startswith(("down_", "up_", "mid_")),
}
VAE_CUTS = {
    "encoder": lambda name: name.startswith("encoder."), "decoder": lambda name: name.startswith("decoder."),
    "middles": lambda name: ".mid_block." in name, "one block": lambda name: name.startswith("decoder.up_blocks.1."),
    "outputs": lambda name: ".conv_out." in name, "upsamplers": lambda name: ".upsamplers." in name,
    "deepest block": lambda name: name.startswith("decoder.up_blocks.0."),
}


def some(names, seed):
    """A random part of the names, between a twentieth and two thirds of them."""
    chosen = random.Random(seed)
    share = chosen.uniform(0.05, 0.67)
    return {name for name in names if chosen.random() < share}


def spelt(family, part, spelling, state, original):
    """A U-Net's or VAE's tensors as a file of this spelling holds them, with `original` behind the prefix of single files."""
    if spelling == "diffusers":
        return state
    prefix = {"unet": "model.diffusion_model.", "vae": "first_stage_model."}[part] if original else ""
    names = real.single_file_names(family, part)
    conv = {name for name in state if part == "vae" and ".attentions.0.to_" in name and name.endswith("weight")}
    return {prefix + names[name]: t[:, :, None, None] if name in conv else t for name, t in state.items()}


def compare(root, a, b, to_canon, parts):
    """That each of A's tensors is merged with B's of the same meaning, if there is one, and else stays."""
    write(root / "a.safetensors", a)
    write(root / "b.safetensors", b)
    made = made_file(root, merge(alpha=ALPHA, parts=parts, missing="keep_a"))
    assert made.keys() == a.keys()
    mine, theirs, result = to_canon(a), to_canon(b), to_canon(made)
    assert mine.keys() & theirs.keys()
    for name, tensor in mine.items():
        expected = tensor + ALPHA * (theirs[name] - tensor) if name in theirs else tensor
        torch.testing.assert_close(result[name], expected, rtol=1e-6, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")


def flat(family, part):
    """Turns a file of any spelling of a U-Net or VAE into diffusers' names and axes, by the whole model's table."""
    back = {theirs: ours for ours, theirs in real.single_file_names(family, part).items()}
    shapes = real.diffusers_shapes(family, part)

    def canon(file):
        bare = {name.removeprefix("model.diffusion_model.").removeprefix("first_stage_model."): t for name, t in file.items()}
        names = {name: back.get(name, name) if not set(bare) <= set(shapes) else name for name in bare}
        return {names[name]: t.reshape(shapes[names[name]]) for name, t in bare.items()}
    return canon


SPELLINGS = [("original", "original"), ("original", "diffusers"), ("diffusers", "original"), ("diffusers", "diffusers")]


@pytest.mark.parametrize(("mine", "theirs"), SPELLINGS)
@pytest.mark.parametrize(("family", "part"), [*((family, "unet") for family in real.UNETS), ("sd1", "vae")])
def test_random_parts_of_every_familys_real_names_merge_name_by_name(tmp_path, family, part, mine, theirs):
    shapes = real.diffusers_shapes(family, part)
    for seed in range(2):
        whole_a, whole_b = (real.drawn(shapes, seed + salt) for salt in (10, 20))
        names = some(shapes, seed)
        b = {name: whole_b[name] for name in shapes if name in names}
        # The last time A is a part as well.
        a = whole_a if not seed else {name: whole_a[name] for name in shapes if name in some(shapes, seed + 50)}
        compare(tmp_path, spelt(family, part, mine, a, original=True), spelt(family, part, theirs, b, original=seed == 0),
                flat(family, part), (part,))


@pytest.mark.parametrize(("family", "cut"), [*(("sd1", cut) for cut in UNET_CUTS), ("sdxl", "attention"), ("sdxl", "upsamplers")])
def test_a_cut_out_part_of_a_unet_merges_into_the_same_tensors(tmp_path, family, cut):
    shapes = real.diffusers_shapes(family, "unet")
    a, whole = real.drawn(shapes, 1), real.drawn(shapes, 2)
    b = {name: t for name, t in whole.items() if UNET_CUTS[cut](name)}
    for spelling in ("original", "diffusers"):
        compare(tmp_path, spelt(family, "unet", "original", a, original=True),
                spelt(family, "unet", spelling, b, original=spelling == "original"), flat(family, "unet"), ("unet",))


@pytest.mark.parametrize("cut", UNET_CUTS)
@pytest.mark.parametrize("spelling", ["original", "diffusers"])
def test_a_cut_out_part_of_a_unet_is_merged_as_a(tmp_path, cut, spelling):
    shapes = real.diffusers_shapes("sd1", "unet")
    whole, b = real.drawn(shapes, 1), real.drawn(shapes, 2)
    a = {name: t for name, t in whole.items() if UNET_CUTS[cut](name)}
    compare(tmp_path, spelt("sd1", "unet", spelling, a, original=True), spelt("sd1", "unet", "original", b, original=True),
            flat("sd1", "unet"), ("unet",))


@pytest.mark.parametrize("cut", VAE_CUTS)
@pytest.mark.parametrize(("mine", "theirs"), SPELLINGS)
def test_a_cut_out_part_of_a_vae_merges_into_the_same_tensors(tmp_path, cut, mine, theirs):
    shapes = real.diffusers_shapes("sd1", "vae")
    a, whole = real.drawn(shapes, 1), real.drawn(shapes, 2)
    b = {name: t for name, t in whole.items() if VAE_CUTS[cut](name)}
    for first, second in ((a, b), (b, a)):
        compare(tmp_path, spelt("sd1", "vae", mine, first, original=True), spelt("sd1", "vae", theirs, second, original=True),
                flat("sd1", "vae"), ("vae",))


def test_a_part_and_a_difference_file_merge_as_b_and_c(tmp_path):
    shapes = real.diffusers_shapes("sd1", "unet")
    a, b, c = (real.drawn(shapes, seed) for seed in (1, 2, 3))
    cut = UNET_CUTS["one block on the way up"]
    files = {"a": spelt("sd1", "unet", "original", a, original=True),
             "b": spelt("sd1", "unet", "original", {n: t for n, t in b.items() if cut(n)}, original=False),
             "c": {n: t for n, t in c.items() if cut(n)}}
    for name, tensors in files.items():
        write(tmp_path / f"{name}.safetensors", tensors)
    made = flat("sd1", "unet")(made_file(tmp_path, Merge(a="a.safetensors", b="b.safetensors", c="c.safetensors", alpha=1.0,
                                                         method="add_difference", missing="keep_a")))
    for name in shapes:
        torch.testing.assert_close(made[name], a[name] + b[name] - c[name] if cut(name) else a[name])


def test_a_part_without_keep_a_is_refused_by_a_name(tmp_path):
    shapes = real.diffusers_shapes("sd1", "unet")
    write(tmp_path / "a.safetensors", spelt("sd1", "unet", "original", real.drawn(shapes, 1), original=True))
    write(tmp_path / "b.safetensors", {name: t for name, t in real.drawn(shapes, 2).items() if ".attn2." in name})
    with pytest.raises(MaterialiseError, match=r"conv_in\.bias' is missing in B"):
        made_file(tmp_path, merge(alpha=ALPHA, parts=("unet",)))


def test_names_that_fit_no_block_of_the_other_model_are_refused(tmp_path):
    shapes = real.diffusers_shapes("sd1", "unet")
    write(tmp_path / "a.safetensors", spelt("sd1", "unet", "original", real.drawn(shapes, 1), original=True))
    key = "model.diffusion_model.input_blocks.{}.1.transformer_blocks.0.attn2.to_k.weight"
    write(tmp_path / "b.safetensors", {key.format(step): torch.ones(2, 2) for step in (1, 3)})
    with pytest.raises(MaterialiseError, match=r"a\.safetensors: .*layers in a block.* 2 here and 1 or 3"):
        made_file(tmp_path, merge(alpha=ALPHA, parts=("unet",), missing="keep_a"))


def canonical(family):
    """Turns a file of either layout of a transformer into {(name, row) of the original layout: row}."""
    shapes, table = real.diffusers_rows(family)

    def canon(file):
        if set(file) <= set(real.original_shapes(family)) and not set(file) <= set(shapes):
            return {(name, row): t[row].flatten() for name, t in file.items() for row in range(t.shape[0])}
        return {table[name, row]: t[row].flatten() for name, t in file.items() for row in range(t.shape[0])}
    return canon


@pytest.mark.parametrize(("mine", "theirs"), SPELLINGS)
@pytest.mark.parametrize("family", real.TRANSFORMERS)
def test_random_parts_of_a_transformers_real_names_merge_row_by_row(tmp_path, family, mine, theirs):
    shapes = real.original_shapes(family)
    spell = {"original": lambda state: state, "diffusers": lambda state: real.in_diffusers(family, state)}
    for seed in range(3):
        a, whole = real.drawn(shapes, seed + 10), real.drawn(shapes, seed + 20)
        b = whole if seed == 2 else {name: whole[name] for name in shapes if name in some(shapes, seed)}
        compare(tmp_path, spell[mine](a), spell[theirs](b), canonical(family), ("transformer",))


@pytest.mark.parametrize("family", real.TRANSFORMERS)
def test_a_last_layer_alone_merges_whatever_the_family_is(tmp_path, family):
    shapes = real.original_shapes(family)
    a, whole = real.drawn(shapes, 1), real.drawn(shapes, 2)
    b = {name: t for name, t in whole.items() if name.startswith("final_layer.")}
    compare(tmp_path, real.in_diffusers(family, a), b, canonical(family), ("transformer",))
    compare(tmp_path, b, a, canonical(family), ("transformer",))


def test_a_gradient_over_a_part_goes_by_the_layers_of_the_whole(tmp_path):
    for part, cut in (("unet", UNET_CUTS["one block on the way up"]), ("vae", VAE_CUTS["encoder"])):
        shapes = real.diffusers_shapes("sd1", part)
        a, b = real.drawn(shapes, 1), real.drawn(shapes, 2)
        files = {"a": a, "b": b, **{f"part_{x}": {n: t for n, t in whole.items() if cut(n)} for x, whole in (("a", a), ("b", b))}}
        for name, tensors in files.items():
            write(tmp_path / f"{name}.safetensors", spelt("sd1", part, "original", tensors, original=True))
        made = [flat("sd1", part)(made_file(tmp_path, merge(
            a=f"{first}.safetensors", b=f"{second}.safetensors", alpha=Gradient(values=(0.0, 1.0)), parts=(part,),
            missing="keep_a")))
            for first, second in (("a", "b"), ("a", "part_b"), ("part_a", "part_b"))]
        for name in files["part_a"]:
            for other in made[1:]:
                torch.testing.assert_close(other[name], made[0][name], msg=name)


def test_block_weights_of_a_part_are_counted_by_the_published_blocks(tmp_path):
    shapes = real.diffusers_shapes("sd1", "unet")
    cut = UNET_CUTS["one block on the way down"]
    a, b = ({n: t for n, t in real.drawn(shapes, seed).items() if cut(n)} for seed in (1, 2))
    for name, tensors in (("a", a), ("b", b)):
        write(tmp_path / f"{name}.safetensors", spelt("sd1", "unet", "original", tensors, original=True))
    values = tuple(0.5 if slot in (4, 5, 6) else 0.0 for slot in range(25))
    made = flat("sd1", "unet")(made_file(tmp_path, merge(alpha=Blocks(values=values, base=0.0))))
    for name in a:
        torch.testing.assert_close(made[name], a[name] + 0.5 * (b[name] - a[name]))


@pytest.mark.parametrize("stem", ["transformer_blocks.3.", "transformer_blocks.0.attn.", "norm_out.", "time_text_embed."])
@pytest.mark.parametrize("family", real.TRANSFORMERS)
def test_a_part_of_a_transformer_in_diffusers_names_merges_into_the_original_layout(tmp_path, family, stem):
    shapes = real.original_shapes(family)
    a, whole = real.drawn(shapes, 1), real.drawn(shapes, 2)
    b = {name: t for name, t in real.in_diffusers(family, whole).items() if name.startswith(stem)}
    compare(tmp_path, a, b, canonical(family), ("transformer",))


@pytest.mark.parametrize(("family", "stem", "method"), [
    ("flux", "single_transformer_blocks.5.attn.", {}), ("sd3", "transformer_blocks.7.attn.add_v_proj.", {}),
    ("flux", "transformer_blocks.3.attn.to_k.", {"method": "slerp"})])
def test_some_layers_of_a_tensor_that_a_keeps_in_one_are_merged_by_rows(tmp_path, family, stem, method):
    """As in a model in diffusers' names, of which nothing is in one tensor: attention without the feed-forward, one of three."""
    shapes = real.original_shapes(family)
    a, whole = real.drawn(shapes, 1), real.in_diffusers(family, real.drawn(shapes, 2))
    b = {name: tensor for name, tensor in whole.items() if name.startswith(stem)}
    write(tmp_path / "b.safetensors", b)
    recipe = merge(**{"alpha": ALPHA, "parts": ("transformer",), "missing": "keep_a", **method})
    write(tmp_path / "a.safetensors", a)
    made = made_file(tmp_path, recipe)
    assert made.keys() == a.keys()
    write(tmp_path / "a.safetensors", real.in_diffusers(family, a))
    apart, whole = made_file(tmp_path, recipe), real.in_diffusers(family, made)
    for name, expected in apart.items():
        torch.testing.assert_close(whole[name], expected, rtol=1e-6, atol=1e-6)
    with pytest.raises(MaterialiseError, match=r"is missing in B.*keep_a"):
        made_file(tmp_path, merge(alpha=ALPHA, parts=("transformer",)))


def test_the_norms_of_a_keep_their_names_beside_some_layers_of_a_tensor(tmp_path):
    """ComfyUI writes weights where Black Forest Labs have scales."""
    shapes = real.original_shapes("flux")
    a = {name.replace("_norm.scale", "_norm.weight"): tensor for name, tensor in real.drawn(shapes, 1).items()}
    key = "single_transformer_blocks.5.attn.to_q.weight"
    write(tmp_path / "a.safetensors", a)
    write(tmp_path / "b.safetensors", {key: real.in_diffusers("flux", real.drawn(shapes, 2))[key]})
    made = made_file(tmp_path, merge(alpha=ALPHA, parts=("transformer",), missing="keep_a"))
    assert made.keys() == a.keys()
    assert [name for name in a if not torch.equal(made[name], a[name])] == ["single_blocks.5.linear1.weight"]


@pytest.mark.parametrize("family", real.UNETS)
def test_a_part_of_a_unet_never_claims_another_family(tmp_path, family):
    shapes = real.diffusers_shapes(family, "unet")
    for seed in range(20):
        state = {name: torch.ones(shapes[name]) for name in some(shapes, seed)}
        for spelling in ("original", "diffusers"):
            write(tmp_path / "part.safetensors", spelt(family, "unet", spelling, state, original=spelling == "original"))
            assert open_model(tmp_path / "part.safetensors").family in ("", family)
