"""What a loss of precision looks like: for each mode the reference, the mode's own picture and their difference made stronger,
at the cell of the median and of the lowest PSNR."""

from __future__ import annotations

from typing import Any, Final

import pandas as pd
from PIL import Image, ImageChops

from reports import formatting as words
from reports.page.thumbnails import LOSSLESS, LOSSLESS_SIDE, STRIP_SIZE, Files, shrunk
from reports.read.run import Run
from reports.verdict.candidates import label, varies_fidelity

STRONGER: Final = 8
MOST_MODES: Final = 12
"""Of more, the rest are in the explorer: each mode takes six pictures of the page's budget."""
SAME: Final = ("prompt", "seed", "guidance")


def example_pairs(run: Run) -> dict[str, Any] | None:
    """`modes` in the order of declaration, each with a `note` or `pairs` of three pictures and their words; `more` says which
    modes have none, because there is no room. None unless the suite varies precision or runtime and PSNR was measured."""
    if not varies_fidelity(run.suite) or "psnr_db" not in run.images.columns:
        return None
    names = [c.name for c in run.suite.candidates if c.name != run.suite.baseline]
    rows_by_name = [(name, run.images[run.images["candidate"] == name]) for name in names]
    there = [(name, rows) for name, rows in rows_by_name if not rows.empty]
    if not there:
        return None
    return {"modes": [_mode(run, name, rows) for name, rows in there[:MOST_MODES]], "stronger": STRONGER,
            "reference": label(run, run.suite.baseline),
            "more": words.listed([label(run, name) for name, _ in there[MOST_MODES:]], 99) if len(there) > MOST_MODES else ""}


def _mode(run: Run, name: str, rows: pd.DataFrame) -> dict[str, Any]:
    mode: dict[str, Any] = {"name": label(run, name), "note": "", "pairs": []}
    ranked = rows.dropna(subset=["psnr_db"]).sort_values("psnr_db", kind="stable")
    exact = int((rows["exact_match"] == 1).sum()) if "exact_match" in rows.columns else 0
    if ranked.empty:
        mode["note"] = (f"All {words.plural(exact, 'image')} equal the reference's bit for bit: so there is nothing to show."
                         if exact else "PSNR was not measured.")
        return mode
    chosen = [("median PSNR", ranked.iloc[(len(ranked) - 1) // 2])]
    if len(ranked) > 1:
        chosen.append(("lowest PSNR", ranked.iloc[0]))
    mode["pairs"] = [_pair(run, kind, row) for kind, row in chosen]
    return mode


def _pair(run: Run, kind: str, row: Any) -> dict[str, Any]:
    """The three pictures as data URIs, or why they are not shown."""
    base = run.images[run.images["candidate"] == run.suite.baseline]
    for column in SAME:
        base = base[base[column] == row[column]]
    psnr = words.number(float(row["psnr_db"]), run.row("psnr_db"))
    pair = {"kind": kind, "psnr": psnr, "prompt": words.visible(str(row["text"])),
            "where": f"seed {row['seed']}, CFG {row['guidance']:g}", "why": "", "pictures": ()}
    if base.empty:
        return {**pair, "why": "the reference has no image of this cell"}
    files = Files(run.folder, run.digests)
    try:
        reference, mine = (files.pixels(str(path)) for path in (base["path"].iloc[0], row["path"]))
        if reference.size != mine.size:
            return {**pair, "why": "the two pictures differ in size"}
        return {**pair, "pictures": (_shown(reference), _shown(mine), _shown(difference(reference, mine)))}
    except ValueError as error:
        return {**pair, "why": f"picture not shown: {error}"}


def difference(one: Image.Image, other: Image.Image) -> Image.Image:
    """|a - b| of every channel times STRONGER, cut off at 255; two RGB pictures of one size."""
    return ImageChops.difference(one, other).point(lambda level: min(255, STRONGER * level))


def _shown(image: Image.Image) -> str:
    small = max(image.size) <= LOSSLESS_SIDE
    return shrunk(image.copy(), *((LOSSLESS_SIDE, LOSSLESS) if small else STRIP_SIZE))


