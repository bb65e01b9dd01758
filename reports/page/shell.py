"""What every page of ours is made with: the templates, the content policy, and scripts that stand in the page itself."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import Final

import jinja2

from harness.records.harmless_text import visible

TEMPLATES: Final = Path(__file__).parent / "templates"


@cache
def environment() -> jinja2.Environment:
    """The templates: whatever is put into one is escaped, and a name that is not given is an error."""
    built = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True,
                              undefined=jinja2.StrictUndefined)
    built.filters["visible"] = visible
    return built


def source(name: str) -> str:
    """A style or script of the templates folder."""
    return (TEMPLATES / name).read_text(encoding="utf-8").strip()


def policy(*scripts: str) -> str:
    """A content policy that forbids every request, and every script but these."""
    hashes = [f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" for script in scripts]
    return ("default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
            f"script-src {' '.join(hashes)}")
