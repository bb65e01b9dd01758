"""The tensors of a file to be written: the layout of an opened single file, or of the single file that a folder becomes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from harness.weights import ldm
from harness.weights.constants import DENOISER_WRAPPERS, is_position_ids
from harness.weights.dit import TIED_EMBEDDING
from harness.weights.ema import EMA_PREFIX
from harness.weights.families import MARKERS, TEXT_PARTS, Part
from harness.weights.files import ModelFileError
from harness.weights.model import ModelFile, TensorInfo
from harness.weights.naming import PROJECTION, openclip_name
from harness.weights.numbering import Numbering
from harness.weights.scaled_codes import SCALE_ENDINGS
from harness.weights.transformer_names import halves, is_original, pairs_of
from harness.weights.wrapped_names import plain_name

_WIDEST_FIRST: Final = ("F64", "F32")
_POSITIONS: Final = "pos_embed.pos_embed"
_FLUX_VAE: Final = "vae."
"""Where ComfyUI's Flux checkpoints have the VAE."""
_SINGLE: Final = ("ldm", "sgm", "bfl", "sai")


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A component's tensor that fills a stored one completely, or the range `rows` of its rows. With `cut`, only this range of
    the tensor's own rows does."""

    component: str
    key: str
    rows: tuple[int, int] | None = None
    cut: tuple[int, int] | None = None


