"""Decoded images on their way from the device to the host, so that the next batch can be launched meanwhile."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

import numpy as np

if TYPE_CHECKING:
    import torch

Images = np.ndarray[Any, np.dtype[np.uint8]]
_Batch = TypeVar("_Batch")


NOT_FINITE: Final = "NaN or infinite latents"
"""Why an image is unusable of which the denoiser's own output was not finite."""


class SamplingError(RuntimeError):
    """A candidate produced an unusable image."""


BrokenPlace: TypeAlias = Callable[[int, str], None]
"""Called with the place of an unusable image in its batch, and the reason."""


class Arriving:
    """The images of one batch, of `pixels` (n, 3, height, width) from -1 to 1, or `from_zero` to 1, and the `latents` that they
    were decoded from. On a GPU their copy to pinned memory is queued behind the work so far, and nothing waits for it before
    `images`."""

    def __init__(self, pixels: torch.Tensor, latents: torch.Tensor, *, from_zero: bool = False) -> None:
        import torch

        sound = torch.isfinite(pixels)
        shares = torch.where(sound, pixels, 0.0) if from_zero else torch.where(sound, pixels, -1.0) / 2 + 0.5
        levels = (shares.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
        checks = torch.stack([sound.flatten(1).all(1), torch.isfinite(latents).flatten(1).all(1)])
        self.on_device, self.latents = pixels.device.type == "cuda", latents
        if self.on_device:
            self._levels, self._checks = (_pinned(tensor.contiguous()) for tensor in (levels, checks))
            self._copied: Any = torch.cuda.current_stream(pixels.device).record_event()
        else:
            self._levels, self._checks = levels.contiguous(), checks

    def images(self, broken: BrokenPlace | None = None) -> Images:
        """uint8 RGB (n, height, width, 3), once they are there.

        Pixels that are NaN or infinite are black, and `broken` is called with the image's place in the batch and the reason.
        Without `broken`, raises SamplingError.
        """
        if self.on_device:
            self._copied.synchronize()
        pixels_sound, latents_sound = self._checks.tolist()
        places = [place for place, sound in enumerate(pixels_sound) if not sound]
        if places and broken is None:
            raise SamplingError(f"{len(places)} of {len(pixels_sound)} images hold NaN or infinite pixels")
        for place in places:
            assert broken is not None
            broken(place, "NaN or infinite pixels" if latents_sound[place] else NOT_FINITE)
        array: Images = self._levels.numpy()
        return array.copy() if self.on_device else array  # pinned memory is scarce, and used again


def _pinned(tensor: torch.Tensor) -> torch.Tensor:
    """A copy in pinned memory, which is complete when the device's stream has come to it."""
    import torch

    target = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return target.copy_(tensor, non_blocking=True)


def arrived(launched: Iterable[tuple[_Batch, Arriving]], collect: Callable[[_Batch, Arriving], Images],
            ) -> Iterator[tuple[_Batch, Images]]:
    """The batches with their images, in order. Images on a GPU are collected when the batch after theirs has been launched. If
    that fails, they are still handed out before its error."""
    waiting: deque[tuple[_Batch, Arriving]] = deque()
    batches = iter(launched)
    while True:
        try:
            batch, arriving = next(batches)
        except StopIteration:
            break
        except BaseException:
            yield from _collected(waiting, collect)
            raise
        waiting.append((batch, arriving))
        if len(waiting) > (1 if arriving.on_device else 0):
            yield from _collected(deque([waiting.popleft()]), collect)
    yield from _collected(waiting, collect)


def _collected(waiting: deque[tuple[_Batch, Arriving]],
               collect: Callable[[_Batch, Arriving], Images]) -> Iterator[tuple[_Batch, Images]]:
    while waiting:
        batch, arriving = waiting.popleft()
        yield batch, collect(batch, arriving)
