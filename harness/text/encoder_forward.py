"""One pass of a layout through a text encoder: the states that condition the denoiser and the pooled embedding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.text.hooked_copy import Hook, twin
from harness.text.tokens import Layout
from harness.text.treatment import Word
from harness.weights.upload import sent

if TYPE_CHECKING:
    from torch import Tensor

    from harness.weights.pipeline import TextEncoder


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """`states` (tokens, width) of one text; `pooled` (width,) if the encoder has a pooled embedding, else None."""

    states: Tensor
    pooled: Tensor | None


def token_ids(layout: Layout, module: Any) -> Tensor:
    """The ids as a batch of one, int64, on the module's device."""
    import torch

    return sent(torch.tensor([layout.ids]), module.get_input_embeddings().weight.device)


def pass_through(encoder: TextEncoder, module: Any, layout: Layout) -> Outputs:
    """The outputs of `module` for a layout. `module` is `encoder.module` or a changed copy of it.

    The states of the last layer are the module's `last_hidden_state`. Those of the penultimate layer are the input of the
    last, which transformers calls hidden_states[-2]; they are taken from a twin, because transformers' own recording leaves
    hooks in the module's layers. The pooled embedding is `text_embeds`, the projected state at the first end token. Raises
    ValueError for an encoder that should pool but has no projection.
    """
    before: dict[str, Hook] = {}
    states: list[Tensor] = []
    if encoder.layer == "penultimate":
        before[_last_layer(encoder, module)] = lambda _, given: states.append(given[0])
    after = row_hooks(module, layout.rows)
    used = twin(module, before, after) if before or after else module
    # Twins must not use transformers' recording: it would add hooks to the layers that they share.
    out = used(token_ids(layout, module), return_dict=True, output_hidden_states=False)
    if encoder.pooled and getattr(out, "text_embeds", None) is None:
        raise ValueError(f"{encoder.component}: a {type(module).__name__} has no projection of the pooled text; expected a "
                         "CLIPTextModelWithProjection")
    return Outputs(states=states[0][0] if states else out.last_hidden_state[0],
                   pooled=out.text_embeds[0] if encoder.pooled else None)


def row_hooks(module: Any, rows: Sequence[tuple[int, Word, int]]) -> dict[str, Hook]:
    """Hooks for a twin that replace the input embeddings by the vectors of words at their positions.

    They replace rows of the embedding's output, before positions are added. A larger embedding with new token ids would give
    the same bits, but the end token's id would no longer be the largest.
    """
    import torch

    if not rows:
        return {}
    table = module.get_input_embeddings()
    places = [place for place, _, _ in rows]
    vectors = torch.stack([word.vectors[row] for _, word, row in rows]).detach()

    def put(_: Any, __: Any, embedded: Tensor) -> Tensor:
        mixed = embedded.clone()
        mixed[:, places] = vectors.to(mixed)
        return mixed

    return {path: put for path, inner in module.named_modules(remove_duplicate=False) if inner is table}


def _last_layer(encoder: TextEncoder, module: Any) -> str:
    inner, path = (module.text_model, "text_model.") if hasattr(module, "text_model") else (module, "")
    try:
        return f"{path}encoder.layers.{len(inner.encoder.layers) - 1}"
    except AttributeError:
        raise ValueError(f"{encoder.component}: a {type(module).__name__} has no layers like CLIP's, so it has no penultimate "
                         "layer") from None
