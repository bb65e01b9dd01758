"""Quantization and runtime suites: what each candidate loses against the baseline, and the cheapest that loses nothing seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import pandas as pd

from reports import formatting as words
from reports.read.lacking import asked_places, lacking
from reports.read.run import Run
from reports.statistics.intervals import Estimate, cluster_mean, paired_difference
from reports.verdict.candidates import label, label_with_role, not_run
from reports.verdict.cells import caveats, score_cells, select_rows, undecided
from reports.verdict.costs import footprint, incomparable, seconds_per_image, speed
from reports.verdict.recommendation import Comparison, Recommendation
from reports.verdict.settling import of_comparisons

CLEARLY_LESS: Final = 0.98
FIDELITY_RULE: Final = (
    "No loss is found for a candidate when the interval of its paired objective difference from the baseline (95 %, t, "
    "prompts as clusters, select prompts) reaches 0 or above. Of those, the fastest whose every timed round beats every "
    "round of the baseline is picked. If none is faster: the one with the least memory (its weights, else the device's "
    "peak), when that is at least 2 % below the baseline's and it is not slower. Else the baseline stays. Where the machine's "
    "own speed, by a fixed small computation, differed by more than 1.2 times, times are not compared. A candidate that a "
    "constraint rules out at the recommended guidance is not picked.")


@dataclass(frozen=True, kw_only=True)
class Loss:
    """One candidate against the baseline: images that are equal to the last bit, PSNR of the others, the differences; `scores` in
    the order of `Run.scores`."""

    candidate: str
    exact: int
    compared: int
    psnr_median: float | None
    psnr: Estimate
    scores: tuple[Estimate, ...]
    objective: Estimate
    ratio: float | None
    pace: str


def losses(run: Run) -> tuple[Loss, ...]:
    """The losses of every candidate but the baseline, over all prompts, seeds and guidance scales of both splits.

    PSNR is the median over images that are not exact matches (those have none); its interval is that of the mean. A difference is
    over all images that were asked for, or not measured.
    """
    found = []
    for c in run.suite.candidates:
        if c.name == run.suite.baseline:
            continue
        rows = _rows(run.images, c.name)
        psnr = rows["psnr_db"].dropna() if "psnr_db" in rows.columns else pd.Series(dtype=float)
        exact = rows["exact_match"].dropna() if "exact_match" in rows.columns else pd.Series(dtype=float)
        ratio, pace = speed(run, c.name, run.suite.baseline)
        found.append(Loss(candidate=c.name, exact=int((exact == 1).sum()), compared=len(exact) or len(psnr),
                          psnr_median=float(psnr.median()) if len(psnr) else None, psnr=cluster_mean(rows, run.row("psnr_db")),
                          scores=tuple(_whole_difference(run, run.images, c.name, value) for value in run.scores),
                          objective=_whole_difference(run, run.images, c.name), ratio=ratio, pace=pace))
    return tuple(found)


def recommend_cheapest(run: Run) -> Recommendation:
    """The Recommendation that FIDELITY_RULE names; the guidance is the baseline's best on the select prompts."""
    cells = score_cells(run)
    baseline = run.suite.baseline
    ours = [c for c in cells if c.candidate == baseline and c.objective.mean is not None]
    if not ours:
        return Recommendation(kind="fidelity", axis=None, pick=None, guidance=None, rule=FIDELITY_RULE, cells=cells,
                              caveats=caveats(run, cells), sentence="No recommendation: the baseline was not measured "
                              f"({run.failure_of(baseline) or 'no images'}), so there is nothing to compare with.")
    guidance = max([c for c in ours if not c.ruled_out] or ours, key=lambda c: c.objective.mean or 0.0).guidance
    ruled = {c.candidate: c.ruled_out for c in cells if c.guidance == guidance and c.ruled_out}
    select = select_rows(run)
    differences = {c.name: _whole_difference(run, select, c.name) for c in run.suite.candidates if c.name != baseline}
    on_a_par = [name for name, d in differences.items() if d.high is not None and d.high >= 0 and name not in ruled]
    pick, why = _cheapest(run, on_a_par)
    if pick in ruled:
        return Recommendation(kind="fidelity", axis=None, pick=None, guidance=None, rule=FIDELITY_RULE, cells=cells,
                              caveats=_caveats(run, differences, ruled), sentence="No recommendation: "
                              f"{label_with_role(run, pick)} is ruled out by a constraint ({ruled[pick]}), and no cheaper mode "
                              "of equal quality keeps them all.")
    if all(d.mean is None for d in differences.values()):
        why = "; ".join(filter(None, ("there was nothing to compare with it", not_run(run))))
    comparisons = _comparisons(run, pick)
    evidence = _evidence(run, pick, why, comparisons)
    return Recommendation(kind="fidelity", axis=None, pick=pick, guidance=guidance, rule=FIDELITY_RULE, cells=cells,
                          tied_candidates=(baseline, *on_a_par), tied_guidances=(guidance,), comparisons=comparisons,
                          settling=of_comparisons(run, comparisons),
                          caveats=(*_caveats(run, differences, ruled), *undecided(run, pick, guidance)),
                          reasons=_reasons(run, differences, on_a_par),
                          evidence=evidence, sentence=f"The best candidate is {label_with_role(run, pick)}; {evidence}.")


