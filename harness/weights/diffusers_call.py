"""Sampling with diffusers: builds a diffusers pipeline from live modules and runs it for one batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor

    from harness.weights.pipeline import Pipeline

Embeds: TypeAlias = "tuple[Tensor, Tensor]"

_CLASSES: Final = {"sd3": "StableDiffusion3Pipeline", "flux": "FluxPipeline"}
_TOKENIZERS: Final = {"sd3": ("tokenizer", "tokenizer_2", "tokenizer_3"), "flux": ("tokenizer", "tokenizer_2")}


def t5_positions(family: str, transformer: Any) -> int:
    """How many tokens T5 is given. Flux.1 schnell and Stable Diffusion 3 were trained with 256, Flux.1 dev with 512."""
    return 512 if family == "flux" and transformer.config.guidance_embeds else 256


@dataclass(frozen=True, kw_only=True)
class Call:
    """One batch: the embeddings of a text and of a negative text for each image, the negative texts themselves, and one guidance
    scale for all; width and height in pixels. An embedding is that of `embed_text`."""

    positive: tuple[Embeds, ...]
    negative: tuple[Embeds, ...]
    negatives: tuple[str, ...]
    guidance: float
    steps: int
    width: int
    height: int


def assembled(pipeline: Pipeline) -> Any:
    """A diffusers pipeline of the modules in `pipeline.parts` themselves. diffusers loads nothing."""
    import diffusers

    tokenizers = {e.component.replace("text_encoder", "tokenizer"): e.tokenizer for e in pipeline.encoders}
    absent = dict.fromkeys((*_TOKENIZERS[pipeline.family], *(n.replace("tokenizer", "text_encoder")
                                                            for n in _TOKENIZERS[pipeline.family])))
    plain = {key: value for key, value in pipeline.scheduler_config.items() if not key.startswith("_")}
    # diffusers computes where the first of its modules is, which may be kept on the host.
    kind = type(_CLASSES[pipeline.family], (getattr(diffusers, _CLASSES[pipeline.family]),), {
        "_execution_device": property(lambda _: pipeline.device)})
    pipeline_of_diffusers = kind(
        **{**absent, **pipeline.parts, **tokenizers,
           "scheduler": diffusers.FlowMatchEulerDiscreteScheduler.from_config(plain)})
    pipeline_of_diffusers.set_progress_bar_config(disable=True)
    return pipeline_of_diffusers


def embed_text(pipeline: Pipeline, text: str) -> Embeds:
    """The states (tokens, width) and the pooled embedding (width,) of one text, as the family's diffusers pipeline makes them.
    The text encoders must be on the pipeline's device."""
    import torch

    from harness.weights.sending import Sending

    options: dict[str, Any] = {"prompt": [text], "device": pipeline.device,
                               "max_sequence_length": t5_positions(pipeline.family, pipeline.denoiser)}
    if pipeline.family == "sd3":
        options |= {"prompt_2": [text], "prompt_3": [text], "do_classifier_free_guidance": False}
    with torch.inference_mode(), Sending():
        embedded = assembled(pipeline).encode_prompt(**options)
    states, pooled = (embedded[0], embedded[2]) if pipeline.family == "sd3" else embedded[:2]
    return states[0].float(), pooled[0].float()  # T5 may be kept in bfloat16


def call_pipeline(pipeline: Pipeline, call: Call, noise: Tensor, scheduler: Any | None = None) -> Tensor:
    """Latents (n, channels, h, w) of a batch after `call.steps` steps, as the VAE has them before scaling (`unscaled`).

    `noise` is standard normal, (n, *latent_shape), drawn by the caller. `scheduler` is one of diffusers' for flow matching; by
    default it takes Euler steps with the model's own config. `guidance` is the scale of classifier-free guidance; at 1 the
    negative texts have no effect. A guidance-distilled transformer (Flux.1 dev) takes the number as a condition instead and
    supports no negative texts. Raises ValueError for a negative text there, and for guidance below 1, which diffusers ignores.
    """
    import torch

    if call.guidance < 1:
        raise ValueError(f"guidance {call.guidance:g}: models of the family {pipeline.family} need 1 or more; expected "
                         "such a scale. Change the grid's guidance scales.")
    # Built for each call: its scheduler counts steps, and a part may have been replaced since the last call.
    pipeline_of_diffusers = assembled(pipeline)
    if scheduler is not None:
        pipeline_of_diffusers.scheduler = scheduler
    options: dict[str, Any] = {"num_inference_steps": call.steps, "height": call.height, "width": call.width,
                               "output_type": "latent", "max_sequence_length": t5_positions(pipeline.family, pipeline.denoiser),
                               **_stacked("", call.positive)}
    if pipeline.family == "sd3":
        options |= {"latents": noise, "guidance_scale": call.guidance, **_stacked("negative_", call.negative)}
        with torch.inference_mode():
            latents: Tensor = pipeline_of_diffusers(**options).images
        return latents
    if pipeline.denoiser.config.guidance_embeds:
        if any(call.negatives):
            raise ValueError(f"negative text {next(filter(None, call.negatives))!r}: this Flux transformer is guidance-distilled "
                             "and does not support them; expected empty negative texts. Remove them from the prompts.")
        options |= {"guidance_scale": call.guidance}
    else:
        options |= {"true_cfg_scale": call.guidance, **_stacked("negative_", call.negative)}
    options["latents"] = _packed(noise)
    with torch.inference_mode():
        packed: Tensor = pipeline_of_diffusers(**options).images
    return _unpacked(packed, noise)


def _stacked(prefix: str, embeds: Sequence[Embeds]) -> dict[str, Tensor]:
    """The embeddings of a batch by the names of diffusers' arguments."""
    import torch

    return {f"{prefix}prompt_embeds": torch.stack([states for states, _ in embeds]),
            f"{prefix}pooled_prompt_embeds": torch.stack([pooled for _, pooled in embeds])} if embeds else {}


def unscaled(pipeline: Pipeline, latents: Tensor) -> Tensor:
    """The input of the VAE's decoder: latents / scaling_factor + shift_factor; the shift is 0 if the config has none."""
    config = pipeline.vae.config
    shift: float = getattr(config, "shift_factor", None) or 0.0
    return latents / float(config.scaling_factor) + shift


def scaled(pipeline: Pipeline, latents: Tensor) -> Tensor:
    """The inverse of `unscaled`: what a denoiser is given of the output of the VAE's encoder."""
    config = pipeline.vae.config
    shift: float = getattr(config, "shift_factor", None) or 0.0
    return (latents - shift) * float(config.scaling_factor)


def _packed(latents: Tensor) -> Tensor:
    """(n, c, h, w) -> (n, h / 2 * w / 2, 4 c): each 2 x 2 square as one vector, with the channel as its slowest axis."""
    n, c, h, w = latents.shape
    return latents.reshape(n, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5).reshape(n, h * w // 4, c * 4)


def _unpacked(packed: Tensor, like: Tensor) -> Tensor:
    n, c, h, w = like.shape
    return packed.reshape(n, h // 2, w // 2, c, 2, 2).permute(0, 3, 1, 4, 2, 5).reshape(n, c, h, w)
