"""Candidates are made in place, one after another, and none leaves a trace in the next."""

from pathlib import Path

import pytest
import torch

from harness import Adapter, Candidate, Checkpoint, Merge
from harness.materialise import MaterialiseError, Workbench
from harness.merge import Target
from harness.weights import open_model, save_single_file
from harness.zoo import resolve


def merge(alpha: float, **changes: object) -> Candidate:
    values: dict[str, object] = {"a": "zoo:photo", "b": "zoo:anime", "alpha": alpha}
    return Candidate(name=f"alpha={alpha:g}", model=Merge(**{**values, **changes}))  # type: ignore[arg-type]


def state(bench: Workbench, candidate: Candidate, part: str = "unet") -> dict[str, torch.Tensor]:
    module = getattr(bench.prepare(candidate).pipeline, part)
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)


def checkpoint(path: Path, drop: str = "", marker: str = "") -> str:
    """The zoo's anime checkpoint with one tensor left out, or one marker put in."""
    from safetensors.torch import load_file

    tensors = load_file(resolve("zoo:anime"))
    if drop:
        del tensors[drop]
    if marker:
        tensors[marker] = torch.zeros(0)
    save_single_file(path, tensors, {})
    return path.name


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    monkeypatch.setenv("SWEETSPOT_CACHE", str(tmp_path_factory.getbasetemp() / "zoo-cache"))
    return Workbench(device="cpu", root=tmp_path)


def test_the_way_to_an_alpha_does_not_matter(bench: Workbench, tmp_path: Path) -> None:
    for alpha in (0.2, 0.9, 1.0):
        bench.prepare(merge(alpha))
    assert same(state(bench, merge(0.5)), state(Workbench(device="cpu", root=tmp_path), merge(0.5)))


def test_a_merge_holds_what_a_saved_file_would_hold(bench: Workbench) -> None:
    parents = [open_model(resolve(f"zoo:{name}")).tensors("unet") for name in ("photo", "anime")]
    made = state(bench, merge(0.3))
    for name, tensor in made.items():
        a, b = (p[name].double() for p in parents)
        expected = (0.7 * a + 0.3 * b).to(torch.float16)
        assert torch.allclose(tensor, expected.float(), rtol=2e-3, atol=1e-7), name
        assert torch.equal(tensor, tensor.half().float()), f"{name} is not rounded to the stored dtype"


def test_a_plain_checkpoint_after_a_merge_is_itself_again(bench: Workbench, tmp_path: Path) -> None:
    photo = Candidate(name="photo", model="zoo:photo")
    before = state(bench, photo)
    bench.prepare(merge(0.5))
    assert same(state(bench, photo), before)


def test_only_the_named_parts_are_merged(bench: Workbench) -> None:
    assert same(state(bench, merge(0.5), "vae"), state(bench, Candidate(name="p", model="zoo:photo"), "vae"))


def test_recipes_nest(bench: Workbench) -> None:
    inner = Merge(a="zoo:photo", b="zoo:anime", alpha=0.5)
    outer = state(bench, Candidate(name="n", model=Merge(a=inner, b="zoo:anime", alpha=0.5)))
    assert torch.allclose(outer["conv_in.weight"], state(bench, merge(0.75))["conv_in.weight"], atol=1e-3)


