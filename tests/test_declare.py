"""Declarations are data: they freeze what a suite writes, restore from JSON, and their keys name what they make."""

from pathlib import Path

import numpy as np
import pytest

from harness import Adapter, Candidate, Gate, Grid, Merge, Prompt, adapter_sweep, alpha_sweep, read_prompts
from harness.declare import plain, restore
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
