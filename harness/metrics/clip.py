"""The CLIP scorer: an open_clip model, its tokenizer and its preprocessing. Each of them changes the score and is recorded."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from harness.declare.nearest import did_you_mean
from harness.hub import HubError, place
from harness.metrics.clip_reference import (
    EMBEDDED,
    QUICK,
    ClipReference,
    ClipReferenceError,
    Pixels,
    other_activation,
    parsed,
    pixels_of,
    tag_of_file,
    tag_problem,
    weights_of,
)
from harness.metrics.text_parts import in_parts
from harness.weights.content import GGUF, SAFETENSORS, content_of, trouble_of
from harness.weights.linear_kernels import quick_linears

if TYPE_CHECKING:
    import torch

CHUNK: Final = 8
"""Images per forward pass. A shorter last chunk is padded with black images, so that the batch never changes a score."""


class ScorerError(ValueError):
    """A CLIP scorer that cannot be loaded, or whose scores would not be comparable."""


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """The preprocessing of pixels: resizing by Pillow (anti-aliased), then (x/255 - mean)/std, with open_clip's bits.

    `resize_mode` "shortest" scales the shorter side and crops the centre, "squash" scales both sides. `interpolation` is
    "bicubic" or "bilinear".
    """

    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize_mode: str = "shortest"
    interpolation: str = "bicubic"

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 (n, 3, h, w) to float32 (n, 3, size, size)."""
        return self.normalised(self.resized(images))

    def resized(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 (n, 3, h, w) to uint8 (n, 3, size, size), on the CPU.

        torch's own resize differs from Pillow's by an 8-bit step in one value of two thousand, which moves a score by
        2e-4 points, is no faster on a core, and would make the score depend on the device.
        """
        import torch

        if tuple(images.shape[-2:]) == (self.image_size, self.image_size):
            return images
        pictures = images.permute(0, 2, 3, 1).cpu().numpy()
        return torch.from_numpy(np.stack([self._resized(picture) for picture in pictures])).permute(0, 3, 1, 2)

    def normalised(self, pixels: torch.Tensor) -> torch.Tensor:
        """uint8 (n, 3, size, size) to float32, on the device of the pixels."""
        import torch

        mean, std = (torch.tensor(v, dtype=torch.float32, device=pixels.device).view(1, 3, 1, 1) for v in (self.mean, self.std))
        return (pixels.float() / 255.0 - mean) / std

    def _resized(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        from PIL import Image

        size = self.image_size
        height, width = picture.shape[:2]
        target = (size, size)
        if self.resize_mode == "shortest":
            short = min(height, width)
            target = (int(size * height / short), int(size * width / short))
        filtered = Image.Resampling[self.interpolation.upper()]
        scaled = Image.fromarray(np.ascontiguousarray(picture)).resize(target[::-1], filtered)
        top, left = round((target[0] - size) / 2), round((target[1] - size) / 2)
        return np.asarray(scaled)[top:top + size, left:left + size]


@dataclass(frozen=True, kw_only=True)
class ClipScorer:
    """An open_clip model (eval, fp32) with what belongs to it. `tokenizer` maps list[str] to int64 ids (n, context)."""

    name: str
    model: torch.nn.Module
    tokenizer: Callable[[list[str]], torch.Tensor]
    preprocess: Preprocess
    device: str = "cpu"
    _texts: dict[str, torch.Tensor] = field(default_factory=dict, repr=False, compare=False)
    _latest: dict[bytes, torch.Tensor] = field(default_factory=dict, repr=False, compare=False)
    """By their content, the embeddings of the images that were embedded last."""

    def scores(self, images: NDArray[np.uint8], texts: Sequence[str]) -> NDArray[np.float64]:
        """100 * cosine of image and text embedding, shape (n,), for uint8 RGB images (n, h, w, 3); raw, not clamped. The mean of
        its parts for a text that is longer than the model reads.

        Hessel et al., "CLIPScore" (2021), https://arxiv.org/abs/2104.08718, without its factor 2.5 and its clamp at 0.
        """
        import torch

        if not len(images):
            return np.zeros(0)
        with torch.inference_mode():
            image_embeddings = self._image_embeddings(images)
            text_embeddings = torch.stack([self._text_embedding(text) for text in texts])
            return np.asarray((100.0 * (image_embeddings * text_embeddings).sum(dim=-1)).double().cpu().numpy(), dtype=np.float64)

    def embeddings(self, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        """The embeddings of uint8 RGB images (n, h, w, 3), each of length 1: (n, width)."""
        import torch

        with torch.inference_mode():
            return np.asarray(self._image_embeddings(images).double().cpu().numpy(), dtype=np.float64)

    def against(self, images: NDArray[np.uint8], texts: Sequence[str]) -> NDArray[np.float64]:
        """Like `scores`, for every image (n, h, w, 3) with every one of k texts, shape (n, k); images are embedded once."""
        import torch

        if not len(images) or not texts:
            return np.zeros((len(images), len(texts)))
        with torch.inference_mode():
            image_embeddings = self._image_embeddings(images)
            text_embeddings = torch.stack([self._text_embedding(text) for text in texts])
            return np.asarray((100.0 * image_embeddings @ text_embeddings.T).double().cpu().numpy(), dtype=np.float64)

    def text_parts(self, text: str) -> int | None:
        """In how many parts the text is read; None when the tokenizer cannot tell how long it is."""
        parts = in_parts(self.tokenizer, text)
        return None if parts is None else len(parts)

    def definition(self) -> str:
        """All that a CLIP score depends on, in one line."""
        pre = self.preprocess
        return (f"100 * cos(image, text), raw cosine, not clamped; model {self.name}, weights sha256 "
                f"{state_hash(self.model)}, activation {activation(self.model)}; image {pre.image_size} px, "
                f"Pillow's {pre.interpolation} with anti-aliasing, {pre.resize_mode}, mean {pre.mean}, std {pre.std}; "
                f"longer texts in parts, averaged; fp32 on {self.device}")

    def _image_embeddings(self, images: NDArray[np.uint8]) -> torch.Tensor:
        """The embeddings (n, width) of images (n, h, w, 3). Several metrics ask for the same images one after the other."""
        pixels = np.ascontiguousarray(images)
        content = hashlib.sha256(pixels.tobytes()).digest() + repr(pixels.shape).encode()
        embedded = self._latest.get(content)
        if embedded is None:
            embedded = self._embedded(pixels)
            self._latest.clear()
            self._latest[content] = embedded
        return embedded

    def _embedded(self, images: NDArray[np.uint8]) -> torch.Tensor:
        import torch
        from torch.nn.functional import normalize, pad

        model: Any = self.model
        parts = []
        with quick_linears(getattr(model, "visual", None)):
            for chunk in torch.split(torch.from_numpy(images).permute(0, 3, 1, 2), CHUNK):
                full = pad(self.preprocess.resized(chunk), (0, 0, 0, 0, 0, 0, 0, CHUNK - len(chunk)))
                pixels = self.preprocess.normalised(full.to(self.device))
                parts.append(normalize(model.encode_image(pixels).float(), dim=-1)[: len(chunk)])
        return torch.cat(parts)

    def _text_embedding(self, text: str) -> torch.Tensor:
        """The embedding (width,) of a text. That of a longer text is the mean of its parts' embeddings, each of length 1, so that
        its product with an image is the mean of their cosines."""
        import torch
        from torch.nn.functional import normalize

        if text not in self._texts:
            model: Any = self.model
            ids = self.tokenizer([text])
            if (parts := in_parts(self.tokenizer, text)) is not None and len(parts) > 1:
                ids = torch.tensor(parts, dtype=ids.dtype)
            self._texts[text] = normalize(model.encode_text(ids.to(self.device)).float(), dim=-1).mean(dim=0)
        return self._texts[text]


def load_scorer(reference: str | Path = EMBEDDED, *, device: str = "cpu", pixels: Pixels | None = None,
                root: Path = Path()) -> ClipScorer:
    """The scorer of "zoo:clip", of "ARCHITECTURE:path" with an open_clip architecture and a local .safetensors file, or of
    "ARCHITECTURE/TAG" or "hub:OWNER/NAME" with published weights in the local cache of Hugging Face. Nothing is fetched. A
    relative path is resolved below `root`. `pixels` takes the place of the preparation of pictures that the weights were
    trained with.

    Raises ScorerError for an unknown architecture, a pickle, a missing file, a tokenizer that would have to be downloaded,
    weights whose name says QuickGELU for an architecture that has GELU (or the reverse), and weights that need a preparation
    of pictures that nothing names.
    """
    text = str(reference)
    if text == EMBEDDED:
        from harness.zoo import load_clip

        model, tokenizer, wanted = load_clip()
        preprocess = Preprocess(image_size=wanted["size"], mean=tuple(wanted["mean"]), std=tuple(wanted["std"]))
        return ClipScorer(name=text, model=model.to(device), tokenizer=tokenizer, preprocess=preprocess, device=device)
    given = parsed(text)
    if given is None:
        raise ScorerError(f"CLIP scorer {text!r}: expected {EMBEDDED!r}, 'ARCHITECTURE:path.safetensors' or 'ARCHITECTURE/TAG'")
    try:
        return _from_file(given, place(weights_of(text), root), device, pixels)
    except (ClipReferenceError, HubError) as error:
        raise ScorerError(f"CLIP scorer {text!r}: {error}") from error


def activation(model: torch.nn.Module) -> str:
    """The class name of the activation in the model's blocks: "GELU" or "QuickGELU"."""
    kinds = sorted({type(m).__name__ for m in model.modules()} & {"GELU", "QuickGELU"})
    return "+".join(kinds) or "unknown"


def state_hash(model: torch.nn.Module) -> str:
    """First 16 hex digits of the SHA-256 of names, dtypes, shapes and bytes of all tensors of the model."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def _from_file(given: ClipReference, path: Path, device: str, pixels: Pixels | None) -> ClipScorer:
    import open_clip

    architecture = given.model
    _check_file(architecture, path)
    if wrong := tag_problem(given):
        raise ScorerError(wrong)
    _check_activation(given, path)
    pixels = readable(architecture, pixels or pixels_of(given, path))
    with _as_safetensors(path) as named:
        model = open_clip.create_model(architecture, pretrained=str(named), precision="fp32", device=device).eval()
    size = model.visual.preprocess_cfg["size"]
    preprocess = Preprocess(image_size=size if isinstance(size, int) else size[0], mean=pixels.mean, std=pixels.std,
                            resize_mode=pixels.resize_mode, interpolation=pixels.interpolation)
    return ClipScorer(name=architecture, model=model, tokenizer=open_clip.get_tokenizer(architecture),
                      preprocess=preprocess, device=device)


def readable(architecture: str, pixels: Pixels) -> Pixels:
    """The same. Raises ScorerError for a preparation of pictures that Preprocess does not have."""
    if pixels.interpolation not in ("bicubic", "bilinear") or pixels.resize_mode not in ("shortest", "squash"):
        raise ScorerError(f"CLIP scorer {architecture}: pictures are to be resized by {pixels.interpolation!r} and "
                          f"{pixels.resize_mode!r}; expected 'bicubic' or 'bilinear', and 'shortest' or 'squash'. "
                          "Take another model")
    return pixels


@contextmanager
def _as_safetensors(path: Path) -> Iterator[Path]:
    """The file under a name by which open_clip knows a safetensors file: it goes by the suffix, and reads others as a pickle."""
    if path.suffix == ".safetensors":
        yield path
        return
    with TemporaryDirectory() as folder:
        link = Path(folder) / "weights.safetensors"
        link.symlink_to(path.resolve())
        yield link


def _check_file(architecture: str, path: Path) -> None:
    import open_clip

    config = open_clip.get_model_config(architecture)
    if config is None:
        similar = did_you_mean(architecture, open_clip.list_models(), list_known=False)
        raise ScorerError(f"unknown open_clip architecture {architecture!r}; {similar or 'open_clip.list_models() lists them'}")
    if "hf_tokenizer_name" in config["text_cfg"]:
        raise ScorerError(f"{architecture}: its tokenizer would have to be downloaded; choose an architecture with CLIP's own "
                          "tokenizer")
    content = content_of(path)
    if wrong := trouble_of(content):
        raise ScorerError(f"CLIP weights {path}: {wrong}")
    if content.kind == GGUF:
        raise ScorerError(f"CLIP weights {path}: a GGUF file; only safetensors files are read. Give the model as .safetensors")
    if content.kind != SAFETENSORS:
        raise ScorerError(f"CLIP weights {path}: a pickle; only safetensors files are read, because other formats can run code. "
                          "Convert it first")


def _check_activation(given: ClipReference, path: Path) -> None:
    """Raises ScorerError if the weights were trained with another activation. Weights do not say which, so the published tag
    decides."""
    tag = given.tag or tag_of_file(given.architecture, path)
    if better := other_activation(given.model, tag):
        wants, has = ("QuickGELU", "GELU") if better.endswith(QUICK) else ("GELU", "QuickGELU")
        raise ScorerError(f"{path.name}: weights {tag!r} were trained with {wants}, architecture {given.architecture!r} "
                          f"has {has}, and the scores would silently be wrong; use '{better}:{path}'")
