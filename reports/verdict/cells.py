"""The cells of a run, (candidate, guidance), scored on the select prompts, and what a reader must know before relying on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import pandas as pd

from harness.declare.effective_grid import whole_grid
from harness.declare.grid import guidance_problem
from harness.declare.models import references
from harness.declare.same_text import distinct, effective_prompts, is_unguided, same_texts
from harness.declare.suite import DEFAULT_CLIP
from harness.records import Look
from harness.records.images import PROMPTS, TEXT_PARTS
from harness.records.values import OBJECTIVE, spec_of
from reports import formatting as words
from reports.comparable import pictured_otherwise
from reports.read.interim_looks import dropped_cells
from reports.read.run import Gap, Run
from reports.statistics.intervals import LEVEL
from reports.verdict.candidates import label
from reports.verdict.costs import RETIME, slowdown, timed_apart
from reports.verdict.number_formats import in_several_formats
from reports.verdict.recommendation import Scored
from reports.verdict.saturation import cannot_tell, saturated
from reports.verdict.scoring import CELL, constrained, limited, score_table
from reports.verdict.unseen_edges import unseen_edges

FEW_PROMPTS: Final = 8


def score_cells(run: Run) -> tuple[Scored, ...]:
    """Every cell of the select split, scored (see scoring.score_table) under the constraints of the suite's objective.

    In an adaptive sweep what a look dropped stays dropped, and the intervals are of the level of the last look, so that all
    looks together leave out a cell that is truly best in at most 5 % of runs.
    """
    looks = select_looks(run)
    dropped = {(d.candidate, d.guidance) for look in looks for d in look.dropped}
    constraints = limited(run.suite.objective.constraints, run.values)
    return score_table(select_rows(run), constraints, dropped, looks[-1].level if looks else LEVEL,
                       spec_of(run.values, OBJECTIVE.name))


def select_looks(run: Run) -> list[Look]:
    """The looks of a race at the select prompts; none where the whole grid was sampled."""
    return [look for look in run.looks if look.stage == "select"]


def select_rows(run: Run) -> pd.DataFrame:
    """Rows of the select split, or all rows when the suite declares none; of a race only the prompts and seeds of its looks."""
    rows = run.images[run.images["split"] == "select"]
    rows = run.images if rows.empty else rows
    looks = select_looks(run)
    if not looks:
        return rows
    prompts, seeds = {p for look in looks for p in look.prompts}, {s for look in looks for s in look.seeds}
    return rows[rows["prompt"].isin(prompts) & rows["seed"].isin(seeds)]


def caveats(run: Run, cells: tuple[Scored, ...]) -> tuple[str, ...]:
    """What a reader must know before relying on the verdict: few prompts, gaps, failures, no confirmation."""
    sentences = [*_below_guidance(run), *_idle_negatives(run), *_toy_clip(run), *_uncounted(run)]
    prompts = effective_prompts(whole_grid(run.suite))
    counts = {split: distinct(p for p in prompts if p.split == split) for split in ("select", "confirm")}
    if repeated := same_texts(prompts):
        groups = words.listed([" = ".join(names) for names in repeated], most=8)
        sentences.append(f"Prompts with the same {_same_what(run)}: {groups}.")
    sentences.extend((*_cut(run), *_scored_in_parts(run)))
    for split, consequence in (("select", "no interval exists."), ("confirm", "nothing was confirmed on unseen prompts.")):
        if counts[split] < 2:
            sentences.append(f"The {split} split has {words.plural(counts[split], 'prompt')}: {consequence}")
    if few := [f"{count} {split}" for split, count in counts.items() if 2 <= count < FEW_PROMPTS]:
        sentences.append(f"Few prompts ({', '.join(few)}): the intervals are wide. More prompts narrow them more than more "
                    "seeds do.")
    if differing := pictured_otherwise(run):
        sentences.append(f"The images were made in several environments ({differing}), which alone can change them a little; "
                         "--fresh makes all of them in one.")
    sentences.extend(in_several_formats(run))
    for file, early in run.changed.items():
        sentences.append(f"{file} was changed between candidates: run {words.listed([label(run, n) for n in early])} again.")
    baseline = run.images[run.images["candidate"] == run.suite.baseline]
    if any(saturated(run, run.images[run.images["candidate"] == c.name], baseline, "objective") for c in run.suite.candidates):
        sentences.append(f"Against the baseline {cannot_tell('objective')}: maximise another value, or move the ends "
                         "of its desirabilities or the allowance of its penalties.")
    sentences.extend(uneven(run))
    sentences.extend(_missing(run, cells))
    sentences.extend(_left_by_post_steps(run))
    sentences.extend(unseen_edges(run))
    sentences.extend(_dropped(run, cells))
    sentences.extend(_constraints(run, cells))
    if run.damaged:
        sentences.append(f"{words.plural(len(run.damaged), 'line')} of the journal could not be read.")
    return tuple(words.visible(s) for s in sentences)


def _below_guidance(run: Run) -> list[str]:
    """That an older version sampled at scales below 1, where the negative prompt is drawn."""
    low = [scale for scale in whole_grid(run.suite).guidance_scales if guidance_problem(scale)]
    return [f"The pictures at CFG {', '.join(f'{scale:g}' for scale in low)} are drawn from the negative prompts: no guidance is "
            "1. Do not decide by them; run the suite again without these scales."] if low else []


def _uncounted(run: Run) -> list[str]:
    """Which gates the session left out by the choice of its user."""
    what = words.visible(str(run.head.get("not_counted", "")))
    return [f"{what[0].upper()}{what[1:]}."] if what else []


def _same_what(run: Run) -> str:
    """What prompts that count as one have in common, and where they do."""
    grid = whole_grid(run.suite)
    if is_unguided(grid.guidance_scales):
        return "text count as one"
    if same_texts(effective_prompts(grid)) == same_texts(grid.prompts):
        return "text and negative count as one"
    return "text count as one at CFG 1, where negatives have no effect, and wherever this scale is compared with others"


def _idle_negatives(run: Run) -> list[str]:
    """That the negative texts had no part in any image."""
    grid = whole_grid(run.suite)
    idle = is_unguided(grid.guidance_scales) and any(prompt.negative.strip() for prompt in grid.prompts)
    return ["The negative texts have no effect: every guidance scale is 1."] if idle else []


def _toy_clip(run: Run) -> list[str]:
    """That the CLIP scores are the toy's, where it knows nothing of the models."""
    foreign = [c.name for c in run.suite.candidates if any(not file.startswith("zoo:") for model in c.models
                                                                for file in references(model))]
    used = run.head.get("clip_definition") or "clip_score" in run.suite.metrics
    if run.suite.clip != DEFAULT_CLIP or not foreign or not used:
        return []
    return [f"The CLIP scores are of the built-in toy model, which knows only the built-in models' world, and "
            f"{words.listed([label(run, name) for name in foreign])} {'is' if len(foreign) == 1 else 'are'} made of files. "
            "Unless these are built-in models, or were trained from them, do not decide by the scores: give the suite a real "
            "CLIP model with clip=."]


