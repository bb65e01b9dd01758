"""The pictures of a suite's prompts as metrics are given them, each file read once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.control.maps import edges_drawn, source_of
from harness.declare import Canny, Suite
from harness.declare.picture_file import read_picture
from harness.declare.picture_uses import measured_control, measured_reference, names_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class PromptPictures:
    """`path` resolves a file as declared."""

    def __init__(self, suite: Suite, path: Callable[[str], Path]) -> None:
        self._prompts = {prompt.id: prompt for prompt in suite.grid.prompts}
        reference = measured_reference(suite)
        self._control = measured_control(suite)
        self._names = sorted({name for candidate in suite.candidates for name in names_of(candidate)})
        self._maps: dict[str, NDArray[np.uint8] | None] = {}
        self._path, self._reference = path, "" if reference is None else reference.picture
        self._read: dict[str, NDArray[np.uint8]] = {}

    def shown(self, prompts: Sequence[str]) -> tuple[NDArray[np.uint8] | None, ...]:
        """The reference picture of each of the prompts, by their ids; None for a prompt that has none."""
        return tuple(self._of(prompt, self._reference) for prompt in prompts)

    def all_shown(self) -> tuple[NDArray[np.uint8], ...]:
        """The reference pictures of all prompts."""
        return tuple(picture for prompt in self._prompts if (picture := self._of(prompt, self._reference)) is not None)

    def by_name(self, prompts: Sequence[str]) -> dict[str, tuple[NDArray[np.uint8] | None, ...]]:
        """All pictures that candidates use, of each of the prompts, by their ids."""
        return {name: tuple(self._of(prompt, name) for prompt in prompts) for name in self._names}

    def control_maps(self, prompts: Sequence[str]) -> tuple[NDArray[np.uint8] | None, ...]:
        """The map that the suite's first control follows, of each of the prompts, by their ids; empty without controls."""
        return () if self._control is None else tuple(map(self._map, prompts))

    def other_maps(self, prompts: Sequence[str]) -> tuple[NDArray[np.uint8] | None, ...]:
        """The map of the next prompt whose picture is another one, in the same way; None where all prompts have one picture."""
        return () if self._control is None else tuple(None if (other := self._next(prompt)) is None else self._map(other)
                                                      for prompt in prompts)

    def _next(self, prompt: str) -> str | None:
        assert self._control is not None
        name, listed = source_of(self._control.picture), list(self._prompts)
        place, own = listed.index(prompt), self._prompts[prompt].pictures.get(name)
        return next((other for other in (*listed[place + 1:], *listed[:place])
                     if self._prompts[other].pictures.get(name) not in (None, own)), None)

    def _map(self, prompt: str) -> NDArray[np.uint8] | None:
        if prompt not in self._maps:
            assert self._control is not None
            picture = self._control.picture
            drawn = self._of(prompt, source_of(picture))
            self._maps[prompt] = edges_drawn(picture, drawn) if isinstance(picture, Canny) and drawn is not None else drawn
        return self._maps[prompt]

    def _of(self, prompt: str, name: str) -> NDArray[np.uint8] | None:
        file = self._prompts[prompt].pictures.get(name)
        if file is None:
            return None
        if file not in self._read:
            self._read[file] = read_picture(self._path(file))
        return self._read[file]
