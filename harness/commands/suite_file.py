"""The suite that a command's file declares."""

from __future__ import annotations

from pathlib import Path

from harness.commands.downloads import available
from harness.declare import Suite
from harness.declare.load_suite import load_suite


def sound_suite(file: Path, *, allow_download: bool = False) -> Suite:
    """The file's SUITE, with the adapters that its prompts name and every address of the hub at its commit. Raises ValueError for
    one that cannot run."""
    from harness.check import load_rows, problems, resolved

    suite = resolved(available(load_suite(file), allow_download=allow_download), Path.cwd())
    load_rows(suite, [file.parent, Path.cwd()])
    if faults := problems(suite, Path.cwd()):
        raise ValueError("\n".join(faults))
    assert isinstance(suite, Suite)  # anything else is a problem
    return suite
