"""Whatever a recipe names is met by at least one tensor, or refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from harness import Alphas, Blocks, Candidate, Fused, Gradient, Merge, alpha_sweep
from harness.cli import main
from harness.declare import Adapter, Alpha, plain, restore
from harness.declare.recipe_files import read_recipe, recipe_text
from harness.materialise import MaterialiseError
from harness.materialise.content_identity import weights_of_candidate
from harness.materialise.library import Library
from harness.materialise.plan_recipe import plan_recipe
from tests.materialise.models import UNET, header, merge, parent, two, write

FLUX = {"img_in.weight": (8, 4), "double_blocks.0.img_attn.qkv.weight": (24, 8), "single_blocks.0.linear1.weight": (56, 8),
        "final_layer.linear.weight": (4, 8)}
OTHER = {"context_embedder.weight": (8, 8), "joint_blocks.0.x_block.attn.qkv.weight": (24, 8),
         "joint_blocks.0.context_block.attn.qkv.weight": (24, 8), "final_layer.linear.weight": (4, 8)}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two models of Stable Diffusion 1, two of Flux, and a U-Net alone."""
    monkeypatch.chdir(tmp_path)
    two(tmp_path)
    write(tmp_path / "unet.safetensors", {name: t for name, t in parent(3).items() if name.startswith(UNET)})
    for seed, name in enumerate(("flux_a", "flux_b")):
        generator = torch.Generator().manual_seed(seed)
        save_file({key: torch.randn(shape, generator=generator) for key, shape in FLUX.items()}, f"{name}.safetensors")
    return tmp_path


def flux(**changes: object) -> Merge:
    return merge(**{"a": "flux_a.safetensors", "b": "flux_b.safetensors", **changes})


def refused(root: Path, model: object) -> str:
    with pytest.raises(ValueError, match=r".") as error:
        plan_recipe(model, Library(root))  # type: ignore[arg-type]
    return str(error.value)


def test_the_default_parts_are_the_denoiser_that_a_has(root):
    assert set(plan_recipe(flux(), Library(root)).parts["transformer"].coverage) == {"merged"}
    assert "merged" in plan_recipe(merge(), Library(root)).parts["unet"].coverage
    assert "merged" not in plan_recipe(merge(), Library(root)).parts["text_encoder"].coverage


def test_the_plain_command_merges_two_flux_files_and_its_file_is_replayed(root):
    assert main(["merge", "--a", "flux_a.safetensors", "--b", "flux_b.safetensors", "--alpha", "0.5", "-o", "o.safetensors"]) == 0
    a, b, out = (load_file(f"{name}.safetensors") for name in ("flux_a", "flux_b", "o"))
    assert all(torch.allclose((a[key] + b[key]) / 2, out[key]) for key in FLUX)
    assert main(["replay", "o.safetensors"]) == 0


def test_a_sweep_of_flux_has_other_weights_for_each_alpha(root):
    plans = [plan_recipe(c.model, Library(root)).parts["transformer"].keys
             for c in alpha_sweep("flux_a.safetensors", "flux_b.safetensors", (0, 0.5, 1))]
    assert len({repr(sorted(plan.items())) for plan in plans}) == 3


def test_all_is_every_part_that_the_models_have(root):
    coverage = {part: set(plan.coverage) for part, plan in plan_recipe(merge(parts="all"), Library(root)).parts.items()}
    assert coverage == {"unet": {"merged"}, "vae": {"merged"}, "text_encoder": {"merged"}}
    words = ("--a", "a.safetensors", "--b", "b.safetensors", "--alpha", "1", "--parts", "all", "-o", "o.safetensors")
    assert main(["merge", *words]) == 0
    out, b = load_file("o.safetensors"), load_file("b.safetensors")
    assert all(torch.equal(out[name], b[name]) for name in b)


def test_what_is_taken_is_not_merged_under_the_word_all(root):
    parts = plan_recipe(merge(parts="all", take={"vae": "b.safetensors"}), Library(root)).parts
    assert set(parts["vae"].coverage) == {"copied"}
    assert set(parts["text_encoder"].coverage) == {"merged"}


