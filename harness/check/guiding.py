"""Problems of what guides a candidate: its controls, and the pictures of the prompts that it uses. Only headers are read."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from harness import zoo
from harness.check.acting import acting_problems, given_twice
from harness.check.map_remarks import map_remarks
from harness.check.phrases import number
from harness.check.values import known_values, parts_of_objective
from harness.declare import Candidate, Canny, Control, Suite
from harness.declare.candidate_names import hint
from harness.declare.effective_grid import stage_grids
from harness.declare.guiding import STAGE_BEFORE
from harness.declare.listing import first_of
from harness.declare.nearest import did_you_mean
from harness.declare.picture_file import PictureError, size_of_picture
from harness.declare.picture_kinds import PICTURE_KINDS
from harness.declare.picture_uses import (
    OF_MAPS,
    REFERENCE,
    PictureUse,
    beside_maps,
    map_size,
    measured_control,
    names_of,
    uses_of,
)


def control_problems(controls: Collection[Control], *, later: bool = False) -> Iterator[str]:
    """One phrase per problem of the controls of a stage, apart from their files; `later` for a stage after the first."""
    for control in controls:
        yield from (f"control {control.path!r}: {phrase}" for phrase in _control(control, later))
    for path in given_twice(controls):
        yield (f"control {path!r} follows one picture twice at the same steps; give it once, with the sum of the weights, or for "
               "other steps")


def _control(control: Control, later: bool) -> Iterator[str]:
    yield from acting_problems(control)
    if control.kind and control.kind not in PICTURE_KINDS:
        yield f"kind is {control.kind!r}; {hint(control.kind, PICTURE_KINDS)}"
    source = control.picture.of if isinstance(control.picture, Canny) else control.picture
    if not source.strip():
        yield "picture is empty; name one of Prompt.pictures"
    elif source == STAGE_BEFORE and not later:
        yield f"picture is {STAGE_BEFORE!r}, and the first stage has none before it; name one of Prompt.pictures"
    if isinstance(control.picture, Canny):
        yield from _canny(control.picture)


def _canny(canny: Canny) -> Iterator[str]:
    if not (number(canny.low) and number(canny.high) and 0 < canny.low <= canny.high <= 255):
        yield (f"Canny: low is {canny.low!r} and high {canny.high!r}; expected levels per pixel, 0 < low <= high <= 255. "
               "OpenCV's 100 and 200 are 12.5 and 25 here")
    if not number(canny.sigma) or not 0 <= canny.sigma <= 50:
        yield f"Canny: sigma is {canny.sigma!r}; expected pixels from 0 to 50"


def picture_problems(suite: Suite, root: Path) -> Iterator[tuple[str, str]]:
    """(candidate, phrase) for every problem of the pictures that candidates use, in a suite whose fields have the right types."""
    known = _Headers(root)
    for candidate in suite.candidates:
        yield from ((repr(candidate.name), phrase) for phrase in dict.fromkeys(_pictures(suite, candidate, known)))


def _pictures(suite: Suite, candidate: Candidate, known: _Headers) -> Iterator[str]:
    grids = stage_grids(suite, candidate) if any(True for _ in uses_of(candidate)) else ()
    for use in uses_of(candidate):
        lacking = [prompt.id for prompt in suite.grid.prompts if use.name not in prompt.pictures]
        if lacking:
            yield _lacks(suite, use, lacking)
        grid = grids[use.stage]
        other_sizes: dict[tuple[int, int], list[tuple[str, str]]] = {}
        for prompt in suite.grid.prompts:
            reference = prompt.pictures.get(use.name)
            if reference is None:
                continue
            size = known.size(reference)
            if isinstance(size, str):
                yield f"{use.of}: {use.name!r} of prompt {prompt.id!r}: {size}"
            elif use.role != REFERENCE and size != (grid.width, grid.height):
                other_sizes.setdefault(size, []).append((prompt.id, reference))
        for (width, height), prompts in other_sizes.items():
            (first, reference), more = prompts[0], len(prompts) - 1
            others = f" (and those of {more} more prompts)" if more else ""
            yield (f"{use.of}: the picture {use.name!r} of prompt {first!r}, {reference!r}{others}, is {width} x {height} pixels "
                   f"and the images are {grid.width} x {grid.height}; give one of the same size, since resizing blurs its lines")


def map_size_problems(suite: Suite) -> Iterator[str]:
    """What the objective or a gate asks of pictures beside a control map of another size."""
    beside = beside_maps(suite) if any(value in known_values(suite) for value in OF_MAPS) else {}
    if not beside:
        return
    for value in parts_of_objective(suite.objective):
        if value in OF_MAPS:
            yield f"objective: {_beside(suite, value, beside)}"
    for gate in suite.gates:
        judged = {name: size for name, size in beside.items() if not gate.candidates or name in gate.candidates}
        if gate.value in OF_MAPS and judged:
            yield f"gate {gate.name!r}: {_beside(suite, gate.value, judged)}"


def _beside(suite: Suite, value: str, beside: Mapping[str, tuple[int, int]]) -> str:
    """Why a value cannot be measured of candidates whose pictures are not of the maps' size."""
    (name, own), size = next(iter(beside.items())), map_size(suite)
    assert size is not None
    names = first_of([*map(repr, beside)])
    return (f"{value!r} compares pictures with a control map of {size[0]} x {size[1]} pixels, and those of candidate {name!r} "
            f"are {own[0]} x {own[1]}, so it cannot be measured for {names}. Give these candidates the size of the map, or use "
            "another value, such as 'clip_score'")


