"""The section "Human eyes": what raters said of each candidate, how far they agree, and what to make of that."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from harness.declare.effective_grid import whole_grid
from harness.declare.same_text import effective_prompts, first_of_text
from reports import formatting as words
from reports.read.blind_files import Shown
from reports.read.ratings import Duel, Rating
from reports.read.run import Run
from reports.statistics.bradley_terry import strengths
from reports.statistics.intervals import cluster_mean
from reports.statistics.rater_agreement import RELIABLE, TENTATIVE, Retest, agreement, centred, intraclass, offsets, retest
from reports.verdict.candidates import label_with_role

FEWEST_RETESTS: Final = 3
FAR: Final = 1.5
"""Points by which a rater may differ from themself, or from the others, on average before it is said aloud."""


@dataclass(frozen=True, kw_only=True)
class Section:
    """The section's rows as ready-made text; `duels` and `rows` are empty where nobody answered in that way."""

    lead: str
    rows: tuple[dict[str, Any], ...]
    duels: tuple[dict[str, Any], ...]
    agreement: tuple[str, ...]
    warnings: tuple[str, ...]


def eyes_section(run: Run, pick: str | None = None) -> Section | None:
    """What is said of the run's ratings; None for a run that was never shown to anybody."""
    eyes = run.eyes
    if not (eyes.answered or eyes.expected or eyes.damaged):
        return None
    rated, told = _rated(eyes.ratings, eyes.first_showing)
    met, tried = _met(eyes.duels, eyes.first_showing)
    unfinished = [f"{words.visible(rater)} answered {done} of {asked} in session {session}, so their level affects the means of "
                  "some pictures only." for (session, rater), (done, asked) in eyes.answered.items() if done < asked]
    raters = {rater.casefold() for _, rater in eyes.answered}
    lead = (f"{words.plural(len(raters), 'rater')}, who did not know which candidate made a picture; "
            f"{len(eyes.ratings)} scores and {len(eyes.duels)} comparisons count. Intervals are over prompts: "
            "they hold for other prompts and these raters.")
    if not raters:
        lead = "A blind page was made from this run; no answers imported yet."
    broken = [f"Unreadable, not counted: {words.visible(said)}" for said in eyes.damaged]
    remade = sorted({g.why for g in eyes.gaps if g.why.startswith("rated before")})
    return Section(lead=lead, rows=_rating_rows(run, pick), duels=_duel_rows(run, pick), agreement=(*rated, *met),
                   warnings=(*told, *tried, *unfinished, *eyes.notes, *broken,
                             *(f"Some images were {why}." for why in remade)))


def _rated(ratings: Sequence[Rating], firsts: Any) -> tuple[list[str], list[str]]:
    """Sentences on the agreement of scores, and warnings."""
    if not ratings:
        return [], []
    names, scores = _matrix([(r.rater, (r.image.sample, r.image.sha256), r.score) for r in ratings if not r.again])
    agreed = agreement(scores)
    sentences = [_alpha(agreed.alpha, agreed.low, agreed.high, (agreed.raters, agreed.units, agreed.why), "images")]
    if (icc := intraclass(scores)) is not None:
        sentences.append(f"ICC(2,1) {icc[0]:.2f} for one rater's score, ICC(2,k) {icc[1]:.2f} for the mean of all.")
    level = centred(scores)
    alike = None if level is None else agreement(level).alpha
    if alike is not None and agreed.alpha is not None:
        sentences.append(f"After subtracting each rater's mean, alpha is {words.number(alike)}: their agreement on which "
                    "images are better, regardless of the level of their scores.")
    warned = _doubts(agreed.alpha, alike, len(names), "images")
    for name, off in zip(names, offsets(scores), strict=True):
        if off is not None and abs(off) >= FAR:
            warned.append(f"{words.visible(name)} scores {abs(off):.1f} points {'above' if off > 0 else 'below'} the others.")
    scores_by_place = {(r.rater.casefold(), r.token): r.score for r in ratings}
    for name in names:
        pairs = [(scores_by_place[name.casefold(), firsts[r.token]], r.score) for r in ratings
                 if r.again and r.rater.casefold() == name.casefold() and (name.casefold(), firsts[r.token]) in scores_by_place]
        if (own := retest([p[0] for p in pairs], [p[1] for p in pairs])) is not None:
            (warned if own.pairs >= FEWEST_RETESTS and own.apart >= FAR else sentences).append(_themself(name, own))
    return sentences, warned


