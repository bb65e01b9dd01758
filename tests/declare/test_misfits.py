"""Values that are not of their annotated types are found with the way to them, however deep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from harness.declare.misfits import Misfit, misfits


@dataclass
class Leaf:
    number: float = 1.0


@dataclass
class Tree:
    name: str = "x"
    leaves: tuple[Leaf, ...] = ()
    words: tuple[str, ...] = ()
    by_name: Mapping[str, Leaf] = field(default_factory=dict)
    either: str | Leaf | None = None
    whatever: Any = None


def fits(value: Any, kind: Any) -> bool:
    return isinstance(value, int | float) if kind is float else isinstance(value, kind)


def way(misfit: Misfit) -> tuple[object, ...]:
    return tuple(step.at for step in misfit.path)


@pytest.mark.parametrize(("changes", "ways"), [
    ({}, []),
    ({"name": 3}, [("name",)]),
    ({"words": ["a"]}, [("words",)]),
    ({"words": ("a", 1, "b", 2)}, [("words", 1), ("words", 3)]),
    ({"leaves": (Leaf(), Leaf(number="x"))}, [("leaves", 1, "number")]),
    ({"by_name": {"a": Leaf(number=None), 2: Leaf()}}, [("by_name", "a", "number"), ("by_name", 2)]),
    ({"either": Leaf(number="x")}, [("either", "number")]),
    ({"either": 3}, [("either",)]),
    ({"whatever": object()}, []),
    ({"name": None, "either": b""}, [("name",), ("either",)]),
])
def test_every_misfit_has_its_way(changes: dict[str, Any], ways: list[tuple[object, ...]]) -> None:
    assert [way(misfit) for misfit in misfits(Tree(**changes), fits)] == ways


def test_declarations_within_can_be_left_alone() -> None:
    assert list(misfits(Tree(leaves=(Leaf(number="x"),), either=Leaf(number="x")), fits, inner=False)) == []


def test_what_fits_is_for_the_caller_to_say() -> None:
    assert [way(m) for m in misfits(Tree(), lambda value, kind: kind is not str and fits(value, kind))] == [("name",)]