def _lacks(suite: Suite, use: PictureUse, lacking: list[str]) -> str:
    names = sorted({name for prompt in suite.grid.prompts for name in prompt.pictures})
    meant = f"; {did_you_mean(use.name, names)}" if names and use.name not in names else ""
    listed = first_of([*map(repr, lacking)])
    return (f"{use.of} asks for the picture {use.name!r}, which {len(lacking)} of {len(suite.grid.prompts)} prompts lack "
            f"({listed}){meant}. Give Prompt(pictures={{{use.name!r}: ...}}), or with_pictures(prompts, {use.name!r}, folder)")


def picture_remarks(suite: Suite, root: Path) -> Iterator[str]:
    """A metric that has no control map, or one of another size, pictures that no candidate uses, and control maps that look
    wrong."""
    if "control_edges" in suite.metrics and measured_control(suite) is None:
        yield ("metric 'control_edges' compares images with the control map of their prompt, and no candidate has a control with "
               "a picture of the prompts, so control_f1 cannot be measured; give one a control, or remove the metric")
    if "control_edges" in suite.metrics and (beside := beside_maps(suite)):
        yield f"metric 'control_edges': {_beside(suite, OF_MAPS[0], beside)}"
    used = {name for candidate in suite.candidates for name in names_of(candidate)}
    for name in sorted({name for prompt in suite.grid.prompts for name in prompt.pictures} - used):
        yield f"the prompts have pictures named {name!r}, which no candidate uses"
    yield from map_remarks(suite, lambda reference: path_of_picture(root, reference))


def path_of_picture(root: Path, reference: str) -> Path:
    """The file of a picture as a suite names it."""
    return zoo.resolve(reference) if reference.startswith("zoo:") else root / reference


class _Headers:
    """The sizes of pictures, each header read once."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._known: dict[str, tuple[int, int] | str] = {}

    def size(self, reference: str) -> tuple[int, int] | str:
        """Width and height, or what is wrong with the file."""
        if reference not in self._known:
            self._known[reference] = self._read(reference)
        return self._known[reference]

    def _read(self, reference: str) -> tuple[int, int] | str:
        try:
            path = path_of_picture(self._root, reference)
        except ValueError as error:
            return str(error)
        if not reference.startswith("zoo:"):
            if not path.exists():
                return f"the file {reference!r} does not exist below {self._root}"
            if path.is_dir():
                return f"{reference!r} is a folder; give a picture"
        try:
            return size_of_picture(path)
        except PictureError as error:
            return str(error)
        except (OSError, ValueError) as error:
            return f"{reference!r} cannot be read ({error})"
