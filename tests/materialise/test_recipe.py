"""Live weights and saved files are made of one plan: the same bits, and only where something changed."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch

from harness import Alphas, Blocks, Candidate, Checkpoint, Merge
from harness.materialise import Library, MaterialiseError, Workbench, describe, plan_recipe
from harness.materialise.workbench import write_live
from harness.merge import MERGE_METHODS, evaluate
from harness.weights import open_model
from tests.materialise.models import CONV_IN, UNET, merge, parent, planned, saved, write

KINDS = ("weighted_sum", "add_difference", "geometric", "slerp", "ties", "dare_linear", "cosine_a", "weighted_average",
         "model_stock", "rank_k")


def recipe(method: str, **changes: object) -> Merge:
    """A merge of zoo models by `method`, with all that it needs."""
    row = MERGE_METHODS[method]
    values: dict[str, object] = {"a": "zoo:photo", "b": "zoo:anime", "method": method, "parts": ("unet", "text_encoder"),
                                 "alpha": 0.3 if row.alpha_range else None, "beta": 0.4 if row.beta_range else None}
    if row.base or (row.models == 3 and not row.many):
        values["c"] = "zoo:base"
    elif row.models == 3:
        values["more"] = ("zoo:base",)
    return Merge(**{**values, **changes})  # type: ignore[arg-type]


def live(bench: Workbench, model: object) -> dict[str, torch.Tensor]:
    pipeline = bench.prepare(Candidate(name="m", model=model)).pipeline  # type: ignore[arg-type]
    return {f"{part}.{name}": tensor.clone() for part in ("unet", "vae", "text_encoder")
            for name, tensor in getattr(pipeline, part).state_dict().items()}


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    return Workbench(device="cpu", root=tmp_path)


@pytest.fixture(scope="module")
def file_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The file of a method's recipe, made once."""
    root = tmp_path_factory.mktemp("methods")
    return cache(lambda method: saved(root, recipe(method), f"{method}.safetensors").path)


