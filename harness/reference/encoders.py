"""The image encoders that reference pictures are read with: the image tower of an open_clip model, or a transformers folder."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from harness.metrics.clip import Preprocess, load_scorer
from harness.metrics.clip_reference import EMBEDDED, USUAL, parsed
from harness.reference.kinds import PLAIN
from harness.reference.reading import ImagePrompt
from harness.weights.safetensors_header import ModelFileError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

_FITTING: Final = {
    (PLAIN, 768): "ViT-L-14", (PLAIN, 1024): "ViT-H-14", (PLAIN, 1280): "ViT-bigG-14", (PLAIN, 96): EMBEDDED,
    ("plus", 1024): "ViT-L-14", ("plus", 1280): "ViT-H-14", ("plus", 1664): "ViT-bigG-14", ("plus", 96): EMBEDDED}
"""The open_clip architecture of the image encoder that an IP-Adapter of this kind and width was trained with."""
PREPROCESSING: Final = "preprocessor_config.json"


@dataclass(frozen=True, kw_only=True)
class ImageEncoder:
    """A live image encoder in float32. `pooled` maps pixels (1, 3, size, size) to the embedding (1, width), not normalised;
    `penultimate` to the states before the last layer (1, positions, width)."""

    module: Any
    preprocess: Preprocess
    pooled: Callable[[Tensor], Tensor]
    penultimate: Callable[[Tensor], Tensor]

    def embedding(self, kind: str, picture: NDArray[np.uint8] | None) -> Tensor:
        """What an IP-Adapter of this kind reads of an RGB picture (h, w, 3): (1, width) or (1, positions, width).

        Without a picture it is what the negative branch gets: zeros of the embedding for the plain kind, and for the others the
        states of an image that is zero after the preprocessing, which is a mean gray, as in diffusers.
        """
        import torch

        size = self.preprocess.image_size
        pixels = self.pixels(np.zeros((size, size, 3), np.uint8) if picture is None else picture)
        if kind == PLAIN:
            pooled = self.pooled(pixels)
            return torch.zeros_like(pooled) if picture is None else pooled
        return self.penultimate(torch.zeros_like(pixels) if picture is None else pixels)

    def pixels(self, picture: NDArray[np.uint8]) -> Tensor:
        """uint8 (h, w, 3) to float32 (1, 3, size, size) on the encoder's device."""
        import torch

        device = next(self.module.parameters()).device
        batch = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None]
        return self.preprocess.normalised(self.preprocess.resized(batch).to(device))


def encoder_width(prompt: ImagePrompt, encoder: str, folder: Path | None) -> int:
    """The width of what an IP-Adapter of this kind would read of an encoder, whose weights are not read. `folder` is that of a
    transformers encoder. Raises ModelFileError for an unknown encoder."""
    if folder is not None:
        config = _config(folder)
        width = config["projection_dim" if prompt.kind == PLAIN else "hidden_size"]
    elif encoder == EMBEDDED:
        width = 96
    else:
        import open_clip

        architecture = encoder.partition(":")[0]
        described = open_clip.get_model_config(architecture)
        if described is None:
            raise ModelFileError(f"encoder {encoder!r}: unknown open_clip architecture {architecture!r}; expected one such as "
                                 "ViT-H-14")
        width = described["embed_dim"] if prompt.kind == PLAIN else described["vision_cfg"].get("width", 768)
    return int(width)


def refuse_other_encoder(prompt: ImagePrompt, encoder: str, width: int) -> None:
    """Raises ModelFileError for an encoder whose embeddings are of another width than the IP-Adapter reads."""
    if width == prompt.encoder_width:
        return
    fitting = _FITTING.get((prompt.kind, prompt.encoder_width), "")
    given = fitting if fitting in ("", EMBEDDED) else f"{fitting}:file"
    advice = (f"It was trained with {fitting}: give encoder={given!r}" if fitting else
              "Give the image encoder that it was trained with, as its page says")
    raise ModelFileError(f"{prompt.path}: it reads embeddings of {prompt.encoder_width} numbers, and the encoder {encoder!r} "
                         f"gives {width}. {advice}")


def load_encoder(encoder: str, path: Path) -> ImageEncoder:
    """The encoder of "zoo:clip", "ARCHITECTURE:file", or of a transformers folder, on the CPU. `path` is the file or folder
    itself. Raises ModelFileError and ScorerError."""
    if path.is_dir():
        return _of_transformers(path)
    # IP-Adapters were trained with the usual preparation of pictures, also those that read encoders with another one.
    given = parsed(encoder)
    scorer = load_scorer() if encoder == EMBEDDED or given is None else load_scorer(f"{given.weights}:{path}", pixels=USUAL)
    model: Any = scorer.model
    return _of_open_clip(encoder, model.visual, scorer.preprocess)


