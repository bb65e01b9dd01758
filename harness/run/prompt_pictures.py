"""The pictures of a suite's prompts as metrics are given them, each file read once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.declare import Suite
from harness.declare.picture_file import read_picture
from harness.declare.picture_uses import measured_reference

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class PromptPictures:
    """`path` resolves a file as declared."""

    def __init__(self, suite: Suite, path: Callable[[str], Path]) -> None:
        self._prompts = {prompt.id: prompt for prompt in suite.grid.prompts}
        reference = measured_reference(suite)
        self._path, self._reference = path, "" if reference is None else reference.picture
        self._read: dict[str, NDArray[np.uint8]] = {}

    def shown(self, prompts: Sequence[str]) -> tuple[NDArray[np.uint8] | None, ...]:
        """The reference picture of each of the prompts, by their ids; None for a prompt that has none."""
        return tuple(self._of(prompt, self._reference) for prompt in prompts)

    def all_shown(self) -> tuple[NDArray[np.uint8], ...]:
        """The reference pictures of all prompts."""
        return tuple(picture for prompt in self._prompts if (picture := self._of(prompt, self._reference)) is not None)

    def _of(self, prompt: str, name: str) -> NDArray[np.uint8] | None:
        file = self._prompts[prompt].pictures.get(name)
        if file is None:
            return None
        if file not in self._read:
            self._read[file] = read_picture(self._path(file))
        return self._read[file]
