"""The pictures of a page: thumbnails as WebP data URIs within a budget, and the strip at its top."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pandas as pd
from PIL import Image

from harness.declare.prompt_texts import shown_text
from harness.records.regular_files import LARGEST_IMAGE, open_regular, read_regular
from reports import formatting as words
from reports.read.run import Run
from reports.verdict.candidates import label, present, role_label
from reports.verdict.recommendation import Recommendation
from reports.verdict.shown_scales import shown_rows, shown_scales

PREFIX: Final = "data:image/webp;base64,"
LOSSLESS: Final = 100
LOSSLESS_SIDE: Final = 256
ENCODINGS: Final = ((LOSSLESS_SIDE, LOSSLESS), (512, 92), (512, 84), (384, 84), (256, 88), (256, 78), (192, 78), (160, 78),
                    (128, 74), (112, 72), (96, 68), (80, 64), (64, 60), (56, 52), (48, 44))
"""(longest side in pixels, WebP quality), the best first. The first is for runs whose pictures are all that small."""
PROBES: Final = 12
AT_ONCE: Final = 256
MOST_PIXELS: Final = 1 << 24
"""4096 x 4096: more than any model makes, and 50 MB once it is decoded."""
LARGE: Final = 1 << 21
_ONE_AT_A_TIME: Final = threading.Lock()
"""For pictures of more pixels than LARGE: a file of some kB decodes into 50 MB, and every core decodes one."""
UNREADABLE: Final = (OSError, SyntaxError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning)
FORMATS: Final = ("PNG", "WEBP", "JPEG")
"""What a picture of a run may be. Pillow's other readers are not asked to look at files that somebody else may have put there."""
STRIP_SIZE: Final = (256, 90)
STRIP_PROMPTS_PER_SPLIT: Final = 2
STRIP_CANDIDATES: Final = 5


@dataclass(frozen=True, kw_only=True)
class Thumbnails:
    """One entry per picture: base64 of a WebP file, or "" where there is none. `why` says of a picture (by its place) that it
    could not be read; `notes` are sentences on what was compressed or left out."""

    encoded: tuple[str, ...]
    why: dict[int, str]
    notes: tuple[str, ...]
    lossless: bool


def thumbnail(folder: Path, path: str, side: int, quality: int, digests: Mapping[str, str] | None = None) -> str:
    """A WebP data URI of at most `side` pixels: at `quality`; LOSSLESS keeps every bit of an image that is that small already.

    Raises ValueError, with the reason, as `Files.pixels` does.
    """
    return shrunk(Files(folder, digests).pixels(path), side, quality)


def shrunk(image: Image.Image, side: int, quality: int) -> str:
    """A WebP data URI of at most `side` pixels; the image itself may become that small."""
    whole = max(image.size) <= side and quality == LOSSLESS
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    # Of a lossless file, `quality` is the effort. At 50 with method 1 files are as small as at 80 with method 2, and come sooner.
    how: dict[str, Any] = {"lossless": True, "quality": 50, "method": 1} if whole else {"quality": min(quality, 92), "method": 2}
    image.save(buffer, "WEBP", **how)
    return PREFIX + base64.b64encode(buffer.getvalue()).decode()


