"""Builds one component's live module from its config, checks it against the file's names and shapes, and loads its
values."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from harness.declare.listing import first_of
from harness.records.format_range import FormatRangeError
from harness.weights.files import ModelFileError, read_json
from harness.weights.model import ModelFile
from harness.weights.upload import Uploads

if TYPE_CHECKING:
    import torch

_UNET: Final = {"unet": "unet", "vae": "vae", "text_encoder": "clip"}
KINDS: Final[Mapping[str, Mapping[str, str]]] = {
    "sd1": _UNET, "sd2": _UNET, "sdxl": {**_UNET, "text_encoder_2": "clip-projected"},
    "sdxl_refiner": {"unet": "unet", "vae": "vae", "text_encoder_2": "clip-projected"},
    "sd3": {"transformer": "sd3", "vae": "vae", "text_encoder": "clip-projected", "text_encoder_2": "clip-projected",
            "text_encoder_3": "t5"},
    "flux": {"transformer": "flux", "vae": "vae", "text_encoder": "clip", "text_encoder_2": "t5"},
}
"""By family: the kind of module of each component."""
_OPTIONAL: Final = {"sd3": ("text_encoder_3",)}
"""Components that are optional: SD3 was trained with the T5 states dropped at times."""
DIFFUSERS_CLASSES: Final = {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL", "sd3": "SD3Transformer2DModel",
                            "flux": "FluxTransformer2DModel"}
"""By kind of module: the class of diffusers."""
_TIED: Final = {"t5": {"encoder.embed_tokens.weight": "shared.weight"}}
"""Tied tensors, by kind of module: {second name: name in files}."""
_LAYERS: Final = re.compile(r"layers|blocks|depth")
_MOST_LAYERS: Final = 1000
"""A module is built one layer after the other, without values too."""
_NOT_OURS: Final = ("auto_map", "quantization_config")


def components_of(model: ModelFile) -> tuple[str, ...]:
    """The components that a pipeline of the model's family needs, and the optional ones that the model has."""
    optional = _OPTIONAL.get(model.family, ())
    return tuple(c for c in KINDS[model.family or "sd1"] if c not in optional or c in model.components)


def empty(component: str, path: Path, family: str = "sd1") -> Any:
    """The component's module from the config at `path`, with all parameters on the meta device, so that no time is spent on
    values that are replaced. Buffers are real, because those that are in no file (position_ids) would be lost.

    Raises ModelFileError for a config from which no module can be built.
    """
    return built_empty(component, path, lambda config: _module(KINDS[family][component], config))


def built_empty(component: str, path: Path, build: Callable[[dict[str, Any]], Any]) -> Any:
    """As `empty`, of what `build` makes of the config."""
    from accelerate import init_empty_weights

    from harness.weights.undrawn import Undrawn

    # A config may name code to download: an attention implementation on a hub, or custom classes.
    config = {key: value for key, value in read_json(path).items()
              if key not in _NOT_OURS and "attn_implementation" not in key}
    if endless := next((key for key, value in config.items() if _LAYERS.search(key) and isinstance(value, int)
                        and value > _MOST_LAYERS), ""):
        raise ModelFileError(f"{path}: {endless} is {config[endless]}; expected at most {_MOST_LAYERS}. Correct it or give "
                             "another config folder.")
    try:
        with Undrawn(), init_empty_weights(include_buffers=False):
            return build(config)
    except Exception as error:  # libraries raise errors of many types for an invalid number
        raise ModelFileError(f"{path}: no {component} can be built from this config ({error}). Correct it or give another "
                             "config folder.") from error


def refuse_absence(model: ModelFile, component: str) -> None:
    """Raises ModelFileError for a component that the model lacks."""
    if component not in model.components:
        raise ModelFileError(f"{model.path}: has no {component}, only {', '.join(model.components) or 'no component'}. "
                             f"{_what_is_missing(model, component)}")


def refuse_disagreement(model: ModelFile, component: str, module: Any, folder: Path) -> None:
    """Raises ModelFileError, naming the first differences, unless the file has exactly the tensors of `module`, in their
    shapes."""
    tied = _tied(model, component)
    refuse_other_tensors(model, component, {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()
                                            if name not in tied}, folder)


def refuse_other_tensors(model: ModelFile, component: str, shapes: Mapping[str, tuple[int, ...]], folder: Path) -> None:
    """Raises ModelFileError, naming the first differences, unless the file's component has exactly these tensors."""
    stored_shapes = {name: info.shape for name, info in model.components[component].items()}
    missing = [f"{name!r} {list(shape)} is missing" for name, shape in shapes.items() if name not in stored_shapes]
    extra = [f"{name!r} {list(shape)} is not in the config" for name, shape in stored_shapes.items() if name not in shapes]
    others = [f"{name!r} is {list(stored_shapes[name])}, the config says {list(shape)}" for name, shape in shapes.items()
              if name in stored_shapes and stored_shapes[name] != shape]
    if differences := [*missing, *extra, *others]:
        raise ModelFileError(
            f"{model.path}: {component} and its config in {folder} differ in {len(differences)} tensors: "
            f"{first_of(differences, between='; ')}. " + (
                "Give the model's own config folder, or a whole file." if model.companion is None else
                "Give the folder of a model of the same kind and size as base."))


