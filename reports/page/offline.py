"""A small offline page of a template: its policy, style, script and figures, all in one file that asks for nothing."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import jinja2
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from harness.records.text import in_csv, in_script
from reports import formatting as words

TEMPLATES: Final = Path(__file__).parent / "templates"


def offline_page(template: str, figures: Mapping[str, Any], **told: Any) -> str:
    """The page as text: `figures` are plotly figures by the name of their place, `told` is what else the template names.
    The policy forbids every request, and every script whose hash is not listed."""
    plotlyjs = str(get_plotlyjs()).replace("</script", "<\\/script").strip()
    script = (TEMPLATES / "plots.js").read_text(encoding="utf-8").strip()
    policy = ("default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
              f"script-src {_hash(plotlyjs)} {_hash(script)}")
    data = ",".join(f"{json.dumps(name)}:{figure.to_json()}" for name, figure in figures.items())
    style = (TEMPLATES / "page.css").read_text(encoding="utf-8").strip()
    return _environment().get_template(template).render(
        policy=policy, style=Markup(style), script=Markup(script), plotlyjs=Markup(plotlyjs), figures=figures,
        figure_json=Markup(in_script(f"{{{data}}}")), **told)


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table as CSV: numbers as they are, what is absent as nothing, and text that does nothing in a spreadsheet."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([in_csv(value) for value in row] for row in rows)
    return text.getvalue()


@cache
def _environment() -> jinja2.Environment:
    made = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True,
                              undefined=jinja2.StrictUndefined)
    made.filters["visible"] = words.visible
    return made


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
