"""A CLIP text encoder as a graph of one text, with the vectors of words in the place of single tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from harness.runtimes.entry import Entry, Input, Size

if TYPE_CHECKING:
    import torch

_REPLACED: Final = 2
"""The position of the guard's text that has a vector in place of a token."""


def text_entry(*, normed: bool, pooled: bool) -> Entry:
    """The graph of a text encoder. Its output (1, numbers) holds the states of the last layer behind the final norm, those that
    the layers before it gave, from the last but one to the first, behind the same norm if they are `normed`, and the `pooled`
    embedding."""
    return Entry(name=f"text{' normed' if normed else ''}{' pooled' if pooled else ''}", inputs=_inputs, guard=_guard,
                 wrap=lambda bare: _wrap(bare, normed=normed, pooled=pooled))


def _inputs(config: Any, size: Size) -> tuple[Input, ...]:
    return (Input(name="ids", shape=(1, *size), dtype="int64"), Input(name="vectors", shape=(1, *size, config.hidden_size)),
            Input(name="replaced", shape=(1, *size, 1)))


def _wrap(bare: Any, *, normed: bool, pooled: bool) -> torch.nn.Module:
    import torch

    inner = getattr(bare, "text_model", bare)

    class Wrapped(torch.nn.Module):
        """A text encoder whose input embeddings are `vectors` where `replaced` is 1. Its hooks are its own."""

        def __init__(self) -> None:
            super().__init__()
            self.module = bare
            self._given: tuple[torch.Tensor, torch.Tensor] | None = None
            self._states: list[torch.Tensor] = []
            bare.get_input_embeddings().register_forward_hook(self._put)
            inner.embeddings.register_forward_pre_hook(self._number, with_kwargs=True)
            for layer in inner.encoder.layers[1:]:
                layer.register_forward_pre_hook(self._note)

        def _put(self, _: Any, __: Any, embedded: torch.Tensor) -> torch.Tensor:
            assert self._given is not None
            vectors, replaced = self._given
            return torch.where(replaced > 0, vectors, embedded)

        def _number(self, _: Any, given: Any, named: dict[str, Any]) -> Any:
            # The module's own positions are a buffer, of which the meta device has no values.
            assert self._given is not None
            vectors, _replaced = self._given
            return given, {**named, "position_ids": torch.arange(vectors.shape[1], device=vectors.device).unsqueeze(0)}

        def _note(self, _: Any, given: Any) -> None:
            self._states.append(given[0])

        def forward(self, ids: torch.Tensor, vectors: torch.Tensor, replaced: torch.Tensor) -> torch.Tensor:
            self._given, self._states = (vectors, replaced), []
            out = self.module(ids, return_dict=True, output_hidden_states=False)
            earlier = [inner.final_layer_norm(states) if normed else states for states in reversed(self._states)]
            parts = [out.last_hidden_state, *earlier, *([out.text_embeds] if pooled else [])]
            self._given, self._states = None, []
            return torch.cat([part.flatten(1) for part in parts], dim=1).float()

    return Wrapped()


def _guard(config: Any, size: Size) -> dict[str, torch.Tensor]:
    """A fixed text: the first token, drawn ones of which one is replaced by a vector, and ends."""
    import torch

    generator = torch.Generator().manual_seed(0)
    end = config.vocab_size - 1
    ids = torch.randint(0, max(end - 1, 1), (1, *size), generator=generator)
    ids[:, 0], ids[:, size[0] // 2:] = end - 1, end
    replaced = torch.zeros(1, *size, 1)
    replaced[:, _REPLACED] = 1
    # As large as embeddings are.
    return {"ids": ids, "vectors": 0.02 * torch.randn((1, *size, config.hidden_size), generator=generator), "replaced": replaced}
