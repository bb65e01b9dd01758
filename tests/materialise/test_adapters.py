"""Adapters of every kind: fused for good, at run time and in a file, they are the same change."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from harness import Adapter, Candidate, Fused, Merge
from harness.adapters import AdapterError
from harness.adapters.change import Change
from harness.adapters.kinds import changed_weight
from harness.adapters.reading import read_changes
from harness.cli import main
from harness.declare import Model
from harness.materialise import Library, MaterialiseError, Workbench, place, plan_recipe, save
from harness.materialise.library import shapes_of
from harness.weights import ModelFile, open_model
from harness.zoo import resolve

Tensors = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def base() -> ModelFile:
    return open_model(resolve("zoo:base"))


def attention(base: ModelFile) -> tuple[str, tuple[int, ...]]:
    """A layer of the zoo's U-Net that is a plain matrix, as kohya's name and its shape."""
    key = next(key for key in base.components["unet"] if key.endswith("attn1.to_q.weight"))
    return "lora_unet_" + key.removesuffix(".weight").replace(".", "_"), base.components["unet"][key].shape


def only_key(base: ModelFile) -> str:
    """The key of that layer's weight."""
    return next(key for key in base.components["unet"] if key.endswith("attn1.to_q.weight"))


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 0.2


def lora(name: str, shape: tuple[int, ...]) -> Tensors:
    return {f"{name}.lora_down.weight": drawn(2, shape[1]), f"{name}.lora_up.weight": drawn(shape[0], 2, seed=1),
            f"{name}.alpha": torch.tensor(1.0)}


def loha(name: str, shape: tuple[int, ...]) -> Tensors:
    return {f"{name}.hada_w1_a": drawn(shape[0], 2), f"{name}.hada_w1_b": drawn(2, shape[1], seed=1),
            f"{name}.hada_w2_a": drawn(shape[0], 2, seed=2), f"{name}.hada_w2_b": drawn(2, shape[1], seed=3),
            f"{name}.alpha": torch.tensor(1.0)}


