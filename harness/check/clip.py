"""Problems of the CLIP models that a suite names: the architecture, and whether the file is one of it. Only its header is read,
and neither torch nor open_clip is imported."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from harness.check.files import CLIP, file_problem, hub_problems
from harness.declare import Suite
from harness.declare.hub_names import of_clip
from harness.declare.listing import first_of
from harness.declare.models import references
from harness.declare.nearest import did_you_mean
from harness.declare.suite import DefaultClip
from harness.hub import PREFIX, HubError, place
from harness.metrics import METRICS
from harness.metrics.clip_reference import (
    ClipReference,
    ClipReferenceError,
    architectures,
    config_of,
    other_activation,
    parsed,
    pixels_of,
    tag_of_file,
    tag_problem,
    weights_of,
)
from harness.weights.safetensors_header import ModelFileError, StoredTensor, read_header

TAGGED: Final = "ViT-B-32/openai"
EXAMPLE: Final = "ViT-B-32-quickgelu:models/clip-vit-b-32.safetensors"
WHERE_FROM: Final = f"run: sweetspot fetch clip {TAGGED} (OpenAI's ViT-B/32, 605 MB), and give clip={TAGGED!r}"
_DTYPES: Final = ("F64", "F32", "F16", "BF16")
_OF_TRANSFORMERS: Final = ("text_model.", "vision_model.")
_SHOWN: Final = 3

Shapes = Mapping[str, tuple[int, ...]]


def default_problems(suite: Suite) -> Iterator[str]:
    """A phrase if the built-in toy CLIP would score models that it knows nothing of, because the suite names no other."""
    foreign = [(c.name, file) for c in suite.candidates for model in c.models for file in references(model)
               if not file.startswith("zoo:")]
    needed = [name for name in suite.metrics if (row := METRICS.find(name)) is not None and row.needs_clip]
    if foreign and needed and isinstance(suite.clip, DefaultClip):
        name, file = foreign[0]
        yield (f"{needed[0]} needs a CLIP model, and none is given: the built-in 'zoo:clip' is a toy that knows only the "
               f"built-in models, but candidate {name!r} is made of {file!r}. To get one, {WHERE_FROM}. To have the toy "
               "score it all the same, say clip='zoo:clip'")


def clip_problems(reference: str, root: Path, *, scores: bool = True) -> Iterator[str]:
    """One phrase per problem of a reference to a CLIP model. It `scores` images unless only a part of it is used otherwise."""
    if reference == "zoo:clip":
        return
    given = parsed(reference)
    if given is None and reference.startswith(PREFIX):
        file = of_clip(reference)
        wrong = next(hub_problems(file), "no open_clip_config.json beside it describes an architecture of open_clip. Name the "
                     f"architecture: 'ARCHITECTURE:{file}'")
        yield f"clip {reference!r}: {wrong}"
        return
    if given is None:
        yield (f"clip is {reference!r}; expected 'zoo:clip', 'ARCHITECTURE/TAG' like {TAGGED!r}, or 'ARCHITECTURE:file' like "
               f"{EXAMPLE!r}")
        return
    config = config_of(given.model)
    if wrong := name_problem(given):
        yield f"clip: {wrong}"
    if given.file or not wrong:
        yield from _weights_problems(given, config, root, scores)


def name_problem(given: ClipReference) -> str:
    """What is wrong with the architecture or the tag; empty if nothing is."""
    config = config_of(given.model)
    if config is None:
        question = did_you_mean(given.architecture, architectures(), list_known=False)
        return f"unknown open_clip architecture {given.architecture!r}; {question or f'expected one like {EXAMPLE!r}'}"
    if "hf_tokenizer_name" in config.get("text_cfg", {}):
        return (f"the tokenizer of {given.architecture} would have to be downloaded; give an architecture with CLIP's own "
                "tokenizer, like 'ViT-B-32-quickgelu'")
    return tag_problem(given)


def _weights_problems(given: ClipReference, config: Mapping[str, Any] | None, root: Path, scores: bool) -> Iterator[str]:
    try:
        path = given.file or weights_of(f"{given.architecture}/{given.tag}")
        if problems := [*_file_problems(given.model, config, path, root)]:
            yield from problems
        elif scores and (better := other_activation(
                given.model, tag := given.tag or tag_of_file(given.architecture, place(path, root)))):
            yield (f"clip file {path!r} holds the weights {tag!r}, which were trained with the activation of {better}, and the "
                   f"scores would be wrong; use '{better}:{path}'")
        elif scores:
            pixels_of(given, place(path, root))
    except ClipReferenceError as error:
        yield f"clip: {error}"


def _file_problems(architecture: str, config: Mapping[str, Any] | None, path: str, root: Path) -> Iterator[str]:
    try:
        file = place(path, root)
        if not file.exists():
            yield f"clip file {path!r} does not exist below {root}; {WHERE_FROM}"
            return
        if wrong := file_problem(CLIP, file):
            yield f"clip file {path!r}: {wrong}"
            return
        tensors, _ = read_header(file)
    except HubError as error:
        yield f"clip {path!r}: {error}"
    except ModelFileError as error:
        yield f"clip file: {error}"
    except (OSError, ValueError) as error:
        yield f"clip file {path!r} cannot be read ({error})"
    else:
        if config is not None and (why := _misfit(tensors, expected_shapes(config))):
            yield f"clip file {path!r} is not a {architecture} of open_clip: {why}. Give the architecture that the file is of"


def _misfit(tensors: Mapping[str, StoredTensor], expected: Shapes) -> str:
    """How a file differs from what its architecture asks for; empty if it does not."""
    names = {name.removeprefix("module.").removeprefix("text."): tensor for name, tensor in tensors.items()}
    if any(name.startswith(_OF_TRANSFORMERS) for name in names):
        return (f"its tensors are named as in transformers ({next(n for n in names if n.startswith(_OF_TRANSFORMERS))}); "
                f"{WHERE_FROM}")
    missing = [name for name in expected if name not in names]
    if missing:
        return f"it has no {first_of(missing)}"
    for name, shape in expected.items():
        if names[name].shape != shape:
            return f"{name} has the shape {names[name].shape}, and {shape} is expected"
    odd = sorted({tensor.dtype for name, tensor in names.items() if name in expected} - {*_DTYPES})
    return f"its weights are stored as {odd[0]}, and one of {', '.join(_DTYPES)} is expected" if odd else ""


def expected_shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors that tell architectures apart, from open_clip's own description: the text tower's, and those of a
    plain vision transformer. Other vision towers are checked when the model is loaded."""
    text, vision, embedding = config["text_cfg"], config["vision_cfg"], config["embed_dim"]
    width, layers = text.get("width", 512), text.get("layers", 12)
    shapes = {"token_embedding.weight": (text.get("vocab_size", 49408), width),
              f"transformer.resblocks.{layers - 1}.ln_1.weight": (width,), "ln_final.weight": (width,)}
    if not text.get("embed_cls"):
        shapes |= {"positional_embedding": (text.get("context_length", 77), width), "text_projection": (width, embedding)}
    if "timm_model_name" in vision or isinstance(vision.get("layers"), list) or vision.get("attentional_pool"):
        return shapes
    breadth, patch, size = vision.get("width", 768), vision.get("patch_size", 16), vision.get("image_size", 224)
    patches = (size // patch) ** 2
    last = f"visual.transformer.resblocks.{vision.get('layers', 12) - 1}.ln_1.weight"
    return shapes | {"visual.conv1.weight": (breadth, 3, patch, patch), "visual.positional_embedding": (patches + 1, breadth),
                     "visual.proj": (breadth, embedding), last: (breadth,)}
