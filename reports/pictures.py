"""The images of a page: thumbnails as data URIs within a budget, and what had to be left out. Called by page.py."""

from __future__ import annotations

import base64
import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pandas as pd
from PIL import Image

from reports import words
from reports.candidates import controls, label
from reports.decision import Recommendation
from reports.figures.style import present
from reports.load import Run

GRID_BUDGET: Final = 3_600_000
LOSSLESS: Final = 100
ENCODINGS: Final = ((160, LOSSLESS), (160, 92), (160, 84), (112, 80))
SMALLEST: Final = ((80, 70), (56, 60))
STRIP_SIZE: Final = (256, 90)
STRIP_PROMPTS_PER_SPLIT: Final = 2
STRIP_CANDIDATES: Final = 5
CAPTION_VALUES: Final = ("objective", "clip_score", "clipped_share", "saturation", "palette_drift")


@dataclass(frozen=True, kw_only=True)
class Shelf:
    """The image grid as JSON-ready data, and one sentence for each thing that is not on it."""

    data: dict[str, Any]
    left_out: tuple[str, ...]


def thumbnail(folder: Path, path: str, side: int, quality: int) -> str:
    """A WebP data URI of at most `side` pixels: at `quality`; LOSSLESS keeps every bit of an image that is that small already.

    Raises ValueError, with the reason, for a path outside the run folder and for a file that is no readable image.
    """
    root = folder.resolve()
    file = (folder / path).resolve()
    if not file.is_relative_to(root):
        raise ValueError("its path leads out of the run folder")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file) as opened:
                image = opened.convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(f"it could not be read ({type(error).__name__})") from error
    whole = max(image.size) <= side and quality == LOSSLESS
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    held = io.BytesIO()
    image.save(held, "WEBP", lossless=whole, quality=80 if whole else min(quality, 92), method=2)
    return f"data:image/webp;base64,{base64.b64encode(held.getvalue()).decode()}"


def shelf(run: Run, rec: Recommendation, budget: int = GRID_BUDGET) -> Shelf:
    """Panels (candidates x guidance scales) for as many (prompt, seed) as fit into `budget` characters of data URIs.

    The first seed of every prompt comes first, then the second. The best encoding is taken with which all would fit,
    judging by the first panel; panels that do not fit even so are left out, and it is said.
    """
    names = present(run)
    scales = sorted(float(g) for g in run.images["guidance"].unique())
    texts = dict(zip(run.images["prompt"], run.images["text"], strict=True))
    grouped: Any = run.images.groupby(["prompt", "seed"], sort=False)
    groups = {(str(p), int(s)): rows for (p, s), rows in grouped}
    order = [(p.id, seed) for seed in run.suite.grid.seeds for p in run.suite.grid.prompts if (p.id, seed) in groups]
    panels: dict[str, Any] = {}
    spent = 0
    encoding = _encoding(run, [groups[key] for key in order], (names, scales), budget)
    for key in order:
        panel, cost = _panel(run, groups[key], (names, scales), encoding)
        if spent + cost > budget:
            break
        panels[f"{key[0]}\n{key[1]}"] = panel
        spent += cost
    data = {"candidates": [{"label": label(run, n), "role": controls(run.suite).get(n, "")} for n in names],
            "guidances": [f"{g:g}" for g in scales], "panels": panels,
            "prompts": [{"id": p, "text": words.visible(str(texts[p]))} for p in dict.fromkeys(k[0] for k in order)
                        if any(f"{p}\n{s}" in panels for s in run.suite.grid.seeds)],
            "seeds": list(dict.fromkeys(k[1] for k in order if f"{k[0]}\n{k[1]}" in panels)),
            "pick": [names.index(rec.pick) if rec.pick in names else -1,
                     scales.index(rec.guidance) if rec.guidance in scales else -1]}
    left: tuple[str, ...] = () if encoding[1] == LOSSLESS else (
        f"Thumbnails are compressed (WebP quality {encoding[1]}, at most {encoding[0]} pixels); the lossless images are in the "
        "images folder beside this page.",)
    absent = [k for k in order if f"{k[0]}\n{k[1]}" not in panels]
    left += (f"{len(absent)} of {len(order)} prompt and seed pairs are left out to keep this page small, from prompt "
            f"{words.visible(absent[0][0])}, seed {absent[0][1]} on; all images at full size are in the images folder "
            "beside this page.",) if absent else ()
    return Shelf(data=data, left_out=left)


