"""The tables of a page as rows of ready-made text: gates, comparisons, losses, coverage, gaps, provenance (costs have their
own, cost_table.py)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import pandas as pd

from harness.declare import Suite, grid_of, plain
from harness.declare.component_runtimes import spelled_runtime
from harness.declare.effective_grid import picture_size
from harness.records import Reading, ValueSpec
from harness.records.gate_kinds import gate_kind
from harness.records.harmless_text import without_credentials
from harness.records.images import PROMPTS
from harness.records.short_notes import with_few_names
from harness.records.values import BYTES, SHARE, WEIGHTS
from reports import formatting as words
from reports.gates import INCONCLUSIVE, PASSED, UNACCOUNTED, Verdict
from reports.page.cost_table import unmade
from reports.page.environments import environments
from reports.read.run import Run
from reports.statistics.intervals import CLUSTER, cluster_mean, clustered, within_range
from reports.verdict.candidates import label, label_with_role, role_label, varies_fidelity
from reports.verdict.costs import (
    FAILED,
    Seconds,
    denoiser_size,
    of_process,
    peak_memory,
    seconds_apart,
    seconds_per_image,
    weights_size,
)
from reports.verdict.fidelity import losses
from reports.verdict.race_summary import exit_words
from reports.verdict.recommendation import Comparison, Recommendation, Settling
from reports.verdict.settling import ABOUT, settling_sentences
from reports.verdict.shown_scales import shown_rows, shown_scales
from reports.verdict.style_consistency import style_consistency

MARKS = {PASSED: "✓", INCONCLUSIVE: "?", "failed": "✗", "not_measured": "–"}



def gate_rows(run: Run, verdicts: list[Verdict], pick: str | None = None) -> list[dict[str, Any]]:
    """One row per verdict: mark, status, what was asked, what was observed with its interval, and why."""
    rows = []
    for v in verdicts:
        spec, kind = run.row(v.value), gate_kind(v.value)
        exact = v.low == v.high and kind.exact
        observed = f"{v.observed:.0f}" if exact and v.observed is not None else words.number(v.observed, spec)
        if v.ratio and v.observed is None and v.status in (PASSED, INCONCLUSIVE, "failed"):
            observed = "no ratio"
        if v.ratio and v.observed is not None:
            observed = f"{words.number(v.observed)} × {words.interval(v.low, v.high)}"
        elif not exact and v.observed is not None and kind.noise != "reading":
            observed += f" {words.interval(v.low, v.high, spec)}"
        asked, limit = (kind.kept, "") if kind.kept and v.at_most == 0 else (words.title(spec), v.limit)
        rows.append({"of_pick": v.candidate == pick, "mark": MARKS[v.status], "status": v.status,
                     "said": v.status.replace("_", " "), "value": asked, "limit": limit,
                     "observed": observed, "reason": v.reason,
                     "candidate": label(run, v.candidate) if v.candidate in {c.name for c in run.suite.candidates}
                     else words.visible(v.candidate or "no pick")})
    return rows


def comparison_rows(run: Run, comparisons: tuple[Comparison, ...]) -> list[dict[str, str]]:
    """The pick minus each rival: which, in what, on which prompts, the difference with interval and n, the word."""
    return [{"other": label_with_role(run, c.other), "value": words.title(run.row(c.value)), "split": c.split,
             "at": "all" if c.other_guidance is None else f"{c.other_guidance:g}", "word": c.word,
             "difference": words.estimate(c.difference, run.row(c.value), difference=True)} for c in comparisons]


def settling_section(run: Run, settling: Sequence[Settling]) -> dict[str, Any]:
    """What is open about the pick: the sentences, and a row for each difference with the prompts that would show it."""
    objective = run.row("objective")
    rows = [{"other": (label(run, s.other) if s.chosen else label_with_role(run, s.other))
             + (f" at CFG {s.guidance:g}" if s.guidance is not None else ""),
             "difference": words.estimate(within_range(s.difference, objective), objective, difference=True),
             "needed": words.settled(s.needed, f"{s.split} prompt")} for s in settling]
    return {"sentences": settling_sentences(run, settling), "rows": rows, "about": ABOUT}


def candidate_rows(run: Run, rec: Recommendation) -> list[dict[str, Any]]:
    """One row per candidate at the pick's guidance or its counterpart: the values that are columns (see ValueSpec), seconds,
    sizes."""
    rows, gone = [], exit_words(run)
    here, scales = shown_rows(run, rec), shown_scales(run, rec)
    by_name = dict(iter(here.groupby("candidate", sort=False)))
    for c in run.suite.candidates:
        mine = by_name.get(c.name, here.iloc[:0])
        why = FAILED if run.failure_of(c.name) else run.why_missing(c.name, "image") or "no images"
        row: dict[str, Any] = {"candidate": c.name, "name": label(run, c.name), "role": role_label(run, c.name),
                               "pick": c.name == rec.pick, "tied": c.name in rec.tied_candidates, "dropped": gone.get(c.name, "")}
        row["values"] = [_mean_cell(mine, value, why) for value in run.values_for("column")]
        row["instead"] = unmade(run, c.name)
        row["at"] = "" if (scale := scales[c.name]) is None else f"{scale:g}"
        same = style_consistency(run, c.name, scale)
        row["look"] = (f"{words.number(same.share.mean, SHARE)} {words.visible(same.look)}" if same.look
                       else "not measured")
        row["look_range"] = words.interval(same.share.low, same.share.high, SHARE) if same.look else ""
        row["n"] = f"{len(mine)} ({clustered(mine)[CLUSTER].nunique()})"
        s, m = seconds_per_image(run, c.name), peak_memory(run, c.name)
        rows.append({**row, "seconds": _seconds(s), "rounds": f"n={s.rounds}" if s.rounds else "",
                     "switch": _seconds(seconds_apart(run, c.name, "switch")), **_sizes(run, c.name),
                     "reading": words.reading(m.name) if m.value is not None else ""})
    return rows


def sampled_words(suite: Suite) -> str:
    """The sizes and steps of all candidates' images: "64 × 64 px, 4–12 steps"."""
    grids = [grid_of(suite, c) for c in suite.candidates]
    pictures = [picture_size(suite, candidate) for candidate in suite.candidates]
    sizes = words.listed(list(dict.fromkeys(f"{width} × {height}" for width, height in pictures)))
    fewest, most = min(grid.steps for grid in grids), max(grid.steps for grid in grids)
    return f"{sizes} px, {words.plural(most, 'step') if fewest == most else f'{fewest}–{most} steps'}"