def _decoded(data: bytes) -> Image.Image:
    """The picture as RGB; raises ValueError, with the reason, for one that cannot be read or is too large."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as opened:
            count = opened.width * opened.height
            if count <= MOST_PIXELS:
                with _ONE_AT_A_TIME if count > LARGE else nullcontext():
                    return opened.convert("RGB")
    except UNREADABLE as error:
        raise ValueError(f"it could not be read ({type(error).__name__})") from error
    raise ValueError(f"it has {count} pixels, more than {MOST_PIXELS}")


class Files:
    """Finds and reads the files of paths in the journal, all links followed; a folder is followed once, however many pictures it
    has. `digests` are the SHA-256 of the pictures that were measured, by path; None takes whatever lies there."""

    def __init__(self, folder: Path, digests: Mapping[str, str] | None = None) -> None:
        self.root, self.digests = os.path.realpath(folder), digests
        self._folders: dict[str, str] = {}

    def pixels(self, path: str) -> Image.Image:
        """The picture as RGB; raises ValueError, with the reason, for a path outside the run folder, and for a picture that
        cannot be read, is too large, or is not the one that was measured."""
        file = self.find(path)
        try:
            data = read_regular(file, LARGEST_IMAGE)
        except (OSError, ValueError) as error:  # ValueError for a NUL in the name
            raise ValueError(f"it could not be read ({type(error).__name__})") from error
        image = _decoded(data)
        if self.digests is not None and hashlib.sha256(data).hexdigest() != self.digests.get(path):
            raise ValueError("it was replaced after it was measured; run the suite again to make it again")
        return image

    def find(self, path: str) -> str:
        """The real file, whether it exists or not; raises ValueError when it is not inside the run folder."""
        above, name = os.path.split(os.path.join(self.root, path))  # noqa: PTH118 - thousands of times
        try:
            if above not in self._folders:
                self._folders[above] = os.path.realpath(above)
            file = os.path.join(self._folders[above], name)  # noqa: PTH118
            if name in ("", ".", "..") or os.path.islink(file):  # noqa: PTH114
                file = os.path.realpath(file)
        except (OSError, ValueError) as error:  # a NUL in it, for one
            raise ValueError(f"its path cannot be followed ({type(error).__name__})") from error
        if not file.startswith(self.root + os.sep):
            raise ValueError("its path leads out of the run folder")
        return file


def thumbnails(folder: Path, paths: Sequence[str], budget: int, digests: Mapping[str, str] | None = None) -> Thumbnails:
    """The thumbnails of as many pictures as fit into `budget` characters, in the given order.

    The best encoding is taken with which all of them would fit, judged by a few that are spread evenly over the run; what does
    not fit even with the smallest is left out from the end, and it is said.
    """
    files = Files(folder, digests)
    encoding = _encoding(files, paths, budget)
    encoded: list[str] = []
    why: dict[int, str] = {}
    spent = 0
    # Pillow lets go of the interpreter while it decodes and encodes; one thread more than cores fills the time in between.
    with ThreadPoolExecutor((os.cpu_count() or 1) + 1) as pool:
        for start in range(0, len(paths), AT_ONCE):
            for text, reason in pool.map(lambda p: _one(files, p, encoding), paths[start:start + AT_ONCE]):
                if spent + len(text) + 3 > budget:
                    break
                if reason:
                    why[len(encoded)] = reason
                encoded.append(text)
                spent += len(text) + 3  # two quotes and a comma
            if len(encoded) < min(start + AT_ONCE, len(paths)):
                break
    left_out = len(paths) - len(encoded)
    lossless = encoding[1] == LOSSLESS
    return Thumbnails(encoded=(*encoded, *[""] * left_out), why=why, lossless=lossless,
                      notes=_notes(encoding, left_out, len(paths)))


def _one(files: Files, path: str, encoding: tuple[int, int]) -> tuple[str, str]:
    try:
        return shrunk(files.pixels(path), *encoding).removeprefix(PREFIX), ""
    except ValueError as error:
        return "", f"picture not shown: {error}"


def _notes(encoding: tuple[int, int], left_out: int, of: int) -> tuple[str, ...]:
    where = "the images folder beside this page"
    notes = []
    if left_out < of and encoding[1] != LOSSLESS:
        notes.append(f"The pictures on this page are thumbnails (WebP quality {encoding[1]}, at most {encoding[0]} pixels), so "
                    f"that it stays within its budget; the lossless images are in {where}.")
    if left_out:
        notes.append(f"{left_out} of {of} pictures are left out, the later seeds and prompts first, so that this page stays "
                    f"within its budget (--page-budget); all of them are in {where}.")
    return tuple(notes)


def _encoding(files: Files, paths: Sequence[str], budget: int) -> tuple[int, int]:
    """The best (side, quality) with which all pictures would fit into 97 % of the budget, or the smallest if none would."""
    probes = [paths[len(paths) * i // PROBES] for i in range(min(PROBES, len(paths)))]
    sizes = [size for p in probes if (size := _longest_side(files, p))]
    if not sizes:
        return ENCODINGS[0]
    for encoding in ENCODINGS[max(sizes) > LOSSLESS_SIDE:-1]:
        costs = [len(text) + 3 for p in probes if (text := _one(files, p, encoding)[0])]
        if costs and sum(costs) / len(costs) * len(paths) <= 0.97 * budget:
            return encoding
    return ENCODINGS[-1]


def _longest_side(files: Files, path: str) -> int:
    """In pixels, from the file's head; 0 for what cannot be read."""
    try:
        with open_regular(files.find(path)) as file, Image.open(file, formats=FORMATS) as opened:
            return max(opened.size)
    except UNREADABLE:
        return 0


