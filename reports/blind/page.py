"""The blind page: pictures of some candidates in one offline file that says nothing of what made them, and the key to it."""

from __future__ import annotations

import hashlib
import json
import random
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Final

from markupsafe import Markup

from harness.declare.candidate_names import hint
from harness.records import write_atomically
from harness.records.harmless_text import in_script
from harness.records.regular_files import LARGEST_IMAGE, lies_below, read_regular
from reports import formatting as words
from reports.page.shell import environment, policy, source
from reports.page.thumbnails import LOSSLESS, thumbnail
from reports.read.beside import rows_at, scale_at
from reports.read.blind_files import FOLDER, HIGHEST, PREFERENCE, RATING, SHEET_FORMAT, Session, Shown, write_key
from reports.read.run import Run
from reports.verdict.recommendation import Recommendation

PROMPTS: Final = 8
SEEDS: Final = 1
MOST_RATED, MOST_DUELLING = 6, 4
"""Candidates taken when none are named: more would make a session longer than people keep their standards for."""
REPEATED_SHARE: Final = 0.1
FEWEST_REPEATS: Final = 2
BUDGET: Final = 24_000_000
ENCODINGS: Final = ((4096, LOSSLESS), (4096, 92), (1024, 90), (768, 88), (512, 84))
SECONDS_PER_ANSWER: Final = 6


@dataclass(frozen=True, kw_only=True)
class Ask:
    """What to show: empty `candidates` and no `guidance` mean what the run recommends. `seed` makes order and tokens
    repeatable; without one they are drawn anew."""

    prompts: int = PROMPTS
    seeds: int = SEEDS
    guidance: float | None = None
    candidates: tuple[str, ...] = ()
    preference: bool = False
    raters: int = 3
    seed: int | None = None


@dataclass(frozen=True, kw_only=True)
class Blind:
    """A page and its key as written, and what to tell whoever asked for it."""

    page: Path
    key: Path
    session: Session
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One image that will be shown: what the key says of it, its prompt's text, and itself as a data URI."""

    shown: Shown
    text: str
    src: str


def write_blind(run: Run, rec: Recommendation, ask: Ask, to: Path | None = None, budget: int = BUDGET) -> Blind:
    """Writes the page and, first, its key into the run folder. ValueError when there is nothing that can be shown."""
    names, guidance, notes = _chosen(run, rec, ask)
    blocks, more = _blocks(run, (names, guidance), ask)
    pictures, left = _encoded(run, blocks, budget)
    session = make_session(pictures, ask)
    key = write_key(run.folder, session)
    page = to if to is not None else run.folder / FOLDER / f"{session.session}.html"
    write_atomically(page, render(session, pictures).encode("utf-8", errors="replace"))
    shows, minutes = len(session.shows), max(1, round(len(session.shows) * SECONDS_PER_ANSWER / 60))
    asked = "duels" if ask.preference else "pictures"
    counted = (f"{shows} {asked}, {len(session.repeats)} of them shown for the second time, from {len(pictures)} images; "
               f"about {words.plural(minutes, 'minute')} for each of {words.plural(ask.raters, 'rater')}")
    return Blind(page=page, key=key, session=session, notes=(*notes, *more, *left, counted))


def make_session(pictures: Sequence[Picture], ask: Ask) -> Session:
    """The session of some pictures: tokens and session id are drawn from the seed and from the images themselves, so that
    two runs never share one and the same seed makes the same page again."""
    seed = secrets.randbits(64) if ask.seed is None else ask.seed
    mode = PREFERENCE if ask.preference else RATING
    images = [p.shown for p in pictures]
    basis = [seed, mode, ask.raters, [[i.sample, i.sha256, i.candidate] for i in images]]
    rng = random.Random(int.from_bytes(hashlib.sha256(json.dumps(basis).encode()).digest()))
    name = f"{rng.getrandbits(48):012x}"
    places = list(_duels(images, rng)) if ask.preference else [(i,) for i in range(len(images))]
    rng.shuffle(places)
    count = min(len(places), max(FEWEST_REPEATS, round(REPEATED_SHARE * len(places)))) if len(places) > 2 else 0
    again = rng.sample(range(len(places)), count)
    tokens = list(dict.fromkeys(f"{rng.getrandbits(48):012x}" for _ in range(2 * (len(places) + count))))
    firsts, seconds = tokens[:len(places)], tokens[len(places):len(places) + count]
    shows = dict(zip(firsts, places, strict=True)) | {t: places[at] for t, at in zip(seconds, again, strict=True)}
    return Session(session=name, mode=mode, raters=ask.raters, images=tuple(images),
                   shows={token: shows[token] for token in sorted(shows)},
                   repeats={token: firsts[at] for token, at in zip(seconds, again, strict=True)})


