"""Declarations are data: they freeze what a suite writes, restore from JSON, and their keys name what they make."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness import (
    Adapter,
    Alphas,
    Blocks,
    Candidate,
    Checkpoint,
    Gate,
    Gradient,
    Grid,
    Merge,
    Prompt,
    adapter_files,
    adapter_grid,
    adapter_sweep,
    alpha_sweep,
    block_sweep,
    read_prompts,
    sweep,
)
from harness.declare import Alpha, plain, restore
from tests.fakes import tiny_suite


def test_a_suite_survives_json() -> None:
    suite = tiny_suite()
    assert restore(plain(suite)) == suite


def test_lists_ranges_and_generators_become_tuples() -> None:
    grid = Grid(prompts=[Prompt(id="a", text="a")], seeds=range(3), guidance_scales=(g for g in (1, 2)))  # type: ignore[arg-type]
    assert (grid.prompts[0].id, grid.seeds, grid.guidance_scales) == ("a", (0, 1, 2), (1, 2))


def test_the_key_does_not_depend_on_the_name_or_the_axes() -> None:
    one = Candidate(name="a", model="x", axes={"alpha": 1.0})
    assert one.key == Candidate(name="b", model="x").key


@pytest.mark.parametrize("other", [
    Candidate(name="a", model="y"), Candidate(name="a", model="x", quantization="bf16"),
    Candidate(name="a", model="x", adapters=[Adapter(path="l")])])  # type: ignore[arg-type]
def test_the_key_depends_on_all_that_makes_the_candidate(other: Candidate) -> None:
    assert Candidate(name="a", model="x").key != other.key


def test_an_alpha_sweep_names_each_merge_by_its_alpha() -> None:
    sweep = alpha_sweep("a", "b", (0, 0.35))
    assert [c.name for c in sweep] == ["alpha=0", "alpha=0.35"]
    assert sweep[1].model == Merge(a="a", b="b", alpha=0.35)


def test_an_adapter_sweep_keeps_the_model_and_sets_the_weight() -> None:
    assert adapter_sweep("m", "l", (0.5,))[0].adapters == (Adapter(path="l", weight=0.5),)


def test_a_gate_is_named_by_its_limit() -> None:
    assert Gate(value="clip_score", not_worse_than="baseline", margin=0.5).name == "clip_score not_worse_than baseline"
    assert Gate(value="clipped_share", at_most=0.1).name == "clipped_share at_most 0.1"


def test_prompts_are_read_from_toml(tmp_path: Path) -> None:
    file = tmp_path / "p.toml"
    file.write_text('[[prompt]]\nid = "a"\ntext = "a cat"\nsplit = "confirm"\n')
    assert read_prompts(file) == (Prompt(id="a", text="a cat", split="confirm"),)


def test_an_unknown_field_of_a_prompt_is_named(tmp_path: Path) -> None:
    file = tmp_path / "p.toml"
    file.write_text('[[prompt]]\nid = "a"\ntext = "a"\nsplt = "confirm"\n')
    with pytest.raises(ValueError, match=r"p\.toml, prompt 1: unknown field 'splt'"):
        read_prompts(file)


def test_two_candidates_start_a_cell_from_the_same_noise_and_two_prompts_do_not() -> None:
    from harness.records import Cell

    assert Cell(prompt="a", seed=1, guidance=1).noise_seed == Cell(prompt="a", seed=1, guidance=9).noise_seed
    assert Cell(prompt="a", seed=1, guidance=1).noise_seed != Cell(prompt="b", seed=1, guidance=1).noise_seed


def test_one_and_one_point_zero_declare_the_same() -> None:
    whole = Candidate(name="a", model=Merge(a="x", b="y", alpha=1), adapters=(Adapter(path="l", weight=1),))
    point = Candidate(name="b", model=Merge(a="x", b="y", alpha=1.0), adapters=(Adapter(path="l", weight=1.0),))
    assert whole.key == point.key


def test_paths_and_numpy_scalars_become_text_and_numbers() -> None:
    merge = alpha_sweep(Path("a.safetensors"), Path("b.safetensors"), np.array([0.5], np.float32))[0].model
    assert merge == Merge(a="a.safetensors", b="b.safetensors", alpha=0.5)
    adapter = adapter_sweep(Path("m"), Path("l"), (np.float64(0.5),))[0].adapters[0]
    assert (adapter.path, type(adapter.weight)) == ("l", float)
    seeds = Grid(prompts=(), seeds=np.arange(2), guidance_scales=(np.float32(1),)).seeds  # type: ignore[arg-type]
    assert [type(seed) for seed in seeds] == [int, int]


def test_parts_given_as_a_list_become_a_tuple() -> None:
    assert Merge(a="a", b="b", alpha=0, parts=["unet", "vae"]).parts == ("unet", "vae")  # type: ignore[arg-type]


@pytest.mark.parametrize(("whole", "point"), [
    (1, 1.0), (Blocks(values=[0, 1, 0], base=1), Blocks(values=(0.0, 1.0, 0.0), base=1.0)),  # type: ignore[arg-type]
    (Gradient(values=range(2)), Gradient(values=(0.0, 1.0))),  # type: ignore[arg-type]
    (Alphas(default=0, parts={"vae": 1}, keys={"*": 1}), Alphas(default=0.0, parts={"vae": 1.0}, keys={"*": 1.0})),
    (Alphas(default=np.float32(0.5)), Alphas(default=0.5))])  # type: ignore[arg-type]
def test_a_whole_number_in_any_alpha_declares_the_same_as_its_float(whole: Alpha, point: Alpha) -> None:
    def key(alpha: Alpha) -> str:
        return Candidate(name="a", model=Merge(a="x", b="y", alpha=alpha, beta=alpha)).key

    assert key(whole) == key(point)


def test_whole_weights_and_settings_declare_the_same_as_floats() -> None:
    keys = {Candidate(name="a", model=Merge(a="x", b="y", weights=(one, 2 * one), settings={"density": one})).key
            for one in (1, 1.0)}
    assert len(keys) == 1


def test_patterns_in_another_order_are_another_merge() -> None:
    keys = {Candidate(name="a", model=Merge(a="x", b="y", alpha=Alphas(default=0, keys=dict(order)))).key
            for order in ((("*a*", 1), ("*b*", 0.5)), (("*b*", 0.5), ("*a*", 1)))}
    assert len(keys) == 2


MERGES = (
    Merge(a="x", b="y", alpha=0.5),
    Merge(a=Merge(a="x", b="y", alpha=Gradient(values=(0, 1))), b=Checkpoint(path="z", ema=True), c="x", method="add_difference",
          alpha=Alphas(default=Blocks(preset="GRAD_V"), parts={"vae": 0.5}, keys={"*z*": 1, "*a*": 0}), beta=0.25,
          more=("m",), weights=(1, 2, 3), settings={"density": 0.2, "a": 1}, take={"vae": Checkpoint(path="v")},
          dtype="fp16", force=("ema",)),
)


@pytest.mark.parametrize("merge", MERGES)
def test_a_merge_survives_json_with_its_patterns_in_order(merge: Merge) -> None:
    again = restore(plain(merge))
    assert again == merge
    assert plain(again) == plain(merge)


def test_a_sweep_keeps_all_of_the_merge_but_alpha() -> None:
    merge = Merge(a="x", b="y", c="z", method="add_difference", parts=("unet", "text_encoder"))
    first, second = sweep(merge, (0, 0.35))
    assert (first.name, second.name, second.axes) == ("alpha=0", "alpha=0.35", {"alpha": 0.35})
    assert second.model == replace(merge, alpha=0.35)


def test_a_block_sweep_changes_one_block_at_a_time() -> None:
    made = block_sweep(Merge(a="x", b="y", alpha=0.2), ("IN04", "M00"), (0.5, 1))
    assert [c.name for c in made] == ["IN04=0.5", "IN04=1", "M00=0.5", "M00=1"]
    assert made[1].axes == {"IN04": 1.0}
    assert made[1].model == Merge(a="x", b="y", alpha=Alphas(default=0.2, keys={"unet.input_blocks.4.*": 1}))


def test_a_block_of_a_sweep_counts_before_the_patterns_that_are_there() -> None:
    there = Alphas(default=0, keys={"unet.out.*": 0.1, "*": 0.3})
    model = block_sweep(Merge(a="x", b="y", alpha=there), ("out",), (0.9,))[0].model
    assert isinstance(model, Merge) and isinstance(model.alpha, Alphas)
    assert list(model.alpha.keys.items()) == [("*", 0.3), ("unet.out.*", 0.9)]


@pytest.mark.parametrize("block", ["IN4x", "M01", "BASE", "in04", "X01"])
def test_a_sweep_over_an_unknown_block_is_refused(block: str) -> None:
    with pytest.raises(ValueError, match="unknown block"):
        block_sweep(Merge(a="x", b="y"), (block,), (0.5,))


def test_the_weights_of_several_adapters_are_crossed_and_each_is_an_axis() -> None:
    made = adapter_grid("m", {"ink": "i.safetensors", "detail": Adapter(path="d.safetensors", end=0.5)}, (0, 1))
    assert [c.name for c in made] == ["ink=0 detail=0", "ink=0 detail=1", "ink=1 detail=0", "ink=1 detail=1"]
    assert made[0].adapters == ()
    assert made[3].adapters == (Adapter(path="i.safetensors"), Adapter(path="d.safetensors", end=0.5))
    assert made[1].axes == {"ink": 0.0, "detail": 1.0}


def test_weights_for_an_adapter_that_is_not_given_are_an_error() -> None:
    with pytest.raises(ValueError, match="'detail' has an adapter or weights"):
        adapter_grid("m", {"ink": "i"}, {"ink": (1,), "detail": (1,)})


def test_the_files_of_one_training_are_crossed_with_the_weights_and_both_are_axes() -> None:
    made = adapter_files("m", {1: "e1.safetensors", "last": Adapter(path="e2.safetensors", end=0.5)}, (0.5, 1))
    assert [c.name for c in made] == ["epoch=1 weight=0.5", "epoch=1 weight=1", "epoch=last weight=0.5", "epoch=last weight=1"]
    assert made[2].adapters == (Adapter(path="e2.safetensors", weight=0.5, end=0.5),)
    assert made[1].axes == {"epoch": 1, "weight": 1.0}


def test_all_files_at_weight_0_are_one_candidate_without_an_adapter() -> None:
    made = adapter_files("m", {1: "e1", 2: "e2"}, (0, 1))
    assert [(c.name, len(c.adapters)) for c in made] == [("weight=0", 0), ("epoch=1 weight=1", 1), ("epoch=2 weight=1", 1)]


def test_the_number_of_a_file_is_the_one_its_name_ends_with() -> None:
    made = adapter_files(Path("m"), [Path("loras/v2-000004.safetensors"), "loras/v2-000010.safetensors"])
    assert [(c.name, c.axes) for c in made] == [("epoch=4", {"epoch": 4}), ("epoch=10", {"epoch": 10})]


def test_the_files_axis_may_not_be_that_of_the_weights() -> None:
    with pytest.raises(ValueError, match="axis='epoch'"):
        adapter_files("m", {1: "e1", 2: "e2"}, (0.5, 1), axis="weight")


@pytest.mark.parametrize("files", [["style.safetensors"], ["a-1.safetensors", "b-01.safetensors"], ["m-0.5.safetensors"],
                                   ["style-v1.5.safetensors"], ["lr1e-4.safetensors"]])
def test_files_that_their_names_do_not_number_are_refused_with_a_mapping_that_works(files: list[str]) -> None:
    with pytest.raises(ValueError, match="such as ") as refused:
        adapter_files("m", files)
    assert len(adapter_files("m", eval(str(refused.value).split("such as ")[1]))) == len(files)
