"""Who is a control of whom: by the ends of an axis, or by what the other candidates are merged from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.declare import Adapter, Blocks, Candidate, Merge, Suite
from harness.declare.sweeps import adapter_files, adapter_grid
from harness.records import Coverage
from reports.read import run as run_module
from reports.read.roles import axis_values
from reports.read.run import Run, load_run
from reports.verdict.candidates import controls, label, label_with_role, parents, varies_fidelity
from tests.reports import synthetic

A, B = "zoo:photo", "zoo:anime"
BY_BLOCK = Candidate(name="search 7", model=Merge(a=A, b=B, alpha=Blocks(preset="GRAD_V")))


def test_the_ends_of_an_axis_are_the_parents() -> None:
    assert controls(synthetic.merge_suite()) == {"alpha=0": "parent A", "alpha=1": "parent B"}


def test_where_several_candidates_share_an_end_only_the_plain_model_stands_for_it() -> None:
    files = synthetic.merge_suite(baseline="weight=0", candidates=adapter_files(
        A, {1: "zoo:sketch", 2: "zoo:sketch-loha"}, (0, 0.5, 1)))
    assert controls(files) == {"weight=0": "without the adapter"}
    grid = adapter_grid(A, {"ink": "zoo:sketch", "fog": "zoo:sketch-loha"}, (0.5, 1))
    assert controls(synthetic.merge_suite(candidates=grid, baseline=grid[0].name)) == {grid[0].name: "baseline"}
    ends = [Candidate(name=f"{x:g} {mode}", model=Merge(a=A, b=B, alpha=x), quantization=mode, axes={"alpha": x})
            for x in (0.0, 0.5, 1.0) for mode in ("fp32", "bf16")]
    assert controls(synthetic.merge_suite(candidates=tuple(ends), baseline="0 fp32")) == {
        "0 fp32": "parent A", "1 fp32": "parent B"}


def test_without_an_axis_plain_models_that_others_merge_are_the_parents() -> None:
    made = (Candidate(name="A", model=A), Candidate(name="B", model=B), BY_BLOCK)
    suite = synthetic.merge_suite(candidates=made, baseline="A")
    assert controls(suite) == {"A": "parent A", "B": "parent B"}
    assert parents(suite) == ("A", "B")


def test_without_an_axis_merges_at_the_ends_are_the_parents() -> None:
    ends = tuple(Candidate(name=f"alpha={x:g}", model=Merge(a=A, b=B, alpha=x), axes={"alpha": x}) for x in (0.0, 0.5, 1.0))
    suite = synthetic.merge_suite(candidates=(*ends, BY_BLOCK))
    assert controls(suite) == {"alpha=0": "parent A", "alpha=1": "parent B"}


def test_a_quantized_or_adapted_model_is_nobodys_parent() -> None:
    made = (Candidate(name="A", model=A, quantization="bf16"), BY_BLOCK)
    assert controls(synthetic.merge_suite(candidates=made, baseline="A")) == {"A": "baseline"}


def test_a_label_is_the_axis_value_where_that_tells_the_candidate_apart(merge_run: Run) -> None:
    first, *others = merge_run.suite.candidates
    twin = Candidate(name="twin", model=first.model, axes=first.axes)
    run = replace(merge_run, suite=replace(merge_run.suite, candidates=(first, *others, twin)))
    assert (label(run, first.name), label(run, "twin")) == (first.name, "twin")
    assert label(run, others[0].name) == f"alpha {others[0].axes['alpha']:g}"
    assert label_with_role(merge_run, first.name) == "alpha 0 (parent A)"
    with pytest.raises(KeyError, match="nobody"):
        label(run, "nobody")


def test_an_axis_value_that_is_not_a_number_tells_nobody_apart() -> None:
    made = [Candidate(name=f"c{x}", model=A, axes={"weight": x}) for x in (0.0, float("nan"), 1.0, 1.0)]
    assert axis_values(synthetic.merge_suite(candidates=tuple(made[:3]), baseline="c0.0")) == {"c0.0": 0.0, "c1.0": 1.0}


def test_the_axis_is_looked_for_once_in_a_run(merge_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Suite] = []

    def counting(suite: Suite) -> dict[str, float]:
        asked.append(suite)
        return axis_values(suite)

    monkeypatch.setattr(run_module, "axis_values", counting)
    run = replace(merge_run)
    labels = [label(run, candidate.name) for candidate in run.suite.candidates for _ in range(3)]
    assert (len(set(labels)), len(asked)) == (len(run.suite.candidates), 1)


@pytest.mark.parametrize(("merged", "copied", "take", "role"), [
    (("unet",), ("vae", "text_encoder"), {}, "B's unet"), (("unet", "text_encoder"), ("vae",), {}, "B's unet and text_encoder"),
    (("transformer",), ("vae",), {}, "B's transformer"), (("unet", "vae", "text_encoder"), (), {}, "parent B"),
    (("transformer",), (), {}, "B's transformer"), ((), (), {}, "parent B"),
    (("unet",), ("text_encoder",), {"vae": "v"}, "B's unet, another vae")])
def test_a_merge_at_1_is_called_after_the_parts_that_are_b(merged, copied, take, role, merge_run: Run) -> None:
    last = merge_run.suite.candidates[-1]
    suite = replace(merge_run.suite, candidates=(*merge_run.suite.candidates[:-1], replace(
        last, model=replace(last.model, take=take))))  # type: ignore[type-var]  # a merge, as in all of this suite
    rows = [Coverage(candidate=last.name, stage="merge", component=part, keys={status: ("a.weight",)})
            for status, parts in (("merged", merged), ("copied", (*copied, *take))) for part in parts]
    run = replace(merge_run, suite=suite, coverage=tuple(rows))
    assert run.roles[last.name] == "parent B"
    assert label_with_role(run, last.name) == f"alpha 1 ({role})"


@pytest.mark.parametrize(("method", "roles"), [
    ("weighted_sum", ("parent A", "parent B")), ("add_difference", ("parent A", "highest alpha")),
    ("ties", ("parent C", "highest alpha")), ("cosine_a", ("lowest alpha", "parent B")),
    ("my.code:METHOD", ("lowest alpha", "highest alpha"))])
def test_an_end_of_a_sweep_is_a_parent_only_where_the_method_gives_one(method: str, roles: tuple[str, str]) -> None:
    models = [Merge(a=A, b=B, c="zoo:base", method=method, alpha=alpha) for alpha in (0, 0.5, 1)]
    made = tuple(Candidate(name=f"alpha={m.alpha:g}", model=m, axes={"alpha": m.alpha}) for m in models)  # type: ignore[str-format]
    assert tuple(controls(synthetic.merge_suite(candidates=made)).values()) == roles


def test_the_methods_that_end_at_a_parent_are_those_of_the_table_of_methods() -> None:
    from harness.declare.merge_ends import PARENT_AT
    from harness.merge import MERGE_METHODS

    for alpha, end in ((0.0, "at_zero"), (1.0, "at_one")):
        assert PARENT_AT[alpha] == {name: getattr(row, end).upper() for name, row in MERGE_METHODS.items() if getattr(row, end)}


ONE = Candidate(name="one", model=A)


@pytest.mark.parametrize(("others", "fidelity"), [
    ((replace(ONE, name="int8", quantization="int8"),), True), ((replace(ONE, name="fast", runtime="compile"),), True),
    ((replace(ONE, name="int8", quantization="int8"), replace(ONE, name="other", model=B)), False),
    ((replace(ONE, name="int8", quantization="int8", model=B),), False),
    ((replace(ONE, name="int8", quantization="int8", adapters=(Adapter(path="zoo:sketch", weight=1.0),)),), False),
    ((replace(ONE, name="other", model=B),), False), ((replace(ONE, name="twin"),), False)])
def test_only_modes_of_one_model_ask_what_is_lost(others: tuple[Candidate, ...], fidelity: bool) -> None:
    assert varies_fidelity(synthetic.merge_suite(candidates=(ONE, *others), baseline="one")) is fidelity


@pytest.mark.parametrize(("adapters", "role"), [
    (("ink",), "without the adapter"), (("ink", "detail"), "without the adapters"),
    (("ink", "detail", "light"), "without the adapters")])
def test_the_model_alone_in_a_grid_of_adapters_is_without_them(adapters: tuple[str, ...], role: str) -> None:
    made = adapter_grid("zoo:base", {name: f"{name}.safetensors" for name in adapters}, weights=(0, 0.5, 1))
    suite = synthetic.merge_suite(candidates=made, baseline=made[0].name)
    assert controls(suite)[made[0].name] == role
    assert parents(suite) == (made[0].name,)


def test_a_name_that_says_more_than_its_axis_is_shown_whole_as_promote_takes_it(tmp_path: Path) -> None:
    swept = synthetic.merge_suite(grid=synthetic.SMALL, gates=()).candidates[:2]
    named = tuple(replace(c, name=f"strength={n} control=1", axes={"strength": n, "control": 1.0}) for n, c in enumerate(swept))
    plain = tuple(replace(c, name=f"strength={n}", axes={"strength": float(n)}) for n, c in enumerate(swept))
    for candidates, expected in ((named, "strength=1 control=1"), (plain, "strength 1")):
        suite = synthetic.merge_suite(candidates=candidates, baseline=candidates[0].name, grid=synthetic.SMALL, gates=())
        run = load_run(synthetic.write_run(tmp_path / expected, suite))
        assert label(run, candidates[1].name) == expected
