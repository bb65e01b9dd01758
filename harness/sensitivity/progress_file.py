"""The file that a measurement writes layer by layer: what it measured, and the errors so far."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from harness.records.atomic import write_atomically
from harness.sensitivity.subject import SubjectError

FORMAT: Final = 1
_LARGEST: Final = 64 * 2 ** 20

Errors = dict[str, dict[str, float]]
"""By mode and by the name of a weight."""


@dataclass(frozen=True, kw_only=True)
class Key:
    """Everything that decides the errors; a file with another key is of another measurement."""

    identity: str
    kind: str
    prompts: tuple[str, ...]
    modes: Mapping[str, Any]
    version: int

    @property
    def plain(self) -> Any:
        """As it is in a file. The modes are with the errors, so that another pair goes on with the one that is there."""
        of = asdict(self)
        return json.loads(json.dumps({name: of[name] for name in ("identity", "kind", "prompts", "version")}))


class ErrorFile:
    """The errors of one measurement, and where they are kept; nowhere without a path. `errors` are by mode of the key and by the
    name of a weight. What the file holds of other modes stays in it."""

    def __init__(self, path: Path | None, key: Key, names: Collection[str]) -> None:
        """Takes over what a file of the same key holds, but of other versions of a mode nothing. Raises SubjectError for any
        other file, which is left as it is."""
        self._path, self._key = path, key
        self.errors: Errors = {mode: {} for mode in key.modes}
        self._others: dict[str, Any] = {}
        if path is None or not path.exists():
            return
        data = _read(path)
        if data.get("key") != key.plain:
            raise SubjectError(f"{path} holds another measurement: of other files, prompts or settings, or of the other kind. "
                               "Give another --out, or move the file away")
        stored = data.get("errors")
        for mode, rows in (stored if isinstance(stored, dict) else {}).items():
            if mode not in key.modes:
                self._others[mode] = rows
            elif isinstance(rows, dict) and rows.get("mode") == json.loads(json.dumps(key.modes[mode])):
                self.errors[mode] = _sound(rows.get("layers"), names)

    def save(self, result: Mapping[str, Any] | None = None) -> None:
        """Writes the errors, and the `result` once there is one."""
        if self._path is None:
            return
        mine = {mode: {"mode": self._key.modes[mode], "layers": of} for mode, of in self.errors.items()}
        data = {"format": FORMAT, "key": self._key.plain, "errors": {**self._others, **mine}, **(result or {})}
        write_atomically(self._path, json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False).encode(),
                         sync=result is not None)


def _sound(rows: object, names: Collection[str]) -> dict[str, float]:
    """Those of the errors that a measurement can have written."""
    return {name: float(error) for name, error in (rows if isinstance(rows, dict) else {}).items()
            if name in names and type(error) in (int, float) and math.isfinite(error) and error >= 0}


def _finite(text: str) -> float | None:
    number = float(text)
    return number if math.isfinite(number) else None


def _read(path: Path) -> dict[str, Any]:
    what = "expected the --out of an earlier sensitivity, or a new path"
    if not path.is_file() or path.stat().st_size > _LARGEST:
        raise SubjectError(f"{path} is not a file that can be read; {what}")
    try:
        data = json.loads(path.read_bytes(), parse_constant=lambda _: None, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise SubjectError(f"{path} is not JSON; {what}") from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise SubjectError(f"{path} holds something else; {what}")
    return data
