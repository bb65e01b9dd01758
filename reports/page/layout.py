"""How the page of a run is laid out: its modules and plotly, the packed table, and the thumbnails that fit into the budget."""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from markupsafe import Markup
from plotly.offline import get_plotlyjs

from harness.records.harmless_text import in_script
from reports.page.explorer import Explorer
from reports.page.shell import environment, policy, source
from reports.page.thumbnails import thumbnails
from reports.read.run import Run
from reports.verdict.candidates import label_with_role
from reports.verdict.sentences import objective_words

PAGE_NAME: Final = "report.html"
PAGE_BUDGET: Final = 10.0
"""Megabytes (of 1,000,000 bytes) that a page may have; its thumbnails take what the rest of it leaves."""
TABLE_SHARE: Final = 0.1
"""Of the budget: a table that takes more is not in the page, only beside it, for the pictures need the room."""
MODULES: Final = ("dom.js", "gallery.js", "figures.js", "explorer.js", "lightbox.js", "page.js")
_THUMBNAILS: Final = '<script type="application/json" id="thumbnails">'
_TABLE: Final = '<script type="application/gzip" id="table">'
_NOTES_ROOM: Final = 2_000


@dataclass(frozen=True, kw_only=True)
class Live:
    """What the templates need of a page that is unfinished."""

    progress: str
    doing: str
    started: str
    written: str
    every: int
    verdict: bool
    script: Markup


def lay_out(template: str, run: Run, shown: Explorer, values: Mapping[str, Any], budget: float, live: Live | None) -> str:
    """A template of the page filled with `values` and the thumbnails that fit into `budget` megabytes. Its policy forbids every
    request and every script whose hash is not listed."""
    code = module()
    scripts = (get_plotlyjs(), code, *([live.script] if live else []))
    page = environment().get_template(template).render(
        {**values, "run": run, "suite": run.suite, "policy": policy(*scripts), "style": Markup(source("page.css")), "live": live,
         "label": label_with_role, "objective_words": objective_words, "module": Markup(code),
         "plotlyjs": Markup(_plotlyjs()),
         "explorer_data": packed(json.dumps(shown.data, ensure_ascii=False, separators=(",", ":"))) if shown.paths else ""})
    page = _with_table(page, values.get("table", ""), budget)
    if not shown.paths:
        return page
    # Nothing that a run says can hold this tag, since all of its "<" are escaped.
    head, tag, tail = page.partition(_THUMBNAILS)
    thumbs = thumbnails(run.folder, shown.paths, int(1e6 * budget) - len(page.encode(errors="replace")) - _NOTES_ROOM,
                        shown.digests)
    return "".join((head, tag, in_script(json.dumps(vars(thumbs), separators=(",", ":"))), tail))


def _with_table(page: str, table: str, budget: float) -> str:
    """The page with the packed table in its place, where that leaves room for pictures."""
    if len(table) > 1e6 * budget * TABLE_SHARE or len(page.encode(errors="replace")) + len(table) > 1e6 * budget:
        return page
    head, tag, tail = page.partition(_TABLE)
    return "".join((head, tag, table, tail))


def module() -> str:
    """The page's modules as one, in an order in which each finds what it needs: their imports of one another fall away."""
    between = re.compile(r"^(?:import .*;\n|export (?=const|class))", re.MULTILINE)
    return "\n".join(between.sub("", source(name)) for name in MODULES)


def packed(text: str) -> str:
    """Text gzipped and in base64, which nothing can act in; the page's script unpacks it."""
    return base64.b64encode(gzip.compress(text.encode(errors="replace"), mtime=0)).decode()


@cache
def _plotlyjs() -> str:
    """plotly.js as shipped with the Python package, packed: two fifths of its size, and none of it runs before a first paint."""
    return packed(get_plotlyjs())
