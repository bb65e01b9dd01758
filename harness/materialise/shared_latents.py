"""Whether several models can work on the same latents: in turns or together, in one denoising run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from harness.materialise.library import MaterialiseError
from harness.samplers import called_by_diffusers
from harness.weights import Pipeline

SCHEDULE: Final[Mapping[str, Any]] = {
    "num_train_timesteps": 1000, "beta_schedule": "linear", "beta_start": 0.0001, "beta_end": 0.02, "trained_betas": None,
    "rescale_betas_zero_snr": False}
"""What decides the noise of a step, with diffusers' defaults."""


def refuse_misfits(models: Mapping[str, Pipeline], *, kind: str, shared_texts: bool = False) -> None:
    """Raises MaterialiseError, with what each model has, unless these models can share their latents. `kind` is what they are
    together, "relay" or "ensemble"; with `shared_texts` one reads the prompts for all. Predictions may differ: they are
    converted."""
    for name, model in models.items():
        if called_by_diffusers(model.family):
            raise MaterialiseError(f"{name} is a model of the family {model.family}, which is sampled by a pipeline of its own "
                                   f"and cannot be a part of {_an(kind)}. Measure it as a candidate's only model")
    _refuse_unlike("latents", kind, {name: _latents(model) for name, model in models.items()})
    _refuse_unlike("noise schedules", kind, {name: _schedule(model) for name, model in models.items()})
    if shared_texts:
        _refuse_unlike("text embeddings", kind, {name: _texts(model) for name, model in models.items()},
                       "; with texts='own' each model reads the prompts with its own text encoders")


def _refuse_unlike(what: str, kind: str, facts: Mapping[str, str], way_out: str = "") -> None:
    if len(set(facts.values())) > 1:
        listed = "; ".join(f"{name}: {fact}" for name, fact in facts.items())
        raise MaterialiseError(f"the models of the {kind} have different {what} ({listed}). They work on the same latents, so "
                               f"they must be alike in this{way_out}")


def _an(kind: str) -> str:
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"


def _latents(model: Pipeline) -> str:
    vae, denoiser = model.vae.config, model.denoiser.config
    shift = getattr(vae, "shift_factor", None) or 0
    return (f"{denoiser.in_channels} channels in, {denoiser.out_channels} out, one for {2 ** (len(vae.block_out_channels) - 1)} "
            f"pixels, scaled by {vae.scaling_factor:g}{f', shifted by {shift:g}' if shift else ''}")


def _schedule(model: Pipeline) -> str:
    config = {key: model.scheduler_config.get(key, usual) for key, usual in SCHEDULE.items()}
    rest = [word for word, given in (("trained betas", config["trained_betas"]), ("zero terminal SNR",
                                                                                  config["rescale_betas_zero_snr"])) if given]
    return ", ".join([f"{config['beta_schedule']} from {config['beta_start']:g} to {config['beta_end']:g} in "
                      f"{config['num_train_timesteps']} steps", *rest])


def _texts(model: Pipeline) -> str:
    return f"{model.denoiser.config.cross_attention_dim} wide, pooled: {any(encoder.pooled for encoder in model.encoders)}"
