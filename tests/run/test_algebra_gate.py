"""A few tensors of a candidate's own merge are asked whether they keep its algebra; a method that breaks it is named with the
tensor and how far it is off."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from harness import Candidate, Fused, Merge
from harness.declare import Adapter, Blocks, Model
from harness.materialise.library import Library
from harness.merge import MERGE_METHODS
from harness.records import Coverage
from harness.run.algebra_gate import BROKEN, HELD, IDENTITIES, KEYS, LARGEST, LARGEST_WHOLE, chosen, identities_of
from tests.materialise.models import merge, numbers, parent, two, write, write_four


def rows(root: Path, model: Model) -> dict[str, Coverage]:
    return {row.component: row for row in identities_of(Candidate(name="c", model=model), Library(root))}


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_four(tmp_path_factory.mktemp("four"))


@pytest.mark.parametrize("name", MERGE_METHODS)
def test_every_method_keeps_the_identities_it_has(name: str, four: Path) -> None:
    row = rows(four, merge(**numbers(name)))["unet"]
    method = MERGE_METHODS[name]
    assert BROKEN not in row.keys
    wanted = [f"alpha={alpha} is {end.upper()}" for alpha, end in ((0, method.at_zero), (1, method.at_one)) if end]
    wanted += ["A with A is A", *(["B with A at 1 - alpha is the same"] if method.symmetric else [])]
    assert row.keys[HELD] == (*wanted, "float64 within one unit in the last place")
    assert row.notes[0].startswith(f"tried on {KEYS} of ")


@pytest.mark.parametrize("name", [name for name, row in MERGE_METHODS.items()
                                  if row.models == 2 and not row.many and row.alpha_range])
def test_no_method_is_symmetric_that_is_not_said_to_be(name: str, four: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    symmetric = MERGE_METHODS[name].symmetric
    monkeypatch.setitem(MERGE_METHODS, name, replace(MERGE_METHODS[name], symmetric=True))
    broken = rows(four, merge(**numbers(name)))["unet"].keys.get(BROKEN, ())
    assert any(said.startswith("B with A at 1 - alpha is the same: unet.") for said in broken) is not symmetric


def test_a_method_that_breaks_its_promises_is_named_with_tensor_and_distance(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    two(tmp_path)
    row = MERGE_METHODS["weighted_sum"]
    # Four units of float16: 2 ** -10 is one.
    monkeypatch.setitem(MERGE_METHODS, "weighted_sum", replace(row, widens=False, function=lambda a, b, alpha: (
        row.function(a, b, alpha) * (1 + 4 * 2 ** -10))))
    found = rows(tmp_path, merge())["unet"]
    said = {sentence.partition(":")[0]: sentence for sentence in found.keys[BROKEN]}
    assert list(said) == ["alpha=0 is A", "alpha=1 is B", "A with A is A"]
    distance = float(said["alpha=0 is A"].partition(" by ")[2].split()[0])
    assert 4 <= distance <= 9
    assert said["alpha=0 is A"].startswith("alpha=0 is A: unet.")
    assert said["alpha=0 is A"].endswith(f" ulp and {KEYS - 1} more")


@pytest.mark.parametrize("alpha", [0.0, 1.0, Blocks(preset="OUT12"), 0.35])
def test_the_ends_of_alpha_are_tried_where_the_declared_one_merges_nothing(alpha: float | Blocks, tmp_path: Path) -> None:
    two(tmp_path)
    row = rows(tmp_path, merge(alpha=alpha))["unet"]
    assert "alpha=0 is A" in row.keys[HELD]
    assert row.notes[0].startswith(f"tried on {KEYS} of ")


def test_a_checkpoint_merges_nothing(tmp_path: Path) -> None:
    two(tmp_path)
    for model in ("a.safetensors", Fused(model="a.safetensors", adapters=())):
        (row,) = rows(tmp_path, model).values()
        assert (row.stage, row.component, dict(row.keys), row.notes) == (IDENTITIES, "model", {}, ("nothing is merged",))


def test_a_row_for_each_component_that_is_merged_and_none_for_one_that_is_taken(tmp_path: Path) -> None:
    two(tmp_path)
    assert set(rows(tmp_path, merge(parts=("unet", "text_encoder")))) == {"unet", "text_encoder"}
    assert set(rows(tmp_path, merge(take={"vae": "b.safetensors"}))) == {"unet"}


def test_a_merge_within_a_merge_and_below_fused_adapters_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWEETSPOT_CACHE", str(tmp_path / "zoo-cache"))
    two(tmp_path)
    write(tmp_path / "c.safetensors", parent(3, torch.float32))
    nested = Merge(a=merge(), b="c.safetensors", alpha=0.4)
    assert BROKEN not in rows(tmp_path, nested)["unet"].keys
    zoo = Fused(model=Merge(a="zoo:photo", b="zoo:anime", alpha=0.5), adapters=(Adapter(path="zoo:sketch"),))
    assert BROKEN not in rows(tmp_path, zoo)["unet"].keys


def test_tensors_are_chosen_by_hash_over_all_blocks_and_none_is_too_large() -> None:
    sizes = {f"down_blocks.{block}.layer.{n}.weight": 100 for block in range(6) for n in range(9)}
    large = {"up_blocks.0.large.weight": LARGEST + 1, "up_blocks.1.middling.weight": LARGEST_WHOLE + 1}
    keys = chosen("unet", {**sizes, **large})
    assert keys == chosen("unet", dict(reversed({**sizes, **large}.items())))
    assert len(keys) == KEYS
    assert len({key.split(".")[1] for key in keys if key.startswith("down")}) == 6
    assert "up_blocks.1.middling.weight" in keys
    assert not set(chosen("unet", {**sizes, **large}, whole=True)) & set(large)
    assert chosen("unet", large, whole=True) == ["up_blocks.1.middling.weight"]
