"""The halves of a VAE as graphs: latents to pixels, and pixels to the mean of their latents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from harness.runtimes.entry import BATCH, Entry, Input, Size

if TYPE_CHECKING:
    import torch

_DECODING: Final = ("decoder.", "post_quant_conv.")
_ENCODING: Final = ("encoder.", "quant_conv.")


def _latents(config: Any, size: Size) -> tuple[Input, ...]:
    return (Input(name="sample", shape=(BATCH, config.latent_channels, *size)),)


def _pixels(config: Any, size: Size) -> tuple[Input, ...]:
    return (Input(name="sample", shape=(BATCH, config.in_channels, *size)),)


def _decoder(bare: Any) -> torch.nn.Module:
    import torch

    _without(bare, _ENCODING)

    class Decoder(torch.nn.Module):
        """Latents, as the VAE is given them, to pixels in float32."""

        def __init__(self) -> None:
            super().__init__()
            self.module = bare

        def forward(self, sample: torch.Tensor) -> torch.Tensor:
            pixels: torch.Tensor = self.module.decode(sample, return_dict=False)[0]
            return pixels.float()

    return Decoder()


def _encoder(bare: Any) -> torch.nn.Module:
    import torch

    _without(bare, _DECODING)

    class Encoder(torch.nn.Module):
        """Pixels to the mean of the posterior of their latents, in float32."""

        def __init__(self) -> None:
            super().__init__()
            self.module = bare

        def forward(self, sample: torch.Tensor) -> torch.Tensor:
            mean: torch.Tensor = self.module.encode(sample).latent_dist.mode()
            return mean.float()

    return Encoder()


def _without(bare: Any, parts: tuple[str, ...]) -> None:
    for part in parts:
        if hasattr(bare, part.removesuffix(".")):
            setattr(bare, part.removesuffix("."), None)


def _guard_latents(config: Any, size: Size) -> dict[str, torch.Tensor]:
    import torch

    return {"sample": torch.randn((2, config.latent_channels, *size), generator=torch.Generator().manual_seed(0))}


def _guard_pixels(config: Any, size: Size) -> dict[str, torch.Tensor]:
    import torch

    return {"sample": torch.rand((2, config.in_channels, *size), generator=torch.Generator().manual_seed(0)) * 2 - 1}


DECODER: Final = Entry(name="decoder", inputs=_latents, wrap=_decoder, guard=_guard_latents, reads=_DECODING)
ENCODER: Final = Entry(name="encoder", inputs=_pixels, wrap=_encoder, guard=_guard_pixels, reads=_ENCODING)
