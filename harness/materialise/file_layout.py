"""Plans the bytes of an output file: each is copied from an input, merged from several, or constant. No weight is read."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from harness.declare import Merge
from harness.declare.listing import first_of
from harness.declare.ways_out import KEEP_A
from harness.materialise.denoiser_kind import kind_of_file, kind_of_result
from harness.materialise.library import MaterialiseError, leaves, merges_of, name_of
from harness.materialise.recipe_plan import RecipePlan
from harness.merge import Expression, Merged, Source, elementwise, sources
from harness.weights import ModelFile, ModelFileError, Piece, Placed, TensorInfo, layout_of, single_file_layout
from harness.weights.header import Span, lay_out
from harness.weights.header_claims import position_ids_state
from harness.weights.layout import marker_tensors, unstackable
from harness.weights.safetensors_header import DTYPE_BYTES
from harness.weights.write import bytes_of

_SHOWN: Final = 5
_PREFIXES: Final = ("model.diffusion_model.", "first_stage_model.", "cond_stage_model.", "conditioner.")


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A run of bytes that can be computed in pieces of any size. Either `constant` holds them, or they are copied or merged
    from `places`, which has one (file, byte offset) for each source of the expression, in order. `expression` is None for a
    copy. `names` are the tensors of the output file in this run."""

    begin: int
    end: int
    dtype: str
    names: tuple[str, ...]
    places: tuple[tuple[Path, int], ...] = ()
    expression: Expression | None = None
    constant: bytes = b""
    verbatim: bool = False
    """Not a weight: copied unchecked. Schedule buffers of models with zero terminal SNR contain an infinity."""


@dataclass(frozen=True, kw_only=True)
class Whole:
    """A tensor, or some rows of it, that can only be computed as a whole in memory."""

    begin: int
    name: str
    dtype: str
    component: str
    expression: Expression
    transposed: bool
    cut: tuple[int, int] | None = None
    """The rows of the computed tensor that are written, None for all."""


@dataclass(frozen=True, kw_only=True)
class FilePlan:
    """The plan of an output file. `coverage` is {component: {status: names}}; the component "file" has the tensors that are
    not weights of any component."""

    recipe: RecipePlan
    spans: Mapping[str, Span]
    segments: tuple[Segment, ...]
    wholes: tuple[Whole, ...]
    coverage: Mapping[str, Mapping[str, tuple[str, ...]]]
    notes: tuple[str, ...]
    bases: tuple[str, ...] = ()
    """The companion folders that any of its bytes are made of."""
    left_out: tuple[str, ...] = ()
    """The components of the recipe that the file does not hold, as they are those of the frame's companion folder."""

    @cached_property
    def total(self) -> int:
        """Size of the tensor data in bytes."""
        return max((span.end for span in self.spans.values()), default=0)


@dataclass(kw_only=True)
class _Drawn:
    segments: list[Segment] = field(default_factory=list)
    wholes: list[Whole] = field(default_factory=list)


def place(recipe: RecipePlan) -> FilePlan:
    """The plan of a recipe's single file, in the layout of its frame (the leftmost model).

    Of the tensors that are not weights of a component, schedule buffers and markers are copied, position ids are reset, and
    EMA copies are left out because they would contradict the merged weights. Raises MaterialiseError for unknown tensors,
    unless the recipe has missing="keep_a": then the frame's are kept. What the frame has from a companion folder is left out
    where it stays as it is.
    """
    planned, (recipe, left_out) = recipe, _without_companion(recipe)
    frame = recipe.files[name_of(recipe.frame)].own
    placed = layout_of_recipe(recipe)
    _refuse_strays(recipe)
    placed, said = _with_right_markers(placed, recipe)
    raw = {component for component in recipe.parts if _untouched(recipe, component)}
    beside, kept_extras = _beside(frame, [at for at in placed if not at.pieces], raw)
    pieced = [_with_dtype(at, recipe, raw) for at in placed if at.pieces]
    spans = lay_out([(at.name, at.dtype, at.shape) for at in (*pieced, *kept_extras)])
    drawn = _Drawn()
    for at in pieced:
        _draw(at, spans[at.name].begin, recipe, raw, drawn)
    for at in kept_extras:
        drawn.segments.append(_copy_or_constant(at, spans[at.name], recipe))
    coverage = {component: part.coverage for component, part in recipe.parts.items()} | {"file": beside} | {
        f"adapter {path}": _over_components(keys) for path, keys in recipe.adapters.items()}
    # Components that are copied as stored are not dequantised, so that note is dropped.
    notes = [*dict.fromkeys(note for component, part in recipe.parts.items() if component not in raw for note in part.notes),
             *_said(beside), *said, *_unused(recipe), *_absent(recipe), *_kept_names(frame), *_left_out(left_out, recipe)]
    return FilePlan(recipe=planned, spans=spans, segments=tuple(_joined(drawn.segments)), wholes=tuple(drawn.wholes),
                    coverage=coverage, notes=tuple(notes), bases=_bases(recipe), left_out=left_out)


