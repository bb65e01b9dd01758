"""What a file's header claims (prediction type, architecture) and where its tensors contradict it. Tensors decide, header
texts only break ties, and a wrong text is reported."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from harness.weights.files import TensorFile, read_json

if TYPE_CHECKING:
    from harness.weights.model import ModelFile

_BY_MARKER: Final = {"v_pred": "v_prediction", "edm_vpred.sigma_max": "v_prediction", "edm_vpred.sigma_min": "v_prediction"}
_WORDS: Final = {"v": "v_prediction", "v_prediction": "v_prediction", "v-prediction": "v_prediction", "vpred": "v_prediction",
                 "epsilon": "epsilon", "eps": "epsilon"}
_ARCHITECTURES: Final = (
    ("stable-diffusion-xl-v1-refiner", "sdxl_refiner"), ("stable-diffusion-xl-refiner", "sdxl_refiner"),
    ("stable-diffusion-xl", "sdxl"), ("stable-diffusion-v1", "sd1"), ("stable-diffusion-v2", "sd2"),
    ("stable-diffusion-3", "sd3"), ("stable-diffusion-v3", "sd3"), ("flux-1", "flux"))
_KOHYA: Final = (("sdxl_refiner", "sdxl_refiner"), ("sdxl_", "sdxl"), ("sd_v1", "sd1"), ("sd_v2", "sd2"), ("sd3", "sd3"),
                 ("flux1", "flux"))
_INTEGERS: Final = {"I64": "q", "I32": "i", "I16": "h", "U8": "B", "I8": "b"}
_MOST_IDS: Final = 4096


def said_family(metadata: Mapping[str, str]) -> tuple[str, str]:
    """The family that the header texts claim, and the claim itself as "key 'value'"; two empty texts without a claim."""
    for key, table in (("modelspec.architecture", _ARCHITECTURES), ("ss_base_model_version", _KOHYA)):
        value = metadata.get(key, "").strip().lower()
        if family := next((family for start, family in table if value.startswith(start)), ""):
            return family, f"{key} {short(metadata[key])}"
    return "", ""


def prediction_of(markers: Sequence[str], metadata: Mapping[str, str], scheduler: Path | None) -> tuple[str, tuple[str, ...]]:
    """The prediction type, "epsilon", "v_prediction" or "" if unknown, and contradictions as warnings.

    Markers among the tensors take precedence, then `modelspec.prediction_type`, then a folder's scheduler config.
    """
    claims: dict[str, str] = {}
    for marker in markers:
        if marker in _BY_MARKER:
            claims.setdefault(f"the marker {marker!r}", _BY_MARKER[marker])
    text = metadata.get("modelspec.prediction_type", "")
    warnings: list[str] = []
    if text.strip().lower() in _WORDS:
        claims[f"modelspec.prediction_type {short(text)}"] = _WORDS[text.strip().lower()]
    elif text:
        warnings.append(f"modelspec.prediction_type is {short(text)}; expected v or epsilon, so it is ignored")
    if scheduler is not None and scheduler.is_file() and (word := read_json(scheduler).get("prediction_type")) in _WORDS:
        claims[f"{scheduler.parent.name}/{scheduler.name}"] = _WORDS[word]
    if not claims:
        return "", tuple(warnings)
    first, *others = claims
    warnings += [f"{first} says {claims[first]}, {other} says {claims[other]}; {first} is used" for other in others
                 if claims[other] != claims[first]]
    return claims[first], tuple(warnings)


def folder_markers(scheduler: Path, family: str) -> tuple[str, ...]:
    """The marker tensors by which a single file says what the scheduler config of a folder says. Loaders know the prediction of
    Stable Diffusion 2 without one."""
    config = read_json(scheduler) if scheduler.is_file() else {}
    prediction = _WORDS.get(str(config.get("prediction_type", "")), "")
    if str(config.get("_class_name", "")).startswith("EDM"):
        return ("edm_vpred.sigma_max", "edm_vpred.sigma_min") if prediction == "v_prediction" else ("edm_mean", "edm_std")
    markers = ("v_pred",) if prediction == "v_prediction" and family != "sd2" else ()
    return (*markers, "ztsnr") if config.get("rescale_betas_zero_snr") is True else markers


def contradictions(model: ModelFile, claimed: tuple[str, str]) -> tuple[str, ...]:
    """Warnings for a header that claims another family than the tensors show, or something other than a model."""
    family, claim = claimed
    warnings = []
    if family and model.family and family != model.family:
        warnings.append(f"the header says {claim}, but the tensors are of {model.family}; the header is ignored")
    architecture = model.metadata.get("modelspec.architecture", "")
    if architecture.endswith(("/lora", "/textual-inversion", "/lycoris")):
        warnings.append(f"the header says modelspec.architecture {short(architecture)}, but these are the weights of a model")
    return tuple(warnings)


def position_ids_state(file: TensorFile, source: str) -> str:
    """What is wrong with stored position ids, in words; empty if they are the integers 0..n-1.

    The values are read, since they take a few hundred bytes: merges that averaged them left fractions.
    """
    stored = file.stored[source]
    count = 1
    for length in stored.shape:
        count *= length
    if stored.dtype not in _INTEGERS:
        return f"{source!r} is stored as {stored.dtype}; expected the integers 0..{count - 1}, which are used instead"
    if count > _MOST_IDS or _integers(file, source, count) != list(range(count)):
        return f"{source!r} is not 0..{count - 1}; the integers 0..{count - 1} are used instead"
    return ""


def short(text: Any, most: int = 60) -> str:
    """A text from a file, quoted, in ASCII and cut to `most` characters, so that it cannot control a terminal."""
    safe = ascii(str(text))
    return safe if len(safe) <= most else f"{safe[:most - 4]}...{safe[-1]}"


def _integers(file: TensorFile, source: str, count: int) -> list[int]:
    stored = file.stored[source]
    if stored.offset is None:
        return [int(n) for n in file.read([source])[source].reshape(-1).tolist()]
    with file.path.open("rb") as handle:
        handle.seek(stored.offset)
        return list(struct.unpack(f"<{count}{_INTEGERS[stored.dtype]}", handle.read(stored.bytes)))


def recipe_keys(metadata: Mapping[str, str]) -> tuple[str, ...]:
    """The header keys under which Sweetspot stores recipes."""
    return tuple(sorted(key for key in metadata if key.startswith("sweetspot.")))
