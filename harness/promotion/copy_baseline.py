"""Copies the values of a suite's last promoted candidate into the suite's run folder, for its gates."""

from __future__ import annotations

from pathlib import Path

from harness.records import write_atomically
from harness.records.baseline_file import BASELINE_FILE, BaselineError, read_baseline, refused_text


def take_promoted(source: Path, folder: Path) -> str:
    """Copies the baseline file `source` into the run folder, whole or not at all. Returns a sentence on what was done.

    If `source` does not exist, an earlier copy is deleted. A damaged file is not copied; the folder gets the reason instead, so
    that a gate can say why it was not judged rather than that nothing was ever promoted. Raises OSError if the folder cannot be
    written.
    """
    target = folder / BASELINE_FILE
    if not source.exists():
        target.unlink(missing_ok=True)
        return f"nothing was promoted from this suite yet ({source} does not exist)"
    try:
        baseline = read_baseline(source)
        content = source.read_bytes()
    except (OSError, BaselineError) as error:
        write_atomically(target, refused_text(str(error)).encode())
        return str(error)
    write_atomically(target, content)
    return f"baseline: {baseline.name} version {baseline.version} (candidate {baseline.candidate!r}), from {source}"