def _without_companion(recipe: RecipePlan) -> tuple[RecipePlan, tuple[str, ...]]:
    """The recipe without the components that are its frame's companion's and stay as they are, and these."""
    companion = recipe.files[name_of(recipe.frame)].companion
    idle = () if companion is None else tuple(part for part in recipe.parts if part in companion.components
                                              and _untouched(recipe, part))
    return replace(recipe, parts={part: plan for part, plan in recipe.parts.items() if part not in idle}), idle


def _left_out(components: tuple[str, ...], recipe: RecipePlan) -> list[str]:
    """A note on the components that stay in a companion folder."""
    return [f"file: without {' and '.join(components)}, which are those of {recipe.frame.base}: use it with these"] if (
        components) else []


def _bases(recipe: RecipePlan) -> tuple[str, ...]:
    """The companion folders of which any tensor of a planned file is made."""
    read = {(source.model, component) for component, part in recipe.parts.items() for expression in part.keys.values()
            for source in sources(expression)}
    return tuple(dict.fromkeys(
        leaf.base for leaf in leaves(recipe.model) if leaf.base is not None
        and (companion := recipe.files[name_of(leaf)].companion) is not None
        and any((name_of(leaf), component) in read for component in companion.components)))


def layout_of_recipe(recipe: RecipePlan) -> tuple[Placed, ...]:
    """Every tensor of a recipe's single file: the frame's, and those of components that it lacks and another model gives. Raises
    MaterialiseError for a folder that has no single file."""
    recipe, _ = _without_companion(recipe)
    frame = recipe.files[name_of(recipe.frame)].own
    placed = single_file_layout(frame, whole=len(recipe.parts) > 1) if frame.is_folder else layout_of(frame)
    if not placed:
        raise MaterialiseError(f"{frame.path}: writing a single file from a {frame.family} folder is not supported yet; give the "
                               "model as a single file")
    return (*placed, *_brought(recipe, frame))


def _with_right_markers(placed: tuple[Placed, ...], recipe: RecipePlan) -> tuple[tuple[Placed, ...], list[str]]:
    """The layout with the markers of the model that gives the U-Net instead of the frame's, and a note if they differ."""
    name = name_of(recipe.frame)
    kind = kind_of_result(recipe)
    if kind.giver == name or kind.markers == kind_of_file(name, recipe.files[name]).markers:
        return placed, []
    markers = tuple(marker_tensors(recipe.files[kind.giver]))
    return (*(at for at in placed if at.role != "marker"), *markers), [
        f"file: the U-Net is that of {kind.giver}, and so are the markers of what it predicts: "
        f"{', '.join(at.name for at in markers) or 'none'}"]


