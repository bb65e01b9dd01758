"""The search over block weights: presets first, proposals that follow from declaration and scores alone, and nothing lost or
counted twice when a run is killed."""

import math
from pathlib import Path

import pytest

from harness.declare import Alphas, Blocks, Candidate, Merge, Search
from harness.merge.presets import PRESETS
from harness.merge.search_space import SearchError, slots_of_search
from harness.race.search import ASKED, FAILED, FILE, SCORED, Searcher

MERGE = Merge(a="zoo:photo", b="zoo:anime", parts=("unet",))


def search(**changes: object) -> Search:
    given = {"merge": MERGE, "guidance": 3.0, "blocks": 5, "trials": 12, "presets": ("GRAD_V",), "keep": 2} | changes
    return Search(**given)  # type: ignore[arg-type]


def weights(candidate: Candidate | None) -> tuple[float, ...]:
    assert candidate is not None
    assert isinstance(candidate.model, Merge)
    assert isinstance(candidate.model.alpha, Blocks)
    return candidate.model.alpha.values


def score(values: tuple[float, ...]) -> float:
    return -sum((value - 0.3) ** 2 for value in values)


def go_on(searcher: Searcher, trials: int) -> None:
    for _ in range(trials):
        candidate = searcher.ask()
        assert candidate is not None
        searcher.tell(candidate.name, score(weights(candidate)))


def test_presets_come_first_and_in_the_declared_order(tmp_path: Path) -> None:
    searcher = Searcher(search(blocks=25, presets=("GRAD_V", "ALL_B")), tmp_path)
    first = searcher.ask()
    assert first is not None
    assert (first.name, dict(first.axes)) == ("search 1", {})
    assert weights(first) == tuple(round(value, 3) for value in PRESETS["GRAD_V"])
    searcher.tell("search 1", 1.0)
    assert weights(searcher.ask()) == (1.0,) * 25
    assert [trial.origin for trial in searcher.history] == ["GRAD_V", "ALL_B"]


def test_the_same_scores_give_the_same_proposals_also_after_every_restart(tmp_path: Path) -> None:
    at_once, in_pieces = tmp_path / "one", tmp_path / "two"
    go_on(Searcher(search(), at_once), 12)
    for _ in range(12):
        go_on(Searcher(search(), in_pieces), 1)
    assert Searcher(search(), at_once).history == Searcher(search(), in_pieces).history
    assert len({trial.values for trial in Searcher(search(), at_once).history}) == 12


def test_another_seed_gives_other_proposals_but_the_same_presets(tmp_path: Path) -> None:
    one, two = Searcher(search(seed=0), tmp_path / "0"), Searcher(search(seed=1), tmp_path / "1")
    go_on(one, 3)
    go_on(two, 3)
    assert one.history[0] == two.history[0]
    assert one.history[1].values != two.history[1].values


def test_proposals_depend_on_the_scores(tmp_path: Path) -> None:
    one, two = Searcher(search(trials=20), tmp_path / "0"), Searcher(search(trials=20), tmp_path / "1")
    for searcher, sign in ((one, 1.0), (two, -1.0)):
        for _ in range(20):
            candidate = searcher.ask()
            assert candidate is not None
            searcher.tell(candidate.name, sign * score(weights(candidate)))
    assert one.history[4].values == two.history[4].values
    assert one.history[19].values != two.history[19].values


def test_weights_are_thousandths_between_0_and_1(tmp_path: Path) -> None:
    searcher = Searcher(search(presets=("COSINE", "FLAT_33")), tmp_path)
    go_on(searcher, 12)
    values = [value for trial in searcher.history for value in trial.values]
    assert all(0 <= value <= 1 and value == round(value, 3) for value in values)


def test_what_was_asked_and_never_told_is_asked_again(tmp_path: Path) -> None:
    first = Searcher(search(), tmp_path)
    go_on(first, 4)
    lost = first.ask()
    again = Searcher(search(), tmp_path)
    assert again.history[-1].state == ASKED
    assert again.ask() == lost == again.ask()
    go_on(again, 1)
    assert len(again.history) == 5


def test_a_torn_last_line_loses_only_what_it_said(tmp_path: Path) -> None:
    searcher = Searcher(search(), tmp_path)
    go_on(searcher, 5)
    lost = searcher.history[-1]
    data = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(data[:-9])
    again = Searcher(search(), tmp_path)
    assert again.history[-1].state == ASKED
    go_on(again, 1)
    assert again.history[-1] == lost
    assert Searcher(search(), tmp_path).history == again.history


def test_a_damaged_file_is_refused_with_what_to_do(tmp_path: Path) -> None:
    go_on(Searcher(search(), tmp_path), 2)
    lines = (tmp_path / FILE).read_bytes().splitlines(keepends=True)
    (tmp_path / FILE).write_bytes(b"".join([*lines[:2], b"\x00garbage\n", *lines[2:]]))
    with pytest.raises(SearchError, match=r"search\.log is damaged: line 3.*Move the file away"):
        Searcher(search(), tmp_path)
    (tmp_path / FILE).write_bytes(b"".join([*lines, b'{"op_code":6}\n']))
    with pytest.raises(SearchError, match="do not go together"):
        Searcher(search(), tmp_path)


