"""Proposals of block weights for a suite's Search: presets first, then Optuna's sampler, which learns from the scores so far.
All of it is kept in one file of the run folder."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from harness.declare import Candidate, Search, plain, short_hash
from harness.merge.search_space import DECIMALS, SearchError, preset_values, proposed, slots_of_search

if TYPE_CHECKING:
    from optuna.storages import JournalStorage

FILE: Final = "search.log"
ASKED: Final = "asked"
SCORED: Final = "scored"
FAILED: Final = "failed"
_STARTUP: Final = 5
"""Scored trials before the sampler learns from them; presets count."""
_PROPOSED: Final = 100
"""Points among which the sampler takes the most promising one: in 26 dimensions its own 24 are few."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One proposal, numbered from 1: its block weights, where they are from (a preset's name, or "" for the sampler), its
    `state` (ASKED, SCORED, FAILED), its score if it has one, and the best score until then, itself included."""

    number: int
    origin: str
    values: tuple[float, ...]
    state: str
    score: float | None
    best: float | None

    @property
    def name(self) -> str:
        """Name of its candidate: "search 7"."""
        return f"search {self.number}"


class Searcher:
    """The search of one suite, kept in `folder`/search.log. Whoever makes one holds the folder's lock.

    Proposals follow from the declaration and the scores so far and from nothing else, so a run that was killed continues
    with the same ones. A trial that never got a score is asked for again. `name` says what else decides a score
    (the suite, a hash of its grid and objective, the content of its files): another name, or another declaration, is another
    study in the same file. More `trials` of one that is otherwise the same go on with it.
    """

    def __init__(self, search: Search, folder: Path, name: str = "search") -> None:
        """Opens or begins the study. SearchError for a preset that cannot be had for so many blocks, or a damaged file;
        ImportError naming the extra where Optuna is not installed."""
        optuna = _optuna()
        self.search = search
        self.slots = slots_of_search(search)
        self._presets = tuple((preset, preset_values(search, preset)) for preset in search.presets)
        self._file = folder / FILE
        declared = {k: v for k, v in plain(search).items() if k not in ("trials", "keep")}
        self._study = optuna.create_study(storage=_storage(self._file), study_name=f"{name} {short_hash(declared)}",
                                          direction="maximize", load_if_exists=True)
        self._distributions = {slot: optuna.distributions.FloatDistribution(0.0, 1.0) for slot in self.slots}
        self._history()

    def ask(self) -> Candidate | None:
        """The next candidate to score ("search 7", no axes), the same one until it is told; None when all `trials` are done."""
        history = self._history()
        if waiting := next((trial for trial in history if trial.state == ASKED), None):
            return self._candidate(waiting)
        if len(history) >= self.search.trials:
            return None
        import optuna

        number = len(history) + 1
        origin, values = self._presets[number - 1] if number <= len(self._presets) else ("", self._proposed(number))
        # One line of the file: a kill leaves all of a trial or nothing.
        self._study.add_trial(optuna.trial.create_trial(
            state=optuna.trial.TrialState.RUNNING, params=dict(zip(self.slots, values, strict=True)),
            distributions=self._distributions, user_attrs={"origin": origin}))
        return self._candidate(self._history()[-1])

    def tell(self, name: str, score: float | None) -> None:
        """Notes the score (more is better) of the candidate of that name, or None for one that failed. The same score
        again changes nothing. SearchError for a name that was never asked for, another score, or a number that is not finite."""
        from optuna.trial import TrialState

        trial = next((trial for trial in self._history() if trial.name == name), None)
        if trial is None:
            raise SearchError(f"a score for {name!r}, which was never asked for; ask() gives the candidates to score")
        if score is not None and not math.isfinite(score):
            raise SearchError(f"the score of {name!r} is {score!r}; expected a finite number, or None for one that failed")
        if trial.state == ASKED:
            if score is None:
                self._study.tell(trial.number - 1, state=TrialState.FAIL)
            else:
                self._study.tell(trial.number - 1, score)
        elif score != trial.score:
            raise SearchError(f"{name!r} now has the score {score!r}, but {trial.score!r} is on record; where the way of scoring "
                              "changed, give the search another name")

    def best(self, keep: int | None = None) -> tuple[Candidate, ...]:
        """The `keep` (by default the declared number) candidates with the highest scores, best first; of equals the earlier."""
        scored = [trial for trial in self.history if trial.score is not None]
        scored.sort(key=lambda trial: (-(trial.score or 0.0), trial.number))
        return tuple(self._candidate(trial) for trial in scored[:self.search.keep if keep is None else keep])

    @property
    def history(self) -> tuple[Trial, ...]:
        """The trials so far, in order; no more than are declared."""
        return self._history()[:self.search.trials]

    def importance(self) -> dict[str, float]:
        """{block: share of the scores' variation that it explains}, largest first; empty with fewer than two different scores.
        Optuna's fANOVA with a fixed seed: Hutter, Hoos and Leyton-Brown, ICML 2014. Rough with few trials for many blocks."""
        scores = {trial.score for trial in self.history if trial.score is not None}
        if len(scores) < 2:
            return {}
        from optuna.importance import FanovaImportanceEvaluator, get_param_importances

        shares = get_param_importances(self._study, evaluator=FanovaImportanceEvaluator(seed=self.search.seed))
        return {str(slot): float(share) for slot, share in shares.items()}

    def _proposed(self, number: int) -> tuple[float, ...]:
        """The sampler's next values. It is made again for each trial, with a seed of the trial's own: what it proposes then
        depends on no earlier proposal of this process, only on the scores."""
        import optuna

        seed = int.from_bytes(hashlib.sha256(f"{self.search.seed}\n{number}".encode()).digest()[:4])
        sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, n_startup_trials=_STARTUP,
                                             n_ei_candidates=_PROPOSED)
        known = optuna.create_study(direction="maximize", sampler=sampler)
        known.add_trials([trial for trial in self._study.trials if trial.state == optuna.trial.TrialState.COMPLETE])
        params = known.ask(self._distributions).params
        return tuple(round(float(params[slot]), DECIMALS) for slot in self.slots)

    def _history(self) -> tuple[Trial, ...]:
        """All trials of the study, also beyond the declared number."""
        trials: list[Trial] = []
        best: float | None = None
        for trial in self._study.get_trials(deepcopy=False):
            if set(trial.params) != set(self.slots):
                raise _damaged(self._file, f"trial {trial.number + 1} holds other blocks than the search declares")
            score = None if trial.value is None else float(trial.value)
            if score is not None:
                best = score if best is None else max(best, score)
            state = {"RUNNING": ASKED, "COMPLETE": SCORED}.get(trial.state.name, FAILED)
            trials.append(Trial(number=trial.number + 1, origin=str(trial.user_attrs.get("origin", "")), state=state, score=score,
                               best=best, values=tuple(float(trial.params[slot]) for slot in self.slots)))
        return tuple(trials)

    def _candidate(self, trial: Trial) -> Candidate:
        return Candidate(name=trial.name, model=proposed(self.search, trial.values))