# Each row: a recipe, and what its refusal names. Nothing of it may end as A without a word.
UNMET: list[tuple[str, object, tuple[str, ...]]] = [
    ("a U-Net of Flux", flux(parts=("unet",)), ("unet: A (flux_a.safetensors)", "A has transformer", "parts=('transformer',)")),
    ("a transformer of SD1", merge(parts=("transformer",)), ("transformer: A (a.safetensors)", "A has unet, vae, text_encoder")),
    ("a part that A lacks", merge(a="unet.safetensors", parts=("unet", "vae")),
     ("vae: A (unet.safetensors)", "parts=('unet',)", "take={'vae': 'b.safetensors'}")),
    ("a part that B lacks", merge(b="unet.safetensors", parts=("unet", "vae")), ("vae: B (unet.safetensors)", "parts=('unet',)")),
    ("all, and B lacks some", merge(b="unet.safetensors", parts="all"), ("vae: B (unet.safetensors)", 'parts is "all"')),
    ("a part that neither has", merge(parts=("unet", "text_encoder_2")), ("text_encoder_2: A", "did you mean 'text_encoder'?")),
    ("a part within a merge", Merge(a=merge(parts=("text_encoder_2",)), b="b.safetensors", alpha=0.5), ("text_encoder_2: A",)),
    ("a part of an inner merge that the outer does not use",
     Merge(a="a.safetensors", b=merge(parts=("unet", "vae")), alpha=0.5), ("the part 'vae'", "no tensor of it is merged")),
    ("an alpha for a part that is not merged", merge(alpha=Alphas(default=0.5, parts={"vae": 1})),
     ("the part 'vae'", "merged: unet")),
    ("an alpha for a part that patterns override", merge(alpha=Alphas(default=0.5, parts={"unet": 1}, keys={"*": 0.2})),
     ("the part 'unet'", "matched by a pattern")),
    ("a default that a part overrides", merge(alpha=Alphas(default=0.5, parts={"unet": 1})),
     ("default, 0.5", "'unet'", "default=0")),
    ("a default that a pattern overrides", merge(alpha=Alphas(default=1, keys={"unet.*": 0.2})),
     ("default, 1", "'unet.*'", "default=0")),
    ("a default of block weights that a part overrides",
     merge(alpha=Alphas(default=Blocks(preset="GRAD_V"), parts={"unet": 1})), ("default, Blocks", "'unet'")),
    ("a default gradient that a part and a pattern override",
     merge(parts=("unet", "vae"), alpha=Alphas(default=Gradient(values=(0, 1)), parts={"unet": 1}, keys={"vae.*": 0.5})),
     ("default, Gradient", "'unet', 'vae.*'")),
    ("a beta of which a part overrides the default",
     merge(method="tensor_sum", beta=Alphas(default=0.5, parts={"unet": 0.4})), ("beta", "default, 0.5")),
    ("a gradient of more values than layers", merge(alpha=Gradient(values=(0.0,) * 30)), ("value 2 of the 30", "unet has 13")),
    ("a pattern that matches nothing", merge(alpha=Alphas(default=0.5, keys={"*atn2*": 1})),
     ("'*atn2*'", "Did you mean '*attn2*'?")),
    ("a pattern of a part that is not merged", merge(alpha=Alphas(default=0.5, keys={"vae.*": 1})),
     ("'vae.*'", "no key of unet")),
    ("a pattern that a later one overrides", merge(alpha=Alphas(default=0.5, keys={"*attn2*": 1, "unet.*": 0.2})),
     ("'*attn2*'", "'unet.*'", "Put it last")),
    ("a beta for a part that is not merged", merge(method="tensor_sum", beta=Alphas(default=0.5, parts={"vae": 1})),
     ("beta", "'vae'")),
    ("an alpha for the text encoder by block", merge(alpha=Blocks(preset="GRAD_V", base=0.3)),
     ("the block BASE", "give 0 for BASE")),
    ("CLIP and T5 of Flux", flux(alpha=Blocks(values=(0.5,) * 6)), ("the block CLIP", "text_encoder")),
    ("a convention that leaves the VAE out",
     merge(parts=("unet", "vae"), alpha=Blocks(preset="GRAD_V", convention="chattiori")),
     ("the part 'vae'",)),
    ("a part of which keep_a leaves nothing",
     merge(a="less.safetensors", b="other.safetensors", missing="keep_a", parts=("vae",)),
     ("the part 'vae'",)),
]


@pytest.mark.parametrize(("model", "said"), [row[1:] for row in UNMET], ids=[row[0] for row in UNMET])
def test_a_request_that_no_tensor_meets_is_refused_by_name(model, said, root):
    bias = "first_stage_model.encoder.conv_in.bias"
    write(root / "less.safetensors", {name: t for name, t in parent(1).items() if name != bias})
    write(root / "other.safetensors", {name: t for name, t in parent(2).items() if name.startswith(UNET) or name == bias})
    message = refused(root, model)
    assert [words for words in said if words not in message] == [], message


@pytest.mark.parametrize("alpha", [
    0.5, Alphas(default=0, keys={"*attn2*": 1}), Alphas(default=0, parts={"unet": 1}), Gradient(values=(0, 1)),
    Alphas(default=0.5, keys={"*attn2*": 1}), Alphas(default=0, keys={"unet.*": 0.2, "*attn2*": 1}), Blocks(preset="GRAD_V"),
    Alphas(default=Blocks(preset="GRAD_V"), keys={"unet.input_blocks.1.*": 1})])