def strip(run: Run, rec: Recommendation) -> dict[str, Any] | None:
    """The pick between its parents at the pick's guidance or its counterpart, for the first prompts of each split.

    In a fidelity suite all candidates stand side by side, as many as fit.
    None without a pick. The prompts are the first two of each split and the seed is the first: not hand-picked.
    """
    if rec.pick is None or rec.guidance is None:
        return None
    roles = {n: r for n, r in run.roles.items() if n != rec.pick}
    names = present(run) if rec.kind == "fidelity" else [rec.pick, *roles]
    order = [n for n in present(run) if n in names][:STRIP_CANDIDATES]
    seed = run.suite.grid.seeds[0]
    prompts = [p for split in ("select", "confirm")
              for p in [q for q in run.suite.grid.prompts if q.split == split][:STRIP_PROMPTS_PER_SPLIT]]
    rows, scales = shown_rows(run, rec), shown_scales(run, rec)
    apart = len({scales[name] for name in order}) > 1
    rows = rows[rows["seed"] == seed]
    rows = rows[rows["prompt"].isin([p.id for p in prompts])]
    row_by_cell = {(r["candidate"], r["prompt"]): r for r in rows.to_dict("records")}
    lines = [{"text": words.visible(shown_text(p)), "split": p.split,
              "cells": [{**_cell(run, row_by_cell.get((n, p.id))), "swatches": _swatches(row_by_cell.get((n, p.id))),
                         "who": label(run, n)} for n in order]} for p in prompts]
    return {"seed": seed, "at": "Each at its own CFG" if apart else f"CFG {rec.guidance:g}", "lines": lines,
            "columns": [{"label": label(run, n) + (f" at CFG {scales[n]:g}" if apart else ""), "pick": n == rec.pick,
                         "role": "" if n == rec.pick else role_label(run, n)} for n in order]}


def _cell(run: Run, row: Any) -> dict[str, str]:
    if row is None:
        return {"why": "not sampled"}
    values = [f"{words.title(value)} {words.number(row[value.name], value)}" for value in run.values_for("caption")
            if value.name in row and not pd.isna(row[value.name])]
    if isinstance(row.get("dominant"), str):
        values.append(f"mostly {words.visible(row['dominant'])}")
    try:
        return {"src": thumbnail(run.folder, str(row["path"]), *STRIP_SIZE, run.digests), "says": ", ".join(values)}
    except ValueError as error:
        return {"why": f"picture not shown: {error}", "says": ", ".join(values)}


def _swatches(row: Any) -> list[dict[str, Any]]:
    """The palette of one image, widest share first, as hex colours and percentages."""
    clusters = row.get("clusters") if row is not None else None
    if not isinstance(clusters, list | tuple):
        return []
    ordered = sorted((c for c in clusters if len(c) == 4), key=lambda c: -float(c[3]))
    return [{"hex": words.lab_to_hex((float(c[0]), float(c[1]), float(c[2]))), "share": round(100 * float(c[3]), 1)}
            for c in ordered]