def caption(rec: Recommendation, rows: Sequence[dict[str, Any]], start: str) -> str:
    """The caption of a table of candidate_rows: `start`, and the guidance scale that they have in common."""
    return start if rec.guidance is None or apart(rows) else f"{start} at CFG {rec.guidance:g}"


def unlike_means(rows: Sequence[dict[str, Any]]) -> list[str]:
    """A sentence where candidates have images of other prompts, as after a race, so that the means of their rows say nothing
    about their order."""
    counts = {row["n"] for row in rows if not row["n"].startswith("0 ")}
    return [] if len(counts) < 2 else ["The candidates have images of different prompts, so the means of these rows do not "
                                       "compare; the verdict compares on the prompts that both have."]


def apart(rows: Sequence[dict[str, Any]]) -> bool:
    """Whether the rows of candidates are at several guidance scales, which then have a column."""
    return len({row["at"] for row in rows}) > 1


def _mean_cell(rows: pd.DataFrame, value: ValueSpec, why: str) -> dict[str, str]:
    """The mean of a value and its interval; `why` says why there are no images, where there are none."""
    e = cluster_mean(rows, value)
    absent = f"not measured: {why if rows.empty else e.why}"
    return {"name": value.name, "title": words.title(value), "mean": absent if e.mean is None else words.number(e.mean, value),
            "range": "" if e.mean is None else words.interval(e.low, e.high, value)}


def _seconds(s: Seconds) -> str:
    return f"not measured: {words.visible(s.why)}" if s.median is None else words.duration(s.median)


def memory_columns(run: Run) -> dict[str, str]:
    """{cell of a row: its head} of the sizes that tell candidates apart: that of the weights where they differ, and peak memory
    unless it is the process's, which holds whatever was loaded before (the table of costs has both)."""
    names = [c.name for c in run.suite.candidates]
    peaks = [peak for name in names if (peak := peak_memory(run, name)).value is not None]
    weights = {size.value for name in names if (size := weights_size(run, name)).value is not None}
    return {**({"weights": words.title(WEIGHTS)} if len(weights) > 1 else {}),
            **({} if peaks and all(map(of_process, peaks)) else {"memory": words.title(BYTES)})}


def _sizes(run: Run, name: str) -> dict[str, str]:
    """The peak memory and the weights of a candidate; of these the denoiser's, for the small print."""
    denoiser = denoiser_size(run, name).value
    return {"memory": _size(peak_memory(run, name)), "weights": _size(weights_size(run, name)),
            "denoiser": "" if denoiser is None else f"denoiser {words.size(denoiser)}"}


def _size(reading: Reading) -> str:
    return f"not measured: {words.visible(reading.why_missing)}" if reading.value is None else words.size(reading.value)


def loss_heading(run: Run) -> tuple[str, str]:
    """What the section of losses is called in the contents and above it, by what the candidates differ in."""
    each: dict[str, set[Any]] = {
        "precision": {c.number_format for c in run.suite.candidates},
        "a runtime": {spelled_runtime(c.runtime) for c in run.suite.candidates},
        "a saver": {c.savers for c in run.suite.candidates}, "a step cache": {c.step_cache for c in run.suite.candidates}}
    differing = [word for word, values in each.items() if len(values) > 1]
    if differing == ["precision"]:
        return "Quantization", "Quantization: what precision costs"
    *others, last = differing or ["precision"]
    what = f"{', '.join(others)} or {last}" if others else last
    return "Losses", f"Losses: what {what} costs"


