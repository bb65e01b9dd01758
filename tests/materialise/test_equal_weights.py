"""Merges that change nothing, and candidates of one suite that have equal weights: found before an image, or a file, is made."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from harness import Adapter, Alphas, Blocks, Candidate, Checkpoint, Fused, Merge, alpha_sweep, block_sweep, zoo
from harness.cli import main
from harness.declare import Control, Ensemble, Lut, Model, Reference, Relay, Stage
from harness.materialise import MaterialiseError, Workbench
from harness.materialise.adapter_copies import copies_problem
from harness.materialise.equal_weights import changes_nothing
from harness.materialise.library import Library
from harness.materialise.plan_recipe import plan_recipe
from tests.materialise.models import UNET, VAE, merge, parent, two, write

AB = ("--a", "a.safetensors", "--b")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """a and b differ everywhere; the copy is a under another name; vae.safetensors is a with b's VAE; one differs from a in one
    large tensor; tiny is a with an adapter that adds nothing."""
    monkeypatch.chdir(tmp_path)
    a, b = two(tmp_path)
    write(tmp_path / "copy.safetensors", a, {"format": "pt", "title": "another header"})
    write(tmp_path / "vae.safetensors", {**a, **{name: t for name, t in b.items() if name.startswith(VAE)}})
    largest = max((name for name in a if name.startswith(UNET)), key=lambda name: a[name].numel())
    write(tmp_path / "one.safetensors", {**a, largest: b[largest]})
    for name, up in (("idle", 0.0), ("lora", 0.1)):
        module = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_q"
        rows, columns = query(tmp_path)
        save_file({f"{module}.lora_down.weight": torch.ones(1, columns), f"{module}.lora_up.weight": torch.full((rows, 1), up)},
                  tmp_path / f"{name}.safetensors")
    shutil.copy(tmp_path / "lora.safetensors", tmp_path / "lora-copy.safetensors")
    return tmp_path


def query(root: Path) -> tuple[int, ...]:
    components = Library(root).open(Checkpoint(path="a.safetensors")).components
    return components["unet"]["down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_q.weight"].shape


# A merge that changes nothing: what is asked for, and whether headers alone show it.
NOTHING: list[tuple[str, Model, bool]] = [
    ("A with itself", merge(b="a.safetensors", alpha=0.5), True),
    ("A with itself at 1", merge(b="./a.safetensors", alpha=1.0), True),
    ("A with a copy of it", merge(b="copy.safetensors", alpha=0.5), False),
    ("A with a model of another VAE", merge(b="vae.safetensors", alpha=0.5), False),
    ("the same at 1", merge(b="vae.safetensors", alpha=1.0), False),
    ("a slerp of equal models", merge(b="vae.safetensors", alpha=0.5, method="slerp"), False),
    ("a surveyed method on equal models", merge(b="vae.safetensors", alpha=0.5, method="cosine_b"), False),
    ("a difference of equal models", merge(b="b.safetensors", c="b.safetensors", alpha=1.0, method="add_difference"), True),
    ("an alpha too small to be seen", merge(alpha=1e-9), False),
    ("a block in which both are equal",
     merge(b="one.safetensors", alpha=Alphas(default=0, keys={"unet.time_embed.*": 1})), False),
    ("an adapter that adds nothing", Fused(model="a.safetensors", adapters=(Adapter(path="idle.safetensors"),)), False),
    ("a VAE that is A's own", merge(alpha=0.0, take={"vae": "copy.safetensors"}), False),
]


@pytest.mark.parametrize(("model", "by_headers"), [row[1:] for row in NOTHING], ids=[row[0] for row in NOTHING])
def test_a_recipe_that_changes_nothing_is_known(model, by_headers, root):
    plan = plan_recipe(model, Library(root))
    assert "nothing changes: the result is a.safetensors" in changes_nothing(plan)
    assert bool(changes_nothing(plan, read=False)) == by_headers


@pytest.mark.parametrize("model", [
    merge(alpha=0.0), merge(alpha=0.0, dtype="fp32"), merge(), merge(alpha=1.0), merge(b="one.safetensors"), merge(parts="all"),
    merge(b="vae.safetensors", parts=("vae",)), merge(alpha=0.0, take={"vae": "b.safetensors"}), "a.safetensors",
    merge(alpha=Blocks(preset="GRAD_V")), merge(method="cosine_a", alpha=0.5),
    Fused(model="a.safetensors", adapters=(Adapter(path="lora.safetensors"),)),
    Fused(model="a.safetensors", adapters=(Adapter(path="lora.safetensors", weight=0),)),
    Merge(a=merge(), b="a.safetensors", alpha=0.5)])
def test_a_recipe_that_changes_something_or_asks_for_a_alone_is_not_held_up(model, root):
    assert changes_nothing(plan_recipe(model, Library(root))) == ""


@pytest.mark.parametrize(("words", "code"), [
    (("vae.safetensors", "--alpha", "0.5", "-o", "o.safetensors"), 1), (("vae.safetensors", "--alpha", "0.5", "--check"), 1),
    (("a.safetensors", "--alpha", "0.5", "--dry-run"), 1), (("vae.safetensors", "--alpha", "0", "-o", "o.safetensors"), 0),
    (("vae.safetensors", "--alpha", "0.5", "--parts", "vae", "-o", "o.safetensors"), 0)])
def test_the_command_says_that_nothing_changes_and_writes_nothing(words, code, root, capsys):
    assert main(["merge", *AB, *words]) == code
    assert ("nothing changes" in capsys.readouterr().err) == bool(code)
    assert (root / "o.safetensors").exists() == ("-o" in words and not code)
    assert not list(root.glob("*.tmp*"))


# Results that equal one of the models, as they were asked for

A_ITSELF, B_ITSELF = "equal to A (a.safetensors) in every tensor", "equal to B (b.safetensors) in every tensor"
ZERO_BLOCKS = ",".join(["0"] * 14)
SETTLED: list[tuple[str, tuple[str, ...], str]] = [
    ("alpha 0", ("--alpha", "0"), A_ITSELF),
    ("alpha 0 of every part", ("--alpha", "0", "--parts", "all"), A_ITSELF),
    ("blocks at 0", ("--blocks", ZERO_BLOCKS), A_ITSELF),
    ("a gradient of zeros", ("--gradient", "0,0"), A_ITSELF),
    ("a surveyed method at 0", ("--alpha", "0", "--method", "slerp"), A_ITSELF),
    ("alpha 1 of every part", ("--alpha", "1", "--parts", "all"), B_ITSELF),
    ("all of B, some of it taken",
     ("--alpha", "1", "--take", "vae=b.safetensors", "--take", "text_encoder=b.safetensors"), B_ITSELF),
    ("alpha 1", ("--alpha", "1"), "equal to B (b.safetensors) in unet: "),
    ("one part at 1", ("--alpha", "0.5", "--alpha-part", "vae=1", "--parts", "unet,vae"), "equal to B (b.safetensors) in vae: "),
    ("one part at 0", ("--alpha", "0.5", "--alpha-part", "vae=0", "--parts", "unet,vae"), "equal to A (a.safetensors) in vae: "),
    ("an adapter at 0", (), "equal to a.safetensors in every tensor"),
    ("a mixture", ("--alpha", "0.5"), ""),
]


@pytest.mark.parametrize(("words", "sentence"), [row[1:] for row in SETTLED], ids=[row[0] for row in SETTLED])
def test_a_merge_and_its_replay_say_which_model_the_file_is_equal_to(words, sentence, root, capsys):
    asked = (*AB, "b.safetensors", *words) if words else ("--a", "a.safetensors", "--adapter", "lora.safetensors=0")
    for command in (("merge", *asked, "--dry-run"), ("merge", *asked, "-o", "o.safetensors"), ("replay", "o.safetensors")):
        assert main(list(command)) == 0
        out = capsys.readouterr().out.replace(f"{root.resolve()}/", "")
        assert out.count("equal to") == bool(sentence), out
        assert sentence in out


def test_equality_is_of_the_values_in_the_file(root, capsys):
    """The copy is not B by its name, but by its tensors; rounded to another dtype, A is no longer itself."""
    assert main(["merge", *AB, "copy.safetensors", "--alpha", "0", "-o", "o.safetensors"]) == 0
    assert "equal to A (a.safetensors) in every tensor" in capsys.readouterr().out
    write(root / "wide.safetensors", parent(3, torch.float32))
    words = ("--a", "wide.safetensors", "--b", "b.safetensors", "--alpha", "0", "-o", "p.safetensors")
    assert main(["merge", *words, "--dtype", "fp16"]) == 0
    assert "equal to" not in capsys.readouterr().out


def test_what_a_survey_gave_is_not_computed_again_to_compare(root, monkeypatch):
    from harness.materialise import similarity_ranges

    surveys: list[int] = []
    whole = similarity_ranges._limits
    monkeypatch.setattr(similarity_ranges, "_limits", lambda *given: surveys.append(1) or whole(*given))
    assert main(["merge", *AB, "b.safetensors", "--alpha", "0.5", "--method", "cosine_a", "-o", "o.safetensors"]) == 0
    assert len(surveys) == 1
    surveys.clear()
    bench = Workbench(device="cpu", root=root)
    assert bench.equalities(named(x=merge(method="cosine_a"), y=merge(method="cosine_a", alpha=0.5))) == {}
    assert bench.equalities(named(x=merge(method="cosine_a", alpha=0.7))) == {}
    assert len(surveys) == 1


# Candidates of one suite


def named(**models: Model) -> list[Candidate]:
    return [Candidate(name=name, model=model) for name, model in models.items()]


def problems(root: Path, candidates: list[Candidate]) -> list[str]:
    return list(Workbench(device="cpu", root=root).equalities(candidates).values())


EQUAL: list[tuple[str, list[Candidate], tuple[str, ...]]] = [
    ("another spelling of a path", named(x=merge(), y=merge(b="./b.safetensors")), ("'x' and 'y'", "the same files")),
    ("another spelling of an alpha", named(x=merge(), y=merge(alpha=Alphas(default=0.3))), ("'x' and 'y'",)),
    ("a block that has the alpha of the rest", list(block_sweep(merge(alpha=0.5), ("IN01", "IN02"), (0.5,))),
     ("'IN01=0.5' and 'IN02",)),
    ("parts by name and by a word", named(x=merge(parts="all"), y=merge(parts=("text_encoder", "unet", "vae"))),
     ("'x' and 'y'",)),
    ("two files with the same U-Net", named(x=merge(a="b.safetensors", b="a.safetensors"),
                                            y=merge(a="b.safetensors", b="vae.safetensors")), ("'x' and 'y'", "same values")),
    ("alphas that round to the same", named(x=merge(), y=merge(alpha=0.3 + 1e-12)), ("'x' and 'y'",)),
    ("a surveyed method on two files with the same U-Net",
     named(x=merge(a="b.safetensors", b="a.safetensors", method="cosine_a"),
           y=merge(a="b.safetensors", b="vae.safetensors", method="cosine_a")), ("'x' and 'y'", "same values")),
    ("alphas of a surveyed method that round to the same",
     named(x=merge(method="cosine_b"), y=merge(method="cosine_b", alpha=0.3 + 1e-12)), ("'x' and 'y'", "round to the same")),
    ("a surveyed merge within a merge", named(x=Merge(a=merge(method="cosine_a"), b="b.safetensors", alpha=0.5),
                                              y=Merge(a=merge(method="cosine_a"), b="b.safetensors", alpha=0.5 + 1e-12)),
     ("'x' and 'y'", "round to the same")),
    ("a surveyed method on equal models", named(x=merge(b="vae.safetensors", method="cosine_a", alpha=0.5)),
     ("'x': nothing changes",)),
    ("a sweep of one model", list(alpha_sweep("a.safetensors", "copy.safetensors", (0, 0.5, 1))),
     ("'alpha=0.5': nothing changes", "'alpha=1': nothing changes")),
    ("copies of an adapter", [Candidate(name=name, model="a.safetensors", adapters=(Adapter(path=path, weight=0.5),))
                              for name, path in (("x", "lora.safetensors"), ("y", "lora-copy.safetensors"))],
     ("'x' and 'y'",)),
    ("copies of a model", named(A="a.safetensors", B="b.safetensors", copy="copy.safetensors"), ("'A' and 'copy'",)),
    ("an adapter that adds nothing", [Candidate(name="x", model="a.safetensors", adapters=(Adapter(path="idle.safetensors"),))],
     ("'x': nothing changes",)),
]


@pytest.mark.parametrize(("candidates", "said"), [row[1:] for row in EQUAL], ids=[row[0] for row in EQUAL])
def test_candidates_with_equal_weights_are_named(candidates, said, root):
    listed = problems(root, candidates)
    assert len(listed) == (len(said) if "nothing" in said[0] else 1)
    assert [words for words in said if words not in " ".join(listed)] == [], listed


def with_adapter(name: str, weight: float, **more: object) -> Candidate:
    return Candidate(name=name, model="a.safetensors", adapters=(Adapter(path="lora.safetensors", weight=weight, **more),))  # type: ignore[arg-type]


@pytest.mark.parametrize("candidates", [
    [*alpha_sweep("a.safetensors", "b.safetensors", (0, 0.5, 1)), *named(A="a.safetensors", B="b.safetensors")],
    [*named(x=merge(alpha=0.0), y=merge(b="one.safetensors", alpha=0.0))],
    [*named(x=merge(alpha=1.0, parts="all"), B="b.safetensors")],
    [*block_sweep(merge(alpha=0.0), ("IN01", "IN02"), (0, 0.5))],
    [*named(x=merge(method="cosine_a"), y=merge(method="cosine_b"), z=merge(method="cosine_a", alpha=0.31), A="a.safetensors")],
    [*named(x=merge(), y=Merge(a=merge(), b="one.safetensors", alpha=0.0))],
    [Candidate(name=mode, model=merge(), quantization=mode) for mode in ("fp32", "fp16", "bf16")],
    [Candidate(name=name, model=merge(), quantization="int8_weight_only", precision=name) for name in ("fp32", "fp16", "bf16")],
    [with_adapter("x", 1), with_adapter("y", 0.5)],
    [with_adapter("x", 1), with_adapter("x again", 1)],
    [*named(x=merge()), *named(**{"x again": merge()})],
    [with_adapter("x", 0), with_adapter("y", 1), *named(A="a.safetensors")],
    [with_adapter("x", 1, end=0.5), with_adapter("y", 1, start=0.5), with_adapter("z", 1)],
    [with_adapter("x", 1), Candidate(name="y", model=Fused(model="a.safetensors", adapters=(Adapter(path="lora.safetensors"),)))],
])
def test_candidates_that_stand_for_a_parent_or_differ_otherwise_may_have_equal_weights(candidates, root):
    assert problems(root, candidates) == []


COPIES = (Adapter(path="lora.safetensors", weight=0.5), Adapter(path="lora-copy.safetensors", weight=0.5))


@pytest.mark.parametrize(("model", "adapters"), [
    ("a.safetensors", COPIES), (Fused(model="a.safetensors", adapters=COPIES), ()),
    (merge(a=Fused(model="a.safetensors", adapters=COPIES)), ())], ids=["beside", "fused", "in a merge"])
def test_two_copies_of_an_adapter_are_not_counted_as_two(model, adapters, root):
    problem = copies_problem(Candidate(name="x", model=model, adapters=adapters), Library(root))
    assert "'lora.safetensors' and 'lora-copy.safetensors' are copies of one file" in problem


def test_copies_of_an_adapter_may_act_at_different_steps_and_other_adapters_together(root):
    apart = tuple(replace(one, **span) for one, span in zip(COPIES, ({"end": 0.5}, {"start": 0.5}), strict=True))
    for adapters in (apart, (COPIES[0], Adapter(path="idle.safetensors"))):
        assert copies_problem(Candidate(name="x", model="a.safetensors", adapters=adapters), Library(root)) == ""


def test_copies_of_an_adapter_are_found_before_a_weight_is_read(root):
    shutil.copy(zoo.resolve("zoo:sketch"), root / "sketch.safetensors")
    adapters = (Adapter(path="zoo:sketch", weight=0.5), Adapter(path="sketch.safetensors", weight=0.5))
    with pytest.raises(MaterialiseError, match="copies of one file"):
        Workbench(device="cpu", root=root).inspect(Candidate(name="x", model="zoo:photo", adapters=adapters))


def test_only_as_much_is_read_as_it_takes_to_find_a_difference(root, monkeypatch):
    from harness.weights import ModelFile

    keys: list[str] = []
    whole = ModelFile.tensor
    monkeypatch.setattr(ModelFile, "tensor", lambda self, component, key: keys.append(key) or whole(self, component, key))
    assert problems(root, list(alpha_sweep("a.safetensors", "b.safetensors", (0, 0.2, 0.4, 0.6, 0.8, 1)))) == []
    assert len(set(keys)) == 1


UNDER_OTHER_NAMES: list[tuple[str, str, Callable[[str], dict[str, object]]]] = [
    ("control", "zoo:control-edges", lambda file: {"controls": (Control(path=file, picture="edges"),)}),
    ("reference", "zoo:image-prompt", lambda file: {"references": (Reference(path=file, picture="look"),)}),
    ("table", "", lambda file: {"post": (Lut(file),)}),
    ("ensemble", "zoo:anime", lambda file: {"model": Ensemble(models=("zoo:photo", loaded(file)), weights=(0.5, 0.5))}),
    ("relay", "zoo:anime", lambda file: {"model": Relay(models=("zoo:photo", loaded(file)), at=(0.5,))}),
    ("stage", "zoo:anime", lambda file: {"stages": (Stage(model=loaded(file), strength=0.5),)}),
    ("stage's control", "zoo:control-edges", lambda file: {
        "stages": (Stage(strength=0.5, controls=(Control(path=file, picture="edges"),)),)}),
    ("stage's table", "", lambda file: {"stages": (Stage(strength=0.5, before=(Lut(file),)),)}),
    ("stage's encoder", "zoo:clip", lambda file: {"stages": (Stage(strength=0.5, references=(
        Reference(path="zoo:image-prompt", picture="look", encoder=f"ViT-B-32:{file}"),)),)}),
]


def loaded(file: str) -> Checkpoint:
    return Checkpoint(path=file, config="zoo:config")


@pytest.mark.parametrize(("kind", "source", "fields"), UNDER_OTHER_NAMES, ids=[kind for kind, *_ in UNDER_OTHER_NAMES])
def test_candidates_that_differ_in_the_name_of_a_file_alone_are_named(
        kind: str, source: str, fields: Callable[[str], dict[str, object]], tmp_path: Path) -> None:
    suffix = ".safetensors" if source else ".cube"
    content = zoo.resolve(source).read_bytes() if source else (
        b"LUT_1D_SIZE 2\n0 0 0\n0.5 0.5 0.5\n")
    other = content[:-2] + b"1\n" if not source else content[:-1] + bytes([content[-1] ^ 1])
    for name, data in (("one", content), ("copy", content), ("other", other)):
        (tmp_path / f"{name}{suffix}").write_bytes(data)
    bench = Workbench(device="cpu", root=tmp_path, steps=4)
    candidates = [Candidate(**{"name": name, "model": "zoo:photo", **fields(f"{name}{suffix}")})  # type: ignore[arg-type]
                  for name in ("one", "other", "copy")]
    problems = bench.equalities(candidates)
    assert list(problems) == ["copy"]
    assert all(word in problems["copy"] for word in ("'one'", f"'one{suffix}'", f"'copy{suffix}'"))
    assert bench.weights(candidates[0]).identity == bench.weights(candidates[2]).identity
