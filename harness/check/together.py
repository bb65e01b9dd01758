"""Problems of several candidates at once: one that many have is said once, with the candidates it concerns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from harness.declare.listing import LONGEST_ENTRY, brief, first_of

_NAMED: Final = 4


def together(problems: Iterable[tuple[str, str]]) -> Iterator[str]:
    """One phrase for each problem, in the order of its first candidate: "candidate 'a': ...", or "candidates 'a', 'b' and 3 more:
    ...". `problems` are pairs of a candidate, as it is written in a message, and what is wrong with it."""
    concerned: dict[str, list[str]] = {}
    for candidate, problem in problems:
        concerned.setdefault(problem, []).append(candidate)
    for problem, candidates in concerned.items():
        yield f"{_candidates(candidates)}: {problem}"


def _candidates(names: list[str]) -> str:
    if len(names) == 1:
        return f"candidate {names[0]}"
    if len(names) > _NAMED:
        return f"candidates {first_of(names, _NAMED)}"
    listed = [brief(name, LONGEST_ENTRY) for name in names]
    return f"candidates {', '.join(listed[:-1])} and {listed[-1]}"
