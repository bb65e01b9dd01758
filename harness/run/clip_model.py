"""The CLIP model of a suite: loaded when it is first needed, and hashed with everything else that determines its values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from threading import RLock
from typing import Any

from harness.declare import Suite, plain, short_hash
from harness.declare.picture_uses import measured_control
from harness.hub import place
from harness.metrics import METRICS
from harness.metrics.clip import ScorerError, load_scorer
from harness.metrics.clip_reference import EMBEDDED, USUAL, parsed, pixels_of, weights_of


class ClipModel:
    """Relative paths are resolved below `root`. `content` hashes a reference to a model file. `loaded` is called with the
    definition of the model once it is loaded."""

    def __init__(self, suite: Suite, device: str, root: Path, content: Callable[[str], str],
                 loaded: Callable[[str], None]) -> None:
        self._suite, self._device, self._root, self._content, self._loaded = suite, device, root, content, loaded
        self._scorer: Any = None
        self._loading = RLock()
        self._noted = ""

    @property
    def needed(self) -> bool:
        """Whether a metric of the suite needs it."""
        return any(METRICS[name].needs_clip for name in self._suite.metrics)

    def scorer(self) -> Any:
        """The scorer, loaded if necessary. Raises the errors of loading it, and ScorerError for a file that is not the one that
        was hashed: its values would be recorded under the wrong model."""
        with self._loading:  # metrics may ask from several threads
            if self._scorer is None:
                scorer = load_scorer(self._suite.clip, device=self._device, root=self._root)
                if self.setting() != self._noted:
                    raise ScorerError("the file of the CLIP model was changed since the run began. Run again once nothing writes "
                                      "to it")
                self._scorer = scorer
                self._loaded(scorer.definition())
            return self._scorer

    def release(self) -> None:
        """Releases the model."""
        self._scorer = None

    def settings(self, pictures: Mapping[str, str]) -> dict[str, str]:
        """{metric: hash of everything else that determines its values}. The CLIP model is later loaded as it is now. `pictures`
        are the contents of the prompts' pictures by file."""
        asked = sorted(name for name in {*self._suite.metrics} if METRICS[name].needs_clip)
        clip = self._noted = self.setting() if asked else ""
        styles = short_hash([clip, [*self._suite.styles.items()]])
        settings = {name: styles if METRICS[name].uses_styles else clip for name in asked}
        control = measured_control(self._suite)
        shown = short_hash([self._files_by_prompt(), sorted(pictures.items()),
                            *([] if control is None else [plain(control.picture)])])
        settings |= {name: short_hash([settings.get(name, ""), shown]) for name in sorted({*self._suite.metrics})
                     if METRICS[name].uses_pictures}
        # A user's metric is measured again when its code changes.
        return settings | {name: short_hash([settings.get(name, ""), styles if METRICS[name].uses_styles else "", source])
                           for name in sorted({*self._suite.metrics}) if (source := METRICS.source(name))}

    def _files_by_prompt(self) -> list[list[str]]:
        return [[prompt.id, name, file] for prompt in self._suite.grid.prompts for name, file in sorted(prompt.pictures.items())]

    def setting(self) -> str:
        """Hash of the model's file and architecture, and of what it wants done to pictures where that is unusual. A file that
        cannot be read fails later, when it is loaded."""
        clip = self._suite.clip
        try:
            file = weights_of(clip)
            given = None if clip == EMBEDDED else parsed(clip)
            if given is None:
                return short_hash([clip.rpartition(":")[0], self._content(clip)])
            pixels = pixels_of(given, place(file, self._root))
            return short_hash([given.model, self._content(file), *([] if pixels == USUAL else [plain(pixels)])])
        except (OSError, ValueError):
            return short_hash([clip])
