"""The denoiser of a candidate as a file in its number format: GGUF blocks, fp8 codes with scales, or plain numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from harness.declare import Candidate, plain
from harness.declare.mixed import FULL, Mixed, beside_denoiser, modes_in, of_denoiser, spelled
from harness.declare.models import Ensemble, Relay, one_recipe
from harness.materialise.denoiser_kind import kind_of_result
from harness.materialise.file_layout import layout_of_recipe
from harness.materialise.library import Library, MaterialiseError
from harness.materialise.plan_recipe import plan_recipe
from harness.materialise.provenance import input_names, modelspec, renamed, size_of
from harness.materialise.recipe_plan import RecipePlan
from harness.quantize import LIVE_DTYPES, stored_bytes
from harness.quantize.by_layer import LAYER_MODES
from harness.savers import SAVERS, in_order
from harness.savers.weights import joined_copies
from harness.version import __version__
from harness.weights import ModelFileError, Pipeline, open_tensors
from harness.weights.comfy_layers import HEADER
from harness.weights.gguf_types import PACKED
from harness.weights.gguf_write import GgufTensor, save_gguf
from harness.weights.layout import Piece, Placed, marker_tensors
from harness.weights.ldm import UNET_PREFIX
from harness.weights.write import save_single_file

if TYPE_CHECKING:
    from torch import Tensor

SCALED: Final = "fp8_scaled"
_ARCHITECTURES: Final = {"sd1": "sd1", "sd2": "sd1", "sdxl": "sdxl", "sdxl_refiner": "sdxl", "flux": "flux", "sd3": "sd3"}
"""What city96's loader calls the families; it knows a U-Net by its names, whatever its version."""
_FILE_TYPES: Final = {"Q4_0": 2, "Q4_1": 3, "Q8_0": 7, "Q5_0": 8, "Q5_1": 9}
"""llama.cpp's numbers for files that are mostly in one format."""
_WORDS: Final = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}


@dataclass(frozen=True, kw_only=True)
class WrittenFile:
    """A file that was written and read back: how many of its tensors are in each format, its size, the number of its weights, and
    the backup of an older file of its name."""

    path: Path
    formats: Mapping[str, int]
    size: int
    weights: int
    backup: Path | None


def suffix_for(candidate: Candidate) -> str:
    """The suffix of the file that a candidate's denoiser is written as. Raises MaterialiseError for what no file holds, or no
    other tool reads."""
    who, mode = f"candidate {candidate.name!r}", of_denoiser(candidate.quantization)
    if isinstance(candidate.model, Relay | Ensemble):
        what = "a relay" if isinstance(candidate.model, Relay) else "an ensemble"
        raise MaterialiseError(f"{who} is {what} of several models, and a file holds one; quantize each as a candidate of "
                               "its own")
    if beside := beside_denoiser(candidate.quantization):
        raise MaterialiseError(f"{who} also quantizes {', '.join(beside)}, and the denoiser alone is written. Declare a "
                               "candidate whose denoiser alone is quantized")
    if candidate.adapters:
        raise MaterialiseError(f"{who} has adapters beside its weights, its own or those of prompts, which no file of weights "
                               "holds. Declare a candidate with model=Fused(model=..., adapters=(...)) in a suite whose prompts "
                               "name no adapters")
    if candidate.stages:
        raise MaterialiseError(f"{who} has several stages. Declare the model of one stage as a candidate")
    if changing := [name for name in in_order(candidate.savers) if SAVERS[name].changes_weights]:
        raise MaterialiseError(f"{who} is measured with saver {changing[0]!r}, which rounds the weights once more, and the file "
                               "would hold other ones. Declare a candidate without it")
    modes = [name for name in modes_in(mode) if not (isinstance(mode, Mixed) and name == FULL)]
    if isinstance(mode, str) and mode in LIVE_DTYPES:
        return ".safetensors"
    if all(name in LAYER_MODES and LAYER_MODES[name].stored_as in PACKED for name in modes):
        return ".gguf"
    if all(name == SCALED for name in modes):
        return ".safetensors"
    written = [name for name, row in LAYER_MODES.items() if row.stored_as in PACKED]
    other = next((name for name in modes if name not in written), modes[0])
    raise MaterialiseError(f"{who} is {spelled(mode)}; {other} is made when a model is loaded, and has no file that other tools "
                           f"read. Write the model without quantization with `sweetspot merge`, or measure one of "
                           f"{', '.join(written)} or {SCALED}, which are written")


