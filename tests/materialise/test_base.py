"""A checkpoint that is completed by a base: its merges, its identity, the files that are made of it, and what is refused."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from harness import Adapter, Candidate, Checkpoint, Fused, Merge
from harness.check.candidate import reference_problems
from harness.check.sizes import size_problem
from harness.cli import main
from harness.declare import Model, Stage, plain, restore
from harness.materialise import MaterialiseError, Workbench
from harness.materialise.content_identity import references_of
from harness.materialise.file_layout import place
from harness.materialise.library import Library
from harness.materialise.plan_recipe import plan_recipe
from harness.materialise.saving import save
from harness.promotion.export import save_as_measured
from harness.records import Cell
from harness.records.file_version import ChangedFileError
from harness.sampling import embedded, sample
from harness.weights import ModelFileError
from tests.fakes import PROMPTS, tiny_grid
from tests.weights.pipelines import folder_of, theirs
from tests.weights.test_companion import denoiser_of, without_denoiser


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """By family: the folder FAMILY, its denoiser alone as FAMILY.safetensors, another as FAMILY-b.safetensors, and FAMILY-base,
    the folder without the weights of its denoiser."""
    root = tmp_path_factory.mktemp("bases")
    for family in ("sd1", "flux", "sd3"):
        folder_of(theirs(family), root / family)
        own = load_file(denoiser_of(root / family, root / f"{family}.safetensors"))
        save_file({name: tensor * 0.9 for name, tensor in own.items()}, root / f"{family}-b.safetensors")
        without_denoiser(Path(shutil.copytree(root / family, root / f"{family}-base")))
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "root"))


def one(family: str, letter: str = "", base: str | None = "") -> Checkpoint:
    return Checkpoint(path=f"{family}{letter}.safetensors", base=f"{family}-base" if base == "" else base)


def of(model: Model, **changes: object) -> Candidate:
    return Candidate(**{"name": "c", "model": model, **changes})  # type: ignore[arg-type]


def images(root: Path, model: Model) -> list[np.ndarray]:
    grid = tiny_grid(steps=2, width=32, height=32, sampler="ddim" if "sd1" in repr(model) else "flow_euler")
    bench = Workbench.for_grid(grid, device="cpu", root=root)
    phases = bench.prepare(of(model)).phases
    todo = [(Cell(prompt=PROMPTS[0].id, seed=seed, guidance=4.0),) for seed in (1, 2)]
    return [images for _, images in sample(phases, grid, todo, embedded(phases, PROMPTS[:1]))]


@pytest.mark.parametrize("family", ["sd1", "flux", "sd3"])
def test_pictures_are_those_of_the_whole_folder(family: str, made: Path) -> None:
    ours, whole = images(made, one(family)), images(made, family)
    assert all(np.array_equal(mine, other) for mine, other in zip(ours, whole, strict=True))


@pytest.mark.parametrize("family", ["sd1", "flux"])
def test_a_merge_of_two_files_is_sampled_with_as_base_and_written_in_as_layout(family: str, made: Path, tmp_path: Path) -> None:
    a, b = (load_file(made / f"{family}{letter}.safetensors") for letter in ("", "-b"))
    candidate = of(Merge(a=one(family), b=one(family, "-b", None), alpha=0.25))
    out = tmp_path / "out.safetensors"
    saved = save_as_measured(candidate, "cpu", Workbench(device="cpu", root=made), out, "merge")
    merged = load_file(out)
    assert merged.keys() == a.keys()  # what is the base's is not in the file, and the file needs the base
    assert saved.candidate.model == Checkpoint(path=str(out), base=f"{family}-base")
    for name, tensor in merged.items():
        ideal = (0.75 * a[name].double() + 0.25 * b[name].double()).float()
        assert torch.allclose(tensor, ideal, rtol=1e-6, atol=1e-7)
    rows = Workbench(device="cpu", root=made).prepare(candidate).coverage
    said = {row.component: row.notes for row in rows if row.stage == "merge"}
    assert any(f"that of {family}-base" in note for note in said["vae"])
    assert not any("that of" in note for note in said["unet" if family == "sd1" else "transformer"])


def test_parts_of_the_base_are_merged_and_written(made: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(made, tmp_path / "root"))
    encoder = root / "sd1" / "text_encoder" / "model.safetensors"
    state = load_file(encoder)
    save_file({name: tensor + 1 for name, tensor in state.items()}, encoder)
    library = Library(root)
    recipe = Merge(a=one("sd1"), b="sd1", alpha=0.5, parts=("unet", "text_encoder"))
    plan = place(plan_recipe(recipe, library))
    save(plan, library, root / "out.safetensors", "title")
    out = load_file(root / "out.safetensors")
    name = "embeddings.token_embedding.weight"
    assert torch.allclose(out[f"cond_stage_model.transformer.text_model.{name}"], state[name] + 0.5, atol=1e-6)
    assert not any(key.startswith("first_stage_model.") for key in out)
    assert plan.bases == ("sd1-base",)
    assert main(["replay", str(root / "out.safetensors")]) == 0


def test_a_file_of_which_nothing_is_of_the_base_is_made_again_without_it(root: Path) -> None:
    library = Library(root)
    plan = place(plan_recipe(Merge(a=one("flux"), b=one("flux", "-b"), alpha=0.5), library))
    save(plan, library, root / "out.safetensors", "title")
    shutil.rmtree(root / "flux-base")
    shutil.rmtree(root / "flux")
    assert main(["replay", str(root / "out.safetensors")]) == 0


def test_an_adapter_reaches_the_text_encoder_of_the_base(made: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(made, tmp_path / "root"))
    weight = load_file(root / "sd1" / "text_encoder" / "model.safetensors")["encoder.layers.0.mlp.fc1.weight"]
    save_file({"lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": torch.ones(1, weight.shape[1]),
               "lora_te_text_model_encoder_layers_0_mlp_fc1.lora_up.weight": torch.ones(weight.shape[0], 1),
               "lora_te_text_model_encoder_layers_0_mlp_fc1.alpha": torch.tensor(1.0)}, root / "l.safetensors")
    bench = Workbench(device="cpu", root=root)
    pipeline = bench.prepare(of(Fused(model=one("sd1"), adapters=(Adapter(path="l.safetensors"),)))).pipeline
    assert torch.allclose(pipeline.text_encoder.state_dict()["encoder.layers.0.mlp.fc1.weight"], weight + 1)


def test_the_identity_covers_what_is_used_of_the_base(root: Path) -> None:
    def identity() -> str:
        return Workbench(device="cpu", root=root).weights(of(one("sd1", base="sd1"))).identity

    first = identity()
    shutil.copytree(root / "sd1", root / "renamed")
    again = Workbench(device="cpu", root=root).weights(of(one("sd1", base="renamed"))).identity
    assert again == first
    def changed(file: Path) -> None:
        if file.suffix == ".json":
            file.write_bytes(file.read_bytes() + b" ")
        else:
            save_file({name: tensor * 2 for name, tensor in load_file(file).items()}, file)

    unused = root / "sd1" / "unet" / "diffusion_pytorch_model.safetensors"
    changed(unused)
    (root / "sd1" / "whole.safetensors").write_bytes(b"a single file beside the folders")
    assert identity() == first
    for file in ("vae/diffusion_pytorch_model.safetensors", "scheduler/scheduler_config.json", "tokenizer/tokenizer_config.json"):
        before = identity()
        changed(root / "sd1" / file)
        assert identity() != before
    staged = of(one("sd1", base="renamed"), stages=(Stage(model="sd1", strength=0.5),))
    for candidate in (of(one("sd1", base="renamed")), staged):
        bench = Workbench(device="cpu", root=root)
        inputs = bench.weights(candidate).inputs
        assert set(inputs) == {"sd1.safetensors", "renamed"} | ({"sd1"} if candidate.stages else set())
        assert inputs == {reference: bench.content_for(candidate, reference) for reference in inputs}


def test_a_base_that_changes_while_it_is_used_is_refused_by_name(root: Path) -> None:
    bench = Workbench(device="cpu", root=root)
    bench.inspect(of(one("sd1")))
    assert references_of(of(one("sd1"))) == ("sd1.safetensors", "sd1-base")
    vae = root / "sd1-base" / "vae" / "diffusion_pytorch_model.safetensors"
    save_file({name: tensor * 2 for name, tensor in load_file(vae).items()}, vae)
    with pytest.raises(ChangedFileError, match=r"sd1-base: diffusion_pytorch_model.safetensors"):
        bench.inspect(of(one("sd1")))


def test_two_bases_of_one_file_are_two_models(root: Path) -> None:
    other = root / "other"
    shutil.copytree(root / "sd1-base", other)
    vae = other / "vae" / "diffusion_pytorch_model.safetensors"
    save_file({name: tensor * 2 for name, tensor in load_file(vae).items()}, vae)
    bench = Workbench(device="cpu", root=root)
    first, second = (bench.prepare(of(model)).pipeline.vae.decoder.conv_in.weight.clone()
                     for model in (one("sd1"), one("sd1", base="other")))
    assert torch.equal(second, first * 2)
    merged = bench.prepare(of(Merge(a=one("sd1"), b=one("sd1", base="other"), alpha=0.5, parts=("vae",)))).pipeline
    assert torch.allclose(merged.vae.decoder.conv_in.weight, first * 1.5)
    with pytest.raises(MaterialiseError, match=r"base 'other' of 'sd1-b.safetensors' has no effect"):
        bench.inspect(of(Merge(a=one("sd1"), b=one("sd1", "-b", base="other"), alpha=0.5)))
    bench.inspect(of(Merge(a=one("sd1"), b=one("sd1", "-b"), alpha=0.5)))


@pytest.mark.parametrize("family", ["sd1", "flux"])
def test_the_advice_for_a_denoiser_alone_works_when_it_is_followed(family: str, made: Path) -> None:
    bench = Workbench(device="cpu", root=made)
    with pytest.raises(ModelFileError) as refused:
        bench.inspect(of(f"{family}.safetensors"))
    advice = re.search(r"Checkpoint\(path='(.*?)', base='FOLDER'\)", str(refused.value))
    assert advice is not None
    bench.inspect(of(Checkpoint(path=advice[1], base=family)))


def test_the_check_gives_the_same_advice_for_a_unet_alone_of_an_unusual_size(made: Path) -> None:
    advice = size_problem(Checkpoint(path="sd1.safetensors"), made)
    assert "Checkpoint(path='sd1.safetensors', base='FOLDER')" in advice
    assert size_problem(one("sd1"), made) == ""


def test_a_part_that_neither_has_is_an_error(root: Path) -> None:
    shutil.rmtree(root / "sd1-base" / "vae")
    with pytest.raises(MaterialiseError, match=r"vae: A \(sd1.safetensors with sd1-base\) has none"):
        Workbench(device="cpu", root=root).inspect(of(Merge(a=one("sd1"), b="sd1", alpha=0.5, parts=("vae",))))


def test_what_is_declared_of_a_base_is_checked_before_any_file_is_opened(made: Path) -> None:
    def problems(**changes: str) -> list[str]:
        return list(reference_problems(Checkpoint(path="sd1.safetensors", **changes), made))

    assert problems(base="sd1") == []
    assert "'gone'" in problems(base="gone")[0]
    assert "'sd1.safetensors'" in problems(base="sd1.safetensors")[0]
    assert "Remove config" in problems(base="sd1", config="sd1")[0]


def test_a_declaration_without_a_base_is_hashed_as_before() -> None:
    assert plain(Checkpoint(path="m")) == {"is": "Checkpoint", "path": "m", "config": None, "ema": False}
    with_base = Checkpoint(path="m", base="folder")
    assert restore(json.loads(json.dumps(plain(with_base)))) == with_base
