"""What must hold for any merge holds for these, and a method or a file that breaks it is named."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from harness import Merge
from harness.materialise.algebra_checks import ORDER, PIECES, SAVED, Identity, check_identities
from harness.merge import MERGE_METHODS
from tests.materialise.models import CONV_IN, merge, numbers, parent, planned, saved, two, write, write_four


def check(root: Path, recipe: Merge, saved_as: Path | None = None) -> dict[str, Identity]:
    return {result.name: result for result in check_identities(planned(root, recipe), saved_as)}


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_four(tmp_path_factory.mktemp("four"))


# Of every way to compute one: by element, by tensor, with singular values, after a survey, drawn, of many models with and without
# a base. tests/run/test_algebra_gate.py asks every method for its identities.
KINDS = ("weighted_sum", "similarity_add", "slerp", "rank_k", "cosine_a", "dare_linear", "model_stock", "ties", "crossover")


@pytest.mark.parametrize("name", KINDS)
def test_every_identity_holds_for_every_kind_of_method(name, four):
    recipe = merge(**numbers(name))
    results = check(four, recipe, saved(four, recipe, f"{name}.safetensors").path)
    assert [result for result in results.values() if result.holds is False] == []
    assert results[SAVED].holds


def test_the_parts_of_a_nested_merge_are_compared_in_the_precision_of_the_whole(tmp_path):
    two(tmp_path)
    write(tmp_path / "c.safetensors", parent(3, torch.float32))
    results = check(tmp_path, Merge(a=merge(), b="c.safetensors", alpha=0.4))
    assert [result for result in results.values() if result.holds is False] == []


def test_a_method_that_breaks_its_promises_is_named_with_its_keys(tmp_path, monkeypatch):
    two(tmp_path)
    function = MERGE_METHODS["weighted_sum"].function
    drawn = torch.Generator().manual_seed(0)
    monkeypatch.setitem(MERGE_METHODS, "weighted_sum", replace(MERGE_METHODS["weighted_sum"], function=lambda a, b, alpha: (
        function(a, b, alpha) * (1.01 + 0.1 * torch.rand(a.shape, generator=drawn)).to(a.dtype))))
    results = check(tmp_path, merge())
    for name in ("alpha=0 is A", "alpha=1 is B", "A with A is A", "float64 within one unit in the last place",
                 ORDER, PIECES):
        assert results[name].holds is False, name
    assert "'conv_in.bias'" in results["alpha=0 is A"].detail


def test_a_saved_file_that_differs_is_named(tmp_path):
    two(tmp_path)
    path = saved(tmp_path, merge()).path
    tensors = load_file(path)
    tensors[CONV_IN] = torch.nextafter(tensors[CONV_IN], torch.ones(()).half())
    save_file(tensors, path)
    result = check(tmp_path, merge(), path)[SAVED]
    assert result.holds is False
    assert "1 of" in result.detail
    assert "'conv_in.weight'" in result.detail


def test_a_check_that_does_not_apply_neither_holds_nor_fails_and_says_why(tmp_path):
    two(tmp_path)
    unsaved = check(tmp_path, merge())[SAVED]
    whole = check(tmp_path, merge(method="slerp"))[PIECES]
    nothing = check(tmp_path, "a.safetensors")[PIECES]
    assert [unsaved.holds, whole.holds, nothing.holds] == [None, None, None]
    assert "file" in unsaved.detail
    assert len({unsaved.detail, whole.detail, nothing.detail}) == 3
