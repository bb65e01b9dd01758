"""What people said of the images of a run, merged into its table: the mean score of every rated image ("rating") and the share
of its duels that it won ("preferred")."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from harness.records import RUN_VALUES, Cell, Sample, ValueSpec
from reports.read.blind_files import FOLDER, PREFERENCE, RATING, Session, Sheet, Shown, read_keys, read_sheets
from reports.read.current_records import Gap

REMADE: Final = "rated before the image was made again; show it to the raters anew"
UNSHOWN: Final = "not among the images that raters answered for"


@dataclass(frozen=True, kw_only=True)
class Rating:
    """One score of one rater, of an image that still is what was shown. `again` is set for a second showing."""

    rater: str
    token: str
    image: Shown
    score: float
    again: bool


@dataclass(frozen=True, kw_only=True)
class Duel:
    """One comparison by one rater; `won` is the share of the first image: 1, 0 or 0.5. `again` and `token` as in Rating;
    `first_token` is that of the first showing."""

    rater: str
    token: str
    first: Shown
    second: Shown
    won: float
    again: bool


@dataclass(frozen=True, kw_only=True)
class Eyes:
    """All answers that count, by raters' names as they gave them, and how many answers were asked for by (session, rater).
    `first_showing` gives by the token of a second showing that of the first. `damaged` names files that could not be read,
    `notes` says what else does not count."""

    ratings: tuple[Rating, ...] = ()
    duels: tuple[Duel, ...] = ()
    first_showing: Mapping[str, str] = field(default_factory=dict)
    answered: Mapping[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    expected: Mapping[str, int] = field(default_factory=dict)
    gaps: tuple[Gap, ...] = ()
    damaged: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    values: Mapping[str, ValueSpec] = field(default_factory=dict)


def with_ratings(folder: Path, images: pd.DataFrame, samples: Mapping[tuple[str, Cell], Sample]) -> tuple[pd.DataFrame, Eyes]:
    """The table with the columns "rating" and "preferred", NaN where nobody answered, and the answers behind them.

    Only an answer whose image still has the key and the bytes (SHA-256) that were shown counts; the others become gaps. A
    column is there only if somebody answered in its mode. Files that cannot be read are named in `damaged`.
    """
    if not (folder / FOLDER).is_dir():
        return images, Eyes()
    keys, broken = read_keys(folder)
    sheets, unread = read_sheets(folder, keys)
    standing = {(s.key, s.sha256) for s in samples.values()}
    ratings, duels, stale = _sorted(sheets, keys, standing)
    table, rows, gaps = images.copy(), dict[str, ValueSpec](), list[Gap]()
    for value, scores in (("rating", _means(ratings)), ("preferred", _shares(duels))):
        gaps.extend(_remade(value, [shown for name, shown in stale if name == value], samples, scores))
        if any(sheet.mode == (RATING if value == "rating" else PREFERENCE) for sheet in sheets):
            table[value] = np.asarray([scores.get(key, np.nan) for key in _keys(images, samples)], dtype=np.float64)
            rows[value] = RUN_VALUES[value]
            gaps.extend(_unrated(table, value, gaps))
    lost = sum(1 for _, shown in stale if (shown.candidate, _cell(shown)) not in samples)
    return table, Eyes(
        ratings=tuple(ratings), duels=tuple(duels), gaps=tuple(gaps), damaged=(*broken, *unread), values=rows,
        first_showing={second: first for key in keys.values() for second, first in key.repeats.items()},
        answered={(s.session, s.rater): (len(s.answers), len(keys[s.session].shows)) for s in sheets},
        expected={name: key.raters for name, key in keys.items()},
        notes=(f"{lost} answers are about images that this run no longer has; they do not count.",) if lost else ())


def _sorted(sheets: Sequence[Sheet], keys: Mapping[str, Session],
            standing: set[tuple[str, str]]) -> tuple[list[Rating], list[Duel], list[tuple[str, Shown]]]:
    """The answers that count, as ratings and duels, and (value, image) for each one whose image is another by now."""
    ratings, duels, stale = list[Rating](), list[Duel](), list[tuple[str, Shown]]()
    for sheet in sheets:
        key = keys[sheet.session]
        for token, answer in sheet.answers.items():
            pictures = [key.images[place] for place in key.shows[token]]
            value = "rating" if key.mode == RATING else "preferred"
            if gone := [one for one in pictures if (one.sample, one.sha256) not in standing]:
                stale.extend((value, one) for one in gone)
                continue
            again = token in key.repeats
            if isinstance(answer, int):
                ratings.append(Rating(rater=sheet.rater, token=token, image=pictures[0], score=float(answer), again=again))
            else:
                duels.append(Duel(rater=sheet.rater, token=token, first=pictures[0], second=pictures[1], again=again,
                                  won={"a": 1.0, "b": 0.0, "tie": 0.5}[answer]))
    return ratings, duels, stale


def _means(ratings: Iterable[Rating]) -> dict[tuple[str, str], float]:
    """By (sample key, SHA-256) the mean over raters of each one's own mean."""
    by_rater: defaultdict[tuple[str, str], defaultdict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for r in ratings:
        by_rater[r.image.sample, r.image.sha256][r.rater.casefold()].append(r.score)
    return {image: float(np.mean([np.mean(own) for own in raters.values()])) for image, raters in by_rater.items()}


def _shares(duels: Iterable[Duel]) -> dict[tuple[str, str], float]:
    """By (sample key, SHA-256) the mean over raters of the share of duels won; a rater's duel shown twice counts once."""
    by_duel: defaultdict[tuple[str, str], defaultdict[tuple[str, str], list[float]]] = defaultdict(lambda: defaultdict(list))
    for d in duels:
        for own, other, won in ((d.first, d.second, d.won), (d.second, d.first, 1 - d.won)):
            by_duel[own.sample, own.sha256][d.rater.casefold(), other.candidate].append(won)
    return {image: float(np.mean([np.mean(won) for won in met.values()])) for image, met in by_duel.items()}


def _remade(value: str, stale: Iterable[Shown], samples: Mapping[tuple[str, Cell], Sample],
            scores: Mapping[tuple[str, str], float]) -> list[Gap]:
    """One gap per candidate with the number of its images that were rated, were made again, and were not rated since."""
    places = {(shown.candidate, _cell(shown)) for shown in stale}
    current = {place: samples[place] for place in places if place in samples}
    counted = Counter(name for (name, _), s in current.items() if (s.key, s.sha256) not in scores)
    return [Gap(candidate=name, value=value, count=n, why=REMADE, expected=True) for name, n in sorted(counted.items())]


def _unrated(table: pd.DataFrame, value: str, gaps: Sequence[Gap]) -> list[Gap]:
    """One gap per candidate with the number of images without the value; those with a reason of their own not counted."""
    counts = {g.candidate: g.count for g in gaps if g.value == value}
    counted = table["candidate"][table[value].isna()].value_counts(sort=False)
    return [Gap(candidate=str(name), value=value, count=int(n) - counts.get(str(name), 0), why=UNSHOWN, expected=True)
            for name, n in counted.items() if int(n) > counts.get(str(name), 0)]


def _cell(picture: Shown) -> Cell:
    return Cell(prompt=picture.prompt, seed=picture.seed, guidance=float(picture.guidance))


def _keys(images: pd.DataFrame, samples: Mapping[tuple[str, Cell], Sample]) -> Iterator[tuple[str, str]]:
    """(sample key, SHA-256) of every row."""
    columns = (images[name].tolist() for name in ("candidate", "prompt", "seed", "guidance"))
    for name, prompt, seed, guidance in zip(*columns, strict=True):
        sample = samples[str(name), Cell(prompt=str(prompt), seed=int(seed), guidance=float(guidance))]
        yield sample.key, sample.sha256
