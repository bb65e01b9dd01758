"""What a folder's model_index.json declares of its pipeline: the class of each component, and the settings. Everything in it is
hostile: classes are those of diffusers and transformers themselves, and no code of the folder is run."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from inspect import Parameter, signature
from pathlib import Path
from typing import Any, Final

from harness.own_pipelines.classes import OWN
from harness.weights.files import ModelFileError, read_json
from harness.weights.header_claims import short

DENOISERS: Final = ("transformer", "unet")
SECOND: Final = ("transformer_2", "unconditional_transformer")
"""Further denoisers that a pipeline may have."""
NOT_LOADED: Final[Mapping[str, str]] = {
    "safety_checker": "the safety checker", "watermarker": "the watermark", "feature_extractor": "what prepares pictures",
    "image_encoder": "the encoder of pictures", "pe": "what rewrites prompts", "pe_tokenizer": "its tokenizer",
    "prompt_enhancer_head": "what rewrites prompts", "siglip": "the encoder of pictures",
    "siglip_processor": "what prepares pictures"}
"""Components that only judge, mark or read pictures, or rewrite prompts: an image depends on the declared text alone."""
_LARGEST: Final = 1_000_000
_NEEDED: Final = ("text_encoder", "tokenizer", "vae")
"""Some classes can be built without these, and are called with embeddings or give latents then."""
_WHERE_FROM: Final = "Download the folder again, or put this part there as its publisher's page says"
"""Some folders leave out what has a licence of its own, such as the Llama of HiDream."""
_LIBRARIES: Final = ("diffusers", "transformers")


@dataclass(frozen=True, kw_only=True)
class Declared:
    """The class of the pipeline and of each component that is loaded, and the settings. `left_out` are components of the folder
    that are not loaded."""

    kind: Any
    components: Mapping[str, Any]
    settings: Mapping[str, Any]
    left_out: tuple[str, ...]

    @property
    def denoiser(self) -> str:
        """The attribute of the denoiser."""
        return next(name for name in DENOISERS if name in self.components)


def declared(folder: Path, name: str) -> Declared:
    """What the folder declares for the pipeline class `name`, a row of OWN. Raises ModelFileError."""
    import diffusers

    index = read_json(folder / "model_index.json")
    if (given := index.get("_class_name")) != name:
        raise ModelFileError(f"{folder}: model_index.json names the pipeline {short(str(given))}; expected {name}, as in the "
                             "model's own folder. Give the configs of a model of the same kind.")
    kind = getattr(diffusers, name, None)
    lacking = getattr(kind, "_backends", None)
    if kind is None or lacking:
        why = f"needs {', '.join(lacking)}" if lacking else f"is not in diffusers {diffusers.__version__}"
        raise ModelFileError(f"{folder}: the pipeline {name} {why}. Install what is missing, or give another model.")
    components: dict[str, Any] = {}
    settings: dict[str, Any] = {}
    left_out: list[str] = []
    for parameter in list(signature(kind.__init__).parameters.values())[1:]:
        entry: Any = index.get(parameter.name)
        if _is_component(entry) and entry[1] is not None:
            if parameter.name in NOT_LOADED:
                left_out.append(parameter.name)
                settings[parameter.name] = None
            else:
                components[parameter.name] = _class(folder, kind, parameter.name, *entry)
        elif parameter.name == "requires_safety_checker":
            settings[parameter.name] = False
        elif parameter.name in index and not _is_component(entry):
            settings[parameter.name] = _setting(folder, parameter.name, entry)
        elif parameter.name in NOT_LOADED:
            settings[parameter.name] = None
        elif parameter.default is Parameter.empty or parameter.name.startswith(_NEEDED):
            raise ModelFileError(f"{folder}: model_index.json names no {parameter.name}, which {name} needs. {_WHERE_FROM}, and "
                                 "name it in model_index.json.")
    if absent := next((part for part in components if not (folder / part).is_dir()), ""):
        raise ModelFileError(f"{folder}: has no {absent}/, which its model_index.json names. {_WHERE_FROM}.")
    if not {*DENOISERS} & components.keys():
        raise ModelFileError(f"{folder}: model_index.json names no transformer and no unet. Download the folder again.")
    return Declared(kind=kind, components=components, settings=settings, left_out=tuple(left_out))


def arguments_of(kind: Any) -> frozenset[str]:
    """The arguments that a call of a pipeline of this class takes by name."""
    return frozenset(signature(kind.__call__).parameters)


def default_of(kind: Any, argument: str) -> Any:
    """The default of an argument of the call; None without one."""
    parameter = signature(kind.__call__).parameters.get(argument)
    return None if parameter is None or parameter.default is Parameter.empty else parameter.default


def scheduler_config_of(folder: Path) -> dict[str, Any]:
    """The config of the folder's scheduler. Raises ModelFileError for numbers of which tables would not fit into memory."""
    file = folder / "scheduler" / "scheduler_config.json"
    config = read_json(file)
    for name, value in config.items():
        counts = isinstance(value, int) or "timesteps" in name  # others, such as a limit, may be infinite
        if counts and isinstance(value, int | float) and not abs(value) <= _LARGEST:
            raise ModelFileError(f"{file}: {short(name)} is {value!r}; expected a number up to {_LARGEST:,}. Download it again.")
    return config