def lokr(name: str, shape: tuple[int, ...]) -> Tensors:
    return {f"{name}.lokr_w1": drawn(2, 2), f"{name}.lokr_w2": drawn(shape[0] // 2, shape[1] // 2, seed=1),
            f"{name}.alpha": torch.tensor(1e10)}


def dora(name: str, shape: tuple[int, ...]) -> Tensors:
    return {**lora(name, shape), f"{name}.dora_scale": drawn(shape[0], 1, seed=4).abs() + 1}


def full(name: str, shape: tuple[int, ...]) -> Tensors:
    return {f"{name}.diff": drawn(*shape)}


KINDS = [lora, loha, lokr, dora, full]


def written(folder: Path, make: Callable[[str, tuple[int, ...]], Tensors], base: ModelFile) -> str:
    save_file(make(*attention(base)), folder / f"{make.__name__}.safetensors")
    return f"{make.__name__}.safetensors"


def saved(folder: Path, model: Model, name: str = "out.safetensors") -> Path:
    library = Library(folder)
    save(place(plan_recipe(model, library)), library, folder / name, "title")
    return folder / name


def only(base: ModelFile, path: Path) -> tuple[str, Change]:
    """The one change of an adapter file, and the key of the weight it changes."""
    (change,) = read_changes(path, shapes_of(base), base.family).changes.values()
    return f"{change.path}.weight", change


@pytest.mark.parametrize("make", KINDS)
def test_a_fused_file_holds_the_changed_weight_rounded_once_and_all_else_as_it_was(tmp_path: Path, base: ModelFile, make) -> None:
    adapter = written(tmp_path, make, base)
    key, change = only(base, tmp_path / adapter)
    out = open_model(saved(tmp_path, Fused(model="zoo:base", adapters=(Adapter(path=adapter, weight=0.7),))))
    for name, tensor in out.tensors("unet").items():
        before = base.tensor("unet", name)
        expected = changed_weight(change, before.float(), 0.7).to(before.dtype) if name == key else before
        assert torch.equal(tensor, expected), name
    assert not torch.equal(out.tensor("unet", key), base.tensor("unet", key))


@pytest.mark.parametrize("make", KINDS)
def test_at_run_time_an_adapter_does_what_it_does_fused_and_leaves_no_trace(tmp_path: Path, base: ModelFile, make) -> None:
    adapter = written(tmp_path, make, base)
    key, change = only(base, tmp_path / adapter)
    bench, plain = Workbench(device="cpu", root=tmp_path), Candidate(name="plain", model="zoo:base")
    layer = key.removesuffix(".weight")
    inputs = drawn(5, base.components["unet"][key].shape[1], seed=9)
    before = bench.prepare(plain).pipeline.unet.get_submodule(layer)(inputs)
    pipeline = bench.prepare(Candidate(name="a", model="zoo:base", adapters=(Adapter(path=adapter, weight=0.7),))).pipeline
    made = pipeline.unet.get_submodule(layer)(inputs)
    expected = inputs @ changed_weight(change, base.tensor("unet", key).float(), 0.7).T
    assert torch.allclose(made, expected, atol=1e-4)
    assert not torch.allclose(made, before, atol=1e-4)
    assert torch.equal(bench.prepare(plain).pipeline.unet.get_submodule(layer)(inputs), before)


def test_adapters_of_two_kinds_work_together_and_their_tensors_are_all_accounted_for(tmp_path: Path, base: ModelFile) -> None:
    adapters = tuple(Adapter(path=written(tmp_path, make, base), weight=0.5) for make in (lora, loha))
    prepared = Workbench(device="cpu", root=tmp_path).prepare(Candidate(name="two", model="zoo:base", adapters=adapters))
    for adapter in adapters:
        rows = [row for row in prepared.coverage if row.stage == f"adapter {adapter.path}"]
        listed = [key for row in rows for keys in row.keys.values() for key in keys]
        assert sorted(listed) == sorted(load_file(tmp_path / adapter.path))


def test_a_weight_of_an_adapter_can_change_without_loading_anything(tmp_path: Path, base: ModelFile) -> None:
    adapter = written(tmp_path, loha, base)
    key, change = only(base, tmp_path / adapter)
    bench = Workbench(device="cpu", root=tmp_path)
    for weight in (1.0, 0.25):
        candidate = Candidate(name=f"{weight}", model="zoo:base", adapters=(Adapter(path=adapter, weight=weight),))
        made = bench.prepare(candidate).pipeline.unet.get_submodule(key.removesuffix(".weight")).weight
        assert torch.allclose(made, changed_weight(change, base.tensor("unet", key).float(), weight), atol=1e-6)


def test_an_adapter_is_fused_into_a_merge_before_the_one_rounding(tmp_path: Path, base: ModelFile) -> None:
    adapter = written(tmp_path, lora, base)
    key, change = only(base, tmp_path / adapter)
    merge = Merge(a="zoo:photo", b="zoo:anime", alpha=0.3)
    out = open_model(saved(tmp_path, Fused(model=merge, adapters=(Adapter(path=adapter),))))
    a, b = (open_model(resolve(f"zoo:{name}")).tensor("unet", key) for name in ("photo", "anime"))
    exact = changed_weight(change, torch.lerp(a.double(), b.double(), 0.3), 1.0)
    assert torch.allclose(out.tensor("unet", key).double(), exact, rtol=2 ** -11, atol=2 ** -24)


def test_a_fused_merge_is_a_parent_like_any_other(tmp_path: Path, base: ModelFile) -> None:
    adapter = written(tmp_path, full, base)
    key, change = only(base, tmp_path / adapter)
    fused = Fused(model="zoo:base", adapters=(Adapter(path=adapter),))
    out = open_model(saved(tmp_path, Merge(a="zoo:base", b=fused, alpha=0.5)))
    expected = (base.tensor("unet", key).float() + 0.5 * change.tensors["diff"]).half()
    assert torch.allclose(out.tensor("unet", key).float(), expected.float(), atol=1e-3)


def test_a_fused_file_is_made_again_from_its_header(tmp_path: Path, base: ModelFile, capsys: pytest.CaptureFixture[str]) -> None:
    adapter, out = tmp_path / written(tmp_path, dora, base), str(tmp_path / "o.safetensors")
    assert main(["merge", "--a", "zoo:base", "--adapter", f"{adapter}=0.7", "-o", out]) == 0
    assert "tensors changed by" in capsys.readouterr().out
    assert main(["replay", out]) == 0
    assert "identical" in capsys.readouterr().out


def test_a_key_that_names_no_layer_is_refused_before_anything_is_written(tmp_path: Path, base: ModelFile) -> None:
    name, shape = attention(base)
    save_file(lora(name.replace("attn1", "attn7"), shape), tmp_path / "odd.safetensors")
    with pytest.raises(AdapterError, match="attn7"):
        Workbench(device="cpu", root=tmp_path).inspect(
            Candidate(name="odd", model="zoo:base", adapters=(Adapter(path="odd.safetensors"),)))


def test_every_tensor_of_a_fused_adapter_is_in_the_coverage_of_the_file_and_of_the_candidate(tmp_path: Path,
                                                                                             base: ModelFile) -> None:
    encoder = "lora_te2_text_model_encoder_layers_0_mlp_fc1"
    tensors = {**lora(*attention(base)), f"{encoder}.lora_down.weight": drawn(2, 8), f"{encoder}.lora_up.weight": drawn(8, 2)}
    save_file(tensors, tmp_path / "both.safetensors")
    model = Fused(model="zoo:base", adapters=(Adapter(path="both.safetensors"),))
    plan = place(plan_recipe(model, Library(tmp_path)))
    assert sorted(key for keys in plan.coverage["adapter both.safetensors"].values() for key in keys) == sorted(tensors)
    assert plan.coverage["unet"]["adapted"] == (only_key(base),)
    assert any("2 tensors are for text_encoder_2" in note for note in plan.notes)
    rows = Workbench(device="cpu", root=tmp_path).prepare(Candidate(name="f", model=model)).coverage
    listed = [key for row in rows if row.stage.startswith("fused adapter") for keys in row.keys.values() for key in keys]
    assert sorted(listed) == sorted(tensors)


def test_a_tensor_that_cannot_be_fused_is_refused_and_not_left_out(tmp_path: Path, base: ModelFile) -> None:
    norm = {"lora_unet_conv_norm_out.lora_down.weight": drawn(2, 4), "lora_unet_conv_norm_out.lora_up.weight": drawn(4, 2)}
    save_file({**lora(*attention(base)), **norm}, tmp_path / "norm.safetensors")
    with pytest.raises(MaterialiseError, match=r"norm\.safetensors: 'lora_unet_conv_norm_out.*cannot be applied"):
        plan_recipe(Fused(model="zoo:base", adapters=(Adapter(path="norm.safetensors"),)), Library(tmp_path))


def test_inspect_says_what_an_adapter_is(tmp_path: Path, base: ModelFile, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(tmp_path / written(tmp_path, lora, base))]) == 0
    said = capsys.readouterr().out
    assert "adapter" in said
    assert "lora" in said
    assert "rank" in said


def test_a_change_of_a_table_of_embeddings_is_written_into_the_table(tmp_path: Path, base: ModelFile) -> None:
    key = next(key for key in base.components["text_encoder"] if key.endswith("token_embedding.weight"))
    rows, width = base.components["text_encoder"][key].shape
    file = lora("lora_te_" + key.removesuffix(".weight").replace(".", "_"), (rows, width))
    save_file(file, tmp_path / "words.safetensors")
    bench = Workbench(device="cpu", root=tmp_path)
    adapters = (Adapter(path="words.safetensors", weight=0.5),)
    prepared = bench.prepare(Candidate(name="words", model="zoo:base", adapters=adapters))
    table = prepared.pipeline.text_encoder.get_submodule(key.removesuffix(".weight")).weight
    up, down = (next(value for name, value in file.items() if half in name) for half in ("lora_up", "lora_down"))
    assert torch.allclose(table, base.tensor("text_encoder", key).float() + 0.5 * 0.5 * up @ down, atol=1e-6)
    plainly = bench.prepare(Candidate(name="plain", model="zoo:base"))
    (styled,), (plain,) = (made.phases[0].branches for made in (prepared, plainly))
    assert styled.text_identity != plain.text_identity