def written_bytes(candidate: Candidate, denoiser: Any) -> int:
    """The bytes of the tensors in the file of a live denoiser. Raises MaterialiseError for what is not written."""
    from harness.quantize.layers import QuantizedWeight

    suffix_for(candidate)
    mode = of_denoiser(candidate.quantization)
    if isinstance(mode, str) and mode in LIVE_DTYPES:
        return stored_bytes(denoiser) - stored_bytes(tensors=joined_copies(denoiser))
    quantized = [layer for layer in denoiser.modules() if isinstance(layer, QuantizedWeight)]
    kept = sum(smallest(parameter.detach().float()).nbytes for parameter in denoiser.parameters())
    return kept + sum(tensor.nbytes for layer in quantized for tensor in layer.buffers())


def write_quantized(candidate: Candidate, live_model: Pipeline, library: Library, path: Path, title: str) -> WrittenFile:
    """Writes the live denoiser, read back and compared bit for bit before the file gets its name. The header and the markers say
    what it predicts: as it was sampled."""
    recipe = plan_recipe(one_recipe(candidate.model), library)
    part = "unet" if "unet" in recipe.parts else "transformer"
    placed = [at for at in layout_of_recipe(recipe) if at.pieces and {piece.component for piece in at.pieces} == {part}]
    if not placed:
        raise MaterialiseError(f"candidate {candidate.name!r}: its {part} is that of the base {recipe.frame.base}. Quantize "
                               "a candidate with that folder as its model")
    frame = recipe.files[next(iter(recipe.files))]
    predicts = str(live_model.scheduler_config.get("prediction_type", "epsilon")) if part == "unet" else ""
    markers = _markers(recipe) if part == "unet" else {}
    mode, said = of_denoiser(candidate.quantization), _provenance(candidate, library)
    said |= modelspec(frame, title, input_names(one_recipe(candidate.model), library), predicts)
    live, dtype = Live(live_model.denoiser), LIVE_DTYPES.get(str(mode), "")

    def check(file: Path) -> None:
        refuse_other_bits(file, {_alone(at.name): at for at in placed}, live, dtype, markers)

    if suffix_for(candidate) == ".gguf":
        packed = {_alone(at.name): live.gguf(at) for at in placed} | {name: _packed(value) for name, value in markers.items()}
        most = next(format_ for format_ in (LAYER_MODES[name].stored_as for name in modes_in(mode) if name in LAYER_MODES))
        backup = save_gguf(path, packed, {
            "general.architecture": _ARCHITECTURES.get(frame.family, frame.family), "general.name": title,
            "general.quantization_version": 2, "general.file_type": _FILE_TYPES[most], **said}, check)
        formats = [tensor.type for name, tensor in packed.items() if name not in markers]
    else:
        tensors, header = live.safetensors(placed, dtype)
        backup = save_single_file(path, tensors | markers, {**said, **header}, check=check, keep_old=True)
        formats = [_word(tensor) for tensor in tensors.values()]
    return WrittenFile(path=path, formats={kind: formats.count(kind) for kind in dict.fromkeys(formats)},
                       weights=sum(math.prod(at.shape) for at in placed), size=path.stat().st_size, backup=backup)


def _markers(recipe: RecipePlan) -> dict[str, Tensor]:
    """The marker tensors of the model that gives the U-Net: loaders know by their names what it predicts."""
    import torch

    model = recipe.files[kind_of_result(recipe).giver]
    stated = {at.name: at.source for at in marker_tensors(model)}
    return {name: torch.zeros(0) if info is None else model.files[info.file].read([info.source])[info.source]
            for name, info in stated.items()}


def _packed(marker: Tensor) -> GgufTensor:
    """A marker in a GGUF file. Older ggml reads no file with a tensor without elements, so that it has one, whose value nobody
    reads."""
    data = (marker if marker.numel() else marker.new_zeros(1)).float()
    return GgufTensor(type="F32", shape=tuple(data.shape) or (1,), data=data)


def refuse_other_bits(path: Path, placed: Mapping[str, Placed], live: Live, dtype: str, markers: Collection[str]) -> None:
    """Raises ModelFileError unless a file holds the live values, rounded to `dtype` ("float16") if it is given, the markers, and
    no others."""
    import torch

    file = open_tensors(path)
    scales = {name: f"{name.removesuffix('.weight')}.weight_scale" for name in placed}
    if wrong := sorted({*placed, *markers} - {*file.stored} | {*file.stored} - {*placed, *markers, *scales.values()}):
        raise ModelFileError(f"{path}: the written file was read back, and {wrong[0]!r} is missing or unknown. Please report "
                             "this")
    for name, at in placed.items():
        values = live.values(at).to(getattr(torch, dtype or "float32")).float()
        wanted = [name, *([scales[name]] if scales[name] in file.stored else [])]
        read = file.read(wanted)
        tensor = read[name].float() * (read[scales[name]] if len(wanted) > 1 else 1)
        if tensor.shape != values.shape or not torch.equal(tensor.view(torch.int32), values.view(torch.int32)):
            raise ModelFileError(f"{path}: the written file was read back, and {name!r} has other values. Please report this")


