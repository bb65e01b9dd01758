"""Takes the values of the candidate that was promoted last from a suite into the suite's run folder, where its gates are judged.
The plugin calls it before a run; reports/promoted.py reads what it leaves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from harness.promotion.record_files import digest_of
from harness.records import write_atomically

FILE: Final = "baseline.json"
LARGEST: Final = 64_000_000
_AGAIN: Final = "Restore it from git, or promote again"


def take_promoted(source: Path, folder: Path) -> str:
    """Copies the baseline file `source` into the run folder, whole or not at all; a sentence on what was done.

    Where there is none, a copy of an earlier one goes. One that is damaged is not copied: the folder gets the reason in its
    place, so that a gate can say why it was not judged rather than that nothing was ever promoted. Raises OSError when the
    folder cannot be written.
    """
    target = folder / FILE
    if not source.exists():
        target.unlink(missing_ok=True)
        return f"nothing was promoted from this suite yet: there is no {source}"
    try:
        data = _sound(source)
    except (OSError, ValueError, RecursionError) as error:
        why = f"{source} cannot be used as a baseline ({error}). {_AGAIN}"
        write_atomically(target, json.dumps({"refused": why}).encode())
        return why
    write_atomically(target, data.pop("bytes"))
    return f"baseline: {data['name']} version {data['version']} (candidate {data['candidate']!r}), from {source}"


def _sound(source: Path) -> dict[str, Any]:
    """Name, version, candidate and `bytes` of a baseline file. ValueError for what is none, or was changed since."""
    if not source.is_file() or source.stat().st_size > LARGEST:
        raise ValueError("no regular file, or too large for one")
    content = source.read_bytes()
    data = json.loads(content.decode("utf-8"))
    if not isinstance(data, Mapping) or not all(isinstance(data.get(key), kind) for key, kind in (
            ("name", str), ("version", int), ("candidate", str), ("cells", dict), ("digest", str))):
        raise ValueError("it is not what a promotion writes")
    if data["digest"] != digest_of(data):
        raise ValueError("it was changed after it was written: its digest is not that of its content")
    return {"name": data["name"], "version": data["version"], "candidate": data["candidate"], "bytes": content}