def _missing(run: Run, cells: tuple[Scored, ...]) -> list[str]:
    """What failed, and which images and values are missing and why; each reason once."""
    sentences: list[str] = []
    failed: dict[str, list[str]] = {}
    for name in dict.fromkeys(f.candidate for f in run.failures):
        failed.setdefault(run.failure_of(name), []).append(label(run, name))
    sentences.extend(f"{words.listed(names)} {why}." for why, names in failed.items())
    explained = {f.candidate for f in run.failures} | {name for names in run.changed.values() for name in names}
    absent = [gap for gap in run.missing if gap.value == "image" and gap.candidate not in explained]
    unscored = [gap for gap in run.missing if gap.value == "objective"]
    sentences.extend(f"Missing, {why}: {names}." for why, names in _by_reason(run, absent).items())
    sentences.extend(f"Without an objective, {why}: {names}."
                     for why, names in _by_reason(run, [gap for gap in unscored if not gap.expected]).items())
    if run.defects:
        sentences.extend(f"Left out of every mean as unusable images, about which the gate on the failure rate decides: {names}."
                         for names in _by_reason(run, [gap for gap in unscored if gap.expected]).values())
    most = select_rows(run).dropna(subset=["objective"]).groupby(list(CELL)).size()
    ranked = {c.objective.pairs for c in cells if c.complete}
    if ranked and len(most) and max(ranked) < int(most.max()):
        sentences.append(f"Ranked on the {words.plural(max(ranked), 'image')} of each candidate that all ranked ones have.")
    if partial := [_named(run, c) for c in cells if not c.complete and not c.dropped]:
        sentences.append(f"Not ranked, because images or values are missing: {words.listed(partial)}.")
    return sentences


