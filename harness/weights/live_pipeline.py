"""Builds live pipelines from opened model files: finds the configs, checks and loads every tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from harness.weights.diffusers_call import assembled, t5_positions
from harness.weights.files import ModelFileError, read_json
from harness.weights.live_module import components_of, load, ready, refuse_absence, refuse_disagreement
from harness.weights.live_module import empty as _empty
from harness.weights.model import ModelFile
from harness.weights.pipeline import Pipeline, TextEncoder
from harness.weights.placing import Home
from harness.weights.prediction import measured_prediction, scheduler_config
from harness.weights.refusals import refuse_family, refuse_misfit, refuse_odd_names
from harness.weights.tokenizer import END, OPENCLIP_PAD, clip_tokenizer
from harness.weights.tokenizer_files import tokenizer_of

if TYPE_CHECKING:
    import torch

CONFIGS: Final = Path(__file__).parent / "configs"
SD1_CONFIGS: Final = CONFIGS / "sd1"
_T5: Final = ""
_ENCODERS: Final[Mapping[str, tuple[tuple[str, Any, bool, str], ...]]] = {
    "sd1": (("text_encoder", "last", False, END),),
    "sd2": (("text_encoder", "last", False, OPENCLIP_PAD),),
    "sdxl": (("text_encoder", "penultimate", False, END), ("text_encoder_2", "penultimate", True, OPENCLIP_PAD)),
    "sdxl_refiner": (("text_encoder_2", "penultimate", True, OPENCLIP_PAD),),
    "sd3": (("text_encoder", "penultimate", True, END), ("text_encoder_2", "penultimate", True, OPENCLIP_PAD),
            ("text_encoder_3", "last", False, _T5)),
    "flux": (("text_encoder", "last", False, END), ("text_encoder_2", "last", False, _T5)),
}
"""By family: the encoder's component, its layer, whether its pooled embedding is used, and CLIP's padding token."""
_T5S: Final = {family: tuple(component for component, *_, pad in rows if pad == _T5) for family, rows in _ENCODERS.items()}


def build_pipeline(model: ModelFile, config: Path | None = None, device: str = "cpu",
                   homes: Mapping[str, Home] | None = None) -> Pipeline:
    """The pipeline of `model`, which computes on `device`. Components are kept in their `homes`; those without one are kept in
    float32 on `device`.

    Configs come from the folder `config`, otherwise from the model's own folder, otherwise from those built in for Stable
    Diffusion 1, 2 and XL. Raises ModelFileError, naming the component and the first differing keys, unless each component
    has exactly the tensors and shapes of its config. Tokenizers come from the same folder if it has them.

    The shapes of a Stable Diffusion 2 file do not show its prediction type. If neither markers nor header nor a folder
    state it, it is measured on the U-Net (`prediction.measured_prediction`) and noted.
    """
    import torch

    if model.pipeline:
        from harness.own_pipelines.loading import own_pipeline

        return own_pipeline(model, config or model.path, device, homes)
    pipeline = _without_values(model, config, torch.device(device))
    for component, module in pipeline.parts.items():
        home = (homes or {}).get(component, Home(device=device))
        load(model, component, module, home.device, getattr(torch, home.dtype))
    if pipeline.family == "sd2" and not model.prediction and _configs(model, config) == CONFIGS / "sd2":
        measured = measured_prediction(model.path, pipeline.unet, pipeline.scheduler_config)
        note = f"the file does not state its prediction type; its output for pure noise is that of {measured}"
        pipeline = replace(pipeline, scheduler_config={**pipeline.scheduler_config, "prediction_type": measured},
                           notes=(*pipeline.notes, note))
    called = assembled(pipeline) if "transformer" in pipeline.parts else None
    return replace(pipeline, called=called)


def shape_pipeline(model: ModelFile, config: Path | None = None, homes: Mapping[str, Home] | None = None) -> Pipeline:
    """The pipeline of `model` on the meta device, in the dtypes of its `homes`: code that runs on it makes shapes alone. Raises
    the errors of `build_pipeline` that can be found without reading weights."""
    import torch

    if model.pipeline:
        from harness.own_pipelines.loading import own_shape

        return own_shape(model, config or model.path, homes)
    pipeline = _without_values(model, config, torch.device("meta"))
    for component, module in pipeline.parts.items():
        if component in _T5S.get(pipeline.family, ()):
            module.set_input_embeddings(module.shared)
        home = (homes or {}).get(component, Home(device="meta"))
        torch.nn.Module.to(module, "meta", getattr(torch, home.dtype)).eval().requires_grad_(False)
    return replace(pipeline, called=assembled(pipeline)) if "transformer" in pipeline.parts else pipeline


def with_part(pipeline: Pipeline, component: str, module: Any) -> Pipeline:
    """A copy of the pipeline with `module` as its `component`; `pipeline` itself is unchanged."""
    encoders = tuple(replace(e, module=module) if e.component == component else e for e in pipeline.encoders)
    changed = replace(pipeline, parts={**pipeline.parts, component: module}, encoders=encoders)
    if pipeline.own is not None:
        from harness.own_pipelines.loading import called_pipeline

        return replace(changed, called=called_pipeline(changed))
    return replace(changed, called=assembled(changed)) if pipeline.called is not None else changed


def reading_with(pipeline: Pipeline, other: Pipeline) -> Pipeline:
    """A copy of the pipeline with the text encoders of another one."""
    encoders = {encoder.component for encoder in (*pipeline.encoders, *other.encoders)}
    parts = {**{part: module for part, module in pipeline.parts.items() if part not in encoders},
             **{part: module for part, module in other.parts.items() if part in encoders}}
    return replace(pipeline, parts=parts, encoders=other.encoders)


def random_sd1(seed: int, dtype: torch.dtype, device: str = "cpu") -> Pipeline:
    """A pipeline of Stable Diffusion 1.5's size with random weights, to measure time and memory; its images are noise.

    Matrices are normal with variance 1 / fan-in, drawn on `device` from `seed`; norms have weight 1, biases are 0.
    """
    return _random("sd1", seed, dtype, device)


def random_sdxl(seed: int, dtype: torch.dtype, device: str = "cpu") -> Pipeline:
    """Like `random_sd1`, of the size of Stable Diffusion XL's base model."""
    return _random("sdxl", seed, dtype, device)


