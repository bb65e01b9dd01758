"""The input and output of metrics: frozen data, arrays only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness.records import ValueSpec

if TYPE_CHECKING:
    from harness.metrics.clip import ClipScorer


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """Images of one candidate with their prompts. `images` and `references` are uint8 RGB of shape (n, h, w, 3).

    A reference is the baseline's image at the same prompt, seed and guidance; without references, `why_no_reference` gives
    the reason. `styles` are the suite's styles by name, each with its text. Float images are refused, because their range
    (0..1 or 0..255) is ambiguous.
    """

    images: NDArray[np.uint8]
    texts: tuple[str, ...]
    references: NDArray[np.uint8] | None = None
    why_no_reference: str = ""
    device: str = "cpu"
    clip: ClipScorer | None = None
    styles: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, array in (("images", self.images), ("references", self.references)):
            if array is not None and (array.dtype != np.uint8 or array.ndim != 4 or array.shape[-1] != 3):
                raise ValueError(f"{name}: expected uint8 of shape (n, h, w, 3), given {array.dtype} {array.shape}")
        if len(self.texts) != len(self.images):
            raise ValueError(f"{len(self.images)} images but {len(self.texts)} texts; give one prompt per image")
        if self.references is not None and self.references.shape != self.images.shape:
            raise ValueError(f"references {self.references.shape} must have the shape of images {self.images.shape}")

    def no_reference(self, name: str) -> dict[str, str]:
        """The `missing` entry of a value whose reference image was not given."""
        return {name: self.why_no_reference or "no reference image of the same prompt, seed and guidance"}


@dataclass(frozen=True, kw_only=True)
class ImageScore:
    """One metric on one image: every name of its specs is in `values` or, with the reason, in `missing`."""

    values: Mapping[str, float] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A row of METRICS: the function, and a ValueSpec for each value it gives. `version` increases whenever the same image would
    get another number. `needs_clip` asks for the suite's CLIP model. `uses_styles` says that the values also depend on the
    suite's styles."""

    measure: Callable[[ImageSet], list[ImageScore]]
    version: int
    values: tuple[ValueSpec, ...]
    paper: str = ""
    needs_clip: bool = False
    uses_styles: bool = False

    @property
    def paired(self) -> bool:
        """Whether any of its values needs the baseline's image."""
        return any(spec.paired for spec in self.values)

    def rows(self, name: str) -> tuple[ValueSpec, ...]:
        """The rows of its values, with the metric's `name`, version and paper filled in."""
        return tuple(replace(spec, metric=name, version=self.version, paper=self.paper) for spec in self.values)
