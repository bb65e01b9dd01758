"""The IP-Adapters of candidates beside their live U-Nets, with the encoders of their pictures: opened and checked once, and kept
while they are used."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.declare import Candidate, Prompt, Reference, short_hash
from harness.declare.picture_file import read_picture, size_of_picture
from harness.hub import PREFIX, address_of
from harness.materialise.library import Library, MaterialiseError, frame_of
from harness.materialise.whole_names import denoiser_names
from harness.merge.alpha_by_key import WhereError, alphas_by_key
from harness.merge.requested import requested_weights, unmet
from harness.metrics.clip_reference import EMBEDDED, is_tagged, parsed, weights_of
from harness.records import Coverage
from harness.reference.attention import show_pictures
from harness.reference.encoders import (
    ImageEncoder,
    encoder_width,
    encoder_without_values,
    load_encoder,
    refuse_other_encoder,
)
from harness.reference.kinds import PLAIN
from harness.reference.live import LiveReference
from harness.reference.projection import plain_projection, plus_projection
from harness.reference.reading import ImagePrompt, cross_attentions, read_image_prompt, refuse_misfit
from harness.samplers import called_by_diffusers
from harness.weights import Pipeline
from harness.weights.placing import lent

if TYPE_CHECKING:
    from torch import Tensor

REFERENCE_VERSION = 1
"""Raise it when the same picture, IP-Adapter and encoder give another image."""


def encoder_of(reference: Reference) -> str:
    """The declared encoder. A suite replaces an empty one by its CLIP model."""
    return reference.encoder or EMBEDDED


def encoder_file(reference: Reference) -> str:
    """The file or folder of the encoder, or its `zoo:` name."""
    encoder = encoder_of(reference)
    address = address_of(encoder)
    if address is not None and address.is_folder:
        return encoder
    return weights_of(encoder) if ":" in encoder or is_tagged(encoder) else encoder


@dataclass(kw_only=True)
class ReferenceNets:
    """The IP-Adapters and image encoders of one workbench. `library` resolves their paths and notices files that change."""

    library: Library
    _files: dict[Path, ImagePrompt] = field(default_factory=dict)
    _parts: dict[Path, tuple[Any, list[tuple[Tensor, Tensor]]]] = field(default_factory=dict)
    """The projection, and the weights of keys and values by cross attention."""
    _on_device: dict[tuple[Path, str], tuple[tuple[Tensor, ...], tuple[Tensor, ...]]] = field(default_factory=dict)
    """The same on a device."""
    _encoders: dict[str, ImageEncoder] = field(default_factory=dict)
    _shapes: dict[str, ImageEncoder] = field(default_factory=dict)
    """Encoders without values."""

    def inspect(self, candidate: Candidate, shape: Pipeline | None) -> None:
        """Raises the errors of a candidate's references that headers show. `shape` is its model without values; None for a family
        whose models have no U-Net."""
        for reference in candidate.references:
            if shape is None or called_by_diffusers(shape.family):
                family = "" if shape is None else f" {shape.family}"
                raise MaterialiseError(f"reference {reference.path!r}: references are supported for U-Nets (Stable Diffusion 1, "
                                       "2 "
                                       f"and XL), and not for models of the family{family}; remove references")
            prompt = self._file(reference)
            layers = _layers(shape)
            refuse_misfit(prompt, layers, frame_of(candidate.model).path)
            self._weights(reference, candidate, list(layers))
            path = self.library.path(encoder_file(reference))
            if not path.exists():
                raise MaterialiseError(f"reference {reference.path!r}: the encoder {encoder_of(reference)!r} does not exist "
                                       "below "
                                       f"{self.library.root}; give 'ARCHITECTURE:file', or a transformers folder")
            refuse_other_encoder(prompt, encoder_of(reference), encoder_width(prompt, encoder_of(reference),
                                                                              path if path.is_dir() else None))

    def show(self, candidate: Candidate, unet: Any, shape: Pipeline) -> None:
        """Lets the cross attention of a live U-Net see pictures, if any of the candidate's references acts."""
        if any(reference.weight != 0 for reference in candidate.references):
            show_pictures(unet, _paths(shape))

    def without_values_beside(self, candidate: Candidate, pipeline: Pipeline, shape: Pipeline) -> tuple[LiveReference, ...]:
        """The references that act, on the meta device, beside a pipeline there, whose cross attention sees pictures then."""
        paths = _paths(shape)
        self.show(candidate, pipeline.unet, shape)
        return tuple(self._without_values(reference, weights) for reference in candidate.references
                     if any(weights := self._weights(reference, candidate, paths)))

    def _without_values(self, reference: Reference, weights: tuple[float, ...]) -> LiveReference:
        prompt, name = self._file(reference), encoder_of(reference)
        if name not in self._shapes:
            self._shapes[name] = encoder_without_values(name, self.library.path(encoder_file(reference)))
        encoder, (tensors, attention) = self._shapes[name], prompt.without_values()
        projection = (plain_projection if prompt.kind == PLAIN else plus_projection)(tensors)
        return LiveReference(
            identity=identity_of(reference), weights=weights, modules=lambda: (projection, encoder.module),
            tokens=lambda _: projection(encoder.embedding(prompt.kind, None))[0],
            keys=tuple(key for key, _ in attention), values=tuple(value for _, value in attention),
            files=(str(prompt.path), name))

    def live(self, candidate: Candidate, pipeline: Pipeline, shape: Pipeline) -> tuple[LiveReference, ...]:
        """The candidate's references beside a live pipeline, in the declared order; without those of weight 0."""
        paths, references = _paths(shape), []
        for reference in candidate.references:
            weights = self._weights(reference, candidate, paths)
            if any(weights):
                keys, values = self._attention(reference, pipeline.device)
                references.append(LiveReference(
                    identity=identity_of(reference), weights=weights, keys=keys, values=values,
                    tokens=partial(self._tokens, reference, pipeline.device), modules=partial(self._modules, reference),
                    files=(str(self._file(reference).path), encoder_of(reference))))
        return tuple(references)

    def keep(self, stages: Collection[Candidate]) -> None:
        """Frees the IP-Adapters and encoders that none of a candidate's stages uses."""
        used = [reference for stage in stages for reference in stage.references]
        paths = {self.library.path(reference.path) for reference in used}
        for path in [path for path in self._parts if path not in paths]:
            del self._parts[path]
        for place in [place for place in self._on_device if place[0] not in paths]:
            del self._on_device[place]
        for encoder in [encoder for encoder in self._encoders if encoder not in {encoder_of(reference) for reference in used}]:
            del self._encoders[encoder]

    def coverage(self, candidate: Candidate, prompts: Collection[Prompt]) -> Iterator[Coverage]:
        """A row for each IP-Adapter: its tensors, its kind, its encoder, and what of the pictures is cropped."""
        for reference in candidate.references:
            prompt = self._file(reference)
            yield Coverage(candidate=candidate.name, stage=f"reference {reference.path} of {reference.picture}",
                           component="reference", keys={"applied": tuple(prompt.file.stored)},
                           notes=tuple(self._notes(reference, prompt, prompts)))

    def _notes(self, reference: Reference, prompt: ImagePrompt, prompts: Collection[Prompt]) -> Iterator[str]:
        yield f"weight {reference.weight:g}"
        if reference.weight == 0:
            yield "the weight is 0, so it is not run"
        if reference.blocks is not None:
            yield f"blocks {reference.blocks}"
        if (reference.start, reference.end) != (0, 1):
            yield f"steps from {reference.start:g} to {reference.end:g} of the way"
        yield f"kind {prompt.kind}, {prompt.tokens} tokens, encoder {encoder_of(reference)}"
        files = {one.pictures[reference.picture] for one in prompts if reference.picture in one.pictures}
        if cropped := {file: lost for file in sorted(files) if (lost := self._cropped(file))}:
            file, lost = max(cropped.items(), key=lambda item: item[1])
            yield (f"{len(cropped)} reference pictures are cropped to their middle square: the encoder does not see {lost:.0%} "
                   f"of {file}")

    def _cropped(self, file: str) -> float:
        width, height = size_of_picture(self.library.path(file))
        return 1 - min(width, height) / max(width, height)

    def _file(self, reference: Reference) -> ImagePrompt:
        path = self.library.path(reference.path)
        if path not in self._files:
            self.library.refuse_changed([reference.path])
            self._files[path] = read_image_prompt(path)
        return self._files[path]

    def _part(self, reference: Reference) -> tuple[Any, list[tuple[Tensor, Tensor]]]:
        prompt = self._file(reference)
        if prompt.path not in self._parts:
            project = plain_projection if prompt.kind == PLAIN else plus_projection
            self._parts[prompt.path] = project(prompt.projection_tensors()), prompt.attention_tensors()
            self.library.refuse_changed([reference.path])
        return self._parts[prompt.path]

    def _attention(self, reference: Reference, device: Any) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Keys and values on the device, once for all that show a picture by this IP-Adapter."""
        place = self._file(reference).path, str(device)
        if place not in self._on_device:
            _, attention = self._part(reference)
            self._on_device[place] = (tuple(key.to(device) for key, _ in attention),
                                      tuple(value.to(device) for _, value in attention))
        return self._on_device[place]

    def _encoder(self, reference: Reference) -> ImageEncoder:
        encoder, file = encoder_of(reference), encoder_file(reference)
        if encoder not in self._encoders:
            self.library.refuse_changed([file])
            self._encoders[encoder] = load_encoder(encoder, self.library.path(file))
            self.library.refuse_changed([file])
        return self._encoders[encoder]

    def _tokens(self, reference: Reference, device: Any, prompt: Prompt | None) -> Tensor:
        """The image tokens (tokens, width) of a prompt's picture, float32 on the device; those of the negative branch without."""
        picture = None if prompt is None else read_picture(self.library.path(self._picture(reference, prompt)))
        projection, _ = self._part(reference)
        encoder, kind = self._encoder(reference), self._file(reference).kind
        with lent([encoder.module, projection], device):
            tokens: Tensor = projection(encoder.embedding(kind, picture))[0]
        if prompt is not None:
            self.library.refuse_changed([self._picture(reference, prompt)])
        return tokens

    def _modules(self, reference: Reference) -> tuple[Any, ...]:
        projection, _ = self._part(reference)
        return projection, self._encoder(reference).module

    @staticmethod
    def _picture(reference: Reference, prompt: Prompt) -> str:
        if reference.picture not in prompt.pictures:
            raise MaterialiseError(f"prompt {prompt.id!r} has no picture {reference.picture!r}; give "
                                   f"Prompt(pictures={{{reference.picture!r}: ...}})")
        return prompt.pictures[reference.picture]

    def _weights(self, reference: Reference, candidate: Candidate, paths: list[str]) -> tuple[float, ...]:
        """The weight of each cross attention: the reference's times the block's. Raises MaterialiseError for blocks that name
        nothing of the cross attention."""
        if reference.blocks is None:
            return (reference.weight,) * len(paths)
        model = self.library.open(frame_of(candidate.model))
        names: Mapping[str, str] = {f"{path}.to_k.weight": model.original_unet_names[f"{path}.to_k.weight"] for path in paths}
        try:
            by_key = alphas_by_key(reference.blocks, "unet", names, family=model.family, denoiser=denoiser_names(model))
        except WhereError as error:
            raise MaterialiseError(f"reference {reference.path!r}: blocks: {error}") from error
        if problems := unmet(requested_weights(reference.blocks, [by_key])):
            raise MaterialiseError(f"reference {reference.path!r}: {problems[0]}. Patterns are of the names of cross attentions, "
                                   f"such as {next(iter(names))!r}")
        return tuple(reference.weight * by_key.values[name] for name in names)


def _layers(shape: Pipeline) -> dict[str, tuple[int, ...]]:
    return cross_attentions({key: tuple(value.shape) for key, value in shape.unet.state_dict().items()})


def _paths(shape: Pipeline) -> list[str]:
    return list(_layers(shape))


def identity_of(reference: Reference) -> str:
    """What tells the image tokens of a reference from those of others in one session: weight, blocks and steps do not count."""
    return short_hash([reference.path, encoder_of(reference), reference.picture])


def by_content(reference: Reference, inputs: Mapping[str, str]) -> Reference:
    """The reference with the encoder's file replaced by its content, so that a renamed file gives the same candidate."""
    encoder, file = encoder_of(reference), encoder_file(reference)
    if file not in inputs:
        return replace(reference, encoder=encoder)
    given = parsed(encoder) if encoder.startswith(PREFIX) or is_tagged(encoder.partition(":")[0]) else None
    return replace(reference, encoder=f"{given.model}:{inputs[file]}" if given else encoder.replace(file, inputs[file]))
