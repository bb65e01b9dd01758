"""A live VAE in the place of the eager one, its halves executed as exported graphs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.materialise.exported import Predicted, Size
from harness.materialise.live_graph import LiveGraph

if TYPE_CHECKING:
    import torch


@dataclass(kw_only=True)
class Decoding(LiveGraph):
    """Latents to pixels."""

    def eager(self, given: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The pixels of the live VAE."""
        pixels: torch.Tensor = self.live_module.decode(given["sample"]).sample
        return pixels


@dataclass(kw_only=True)
class Encoding(LiveGraph):
    """Pixels to the mean of their latents."""

    def eager(self, given: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The mean of the live VAE's posterior."""
        mean: torch.Tensor = self.live_module.encode(given["sample"]).latent_dist.mode()
        return mean


@dataclass(frozen=True)
class Posterior:
    """The part of the distribution of latents that is used."""

    mean: torch.Tensor

    def mode(self) -> torch.Tensor:
        """Its most likely latents."""
        return self.mean


@dataclass(frozen=True)
class Encoded:
    """A VAE's output as diffusers names it."""

    latent_dist: Posterior


@dataclass(frozen=True, kw_only=True)
class ExportedVae:
    """The VAE of a frame in an exported runtime. It is called like the VAE, and has its config; its parameters are the live ones,
    of which its halves were given the values."""

    decoding: Decoding
    encoding: Encoding

    @property
    def config(self) -> Any:
        """The live VAE's."""
        return self.decoding.config

    @property
    def dtype(self) -> torch.dtype:
        """The live VAE's."""
        return self.decoding.dtype

    @property
    def graphs(self) -> tuple[LiveGraph, ...]:
        """Its halves, as far as they are used."""
        return (self.decoding, *([self.encoding] if self.encoding.opened else []))

    @property
    def copied_bytes(self) -> int:
        """Of the weights that executors hold beside the live ones."""
        return sum(half.copied_bytes for half in self.graphs)

    def enter(self, candidate: str, latents: Size | None, pixels: Size | None) -> None:
        """As `LiveGraph.enter`; `pixels` is the size of pictures that will be encoded."""
        self.decoding.enter(candidate, latents)
        self.encoding.enter(candidate, pixels)

    def decode(self, latents: torch.Tensor) -> Predicted:
        """Latents (n, channels, h, w) to pixels."""
        return Predicted(self.decoding.run(tuple(latents.shape[2:]), {"sample": latents}))

    def encode(self, pixels: torch.Tensor) -> Encoded:
        """Pixels (n, 3, height, width) to their latents."""
        return Encoded(Posterior(self.encoding.run(tuple(pixels.shape[2:]), {"sample": pixels})))

    def parameters(self) -> Iterator[torch.Tensor]:
        """The live parameters."""
        return self.decoding.parameters()

    def buffers(self) -> Iterator[torch.Tensor]:
        """The live buffers."""
        return self.decoding.buffers()

    def modules(self) -> Iterator[torch.nn.Module]:
        """None: the live layers are not run, and need not be lent to a device."""
        return iter(())