def _brought(recipe: RecipePlan, frame: ModelFile) -> list[Placed]:
    """The layout of components that the frame lacks and another model provides: as in any single file of the family."""
    layout: list[Placed] = []
    for component, part in recipe.parts.items():
        if component in frame.components or not part.keys:
            continue
        infos = {key: TensorInfo(source=key, file=frame.path, dtype=at.dtype, shape=at.shape) for key, at in part.stored.items()}
        try:
            if frame.structural:
                raise ModelFileError("its architecture is not known by name")  # noqa: TRY301  one message for all
            if not any(info.source.startswith(_PREFIXES) for own in frame.components.values() for info in own.values()) and (
                    not frame.is_folder):
                raise ModelFileError("its tensors have names without a component in front")  # noqa: TRY301  one message for all
            layout += single_file_layout(replace(frame, layout="diffusers", files={}, other={}, components={component: infos}),
                                         whole=True)
        except ModelFileError as error:
            raise MaterialiseError(f"{frame.path}: has no {component}, so its layout has no place for the one to take ({error}). "
                                   f"Give an A that has a {component}") from error
    return layout


def _kept_names(frame: ModelFile) -> list[str]:
    """A note on a transformer that is written under diffusers' names."""
    lacking = unstackable(frame) if frame.is_folder and not frame.structural else ""
    return [f"transformer: written under diffusers' names, since {lacking!r} is missing, which the original code has in one "
            "tensor with others"] if lacking else []


def _absent(recipe: RecipePlan) -> list[str]:
    """Notes on fused adapters: what is assumed of them, and tensors for components that the model does not have."""
    said = [f"adapter {path}: {note}" for path, notes in recipe.adapter_notes.items() for note in notes]
    return said + [
        f"adapter {path}: {len(statuses['absent_component'])} tensors are for {component}, which this model does not have"
        for path, components in recipe.adapters.items() for component, statuses in components.items()
            if "absent_component" in statuses]


def _over_components(keys: Mapping[str, Mapping[str, tuple[str, ...]]]) -> dict[str, tuple[str, ...]]:
    """{status: tensors of an adapter file}, over all components."""
    names_by_status: dict[str, tuple[str, ...]] = {}
    for statuses in keys.values():
        for status, names in statuses.items():
            names_by_status[status] = (*names_by_status.get(status, ()), *names)
    return names_by_status


def _untouched(recipe: RecipePlan, component: str) -> bool:
    """Whether a component is the frame's own, as stored. Its bytes are then copied without being interpreted."""
    if isinstance(recipe.model, Merge) and recipe.model.dtype != "a":
        return False
    name, part = name_of(recipe.frame), recipe.parts[component]
    infos = recipe.files[name].components.get(component, {})
    if any(info.formats for info in infos.values()):
        return False  # a safetensors file has no blocks of codes
    if recipe.files[name].is_folder and any(info.scale for info in infos.values()):
        return False  # the layout of the file has no place for the scales of the codes
    return all(isinstance(e, Source) and e.model == name and e.key == key for key, e in part.keys.items()) and all(
        info.scale or part.stored[key].dtype == info.dtype for key, info in infos.items())


def _with_dtype(at: Placed, recipe: RecipePlan, raw: set[str]) -> Placed:
    dtypes = {at.dtype if piece.component in raw else recipe.parts[piece.component].stored[piece.key].dtype
              for piece in at.pieces}
    if len(dtypes) > 1:
        raise MaterialiseError(f"{at.name!r} would be stored partly as {' and partly as '.join(sorted(dtypes))}. Set dtype")
    return replace(at, dtype=dtypes.pop())


