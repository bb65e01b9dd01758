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


def pass_through(encoder: TextEncoder, module: Any, layout: Layout, clip_skip: int | None = None) -> Outputs:
    """The outputs of `module` for a layout. `module` is `encoder.module` or a changed copy of it.

    The states of the last layer are the module's `last_hidden_state`. Those of an earlier one are the input of the layer after
    it, which transformers calls hidden_states; they are taken from a twin, because transformers' own recording leaves hooks in
    the module's layers. The pooled embedding is `text_embeds`, the projected state at the first end token.

    `clip_skip` n takes the layer that is n - 1 before the usual one, as diffusers does for n - 1 and A1111 for n: behind the
    final norm where the usual layer is the last, without it where that is the penultimate. Raises ValueError for a layer that
    is not there, and for an encoder that should pool but has no projection.
    """
    before: dict[str, Hook] = {}
    states: list[Tensor] = []
    skipped = (clip_skip or 1) - 1
    back = skipped + (encoder.layer == "penultimate")
    if encoder.executed is not None and module is encoder.module:
        return _executed(encoder, layout, back)
    if back:
        before[_layer_from_the_end(encoder, module, back)] = lambda _, given: states.append(given[0])
    after = row_hooks(module, layout.rows)
    used = twin(module, before, after) if before or after else module
    # Twins must not use transformers' recording: it would add hooks to the layers that they share.
    out = used(token_ids(layout, module), return_dict=True, output_hidden_states=False)
    if encoder.pooled and getattr(out, "text_embeds", None) is None:
        raise ValueError(f"{encoder.component}: a {type(module).__name__} has no projection of the pooled text; expected a "
                         "CLIPTextModelWithProjection")
    chosen = states[0] if states else out.last_hidden_state
    if states and encoder.layer == "last":
        chosen = _inner(module)[0].final_layer_norm(chosen)
    return Outputs(states=chosen[0], pooled=out.text_embeds[0] if encoder.pooled else None)


def states_by_layer(encoder: TextEncoder, module: Any, layout: Layout) -> Tensor:
    """The outputs of `module` for a layout in one row (1, numbers): the states of the last layer behind the final norm, those
    that the layers before it gave, from the last but one to the first, behind the same norm if the encoder takes its last layer,
    and the pooled embedding if it has one."""
    import torch

    inner, path = _inner(module)
    states: list[Tensor] = []
    note: Hook = lambda _, given: states.append(given[0])  # noqa: E731
    used = twin(module, {f"{path}encoder.layers.{place}": note for place in range(1, len(inner.encoder.layers))},
                row_hooks(module, layout.rows))
    out = used(token_ids(layout, module), return_dict=True, output_hidden_states=False)
    earlier = [inner.final_layer_norm(one) if encoder.layer == "last" else one for one in reversed(states)]
    parts = [out.last_hidden_state, *earlier, *([out.text_embeds] if encoder.pooled else [])]
    return torch.cat([part.flatten(1) for part in parts], dim=1)


def _executed(encoder: TextEncoder, layout: Layout, back: int) -> Outputs:
    """The outputs of what executes an encoder in place of its module, of the layer `back` layers before the last."""
    import torch

    module, tokens = encoder.module, len(layout.ids)
    if back:
        _layer_from_the_end(encoder, module, back)  # raises for one that is not there
    table, layers = module.get_input_embeddings().weight, len(_inner(module)[0].encoder.layers)
    vectors, replaced = torch.zeros(1, tokens, table.shape[1]), torch.zeros(1, tokens, 1)
    for place, word, row in layout.rows:
        vectors[0, place], replaced[0, place] = word.vectors[row].to(vectors), 1
    assert encoder.executed is not None
    every = encoder.executed(token_ids(layout, module), sent(vectors, table.device), sent(replaced, table.device))[0]
    states, pooled = every.to(table.dtype).tensor_split([layers * tokens * table.shape[1]])
    return Outputs(states=states.view(layers, tokens, -1)[back], pooled=pooled if encoder.pooled else None)


def clip_skip_problem(encoder: TextEncoder, clip_skip: int) -> str:
    """What is wrong with a clip_skip for an encoder; empty if nothing is."""
    try:
        layers = len(_inner(encoder.module)[0].encoder.layers)
    except AttributeError:
        return f"clip_skip: {encoder.component} is a {type(encoder.module).__name__}, which has no layers like CLIP's; remove it"
    most = layers - (encoder.layer == "penultimate")
    return "" if 1 <= clip_skip <= most else f"clip_skip is {clip_skip}; expected 1 to {most} for {encoder.component}"


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


def _inner(module: Any) -> tuple[Any, str]:
    """The module that has the layers, and its place."""
    return (module.text_model, "text_model.") if hasattr(module, "text_model") else (module, "")


def _layer_from_the_end(encoder: TextEncoder, module: Any, back: int) -> str:
    """The name of the layer whose input are the states `back` layers before the last."""
    inner, path = _inner(module)
    try:
        place = len(inner.encoder.layers) - back
    except AttributeError:
        raise ValueError(f"{encoder.component}: a {type(module).__name__} has no layers like CLIP's, so it has no penultimate "
                         "layer") from None
    if place < 1:
        raise ValueError(clip_skip_problem(encoder, back + (encoder.layer == "last")))
    return f"{path}encoder.layers.{place}"