def render(session: Session, pictures: Sequence[Picture]) -> str:
    """The page as text: pictures in an order of their own, tokens, prompts' texts, and nothing else of the run."""
    # Pictures in the order of their hashes: an order of cells would tell candidates apart, and equal pictures are one.
    sources = sorted({p.src for p in pictures}, key=lambda src: hashlib.sha256(src.encode()).digest())
    at = {src: number for number, src in enumerate(sources)}
    shows = [{"token": token, "text": pictures[places[0]].text, "at": [at[pictures[i].src] for i in places]}
             for token, places in session.shows.items()]
    data = {"session": session.session, "mode": session.mode, "format": SHEET_FORMAT, "highest": HIGHEST,
            "pictures": sources, "shows": shows, "repeats": sorted(map(sorted, session.repeats.items()))}
    script = source("blind.js")
    return environment().get_template("blind.html.j2").render(
        policy=policy(script), style=Markup(source("blind.css")), script=Markup(script),
        data=Markup(in_script(json.dumps(data))), duels=session.mode == PREFERENCE, session=session.session)


def _chosen(run: Run, rec: Recommendation, ask: Ask) -> tuple[list[str], float, list[str]]:
    """The candidates and the guidance to show, and how they were come by."""
    known = [c.name for c in run.suite.candidates]
    if strays := [name for name in ask.candidates if name not in known]:
        raise ValueError(f"suite {run.suite.name!r} has no candidate {strays[0]!r}; {hint(strays[0], known)}")
    scales = sorted(float(g) for g in run.images["guidance"].unique())
    guidance = ask.guidance if ask.guidance is not None else rec.guidance if rec.guidance is not None else (
        scales[0] if len(scales) == 1 else None)
    if guidance is None or guidance not in scales:
        raise ValueError(f"{'the run recommends no guidance' if guidance is None else f'no images at guidance {guidance:g}'}; "
                         f"say one with --guidance: {', '.join(f'{g:g}' for g in scales) or 'this run has no images'}")
    notes = [f"at CFG {guidance:g}"]
    names = list(dict.fromkeys(ask.candidates))
    if not names:
        if rec.pick is None:
            raise ValueError(f"the run recommends nothing ({rec.sentence}); name two or more with --candidates: "
                             f"{','.join(known)}")
        most = MOST_DUELLING if ask.preference else MOST_RATED
        mean = {c.candidate: c.objective.mean or 0.0 for c in rec.cells if c.guidance == scale_at(run, c.candidate, guidance)}
        tied = sorted((n for n in rec.tied_candidates if n not in (rec.pick, *run.roles)),
                      key=lambda n: -mean.get(n, 0.0))
        candidates = list(dict.fromkeys([rec.pick, *run.roles, *tied]))
        names = candidates[:most]
        notes[0] += "; the pick, its rivals and the candidates tied with it"
        if left := candidates[most:]:
            notes.append(f"left out to keep it short: {words.listed(list(map(words.visible, left)), 12)} (name them with "
                        "--candidates)")
    if len(names) < 2:
        raise ValueError(f"only {names[0]!r} to show; a comparison needs two candidates or more (--candidates a,b)")
    notes.insert(0, f"candidates: {words.listed(list(map(words.visible, names)), 12)}, {notes.pop(0)}")
    return names, guidance, notes