class Live:
    """The tensors of a live denoiser as a file has them: under its names, and where it has several in one, stacked by rows."""

    def __init__(self, denoiser: Any) -> None:
        self._layers = dict(denoiser.named_modules())
        self._plain = dict(denoiser.named_parameters()) | dict(denoiser.named_buffers())

    def values(self, at: Placed) -> Tensor:
        """The float32 values of a tensor of the file."""
        import torch

        pieces = [self._value(piece) for piece in at.pieces]
        return (torch.cat(pieces) if len(pieces) > 1 else pieces[0]).reshape(at.shape)

    def gguf(self, at: Placed) -> GgufTensor:
        """In blocks, if all of it is in one format of blocks; else in the smallest plain format that has the same values."""
        import torch

        from harness.weights.gguf_codes import joined

        quantized = [self._quantized(piece) for piece in at.pieces]
        kinds = {None if weight is None else weight.format for weight in quantized}
        if len(kinds) == 1 and (kind := next(iter(kinds))) in PACKED and all(piece.cut is None for piece in at.pieces):
            blocks = [joined(kind, dict(weight.named_buffers())) for weight in quantized]
            return GgufTensor(type=kind, shape=at.shape, data=torch.cat(blocks))
        values = smallest(self.values(at))
        return GgufTensor(type=_word(values), shape=at.shape, data=values)

    def safetensors(self, placed: Sequence[Placed], dtype: str) -> tuple[dict[str, Tensor], dict[str, str]]:
        """All tensors and the text of the header: fp8 codes with their scales, or in a dtype ("float16")."""
        import torch

        tensors: dict[str, Tensor] = {}
        layers: dict[str, Any] = {}
        for at in placed:
            name, quantized = _alone(at.name), [self._quantized(piece) for piece in at.pieces]
            if dtype:
                tensors[name] = self.values(at).to(getattr(torch, dtype))
                if not bool(torch.isfinite(tensors[name]).all()):
                    raise MaterialiseError(f"{name!r} holds values beyond the range of {dtype}; declare bf16")
            elif quantized == [None] * len(quantized):
                tensors[name] = smallest(self.values(at))
            elif len(quantized) > 1:
                raise MaterialiseError(f"{name!r} holds {len(quantized)} layers in one tensor, which has one scale in a file, "
                                       "and each of them has its own. Measure a GGUF format, which is written for this model")
            else:
                layer = name.removesuffix(".weight")
                tensors[name] = quantized[0].values.reshape(at.shape)
                tensors[f"{layer}.weight_scale"] = quantized[0].scales.reshape(())
                layers[layer] = {"format": "float8_e4m3fn"}
        return tensors, {HEADER: json.dumps({"format_version": "1.0", "layers": layers})} if layers else {}

    def _quantized(self, piece: Piece) -> Any:
        layer = self._layers.get(piece.key.removesuffix(".weight"))
        return getattr(layer, "quantized", None) if piece.key.endswith(".weight") else None

    def _value(self, piece: Piece) -> Tensor:
        import torch

        weight = self._quantized(piece)
        tensor: Tensor = weight(torch.float32) if weight is not None else self._plain[piece.key].detach().float()
        return tensor if piece.cut is None else tensor[piece.cut[0]:piece.cut[1]]


def smallest(values: Tensor) -> Tensor:
    """Float32 values in the smallest of fp16, bf16 and fp32 that has all of them. Vectors stay in fp32, as tools expect."""
    import torch

    for dtype in (torch.float16, torch.bfloat16) if values.ndim > 1 else ():
        if torch.equal(values.to(dtype).float(), values):
            return values.to(dtype)
    return values


def _alone(name: str) -> str:
    return name.removeprefix(UNET_PREFIX)


def _word(tensor: Tensor) -> str:
    name = str(tensor.dtype).removeprefix("torch.")
    return _WORDS.get(name, "F8_E4M3")


def _provenance(candidate: Candidate, library: Library) -> dict[str, str]:
    """What the file is made of, as text: enough to quantize the same model again."""
    model = one_recipe(candidate.model)
    names = input_names(model, library)
    inputs = {name: {"blake3": library.content(reference), "bytes": size_of(library.path(reference))}
              for reference, name in names.items()}
    return {"sweetspot.quantization": json.dumps(plain(of_denoiser(candidate.quantization))),
            "sweetspot.quantized_from": json.dumps(plain(renamed(model, names)), ensure_ascii=True),
            "sweetspot.quantized_inputs": json.dumps(inputs, ensure_ascii=True), "sweetspot.version": __version__}