def test_each_request_of_a_plan_says_how_many_tensors_meet_it(alpha: Alpha, root):
    plan = plan_recipe(merge(alpha=alpha), Library(root))
    counts = {request.what: request.tensors for request in plan.requested}
    assert counts["the part 'unet'"] == len(plan.parts["unet"].coverage["merged"])
    assert all(counts.values())
    declared = 1 + (alpha.default != 0) + len(alpha.parts) + len(alpha.keys) if isinstance(alpha, Alphas) else 1
    assert len(counts) == declared + (len(alpha.values) if isinstance(alpha, Gradient) else 0)


def test_block_weights_may_give_nothing_to_blocks_without_a_tensor(root):
    count = 4
    plan_recipe(flux(alpha=Blocks(values=(0.0, 0.0, *(0.5,) * count))), Library(root))
    plan_recipe(flux(alpha=Blocks(values=(0.5,) * count)), Library(root))


# What is hashed


def test_the_default_parts_are_hashed_as_ever_and_flux_is_another_thing_than_it_was(root):
    default, named = merge(), merge(parts=("unet",))
    assert Candidate(name="c", model=default).key == Candidate(name="c", model=named).key
    library = Library(root)
    identities = [weights_of_candidate(Candidate(name="c", model=model), library).identity
                  for model in (default, named, flux(), flux(parts=("transformer",)))]
    assert identities[0] == identities[1]
    assert identities[2] == identities[3]
    assert identities[2] not in identities[:2]


@pytest.mark.parametrize("parts", ["all", ("denoiser",), ("denoiser", "vae"), ("transformer",), ("unet", "vae")])
def test_words_for_parts_survive_a_journal_and_a_recipe_file(parts, root):
    model = flux(parts=parts)
    assert restore(plain(model)) == model
    (root / "r.json").write_text(recipe_text(model))
    assert read_recipe(root / "r.json") == model


def test_a_recipe_file_that_names_the_unet_means_the_unet(root):
    (root / "r.toml").write_text('a = "flux_a.safetensors"\nb = "flux_b.safetensors"\nalpha = 0.5\nparts = ["unet"]\n')
    assert "unet: A (flux_a.safetensors) and B (flux_b.safetensors) have none" in refused(root, read_recipe(root / "r.toml"))


def test_the_header_of_a_file_names_the_parts_and_not_the_word(root):
    assert main(["merge", "--a", "flux_a.safetensors", "--b", "flux_b.safetensors", "--alpha", "1", "-o", "o.safetensors"]) == 0
    assert '"parts":["transformer"]' in header(root / "o.safetensors")["__metadata__"]["sweetspot.recipe"]  # type: ignore[index,call-overload]


# Adapters


def lora(root: Path, module: str = "lora_unet_double_blocks_0_img_attn_qkv") -> str:
    factors = {f"{module}.lora_down.weight": torch.ones(2, 8), f"{module}.lora_up.weight": torch.ones(24, 2)}
    save_file(factors, root / "l.safetensors")
    return "l.safetensors"


@pytest.mark.parametrize(("blocks", "said"), [
    (Alphas(default=1, parts={"text_encoder": 0.5}),
     "blocks: the weight for the part 'text_encoder': the adapter changes nothing of it"),
    (Alphas(default=1, parts={"transformer": 0.5}, keys={"*": 1}), "blocks: the weight for the part 'transformer'"),
    (Alphas(default=1, keys={"*qkw*": 0.5}), "Did you mean '*qkv*'?"),
    (Alphas(default=1, keys={"*qkv*": 0.5, "*double*": 1}), "'*qkv*': every key that it matches is matched by a later pattern"),
    (Alphas(default=0.5, parts={"transformer": 0.7}), "blocks: the weight for everything else (default, 0.5)"),
    (Alphas(default=0.5, keys={"*": 1}), "default=0")])
def test_a_weight_of_an_adapter_that_no_module_meets_is_refused(blocks, said, root):
    fused = Fused(model="flux_a.safetensors", adapters=(Adapter(path=lora(root), blocks=blocks),))
    assert said in refused(root, fused)


def test_an_adapter_weight_of_0_for_a_part_asks_for_nothing(root):
    blocks = Alphas(default=1, parts={"text_encoder": 0})
    plan = plan_recipe(Fused(model="flux_a.safetensors", adapters=(Adapter(path=lora(root), blocks=blocks),)), Library(root))
    assert "adapted" in plan.parts["transformer"].coverage


def test_the_refusal_of_a_part_says_ways_that_work(root):
    """A U-Net alone has no VAE; what the message says to do makes a file."""
    asked = merge(a="unet.safetensors", parts=("unet", "vae"))
    assert "Give parts=('unet',), or take it whole: take={'vae': 'b.safetensors'}" in refused(root, asked)
    plan_recipe(merge(a="unet.safetensors", parts=("unet",)), Library(root))
    plan_recipe(merge(a="unet.safetensors", parts=("unet",), take={"vae": "b.safetensors"}), Library(root))
    with pytest.raises(MaterialiseError, match="vae"):
        plan_recipe(asked, Library(root))
