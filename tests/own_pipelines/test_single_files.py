"""A transformer in its authors' names as a single file, completed by a diffusers folder, is sampled as the folder is with it; and
it merges with folders."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from harness import Adapter, Candidate, Checkpoint, Fused, Merge
from harness.materialise import MaterialiseError, Workbench
from harness.materialise.file_layout import place
from harness.materialise.library import Library
from harness.materialise.plan_recipe import plan_recipe
from harness.materialise.saving import save
from harness.promotion.export import save_as_measured
from harness.weights import ModelFileError
from tests.own_pipelines.authors_names import AUTHORS, State
from tests.own_pipelines.own_bench import grid_for, sampled

TinyPipeline = Callable[[str], Path]
PREFIX = "model.diffusion_model."


def transformer_of(folder: Path) -> State:
    (file,) = (folder / "transformer").glob("*.safetensors")
    return load_file(file)


def written(path: Path, name: str, state: State, prefix: str = PREFIX) -> str:
    save_file({prefix + key: tensor.contiguous() for key, tensor in AUTHORS[name](state).items()}, path)
    return str(path)


@pytest.mark.parametrize("name", ["ChromaPipeline", "ZImagePipeline", "QwenImagePipeline", "Lumina2Pipeline"])
def test_pictures_are_those_of_the_folder_with_the_files_transformer_in_it(name: str, tiny_pipeline: TinyPipeline,
                                                                           tmp_path: Path) -> None:
    folder = tiny_pipeline(name)
    state = {key: tensor * 0.9 for key, tensor in transformer_of(folder).items()}
    file = written(tmp_path / "m.safetensors", name, state)
    whole = Path(shutil.copytree(folder, tmp_path / "whole"))
    (weights,) = (whole / "transformer").glob("*.safetensors")
    save_file(state, weights)
    base = Path(shutil.copytree(folder, tmp_path / "base"))
    next((base / "transformer").glob("*.safetensors")).unlink()
    grid = grid_for(name, seeds=(0,), guidance_scales=(3.0,))
    ours = sampled(Path(file), grid, model=Checkpoint(path=file, base=str(base)))
    theirs, other = sampled(whole, grid), sampled(folder, grid)
    assert all((ours[cell] == image).all() for cell, image in theirs.items())
    assert any((ours[cell] != image).any() for cell, image in other.items())


def of(model: object, **changes: object) -> Candidate:
    return Candidate(**{"name": "c", "model": model, **changes})  # type: ignore[arg-type]


def two(tiny_pipeline: TinyPipeline, root: Path, name: str) -> tuple[State, State]:
    """Writes a.safetensors in its authors' names and the folder b; gives the tensors of both under the module's names."""
    folder = Path(shutil.copytree(tiny_pipeline(name), root / "b"))
    b = transformer_of(folder)
    a = {key: tensor * 0.5 + 0.1 for key, tensor in b.items()}
    written(root / "a.safetensors", name, a)
    return a, b


@pytest.mark.parametrize("method", ["weighted_sum", "slerp"])
@pytest.mark.parametrize("name", ["ChromaPipeline", "ZImagePipeline"])
def test_a_file_merges_with_a_folder_in_as_layout(name: str, method: str, tiny_pipeline: TinyPipeline, tmp_path: Path) -> None:
    a, b = two(tiny_pipeline, tmp_path, name)
    library = Library(tmp_path)
    for recipe, alpha in ((Merge(a="a.safetensors", b="b", alpha=0.3, method=method), 0.3),
                          (Merge(a="b", b="a.safetensors", alpha=0.7, method=method), 0.3)):
        save(place(plan_recipe(recipe, library)), library, tmp_path / "out.safetensors", "title")
        out = load_file(tmp_path / "out.safetensors")
        if method == "weighted_sum":
            ideal = {key: ((1 - alpha) * a[key].double() + alpha * b[key].double()).float() for key in a}
            of_a = {PREFIX + key: tensor for key, tensor in AUTHORS[name](ideal).items()}
            expected = of_a if recipe.a == "a.safetensors" else ideal
            assert all(torch.allclose(out[key], tensor, rtol=1e-6, atol=1e-7) for key, tensor in expected.items())
        assert out.keys() == (load_file(tmp_path / "a.safetensors") if recipe.a == "a.safetensors" else b).keys()


def test_the_merge_of_a_file_with_a_base_is_promoted_and_sampled_with_it(tiny_pipeline: TinyPipeline, tmp_path: Path) -> None:
    a, b = two(tiny_pipeline, tmp_path, "ZImagePipeline")
    written(tmp_path / "c.safetensors", "ZImagePipeline", b, prefix="")
    model = Merge(a=Checkpoint(path="a.safetensors", base="b"), b="c.safetensors", alpha=0.25)
    saved = save_as_measured(of(model), "cpu", Workbench(device="cpu", root=tmp_path), tmp_path / "out.safetensors", "merge")
    assert saved.candidate.model == Checkpoint(path=str(tmp_path / "out.safetensors"), base="b")
    out = load_file(tmp_path / "out.safetensors")
    assert out.keys() == load_file(tmp_path / "a.safetensors").keys()
    key = "layers.0.attention.to_k.weight"
    third = out[f"{PREFIX}layers.0.attention.qkv.weight"].chunk(3)[1]
    assert torch.allclose(third, 0.75 * a[key] + 0.25 * b[key], rtol=1e-6, atol=1e-7)


def test_a_folder_of_the_same_pipeline_is_promoted_too(tiny_pipeline: TinyPipeline, tmp_path: Path) -> None:
    two(tiny_pipeline, tmp_path, "ZImagePipeline")
    saved = save_as_measured(of(Merge(a="b", b="a.safetensors", alpha=0.25)), "cpu", Workbench(device="cpu", root=tmp_path),
                             tmp_path / "out.safetensors", "merge")
    assert saved.candidate.model == Checkpoint(path=str(tmp_path / "out.safetensors"), base=str(tmp_path / "b"))


def test_the_identity_covers_what_is_used_of_the_base(tiny_pipeline: TinyPipeline, tmp_path: Path) -> None:
    two(tiny_pipeline, tmp_path, "ZImagePipeline")
    candidate = of(Checkpoint(path="a.safetensors", base="b"))

    def identity() -> str:
        return Workbench(device="cpu", root=tmp_path).weights(candidate).identity

    first = identity()
    bench = Workbench(device="cpu", root=tmp_path)
    assert bench.content_for(candidate, "b") == bench.weights(candidate).inputs["b"]
    assert bench.content("b") != bench.content_for(candidate, "b")
    (own,) = (tmp_path / "b" / "transformer").glob("*.safetensors")
    save_file({key: tensor * 2 for key, tensor in load_file(own).items()}, own)
    assert identity() == first
    encoder = next((tmp_path / "b" / "text_encoder").glob("*.safetensors"))
    save_file({key: tensor * 2 for key, tensor in load_file(encoder).items()}, encoder, {"format": "pt"})
    assert identity() != first


def test_an_adapter_of_the_module_changes_a_file_in_its_authors_names(tiny_pipeline: TinyPipeline, tmp_path: Path) -> None:
    a, _ = two(tiny_pipeline, tmp_path, "ZImagePipeline")
    key = "layers.0.attention.to_k"
    height, width = a[f"{key}.weight"].shape
    save_file({f"transformer.{key}.lora_A.weight": torch.ones(1, width),
               f"transformer.{key}.lora_B.weight": torch.ones(height, 1)}, tmp_path / "l.safetensors")
    model = Fused(model=Checkpoint(path="a.safetensors", base="b"), adapters=(Adapter(path="l.safetensors"),))
    pipeline = Workbench(device="cpu", root=tmp_path).prepare(of(model)).pipeline
    assert torch.allclose(pipeline.denoiser.state_dict()[f"{key}.weight"], a[f"{key}.weight"] + 1)


def test_the_advice_for_a_file_alone_works_when_it_is_followed(tiny_pipeline: TinyPipeline, tmp_path: Path) -> None:
    two(tiny_pipeline, tmp_path, "ChromaPipeline")
    bench = Workbench(device="cpu", root=tmp_path)
    with pytest.raises(ModelFileError, match=r"Chroma.*Checkpoint\(path='a.safetensors', base='FOLDER'\)"):
        bench.inspect(of("a.safetensors"))
    bench.inspect(of(Checkpoint(path="a.safetensors", base="b")))


def test_a_base_that_the_file_does_not_fit_is_refused_by_name(tiny_pipeline: TinyPipeline, tmp_path: Path) -> None:
    two(tiny_pipeline, tmp_path, "ChromaPipeline")
    bench = Workbench(device="cpu", root=tmp_path)
    for other, said in (("ZImagePipeline", "Z-Image"), ("FluxPipeline", "FluxPipeline"), ("WanPipeline", "videos")):
        with pytest.raises(ModelFileError, match=rf"base .*{said}.*a\.safetensors is Chroma"):
            bench.inspect(of(Checkpoint(path="a.safetensors", base=str(tiny_pipeline(other)))))
    shutil.rmtree(tmp_path / "b")
    save_file({**load_file(tmp_path / "a.safetensors"), "vae.decoder.conv_in.weight": torch.ones(4, 4, 3, 3)},
              tmp_path / "whole.safetensors")
    with pytest.raises(ModelFileError, match=r"holds vae beside its denoiser.*Give a file of the denoiser alone"):
        bench.inspect(of(Checkpoint(path="whole.safetensors", base=str(tiny_pipeline("ChromaPipeline")))))


def test_a_config_of_endless_layers_is_refused_before_they_are_built(tiny_pipeline: TinyPipeline, tmp_path: Path) -> None:
    two(tiny_pipeline, tmp_path, "ZImagePipeline")
    config = tmp_path / "b" / "transformer" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"n_layers": 10 ** 9}))
    with pytest.raises(ModelFileError, match=r"config\.json: n_layers is 1000000000"):
        Library(tmp_path).open(Checkpoint(path="a.safetensors", base="b"))


def test_a_part_that_no_file_of_the_merge_has_is_an_error(tiny_pipeline: TinyPipeline, tmp_path: Path) -> None:
    two(tiny_pipeline, tmp_path, "ZImagePipeline")
    model = Merge(a=Checkpoint(path="a.safetensors", base="b"), b="b", alpha=0.5, parts=("vae",))
    with pytest.raises(MaterialiseError, match="vae: A"):
        Workbench(device="cpu", root=tmp_path).inspect(of(model))