def _random(family: str, seed: int, dtype: torch.dtype, device: str) -> Pipeline:
    import torch

    generator = torch.Generator(device).manual_seed(seed)
    parts = {}
    for component in ("unet", "vae", *(name for name, *_ in _ENCODERS[family])):
        module = _empty(component, CONFIGS / family / component / "config.json", family)
        drawn = {}
        for name, meta in module.state_dict().items():
            tensor = torch.full(meta.shape, float(name.endswith("weight")), device=device, dtype=dtype)
            if meta.ndim > 1:
                tensor.normal_(std=meta[0].numel() ** -0.5, generator=generator)
            drawn[name] = tensor
        module.load_state_dict(drawn, strict=True, assign=True)
        ready(module, device)
        parts[component] = module
    return Pipeline(parts=parts, encoders=_encoders(family, parts, CONFIGS / family), family=family,
                    scheduler_config=read_json(CONFIGS / family / "scheduler" / "scheduler_config.json"),
                    device=torch.device(device))


def _without_values(model: ModelFile, config: Path | None, device: torch.device) -> Pipeline:
    """The pipeline with all parameters on the meta device, after every check that needs no values."""
    refuse_family(model, config)
    refuse_odd_names(model)
    family = model.family or "sd1"
    folder = _configs(model, config)
    parts = {}
    for component in components_of(model):  # what is missing is said before which configs it has
        refuse_absence(model, component)
    for component in components_of(model):
        parts[component] = _empty(component, folder / component / "config.json", family)
        refuse_disagreement(model, component, parts[component], folder)
    scheduler, notes = scheduler_config(model, folder, built_in=folder.parent == CONFIGS)
    pipeline = Pipeline(parts=parts, encoders=_encoders(family, parts, folder), scheduler_config=scheduler, device=device,
                        family=family, notes=notes)
    refuse_misfit(model.path, pipeline)
    return pipeline


def _configs(model: ModelFile, config: Path | None) -> Path:
    return config or (model.path if model.is_folder else CONFIGS / (model.family or "sd1"))


def _encoders(family: str, parts: Mapping[str, Any], folder: Path) -> tuple[TextEncoder, ...]:
    positions = t5_positions(family, parts["transformer"]) if "transformer" in parts else None
    return tuple(TextEncoder(component=component, module=parts[component], layer=layer, pooled=pooled,
                             positions=positions if pad == _T5 else None,
                             tokenizer=_tokenizer(folder, component, parts[component].config.vocab_size, pad))
                 for component, layer, pooled, pad in _ENCODERS[family] if component in parts)


def _tokenizer(folder: Path, component: str, tokens: int, pad: str) -> Any:
    """The tokenizer in the folder, otherwise CLIP's; T5's vocabulary is not built in."""
    from transformers import CLIPTokenizer, T5Tokenizer

    own = folder / component.replace("text_encoder", "tokenizer")
    if not own.is_dir():
        if pad == _T5:
            raise ModelFileError(f"{folder}: has no {own.name}/ for {component}; expected the tokenizer of its T5 encoder. "
                                 "Download the folder again.")
        tokenizer = clip_tokenizer(pad)
    else:
        tokenizer = tokenizer_of(T5Tokenizer if pad == _T5 else CLIPTokenizer, own)
    if len(tokenizer) > tokens:
        raise ModelFileError(f"{folder}: the tokenizer has {len(tokenizer)} tokens, the text encoder only {tokens}. "
                             "Give the model's own config folder, with its tokenizer.")
    return tokenizer