def _left_by_post_steps(run: Run) -> list[str]:
    """The pictures that a post-step left as they were, and why."""
    left: dict[str, dict[str, int]] = {}
    for pictures in run.made_of.values():
        for picture in pictures:
            for note in picture.notes:
                # The numbers of each picture are its own; what they are about is said once.
                counts = left.setdefault(note.partition(":")[0], {})
                counts[picture.candidate] = counts.get(picture.candidate, 0) + 1
    named = {step: [f"{label(run, name)} ({words.plural(count, 'image')})" for name, count in counts.items()]
             for step, counts in left.items()}
    return [f"{step} left pictures as they were, because their colour is not a temperature: {words.listed(names)}."
            for step, names in named.items()]


def _by_reason(run: Run, gaps: Sequence[Gap]) -> dict[str, str]:
    """Which candidates lack how many images, in words, by the reason."""
    names: dict[str, list[str]] = {}
    for gap in gaps:
        names.setdefault(gap.why, []).append(f"{label(run, gap.candidate)} ({words.plural(gap.count, 'image')})")
    return {why: words.listed(of) for why, of in names.items()}


def _named(run: Run, cell: Scored) -> str:
    return f"{label(run, cell.candidate)} at CFG {cell.guidance:g}"


def _dropped(run: Run, cells: tuple[Scored, ...]) -> list[str]:
    """The cells that looks took out of the race, by what for."""
    why = {key: cell.why for key, (_, cell) in dropped_cells(run.looks).items()}
    gone = [(_named(run, c), why.get((c.candidate, c.guidance), "")) for c in cells if c.dropped]
    sentences = []
    if worse := [name for name, reason in gone if not reason]:
        sentences.append(f"Not ranked, because an interim look dropped them as significantly worse than the best: "
                    f"{words.listed(worse)}.")
    if ruled := [f"{name} ({reason})" for name, reason in gone if reason]:
        sentences.append(f"Not ranked, because an interim look ruled them out by a constraint: {words.listed(ruled, most=3)}.")
    return sentences


def _constraints(run: Run, cells: tuple[Scored, ...]) -> list[str]:
    """Cells that break a constraint, and constraints that could not be judged."""
    sentences = []
    if ruled := [c for c in cells if c.complete and c.ruled_out]:
        named = [f"{_named(run, c)} ({c.ruled_out})" for c in ruled]
        sentences.append(f"Not eligible, because a constraint rules them out: {words.listed(named, most=3)}.")
    rows = select_rows(run)
    for each in limited(run.suite.objective.constraints, run.values):
        constraint, measured = each.constraint, constrained(rows, each.value)
        what = f"{words.title(each.value)} {each.words}"
        open_cells = [c for c in cells if c.complete and (measured.get((c.candidate, c.guidance)) is None
                                                          or measured[c.candidate, c.guidance].low is None)]
        if not measured:
            sentences.append(f"The constraint {what} ruled out nothing: {constraint.metric} was not measured on the images.")
        elif open_cells:
            sentences.append(f"The constraint {what} could not be evaluated: no values, or only one prompt: "
                        f"{words.listed([_named(run, c) for c in open_cells])}.")
    return sentences