def test_a_merge_that_fails_half_way_leaves_no_trace_in_the_next(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    photo = Candidate(name="photo", model="zoo:photo")
    before = state(bench, photo)

    def torn(targets: list[Target], *_: object) -> None:
        targets[0].live.detach().fill_(7.0)
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr("harness.materialise.workbench.write_live", torn)
        with pytest.raises(RuntimeError, match="out of memory"):
            bench.prepare(merge(0.5))
    assert same(state(bench, photo), before)


def test_the_text_state_tells_configs_apart(bench: Workbench, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(resolve("zoo:config"), tmp_path / "other")
    candidates = [Candidate(name="c", model=Checkpoint(path="zoo:photo", config=config)) for config in ("zoo:config", "other")]
    texts = {bench.prepare(candidate).phases[0].branches[0].text_identity for candidate in candidates}
    assert len(texts) == 2


def test_every_tensor_of_every_component_is_in_the_coverage(bench: Workbench) -> None:
    prepared = bench.prepare(merge(0.5))
    file = open_model(resolve("zoo:photo"))
    for part, infos in file.components.items():
        row = next(c for c in prepared.coverage if c.component == part and c.stage == "merge")
        assert sorted(key for keys in row.keys.values() for key in keys) == sorted(infos)


def test_a_key_missing_in_b_is_refused_by_name_before_anything_is_written(bench: Workbench, tmp_path: Path) -> None:
    key = "model.diffusion_model.input_blocks.1.0.in_layers.2.weight"
    broken = merge(0.5, b=checkpoint(tmp_path / "b.safetensors", drop=key))
    with pytest.raises(MaterialiseError, match=r"down_blocks\.0\.resnets\.0\.conv1\.weight"):
        bench.inspect(broken)


def test_a_key_missing_in_b_is_kept_from_a_when_the_recipe_says_so(bench: Workbench, tmp_path: Path) -> None:
    key = "model.diffusion_model.input_blocks.1.0.in_layers.2.weight"
    b = checkpoint(tmp_path / "b.safetensors", drop=key)
    prepared = bench.prepare(merge(0.5, b=b, missing="keep_a"))
    unet = next(c for c in prepared.coverage if c.component == "unet" and c.stage == "merge")
    assert unet.keys["copied"] == ("down_blocks.0.resnets.0.conv1.weight",)
    assert any("kept from A" in note for note in unet.notes)


def test_parents_of_different_prediction_types_are_refused(bench: Workbench, tmp_path: Path) -> None:
    bench.inspect(merge(0.5, b=checkpoint(tmp_path / "v.safetensors", marker="v_pred")))  # the zoo predicts v
    with pytest.raises(MaterialiseError, match="different predictions"):
        bench.inspect(Candidate(name="m", model=Merge(a="v.safetensors", b=checkpoint(tmp_path / "e.safetensors"), alpha=0.5)))
    with pytest.raises(MaterialiseError, match="different noise schedules"):
        bench.inspect(merge(0.5, b=checkpoint(tmp_path / "z.safetensors", marker="ztsnr")))


def test_an_adapter_leaves_no_trace(bench: Workbench) -> None:
    photo = Candidate(name="photo", model="zoo:base")
    before = state(bench, photo)
    adapted = bench.prepare(Candidate(name="s", model="zoo:base", adapters=(Adapter(path="zoo:sketch", weight=0.7),)))
    rows = [c for c in adapted.coverage if c.stage == "adapter zoo:sketch"]
    assert rows
    assert all(set(row.keys) <= {"applied", "consumed"} for row in rows)
    assert same(state(bench, photo), before)


def test_both_layouts_of_the_zoos_adapter_make_the_same_model(bench: Workbench) -> None:
    from harness.sampling import batches, embedded, sample
    from tests.fakes import tiny_grid

    made = []
    for path in ("zoo:sketch", "zoo:sketch-peft"):
        grid = tiny_grid(guidance_scales=(4,))
        (phase,) = bench.prepare(Candidate(name=path, model="zoo:base", adapters=(Adapter(path=path),))).phases
        texts = embedded([phase], grid.prompts)
        made.append([images for _, images in sample((phase,), grid, batches(grid), texts)])
    assert all((one == two).all() for one, two in zip(*made, strict=True))


def test_quantizing_one_candidate_leaves_the_next_in_full_precision(bench: Workbench) -> None:
    before = state(bench, merge(0.5))
    bench.prepare(Candidate(name="q", model=merge(0.5).model, quantization="int4_weight_only"))
    assert same(state(bench, merge(0.5)), before)


def test_the_identity_follows_the_content_of_the_files(bench: Workbench, tmp_path: Path) -> None:
    (tmp_path / "copy.safetensors").write_bytes(resolve("zoo:photo").read_bytes())
    original = bench.weights(Candidate(name="a", model="zoo:photo"))
    copied = bench.weights(Candidate(name="b", model="copy.safetensors"))
    assert original.inputs["zoo:photo"] == copied.inputs["copy.safetensors"]
    assert bench.weights(merge(0.5)).identity != bench.weights(merge(0.6)).identity