def _encoding(run: Run, panels: list[pd.DataFrame], axes: tuple[list[str], list[float]], budget: int) -> tuple[int, int]:
    """The best (side, quality) with which all panels would fit; the smallest useful one, or what lets one panel fit, if none."""
    if not panels:
        return ENCODINGS[0]
    costs = {}
    for encoding in (*ENCODINGS, *SMALLEST):
        costs[encoding] = _panel(run, panels[0], axes, encoding)[1]
        if encoding in ENCODINGS and costs[encoding] * len(panels) <= 0.95 * budget:
            return encoding
        if encoding not in ENCODINGS[:-1] and costs[encoding] <= budget:
            return encoding
    return SMALLEST[-1]


def _panel(run: Run, rows: pd.DataFrame, axes: tuple[list[str], list[float]], size: tuple[int, int]) -> tuple[Any, int]:
    names, scales = axes
    found = {(r["candidate"], float(r["guidance"])): r for r in rows.to_dict("records")}
    cells = [[_cell(run, found.get((n, g)), size) for g in scales] for n in names]
    return cells, sum(len(c.get("src", "")) for row in cells for c in row)


def _cell(run: Run, row: Any, size: tuple[int, int]) -> dict[str, str]:
    if row is None:
        return {"why": "not sampled"}
    said = [f"{words.title(v)} {words.number(row[v], v)}" for v in CAPTION_VALUES if v in row and not pd.isna(row[v])]
    if isinstance(row.get("dominant"), str):
        said.append(f"mostly {words.visible(row['dominant'])}")
    try:
        return {"src": thumbnail(run.folder, str(row["path"]), *size), "says": ", ".join(said)}
    except ValueError as error:
        return {"why": f"image not shown: {error}", "says": ", ".join(said)}


def strip(run: Run, rec: Recommendation) -> dict[str, Any] | None:
    """The pick between its parents at the pick's guidance, for the first prompts of each split.

    In a fidelity suite all candidates stand side by side, as many as fit.
    None without a pick. The prompts are the first two of each split and the seed is the first: nobody chose them.
    """
    if rec.pick is None or rec.guidance is None:
        return None
    roles = {n: r for n, r in controls(run.suite).items() if n != rec.pick}
    shown = present(run) if rec.kind == "fidelity" else [rec.pick, *roles]
    order = [n for n in present(run) if n in shown][:STRIP_CANDIDATES]
    seed = run.suite.grid.seeds[0]
    wanted = [p for split in ("select", "confirm")
              for p in [q for q in run.suite.grid.prompts if q.split == split][:STRIP_PROMPTS_PER_SPLIT]]
    rows = run.images[(run.images["guidance"] == rec.guidance) & (run.images["seed"] == seed)]
    found = {(r["candidate"], r["prompt"]): r for r in rows.to_dict("records")}
    lines = [{"text": words.visible(p.text), "split": p.split,
              "cells": [{**_cell(run, found.get((n, p.id)), STRIP_SIZE), "swatches": _swatches(found.get((n, p.id))),
                         "who": label(run, n)} for n in order]} for p in wanted]
    return {"seed": seed, "guidance": f"{rec.guidance:g}", "lines": lines,
            "columns": [{"label": label(run, n), "role": roles.get(n, ""), "pick": n == rec.pick} for n in order]}


def _swatches(row: Any) -> list[dict[str, Any]]:
    """The palette of one image, widest share first, as hex colours and percentages."""
    clusters = row.get("clusters") if row is not None else None
    if not isinstance(clusters, list | tuple):
        return []
    ordered = sorted((c for c in clusters if len(c) == 4), key=lambda c: -float(c[3]))
    return [{"hex": words.lab_to_hex((float(c[0]), float(c[1]), float(c[2]))), "share": round(100 * float(c[3]), 1)}
            for c in ordered]