@dataclass(frozen=True, kw_only=True)
class Placed:
    """One tensor of a file to be written.

    `pieces` are the canonical tensors that fill it, in the order of their rows, reshaped to fit and, with `transposed`,
    transposed. Without pieces it is a copy of `source`; without a source too, it is the integers 0..n-1 in `shape`.
    `source` is the stored tensor as a whole, with the name of its scale if it has one; None if a folder has it in pieces or
    does not have it. `role` is "weights", "ema" (an averaged copy), "scale" (belongs to scaled weights; dropped if they are
    written unscaled), "position_ids", "marker" or "extra".
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    pieces: tuple[Piece, ...] = ()
    transposed: bool = False
    source: TensorInfo | None = None
    role: str = "weights"


def layout_of(model: ModelFile) -> tuple[Placed, ...]:
    """Every stored tensor of a single file once, in the file's order, without the wrapper that precedes all names, unless
    it is one of a denoiser.

    For a model opened with EMA, the averaged tensors have the plain names, and the plain tensors are left out: a file with
    a merged copy and an unmerged plain one would contradict itself. Raises ModelFileError for a folder.
    """
    if model.is_folder:
        raise ModelFileError(f"{model.path}: this is a folder, with one file per component; expected a single file. "
                             "Call single_file_layout instead.")
    if model.stored is not None:
        first = plain_name(next(iter(model.stored.components["transformer"].values())).source, model.wrapper)
        prefix = ldm.UNET_PREFIX if first.startswith(ldm.UNET_PREFIX) else _kept(model)
        return (*(at for at in layout_of(model.stored) if all(piece.component != "transformer" for piece in at.pieces)),
                *_transformer(model, prefix))
    pieces_by_key: dict[str, list[tuple[Piece, TensorInfo]]] = {}
    for component, infos in model.components.items():
        for key, info in infos.items():
            for piece, part in _pieces(component, key, info):
                pieces_by_key.setdefault(part.source, []).append((piece, part))
    plain = _plain_names(model) if model.uses_ema else {}
    replaced = set(plain.values())
    # T5's embedding may be stored under both of its names, and both must be written.
    for source in [name for name in model.other if name.endswith(TIED_EMBEDDING)]:
        pieces_by_key[source] = pieces_by_key.get(f"{source.removesuffix(TIED_EMBEDDING)}shared.weight", [])
    file = model.files[model.path]
    placed = []
    for source, stored in file.stored.items():
        name = plain_name(source, model.wrapper)
        if name in replaced or (plain and name.startswith(EMA_PREFIX) and source not in plain):
            continue
        pieces = sorted(pieces_by_key.get(source, ()), key=lambda pair: pair[0].rows or (0, 0))
        info = TensorInfo(source=source, file=file.path, dtype=stored.dtype, shape=stored.shape, offset=stored.offset,
                          scale=pieces[0][1].scale if pieces else "")
        written = name if name == source else _kept(model) + name
        placed.append(Placed(name=plain.get(source, written), dtype=stored.dtype, shape=stored.shape, source=info,
                             pieces=tuple(piece for piece, _ in pieces), role="weights" if pieces else _role(name),
                             transposed=any(i.transposed for _, i in pieces)))
    return tuple(placed)


def _pieces(component: str, key: str, info: TensorInfo) -> Iterator[tuple[Piece, TensorInfo]]:
    """The rows of stored tensors that a tensor is made of."""
    if not info.parts:
        yield Piece(component=component, key=key, rows=info.rows), info
        return
    row = 0
    for part in info.parts:
        height = part.shape[0]
        yield Piece(component=component, key=key, rows=part.rows or (0, height), cut=(row, row + height)), part
        row += height


def single_file_layout(model: ModelFile, *, whole: bool = False) -> tuple[Placed, ...]:
    """The layout of the single file that a diffusers model becomes, in the original code's names (LDM, SGM, Black Forest Labs',
    Stability's), which A1111, ComfyUI and diffusers read; for a single file, its own layout.

    A model of an unknown architecture keeps its names. The components of all others have prefixes, as in ComfyUI's checkpoints;
    a transformer, VAE or text encoder alone has none, unless it is to be part of a `whole` model. Raises ModelFileError for a
    component that the layout has no place for.
    """
    if model.layout in _SINGLE and not model.is_folder:
        return layout_of(model)
    if model.structural:
        return tuple(_plain(component, key, info, info.source) for component, infos in model.components.items()
                     for key, info in infos.items())
    alone = not whole and list(model.components) != ["unet"] and len(model.components) == 1
    placed: list[Placed] = []
    for component, infos in model.components.items():
        try:
            if component == "unet":
                placed += [_plain(component, key, infos[key], ldm.UNET_PREFIX + name)
                           for key, name in ldm.unet_to_ldm(infos, model.numbering).items()]
            elif component == "transformer":
                placed += _transformer(model, "" if alone else ldm.UNET_PREFIX)
            elif component == "vae":
                prefix = "" if alone else _FLUX_VAE if model.family == "flux" else ldm.VAE_PREFIX
                placed += _vae(infos, model.numbering, prefix)
            elif alone:
                placed += _encoder(component, infos)
            else:
                placed += _text(model, component, infos)
        except KeyError as error:
            raise ModelFileError(f"{model.path}: {component}: {error.args[0]}. Give the model as a single file.") from error
    return (*placed, *marker_tensors(model))


def marker_tensors(model: ModelFile) -> Iterator[Placed]:
    """The tensors of a single file that say how the model is sampled: its own, or what a folder's scheduler says. Raises
    ModelFileError for a scheduler whose markers hold values that are not in the folder's weights."""
    stored = {plain_name(source, model.wrapper): info for source, info in model.other.items()}
    for name in model.sampling_markers:
        info = stored.get(name)
        if info is None and name.startswith("edm"):
            raise ModelFileError(f"{model.path}: its scheduler has EDM noise levels, which a single file states in {name!r}; "
                                 "they are not written from a folder. Give the model as a single file.")
        yield Placed(name=name, dtype=info.dtype if info else "F32", shape=info.shape if info else (0,), source=info,
                     role="marker")


def _kept(model: ModelFile) -> str:
    """The part of the wrapper that is written."""
    return next((prefix for prefix in DENOISER_WRAPPERS if model.wrapper.endswith(prefix)), "")


