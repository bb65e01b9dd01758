"""The page: one offline HTML file with verdict, figures, images and provenance, and its Markdown and CSV siblings.
Called by the plugin, the command line and anyone who wants a run folder's page rebuilt."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import jinja2
import pandas as pd
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from harness.records import write_atomically
from reports import formatting as words
from reports.figures import FIGURES
from reports.gates import Verdict, judge
from reports.page import tables
from reports.page.cost_table import cost_section
from reports.page.explorer import Explorer, explorer
from reports.page.human_ratings import eyes_section
from reports.page.image_pairs import example_pairs
from reports.page.pick_recipe import recipe_section
from reports.page.pick_strip import illustrated
from reports.page.summary import markdown
from reports.page.thumbnails import strip, thumbnails
from reports.read.run import Run, load_run
from reports.statistics.intervals import cluster_mean
from reports.verdict.candidates import label_with_role
from reports.verdict.costs import peak_memory, seconds_per_image
from reports.verdict.race_summary import spending_section
from reports.verdict.recommendation import Comparison, Recommendation
from reports.verdict.recommending import recommend
from reports.verdict.sentences import objective_words
from reports.verdict.style_consistency import DEFINITION

if TYPE_CHECKING:
    from reports.page.live import Live

TEMPLATES: Final = Path(__file__).parent / "templates"
PAGE_NAME: Final = "report.html"
PAGE_BUDGET: Final = 10.0
"""Megabytes (of 1,000,000 bytes) that a page may have; its thumbnails take what the rest of it leaves."""
TABLE_SHARE: Final = 0.1
"""Of the budget: a table that takes more is not in the page, only beside it, for the pictures need the room."""
MODULES: Final = ("dom.js", "gallery.js", "figures.js", "explorer.js", "lightbox.js", "page.js")
_THUMBNAILS: Final = '<script type="application/json" id="thumbnails">'
_TABLE: Final = '<script type="application/gzip" id="table">'
_NOTES_ROOM: Final = 2_000


def write_page(folder: Path, budget: float = PAGE_BUDGET) -> Path:
    """Writes report.html, and report.md and table.csv beside it, each whole or not at all; returns the page's path.

    `budget` is in megabytes. Thumbnails are compressed, then left out, to stay within it, and the page says so; a page whose
    text and figures alone are larger has no pictures.
    """
    run = load_run(folder)
    rec = recommend(run)
    verdicts = judge(run, rec)
    write_atomically(folder / "table.csv", csv(run).encode())
    write_atomically(folder / "report.md", illustrated(markdown(run, rec, verdicts), run, rec).encode())
    page = folder / PAGE_NAME
    write_atomically(page, render(run, rec, verdicts, budget).encode("utf-8", errors="replace"))
    return page


def render(run: Run, rec: Recommendation, verdicts: list[Verdict], budget: float = PAGE_BUDGET, live: Live | None = None) -> str:
    """The page as text; `live` marks it as that of a run that goes on."""
    figures = {name: figure for name, row in FIGURES.items() if (figure := row.build(run, rec)) is not None}
    data = ",".join(f"{json.dumps(name)}:{figure.to_json()}" for name, figure in figures.items())
    values = {
        "rec": rec, "figure_json": Markup(embed(f"{{{data}}}")), "rows": FIGURES, "figures": figures, "strip": strip(run, rec),
        "lead": _parts(rec.sentence), "facts": _facts(run, rec), "gates": tables.gate_rows(run, verdicts, rec.pick),
        "comparisons": tables.comparison_rows(run, rec.comparisons), "candidates": tables.candidate_rows(run, rec),
        "costs": cost_section(run, rec), "losses": tables.loss_rows(run), "coverage": tables.coverage_table(run),
        "gaps": tables.gap_rows(run), "provenance": tables.provenance(run), "eyes": eyes_section(run, rec.pick),
        "spending": spending_section(run), "pairs": example_pairs(run), "recipe": recipe_section(run, rec.pick),
        "table": packed(csv(run)),
        "about_looks": DEFINITION if "style" in run.images.columns else "",
        "failures": [{"name": words.visible(f.candidate), "stage": words.visible(f.stage), "error": words.visible(f.error),
                      "message": words.visible(f.message)} for f in run.failures]}
    return lay_out("report.html.j2", run, explorer(run, rec), values, budget, live)


def lay_out(template: str, run: Run, shown: Explorer, values: Mapping[str, Any], budget: float, live: Live | None) -> str:
    """A template of the page filled with `values` and the thumbnails that fit into `budget` megabytes. Its policy forbids every
    request and every script whose hash is not listed."""
    code = module()
    scripts = (get_plotlyjs(), code, *([live.script] if live else []))
    policy = ("default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
              f"script-src {' '.join(map(_hash, scripts))}")
    page = _environment().get_template(template).render(
        {**values, "run": run, "suite": run.suite, "policy": policy, "style": Markup(_source("page.css")), "live": live,
         "module": Markup(code), "plotlyjs": Markup(_plotlyjs()),
         "explorer_data": packed(json.dumps(shown.data, ensure_ascii=False, separators=(",", ":"))) if shown.paths else ""})
    page = _with_table(page, values.get("table", ""), budget)
    if not shown.paths:
        return page
    # Nothing that a run says can hold this tag, since all of its "<" are escaped.
    head, tag, tail = page.partition(_THUMBNAILS)
    made = thumbnails(run.folder, shown.paths, int(1e6 * budget) - len(page.encode(errors="replace")) - _NOTES_ROOM)
    return "".join((head, tag, embed(json.dumps(vars(made), separators=(",", ":"))), tail))


def _with_table(page: str, table: str, budget: float) -> str:
    """The page with the packed table in its place, where that leaves room for pictures."""
    if len(table) > 1e6 * budget * TABLE_SHARE or len(page.encode(errors="replace")) + len(table) > 1e6 * budget:
        return page
    head, tag, tail = page.partition(_TABLE)
    return "".join((head, tag, table, tail))


def module() -> str:
    """The page's modules as one, in an order in which each finds what it needs: their imports of one another fall away."""
    between = re.compile(r"^(?:import .*;\n|export (?=const|class))", re.MULTILINE)
    return "\n".join(between.sub("", _source(name)) for name in MODULES)


