"""What a live pipeline of the folder's own class is made of, besides its modules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.own_pipelines.classes import OwnClass


@dataclass(frozen=True, kw_only=True)
class Own:
    """`kind` is the class of diffusers and `row` how it is called. `attributes` are the names that the class gives the parts of
    the live pipeline, and `beside` is all else that it is made of: tokenizers, processors, settings. `scheduler` is the class
    of the folder's scheduler."""

    kind: Any
    row: OwnClass
    attributes: Mapping[str, str]
    beside: Mapping[str, Any]
    scheduler: Any
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name of the class."""
        return str(self.kind.__name__)

    @property
    def tokenizers(self) -> dict[str, Any]:
        """The tokenizers by attribute, those of processors included."""
        found = {}
        for name, value in self.beside.items():
            inner = getattr(value, "tokenizer", value)
            if hasattr(inner, "model_max_length"):
                found[name] = inner
        return found