def unlike(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> list[str]:
    return [name for name in one if not torch.equal(one[name], two[name])]


@pytest.mark.parametrize("method", KINDS)
def test_live_weights_are_those_of_the_saved_file_opened_again_complaint_21(method, bench, file_of):
    before = live(bench, recipe(method, **({"alpha": 0.9} if MERGE_METHODS[method].alpha_range else {})))
    held = live(bench, recipe(method))
    file = file_of(method)
    again = live(Workbench(device="cpu", root=file.parent), Checkpoint(path=file.name, config="zoo:config"))
    assert unlike(held, again) == []
    assert unlike(held, before) or not MERGE_METHODS[method].alpha_range


@pytest.mark.parametrize("method", KINDS)
def test_the_file_holds_what_the_expressions_evaluate_to(method, tmp_path, file_of):
    plan = planned(tmp_path, recipe(method))
    file = open_model(file_of(method))
    if any(e.group for e in plan.recipe.parts["unet"].keys.values() if hasattr(e, "group")):
        pytest.skip("its limits are of the whole model; the test above looks at it")
    read = {name: opened.tensors("unet") for name, opened in plan.recipe.files.items()}
    part = plan.recipe.parts["unet"]
    for key, expression in part.keys.items():
        made = evaluate(expression, lambda source: read[source.model][source.key], dtype=part.stored[key].dtype)
        assert torch.equal(made, file.tensor("unet", key)), key


def test_a_seed_decides_what_is_drawn(tmp_path):
    files = [saved(tmp_path, recipe("dare_linear", settings={"seed": seed}), f"{n}.safetensors").path
             for n, seed in enumerate((7, 7, 8))]
    models = [open_model(file).tensors("unet")["conv_in.weight"] for file in files]
    assert torch.equal(models[0], models[1])
    assert not torch.equal(models[0], models[2])


def blocks(**values: float) -> Blocks:
    """Block weights of the zoo's U-Net: 0.5 but for the slots that are named. BASE has one only if it is named."""
    file = open_model(Library(Path()).path("zoo:photo"))
    names = [info.source for info in file.components["unet"].values()]
    count = 1 + max(int(n.split(".")[3]) for n in names if n.startswith(f"{UNET}input_blocks."))
    slots = [*(["BASE"] if "BASE" in values else []),
             *(f"IN{n:02d}" for n in range(count)), "M00", *(f"OUT{n:02d}" for n in range(count))]
    return Blocks(values=tuple(values.get(slot, 0.5) for slot in slots))


def test_only_the_keys_of_a_block_that_changed_are_written(bench, monkeypatch):
    written: list[str] = []

    def counting(targets, *rest):
        written.extend(target.key for target in targets)
        write_live(targets, *rest)

    live(bench, recipe("weighted_sum", alpha=blocks(BASE=0.5)))
    monkeypatch.setattr("harness.materialise.workbench.write_live", counting)
    live(bench, recipe("weighted_sum", alpha=blocks(BASE=0.5, M00=0.6)))
    assert written
    assert {key.partition(".")[0] for key in written} == {"mid_block"}


def test_the_tensors_of_the_pipeline_stay_the_same_objects(bench):
    pipeline = bench.prepare(Candidate(name="m", model=recipe("weighted_sum"))).pipeline
    places = {name: tensor.data_ptr() for name, tensor in pipeline.unet.state_dict().items()}
    again = bench.prepare(Candidate(name="m", model=recipe("slerp", alpha=0.8))).pipeline
    assert again.unet is pipeline.unet
    assert {name: tensor.data_ptr() for name, tensor in again.unet.state_dict().items()} == places


@pytest.mark.parametrize("method", ["cosine_a", "cosine_b"])
def test_what_is_surveyed_does_not_depend_on_alpha_nor_on_earlier_candidates(method, bench, tmp_path):
    ends = recipe(method, alpha=blocks(M00=1.0, IN00=1.0), parts=("unet",))
    live(bench, recipe(method, parts=("unet",)))
    assert unlike(live(bench, ends), live(Workbench(device="cpu", root=tmp_path), ends)) == []
    middle = live(bench, recipe(method, alpha=0.5, parts=("unet",)))
    held = live(bench, ends)
    assert all(torch.equal(held[name], middle[name]) for name in held if name.startswith("unet.up_blocks"))


def test_a_survey_within_a_merge_that_leaves_keys_out_is_that_of_the_file(bench, tmp_path):
    inner = recipe("cosine_a", parts=("unet",), alpha=0.5)
    outer = Merge(a="zoo:base", b=inner, alpha=blocks(M00=0.0, IN00=0.0))
    live(bench, Merge(a="zoo:base", b=inner, alpha=0.5))
    held = live(bench, outer)
    file = saved(tmp_path, outer).path
    assert unlike(held, live(Workbench(device="cpu", root=tmp_path), Checkpoint(path=file.name, config="zoo:config"))) == []


def test_the_number_of_threads_does_not_show_in_a_survey(tmp_path):
    files = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        files.append(saved(tmp_path, recipe("cosine_a"), f"{threads}.safetensors").path)
        assert torch.get_num_threads() == threads
    torch.set_num_threads(1)
    first, second = (open_model(file).tensors("unet") for file in files)
    assert all(torch.equal(first[key], second[key]) for key in first)


# What is refused


@pytest.mark.parametrize("parts", ["vae", "text_encoder"])
def test_a_part_that_a_model_lacks_is_refused_by_its_letter_complaint_7(parts, tmp_path):
    write(tmp_path / "a.safetensors", parent(1))
    write(tmp_path / "b.safetensors", {n: t for n, t in parent(2).items() if n.startswith(UNET)})
    with pytest.raises(MaterialiseError, match=rf"{parts}: B \(b\.safetensors\) has none, and the recipe merges it"):
        plan_recipe(merge(parts=(parts,)), Library(tmp_path))


def test_a_part_to_be_taken_that_is_not_there_is_refused(tmp_path):
    write(tmp_path / "a.safetensors", parent(1))
    write(tmp_path / "b.safetensors", {n: t for n, t in parent(2).items() if n.startswith(UNET)})
    with pytest.raises(MaterialiseError, match=r"take vae: b\.safetensors has none"):
        plan_recipe(merge(take={"vae": "b.safetensors"}), Library(tmp_path))


def test_a_wrong_number_of_block_weights_says_what_the_model_has(tmp_path):
    for name, seed in (("a", 1), ("b", 2)):
        write(tmp_path / f"{name}.safetensors", parent(seed))
    with pytest.raises(MaterialiseError, match=r"26 block weights; this U-Net has 14 slots"):
        plan_recipe(merge(alpha=Blocks(values=(0.5,) * 26)), Library(tmp_path))


def test_which_block_got_which_weight_is_told_complaint_8(tmp_path):
    plan = planned(tmp_path, recipe("weighted_sum", alpha=blocks(M00=0.25), parts=("unet",))).recipe.parts["unet"]
    told = {slot: (value, count) for _, slot, value, count in plan.blocks}
    assert told["M00"][0] == 0.25
    assert sum(count for _, count in told.values()) == len(plan.coverage["merged"])


def test_an_alpha_of_zero_is_a_copy_and_reads_nothing_of_b_complaint_14(tmp_path):
    write(tmp_path / "a.safetensors", parent(1))
    broken = parent(2)
    broken[CONV_IN][:] = float("nan")
    write(tmp_path / "b.safetensors", broken)
    saved(tmp_path, merge(alpha=Alphas(default=0.3, keys={"conv_in.weight": 0.0})))


def test_a_recipe_is_described_with_its_models_and_numbers():
    inner = Merge(a="x", b="y", c="z", alpha=1.0, method="add_difference")
    alpha = Alphas(default=Blocks(preset="GRAD_V"), keys={"*attn*": 0.2})
    lines = describe(Merge(a=inner, b="w", alpha=alpha, take={"vae": "v"}))
    assert list(lines) == ["weighted_sum of denoiser; alpha preset GRAD_V (supermerger), '*attn*' 0.2 of B",
                           "  A  add_difference of denoiser; alpha 1", "    A  x", "    B  y", "    C  z", "  B  w",
                           "  vae from  v"]