def loss_rows(run: Run) -> list[dict[str, Any]]:
    """Candidates against the baseline; empty unless the suite varies how weights are run."""
    if not varies_fidelity(run.suite):
        return []
    rows = []
    for loss in losses(run):
        psnr = ("not measured" if loss.psnr_median is None and not loss.exact else "all exact" if loss.psnr_median is None
                else f"{words.number(loss.psnr_median, run.row('psnr_db'))}")
        rows.append({"candidate": loss.candidate, "name": label(run, loss.candidate), "psnr": psnr,
                     "psnr_range": f"mean {words.number(loss.psnr.mean)} {words.interval(loss.psnr.low, loss.psnr.high)}"
                     if loss.psnr.mean is not None else "",
                     "exact": f"{loss.exact} of {loss.compared}" if loss.compared else "not measured",
                     "scores": [words.estimate(difference, run.row(value), difference=True)
                                for value, difference in zip(run.scores, loss.scores, strict=True)],
                     "objective": words.estimate(loss.objective, difference=True),
                     "ratio": loss.pace if loss.ratio is None else f"{loss.ratio:.2f}× ({loss.pace})",
                     **_sizes(run, loss.candidate),
                     "instead": unmade(run, loss.candidate)})
    return rows


WORDS: Final = "text"
"""The stage of rows of earlier versions, which counted words instead of tokens."""
OLD_COUNT: Final = "not shown: an earlier version counted words here instead of tokens; run the suite again"


def coverage_table(run: Run) -> dict[str, Any]:
    """Key counts per candidate, stage and component; keys that are not accounted for in full, shared lists once."""
    rows, lists = [], dict[tuple[str, ...], list[str]]()
    counted = {c.candidate for c in run.coverage if c.stage == PROMPTS}
    for c in run.coverage:
        if c.stage == WORDS and c.candidate in counted:
            continue
        if c.stage == WORDS:
            c = replace(c, keys={}, notes=(OLD_COUNT,))  # noqa: PLW2901 - what it says is not shown
        known = label(run, c.candidate) if c.candidate in {k.name for k in run.suite.candidates} else words.visible(c.candidate)
        counts = ", ".join(f"{len(keys)} {status.replace('_', ' ')}" for status, keys in c.keys.items() if keys)
        bad = sum(len(c.keys.get(s, ())) for s in UNACCOUNTED)
        rows.append({"name": known, "stage": words.visible(c.stage), "component": words.visible(c.component),
                     "counts": words.visible(counts) or "no keys", "bad": bad,
                     "notes": [words.visible(with_few_names(n)) for n in c.notes]})
        for status in UNACCOUNTED:
            if keys := c.keys.get(status, ()):
                lists.setdefault((words.visible(c.stage), words.visible(c.component), status.replace("_", " "),
                                  *map(words.visible, keys)), []).append(known)
    exceptions = [{"stage": k[0], "component": k[1], "status": k[2], "keys": k[3:], "names": words.listed(names, 99)}
                  for k, names in lists.items()]
    return {"rows": rows, "exceptions": exceptions}


def gap_rows(run: Run) -> list[dict[str, str]]:
    """What is not measured, and why, one row per value and reason."""
    grouped: dict[tuple[str, int, str], list[str]] = {}
    for g in run.missing:
        grouped.setdefault((g.value, g.count, g.why), []).append(label(run, g.candidate))
    everyone = len(run.suite.candidates)
    return [{"name": f"all {everyone}" if len(names) == everyone > 1 else words.listed(names, 99), "count": str(count or "–"),
             "value": "Image" if value == "image" else words.title(run.row(value)), "why": words.visible(why)}
            for (value, count, why), names in grouped.items()]


def provenance(run: Run) -> dict[str, Any]:
    """What a reader needs to repeat the run: command, suite, weight hashes, environment, metric definitions."""
    def said(key: str) -> str:
        return words.visible(str(run.head.get(key, "")))

    command = " ".join(without_credentials(str(word)) for word in run.head.get("command", ()))  # older runs kept passwords
    return {"command": words.visible(command), "started": said("started"), "suite_file": said("suite_file"),
            "clip": said("clip_definition"),
            "suite": json.dumps(plain(run.suite), indent=1, ensure_ascii=True),
            "environments": environments(run),
            "metrics": [{"name": words.title(spec), "unit": words.visible(spec.unit), "better": spec.better,
                         "definition": words.visible(spec.definition), "version": words.visible(str(spec.version))}
                        for spec in run.values.values()],
            "weights": [{"name": label_with_role(run, w.candidate), "identity": words.visible(w.identity),
                         "inputs": [(words.visible(k), words.visible(v)) for k, v in w.inputs.items()]}
                        for w in run.weights.values() if w.candidate in {c.name for c in run.suite.candidates}]}
