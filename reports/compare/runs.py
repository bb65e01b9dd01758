"""Two runs side by side: what was declared, where they ran, which images are the same, and by how much each value moved. What
cannot be compared comes back with its reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from harness.declare import plain
from harness.records import Journal, Sample, ValueSpec
from reports import formatting as words
from reports.comparable import last_bits, measured_in, measured_otherwise, same_prompts, sampled_as, sampled_otherwise
from reports.compare.common_places import on_common_places
from reports.compare.costs import ABSENT, Cost, common, differences, flat, ratios
from reports.compare.pairs import paired, word_of
from reports.compare.picks import Picks, compare_picks
from reports.gates import Verdict, judge
from reports.gates.decision import Headline, headline
from reports.read.beside import scales_of
from reports.read.objective import depends_on_prompt
from reports.read.prompts import pictures_of, prompts_of
from reports.read.run import Run
from reports.statistics.intervals import Estimate, holm
from reports.verdict.recommendation import Recommendation
from reports.verdict.recommending import recommend

NO_CANDIDATE: Final = "no candidate of that name is in both runs; the picks alone are compared"


@dataclass(frozen=True, kw_only=True)
class Changed:
    """One candidate in both declarations: `what` is added, removed, same, weights (other weights: by content, recipe, adapters
    and quantization), declared (another declaration of the same weights) or unknown (one run has none on record)."""

    candidate: str
    what: str
    identical: int = 0
    common: int = 0


@dataclass(frozen=True, kw_only=True)
class Moved:
    """B minus A in one value of one candidate at one guidance, paired by prompt and seed."""

    value: str
    spec: ValueSpec
    candidate: str
    guidance: float
    difference: Estimate
    word: str


@dataclass(frozen=True, kw_only=True)
class GateChange:
    """One gate on one candidate in both runs; a status is empty where the run has no such gate."""

    gate: str
    candidate: str
    before: Verdict | None
    after: Verdict | None

    @property
    def changed(self) -> bool:
        """Whether the status is another one."""
        return (self.before and self.before.status) != (self.after and self.after.status)


@dataclass(frozen=True, kw_only=True)
class Compared:
    """All of it. `refused` says for each value why it is not compared; under "" is what stands against all of them."""

    a: Run
    b: Run
    verdicts: tuple[Recommendation, Recommendation]
    headlines: tuple[Headline, Headline]
    candidates: tuple[Changed, ...]
    declared: tuple[tuple[str, str, str], ...]
    environment: tuple[tuple[str, str, str], ...]
    moved: tuple[Moved, ...]
    picks: Picks
    refused: Mapping[str, str]
    costs: tuple[Cost, ...]
    gates: tuple[GateChange, ...]
    notes: tuple[str, ...]

    def row(self, value: str) -> ValueSpec:
        """The row of a value of either run."""
        return self.b.row(value) if value in self.b.values else self.a.row(value)

    @property
    def not_offered(self) -> set[str]:
        """Candidates that the devices of both runs do not offer: nobody lacks them."""
        return set(self.a.head.get("not_offered", {})) & set(self.b.head.get("not_offered", {}))

    @property
    def comparable(self) -> bool:
        """Whether anything could be compared at all."""
        return self.picks.compared or any(row.word != ABSENT for row in self.moved)

    def counted(self, value: str) -> dict[str, int]:
        """How many rows of a value have each word."""
        counts: dict[str, int] = {}
        for row in self.moved:
            if row.value == value:
                counts[row.word] = counts.get(row.word, 0) + 1
        return counts


def compare(a: Run, b: Run) -> Compared:
    """B against A. Differences are means of paired differences with the prompt as cluster; all rows of one value are one
    family (Holm's steps, `statistics.holm`), so that its "better" and "worse" hold together at 95 %."""
    verdicts = (recommend(a), recommend(b))
    judged = (judge(a, verdicts[0]), judge(b, verdicts[1]))
    prompts, notes = _prompts(a, b)
    alike = on_common_places(a, b)
    refused = _refused(*alike)
    values = [v for v in _values(a, b) if v not in refused] if "" not in refused else []
    moved = tuple(row for value in values for row in _moved(*alike, value, prompts))
    picks = compare_picks((a, verdicts[0]), (b, verdicts[1]), {v: b.row(v) for v in values if prompts}, prompts, alike)
    if not refused.get("") and not prompts:
        refused = {"": "no prompt is the same in both: identifier, text, negative text and the pictures in use must agree"}
    elif values and not common(a, b):
        refused = {**refused, "": NO_CANDIDATE}
    own = [] if "" in refused else [f"{words.visible(name)} is sampled otherwise in B ({words.visible(differing)}): left out."
                                    for name, differing in _sampled_otherwise(a, b).items()]
    headlines = (headline(a, verdicts[0], judged[0]), headline(b, verdicts[1], judged[1]))
    return Compared(a=a, b=b, verdicts=verdicts, headlines=headlines, candidates=_candidates(a, b), declared=_declared(a, b),
                    environment=differences(flat(a.environment), flat(b.environment)), moved=moved, picks=picks, refused=refused,
                    costs=ratios(a, b), gates=_gates(a, b, judged),
                    notes=(*notes, *own, *_batch_notes(a, b), *(_pooled_notes(alike[1], values) if alike[1] is not b else ())))


def _candidates(a: Run, b: Run) -> tuple[Changed, ...]:
    shared = common(a, b)
    digests = (_digests(a), _digests(b))
    changes = [Changed(candidate=c.name, what="removed") for c in a.suite.candidates if c.name not in shared]
    for c in b.suite.candidates:
        if c.name not in shared:
            changes.append(Changed(candidate=c.name, what="added"))
            continue
        before, after = a.weights.get(c.name), b.weights.get(c.name)
        what = ("unknown" if before is None or after is None else "weights" if before.identity != after.identity else
                "declared" if a.candidate(c.name).key != c.key else "same")
        mine, theirs = (of.get(c.name, {}) for of in digests)
        both = mine.keys() & theirs.keys()
        changes.append(Changed(candidate=c.name, what=what, common=len(both),
                             identical=sum(mine[cell] == theirs[cell] for cell in both)))
    return tuple(changes)


def _digests(run: Run) -> dict[str, dict[tuple[str, str, int, float], str]]:
    """The hash of every image that counts, by candidate, and by prompt with its texts and pictures, seed and guidance."""
    keys = set(run.images["sample"])
    texts = prompts_of(run)
    pictures = {c.name: pictures_of(run, [c.name]) for c in run.suite.candidates}
    digests: dict[str, dict[tuple[str, str, int, float], str]] = {}
    for r in Journal(run.folder / "journal.jsonl").records([]):
        if isinstance(r, Sample) and r.key in keys and r.cell.prompt in texts:
            own = (f"{name} {content}" for name, content in pictures[r.candidate].get(r.cell.prompt, {}).items())
            place = (r.cell.prompt, "\n".join((*texts[r.cell.prompt], *own)), r.cell.seed, float(r.cell.guidance))
            digests.setdefault(r.candidate, {})[place] = r.sha256
    return digests


def _declared(a: Run, b: Run) -> tuple[tuple[str, str, str], ...]:
    """What differs in the declarations beside the candidates, by dotted name."""
    parts = []
    for run in (a, b):
        declared = {k: v for k, v in plain(run.suite).items() if k not in ("candidates", "gates", "name", "description")}
        grid = dict(declared["grid"])
        grid["prompts"] = {p.id: " / ".join((p.text, p.negative, p.split, *([p.syntax] if p.syntax else []),
                                             *(f"{name}: {file}" for name, file in sorted(p.pictures.items()))))
                           for p in run.suite.grid.prompts}
        parts.append(flat({**declared, "grid": grid, "gates": [*map(run.suite.gate_name, run.suite.gates)]}))
    return differences(*parts)


def _prompts(a: Run, b: Run) -> tuple[set[str], list[str]]:
    """The prompts that are the same in both, and notes on those whose text or picture is another one."""
    texts, pictures = (prompts_of(a), prompts_of(b)), (pictures_of(a), pictures_of(b))
    alike, same = same_prompts(*texts, ({}, {})), same_prompts(*texts, pictures)
    others = {"text": len(texts[0].keys() & texts[1].keys()) - len(alike), "picture": len(alike) - len(same)}
    return same, [f"{words.plural(count, 'prompt')} with the same identifier and another {what}: left out."
                  for what, count in others.items() if count]


def _sampled_otherwise(a: Run, b: Run) -> dict[str, str]:
    """By name the common candidates that say themselves how they are sampled, and say another way in B."""
    differing = {name: sampled_otherwise(sampled_as(a, name), sampled_as(b, name)) for name in common(a, b)}
    return {name: text for name, text in differing.items() if text}


def _batch_notes(a: Run, b: Run) -> list[str]:
    differing = last_bits(a.head["sampling"], b.head["sampling"])
    return [f"Sampled with another {differing}: the noise is the same, the last bits of images are not."] if differing else []


def _pooled_notes(run: Run, values: list[str]) -> list[str]:
    """That the grids differ, where it matters: for values that are counted over all images of a prompt."""
    pooled = [words.title(run.row(v)) for v in values if depends_on_prompt(v, run.suite.objective, run.values)]
    return [f"The runs have different seeds or guidance scales. {words.listed(pooled)} of an image depends on the other images "
            "of its prompt; it is compared over the seeds and scales that both have."] if pooled else []


def _values(a: Run, b: Run) -> list[str]:
    """The values of either run that are numbers, in A's order, then B's."""
    names = dict.fromkeys([*a.values, *b.values])
    return [n for n in names if n in {*a.numeric_values, *b.numeric_values}]


def _refused(a: Run, b: Run) -> dict[str, str]:
    """Why values are not compared; under "" what stands against all of them."""
    if differing := sampled_otherwise(a.head["sampling"], b.head["sampling"]):
        return {"": f"sampled with other settings ({differing}), so that no image of the one is the pair of an image of the "
                    "other; unpaired differences are not made"}
    reasons = {v: why for v in _values(a, b) if (why := _why_not(a, b, v))}
    if not reasons.get("objective") and (why := _objective(a, b, reasons)):
        reasons["objective"] = why
    return reasons


def _why_not(a: Run, b: Run, value: str) -> str:
    if value not in a.values or value not in b.values:
        return f"not measured in {'A' if value not in a.values else 'B'}"
    return measured_otherwise(measured_in(a, value), measured_in(b, value))


def _objective(a: Run, b: Run, refused: Mapping[str, str]) -> str:
    if plain(a.suite.objective) != plain(b.suite.objective):
        return "the suites declare another objective"
    o = a.suite.objective
    parts = [o.maximise, *(p.metric for p in o.penalties), *(d.metric for d in o.desirabilities)]
    return next((f"{part}, a part of it: {refused[part]}" for part in parts if part in refused), "")


def _moved(a: Run, b: Run, value: str, prompts: set[str]) -> list[Moved]:
    """The rows of one value: every common candidate at every common guidance."""
    others = _sampled_otherwise(a, b)
    places = [(name, g) for name in common(a, b) if name not in others
              for g in scales_of(b, name) if g in scales_of(a, name)]
    spec = b.row(value)
    pairs = [paired((a, place), (b, place), spec, prompts) for place in places]
    adjusted = holm([pair.difference for pair in pairs], spec)
    return [Moved(value=value, spec=spec, candidate=name, guidance=g, difference=d,
                  word=word_of(replace(pair, difference=d), spec.better))
            for (name, g), pair, d in zip(places, pairs, adjusted, strict=True)]


def _gates(a: Run, b: Run, judged: tuple[list[Verdict], list[Verdict]]) -> tuple[GateChange, ...]:
    """Every gate of either suite; one about "the pick" is one row, whoever the pick is in each."""
    changes = []
    for run, verdicts in zip((a, b), judged, strict=True):
        of_pick = {run.suite.gate_name(g) for g in run.suite.gates if not g.candidates}
        changes.append({(v.gate, "" if v.gate in of_pick else v.candidate): v for v in verdicts})
    keys = dict.fromkeys([*changes[0], *changes[1]])
    return tuple(GateChange(gate=gate, candidate=name, before=changes[0].get((gate, name)), after=changes[1].get((gate, name)))
                 for gate, name in keys)