def _draw(at: Placed, begin: int, recipe: RecipePlan, raw: set[str], drawn: _Drawn) -> None:
    """Adds the segments or wholes of one tensor of the file, one for each canonical tensor in it."""
    stored = at.source
    if stored is not None and stored.offset is not None and (stored.dtype, stored.shape, stored.rows) == (
            at.dtype, at.shape, None) and all(piece.component in raw for piece in at.pieces) and len(at.pieces) > 1:
        drawn.segments.append(Segment(begin=begin, end=begin + math.prod(at.shape) * DTYPE_BYTES[at.dtype], dtype=at.dtype,
                                      names=(at.name,), places=((stored.file, stored.offset),)))
        return
    row_bytes = math.prod(at.shape[1:]) * DTYPE_BYTES[at.dtype]
    for piece in at.pieces:
        first, last = piece.rows or (0, at.shape[0] if at.shape else 1)
        start, end = begin + first * row_bytes, begin + last * row_bytes
        infos = [info for _, info in _read_by(piece, recipe)]
        expression = recipe.parts[piece.component].keys[piece.key]
        as_stored = all(info.transposed == at.transposed or len(info.shape) < 2 for info in infos)
        if piece.component in raw and as_stored and all(i.offset is not None and i.dtype == at.dtype for i in infos):
            # A scaled weight is copied as its codes, but `stored` has the dtype of its values.
            drawn.segments.append(Segment(begin=start, end=end, dtype=at.dtype, names=(at.name,),
                                          places=tuple(_place_of(info, piece) for info in infos)))
            continue
        in_pieces = elementwise(expression) and as_stored and all(
            info.offset is not None and not info.scale for info in infos)
        if not in_pieces:
            drawn.wholes.append(Whole(begin=start, name=at.name, dtype=at.dtype, component=piece.component,
                                      expression=expression, transposed=at.transposed, cut=piece.cut))
            continue
        copy = isinstance(expression, Source) and expression.dtype == at.dtype
        drawn.segments.append(Segment(
            begin=start, end=end, dtype=at.dtype, names=(at.name,), expression=None if copy else expression,
            places=tuple(_place_of(info, piece) for info in infos)))


def _place_of(info: TensorInfo, piece: Piece) -> tuple[Path, int]:
    """The file, and the position of the first byte that the piece takes from a tensor."""
    skipped = piece.cut[0] * math.prod(info.shape[1:]) * DTYPE_BYTES[info.dtype] if piece.cut else 0
    return info.file, (info.offset or 0) + skipped


def _read_by(piece: Piece, recipe: RecipePlan) -> Iterator[tuple[Source, TensorInfo]]:
    for source in sources(recipe.parts[piece.component].keys[piece.key]):
        yield source, recipe.files[source.model].components[source.component][source.key]


def _copy_or_constant(at: Placed, span: Span, recipe: RecipePlan) -> Segment:
    """A tensor that is not a weight. Its bytes are copied; position ids are always the integers from 0, and markers without a
    source are empty."""
    if at.role == "position_ids":
        data = b"".join(number.to_bytes(8, "little") for number in range(math.prod(at.shape)))
    elif at.source is not None and at.source.offset is not None:
        return Segment(begin=span.begin, end=span.end, dtype=at.dtype, names=(at.name,),
                       places=((at.source.file, at.source.offset),), verbatim=True)
    else:
        data = b"" if at.source is None else _of_pickle(at.source, recipe)
    return Segment(begin=span.begin, end=span.end, dtype=at.dtype, names=(at.name,), constant=data, verbatim=True)


def _of_pickle(source: TensorInfo, recipe: RecipePlan) -> bytes:
    file = next(model.files[source.file] for model in recipe.files.values() if source.file in model.files)
    return bytes(bytes_of(file.read([source.source])[source.source]))


def _beside(frame: ModelFile, placed: Iterable[Placed], raw: set[str]
            ) -> tuple[dict[str, tuple[str, ...]], list[Placed]]:
    """Returns {status: names} for the frame's tensors that are not weights, and the ones that the output file keeps."""
    names_by_status: dict[str, list[str]] = {}
    copied = []
    for at in placed:
        if at.role == "ema":
            names_by_status.setdefault("ema_left_out", []).append(at.name)
        elif at.role == "scale" and (at.source is None or not _scales_raw(at.source.source, frame, raw)):
            names_by_status.setdefault("scales_left_out", []).append(at.name)
        elif at.role == "position_ids":
            right = at.source is None or (at.source.dtype == "I64" and not position_ids_state(
                frame.files[at.source.file], at.source.source))
            names_by_status.setdefault("copied" if right else "position_ids_reset", []).append(at.name)
            copied.append(replace(at, dtype="I64"))
        else:
            stray = at.source is not None and at.source.source in frame.strays
            names_by_status.setdefault("unmatched" if stray else "copied", []).append(at.name)
            copied.append(at)
    return {status: tuple(sorted(names)) for status, names in names_by_status.items()}, copied


