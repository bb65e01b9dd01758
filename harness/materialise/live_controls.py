"""The control networks of candidates beside their live U-Nets: opened and checked once, and kept while they are used."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.control.edge_map import EDGES_VERSION
from harness.control.layouts import CONTROL_LORA
from harness.control.maps import control_map, edges_drawn, map_identity, source_of
from harness.control.network import filled, network_without_values
from harness.control.reading import ControlFile, read_control
from harness.control.t2i_adapter import refuse_t2i_size
from harness.control.union import place_of_kind
from harness.declare import Candidate, Canny, Control, Prompt
from harness.declare.guiding import STAGE_BEFORE
from harness.materialise.library import Library, MaterialiseError, frame_of
from harness.records import Coverage
from harness.samplers import called_by_diffusers
from harness.weights import Pipeline, latent_shape
from harness.weights.pipeline import LiveControl
from harness.weights.placing import lend_layers

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

Merged = Callable[[Collection[str]], Mapping[str, "torch.Tensor"]]
"""The tensors of the model in use by name: its merged U-Net, without adapters."""


@dataclass(kw_only=True)
class ControlNets:
    """The networks of one workbench. `library` resolves their paths and notices files that change. With `lends` networks are kept
    on the host, and each layer is on the device only while it runs."""

    library: Library
    lends: bool = False
    _files: dict[Path, ControlFile] = field(default_factory=dict)
    _live: dict[tuple[Path, str, str, str], Any] = field(default_factory=dict)

    def inspect(self, candidate: Candidate, shape: Pipeline | None, size: tuple[int, int] | None = None) -> None:
        """Raises the errors of a candidate's controls that headers show. `shape` is its model without values; None for a family
        whose models have no U-Net. `size` is that of its images, where it is known."""
        for control in candidate.controls:
            if shape is None or called_by_diffusers(shape.family):
                family = "" if shape is None else f" {shape.family}"
                raise MaterialiseError(f"control {control.path!r}: controls are supported for U-Nets (Stable Diffusion 1, 2 and "
                                       f"XL), and not for models of the family{family}; remove controls")
            network, file = self.without_values(control, candidate, shape), self._file(control, candidate)
            place_of_kind(file, control.kind)
            if file.named.t2i and control.guess:
                raise MaterialiseError(f"control {control.path!r} is a T2I-Adapter, which has no guess mode; remove guess")
            if file.named.t2i and size is not None:
                refuse_t2i_size(file, network.config, size)

    def without_values(self, control: Control, candidate: Candidate, shape: Pipeline) -> Any:
        """The network of a control on the meta device. Raises ModelFileError if it does not fit the candidate's U-Net."""
        file = self._file(control, candidate)
        if not file.path.is_dir() and "shuffle" in file.path.stem.lower() and "global_pool_conditions" not in file.config:
            raise MaterialiseError(f"control {control.path!r} is a shuffle network by its name, which adds the mean of what it "
                                   "sees. A single file does not say so: give its diffusers folder, whose config.json does")
        side = 1024
        factor = side // latent_shape(shape, side, side)[1]
        return network_without_values(file, shape.unet.config, frame_of(candidate.model).path, factor)

    def without_values_beside(self, candidate: Candidate, pipeline: Pipeline) -> tuple[LiveControl, ...]:
        """The networks that run, on the meta device in the number format of the U-Net beside them."""
        import torch

        dtype = pipeline.dtype if candidate.controls else None
        return tuple(LiveControl(
            picture=map_identity(control.picture), weight=float(control.weight), guess=control.guess, read=None,
            t2i=self._file(control, candidate).named.t2i, kind=place_of_kind(self._file(control, candidate), control.kind),
            network=torch.nn.Module.to(self.without_values(control, candidate, pipeline), "meta", dtype))
            for control in candidate.controls if control.weight != 0)

    def live(self, candidate: Candidate, pipeline: Pipeline, shape: Pipeline, merged: Merged) -> tuple[LiveControl, ...]:
        """The candidate's controls beside a live pipeline, in the declared order."""
        return tuple(self._of(control, candidate, pipeline, shape, merged) for control in candidate.controls)

    def keep(self, stages: Collection[Candidate]) -> None:
        """Frees the networks that none of a candidate's stages uses."""
        paths = {self.library.path(control.path) for stage in stages for control in stage.controls}
        for place in [place for place in self._live if place[0] not in paths]:
            del self._live[place]

    def map_of(self, picture: str | Canny, prompt: Prompt) -> NDArray[np.uint8]:
        """The control map (h, w, 3) of a prompt. Raises MaterialiseError where it has none."""
        name = source_of(picture)
        if name not in prompt.pictures:
            raise MaterialiseError(f"prompt {prompt.id!r} has no picture {name!r}; give Prompt(pictures={{{name!r}: ...}})")
        reference = prompt.pictures[name]
        self.library.refuse_changed([reference])
        drawn = control_map(picture, self.library.path(reference))
        self.library.refuse_changed([reference])
        return drawn

    def coverage(self, candidate: Candidate) -> Iterator[Coverage]:
        """A row for each network: its tensors, its layout, and how its maps are made."""
        for control in candidate.controls:
            named = self._file(control, candidate).named
            sources = [*named.whole.values(), *(half for pair in named.factors.values() for half in pair)]
            keys = {"applied": tuple(sources), "known_extra": named.beside}
            yield Coverage(candidate=candidate.name, stage=f"control {control.path} of {source_of(control.picture)}",
                           component="control", keys={status: names for status, names in keys.items() if names},
                           notes=tuple(_notes(control, named.layout, deltas=named.deltas)))

    def _file(self, control: Control, candidate: Candidate) -> ControlFile:
        path = self.library.path(control.path)
        if path not in self._files:
            self.library.refuse_changed([control.path])
            self._files[path] = read_control(path, self.library.open(frame_of(candidate.model)).numbering)
        return self._files[path]

    def _of(self, control: Control, candidate: Candidate, pipeline: Pipeline, shape: Pipeline, merged: Merged) -> LiveControl:
        file, dtype = self._file(control, candidate), pipeline.dtype
        model = repr(candidate.model) if file.named.needs_model else ""
        place = (file.path, model, str(dtype), repr(frame_of(candidate.model)))
        if control.weight != 0 and place not in self._live:
            network = self.without_values(control, candidate, shape)
            names = [name for name in network.state_dict() if file.named.layout == CONTROL_LORA or name in file.named.whole]
            base = merged([name for name in names if name in _names(shape)]) if file.named.needs_model else {}
            filled(network, file, base, "cpu" if self.lends else str(pipeline.device), dtype)
            if self.lends:
                lend_layers(network, pipeline.device)
            self.library.refuse_changed([control.path])
            self._live[place] = network
        picture = control.picture

        def read(prompt: Prompt) -> NDArray[np.uint8]:
            return self.map_of(picture, prompt)

        def drawn(before: NDArray[np.uint8]) -> NDArray[np.uint8]:
            return edges_drawn(picture, before) if isinstance(picture, Canny) else before

        follows = source_of(picture) == STAGE_BEFORE
        network = self._live.get(place) if control.weight != 0 else None  # kept for another weight, and not run
        return LiveControl(picture=map_identity(picture), network=network, weight=float(control.weight), t2i=file.named.t2i,
                           kind=place_of_kind(file, control.kind),
                           guess=control.guess, read=None if follows else read, drawn=drawn if follows else None)


def _names(shape: Pipeline) -> frozenset[str]:
    return frozenset(shape.unet.state_dict())


def _notes(control: Control, layout: str, *, deltas: bool) -> Iterator[str]:
    yield f"layout: {layout}{', as differences to the model in use' if deltas else ''}"
    if control.weight == 0:
        yield "the weight is 0, so the network is not run"
    if isinstance(control.picture, Canny):
        import scipy

        canny = control.picture
        yield (f"edges by Canny, version {EDGES_VERSION}, with scipy {scipy.__version__}: thresholds {canny.low:g} and "
               f"{canny.high:g} levels per pixel, sigma {canny.sigma:g}")
