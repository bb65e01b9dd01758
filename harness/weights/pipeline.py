"""Makes live modules of an opened model: configs found, every tensor checked, and nothing left random.
Materialising a candidate calls `build_pipeline`; benchmarks without weights call `random_sd1`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from harness.weights.files import ModelFileError, read_json
from harness.weights.model import COMPONENTS, ModelFile
from harness.weights.tokenizer import sd1_tokenizer

if TYPE_CHECKING:
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

SD1_CONFIGS: Final = Path(__file__).parent / "configs" / "sd1"
FAMILY: Final = "sd1"


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """The live parts of a model on one device, in evaluation mode and without gradients. `scheduler_config` is what
    diffusers' schedulers take; `notes` say where the model's own markers overrode its config."""

    unet: UNet2DConditionModel
    vae: AutoencoderKL
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer
    scheduler_config: dict[str, Any]
    device: torch.device
    family: str = FAMILY
    notes: tuple[str, ...] = ()


def build_pipeline(model: ModelFile, config: Path | None = None, device: str = "cpu") -> Pipeline:
    """The pipeline of `model` in float32 on `device`.

    Configs come from the folder `config`, else from the model's own folder, else from the built-in Stable Diffusion
    1.5. Each component must have exactly the tensors and shapes that its config asks for: ModelFileError names the
    component and the first keys that differ. A tokenizer is taken from the same folder where it has one.
    """
    import torch

    _refuse_family(model)
    folder = _configs(model, config)
    parts = {}
    for component in COMPONENTS:
        module = _empty(component, folder / component / "config.json")
        _refuse_disagreement(model, component, module, folder)
        # Always a copy: merges are written into these parameters, and `tensors` may give views of the file itself.
        tensors = {name: tensor.to(device=device, dtype=torch.float32, copy=True)
                   for name, tensor in model.tensors(component).items()}
        _refuse_non_finite(model, component, tensors)
        module.load_state_dict(tensors, strict=True, assign=True)
        parts[component] = _ready(module, device)
    scheduler, notes = _scheduler(folder, model)
    return Pipeline(unet=parts["unet"], vae=parts["vae"], text_encoder=parts["text_encoder"],
                    tokenizer=_tokenizer(folder, parts["text_encoder"].config.vocab_size), scheduler_config=scheduler,
                    device=torch.device(device), notes=notes)


def inspect_pipeline(model: ModelFile, config: Path | None = None) -> None:
    """Raises what `build_pipeline` would raise for these files, as far as it shows without reading a weight."""
    _refuse_family(model)
    folder = _configs(model, config)
    for component in COMPONENTS:
        module = _empty(component, folder / component / "config.json")
        _refuse_disagreement(model, component, module, folder)
        if component == "text_encoder":
            _tokenizer(folder, module.config.vocab_size)
    _scheduler(folder, model)


def random_sd1(seed: int, dtype: torch.dtype, device: str = "cpu") -> Pipeline:
    """A pipeline of the size of Stable Diffusion 1.5 with random weights, for timing and memory; its images are noise.

    Matrices are normal with variance 1 / fan-in, drawn on `device` from `seed`; norms scale by 1, biases are 0.
    """
    import torch

    generator = torch.Generator(device).manual_seed(seed)
    parts = {}
    for component in COMPONENTS:
        module = _empty(component, SD1_CONFIGS / component / "config.json")
        drawn = {}
        for name, meta in module.state_dict().items():
            tensor = torch.full(meta.shape, float(name.endswith("weight")), device=device, dtype=dtype)
            if meta.ndim > 1:
                tensor.normal_(std=meta[0].numel() ** -0.5, generator=generator)
            drawn[name] = tensor
        module.load_state_dict(drawn, strict=True, assign=True)
        parts[component] = _ready(module, device)
    return Pipeline(unet=parts["unet"], vae=parts["vae"], text_encoder=parts["text_encoder"], tokenizer=sd1_tokenizer(),
                    scheduler_config=read_json(SD1_CONFIGS / "scheduler" / "scheduler_config.json"),
                    device=torch.device(device))


def _refuse_family(model: ModelFile) -> None:
    """Whole families, and U-Nets that take more than the latent, are opened and merged; nothing here samples them."""
    kinds = {9: "an inpainting model", 8: "an InstructPix2Pix model", 5: "a depth-conditioned model"}
    # A file that shows no family may still be Stable Diffusion 1 with a part missing, which is said as such.
    if model.family not in (FAMILY, ""):
        raise ModelFileError(f"{model.path}: this is a model of the family {model.family}; expected Stable Diffusion 1 "
                             f"({FAMILY}). It can be merged and inspected, but cannot be sampled yet.")
    last = model.components.get("unet", {}).get("conv_out.weight")
    # A plain model takes as many channels as it gives, be it 4 or, with a wider VAE, 8.
    given = last.shape[0] if last and last.shape else 4
    if model.channels != given and model.channels in kinds:
        raise ModelFileError(f"{model.path}: this is {kinds[model.channels]} ({model.channels} input channels, {given} output "
                             "channels); expected as many as come out. It can be merged and inspected, but cannot be sampled "
                             "yet.")


def _configs(model: ModelFile, config: Path | None) -> Path:
    return config or (model.path if model.is_folder else SD1_CONFIGS)


def _empty(component: str, path: Path) -> Any:
    """The component's module with all parameters on the meta device: no time goes into values that are replaced.

    Buffers are made as usual, since those that no file holds (position_ids) would be lost on the meta device.
    """
    from accelerate import init_empty_weights
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    config = read_json(path)
    try:
        with init_empty_weights(include_buffers=False):
            if component == "text_encoder":
                return CLIPTextModel(CLIPTextConfig.from_dict(config))
            return (UNet2DConditionModel if component == "unet" else AutoencoderKL).from_config(config)
    except (TypeError, ValueError, IndexError) as error:
        raise ModelFileError(f"{path}: no {component} can be made of this config ({error}). Correct it or give another "
                             "config folder.") from error


def _refuse_disagreement(model: ModelFile, component: str, module: Any, folder: Path) -> None:
    if component not in model.components:
        raise ModelFileError(f"{model.path}: has no {component}, only {', '.join(model.components) or 'no component'}. "
                             "Give a model with U-Net, VAE and text encoder.")
    wanted = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    found = {name: info.shape for name, info in model.components[component].items()}
    missing = [f"{name!r} {list(shape)} is missing" for name, shape in wanted.items() if name not in found]
    extra = [f"{name!r} {list(shape)} is not in the config" for name, shape in found.items() if name not in wanted]
    shapes = [f"{name!r} is {list(found[name])}, the config says {list(shape)}" for name, shape in wanted.items()
              if name in found and found[name] != shape]
    if differences := [*missing, *extra, *shapes]:
        raise ModelFileError(
            f"{model.path}: {component} and its config in {folder} differ in {len(differences)} tensors: "
            f"{'; '.join(differences[:3])}{'; ...' if len(differences) > 3 else ''}. Give the model's own config "
            "folder, or a whole file.")


def _refuse_non_finite(model: ModelFile, component: str, tensors: Mapping[str, torch.Tensor]) -> None:
    """A NaN anywhere makes both ends of a tensor's range NaN; looking at these is much faster than at each value."""
    import torch

    bad = [name for name, tensor in tensors.items()
           if tensor.numel() and not torch.isfinite(torch.stack(torch.aminmax(tensor))).all()]
    if bad:
        raise ModelFileError(f"{model.path}: {component}: {len(bad)} tensors hold NaN or infinite values: "
                             f"{', '.join(map(repr, bad[:5]))}{', ...' if len(bad) > 5 else ''}. Repair or replace the model.")