def _scales_raw(source: str, frame: ModelFile, raw: set[str]) -> bool:
    """Whether a scale, or the marker for scales, belongs to a component whose codes are copied unchanged."""
    above = source[:source.rfind(".") + 1]
    return any(info.source.startswith(above) for component in raw for info in frame.components.get(component, {}).values())


def _refuse_strays(recipe: RecipePlan) -> None:
    if all(merge.missing == "keep_a" for merge in merges_of(recipe.model)):
        return
    copied = {component for component in recipe.parts if _untouched(recipe, component)}
    for name, file in recipe.files.items():
        # A component that is not merged stays as it is in A, with whatever is stored in it.
        beside = {stray for component, odd in file.odd.items() if component in copied or component not in recipe.parts
                  for stray in odd}
        if strays := [stray for stray in file.strays if stray not in beside]:
            if second := next(((stray, weight) for stray in strays if (weight := file.second_name_of(stray))), None):
                raise MaterialiseError(f"{name}: {second[0]!r} and {second[1]!r} are one tensor under two names, one without the "
                                       "prefix of its component. Remove the one whose values are not wanted, or set "
                                       f"{KEEP_A} in every merge to use the second")
            raise MaterialiseError(
                f"{name}: {first_of([*map(repr, strays)])}: no component of a {file.family} model has such "
                f"a tensor. Remove it, or set {KEEP_A} in every merge to keep A's and leave out those of the other models")


def _said(beside: Mapping[str, tuple[str, ...]]) -> list[str]:
    words = {"ema_left_out": "EMA copies are left out, since they would not be those of the merged weights",
             "scales_left_out": "scales of fp8 weights are left out, since the weights are multiplied out",
             "position_ids_reset": "position ids that were not the integers 0, 1, 2 ... are written as these"}
    return [f"file: {len(beside[status])} {sentence}" for status, sentence in words.items() if status in beside]


def _unused(recipe: RecipePlan) -> list[str]:
    """Notes on components that other models have and the result does not."""
    return [f"{component}: {name} has one, which the result does not use"
            for name, file in recipe.files.items() for component in file.components if component not in recipe.parts]


def _joined(segments: Iterable[Segment]) -> Iterator[Segment]:
    """Joins adjacent segments that are computed in the same way from adjacent bytes: most merges become a few long runs.
    Empty tensors are dropped, because a segment without bytes would hide the one that begins at the same offset."""
    current: Segment | None = None
    for segment in sorted((s for s in segments if s.begin < s.end), key=lambda s: s.begin):
        if current is not None and _continues(current, segment):
            current = replace(current, end=segment.end, names=(*current.names, *segment.names))
            continue
        if current is not None:
            yield current
        current = segment
    if current is not None:
        yield current


def _continues(first: Segment, second: Segment) -> bool:
    if first.end != second.begin or first.dtype != second.dtype or first.constant or second.constant:
        return False
    if first.verbatim != second.verbatim:
        return False
    if len(first.places) != len(second.places) or _pattern(first.expression) != _pattern(second.expression):
        return False
    values = (first.end - first.begin) // DTYPE_BYTES[first.dtype]
    widths = ([first.dtype] if first.expression is None else [source.dtype for source in sources(first.expression)])
    return all(one[0] == two[0] and one[1] + values * DTYPE_BYTES[width] == two[1]
               for one, two, width in zip(first.places, second.places, widths, strict=True))


def _pattern(expression: Expression | None) -> Any:
    """What an elementwise expression computes, without the names of its tensors."""
    if isinstance(expression, Merged):
        return expression.name, expression.call, tuple(_pattern(part) for part in expression.inputs)
    return expression.dtype if isinstance(expression, Source) else None


