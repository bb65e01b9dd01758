"""Prompts that bring adapters of their own: with which adapters a candidate makes the images of which prompts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePath

from harness.declare.candidate import Candidate
from harness.declare.grid import Prompt
from harness.declare.hub_names import file_name
from harness.declare.models import Adapter
from harness.declare.stage_candidates import with_named
from harness.declare.to_plain import short_hash


@dataclass(frozen=True, kw_only=True)
class PromptGroup:
    """The prompts that bring the same adapters, and the candidate with these: it makes their images."""

    candidate: Candidate
    adapters: tuple[Adapter, ...]
    prompts: tuple[str, ...]

    @property
    def label(self) -> str:
        """The adapters of the prompts in words: "with ink 0.8"; empty if they bring none."""
        return f"with {spelled(self.adapters)}" if self.adapters else ""


def for_prompt(candidate: Candidate, prompt: Prompt) -> Candidate:
    """The candidate with the adapters that a prompt brings, in every stage that reads the prompt."""
    return with_named(candidate, prompt.adapters) if prompt.adapters else candidate


def groups_of(candidate: Candidate, prompts: Iterable[Prompt]) -> tuple[PromptGroup, ...]:
    """The prompts by the adapters that they bring, in the order in which the prompts first name them. Most suites have one
    group."""
    listed: dict[str, list[Prompt]] = {}
    for prompt in prompts:
        listed.setdefault(short_hash(prompt.adapters) if prompt.adapters else "", []).append(prompt)
    return tuple(PromptGroup(candidate=for_prompt(candidate, first), adapters=first.adapters,
                             prompts=tuple(prompt.id for prompt in (first, *others)))
                 for first, *others in listed.values())


def declared_key(candidate: Candidate, prompts: Iterable[Prompt]) -> str:
    """The hash of a candidate's declaration, with the adapters that prompts bring where they bring any."""
    own = [[prompt.id, prompt.adapters] for prompt in prompts if prompt.adapters]
    return short_hash([candidate.key, own]) if own else candidate.key


def spelled(adapters: Iterable[Adapter]) -> str:
    """Adapters by the names of their files, with their weights: "ink 0.8, sketch 1"."""
    return ", ".join(f"{PurePath(file_name(adapter.path)).stem} {adapter.weight:g}{'' if adapter.blocks is None else ' by part'}"
                     for adapter in adapters)