def test_a_failed_trial_counts_as_one_and_is_never_among_the_best(tmp_path: Path) -> None:
    searcher = Searcher(search(trials=3), tmp_path)
    for told in (None, -1.0, -0.5):
        candidate = searcher.ask()
        assert candidate is not None
        searcher.tell(candidate.name, told)
    assert searcher.ask() is None
    assert [trial.state for trial in searcher.history] == [FAILED, SCORED, SCORED]
    assert [candidate.name for candidate in searcher.best(9)] == ["search 3", "search 2"]


def test_the_best_are_those_with_the_highest_scores_and_the_history_says_the_best_so_far(tmp_path: Path) -> None:
    searcher = Searcher(search(), tmp_path)
    go_on(searcher, 12)
    history = searcher.history
    ranked = sorted(history, key=lambda trial: -(trial.score or 0.0))
    assert [candidate.name for candidate in searcher.best()] == [trial.name for trial in ranked[:2]]
    assert [trial.best for trial in history] == [max(t.score or -9.0 for t in history[:n + 1]) for n in range(12)]
    assert weights(searcher.best(1)[0]) == ranked[0].values


def test_a_score_told_twice_counts_once_and_another_one_is_refused(tmp_path: Path) -> None:
    searcher = Searcher(search(), tmp_path)
    go_on(searcher, 1)
    known = searcher.history
    searcher.tell("search 1", known[0].score)
    assert searcher.history == known
    with pytest.raises(SearchError, match=r"'search 1'.*7\.0"):
        searcher.tell("search 1", 7.0)


@pytest.mark.parametrize("told", [math.nan, math.inf])
def test_a_score_that_is_no_number_is_refused(tmp_path: Path, told: float) -> None:
    searcher = Searcher(search(), tmp_path)
    searcher.ask()
    with pytest.raises(SearchError, match="expected a finite number"):
        searcher.tell("search 1", told)
    with pytest.raises(SearchError, match="never asked for"):
        searcher.tell("search 2", 1.0)


def test_more_trials_go_on_and_fewer_show_fewer(tmp_path: Path) -> None:
    go_on(Searcher(search(trials=4), tmp_path), 4)
    assert Searcher(search(trials=4), tmp_path).ask() is None
    more = Searcher(search(trials=6), tmp_path)
    go_on(more, 2)
    assert more.ask() is None
    assert Searcher(search(trials=4), tmp_path).history == more.history[:4]


@pytest.mark.parametrize("changes", [{"guidance": 5.0}, {"seed": 1}, {"presets": ("GRAD_A",)}, {"merge": Merge(a="a", b="b")}])
def test_another_declaration_is_another_study_in_the_same_file(tmp_path: Path, changes: dict[str, object]) -> None:
    go_on(Searcher(search(), tmp_path), 3)
    assert Searcher(search(**changes), tmp_path).history == ()
    assert Searcher(search(), tmp_path, "another suite").history == ()
    assert len(Searcher(search(), tmp_path).history) == 3


@pytest.mark.parametrize(("changes", "words"), [
    ({"presets": ("GRAD_W",)}, "unknown preset 'GRAD_W'; did you mean 'GRAD_V'"),
    ({"blocks": 61, "presets": ("GRAD_V",)}, "U-Nets"),
])
def test_a_preset_that_cannot_be_had_is_refused_at_once(tmp_path: Path, changes: dict[str, object], words: str) -> None:
    with pytest.raises(SearchError, match=words):
        Searcher(search(**changes), tmp_path)


def test_convention_parts_and_keys_of_the_declared_merge_are_kept(tmp_path: Path) -> None:
    declared = Alphas(default=Blocks(preset="FLAT_25", convention="meh"), keys={"*attn2*": 0.5})
    merge = Merge(a="a", b="b", alpha=declared, dtype="fp16")
    candidate = Searcher(search(merge=merge), tmp_path).ask()
    assert candidate is not None
    assert isinstance(candidate.model, Merge)
    alpha = candidate.model.alpha
    assert isinstance(alpha, Alphas)
    assert alpha == Alphas(default=Blocks(values=(1.0, 0.5, 0.0, 0.5, 1.0), convention="meh"), keys={"*attn2*": 0.5})
    assert candidate.model.dtype == "fp16"


def test_importance_finds_the_one_block_that_matters(tmp_path: Path) -> None:
    searcher = Searcher(search(trials=25), tmp_path)
    assert searcher.importance() == {}
    while candidate := searcher.ask():
        searcher.tell(candidate.name, -((weights(candidate)[3] - 0.3) ** 2))
    found = searcher.importance()
    assert next(iter(found)) == slots_of_search(search())[3]
    assert sum(found.values()) == pytest.approx(1)


def test_without_optuna_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    with pytest.raises(ImportError, match=r"pip install 'sweetspot\[search\]'"):
        Searcher(search(), tmp_path)
