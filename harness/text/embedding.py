"""Embeds one text with one encoder and one treatment."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from harness.declare.syntax import PLAIN as PLAIN_SYNTAX
from harness.declare.syntax import SYNTAXES, Text
from harness.text.aesthetic import active, steered
from harness.text.encoder_forward import Outputs, pass_through
from harness.text.tokens import Layout, as_text, in_chunks, lay_out
from harness.text.treatment import PLAIN, Embedded, Treatment
from harness.text.weighting import weighting
from harness.weights.upload import sent

if TYPE_CHECKING:
    from torch import Tensor

    from harness.weights.pipeline import TextEncoder


def embed(encoder: TextEncoder, text: Text | str, treatment: Treatment = PLAIN, *, chunks: int = 1) -> Embedded:
    """Embeds one text alone, so an embedding never depends on other texts.

    states = (1 - a) * weighted(z) + a * z', where z are the encoder's states with the words' vectors in place, a is the
    aesthetic's weight and z' the states of the steered encoder. As in A1111, z' is not weighted. The pooled embedding depends
    on the words, but not on weights or aesthetic: tools only weight the states, and aesthetic gradients were made for models
    without a pooled embedding. Without a treatment, with weights of 1, and with an aesthetic of weight, steps or rate 0, the
    bits are those of the encoder alone. The weights that a text has by its own markup are applied as its tool does.

    A text that does not fit is embedded in chunks, each as a text of its own, at least `chunks` of them: their states follow one
    another, and the pooled embedding is that of the first. Raises ValueError for a treatment that cannot be applied to this
    encoder.
    """
    import torch

    layouts = in_chunks(encoder, text, treatment, chunks)
    if (syntax := as_text(text).syntax) != PLAIN_SYNTAX:
        treatment = replace(treatment, method=SYNTAXES[syntax].weighting)
    outputs = [_embedded(encoder, layout, treatment) for layout in layouts]
    with torch.inference_mode():
        states = torch.cat([out.states for out in outputs]) if len(outputs) > 1 else outputs[0].states
    return Embedded(states=states, pooled=outputs[0].pooled, occurring=layouts[0].occurring)


def _embedded(encoder: TextEncoder, layout: Layout, treatment: Treatment) -> Outputs:
    """The outputs for one layout with weights and aesthetic applied."""
    import torch

    row = weighting(treatment.method)
    with torch.inference_mode():
        out = pass_through(encoder, encoder.module, layout, treatment.clip_skip)
        states = out.states
        if any(weight != 1 for weight in layout.weights):
            empty = _empty(encoder, treatment.clip_skip).states.float() if row.needs_empty else states.float()
            weights = sent(torch.tensor(layout.weights), states.device).unsqueeze(1)
            states = row.function(states.float(), weights, empty).to(states.dtype)
    if treatment.aesthetic is not None and active(treatment.aesthetic, encoder):
        other = steered(encoder, layout, treatment.aesthetic, treatment.clip_skip)
        with torch.inference_mode():
            states = _between(states, other, treatment.aesthetic.weight)
    return replace(out, states=states)


def _empty(encoder: TextEncoder, clip_skip: int | None) -> Outputs:
    layout: Layout = lay_out(encoder, "", PLAIN)
    return pass_through(encoder, encoder.module, layout, clip_skip)


def _between(states: Tensor, other: Tensor, weight: float) -> Tensor:
    return ((1 - weight) * states.float() + weight * other.float()).to(states.dtype)