def _blocks(run: Run, what: tuple[list[str], float], ask: Ask) -> tuple[list[list[dict[Any, Any]]], list[str]]:
    """By (prompt, seed) one row of every candidate: prompts of the confirm split first, then seeds in declared order. Where
    one candidate lacks its image nobody's is shown: raters would else compare candidates by different prompts."""
    names, guidance = what
    rows = rows_at(run, guidance)
    rows = rows[rows["candidate"].isin(names)]
    rows_by_cell = {(r["candidate"], r["prompt"], int(r["seed"])): r for r in rows.to_dict("records")
             if str(r["sample"]) not in run.defects}
    ordered = [p for split in ("confirm", "select") for p in run.suite.grid.prompts if p.split == split]
    blocks, lacking, used = list[list[dict[Any, Any]]](), 0, dict[str, int]()
    for prompt in ordered:
        for seed in run.suite.grid.seeds:
            if used.get(prompt.id, 0) >= ask.seeds or (prompt.id not in used and len(used) >= ask.prompts):
                continue
            block = [rows_by_cell[n, prompt.id, seed] for n in names if (n, prompt.id, seed) in rows_by_cell]
            if len(block) < len(names):
                lacking += 1
                continue
            used[prompt.id] = used.get(prompt.id, 0) + 1
            blocks.append(block)
    if not blocks:
        raise ValueError(f"no prompt and seed at CFG {guidance:g} has images of all of {', '.join(map(repr, names))}")
    splits = {p.id: p.split for p in ordered}
    confirm = sum(splits[p] == "confirm" for p in used)
    notes = [f"prompts: {confirm} of the confirm split, {len(used) - confirm} of the select split; "
            f"{words.plural(len(blocks), 'prompt and seed pair')}"]
    if confirm < len(used) and confirm:
        notes.append("the pick was chosen on the select prompts: a gate on the rating of the pick reads the confirm ones alone")
    return blocks, notes + ([f"passed over for lack of images: {words.plural(lacking, 'prompt and seed pair')}"] if lacking
                           else [])


def _encoded(run: Run, blocks: list[list[dict[Any, Any]]], budget: int) -> tuple[list[Picture], list[str]]:
    """The pictures of the blocks, all encoded alike, as well as the budget (characters) allows; whole blocks are left out
    where even the smallest encoding is too large."""
    digests = {row["path"]: _digest(run, str(row["path"])) for block in blocks for row in block}
    for size in ENCODINGS:
        first = sum(len(_source(run, row, size)) for row in blocks[0])
        if first * len(blocks) <= 0.9 * budget:
            break
    pictures, spent, done = list[Picture](), 0, 0
    for block in blocks:
        made = [Picture(shown=_shown(row, digests[row["path"]]), text=words.visible(str(row["text"])),
                        src=_source(run, row, size)) for row in block]
        spent += sum(len(p.src) for p in made)
        if spent > budget and pictures:
            break
        pictures.extend(made)
        done += 1
    notes = [] if size[1] == LOSSLESS else [f"all pictures are compressed alike (WebP quality {size[1]}, at most {size[0]} "
                                           "pixels) to keep the page small"]
    return pictures, notes + ([f"left out to keep the page small: the last {len(blocks) - done} of {len(blocks)} prompt and seed "
                              "pairs"] if done < len(blocks) else [])


def _source(run: Run, row: dict[Any, Any], size: tuple[int, int]) -> str:
    try:
        return thumbnail(run.folder, str(row["path"]), *size, run.digests)
    except ValueError as error:
        raise ValueError(f"{words.visible(str(row['path']))}: {error}; run the suite again to make it anew") from error


def _digest(run: Run, path: str) -> str:
    """SHA-256 of an image file inside the run folder; ValueError when it is not the file that the journal speaks of."""
    file = run.folder / path
    if "\0" in path or not lies_below(file, run.folder):
        raise ValueError(f"{words.visible(path)}: its path leads out of the run folder")
    try:
        digest = hashlib.sha256(read_regular(file, LARGEST_IMAGE)).hexdigest()
    except OSError as error:
        raise ValueError(f"{file}: cannot be read ({type(error).__name__}); run the suite again to make it anew") from error
    if digest != run.digests.get(path):
        raise ValueError(f"{file}: altered since it was written; run the suite again to make it anew")
    return digest


def _shown(row: dict[Any, Any], digest: str) -> Shown:
    return Shown(sample=str(row["sample"]), sha256=digest, candidate=str(row["candidate"]), prompt=str(row["prompt"]),
                 seed=int(row["seed"]), guidance=float(row["guidance"]))


def _duels(images: Sequence[Shown], rng: random.Random) -> Iterator[tuple[int, int]]:
    """Every pair of candidates at every prompt and seed, the two of a pair in random order."""
    at: dict[tuple[str, int], list[int]] = {}
    for number, image in enumerate(images):
        at.setdefault((image.prompt, image.seed), []).append(number)
    for places in at.values():
        for one, other in combinations(places, 2):
            yield (one, other) if rng.random() < 0.5 else (other, one)