def undecided(run: Run, candidate: str, guidance: float) -> tuple[str, ...]:
    """Constraints of which the data do not show that a pick keeps them."""
    sentences = []
    for each in limited(run.suite.objective.constraints, run.values):
        of = constrained(select_rows(run), each.value).get((candidate, guidance))
        if of is not None and of.low is not None and of.high is not None and not each.kept_by(of):
            sentences.append(f"The data do not show whether the pick meets {words.title(each.value)} {each.words}: it is "
                             f"{words.estimate(of, each.value)}.")
    return tuple(sentences)


def _cut(run: Run) -> list[str]:
    """Which prompts do not fit the text encoder of some candidate, so that their ends are in no image, and which do not fit one
    of several text encoders."""
    everywhere = _with_status(run, "shortened")
    in_part = [name for name in _with_status(run, "shortened_in_part") if name not in everywhere]
    count = words.plural(len(run.suite.grid.prompts), "prompt")
    sentences = [f"{len(everywhere)} of {count} do not fit the text encoder: {words.listed(everywhere, most=8)}. What is cut off "
                 "has no effect on the images. Shorten them; the coverage table says by how many tokens."] if everywhere else []
    return sentences + ([
        f"{len(in_part)} of {count} do not fit all text encoders: {words.listed(in_part, most=8)}. One of them cuts off what the "
        "others read, so the ends of these prompts have less effect on the images; the coverage table says which one, and by how "
        "many tokens."] if in_part else [])


def _scored_in_parts(run: Run) -> list[str]:
    """Which prompts are longer than the CLIP model of the scores reads at once."""
    if TEXT_PARTS not in run.images.columns:
        return []
    parts = run.images.groupby("prompt")[TEXT_PARTS].max().dropna()
    names = [words.visible(p.id) for p in run.suite.grid.prompts if p.id in parts.index]
    if not names:
        return []
    counts = " or ".join(f"{count:.0f}" for count in sorted(set(parts)))
    return [f"{len(names)} of {words.plural(len(run.suite.grid.prompts), 'prompt')} are longer than the model of the CLIP score "
            f"reads at once: {words.listed(names, most=8)}. Each was scored in {counts} parts, and its score is their mean."]


def _with_status(run: Run, status: str) -> list[str]:
    """The prompts whose text or negative text has this status for some candidate."""
    prompts = {p.id for row in run.coverage if row.stage == PROMPTS for place in row.keys.get(status, ())
               for p in run.suite.grid.prompts if place in (f"{p.id} (prompt)", f"{p.id} (negative)")}
    return [words.visible(p.id) for p in run.suite.grid.prompts if p.id in prompts]


def uneven(run: Run) -> list[str]:
    """Whose latency cannot be compared with the baseline's, because they were timed apart or the machine was slower for one of
    the two."""
    base = run.suite.baseline
    apart = [c.name for c in run.suite.candidates if timed_apart(run, c.name, base)]
    ratios = {c.name: ratio for c in run.suite.candidates
              if c.name not in apart and (ratio := slowdown(run, c.name, base)) != 1.0}
    slower = {name: ratio for name, ratio in ratios.items() if ratio > 1}
    faster = {name: 1 / ratio for name, ratio in ratios.items() if ratio < 1}
    those = "they were" if len(slower) > 1 else "".join(f"{label(run, name)} was" for name in slower)
    sentences = [f"The latency of {words.listed([label(run, name) for name in apart])} is not comparable with that of "
                 f"{label(run, base)}: they were not timed together. To compare them, {RETIME}."] if apart else []
    return sentences + [
        f"The latency of {words.listed([label(run, name) for name in times])} is not comparable with that of "
        f"{label(run, base)}: the machine was {'up to ' if len(times) > 1 else ''}{max(times.values()):.1f} times slower "
        f"while {timed} timed. To compare them, {RETIME}."
        for times, timed in ((slower, those), (faster, f"{label(run, base)} was")) if times]
