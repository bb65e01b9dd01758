"""What the page's image explorer shows: the dimensions that rows, columns and pages can be, every picture's place and values,
and the command that makes it again."""

from __future__ import annotations

import math
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import pandas as pd

from harness.declare import Candidate
from harness.declare.candidate_words import cache_phrases
from harness.declare.component_runtimes import spelled_runtime
from harness.declare.prompt_texts import shown_text
from harness.records.harmless_text import printable
from reports import formatting as words
from reports.page.made_of import made_of
from reports.page.thumbnails import Files
from reports.read.run import Run
from reports.verdict.candidates import label, present, role_label
from reports.verdict.recommendation import Recommendation

LABEL: Final = 90
LONGEST_TEXT: Final = 12_000
REMADE: Final = "remade"
CALLED: Final = {"weight": "adapter weight"}


@dataclass(frozen=True, kw_only=True)
class Explorer:
    """`data` is ready for JSON; `paths` are the pictures' files, relative to the run folder, in the order in which they are to
    be kept: the first seed of every prompt, then the second, then what images were made of. `digests` are the SHA-256 of all."""

    data: dict[str, Any]
    paths: tuple[str, ...]
    digests: Mapping[str, str] = field(default_factory=dict)


def explorer(run: Run, rec: Recommendation, into: Path | None = None) -> Explorer:
    """The pictures of a run by place: candidate, guidance, prompt and seed, in the mixed radix of `sizes`. Links lead from the
    run folder, or from the folder `into`, to the files."""
    names = present(run)
    scales = sorted(float(g) for g in run.images["guidance"].unique())
    used, drawn = set(run.images["prompt"]), set(run.images["seed"])
    prompts = [p for p in run.suite.grid.prompts if p.id in used]
    seeds = [s for s in dict.fromkeys(run.suite.grid.seeds) if s in drawn]
    own, places = candidate_dimensions(run, names)
    rank = ({n: i for i, n in enumerate(names)}, {g: i for i, g in enumerate(scales)},
            {p.id: i for i, p in enumerate(prompts)}, {s: i for i, s in enumerate(seeds)})
    table = run.images.assign(
        c=run.images["candidate"].map(rank[0]), g=run.images["guidance"].astype(float).map(rank[1]),
        p=run.images["prompt"].map(rank[2]), s=run.images["seed"].map(rank[3])).sort_values(["s", "p", "c", "g"], kind="stable")
    sizes = [len(part) for part in (names, scales, prompts, seeds)]
    at = ((table["c"] * sizes[1] + table["g"]) * sizes[2] + table["p"]) * sizes[3] + table["s"]
    images = tuple(str(p) for p in table["path"])
    dimensions = [*own, {"name": "CFG", "values": [{"label": f"CFG {g:g}"} for g in scales]},
                  {"name": "prompt", "values": [_prompt(shown_text(p), p.id) for p in prompts]},
                  {"name": "seed", "values": [{"label": f"seed {s}"} for s in seeds]}]
    picked = [names.index(rec.pick), scales.index(rec.guidance)] if rec.pick in names and rec.guidance in scales else None
    files = Files(run.folder)
    start = files.root if into is None else os.path.realpath(into)
    made = made_of(run, files, list(zip(table["candidate"], table["prompt"], table["sample"], strict=True)), len(images))
    paths = (*images, *made.paths)
    data = {"dimensions": dimensions, "own": len(own), "sizes": sizes, "pick": picked, **_values(run, table),
            "candidates": [{"label": label(run, n), "role": role_label(run, n), "at": place, "command": command(run, n)}
                           for n, place in zip(names, places, strict=True)],
            "at": [int(i) for i in at], "path": [words.visible(p) for p in paths], "link": [link(files, p, start) for p in paths],
            "made": made.data, "remade": f"{REMADE}/{words.visible(run.folder.resolve().name)}",
            "flaws": {i: words.visible(run.defects[k]) for i, k in enumerate(table["sample"]) if k in run.defects}}
    return Explorer(data=data, paths=paths, digests={**made.digests, **run.digests})


_RUN: Final = ("quantization", "runtime", "savers", "step_cache")
"""The fields that say how a candidate's weights are run."""


