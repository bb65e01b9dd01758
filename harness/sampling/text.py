"""The embeddings of all texts of a grid for one state of the text encoders. Candidates with the same state share them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from harness.declare import Prompt
from harness.declare.prompt_texts import POSITIVE, ROLES, all_texts
from harness.declare.syntax import Text
from harness.reference.live import read_pictures
from harness.text import Embedded, Treatment, embed
from harness.text.tokens import in_chunks
from harness.text.two_words import as_written
from harness.weights import embed_text
from harness.weights.placing import denoiser_away, lent, lent_in_turn

if TYPE_CHECKING:
    import torch

    from harness.weights import Pipeline


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """The denoiser's inputs for one text: `states` (tokens, width), and the `pooled` embedding (width,) if it takes one."""

    states: torch.Tensor
    pooled: torch.Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class TextState:
    """`positive` and `negative` conditions by text, on the device. `occurring` are the words and phrases of the treatment that
    occur in any text."""

    positive: Mapping[Text, Conditions]
    negative: Mapping[Text, Conditions]
    occurring: frozenset[str] = frozenset()
    pictures: Mapping[tuple[str, str], torch.Tensor] = field(default_factory=dict)
    """By the identity of what is guided by it and by the prompt's id: a control map (3, h, w), uint8 on the host, or the image
    tokens (tokens, width) of a reference picture, on the device."""


def encode(pipeline: Pipeline, prompts: Iterable[Prompt], treatment: Treatment | None = None, *, steps: int = 1,
           negatives: bool = True) -> TextState:
    """Embeds each different text that the prompts have along the steps once, one at a time, so that an embedding never depends on
    its neighbours. All encoders read a text in as many chunks as the one that needs most of them.

    Negative prompts get the words of the treatment and nothing else of it.
    """
    listed = tuple(prompts)
    if pipeline.own is not None:  # which reads the texts as it samples
        return TextState(positive={}, negative={})
    if pipeline.called is not None:
        # As its diffusers pipeline embeds them; treatments were refused before.
        return _embedded_by_diffusers(pipeline, listed, negatives)
    declared = treatment or Treatment()
    texts = {role: all_texts(listed, steps, (role,)) if negatives or role == POSITIVE else () for role in ROLES}
    treated = as_written(declared, (text for role in ROLES for text in texts[role]))
    plain = replace(treated, weights={}, aesthetic=None)
    occurring: set[str] = set()
    embedded: dict[tuple[str, Text], list[Embedded]] = {}
    chunks = {(role, text): max(len(in_chunks(encoder, text, how)) for encoder in pipeline.encoders)
              for role, how in zip(ROLES, (treated, plain), strict=True) for text in texts[role]}
    with room_for_texts(pipeline, max):
        for encoder in pipeline.encoders:  # one on the device at a time
            with lent([encoder.module], pipeline.device):
                for role, how in zip(ROLES, (treated, plain), strict=True):
                    for text in texts[role]:
                        embedded.setdefault((role, text), []).append(embed(encoder, text, how, chunks=chunks[role, text]))

    def conditions(role: str) -> dict[Text, Conditions]:
        conditions_by_text = {}
        for text in texts[role]:
            parts = embedded[role, text]
            occurring.update(*(part.occurring for part in parts))
            pooled = [part.pooled for part in parts if part.pooled is not None]
            conditions_by_text[text] = Conditions(states=_joined([part.states for part in parts]),
                                                  pooled=pooled[-1] if pooled else None)
        return conditions_by_text

    positive, negative = map(conditions, ROLES)
    # A word that occurs as the name of its file does occur.
    occurring |= {word.token for word, written in zip(declared.words, treated.words, strict=True) if written.token in occurring}
    return TextState(positive=positive, negative=negative, occurring=frozenset(occurring),
                     pictures={**control_maps(pipeline, listed), **read_pictures(pipeline.references, listed)})


def control_maps(pipeline: Pipeline, prompts: Iterable[Prompt]) -> dict[tuple[str, str], torch.Tensor]:
    """The maps of a pipeline's controls, by the control's `picture` and the prompt's id."""
    import torch

    readers = {control.picture: control.read for control in pipeline.controls if control.weight != 0 and control.read is not None}
    return {(picture, prompt.id): torch.from_numpy(read(prompt)).permute(2, 0, 1).contiguous()
            for picture, read in readers.items() for prompt in prompts}


@contextmanager
def at_text(pipeline: Pipeline) -> Iterator[None]:
    """Within the block all text encoders of a pipeline are on its device; where a transformer's have no room together, each while
    it runs."""
    modules = [encoder.module for encoder in pipeline.encoders]
    with room_for_texts(pipeline, sum):
        together = pipeline.called is None or not _lacks_room(pipeline, sum)
        with (lent if together else lent_in_turn)(modules, pipeline.device):
            yield


@contextmanager
def room_for_texts(pipeline: Pipeline, together: Callable[[Iterable[int]], int]) -> Iterator[None]:
    """Within the block the denoiser is on the host if it must make room on a GPU: a transformer always, as its encoders are as
    large as itself; a U-Net if there is too little free memory for the encoders `together`, the largest (max) or all (sum)."""
    leaving = pipeline.device.type != "cpu" and ("transformer" in pipeline.parts or _lacks_room(pipeline, together))
    with denoiser_away(pipeline) if leaving else nullcontext():
        yield


def _lacks_room(pipeline: Pipeline, together: Callable[[Iterable[int]], int]) -> bool:
    """Whether a GPU has too little free memory for the encoders that are on the host."""
    from harness.probes.available import SPARE_BYTES, device_memory
    from harness.quantize import stored_bytes

    if pipeline.device.type == "cpu":
        return False
    needed = together([stored_bytes(e.module) for e in pipeline.encoders if _on_host(e.module)] or [0])
    return device_memory(str(pipeline.device)).free < needed + SPARE_BYTES


def _on_host(module: Any) -> bool:
    return all(parameter.device.type == "cpu" for parameter in module.parameters())


def _embedded_by_diffusers(pipeline: Pipeline, prompts: Sequence[Prompt], negatives: bool) -> TextState:
    texts = {role: all_texts(prompts, 1, (role,)) if negatives or role == POSITIVE else () for role in ROLES}
    with at_text(pipeline):
        conditions = {}
        for text in dict.fromkeys(text for role in ROLES for text in texts[role]):
            states, pooled = embed_text(pipeline, text.words)
            conditions[text] = Conditions(states=states, pooled=pooled)
    positive, negative = ({text: conditions[text] for text in texts[role]} for role in ROLES)
    return TextState(positive=positive, negative=negative)


def _joined(states: list[torch.Tensor]) -> torch.Tensor:
    """States of several encoders side by side, as SDXL takes them: (tokens, width 1 + width 2)."""
    import torch

    return states[0] if len(states) == 1 else torch.cat(states, dim=-1)
