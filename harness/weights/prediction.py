"""The scheduler config of a model: what a file says of its prediction goes before a config that was not made for it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from harness.weights.files import ModelFileError, read_json
from harness.weights.model import ModelFile

_MARKERS: Final[Mapping[str, tuple[str, Any]]] = {
    "v_pred": ("prediction_type", "v_prediction"), "ztsnr": ("rescale_betas_zero_snr", True)}
_FLOW: Final = "FlowMatchEulerDiscreteScheduler"


def scheduler_config(model: ModelFile, folder: Path, built_in: bool) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The scheduler config in `folder`, and notes on what was changed in it.

    Markers in the file say how the model was trained and go before any config; what its header says goes before a
    `built_in` config only, since who gives a folder has decided. ModelFileError for noise levels of another kind.
    """
    path = folder / "scheduler" / "scheduler_config.json"
    config = read_json(path)
    if foreign := [marker for marker in model.markers if marker.startswith("edm")]:
        raise ModelFileError(f"{model.path}: marker {foreign[0]!r} says the model was trained on EDM noise levels; "
                             "expected epsilon or v prediction. Such models are not supported yet.")
    name = str(config.get("_class_name", ""))
    flow = "transformer" in model.components
    if (name != _FLOW) if flow else name.startswith(("EDM", "FlowMatch")):
        raise ModelFileError(f"{path}: the model's scheduler is {name or 'not named'}; expected "
                             f"{_FLOW if flow else 'one for epsilon or v prediction'}. Such models are not supported yet.")
    notes = []
    for marker, (key, value) in _MARKERS.items():
        if marker in model.markers and config.get(key) != value:
            notes.append(f"the file's marker {marker!r} sets {key} to {value!r}; the config had {config.get(key)!r}")
            config[key] = value
    had = config.get("prediction_type", "epsilon")
    if not flow and model.prediction not in ("", had):
        if built_in:
            config["prediction_type"] = model.prediction
        notes.append(f"the file says that it predicts {model.prediction}; the config in {folder} had {had}, and "
                     f"{model.prediction if built_in else had} is taken")
    return config, tuple(notes)


def measured_prediction(path: Path, unet: Any, config: Mapping[str, Any]) -> str:
    """What a U-Net predicts, by its answer at the last training step t to x, 64 x 64 plain noise under an empty condition.

    There x is nearly all noise (alpha_t = 0.07), so that an epsilon model answers x again and a v model, which answers
    alpha_t * noise - sigma_t * image, something that x says nothing of. The correlation of answer and x is thus about 1
    or about alpha_t; ModelFileError where it lies between, with what to do.
    """
    import torch

    last = int(config.get("num_train_timesteps", 1000)) - 1
    weight = unet.conv_in.weight
    noise = torch.randn((1, unet.config.in_channels, 64, 64), generator=torch.Generator("cpu").manual_seed(0))
    states = torch.zeros((1, 77, unet.config.cross_attention_dim), device=weight.device, dtype=weight.dtype)
    with torch.inference_mode():
        answer = unet(noise.to(weight), last, encoder_hidden_states=states).sample.float().cpu()
    agreement = float(torch.corrcoef(torch.stack([noise.flatten(), answer.flatten()]))[0, 1])
    if agreement > 0.8:
        return "epsilon"
    if abs(agreement) < 0.4:
        return "v_prediction"
    raise ModelFileError(f"{path}: nothing in the file says whether it predicts epsilon or v, and its answer to noise does "
                         f"not tell (correlation {agreement:.2f}). Give a config folder, whose scheduler_config.json says its "
                         "prediction_type.")