def candidate_dimensions(run: Run, names: list[str]) -> tuple[list[dict[str, Any]], list[list[int]]]:
    """The dimensions in which candidates differ, and the place of each candidate in them.

    These are the declared axes, and how the weights are run where that varies, if together they tell all candidates apart and at
    least half of their combinations exist; else there is one dimension, the candidate.
    """
    candidates = [run.candidate(n) for n in names]
    axes = [a for a in dict.fromkeys([*(a for c in candidates for a in c.axes), *_RUN])
            if len({_value(c, a) for c in candidates}) > 1]
    values = {a: _ordered([_value(c, a) for c in candidates]) for a in axes}
    places = [[values[a].index(_value(c, a)) for a in axes] for c in candidates]
    apart = len({tuple(p) for p in places}) == len(candidates)
    if not axes or not apart or math.prod(len(v) for v in values.values()) > 2 * len(candidates):
        return [{"name": "candidate", "values": [_candidate(run, n) for n in names]}], [[i] for i in range(len(names))]
    if len(axes) == 1:
        order = sorted(range(len(names)), key=lambda i: places[i])
        return [{"name": _called(axes[0]), "values": [_candidate(run, names[i]) for i in order]}], places
    return [{"name": _called(a), "values": [{"label": _said(a, v)} for v in values[a]]} for a in axes], places


def command(run: Run, name: str) -> str:
    """The shell command that makes a candidate's pictures again, in another folder; "" where the suite's file is unknown, or a
    race added the candidate, which no file declares."""
    added = run.head.get("added")
    if isinstance(added, list) and name in added:
        return ""
    file, typed = run.head.get("suite_file"), [str(w) for w in run.head.get("command", ())]
    if not isinstance(file, str) or not file:
        return ""
    device = str(run.environment.get("device", "cpu"))
    words_of = ["pytest", printable(f"{file}::candidate[{name}]"), "--benchmark", "--runs-dir", REMADE,
                *(["--device", printable(device)] if device != "cpu" else []), *(["--exact"] if "--exact" in typed else [])]
    return " ".join(shlex.quote(w) for w in words_of)


def link(files: Files, path: str, start: str = "") -> str:
    """The relative address of a picture from the folder `start` of the page, by default the run folder; "" when there is no such
    file inside the run folder."""
    try:
        file = files.find(path)
    except ValueError:
        return ""
    return quote(os.path.relpath(file, start or files.root)) if os.path.isfile(file) else ""  # noqa: PTH113 - thousands of times


def _values(run: Run, table: pd.DataFrame) -> dict[str, Any]:
    """The measured values of every picture as text, a column for each value; the first are those of a caption."""
    captions = [value.name for value in run.values_for("caption")]
    known = [v for v in dict.fromkeys([*captions, *run.values]) if v in table.columns
             and pd.api.types.is_numeric_dtype(table[v]) and table[v].notna().any()]
    columns = [["" if math.isnan(n) else words.number(n, run.row(v)) for n in table[v].astype(float).tolist()] for v in known]
    titles = [words.title(run.row(v)) for v in known]
    if "dominant" in table.columns:
        titles.append("Dominant colour")
        columns.append([words.visible(d) if isinstance(d, str) else "" for d in table["dominant"]])
    return {"values": titles, "captions": sum(v in captions for v in known), "says": columns}


def _value(candidate: Candidate, axis: str) -> Any:
    declared = candidate.axes.get(axis)
    if declared is None and axis == "quantization":
        return candidate.number_format or "default precision"
    if declared is None and axis == "runtime":
        return spelled_runtime(candidate.runtime)
    if declared is None and axis == "savers":
        return ", ".join(candidate.savers) or "no savers"
    if declared is None and axis == "step_cache":
        return next(cache_phrases(candidate), "no step cache")
    return declared


def _ordered(values: list[Any]) -> list[Any]:
    """Each value once: numbers by size, anything else as declared."""
    once = list(dict.fromkeys(values))
    return sorted(once) if all(isinstance(v, int | float) for v in once) else once


def _candidate(run: Run, name: str) -> dict[str, str]:
    role = role_label(run, name)
    return {"label": words.shortened(label(run, name), LABEL), **({"role": role} if role else {})}


def _prompt(text: str, name: str) -> dict[str, str]:
    text_shown = words.visible(text) or f"(empty prompt {words.visible(name)})"
    whole = {"text": text_shown[:LONGEST_TEXT]} if len(text_shown) > LABEL else {}
    return {"label": words.shortened(text_shown, LABEL), **whole}


def _called(axis: str) -> str:
    return CALLED.get(axis, words.visible(axis))


def _said(axis: str, value: Any) -> str:
    if value is None:
        return f"no {words.visible(axis)}"
    said = f"{words.visible(axis)} {value:g}" if isinstance(value, int | float) else words.visible(str(value))
    return words.shortened(said, LABEL)
