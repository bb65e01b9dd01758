"""A live text encoder that is executed as an exported graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.materialise.live_graph import LiveGraph
from harness.text.encoder_forward import states_by_layer
from harness.text.tokens import Layout
from harness.text.treatment import Word
from harness.weights import TextEncoder

if TYPE_CHECKING:
    import torch


@dataclass(kw_only=True)
class ExportedText(LiveGraph):
    """A text encoder of a frame in an exported runtime."""

    encoder: TextEncoder

    def __call__(self, ids: torch.Tensor, vectors: torch.Tensor, replaced: torch.Tensor) -> torch.Tensor:
        """All states and the pooled embedding of a text, in the order of `harness.runtimes.text_entry`."""
        return self.run((int(ids.shape[1]),), {"ids": ids, "vectors": vectors, "replaced": replaced})

    def eager(self, given: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """What the live encoder gives for the same text, with the vectors in place by the hooks that every text has."""
        places = given["replaced"][0, :, 0].nonzero()[:, 0].tolist()
        words = [Word(component=self.component, token=str(place), vectors=given["vectors"][0, place:place + 1])
                 for place in places]
        layout = Layout(ids=tuple(given["ids"][0].tolist()), weights=(1.0,) * given["ids"].shape[1], dropped=(),
                        rows=tuple((place, word, 0) for place, word in zip(places, words, strict=True)), occurring=frozenset())
        return states_by_layer(self.encoder, self.live_module, layout)