def _whole_difference(run: Run, rows: pd.DataFrame, name: str, value: str = "objective") -> Estimate:
    """The paired difference in a value from the baseline over `rows`; none where either lacks images or values that were asked
    for: what a mode loses may be just in them."""
    splits = frozenset(rows["split"])
    prompts = {p.id for p in run.suite.grid.prompts if p.split in splits}
    places = asked_places(run, name, prompts) & asked_places(run, run.suite.baseline, prompts)
    for who in (name, run.suite.baseline):
        if why := lacking(run, who, value, places).why:
            named = "" if who == name else f"{label(run, who)}: "
            return Estimate(mean=None, low=None, high=None, prompts=0, pairs=0, why=f"{named}{why}")
    return paired_difference(_rows(rows, name), _rows(rows, run.suite.baseline), run.row(value))


def _cheapest(run: Run, on_a_par: list[str]) -> tuple[str, str]:
    baseline = run.suite.baseline
    faster = [n for n in on_a_par if speed(run, n, baseline)[1] == "faster"]
    if faster:
        pick = min(faster, key=lambda n: seconds_per_image(run, n).median or 0.0)
        unlike = [label(run, n) for n in faster if incomparable(run, n, pick)]
        aside = f" (its time cannot be compared with that of {words.listed(unlike)})" if unlike else ""
        return pick, f"it takes {speed(run, pick, baseline)[0]:.2f} times the baseline's seconds per image{aside}"
    reference = footprint(run, baseline)
    smaller = {n: r.value for n in on_a_par if (r := footprint(run, n)).value is not None and r.name == reference.name
               and reference.value and r.value < CLEARLY_LESS * reference.value and speed(run, n, baseline)[1] != "slower"}
    if smaller:
        pick = min(smaller, key=lambda n: smaller[n] or 0.0)
        pace = "its speed was not compared" if speed(run, pick, baseline)[0] is None else "it is not measurably faster"
        return pick, (f"{pace}, but needs less memory ({words.reading(reference.name)}: "
                      f"{words.size(smaller[pick] or 0.0)} instead of {words.size(reference.value or 0.0)})")
    if unseen := speed_not_compared(run, on_a_par):
        return baseline, f"nothing of equal quality was shown to be cheaper; {unseen}"
    return baseline, "nothing of equal quality was measurably faster, or smaller at equal speed"


def speed_not_compared(run: Run, names: Sequence[str]) -> str:
    """Whose speed could not be compared with the baseline's, in words; an empty string where all were compared."""
    untimed = [n for n in names if speed(run, n, run.suite.baseline)[0] is None]
    if not untimed:
        return ""
    whose = "" if len(untimed) == len(names) else f" of {words.listed([label(run, n) for n in untimed])}"
    return f"{'the speed' if whose else 'speed'}{whose} was not compared"


def _comparisons(run: Run, pick: str) -> tuple[Comparison, ...]:
    if pick == run.suite.baseline:
        return ()
    confirm = run.images[run.images["split"] == "confirm"]
    rows, split = (confirm, "confirm") if len(confirm) else (select_rows(run), "select")
    comparisons = []
    for value in ("objective", *run.scores):
        d = paired_difference(_rows(rows, pick), _rows(rows, run.suite.baseline), run.row(value))
        comparisons.append(Comparison(other=run.suite.baseline, role="baseline", guidance=None, other_guidance=None, value=value,
                                split=split, difference=d, word=d.word))
    return tuple(comparisons)


def _evidence(run: Run, pick: str, why: str, comparisons: tuple[Comparison, ...]) -> str:
    """How the pick compares with the baseline in quality, and what it costs less."""
    if pick == run.suite.baseline:
        return why
    c, d = comparisons[0], comparisons[0].difference
    where = (f"on {words.plural(d.prompts, 'held-out confirm prompt')}" if c.split == "confirm" else
             "on the prompts used to choose, unconfirmed,")
    verdict = {"better": "better than", "worse": "worse than", "tied": "not distinguishable from"}.get(
        c.word, "not compared with")
    numbers = d.why if d.mean is None else f"{words.signed(d.mean)} {words.interval(d.low, d.high)} objective points"
    return f"{where} it is {verdict} {label(run, c.other)} ({numbers}), and {why}"


def _reasons(run: Run, differences: dict[str, Estimate], on_a_par: list[str]) -> tuple[str, ...]:
    sentences = []
    for name, d in differences.items():
        ratio, pace = speed(run, name, run.suite.baseline)
        time = (f"{ratio:.2f} times the baseline's time ({pace})" if ratio is not None else
                f"its time is {pace}" if pace.startswith("not comparable") else "its time was not compared")
        status = "no loss found" if name in on_a_par else "out"
        if failed := run.failure_of(name):
            sentences.append(f"{label(run, name)}: out, it {words.visible(failed)}.")
            continue
        sentences.append(f"{label(run, name)}: {status}, objective difference {words.estimate(d, difference=True)}; {time}.")
    return tuple(sentences)


def _caveats(run: Run, differences: dict[str, Estimate], ruled: Mapping[str, str]) -> tuple[str, ...]:
    widest = [d.high - d.low for d in differences.values() if d.high is not None and d.low is not None]
    sentences = list(caveats(run, ()))
    if ruled:
        sentences.append("Not eligible, because a constraint rules them out: "
                         f"{words.listed([f'{label(run, name)} ({why})' for name, why in ruled.items()])}.")
    if widest:
        sentences.append(f"A loss below about {max(widest) / 2:.2f} objective points would have gone unnoticed here.")
    return tuple(sentences)


def _rows(table: pd.DataFrame, candidate: str) -> pd.DataFrame:
    return table[table["candidate"] == candidate]
