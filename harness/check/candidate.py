"""Everything that can be known to be wrong with one candidate before any file is opened: its model, adapters, treatments
of the text, and whether its files are there. suite.py asks for every candidate."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from itertools import pairwise
from math import inf
from pathlib import Path
from typing import Final

from harness import zoo
from harness.check.alphas import Range, alpha_problems
from harness.check.field_types import name_problem
from harness.check.merge import merge_problems
from harness.check.phrases import number, unknown
from harness.declare import Adapter, Candidate, Checkpoint, Fused, Model
from harness.declare.nearest import closest
from harness.quantize import QUANTIZATION_MODES
from harness.runtimes import RUNTIMES
from harness.text import WEIGHTINGS
from harness.text.occurrences import occurrences

CONFIG: Final = "zoo:config"


def candidate_problems(candidate: Candidate, root: Path) -> Iterator[str]:
    """One phrase per problem of one candidate whose fields are of their kinds; its axes are looked at with the suite."""
    if said := name_problem(candidate.name):
        yield f"the name {said}"
    yield from reference_problems(candidate.model, root)
    yield from unknown("quantization", [candidate.quantization], QUANTIZATION_MODES)
    yield from unknown("runtime", [candidate.runtime], RUNTIMES)
    yield from _adapters(candidate.adapters, root)
    yield from _treatments(candidate, root)


def _adapters(adapters: Collection[Adapter], root: Path, fused: bool = False) -> Iterator[str]:
    for adapter in adapters:
        yield from _file("adapter", adapter.path, root)
        yield from (f"adapter {adapter.path!r}: {said}" for said in _adapter(adapter, fused))
    yield from _overlaps(adapters, root)


def _adapter(adapter: Adapter, fused: bool) -> Iterator[str]:
    if not number(adapter.weight):
        yield f"weight is {adapter.weight!r}; expected a finite number"
    if adapter.blocks is not None:
        yield from alpha_problems(adapter.blocks, Range(word="blocks", whose="an adapter", low=-inf, high=inf))
    if not (number(adapter.start) and number(adapter.end) and 0 <= adapter.start < adapter.end <= 1):
        yield f"start is {adapter.start!r} and end {adapter.end!r}; expected shares of the steps, 0 <= start < end <= 1"
    elif fused and (adapter.start, adapter.end) != (0, 1):
        yield "start and end are given; a fused adapter is there in every step. Give it as the candidate's adapter instead"


def _overlaps(adapters: Collection[Adapter], root: Path) -> Iterator[str]:
    """One file twice at the same step would be applied at twice the strength."""
    # By place, not by spelling: "l.safetensors" and "./l.safetensors" are one.
    places: dict[str, list[Adapter]] = {}
    for adapter in adapters:
        place = adapter.path if adapter.path.startswith("zoo:") else os.path.normpath(root / adapter.path)
        places.setdefault(place, []).append(adapter)
    for place, given in places.items():
        given.sort(key=lambda adapter: adapter.start)
        if any(before.end > after.start for before, after in pairwise(given)):
            yield f"adapter {place!r} is given {len(given)} times"


def _treatments(candidate: Candidate, root: Path) -> Iterator[str]:
    if candidate.emphasis is not None:
        yield from unknown("emphasis method", [candidate.emphasis.method], WEIGHTINGS)
        for word, weight in candidate.emphasis.weights.items():
            if not word.strip():
                yield f"emphasis: the word {word!r} is empty"
            if not number(weight):
                yield f"emphasis of {word!r} is {weight!r}; expected a finite number"
        try:
            occurrences((word for word in candidate.emphasis.weights if word.strip()), "")
        except ValueError as error:
            yield f"emphasis: {error}"
        if not candidate.emphasis.weights:
            yield "emphasis names no words; leave it out, or give weights={'blue': 0.7}"
    if (aesthetic := candidate.aesthetic) is not None:
        yield from (f"aesthetic: {said}" for said in (*_file("aesthetic gradient", aesthetic.path, root),
                                                      *clip_problems(aesthetic.clip, root)))
        if aesthetic.steps < 0:
            yield f"aesthetic: steps is {aesthetic.steps}; expected a whole number of at least 0"
        if not number(aesthetic.weight) or not 0 <= aesthetic.weight <= 1:
            yield f"aesthetic: weight is {aesthetic.weight!r}; expected a number from 0 to 1"
        if not number(aesthetic.rate) or aesthetic.rate <= 0:
            yield f"aesthetic: rate is {aesthetic.rate!r}; expected a number above 0"


def reference_problems(model: Model, root: Path) -> Iterator[str]:
    """One phrase per problem of a model: files that are not there, and what is wrong with its merges."""
    if isinstance(model, str):
        yield from _file("model", model, root)
    elif isinstance(model, Checkpoint):
        yield from _file("model", model.path, root)
        if model.config not in (None, CONFIG) and not _there(root / str(model.config), folder=True):
            yield f"config {model.config!r} is no folder below {root}; expected one, or {CONFIG!r}"
    elif isinstance(model, Fused):
        if not model.adapters:
            yield "a fused model names no adapters"
        yield from _adapters(model.adapters, root, fused=True)
        yield from reference_problems(model.model, root)
    else:
        yield from merge_problems(model)
        for parent in (*model.models, *model.take.values()):
            yield from reference_problems(parent, root)


def _file(kind: str, reference: str, root: Path) -> Iterator[str]:
    if reference.startswith("zoo:"):
        yield from unknown(f"{kind} of the zoo", [reference], zoo.NAMES)
    elif not reference or not _there(root / reference):
        folder = (root / reference).parent
        beside = [p.name for p in folder.iterdir()] if _there(folder, folder=True) else []
        close = closest(Path(reference).name, beside, cutoff=0.6)
        yield f"{kind} file {reference!r} does not exist below {root}" + (f"; {close[0]!r} does" if close else "")


def clip_problems(reference: str, root: Path) -> Iterator[str]:
    """One phrase per problem of a reference to a CLIP model."""
    if reference == "zoo:clip":
        return
    architecture, colon, path = reference.partition(":")
    if not architecture or not colon or not path:
        yield (f"clip is {reference!r}; expected 'zoo:clip' or 'ARCHITECTURE:file', "
               "like 'ViT-B-32-quickgelu:models/clip.safetensors'")
    elif not _there(root / path) or (root / path).is_dir():
        yield f"clip file {path!r} does not exist below {root}"


def _there(path: Path, folder: bool = False) -> bool:
    try:
        return path.is_dir() if folder else path.exists()
    except (OSError, ValueError):  # a name too long, a folder closed to us
        return False
