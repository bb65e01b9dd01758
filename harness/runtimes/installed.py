"""What an installation lacks of the packages that execute exported graphs."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Final

from harness.declare.rows import error_text

EXPORTING: Final = ("onnx", "onnxscript")


def lacks_packages(executing: str, extra: str) -> str:
    """Why a package that executes graphs cannot be used, or those that export them; empty if they can. A package that is there
    may still not load: a library that it needs is missing, or it was built for another version."""
    if missing := [name for name in (*EXPORTING, executing) if not find_spec(name)]:
        return f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed; install the extra {extra!r}"
    try:
        import_module(executing)
    except Exception as error:
        return f"{executing} is installed but cannot be imported ({error_text(error)}); install the extra {extra!r} again"
    return ""