def _optuna() -> Any:
    """Optuna, silent; ImportError that says how to get it."""
    try:
        import optuna
    except ImportError as error:
        raise ImportError("a suite with a search needs Optuna; install it with: pip install 'sweetspot[search]'") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


class _Held:
    """In place of Optuna's lock files, which a killed run leaves behind: the run folder is locked as a whole."""

    def acquire(self) -> bool:
        """Does nothing."""
        return True

    def release(self) -> None:
        """Does nothing."""


def _storage(path: Path) -> JournalStorage:
    """The file as Optuna reads it, without a last line that a kill tore off. SearchError for a damaged one."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        data = path.read_bytes() if path.exists() else b""
    except OSError as error:
        raise _damaged(path, f"it cannot be read ({error.strerror})") from error
    if whole := data[:data.rfind(b"\n") + 1]:
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                sound = isinstance(json.loads(line), dict)
            except ValueError:
                sound = False
            if not sound:
                raise _damaged(path, f"line {number} is not a record")
    if len(whole) < len(data):
        with path.open("r+b") as file:
            file.truncate(len(whole))
    lock: Any = _Held()
    try:
        return JournalStorage(JournalFileBackend(str(path), lock_obj=lock))
    except Exception as error:  # whatever a malformed record makes Optuna raise
        raise _damaged(path, f"its records do not go together ({type(error).__name__}: {error})") from error


def _damaged(path: Path, why: str) -> SearchError:
    return SearchError(f"{path} is damaged: {why}. Move the file away and run again: the search starts over, and reuses the "
                       "images that were made")
