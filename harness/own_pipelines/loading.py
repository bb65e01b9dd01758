"""Builds the pipeline that a folder names: the denoiser by our own loader, so that merged weights can be written into its very
parameters, and everything else by diffusers and transformers from the folder, with safetensors alone."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from harness.declare.listing import first_of
from harness.own_pipelines.classes import OWN
from harness.own_pipelines.declared import (
    SECOND,
    Declared,
    declared,
    refuse_unknown_arguments,
    scheduler_config_of,
)
from harness.own_pipelines.layer_dtypes import cast_at_layers
from harness.own_pipelines.live import Own
from harness.weights.files import ModelFileError, read_json
from harness.weights.folder import shards_of
from harness.weights.header_claims import short
from harness.weights.live_module import built_empty, load, ready, refuse_other_tensors
from harness.weights.model import ModelFile
from harness.weights.pipeline import Pipeline
from harness.weights.placing import Home
from harness.weights.refusals import refuse_odd_names
from harness.weights.tokenizer_files import tokenizer_of

if TYPE_CHECKING:
    import torch

DENOISER: Final = "transformer"
"""What the denoiser is called among the parts, also where it is a U-Net: as in the opened file."""
DECODERS: Final = ("vae", "movq")
_NUMBER: Final = re.compile(r"(?<=\.)\d+(?=\.)")
_KERNELS: Final = "attn_implementation"
"""A config may name an attention kernel to download."""


def own_pipeline(model: ModelFile, folder: Path, device: str, homes: Mapping[str, Home] | None = None) -> Pipeline:
    """The pipeline of `model`, with the configs and everything that the model lacks from `folder`. Raises ModelFileError."""
    import torch

    read = declared(folder, model.pipeline)
    denoiser = _denoiser(model, folder, read)
    homes = homes or {}
    home = homes.get(DENOISER, Home(device=device))
    load(model, DENOISER, denoiser, home.device, getattr(torch, home.dtype))
    others = {name: _loaded(folder, name, kind, getattr(torch, beside_in(name, device))).to(device)
              for name, kind in _modules(read)}
    for name in (*DECODERS, *SECOND):
        if name in others:
            cast_at_layers(others[name])
    return _pipeline(model, folder, read, {DENOISER: cast_at_layers(denoiser), **others}, torch.device(device))


def beside_in(name: str, device: str) -> str:
    """The dtype that a module beside the denoiser is kept in: float32, but for text encoders on a GPU, which are as large as the
    denoiser and were trained in bfloat16."""
    return "float32" if device.partition(":")[0] == "cpu" or name in DECODERS else "bfloat16"


def own_shape(model: ModelFile, folder: Path, homes: Mapping[str, Home] | None = None) -> Pipeline:
    """The same without values, on the meta device, after every check that needs none."""
    import torch

    read = declared(folder, model.pipeline)
    refuse_unknown_arguments(read.kind)
    denoiser = _denoiser(model, folder, read)
    home = (homes or {}).get(DENOISER, Home(device="meta"))
    torch.nn.Module.to(denoiser, "meta", getattr(torch, home.dtype)).eval().requires_grad_(False)
    others = {name: _without_values(folder, name, kind) for name, kind in _modules(read)}
    return _pipeline(model, folder, read, {DENOISER: denoiser, **others}, torch.device("meta"))


def called_pipeline(pipeline: Pipeline, scheduler: Any | None = None) -> Any:
    """A diffusers pipeline of the live modules themselves. diffusers loads nothing."""
    own = pipeline.own
    assert own is not None
    # diffusers computes where the first of its modules is, which may be kept on the host.
    kind = type(own.name, (own.kind,), {
        "_execution_device": property(lambda _: pipeline.device), "__module__": own.kind.__module__})
    made = kind(**own.beside, **{own.attributes[part]: module for part, module in pipeline.parts.items()},
                scheduler=own_scheduler(pipeline) if scheduler is None else scheduler)
    made.set_progress_bar_config(disable=True)
    return made


def own_scheduler(pipeline: Pipeline) -> Any:
    """The folder's scheduler, at its beginning."""
    assert pipeline.own is not None
    return pipeline.own.scheduler.from_config(dict(pipeline.scheduler_config))


def _denoiser(model: ModelFile, folder: Path, read: Declared) -> Any:
    refuse_odd_names(model)
    kind = read.components[read.denoiser]
    module = built_empty(read.denoiser, folder / read.denoiser / "config.json", kind.from_config)
    refuse_other_tensors(model, DENOISER, {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}, folder)
    return module


def _modules(read: Declared) -> list[tuple[str, Any]]:
    """The modules beside the denoiser, with their classes."""
    import torch

    return [(name, kind) for name, kind in read.components.items()
            if name != read.denoiser and issubclass(kind, torch.nn.Module)]


def _pipeline(model: ModelFile, folder: Path, read: Declared, parts: Mapping[str, Any], device: torch.device) -> Pipeline:
    import torch
    from diffusers import SchedulerMixin

    beside = dict(read.settings)
    for name, kind in read.components.items():
        if not issubclass(kind, torch.nn.Module | SchedulerMixin):
            beside[name] = tokenizer_of(kind, folder / name)
    notes = tuple(_notes(read, parts, "the folder" if folder == model.path else f"{folder.name}/"))
    own = Own(kind=read.kind, row=OWN[model.pipeline], beside=beside, scheduler=read.components["scheduler"],
              attributes={DENOISER: read.denoiser, **{name: name for name in parts if name != DENOISER}}, notes=notes)
    pipeline = Pipeline(parts=dict(parts), encoders=(), scheduler_config=scheduler_config_of(folder), device=device,
                        family=model.pipeline, notes=notes, own=own)
    try:
        return replace(pipeline, called=called_pipeline(pipeline))
    except Exception as error:  # libraries raise errors of many types for parts that do not fit together
        raise ModelFileError(f"{folder}: no {model.pipeline} can be built of its parts ({error}). Download the folder "
                             "again.") from error


