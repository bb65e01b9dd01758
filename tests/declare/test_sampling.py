"""A candidate's sampling comes before the grid's, field by field, and what is not declared changes no hash."""

import pytest

from harness import Candidate, Grid, Prompt, Sampling, Suite
from harness.check import problems
from harness.declare import grid_of, plain, restore

GRID = Grid(prompts=(Prompt(id="cat", text="a cat"),), seeds=(1,), guidance_scales=(4.0, 7.0), sampler="euler", steps=20)


def candidate(**values):
    return Candidate(name="x", model="zoo:photo", sampling=Sampling(**values) if values else None)


def test_without_sampling_the_effective_grid_is_the_grid_itself():
    assert grid_of(GRID, candidate()) is GRID
    assert grid_of(GRID) is GRID
    assert grid_of(Suite(name="s", candidates=(), baseline="x", grid=GRID)) is GRID


@pytest.mark.parametrize(("field", "value", "of_grid", "effective"), [
    ("sampler", "ddim", "sampler", "ddim"), ("steps", 4, "steps", 4), ("width", 64, "width", 64), ("height", 72, "height", 72),
    ("guidance", 1, "guidance_scales", (1.0,)), ("guidance", [1, 1.5], "guidance_scales", (1.0, 1.5))])
def test_what_a_grid_has_a_field_for_is_replaced_there_and_nothing_else_changes(field, value, of_grid, effective):
    grid = grid_of(GRID, candidate(**{field: value}))
    assert getattr(grid, of_grid) == effective
    assert grid.sampling is None
    assert {**plain(grid), of_grid: None} == {**plain(GRID), of_grid: None}


@pytest.mark.parametrize(("grids", "own", "effective"), [
    (None, {"clip_skip": 2}, {"clip_skip": 2}),
    ({"clip_skip": 2}, {}, {"clip_skip": 2}),
    ({"clip_skip": 2}, {"clip_skip": 3}, {"clip_skip": 3}),
    ({"clip_skip": 2}, {"eta": 0.5}, {"clip_skip": 2, "eta": 0.5}),
    ({"guidance_rescale": 0.7}, {"guidance_rescale": 0.0}, None),
    ({"guidance_start": 0.0}, {"guidance_end": 1}, None),
    ({"clip_skip": 2}, {"steps": 4}, {"clip_skip": 2})])
def test_knobs_are_resolved_field_by_field_and_none_remain_where_all_ask_for_nothing(grids, own, effective):
    grid = Grid(prompts=GRID.prompts, seeds=(1,), guidance_scales=(4.0,), sampling=Sampling(**grids) if grids else None)
    assert grid_of(grid, candidate(**own)).sampling == (Sampling(**effective) if effective else None)


def test_one_guidance_scale_and_a_tuple_of_it_declare_the_same():
    assert candidate(guidance=1).key == candidate(guidance=(1.0,)).key == candidate(guidance=[1]).key


def test_sampling_is_part_of_the_key_and_its_absence_leaves_the_old_one():
    assert "sampling" not in plain(candidate())
    assert "sampling" not in plain(GRID)
    assert candidate().key == "bb342b6e62dc4561"
    assert candidate(steps=4).key not in (candidate().key, candidate(steps=8).key)


def test_sampling_comes_back_from_plain_data():
    whole = candidate(sampler="lcm", steps=4, guidance=(1, 1.5), clip_skip=2)
    assert restore(plain(whole)) == whole


@pytest.mark.parametrize("value", ["8", 8.5, None, (8,)])
def test_a_value_of_another_type_is_refused_by_its_field(value, tmp_path):
    suite = Suite(name="s", candidates=(candidate(width=64, steps=value),), baseline="x", grid=GRID)
    named = any("field steps" in sentence for sentence in problems(suite, tmp_path))
    assert named is (value is not None)


@pytest.mark.parametrize(("values", "sampler", "schedule"), [
    ({"sampler": "DPM++ 2M Karras"}, "dpmpp_2m", "karras"), ({"sampler": "Euler a"}, "euler_a", None),
    ({"sampler": "DPM++ 2M", "schedule": "SGM Uniform"}, "dpmpp_2m", "sgm_uniform"),
    ({"sampler": "DPM++ 2M Karras", "schedule": "karras"}, "dpmpp_2m", "karras"),
    ({"sampler": "DPM++ 2M Karras", "schedule": "beta"}, "DPM++ 2M Karras", "beta"),
    ({"sampler": "dpmpp_2m_karras"}, "dpmpp_2m_karras", None), ({"sampler": "no such"}, "no such", None)])
def test_a_tools_name_of_a_sampler_declares_the_same_as_ours(values, sampler, schedule):
    own = candidate(**values).sampling
    assert (own.sampler, own.schedule) == (sampler, schedule)
    knobs = {name: value for name, value in values.items() if name != "sampler"}
    grid = Grid(prompts=GRID.prompts, seeds=(1,), guidance_scales=(4.0,), sampler=values["sampler"],
                sampling=Sampling(**knobs) if knobs else None)
    assert (grid.sampler, grid.sampling and grid.sampling.schedule) == (sampler, schedule)


def test_a_candidate_can_ask_for_the_samplers_own_timesteps_again():
    grid = Grid(prompts=GRID.prompts, seeds=(1,), guidance_scales=(4.0,), sampler="DPM++ 2M Karras")
    assert grid_of(grid, candidate(sampler="ddim", schedule="")).sampling is None