def _met(duels: Sequence[Duel], firsts: Any) -> tuple[list[str], list[str]]:
    """Sentences on the agreement of comparisons, and warnings."""
    if not duels:
        return [], []
    names, scores = _matrix([(d.rater, (d.first.sample, d.second.sample), d.won) for d in duels if not d.again])
    agreed = agreement(scores)
    sentences = [_alpha(agreed.alpha, agreed.low, agreed.high, (agreed.raters, agreed.units, agreed.why), "duels")]
    wins_by_place = {(d.rater.casefold(), d.token): d.won for d in duels}
    for name in names:
        pairs = [(wins_by_place[name.casefold(), firsts[d.token]], d.won) for d in duels
                 if d.again and d.rater.casefold() == name.casefold() and (name.casefold(), firsts[d.token]) in wins_by_place]
        if pairs:
            same = sum(one == other for one, other in pairs)
            sentences.append(f"{words.visible(name)} gave the same answer to {same} of "
                             f"{words.plural(len(pairs), 'repeated duel')}.")
    return sentences, _doubts(agreed.alpha, None, len(names), "duels")


def _matrix(scores: Sequence[tuple[str, Any, float]]) -> tuple[list[str], NDArray[np.float64]]:
    """Raters' names and their scores as [what was rated, raters]; several of one rater on one thing are averaged."""
    names: dict[str, str] = {}
    scores_by_cell: defaultdict[tuple[Any, str], list[float]] = defaultdict(list)
    for rater, thing, score in scores:
        names.setdefault(rater.casefold(), rater)
        scores_by_cell[thing, rater.casefold()].append(score)
    things = {thing: row for row, thing in enumerate(dict.fromkeys(thing for thing, _ in scores_by_cell))}
    column = {name: number for number, name in enumerate(names)}
    matrix = np.full((len(things), len(names)), np.nan)
    for (thing, name), own in scores_by_cell.items():
        matrix[things[thing], column[name]] = np.mean(own)
    return list(names.values()), matrix


def _alpha(alpha: float | None, low: float | None, high: float | None, of: tuple[int, int, str], things: str) -> str:
    raters, units, why = of
    if alpha is None:
        return f"Agreement between raters on {things}: not measured ({why})."
    return (f"{words.plural(raters, 'rater')} on {units} {things}: Krippendorff's alpha {words.number(alpha)} "
            f"{words.interval(low, high)} (1 is perfect, 0 is chance).")


def _doubts(alpha: float | None, alike: float | None, raters: int, things: str) -> list[str]:
    """What to beware of at this alpha; `alike` is the one with the raters' levels taken off, where there is one."""
    if raters == 1:
        return ["One rater: this is one person's taste, and there is no evidence that others share it."]
    if alpha is None or alpha >= RELIABLE:
        return []
    if alpha >= TENTATIVE:
        return [f"Alpha on {things} is below {RELIABLE:g}: sufficient for tentative conclusions only."]
    if alike is not None and alike >= TENTATIVE:
        return [f"The raters' levels differ (alpha below {TENTATIVE:.3f}), but they agree on which images are better: "
                "compare candidates, and do not rely on a limit such as 7 of 10."]
    return [f"The raters agree little on {things} (alpha below {TENTATIVE:.3f}): the mean hides that they judge "
            "differently. Describe more precisely what to judge, or ask more raters, before you rely on it."]


