"""The page: one offline HTML file with verdict, figures, images and provenance, and its Markdown and CSV siblings."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

import pandas as pd
from markupsafe import Markup

from harness.declare.same_text import SAME_TEXT
from harness.records import write_atomically
from harness.records.harmless_text import in_csv, in_script
from harness.records.images import EMBEDDING, SHOWN
from harness.records.values import BYTES, SECONDS, WEIGHTS
from reports import formatting as words
from reports.figures import FIGURES
from reports.gates import Verdict, judge
from reports.gates.decision import Headline, headline
from reports.page import tables
from reports.page.cost_table import cost_section
from reports.page.explorer import explorer
from reports.page.human_ratings import eyes_section
from reports.page.image_pairs import example_pairs
from reports.page.layout import PAGE_BUDGET, PAGE_NAME, Live, lay_out, packed
from reports.page.pick_recipe import recipe_section
from reports.page.pick_strip import illustrated
from reports.page.runtime_table import runtime_section
from reports.page.scheme_table import scheme_section
from reports.page.summary import markdown
from reports.page.thumbnails import strip
from reports.page.worker_table import worker_section
from reports.read.run import Run, load_run
from reports.statistics.intervals import cluster_mean
from reports.verdict.candidates import label_with_role
from reports.verdict.costs import of_process, peak_memory, seconds_per_image, weights_size
from reports.verdict.race_summary import spending_section
from reports.verdict.recommendation import Comparison, Recommendation
from reports.verdict.recommending import recommend
from reports.verdict.style_consistency import DEFINITION


@overload
def write_page(run: Path, *, budget: float = PAGE_BUDGET, into: Path | None = None) -> Path: ...


@overload
def write_page(run: Run, recommendation: Recommendation, verdicts: Sequence[Verdict], *, budget: float = PAGE_BUDGET,
               into: Path | None = None) -> Path: ...


def write_page(run: Path | Run, recommendation: Recommendation | None = None, verdicts: Sequence[Verdict] | None = None, *,
               budget: float = PAGE_BUDGET, into: Path | None = None) -> Path:
    """Writes report.html, and report.md and table.csv beside it, each whole or not at all, into the run folder or into another
    one; returns the page's path.

    Takes a run that was read and judged already, or a run folder, which it then reads and judges itself. `budget` is in
    megabytes. Thumbnails are compressed, then left out, to stay within it, and the page says so; a page whose text and figures
    alone are larger has no pictures.
    """
    read = load_run(run) if isinstance(run, Path) else run
    rec = recommendation if recommendation is not None else recommend(read)
    judged = list(verdicts) if verdicts is not None else judge(read, rec)
    folder = read.folder if into is None else into
    write_atomically(folder / "table.csv", csv(read).encode())
    rows = tables.candidate_rows(read, rec)
    write_atomically(folder / "report.md", illustrated(markdown(read, rec, judged, rows), read, rec, folder).encode())
    page = folder / PAGE_NAME
    write_atomically(page, _rendered((read, rec, judged), rows, budget, into=into).encode("utf-8", errors="replace"))
    return page


def render(run: Run, rec: Recommendation, verdicts: list[Verdict], budget: float = PAGE_BUDGET, live: Live | None = None,
           into: Path | None = None) -> str:
    """The page as text, for the run folder or the folder `into`; `live` marks it as that of a run that goes on."""
    return _rendered((run, rec, verdicts), tables.candidate_rows(run, rec), budget, live, into)


def _rendered(of: tuple[Run, Recommendation, list[Verdict]], rows: list[dict[str, Any]], budget: float, live: Live | None = None,
              into: Path | None = None) -> str:
    """As `render`, with the rows of tables.candidate_rows, which the Markdown shows too."""
    run, rec, verdicts = of
    figures = {name: figure for name, row in FIGURES.items() if (figure := row.build(run, rec)) is not None}
    data = ",".join(f"{json.dumps(name)}:{figure.to_json()}" for name, figure in figures.items())
    values = {
        "rec": rec, "figure_json": Markup(in_script(f"{{{data}}}")), "rows": FIGURES, "figures": figures,
        "strip": strip(run, rec), "sampled": tables.sampled_words(run.suite),
        "lead": _parts(headline(run, rec, verdicts)), "facts": _facts(run, rec),
        "gates": tables.gate_rows(run, verdicts, rec.pick),
        "comparisons": tables.comparison_rows(run, rec.comparisons), "settling": tables.settling_section(run, rec.settling),
        "candidates": rows, "candidates_caption": tables.caption(rec, rows, "All candidates"), "scales_apart": tables.apart(rows),
        "unlike_means": tables.unlike_means(rows),
        "memory_columns": tables.memory_columns(run),
        "costs": cost_section(run, rec), "losses": tables.loss_rows(run),
        "loss_heading": tables.loss_heading(run),
        "schemes": scheme_section(run), "runtimes": runtime_section(run),
        "score_titles": [words.visible(run.row(value).title) for value in run.scores], "coverage": tables.coverage_table(run),
        "gaps": tables.gap_rows(run), "provenance": tables.provenance(run), "eyes": eyes_section(run, rec.pick),
        "spending": spending_section(run), "workers": worker_section(run),
        "pairs": example_pairs(run), "recipe": recipe_section(run, rec.pick),
        "table": packed(csv(run)),
        "about_looks": DEFINITION if "style" in run.images.columns else "",
        "failures": [{"name": words.visible(f.candidate), "stage": words.visible(f.stage), "error": words.visible(f.error),
                      "message": words.visible(f.message)} for f in run.failures]}
    return lay_out("report.html.j2", run, explorer(run, rec, into), values, budget, live)


def csv(run: Run) -> str:
    """The tidy table as CSV. Control characters in texts are made visible, and text that a spreadsheet would take for a
    formula gets an apostrophe in front."""
    table = run.images.drop(columns=[c for c in ("clusters", EMBEDDING, SHOWN, SAME_TEXT) if c in run.images.columns])
    for column in table.columns:
        if not pd.api.types.is_numeric_dtype(table[column]):
            table[column] = table[column].map(in_csv)
    text: str = table.rename(columns=in_csv).to_csv(index=False)
    return text


def _facts(run: Run, rec: Recommendation) -> list[dict[str, str]]:
    """The few figures that stand under the verdict, each with its interval or its n."""
    if rec.pick is None:
        return []
    rows = run.images[(run.images["candidate"] == rec.pick) & (run.images["guidance"] == rec.guidance)]
    facts = [_gain(run, c) for c in rec.comparisons[:1]]
    for spec in (value for value in run.values_for("headline") if value.name != "objective"):
        e = cluster_mean(rows, spec)
        below = (f"{words.interval(e.low, e.high, spec)} · {words.plural(e.prompts, 'prompt')}, {e.pairs} images"
                 if e.mean is not None else e.why)
        facts.append({"name": words.title(spec), "said": words.number(e.mean, spec), "below": below})
    s = seconds_per_image(run, rec.pick)
    facts.append({"name": words.title(SECONDS), "said": words.number(s.median, SECONDS),
                  "below": words.visible(s.why) or f"median of {words.plural(s.rounds, 'round')}, batch "
                  f"{run.latency[rec.pick].batch_size}"})
    peak, weights = peak_memory(run, rec.pick), weights_size(run, rec.pick)
    spec, size = (WEIGHTS, weights) if of_process(peak) and weights.value is not None else (BYTES, peak)
    facts.append({"name": words.title(spec), "said": words.number(size.value, spec),
                  "below": words.visible(size.why_missing if size.value is None else words.reading(size.name))})
    return facts


def _gain(run: Run, c: Comparison) -> dict[str, str]:
    d = c.difference
    which = "held-out confirm prompt" if c.split == "confirm" else "select prompt, unconfirmed"
    below = f"{words.interval(d.low, d.high)} points · {words.plural(d.prompts, which)}" if d.mean is not None else d.why
    return {"name": f"Gain over {label_with_role(run, c.other)}", "said": words.signed(d.mean), "below": below}


def _parts(of: Headline) -> tuple[str, str]:
    """The clause for the largest type, and the rest of the sentence."""
    return _unbroken(words.visible(of.text)), _unbroken(words.visible(f"{of.rest}." if of.rest else ""))


def _unbroken(text: str) -> str:
    """Keeps "alpha 0.45", "parent A" and "CFG 5" on one line with no-break spaces."""
    return re.sub(r"\b(alpha|weight|parent|CFG) (?=\S)", "\\1\u00a0", text)


