"""The race of a suite with a budget: interim looks at more and more prompts with fewer and fewer candidates, until the answer is
stable; then the confirmation, and more seeds for gates that cannot be decided yet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final, TypeAlias

from harness.declare import BASELINE, Budget, Candidate, Suite, grid_of, short_hash
from harness.declare.effective_grid import whole_grid
from harness.declare.interpolate import NOT_REFINED, refined
from harness.declare.pairing import counterpart, with_baseline
from harness.declare.same_text import SAME_TEXT
from harness.merge.search_space import SearchError
from harness.metrics import METRICS
from harness.race.host import Host
from harness.race.interim_looks import Asking, Outcome, Rectangle
from harness.race.search import FILE, Searcher
from harness.race.time_left import TimeLeft
from harness.records import Cell, Failure, Look
from harness.records.gate_kinds import gate_kind
from harness.run.latency import ROUNDS_FOR_P90
from harness.run_folder.ledger import RunFolderError

if TYPE_CHECKING:
    from harness.race.elimination import LookResult
    from reports.gates import Verdict
    from reports.read.run import Run

SEARCH: Final = "search"
SELECT: Final = "select"
REFINE: Final = "refine"
CONFIRM: Final = "confirm"
GATE: Final = "gate"
UNTIMED: Final = 2
"""Images of each candidate that warm up a timing, and under which memory is read."""
PER_ROUND: Final = 2
"""Images of each candidate in a round of a timing: the first after another candidate is not timed."""
Added: TypeAlias = Mapping[str, tuple[Candidate, ...]]
"""Candidates that a race adds, by the name of the candidate that each group comes after."""


def first_cells(suite: Suite) -> tuple[Cell, ...] | None:
    """The cells that are sampled of every candidate before the first look, where it has them: the first prompts, at all seeds and
    scales. None if the suite has no budget; then the whole grid is sampled."""
    if suite.budget is None:
        return None
    from harness.race.elimination import prompt_looks, select_prompts

    prompts = prompt_looks(select_prompts(suite), suite.budget)[0]
    scales = whole_grid(suite).guidance_scales
    return tuple(Rectangle(candidates=(), guidances=scales, prompts=prompts, seeds=suite.grid.seeds).cells())


class Race:
    """One suite's race. It decides only by the images that its looks requested, so a race that was killed repeats the same
    decisions from the existing images."""

    def __init__(self, of: Host, budget: Budget) -> None:
        self.of, self.budget, self.run = of, budget, of.run()
        self.asking = Asking(self.run, of.candidate, of.expect)
        self.asking.failed |= of.failed
        self.time = TimeLeft(budget.minutes, self.run, scales_of=self.asking.scales_of, work_of=self.asking.work_of)
        self._out: set[tuple[str, float]] = set()
        # Otherwise a run of some candidates, selected by -k, would void the looks of the whole race and its verdict.
        self._before = {name for look in self.run.ledger.looks(self.run.race) for name in look.candidates
                        if self.run.gallery.at_hand(name)}
        self.run.leave_out([name for name in self.run.head["not_selected"] if name not in self._before])

    def go(self) -> list[Failure]:
        """Runs the whole race: search, select, confirm, gates. Returns the failures."""
        self.run.run_json.as_declared()
        try:
            try:
                self._search()
            except SearchError as error:  # the log of the search is a file of the run folder
                raise RunFolderError(str(error)) from error
            self._select()
            if self.asking.looks and (prompts := self._confirm_prompts()):
                self._confirm(prompts)
                self._decide_gates(prompts)
            self.asking.end()
            self.run.run_json.settled()
        finally:
            self.asking.write()
        return self.asking.failures

    @property
    def suite(self) -> Suite:
        """The current suite, with the added candidates."""
        return self.run.suite

    def _search(self) -> None:
        """Tries block weights on a few prompts, and adds the best to the suite."""
        search = self.suite.search
        if search is None:
            return
        from harness.race.elimination import select_prompts

        if self.run.options.fresh:
            (self.of.folder / FILE).unlink(missing_ok=True)
        merged = self.run.bench.weights(Candidate(name="search", model=replace(search.merge, alpha=0.5)))
        decides = [self.run.race, self.run.head["metric_settings"], self.run.head["sampling"], sorted(merged.inputs.values()),
                   self.run.ledger.identity(self.suite.baseline)]
        searcher = Searcher(search, self.of.folder, short_hash(decides))
        plan = Rectangle(candidates=(), guidances=(float(search.guidance),), seeds=self.suite.grid.seeds,
                         prompts=select_prompts(self.suite)[:search.prompts])
        self.asking.ask(self._beside(plan))
        while (trial := searcher.ask()) is not None:
            self.run.renew([trial.name])
            self.asking.ask(replace(plan, candidates=(trial.name,)), [trial])
            searcher.tell(trial.name, None if trial.name in self.asking.failed else self._score(trial, plan))
        self._found(searcher, plan)

    def _beside(self, plan: Rectangle) -> Rectangle:
        """The images that those of trials are measured against: the baseline's at its counterparts of the plan's guidance
        scales, at which no trial has to be sampled."""
        scales = [with_baseline(self.suite, None, scale).scale for scale in plan.guidances]
        return replace(plan, candidates=self._compared(),
                       guidances=tuple(dict.fromkeys(scale for scale in scales if scale is not None)) or plan.guidances)

    def _looks_at(self, plan: Rectangle, names: Sequence[str]) -> tuple[Rectangle, ...]:
        """What is asked for to score trials: one rectangle, or two where the baseline has its counterparts at another scale."""
        beside, trials = self._beside(plan), replace(plan, candidates=tuple(names))
        if not beside.candidates or beside.guidances == plan.guidances:
            return (replace(plan, candidates=(*beside.candidates, *names)),)
        return (beside, trials)

    def _compared(self) -> tuple[str, ...]:
        """The baseline, where a metric of the suite is measured against its images."""
        paired = any(METRICS[name].paired for name in self.suite.metrics)
        return self._allowed([self.suite.baseline]) if paired else ()

    def _score(self, trial: Candidate, plan: Rectangle) -> float | None:
        """The mean objective of a trial at the guidance scale of the search, with equal weight for every text; None if an image
        has no objective."""
        from reports.read.run import load_run

        looks = [Look(race=self.run.race, number=number, stage=SEARCH, candidates=part.candidates, guidances=part.guidances,
                      prompts=part.prompts, seeds=part.seeds, images=0)
                 for number, part in enumerate(self._looks_at(plan, [trial.name]), start=1)]
        images = load_run(self.of.folder, looks, [trial]).images
        mine = images[(images["candidate"] == trial.name) & (images["guidance"] == plan.guidances[0])]
        scores = mine.groupby(SAME_TEXT)["objective"].mean()
        lacking = mine["objective"].isna().any() or mine["prompt"].nunique() < len(plan.prompts)
        return None if lacking else float(scores.mean())

    def _found(self, searcher: Searcher, plan: Rectangle) -> None:
        """Records the look of the whole search, after one of the baseline where it has another guidance scale. Of its trials only
        the best become candidates. Some failed trials are a normal result; if all failed, that is a failure."""
        trials, best = searcher.history, searcher.best()
        names = tuple(trial.name for trial in trials)
        *before, trials_at = self._looks_at(plan, names)
        for part in before:
            measured_against = Outcome(why="the baseline's images that trials are measured against")
            self.asking.close(self.asking.look(SEARCH, part), measured_against)
        look = self.asking.look(SEARCH, trials_at)
        odd = sum(trial.score is None for trial in trials)
        summary = f"{len(trials)} block weights tried{f', {odd} of them without a score' if odd else ''}"
        self.asking.close(look, Outcome(why=f"{summary}; the best are kept: {', '.join(c.name for c in best) or 'none'}"))
        if best:
            self.asking.failures[:] = [failure for failure in self.asking.failures if failure.candidate not in names]
        self.run.grow({"": best})

    def _select(self) -> None:
        """Takes looks at the select prompts until one of them ends the race."""
        from harness.race.elimination import prompt_looks, select_prompts

        looks = prompt_looks(select_prompts(self.suite), self.budget)
        plan = Rectangle(candidates=self._allowed(c.name for c in self.suite.candidates), prompts=looks[0],
                         guidances=tuple(map(float, whole_grid(self.suite).guidance_scales)), seeds=self.suite.grid.seeds)
        short = False
        for number, known in enumerate(looks, start=1):
            if not plan.candidates:
                return
            look = self.asking.look(SELECT, plan)
            result = self._judge(number)
            last = short or number == len(looks)
            added, notes = ({}, "") if last else self._between(result)
            plan = replace(plan, candidates=self._allowed(result.candidates), guidances=tuple(map(float, result.guidances)),
                           prompts=() if last else tuple(p for p in looks[number] if p not in known))
            if not (over := last or (result.done and not added)):
                # If nothing is left to decide, only added candidates need more prompts.
                plan, added, fits = self._within(plan, (added,) if result.done or not added else (added, {}), known)
                short, over, notes = bool(fits), not plan.prompts, "; ".join(filter(None, (notes, fits)))
            why = "; ".join(filter(None, (result.why, notes)))
            self.asking.close(look, Outcome(why=why, dropped=result.dropped, level=result.level))
            if over:
                return
            if added:
                plan = self._refine(plan, added, known)

    def _allowed(self, names: Iterable[str]) -> tuple[str, ...]:
        """The names, without failed candidates, that were selected or added by the sweep. If earlier sessions left their images,
        also the candidates that were in the race, and the baseline, because some values are measured against it."""
        declared, chosen = {c.name for c in self.run.declared.candidates}, {*self.of.selected}
        chosen |= self._before | ({self.suite.baseline} if self.run.gallery.at_hand(self.suite.baseline) else set())
        return self.asking.sound(name for name in names if name not in self.run.not_offered
                                 and (name in chosen or name not in declared))

    def _judge(self, number: int) -> LookResult:
        from harness.race.elimination import judge_look

        self.run.progress.begin(f"{self.suite.name}: judging look {number}")
        run = self._read()
        result = judge_look(run.images, self.suite, number, frozenset(self._out), values=run.values)
        self._out |= {(cell.candidate, float(cell.guidance)) for cell in result.dropped}
        return result

    def _within(self, coming: Rectangle, choices: Sequence[Added], known: Sequence[str]) -> tuple[Rectangle, Added, str]:
        """Returns the next look, the candidates to add, and a sentence on what did not fit. The first of the `choices` that fits
        the remaining budget is used, if necessary with fewer prompts as the last look, at the planned level. A look without
        prompts means that nothing fits."""
        wanted, left, seconds_wanted, seconds_left = 0, self._left(), 0.0, self.time.left(self._reserved(coming))
        for added in choices:
            new = tuple(c.name for group in added.values() for c in group)
            others = [c for group in added.values() for c in group]
            behind = replace(coming, candidates=new, prompts=tuple(known))
            for count in range(len(coming.prompts), 0, -1):
                plan = replace(coming, prompts=coming.prompts[:count])
                whole = replace(plan, candidates=(*plan.candidates, *new))
                more = self.asking.size(behind, others) + self.asking.size(whole, others)
                seconds = self.time.seconds((behind, whole)) if seconds_left is not None else 0.0
                wanted, seconds_wanted = wanted or more, seconds_wanted or seconds
                if (left is None or more <= left) and (seconds_left is None or seconds <= max(seconds_left, 0.0)):
                    cut = "" if more == wanted else (
                        f"the next look would take {wanted:,} more images, of which {self._limit(wanted, left)} leaves {more:,}: "
                        f"{count} of its prompts{' and no refinement' if choices[0] and not added else ''}")
                    return plan, added, cut
        if left is not None and wanted > left:
            why = f"the next look would take {wanted:,} more images, which the budget of {self.budget.images:,} does not leave"
        else:
            spare = f"{seconds_left:.0f} s" if seconds_left is not None and seconds_left >= 0.5 else "no time"
            why = (f"the time is used up: the next look would take about {seconds_wanted:.0f} s more, and of the "
                   f"{self.budget.minutes:g} minutes {spare} is left to choose in")
        return replace(coming, prompts=()), {}, why

    def _limit(self, wanted: int, left: int | None) -> str:
        """The limit that a look exceeds, in words."""
        if left is not None and wanted > left:
            return f"the budget of {self.budget.images:,}"
        return f"the budget of {self.budget.minutes:g} minutes"

    def _reserved(self, coming: Rectangle) -> float:
        """About how many seconds the confirmation and the timing of the candidates take, which follow in any case."""
        from harness.race.elimination import confirm_images
        from reports.verdict.confirm_looks import confirm_looks

        works = [self.asking.work_of(name, scale) for name in coming.candidates
                 for scale in self.asking.scales_of(name) if scale in coming.guidances]
        images = confirm_images(self.suite, len(confirm_looks(self.suite)[0]))
        return self.time.seconds_of(images * sum(works) / max(1, len(works))) + self._timing(coming.candidates)

    def _timing(self, names: Sequence[str]) -> float:
        """About how many seconds the timing of these candidates takes, each at its largest guidance scale."""
        suite = self.suite
        each = sum(self.asking.work_of(name, max(self.asking.scales_of(name))) for name in names)
        declared, enough = (self.time.seconds_of(each * (PER_ROUND * rounds + UNTIMED + 2 * suite.largest_batch))
                            for rounds in (suite.latency_rounds, max(suite.latency_rounds, ROUNDS_FOR_P90)))
        return max(declared, min(enough, suite.latency_budget_seconds))

    def _left(self) -> int | None:
        """The number of images that the select prompts may still use: the rest of the budget, minus the images that the
        confirmation needs, and that gates need at their one guidance. None without a limit."""
        from harness.race.elimination import confirm_images
        from reports.verdict.confirm_looks import confirm_looks

        if not self.budget.images:
            return None
        seeds, prompts = self.suite.grid.seeds, self._confirm_prompts()
        gates = [gate for gate in self.suite.gates if gate_kind(gate.value).of_images]
        named = {self.suite.baseline, *(c.name for c in self.suite.candidates
                                        if any(c.name in (*gate.candidates, gate.not_worse_than) for gate in gates))}
        judged = len(prompts) * len(seeds) * (1 + len(named)) if gates and len(seeds) > 1 else 0
        return self.budget.images - self.asking.spent - confirm_images(self.suite, len(confirm_looks(self.suite)[0])) - judged

    def _between(self, result: LookResult) -> tuple[Added, str]:
        """The candidates that refine the axis around the best, and the reasons why some cannot be added."""
        from harness.race.elimination import refinements

        axis = self.budget.refine
        between_neighbours: dict[str, tuple[Candidate, ...]] = {}
        ordered = sorted((c for c in self.suite.candidates if isinstance(c.axes.get(axis), int | float)),
                         key=lambda c: float(c.axes[axis]))
        troubles = []
        try:
            values = refinements(result, self.suite)
        except ValueError as error:  # a candidate without a number on the axis
            return {}, f"{NOT_REFINED}: {error}"
        for value in values:
            low = next((c for c in reversed(ordered) if float(c.axes[axis]) < value), None)
            high = next((c for c in ordered if float(c.axes[axis]) > value), None)
            if low is None or high is None:
                continue
            try:
                own = refined(self.suite, low, high, axis, value)
            except ValueError as error:  # nothing is between these two, but perhaps between others
                troubles.append(f"{NOT_REFINED}: {error}")
            else:
                between_neighbours[low.name] = (*between_neighbours.get(low.name, ()), own)
        return between_neighbours, "; ".join(troubles)

    def _refine(self, plan: Rectangle, added: Added, known: Sequence[str]) -> Rectangle:
        """Adds candidates and samples them on the prompts used so far. Returns the rectangle of the next look."""
        self.run.grow(added)
        new = tuple(c.name for group in added.values() for c in group)
        look = self.asking.look(REFINE, replace(plan, candidates=new, prompts=tuple(known)))
        self.asking.close(look, Outcome(why=f"added to look more closely at {self.budget.refine} around the best"))
        candidates = {*plan.candidates, *new}
        return replace(plan, candidates=self.asking.sound(c.name for c in self.suite.candidates if c.name in candidates))

    def _confirm_prompts(self) -> tuple[str, ...]:
        from harness.race.elimination import select_prompts

        chosen_on = set(select_prompts(self.suite))
        return tuple(p.id for p in self.suite.grid.prompts if p.id not in chosen_on)

    def _confirm(self, prompts: tuple[str, ...]) -> None:
        """Samples the pick, and the candidates it is compared with, on the confirm prompts, which had no part in the choice."""
        from harness.race.elimination import confirm_plan
        from reports.verdict.confirm_looks import confirm_looks
        from reports.verdict.recommending import recommend

        run = self._read()
        names, scales = confirm_plan(run, recommend(run))
        plan = Rectangle(candidates=self._allowed(names), guidances=tuple(map(float, scales)), prompts=prompts,
                         seeds=confirm_looks(self.suite)[0])
        if plan.candidates and (look := self._within_budget(CONFIRM, plan)) is not None:
            self.asking.close(look, Outcome(why="the pick and what it is compared with, on prompts new to the choice"))

    def _decide_gates(self, prompts: tuple[str, ...]) -> None:
        """Samples more seeds for gates that cannot be decided yet, one look at a time."""
        from reports.gates import judge
        from reports.verdict.confirm_looks import confirm_looks, gate_level
        from reports.verdict.recommending import recommend

        for seeds in confirm_looks(self.suite)[1:]:
            run = self._read()
            recommendation = recommend(run)
            undecided = [v for v in judge(run, recommendation) if v.status == "inconclusive"
                         and gate_kind(v.value).of_images]
            judged = self._allowed(self._judged_with(undecided))
            plan = Rectangle(candidates=judged, guidances=self._judged_at(judged, recommendation.guidance), prompts=prompts,
                             seeds=seeds)
            if not plan.candidates or (look := self._within_budget(GATE, plan)) is None:
                return
            gates = ", ".join(dict.fromkeys(v.gate for v in undecided))
            self.asking.close(look, Outcome(why=f"inconclusive with fewer seeds: {gates}", level=gate_level(self.suite)))

    def _judged_with(self, verdicts: Sequence[Verdict]) -> tuple[str, ...]:
        """Whose images decide these verdicts: those judged, those they are compared with, and the baseline, which the metrics
        that need a reference are measured against."""
        names = {v.candidate for v in verdicts} | {v.other for v in verdicts}
        names = names - {BASELINE} | ({self.suite.baseline} if names else set())
        return tuple(c.name for c in self.suite.candidates if c.name in names)

    def _judged_at(self, names: Sequence[str], guidance: float | None) -> tuple[float, ...]:
        """The guidance scales at which candidates are judged beside a pick at `guidance`: its own, or each one's counterpart."""
        whole = tuple(map(float, whole_grid(self.suite).guidance_scales))
        if guidance is None:
            return whole
        beside = {counterpart(grid_of(self.suite, c).guidance_scales, guidance) for c in self.suite.candidates if c.name in names}
        return tuple(scale for scale in whole if scale in {float(guidance), *beside})

    def _within_budget(self, stage: str, plan: Rectangle) -> Look | None:
        """The look, sampled; None where it would spend more than there is. The look before it then says so."""
        wanted, seconds = self.asking.wanted(plan), self.time.left(self._timing(plan.candidates))
        if stage == GATE and seconds is not None and self.time.seconds((plan,)) > seconds:
            last = self.asking.looks[-1]
            too_long = f"the {self.budget.minutes:g} minutes leave no time for more seeds"
            self.asking.close(last, Outcome(why=f"{last.why}; {too_long}", dropped=last.dropped, level=last.level))
            return None
        if self.budget.images and self.asking.spent + wanted > self.budget.images:
            last = self.asking.looks[-1]
            too_many = f"{wanted:,} more images for the stage \"{stage}\" do not fit into the budget of {self.budget.images:,}"
            self.asking.close(last, Outcome(why=f"{last.why}; {too_many}", dropped=last.dropped, level=last.level))
            return None
        return self.asking.look(stage, plan)

    def _read(self) -> Run:
        """The run as far as the looks asked for images."""
        from reports.read.run import load_run

        return load_run(self.of.folder, self.asking.looks)