def _notes(read: Declared, parts: Mapping[str, Any], folder: str) -> list[str]:
    unchanged = [name for name in parts if name != DENOISER]
    notes = [f"sampled by diffusers' {read.kind.__name__}; from {folder}, unchanged: {', '.join(unchanged)}"]
    if OWN[read.kind.__name__].alpha:
        notes.append("the transparency of its images is left out")
    if second := [name for name in unchanged if name in SECOND]:
        notes.append(f"{', '.join(second)} denoises too, and is neither merged nor adapted nor quantized with the other")
    if read.left_out:
        notes.append(f"not loaded: {', '.join(read.left_out)}")
    return notes


def _loaded(folder: Path, name: str, kind: Any, dtype: torch.dtype) -> Any:
    """A module of the folder with its values. Raises ModelFileError for one that is not whole."""
    path = folder / name
    config = _config(path)
    options: dict[str, Any] = {"local_files_only": True, "use_safetensors": True, "output_loading_info": True,
                               **({"variant": "fp16"} if _is_variant(path) else {})}
    if _of_transformers(kind):
        options |= {"config": _transformers_config(kind, config), "dtype": dtype, "trust_remote_code": False}
    else:
        options |= {"torch_dtype": dtype}
    try:
        with _without_bars():
            module, info = kind.from_pretrained(path, **options)
    except Exception as error:  # libraries raise errors of many types for a damaged file
        raise ModelFileError(f"{path}: no {kind.__name__} can be loaded from this folder ({_brief(error)}). Download it "
                             "again.") from error
    if lacking := [*map(str, info.get("missing_keys", ())), *map(str, info.get("mismatched_keys", ()))]:
        raise ModelFileError(f"{path}: {len(lacking)} tensors of {kind.__name__} are missing or have another shape: "
                             f"{first_of([*map(short, lacking)])}. Download the folder again.")
    if left_over := _layers_left_over(module, [*map(str, info.get("unexpected_keys", ()))]):
        raise ModelFileError(f"{path}: its weights have layers that its config.json leaves out: {len(left_over)} tensors, "
                             f"{first_of([*map(short, left_over)])}. Download the folder again.")
    ready(module, "cpu")
    return module


def _layers_left_over(module: Any, unread: Sequence[str]) -> list[str]:
    """The unread tensors of a file that are further layers of the module: their names differ from its own in a number alone.
    Others, as the head or the decoder of a language model, are of no use to a text encoder."""
    own = {_NUMBER.sub("#", name) for name in module.state_dict()}
    return [name for name in unread if _NUMBER.search(name) and _NUMBER.sub("#", name) in own]


@contextmanager
def _without_bars() -> Iterator[None]:
    """Within the block transformers draws no bars of its own into ours."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _without_values(folder: Path, name: str, kind: Any) -> Any:
    path = folder / name
    _config(path)
    if not [*path.glob("*.safetensors")]:
        raise ModelFileError(f"{path}: holds no safetensors file, and no other weights of {name} are loaded. Convert them, or "
                             "download the folder again.")

    def build(config: dict[str, Any]) -> Any:
        return kind(_transformers_config(kind, config)) if _of_transformers(kind) else kind.from_config(config)

    return built_empty(name, path / "config.json", build).to("meta").eval().requires_grad_(False)


def _config(path: Path) -> dict[str, Any]:
    config = read_json(path / "config.json")
    if (adapter := path / "adapter_config.json").exists():  # which transformers would put onto the weights
        raise ModelFileError(f"{adapter}: an adapter beside the weights of {path.name} would change them unasked. Remove it from "
                             "the folder.")
    for index in path.glob("*.index*.json"):  # which the libraries follow wherever it leads
        shards_of(index)
    if config.get("quantization_config"):
        raise ModelFileError(f"{path}: its weights are stored quantized (quantization_config); expected whole ones. Give the "
                             "model with this component as it was before.")
    return config


def _transformers_config(kind: Any, config: dict[str, Any]) -> Any:
    from transformers import PreTrainedConfig

    whole = kind.config_class.from_dict(_harmless(config))
    half = getattr(whole, "encoder", None)
    # T5GemmaEncoder is made of the encoder's half of the config that is on the disk; its class names the whole.
    return half if isinstance(half, PreTrainedConfig) and kind.__name__.endswith("Encoder") else whole


def _harmless(config: Any) -> Any:
    """A config without code and kernels to download."""
    if isinstance(config, dict):
        return {key: _harmless(value) for key, value in config.items() if key != "auto_map" and _KERNELS not in str(key)}
    return [_harmless(value) for value in config] if isinstance(config, list) else config


def _of_transformers(kind: Any) -> bool:
    from transformers import PreTrainedModel

    return issubclass(kind, PreTrainedModel)


def _is_variant(path: Path) -> bool:
    """Whether the folder has the fp16 variant of the weights alone."""
    files = [file.name for file in path.glob("*.safetensors*")]
    return bool(files) and all(".fp16" in file for file in files)


def _brief(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