def encoder_without_values(encoder: str, path: Path) -> ImageEncoder:
    """The encoder as `load_encoder` gives it, on the meta device. Of a file nothing is read, and of a folder its config."""
    import torch

    if path.is_dir():
        from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

        size = _config(path)["image_size"]
        with torch.device("meta"):
            module: Any = CLIPVisionModelWithProjection(CLIPVisionConfig.from_pretrained(path, local_files_only=True))
        return _transformers_encoder(module, _preprocessing(path, size))
    if encoder == EMBEDDED:
        scorer = load_scorer()
        small: Any = scorer.model
        return _of_open_clip(encoder, copy.deepcopy(small.visual).to("meta"), scorer.preprocess)
    import open_clip

    with torch.device("meta"):
        given = parsed(encoder)
        model: Any = open_clip.create_model(encoder if given is None else given.model, precision="fp32", device="meta",
                                            load_weights=False)
    size = model.visual.preprocess_cfg["size"]
    return _of_open_clip(encoder, model.visual, Preprocess(image_size=size if isinstance(size, int) else size[0], mean=USUAL.mean,
                                                           std=USUAL.std))


def _of_open_clip(encoder: str, tower: Any, preprocess: Preprocess) -> ImageEncoder:
    """The image tower of a model; its text tower is not needed."""
    visual = tower.eval().requires_grad_(False)
    blocks = getattr(getattr(visual, "transformer", None), "resblocks", None)

    def penultimate(pixels: Tensor) -> Tensor:
        if blocks is None or len(blocks) < 2:
            raise ModelFileError(f"encoder {encoder!r} is not a plain vision transformer, whose states a plus IP-Adapter reads. "
                                 "Give the image encoder that it was trained with")
        states: list[Tensor] = []
        with _watched(blocks[-2], states):
            visual(pixels)
        first_is_batch = getattr(visual.transformer, "batch_first", True)
        return states[0] if first_is_batch else states[0].transpose(0, 1)

    return ImageEncoder(module=visual, preprocess=preprocess, pooled=visual, penultimate=penultimate)


@contextmanager
def _watched(block: Any, states: list[Tensor]) -> Iterator[None]:
    handle = block.register_forward_hook(lambda _module, _given, output: states.append(output))
    try:
        yield
    finally:
        handle.remove()


def _config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelFileError(f"{folder}: its config.json cannot be read ({error}). Expected a folder of a CLIP image encoder, as "
                             "transformers saves it") from error
    if not isinstance(config, dict) or config.get("model_type") not in ("clip_vision_model", "clip"):
        raise ModelFileError(f"{folder}: its config.json is not of a CLIP image encoder. Expected a folder with the model_type "
                             "clip_vision_model, as transformers saves it")
    described = config.get("vision_config", config) if config["model_type"] == "clip" else config
    values = {**described, "projection_dim": config.get("projection_dim", described.get("projection_dim", 512))}
    numbers = ("projection_dim", "hidden_size", "image_size")
    defaults = {"hidden_size": 768, "image_size": 224}
    for name in numbers:
        values[name] = values.get(name, defaults.get(name, 512))
        if type(values[name]) is not int or not 1 <= values[name] <= 65536:
            raise ModelFileError(f"{folder}: {name} in its config.json is {values[name]!r}; expected a number of 1 to 65536")
    return values


def _of_transformers(folder: Path) -> ImageEncoder:
    from transformers import CLIPVisionModelWithProjection

    config = _config(folder)
    if not any(folder.glob("*.safetensors")):
        raise ModelFileError(f"{folder}: holds no .safetensors file; other formats can run code. Convert its weights first")
    try:
        module: Any = CLIPVisionModelWithProjection.from_pretrained(folder, local_files_only=True, use_safetensors=True)
    except Exception as error:  # transformers raises errors of many types for damaged folders
        reason = " ".join(str(error).split())[:200]
        raise ModelFileError(f"{folder}: cannot be loaded as a CLIP image encoder ({reason})") from error
    return _transformers_encoder(module, _preprocessing(folder, config["image_size"]))


def _transformers_encoder(model: Any, preprocess: Preprocess) -> ImageEncoder:
    module = model.float().eval().requires_grad_(False)
    return ImageEncoder(module=module, preprocess=preprocess,
                        pooled=lambda pixels: module(pixels).image_embeds,
                        penultimate=lambda pixels: module(pixels, output_hidden_states=True).hidden_states[-2])


def _preprocessing(folder: Path, size: int) -> Preprocess:
    """As preprocessor_config.json says, or CLIP's own without one."""
    own = Preprocess(image_size=size, mean=USUAL.mean, std=USUAL.std)
    if not (folder / PREPROCESSING).is_file():
        return own
    try:
        given = json.loads((folder / PREPROCESSING).read_text(encoding="utf-8"))
        mean, std = (tuple(float(v) for v in given.get(name, default))
                     for name, default in (("image_mean", USUAL.mean), ("image_std", USUAL.std)))
        resample = given.get("resample", 3)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ModelFileError(f"{folder}: its {PREPROCESSING} cannot be read ({error})") from error
    if len(mean) != 3 or len(std) != 3 or not all(std) or resample != 3:
        raise ModelFileError(f"{folder}: {PREPROCESSING} asks for mean {mean}, std {std}, resample {resample}; expected three "
                             "numbers each, and bicubic (3)")
    return replace(own, mean=mean, std=std)
