"""What prompts that were read from pictures say of how those were sampled, and the grid does not do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from harness.declare import Grid, Suite
from harness.declare.effective_grid import grid_of, sampler_of
from harness.declare.prompt_files import OTHERS_TAG, PICTURE_TAG
from harness.declare.sampler_names import sampler_named
from harness.records.harmless_text import visible

_SETTINGS: Final = ("seed", "steps", "sampler", "schedule", "guidance", "size", "clip_skip", "model")


def unused_settings(suite: Suite) -> Iterator[str]:
    """One sentence about the first picture with settings that no candidate is sampled with: of a picture only its texts count."""
    pictured = [prompt for prompt in suite.grid.prompts if PICTURE_TAG in prompt.tags]
    grids = [grid_of(suite, candidate) for candidate in suite.candidates] if pictured else []
    for prompt in pictured:
        other = [f"{name} {prompt.tags[name]}" for name in _SETTINGS
                 if name in prompt.tags and all(_differs(grid, prompt.tags, name) for grid in grids)]
        if OTHERS_TAG in prompt.tags:
            other.append(f"and {prompt.tags[OTHERS_TAG]}" if other else prompt.tags[OTHERS_TAG])
        if other:
            yield visible(f"{len(pictured)} prompt{'s were' if len(pictured) > 1 else ' was'} read from pictures, of which only "
                   f"the texts count; what {prompt.tags[PICTURE_TAG]} says beside them is not used: {', '.join(other)}. The grid "
                   "decides, and the same seed gives other noise here")
            return


def _differs(grid: Grid, tags: Mapping[str, str], name: str) -> bool:
    """Whether a setting of a picture is not the grid's."""
    if name in ("sampler", "schedule"):
        return not _same_sampler(grid, tags)
    own = {"steps": (str(grid.steps),), "size": (f"{grid.width}x{grid.height}",),
           "guidance": tuple(f"{scale:g}" for scale in grid.guidance_scales),
           "clip_skip": (str(grid.sampling.clip_skip or 1) if grid.sampling else "1",)}
    return tags[name] not in own.get(name, ())


def _same_sampler(grid: Grid, tags: Mapping[str, str]) -> bool:
    """Whether a picture's sampler and schedule, as its tool spells them, are the grid's. A picture without a schedule may have
    any."""
    try:
        sampler, schedule = sampler_named(" ".join(filter(None, (tags.get("sampler"), tags.get("schedule")))))
    except ValueError:
        return False
    own = sampler_of(grid)
    return sampler == own[0] and schedule in ("", own[1])
