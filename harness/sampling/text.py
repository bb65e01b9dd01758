"""The embeddings of all texts of a grid for one state of the text encoders. Candidates with the same state share them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from harness.declare import Prompt
from harness.declare.same_text import prompts_hash
from harness.records import Coverage
from harness.records.images import PROMPTS
from harness.text import Treatment, embed
from harness.text.tokens import Layout, lay_out
from harness.text.two_words import as_written

if TYPE_CHECKING:
    import torch

    from harness.weights import Pipeline, TextEncoder


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """The denoiser's inputs for one text: `states` (tokens, width), and the `pooled` embedding (width,) if it takes one."""

    states: torch.Tensor
    pooled: torch.Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class TextState:
    """`positive` and `negative` conditions by text, on the device. `dropped` names by text the tokens that did not fit;
    `occurring` are the words and phrases of the treatment that occur in any text."""

    positive: Mapping[str, Conditions]
    negative: Mapping[str, Conditions]
    dropped: Mapping[str, tuple[str, ...]]
    occurring: frozenset[str] = frozenset()


def encode(pipeline: Pipeline, prompts: Iterable[Prompt], treatment: Treatment | None = None, *,
           negatives: bool = True) -> TextState:
    """Embeds each different text once, one at a time, so that an embedding never depends on its neighbours.

    Negative prompts get the words of the treatment and nothing else of it.
    """
    if pipeline.called is not None:
        # The diffusers pipeline embeds the texts itself; treatments were refused before.
        return TextState(positive={}, negative={}, dropped={})
    listed = tuple(prompts)
    declared = treatment or Treatment()
    treated = as_written(declared, (text for p in listed for text in (p.text, *([p.negative] if negatives else []))))
    plain = replace(treated, weights={}, aesthetic=None)
    dropped: dict[str, tuple[str, ...]] = {}
    occurring: set[str] = set()

    def conditions(texts: Iterable[str], how: Treatment) -> dict[str, Conditions]:
        conditions_by_text = {}
        for text in dict.fromkeys(texts):
            parts = [embed(encoder, text, how) for encoder in pipeline.encoders]
            occurring.update(*(part.occurring for part in parts))
            if cut := max((part.dropped for part in parts), key=len):
                dropped[text] = cut
            pooled = [part.pooled for part in parts if part.pooled is not None]
            conditions_by_text[text] = Conditions(states=_joined([part.states for part in parts]),
                                                  pooled=pooled[-1] if pooled else None)
        return conditions_by_text

    positive = conditions((p.text for p in listed), treated)
    negative = conditions((p.negative for p in listed), plain) if negatives else {}
    # A word that occurs as the name of its file does occur.
    occurring |= {word.token for word, written in zip(declared.words, treated.words, strict=True) if written.token in occurring}
    return TextState(positive=positive, negative=negative, dropped=dropped, occurring=frozenset(occurring))


def named(treatment: Treatment) -> set[str]:
    """The words and phrases of a treatment, which some prompt should contain."""
    return {word.token for word in treatment.words} | set(treatment.weights)


def coverage_of_prompts(candidate: str, prompts: Sequence[Prompt], encoders: Sequence[TextEncoder],
                        treatments: Iterable[Treatment]) -> Coverage:
    """A row that says which prompts do not fit the text encoder, by how many tokens, and which words of the treatments occur. It
    depends on tokenizers and words alone; no weight is used. Of several encoders the one that drops most counts."""
    cut: dict[str, Layout] = {}
    occurring: set[str] = set()
    texts = dict.fromkeys(text for prompt in prompts for text in (prompt.text, prompt.negative))
    for treatment in (as_written(given, texts) for given in treatments):
        for text in texts:
            for encoder in encoders:
                layout = lay_out(encoder, text, treatment)
                occurring |= layout.occurring
                if layout.dropped_tokens > (cut[text].dropped_tokens if text in cut else 0):
                    cut[text] = layout
    places = {f"{prompt.id} ({role})": text for prompt in prompts
              for role, text in (("prompt", prompt.text), ("negative", prompt.negative)) if text or role == "prompt"}
    notes = tuple(f"{place}: {cut[text].dropped_tokens} tokens do not fit and are cut off: {' '.join(cut[text].dropped)}"
                  for place, text in places.items() if text in cut)
    keys = {"whole": tuple(place for place, text in places.items() if text not in cut),
            "shortened": tuple(place for place, text in places.items() if text in cut),
            "applied": tuple(f"word {word!r}" for word in sorted(occurring))}
    return Coverage(candidate=candidate, stage=PROMPTS, component="text_encoder", notes=notes, setting=prompts_hash(prompts),
                    keys={status: names for status, names in keys.items() if names})


def _joined(states: list[torch.Tensor]) -> torch.Tensor:
    """States of several encoders side by side, as SDXL takes them: (tokens, width 1 + width 2)."""
    import torch

    return states[0] if len(states) == 1 else torch.cat(states, dim=-1)