def _role(name: str) -> str:
    if name.startswith(EMA_PREFIX):
        return "ema"
    if name.endswith(SCALE_ENDINGS):
        return "scale"
    if is_position_ids(name):
        return "position_ids"
    return "marker" if name in MARKERS else "extra"


def _plain_names(model: ModelFile) -> dict[str, str]:
    """{source name of an averaged tensor: plain name in the file}."""
    names = ldm.unet_to_ldm(model.components["unet"], model.numbering)
    return {info.source: ldm.UNET_PREFIX + names[key] for key, info in model.components["unet"].items()}


def _plain(component: str, key: str, info: TensorInfo, name: str) -> Placed:
    return Placed(name=name, dtype=info.dtype, shape=info.shape, pieces=(Piece(component=component, key=key),), source=info)


def unstackable(model: ModelFile) -> str:
    """The first tensor that a transformer in diffusers' names lacks, though the original code has it in one tensor with others
    that are there; "" for all other models. Such a part of a transformer keeps diffusers' names in a single file."""
    infos = model.components.get("transformer", {})
    shapes = {key.removesuffix(".weight"): info.shape for key, info in infos.items() if key.endswith(".weight")}
    for pair in pairs_of(shapes, model.family) if infos and not is_original(shapes) else ():
        for leaf in ("weight", "bias"):
            keys = [f"{path}.{leaf}" for path in pair.diffusers]
            if infos.keys() & set(keys) and (lacking := next((key for key in keys if key not in infos), "")):
                return lacking
    return ""


def _transformer(model: ModelFile, prefix: str) -> Iterator[Placed]:
    """Query, key and value (and the feed-forward of Flux' single blocks) are stacked by rows, and some halves are swapped."""
    infos = model.components["transformer"]
    if unstackable(model):
        yield from (_plain("transformer", key, info, prefix + key) for key, info in infos.items())
        return
    shapes = {key.removesuffix(".weight"): info.shape for key, info in infos.items() if key.endswith(".weight")}
    used = {_POSITIONS} & infos.keys()
    if used:
        yield _plain("transformer", _POSITIONS, infos[_POSITIONS], f"{prefix}pos_embed")
    for pair in pairs_of(shapes, model.family):
        for leaf in ("weight", "bias"):
            keys = [f"{path}.{leaf}" for path in pair.diffusers]
            if not infos.keys() & set(keys):
                continue
            used |= set(keys)
            # Black Forest Labs call the weight of a norm its scale; some tools rename it, as the file itself then shows.
            renamed = model.stored is not None and infos[keys[0]].source.endswith(".weight")
            ours = "scale" if pair.original.endswith("_norm") and not renamed else leaf
            yield _stacked(f"{prefix}{pair.original}.{ours}", [(key, infos[key]) for key in keys], swapped=pair.swapped)
    if unknown := next((key for key in infos if key not in used), ""):
        raise KeyError(f"{unknown!r} has no name in the original code")


def _stacked(name: str, parts: Sequence[tuple[str, TensorInfo]], *, swapped: bool) -> Placed:
    """A tensor that holds others by rows, or one with its halves swapped."""
    if len(parts) == 1 and not swapped:
        return _plain("transformer", *parts[0], name)
    if len({info.shape[1:] for _, info in parts}) > 1:
        raise KeyError(f"{', '.join(repr(key) for key, _ in parts)} have different columns, and single files have them in one")
    pieces: list[Piece] = []
    row = 0
    for key, info in parts:
        for begin, end in halves(info.shape[0]) if swapped else [(0, info.shape[0])]:
            cut = (begin, end) if swapped else None
            pieces.append(Piece(component="transformer", key=key, rows=(row, row + end - begin), cut=cut))
            row += end - begin
    return Placed(name=name, dtype=_widest(*(info.dtype for _, info in parts)), shape=(row, *parts[0][1].shape[1:]),
                  pieces=tuple(pieces))


