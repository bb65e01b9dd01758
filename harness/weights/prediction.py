"""The scheduler config of a model. The prediction type that a file states overrides a config that was not made for it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from harness.weights.files import ModelFileError, read_json
from harness.weights.model import ModelFile

_MARKERS: Final[Mapping[str, tuple[str, Any]]] = {
    "v_pred": ("prediction_type", "v_prediction"), "ztsnr": ("rescale_betas_zero_snr", True)}
_FLOW: Final = "FlowMatchEulerDiscreteScheduler"
TELLING: Final = "up_blocks.3.attentions.2.transformer_blocks.0.norm1.bias"
"""The tensor of Stable Diffusion 2 that tells what it predicts, `output_blocks.11.1.transformer_blocks.0.norm1.bias` in files."""
_SPREAD_OF_V: Final = 0.09


def scheduler_config(model: ModelFile, folder: Path, built_in: bool) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The scheduler config in `folder`, and notes on changes made to it.

    Markers in the file override any config. Its header overrides only a `built_in` config, because a folder given by the
    user was chosen on purpose. Raises ModelFileError for other kinds of noise levels.
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
        notes.append(f"the file states the prediction type {model.prediction}; the config in {folder} had {had}, and "
                     f"{model.prediction if built_in else had} is used")
    return config, tuple(notes)


def prediction_by_value(model: ModelFile) -> str:
    """What a U-Net of Stable Diffusion 2 predicts, by the values of one tensor, where its file states nothing: "v_prediction" if
    their standard deviation is above 0.09, otherwise "epsilon". "" for other models, wider ones included, and without the tensor.

    Names and shapes of the 512 base (epsilon) and the 768 model (v) are equal. ComfyUI tells them apart by this rule
    (comfy/supported_models.py, SD20.model_type), of which its comment says that it is not known how well it works. So it is good
    enough to stop a merge that can be forced, not to write a marker.
    """
    if model.family != "sd2" or model.prediction or model.channels != 4 or TELLING not in model.components.get("unet", {}):
        return ""
    return "v_prediction" if float(model.tensor("unet", TELLING).float().std(correction=0)) > _SPREAD_OF_V else "epsilon"


def measured_prediction(path: Path, unet: Any, config: Mapping[str, Any]) -> str:
    """The prediction type of a U-Net, from its output at the last training step t for x, 64 x 64 pure noise under an empty
    condition.

    There x is nearly all noise (alpha_t = 0.07). An epsilon model therefore returns x, while a v model returns alpha_t *
    noise - sigma_t * image, mostly independent of x. The correlation of output and x is about 1 or about alpha_t. Raises
    ModelFileError, with advice, if it is between the two.
    """
    import torch

    last = int(config.get("num_train_timesteps", 1000)) - 1
    weight = unet.conv_in.weight
    noise = torch.randn((1, unet.config.out_channels, 64, 64), generator=torch.Generator("cpu").manual_seed(0))
    # What an inpainting model reads besides: a mask that is all white, and an empty picture.
    beside = torch.zeros((1, unet.config.in_channels - unet.config.out_channels, 64, 64))
    beside[:, :1] = 1
    states = torch.zeros((1, 77, unet.config.cross_attention_dim), device=weight.device, dtype=weight.dtype)
    with torch.inference_mode():
        answer = unet(torch.cat([noise, beside], dim=1).to(weight), last, encoder_hidden_states=states).sample.float().cpu()
    agreement = float(torch.corrcoef(torch.stack([noise.flatten(), answer.flatten()]))[0, 1])
    if agreement > 0.8:
        return "epsilon"
    if abs(agreement) < 0.4:
        return "v_prediction"
    raise ModelFileError(f"{path}: the file does not state its prediction type, and its output for noise does "
                         f"not show it (correlation {agreement:.2f}). Give a config folder, whose scheduler_config.json says its "
                         "prediction_type.")