def packed(text: str) -> str:
    """Text gzipped and in base64, which nothing can act in; the page's script unpacks it."""
    return base64.b64encode(gzip.compress(text.encode(errors="replace"), mtime=0)).decode()


def embed(text: str) -> str:
    """JSON that may stand inside a script element: no `</script>`, no `<!--`, no line separator can occur in it."""
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def csv(run: Run) -> str:
    """The tidy table as CSV. Control characters in texts are made visible, and text that a spreadsheet would take for a
    formula gets an apostrophe in front."""
    table = run.images.drop(columns=[c for c in ("clusters",) if c in run.images.columns])
    for column in table.columns:
        if not pd.api.types.is_numeric_dtype(table[column]):
            table[column] = table[column].map(_inert)
    said: str = table.rename(columns=_inert).to_csv(index=False)
    return said


def _inert(value: Any) -> Any:
    """A cell of the CSV: numbers and what is absent as they are, anything else as text that does nothing."""
    if value is None or isinstance(value, int | float):
        return value
    said = str(value)
    said = said if said.isprintable() else words.visible(said)
    return f"'{said}" if said.lstrip()[:1] in ("=", "+", "-", "@") else said


def _facts(run: Run, rec: Recommendation) -> list[dict[str, str]]:
    """The few figures that stand under the verdict, each with its interval or its n."""
    if rec.pick is None:
        return []
    rows = run.images[(run.images["candidate"] == rec.pick) & (run.images["guidance"] == rec.guidance)]
    found = [_gain(run, c) for c in rec.comparisons[:1]]
    for value in ("clip_score", "clipped_share"):
        e = cluster_mean(rows, value)
        below = (f"{words.interval(e.low, e.high, value)} · {words.plural(e.prompts, 'prompt')}, {e.pairs} images"
                 if e.mean is not None else e.why)
        found.append({"name": words.title(value), "said": words.number(e.mean, value), "below": below})
    s = seconds_per_image(run, rec.pick)
    found.append({"name": "Seconds per image", "said": words.number(s.median, "seconds_per_image"),
                  "below": words.visible(s.why) or f"median of {words.plural(s.rounds, 'round')}, batch "
                  f"{run.latency[rec.pick].batch_size}"})
    m = peak_memory(run, rec.pick)
    found.append({"name": "Peak memory", "said": words.number(m.value, "peak_bytes"),
                  "below": words.visible(m.why_missing if m.value is None else words.reading(m.name))})
    return found


def _gain(run: Run, c: Comparison) -> dict[str, str]:
    d = c.difference
    held = "held-out confirm prompt" if c.split == "confirm" else "select prompt, unconfirmed"
    return {"name": f"Gain over {label_with_role(run, c.other)}", "said": words.signed(d.mean),
            "below": f"{words.interval(d.low, d.high)} points · {words.plural(d.prompts, held)}" if d.mean is not None else d.why}


def _parts(sentence: str) -> tuple[str, str]:
    """The verdict's first clause, for the largest type, and the rest of the sentence."""
    head, mark, rest = sentence.partition("; ")
    if not mark:
        head, mark, rest = sentence.partition(": ")
    return _unbroken(words.visible(head)), _unbroken(words.visible(rest))


def _unbroken(said: str) -> str:
    """Keeps "alpha 0.45", "parent A" and "CFG 5" on one line with no-break spaces."""
    return re.sub(r"\b(alpha|weight|parent|CFG) (?=\S)", "\\1\u00a0", said)


@cache
def _environment() -> jinja2.Environment:
    made = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True,
                              undefined=jinja2.StrictUndefined)
    made.filters["visible"] = words.visible
    made.globals["label"] = label_with_role
    made.globals["objective_words"] = objective_words
    return made


@cache
def _plotlyjs() -> str:
    """plotly.js as shipped with the Python package, packed: two fifths of its size, and none of it runs before a first paint."""
    return packed(get_plotlyjs())


def _source(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8").strip()


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"

