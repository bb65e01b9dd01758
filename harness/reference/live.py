"""A reference that is live beside a U-Net: what its picture is read as, and what each cross attention is given of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from harness.declare import Prompt

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from harness.reference.attention import Shown

NO_PICTURE: Final = ""
"""In place of a prompt's id: what the negative branch is given."""


@dataclass(frozen=True, kw_only=True)
class LiveReference:
    """An IP-Adapter with its encoder. `tokens` gives the image tokens (tokens, width) of a prompt's picture, or, without a
    prompt, those of the negative branch; `identity` changes exactly when they change. `keys` and `values` are the weights (inner
    width, width) of each cross attention in the order of files, and `weights` says how strongly each of them sees the picture.
    `modules` gives what makes tokens of a picture: the projection and the image encoder. `files` are the IP-Adapter's and the
    encoder's: references of one file have the same weights."""

    identity: str
    tokens: Callable[[Prompt | None], Tensor]
    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    weights: tuple[float, ...]
    modules: Callable[[], tuple[Any, ...]] = tuple
    files: tuple[str, str] = ("", "")

    def shown(self, tokens: Tensor, dtype: torch.dtype) -> Shown:
        """What the cross attentions are given of image tokens (n, tokens, width)."""
        import torch
        from torch.nn.functional import linear

        def layer(place: int) -> tuple[Tensor, Tensor, Tensor] | None:
            if self.weights[place] == 0:
                return None
            key, value = (linear(tokens, half[place]).to(dtype) for half in (self.keys, self.values))
            return key, value, torch.tensor(self.weights[place], dtype=torch.float32, device=tokens.device).to(dtype)

        return tuple(map(layer, range(len(self.weights))))


Pictures = Mapping[tuple[str, str], "Tensor"]
"""What is read of pictures, by (identity of a reference, prompt id)."""


def read_pictures(references: Sequence[LiveReference], prompts: Sequence[Prompt]) -> dict[tuple[str, str], Tensor]:
    """The image tokens of every prompt and of the negative branch, one picture at a time, so that they depend on no other."""
    import torch

    pictures: dict[tuple[str, str], Tensor] = {}
    with torch.inference_mode():
        for reference in references:
            pictures[reference.identity, NO_PICTURE] = reference.tokens(None)
            for prompt in prompts:
                pictures[reference.identity, prompt.id] = reference.tokens(prompt)
    return pictures


def reference_inputs(references: Sequence[LiveReference], pictures: Pictures, rows: Sequence[str],
                     dtype: torch.dtype) -> tuple[Shown, ...]:
    """What a U-Net's cross attentions are given of each reference in a batch. `rows` are the ids of the prompts of its rows, or
    NO_PICTURE for those of the negative branch: each row is given its own picture alone."""
    import torch

    return tuple(reference.shown(torch.stack([pictures[reference.identity, row] for row in rows]), dtype)
                 for reference in references)