def _themself(name: str, own: Retest) -> str:
    few = "; too few to tell much" if own.pairs < FEWEST_RETESTS else ""
    return (f"{words.visible(name)} saw {words.plural(own.pairs, 'image')} twice: within one point in {own.close} of "
            f"{own.pairs}, {own.apart:.1f} points apart on average{few}.")


def _rating_rows(run: Run, pick: str | None) -> tuple[dict[str, Any], ...]:
    """One row per rated candidate and guidance: the mean score, its interval over prompts, raters and images."""
    if "rating" not in run.images.columns:
        return ()
    shown = {(_of(r.image), r.rater.casefold()) for r in run.eyes.ratings}
    return tuple(_row(run, pick, key, "rating", sum(of == key for of, _ in shown)) for key in _cells(run, "rating"))


def _duel_rows(run: Run, pick: str | None) -> tuple[dict[str, Any], ...]:
    """As `_rating_rows` with the share of duels won and the Bradley-Terry chance of beating an average candidate."""
    if "preferred" not in run.images.columns:
        return ()
    duels = [d for d in run.eyes.duels if not d.again]
    chances = _chances(run, duels)
    rows = []
    for key in _cells(run, "preferred"):
        raters = {d.rater.casefold() for d in duels if key in (_of(d.first), _of(d.second))}
        row = _row(run, pick, key, "preferred", len(raters))
        rows.append({**row, "share": row["mean"], "chance": chances.get(key, "not measured")})
    return tuple(rows)


def _row(run: Run, pick: str | None, key: tuple[str, float], value: str, raters: int) -> dict[str, Any]:
    rows = run.images[(run.images["candidate"] == key[0]) & (run.images["guidance"] == key[1])]
    e = cluster_mean(rows, run.row(value))
    if value == "preferred":
        mean, ends = _percent(e.mean), "no interval" if e.low is None else f"[{_percent(e.low)}, {_percent(e.high)}]"
    else:
        mean, ends = words.number(e.mean), words.interval(e.low, e.high)
    return {"name": label_with_role(run, key[0]), "at": f"{key[1]:g}", "pick": key[0] == pick, "mean": mean, "range": ends,
            "counted": f"{words.plural(raters, 'rater')}, {words.plural(e.pairs, 'image')}, {words.plural(e.prompts, 'prompt')}"}


def _percent(share: float | None) -> str:
    return "not measured" if share is None else f"{100 * share:.0f} %"


def _cells(run: Run, value: str) -> list[tuple[str, float]]:
    """The (candidate, guidance) with any such value, the best mean first."""
    groups: Any = run.images.dropna(subset=[value]).groupby(["candidate", "guidance"], sort=False)[value].mean()
    return [(str(name), float(at)) for name, at in groups.sort_values(ascending=False, kind="stable").index]


def _chances(run: Run, duels: Sequence[Duel]) -> dict[tuple[str, float], str]:
    """By (candidate, guidance) the chance of beating one of average strength, with its interval; empty where strengths cannot
    be compared."""
    names = list(dict.fromkeys(_of(shown) for d in duels for shown in (d.first, d.second)))
    first = first_of_text(effective_prompts(whole_grid(run.suite)))
    texts = [first.get(d.first.prompt, d.first.prompt) for d in duels]
    prompts = list(dict.fromkeys(texts))
    wins = np.zeros((len(prompts), len(names), len(names)))
    for d, text in zip(duels, texts, strict=True):
        one, other = names.index(_of(d.first)), names.index(_of(d.second))
        wins[prompts.index(text), one, other] += d.won
        wins[prompts.index(text), other, one] += 1 - d.won
    try:
        strength, ends = strengths(wins)
    except ValueError:
        return {}
    chance = 1 / (1 + np.exp(-strength))
    edge = None if ends is None else 1 / (1 + np.exp(-ends))
    return {name: f"{100 * chance[i]:.0f} %" + ("" if edge is None else f" [{100 * edge[0, i]:.0f}, {100 * edge[1, i]:.0f}]")
            for i, name in enumerate(names)}


def _of(picture: Shown) -> tuple[str, float]:
    return picture.candidate, float(picture.guidance)