def _encoder(component: str, infos: Mapping[str, TensorInfo]) -> Iterator[Placed]:
    """A text encoder alone, under the names of transformers, which ComfyUI's loaders of text encoders read."""
    if any(key.startswith("encoder.block.") for key in infos):
        yield from (_plain(component, key, info, key) for key, info in infos.items())
    else:
        yield from _clip(Part(component=component, prefix="", naming="clip-projected"), infos)


def _vae(infos: Mapping[str, TensorInfo], numbering: Numbering, prefix: str) -> Iterator[Placed]:
    as_conv = ldm.vae_conv_as_linear(infos)
    for key, name in ldm.vae_to_ldm(infos, numbering).items():
        placed = _plain("vae", key, infos[key], prefix + name)
        conv = key in as_conv and len(placed.shape) == 2
        yield replace(placed, shape=(*placed.shape, 1, 1)) if conv else placed


def _text(model: ModelFile, component: str, infos: Mapping[str, TensorInfo]) -> Iterator[Placed]:
    part = next((p for p in TEXT_PARTS[model.family] if p.component == component), None)
    if part is None:
        raise ModelFileError(f"{model.path}: {component} has no place in a single file of the family {model.family!r}; "
                             "expected a model of one family. Give the model as a single file.")
    if part.naming == "t5":
        yield from (_plain(component, key, info, part.prefix + key) for key, info in infos.items())
    else:
        yield from _clip(part, infos) if part.naming.startswith("clip") else _openclip(model, part, infos)
    for name, info in model.other.items():
        below = name.removeprefix(f"{component}/")
        if below != name and not is_position_ids(name) and below != TIED_EMBEDDING:
            yield Placed(name=part.prefix + below, dtype=info.dtype, shape=info.shape, source=info, role="extra")


def _clip(part: Part, infos: Mapping[str, TensorInfo]) -> Iterator[Placed]:
    prefix = f"{part.prefix}text_model."
    for key, info in infos.items():
        yield _plain(part.component, key, info, (part.prefix if key == PROJECTION else prefix) + key)
    if positions := infos.get("embeddings.position_embedding.weight"):
        yield Placed(name=prefix + ldm.POSITION_IDS, dtype="I64", shape=(1, positions.shape[0]), role="position_ids")


def _openclip(model: ModelFile, part: Part, infos: Mapping[str, TensorInfo]) -> Iterator[Placed]:
    """Query, key and value are stacked by rows; the projection is transposed."""
    fused: dict[str, dict[int, str]] = {}
    for key, info in infos.items():
        spot = openclip_name(key)
        if spot.third is not None:
            fused.setdefault(part.prefix + spot.name, {})[spot.third] = key
            continue
        shape = (info.shape[1], info.shape[0]) if spot.transposed else info.shape
        yield replace(_plain(part.component, key, info, part.prefix + spot.name), shape=shape, transposed=spot.transposed)
    for name, thirds in fused.items():
        keys = [thirds[third] for third in sorted(thirds)]
        shapes = {infos[key].shape for key in keys}
        if len(keys) != 3 or len(shapes) != 1:
            raise ModelFileError(f"{model.path}: {part.component}: {name!r} is made of {', '.join(map(repr, keys))} "
                                 f"{sorted(map(list, shapes))}; expected query, key and value of one shape. "
                                 "Download the folder again.")
        rows = infos[keys[0]].shape[0]
        yield Placed(name=name, dtype=_widest(*(infos[key].dtype for key in keys)), shape=(3 * rows, *shapes.pop()[1:]),
                     pieces=tuple(Piece(component=part.component, key=key, rows=(n * rows, (n + 1) * rows))
                                  for n, key in enumerate(keys)))


def _widest(*dtypes: str) -> str:
    """A dtype that holds all values exactly: the common one, otherwise the widest, otherwise F32."""
    return dtypes[0] if len(set(dtypes)) == 1 else next((wide for wide in _WIDEST_FIRST if wide in dtypes), "F32")
