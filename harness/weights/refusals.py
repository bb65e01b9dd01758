"""Refuses models that cannot be sampled and parts that do not fit together, before any weight is read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from harness.declare.listing import first_of
from harness.own_pipelines.classes import REFUSED, reason
from harness.weights.files import ModelFileError
from harness.weights.folder import is_bare, named_class
from harness.weights.live_module import KINDS, way_out
from harness.weights.model import ModelFile
from harness.weights.pipeline import Pipeline, reads_mask
from harness.weights.quantized_codes import refuse_codes

_KINDS_BY_CHANNELS: Final = {8: "an InstructPix2Pix model", 5: "a depth-conditioned model"}


def refuse_family(model: ModelFile, config: Path | None = None) -> None:
    """Raises ModelFileError for a model that can be opened and merged, but not sampled with the configs in `config`, or without
    a folder of configs."""
    if model.pipeline:
        return
    name = named_class(model.path) if model.is_folder else ""
    # Some of these have the tensors of a built-in family, and would be refused for what shows in these alone.
    if name in REFUSED or model.structural:
        refused = reason(name) if name else ""
        why = f"its model_index.json names the pipeline {name}, and {refused}" if refused else model.warnings[0]
        never = model.recognised.row.unsampled if model.recognised else ""
        raise ModelFileError(f"{model.path}: {why}. It can be merged and inspected, but not sampled" + (
            "." if name else f": {never}." if never else f" without a base: {way_out(model)}."))
    if model.is_folder and is_bare(model.path) and model.companion is None:
        raise ModelFileError(f"{model.path}: this folder holds the {next(iter(model.components))} alone; expected the folder of "
                             f"a whole model. Give the folder above it, or what is missing: {way_out(model)}.")
    # A file of unknown family may be Stable Diffusion 1 with a part missing, which has its own error.
    family = model.family or "sd1"
    if family not in KINDS:
        raise ModelFileError(f"{model.path}: this is a model of the family {family}; expected one of {', '.join(KINDS)}. It can "
                             "be merged and inspected, but cannot be sampled yet.")
    if "transformer" in KINDS[family]:
        if not model.is_folder and config is None:
            raise ModelFileError(f"{model.path}: this is a single file of the family {family}, which can be merged and "
                                 "inspected; to be sampled it needs the configs and the components of a diffusers folder. Give "
                                 f"such a folder as its base: {way_out(model)}.")
        _refuse_wider_transformer(model)
    else:
        _refuse_wider_unet(model)


def refuse_odd_names(model: ModelFile) -> None:
    """Raises ModelFileError for tensors among the weights of a component that has none of their names, and for codes."""
    if model.companion is not None:
        refuse_odd_names(model.companion)
        model = model.own
    for component in model.components:
        refuse_codes(model, component)
    for component, names in model.odd.items():
        raise ModelFileError(f"{model.path}: {component}: {first_of([*map(repr, names)], 1)}: the component has no such tensor, "
                             "so the model would be sampled without it. Give the whole model under its own names.")


def refuse_misfit(path: Path, pipeline: Pipeline) -> None:
    """Raises ModelFileError if a part's config expects another width than the connected part has."""
    if getattr(pipeline.vae.config, "latents_mean", None) is not None:
        raise ModelFileError(f"{path}: its VAE shifts and scales each channel of the latents separately (latents_mean); expected "
                             "one scaling_factor. Such models are not supported yet.")
    for what, expected, given in _joints(pipeline):
        if isinstance(expected, int) and expected != given:
            raise ModelFileError(f"{path}: {what}: the denoiser takes {expected}, but the other part gives {given}; expected "
                                 "parts of one model. Give the model's own VAE and text encoders.")


def _joints(pipeline: Pipeline) -> Iterator[tuple[str, Any, int]]:
    """(name of the connection, width that the denoiser takes, width that the other part gives)."""
    config = pipeline.denoiser.config
    texts = {e.component: e.module.config for e in pipeline.encoders}
    folded = 4 if pipeline.family == "flux" else 1
    own = config.out_channels if reads_mask(pipeline) else config.in_channels
    yield "channels of the latents", own, pipeline.vae.config.latent_channels * folded
    if pipeline.family == "flux":
        yield "width of the T5 states", config.joint_attention_dim, texts["text_encoder_2"].d_model
        yield "width of the pooled text", config.pooled_projection_dim, texts["text_encoder"].hidden_size
    elif pipeline.family == "sd3":
        projected = sum(texts[name].projection_dim for name in ("text_encoder", "text_encoder_2"))
        yield "width of the pooled text", config.pooled_projection_dim, projected
        if "text_encoder_3" in texts:
            yield "width of the T5 states", config.joint_attention_dim, texts["text_encoder_3"].d_model
    else:
        yield "width of the text states", config.cross_attention_dim, sum(text.hidden_size for text in texts.values())
        if pipeline.family in ("sdxl", "sdxl_refiner"):
            # The refiner takes an aesthetic score in place of the size of the image.
            sizes = (6 if pipeline.family == "sdxl" else 5) * config.addition_time_embed_dim
            yield ("width of pooled text and sizes", config.projection_class_embeddings_input_dim,
                   sizes + texts["text_encoder_2"].projection_dim)


def _refuse_wider_unet(model: ModelFile) -> None:
    last = model.components.get("unet", {}).get("conv_out.weight")
    # A text-to-image model has as many input as output channels: 4, or more with a wider VAE.
    given = last.shape[0] if last and last.shape else 4
    if model.channels != given and model.channels in _KINDS_BY_CHANNELS:
        raise ModelFileError(f"{model.path}: this is {_KINDS_BY_CHANNELS[model.channels]} ({model.channels} input channels, "
                             f"{given} output channels); expected equal numbers. It can be merged and inspected, but "
                             "cannot be sampled yet.")


def _refuse_wider_transformer(model: ModelFile) -> None:
    """Refuses Flux Fill, Depth and Canny, which take more inputs per patch than the last layer returns."""
    last = model.components.get("transformer", {}).get("proj_out.weight")
    first = model.components.get("transformer", {}).get("pos_embed.proj.weight")
    input_values = model.channels * (first.shape[2] * first.shape[3] if first and len(first.shape) == 4 else 1)
    if last and last.shape and input_values != last.shape[0]:
        raise ModelFileError(f"{model.path}: its transformer takes {input_values} values for each patch and returns "
                             f"{last.shape[0]}, so it needs an input image; expected a text-to-image model. It can "
                             "be merged and inspected, but cannot be sampled yet.")