def _ready(module: Any, device: str) -> Any:
    """On the device, for inference. A tensor left on the meta device would show only as an error in mid-sampling."""
    from itertools import chain

    left = [name for name, tensor in chain(module.named_parameters(), module.named_buffers()) if tensor.is_meta]
    if left:
        raise ModelFileError(f"{type(module).__name__}: {left[0]!r} has no values; expected every tensor to be loaded. "
                             "Report this with the versions of diffusers and transformers.")
    return module.to(device).eval().requires_grad_(False)


def _scheduler(folder: Path, model: ModelFile) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The scheduler config; markers in the file say how the model was trained and go before a config from elsewhere."""
    config = read_json(folder / "scheduler" / "scheduler_config.json")
    overrides: Mapping[str, tuple[str, Any]] = {
        "v_pred": ("prediction_type", "v_prediction"), "ztsnr": ("rescale_betas_zero_snr", True)}
    notes = []
    for marker, (name, value) in overrides.items():
        if marker in model.markers and config.get(name) != value:
            notes.append(f"the file's marker {marker!r} sets {name} to {value!r}; the config had {config.get(name)!r}")
            config[name] = value
    if foreign := [marker for marker in model.markers if marker.startswith("edm")]:
        raise ModelFileError(f"{model.path}: marker {foreign[0]!r} says the model was trained on EDM noise levels; "
                             "expected epsilon or v prediction. Such models are not supported yet.")
    return config, tuple(notes)


def _tokenizer(folder: Path, tokens: int) -> CLIPTokenizer:
    from transformers import CLIPTokenizer

    own = (folder / "tokenizer").is_dir()
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True) if own else sd1_tokenizer()
    if len(tokenizer) > tokens:
        raise ModelFileError(f"{folder}: the tokenizer has {len(tokenizer)} tokens, the text encoder only {tokens}. "
                             "Give the model's own config folder, with its tokenizer.")
    return tokenizer
