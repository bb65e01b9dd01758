"""What prompts that were read from pictures say of how those were sampled, and the grid does not do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from harness.declare import Grid
from harness.declare.prompt_files import PICTURE_TAG

_SETTINGS: Final = ("seed", "steps", "sampler", "schedule", "guidance", "size", "clip_skip", "model")


def unused_settings(grid: Grid) -> Iterator[str]:
    """One sentence about the first picture whose settings are not the grid's: of a picture only its texts count."""
    pictured = [prompt for prompt in grid.prompts if PICTURE_TAG in prompt.tags]
    for prompt in pictured:
        other = [f"{name} {prompt.tags[name]}" for name in _SETTINGS
                 if name in prompt.tags and prompt.tags[name] not in _of(grid, name)]
        if other:
            yield (f"{len(pictured)} prompt{'s were' if len(pictured) > 1 else ' was'} read from pictures, of which only the "
                   f"texts count; what {prompt.tags[PICTURE_TAG]} says beside them is not used: {', '.join(other)}. The grid "
                   "decides, and the same seed gives other noise here")
            return


def _of(grid: Grid, name: str) -> tuple[str, ...]:
    """The values of a setting in the grid, spelled as in a tag."""
    return {"steps": (str(grid.steps),), "sampler": (grid.sampler,), "size": (f"{grid.width}x{grid.height}",),
            "guidance": tuple(f"{scale:g}" for scale in grid.guidance_scales)}.get(name, ())
