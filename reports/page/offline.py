"""A small offline page of a template: its policy, style, script and figures, all in one file that asks for nothing."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from markupsafe import Markup
from plotly.offline import get_plotlyjs

from harness.records.harmless_text import in_csv, in_script
from reports.page.shell import environment, policy, source


def offline_page(template: str, figures: Mapping[str, Any], **told: Any) -> str:
    """The page as text: `figures` are plotly figures by the name of their place, `told` is what else the template names.
    The policy forbids every request, and every script whose hash is not listed."""
    plotlyjs = str(get_plotlyjs()).replace("</script", "<\\/script").strip()
    script = source("plots.js")
    data = ",".join(f"{json.dumps(name)}:{figure.to_json()}" for name, figure in figures.items())
    return environment().get_template(template).render(
        policy=policy(plotlyjs, script), style=Markup(source("page.css")), script=Markup(script), plotlyjs=Markup(plotlyjs),
        figures=figures, figure_json=Markup(in_script(f"{{{data}}}")), **told)


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table as CSV: numbers as they are, what is absent as nothing, and text that does nothing in a spreadsheet."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([in_csv(value) for value in row] for row in rows)
    return text.getvalue()