def _is_component(entry: Any) -> bool:
    return isinstance(entry, list) and len(entry) == 2 and all(part is None or isinstance(part, str) for part in entry)


def _setting(folder: Path, name: str, value: Any) -> Any:
    """A number, a word, or a list of these."""
    simple = (bool, int, float, str, type(None))
    if isinstance(value, simple) or (isinstance(value, list) and all(isinstance(item, simple) for item in value)):
        return value
    raise ModelFileError(f"{folder}: model_index.json says {name} is {short(str(value))}; expected a number, a word or a list of "
                         "these. Download the folder again.")


def _class(folder: Path, pipeline: Any, attribute: str, library: str | None, name: str) -> Any:
    """The class that a component is of. Raises ModelFileError for anything but a model, a scheduler, a tokenizer or a processor
    of diffusers or transformers."""
    if (where := _places(pipeline).get(library or "")) and name.isidentifier() and not name.startswith("_"):
        kind = getattr(importlib.import_module(where), name, None)
        lacking: Any = getattr(kind, "_backends", None) if isinstance(kind, type) else None
        if lacking:
            raise ModelFileError(f"{folder}: its {attribute} is a {name}, which needs {', '.join(lacking)}. Install what is "
                                 "missing, or give another model.")
        if isinstance(kind, type) and kind.__module__.partition(".")[0] in _LIBRARIES and issubclass(kind, _bases()):
            return kind
    raise ModelFileError(f"{folder}: model_index.json says that its {attribute} is {short(f'{library}.{name}')}; expected a "
                         "model, a scheduler, a tokenizer or a processor of diffusers or transformers themselves. No other code "
                         "is run. Give the model as its publisher saved it.")


def _places(pipeline: Any) -> dict[str, str]:
    """The modules that an index may name. diffusers writes the last name of a pipeline's own package for what lies in it, and
    also for what lies in a package of transformers of the same name."""
    package = pipeline.__module__.rpartition(".")[0]
    return {**{library: library for library in _LIBRARIES}, package.rpartition(".")[2]: package}


def _bases() -> tuple[Any, ...]:
    from diffusers import ModelMixin, SchedulerMixin
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, ProcessorMixin
    from transformers.image_processing_base import ImageProcessingMixin

    return ModelMixin, SchedulerMixin, PreTrainedModel, PreTrainedTokenizerBase, ProcessorMixin, ImageProcessingMixin


def refuse_unknown_arguments(kind: Any) -> None:
    """Raises ModelFileError where the installed class lacks an argument that its row names."""
    row = OWN[kind.__name__]
    wanted = {"prompt", "num_inference_steps", "height", "width", "generator", "output_type", *row.settings,
              *filter(None, [row.guidance]), *(["negative_prompt"] if row.negative else [])}
    if lacking := sorted(wanted - arguments_of(kind)):
        raise ModelFileError(f"the installed diffusers' {kind.__name__} takes no {', '.join(lacking)}, which it took when this "
                             "was written. Install the version of diffusers that the lock file names.")