def way_out(model: ModelFile) -> str:
    """The declaration of a model that lacks components."""
    return (f"Checkpoint(path={model.path.name!r}, base='FOLDER'), where FOLDER is the diffusers folder of a model of the same "
            "architecture")


def _what_is_missing(model: ModelFile, component: str) -> str:
    """What to do about a component that a model lacks."""
    if model.companion is not None:
        return f"Its base {model.companion.path} has none either. Give a folder that has a {component}."
    if model.encoder_alone or not model.components:
        return (f"Give a whole model ({', '.join(components_of(model))}). A part of one is merged as model B: "
                f"Merge(a=WHOLE, b={model.path.name!r}, alpha=1, parts={tuple(model.components)!r}).")
    return f"Give a folder that has what it lacks: {way_out(model)}."


def load(model: ModelFile, component: str, module: Any, device: str, dtype: torch.dtype) -> None:
    """Loads the model's values into `module` as `dtype` on `device`, for inference. Raises ModelFileError for NaN and
    infinity, and FormatRangeError for values beyond the range of `dtype`."""
    import torch

    tensors, uploads = {}, Uploads()
    for name, tensor in model.tensors(component).items():
        # Sent as stored, converted there. Always a copy: merges are written into these parameters, and `tensors` may return
        # views of the file.
        sent = uploads.send(tensor, torch.device(device))
        tensors[name] = sent.to(dtype=dtype, copy=sent is tensor)
    _refuse_non_finite(model, component, tensors)
    tied = _tied(model, component)
    module.load_state_dict(tensors | {second: tensors[name] for second, name in tied.items()}, strict=True, assign=True)
    if tied:
        module.set_input_embeddings(module.shared)
    ready(module, device)


def ready(module: Any, device: str) -> None:
    """Moves `module` to the device for inference. Raises ModelFileError for a tensor without values, which would otherwise
    fail only during sampling."""
    from itertools import chain

    unloaded = [name for name, tensor in chain(module.named_parameters(), module.named_buffers()) if tensor.is_meta]
    if unloaded:
        raise ModelFileError(f"{type(module).__name__}: {unloaded[0]!r} has no values; expected every tensor to be loaded. "
                             "Report this with the versions of diffusers and transformers.")
    module.to(device).eval().requires_grad_(False)


def _module(kind: str, config: dict[str, Any]) -> Any:
    import diffusers
    from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

    if kind == "clip":
        return CLIPTextModel(CLIPTextConfig.from_dict(config))
    if kind == "clip-projected":
        from harness.weights.clip_with_projection import ProjectedClip

        return ProjectedClip(CLIPTextConfig.from_dict(config))
    if kind == "t5":
        return T5EncoderModel(T5Config.from_dict(config))
    return getattr(diffusers, DIFFUSERS_CLASSES[kind]).from_config(config)


def _tied(model: ModelFile, component: str) -> Mapping[str, str]:
    return {} if model.pipeline else _TIED.get(KINDS[model.family or "sd1"][component], {})


def _refuse_non_finite(model: ModelFile, component: str, tensors: Mapping[str, torch.Tensor]) -> None:
    """Raises ModelFileError for NaN and infinity, and FormatRangeError for values beyond the range of the dtype that they were
    loaded in. Any NaN makes a tensor's minimum and maximum NaN, and checking these is
    much faster than checking each value."""
    import torch

    # All answers at once: a GPU is waited for at each.
    answers = torch.stack([_all_finite(tensor) for tensor in tensors.values()]).tolist() if tensors else []
    bad = [name for name, sound in zip(tensors, answers, strict=True) if not sound]
    if not bad:
        return
    named = first_of([*map(repr, bad)], 5)
    stored = model.tensors(component)
    if narrow := [name for name in bad if bool(_all_finite(stored[name]))]:
        word = str(tensors[narrow[0]].dtype).removeprefix("torch.")
        raise FormatRangeError(f"{model.path}: {component}: {len(narrow)} tensors hold values beyond the range of {word}: "
                               f"{named}. Declare precision='bf16' or 'fp32' for the candidate")
    raise ModelFileError(f"{model.path}: {component}: {len(bad)} tensors hold NaN or infinite values: {named}. Repair or replace "
                         "the model.")


def _all_finite(tensor: torch.Tensor) -> torch.Tensor:
    import torch

    if not tensor.numel():
        return torch.ones((), dtype=torch.bool, device=tensor.device)
    wide = tensor.half() if tensor.element_size() == 1 else tensor
    return torch.isfinite(torch.stack(torch.aminmax(wide))).all()
