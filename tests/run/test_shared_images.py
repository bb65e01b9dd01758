"""What one run knows of its images, another finds in a shared cache: pictures of stages, defects, batches that were refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from harness import Suite
from harness.cache import open_cache
from harness.cache.note import seal_note
from harness.declare import Candidate
from harness.declare.post_steps import Temperature
from harness.declare.stages import Stage
from harness.records import Defect, Finished, Fit, Intermediate, Journal, Sample
from harness.run.device_refusals import alone_problems
from harness.run.progress import Silent
from harness.run.shared_images import Refusal, SharedImages
from harness.run.suite_run import Options, SuiteRun
from tests.fakes import PROMPTS, plain_candidate, tiny_suite
from tests.painted import PaintedBench, paint, paint_runs

STAGED = plain_candidate("staged", stages=(Stage(strength=0.5, through="pixels"),))
WARMER = plain_candidate("warmer", post=(Temperature(max_kelvin=5000),))
PLAIN = plain_candidate()


@dataclass
class Painting:
    """Paints as `paint` does, with pictures of a first stage where there are stages. Cells of `bad` prompts are unusable, and a
    batch of more than `largest` images with guidance finds no memory."""

    bad: Sequence[str] = ()
    largest: int = 64
    batches: int = 0

    def __call__(self, phases: Any, grid: Any, todo: Any, texts: object = None, note: Any = None,
                 later: Any = None) -> Iterator[Any]:
        for cells, images in paint(phases, grid, todo):
            if len(cells) > self.largest and cells[0].guidance != 1:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB")
            self.batches += 1
            for cell in set(cells):
                if cell.prompt in self.bad and note:
                    note(cell, "NaN or infinite latents")
            if later.beside and phases[0].staged:
                later.beside(cells, "stage 1", 255 - images)
            yield cells, images


class Bench(PaintedBench):
    """Lets the painting know which candidates have stages."""

    def prepare(self, candidate: Candidate, group: int = 0) -> Any:
        prepared = super().prepare(candidate, group)
        prepared.phases[0].staged = bool(candidate.stages)
        return prepared


def suite(*candidates: Candidate) -> Suite:
    return tiny_suite(candidates=candidates, baseline=candidates[0].name, gates=(), metrics=("exposure",))


def go(declared: Suite, root: Path, shared: Path) -> tuple[Mapping[str, Finished], list[Any]]:
    """How each candidate finished, and the journal."""
    run = SuiteRun(declared, "s.py", Options(root=root, runs=root / "runs", cache=f"folder:{shared}"), Silent())
    try:
        done = {c.name: run.candidate(c) for c in declared.candidates}
    finally:
        run.close()
    return done, Journal(root / "runs" / "tiny" / "journal.jsonl").read()[0]  # type: ignore[return-value]


def of(journal: list[Any], *kinds: type) -> set[Any]:
    """What the records of these kinds say, whoever wrote them first."""
    rows = [record for record in journal if isinstance(record, kinds)]
    return {(type(r).__name__, r.candidate, getattr(r, "cell", None), getattr(r, "key", ""), getattr(r, "sha256", ""),
             getattr(r, "sample", ""), getattr(r, "why", "")) for r in rows}


@pytest.mark.parametrize("candidates", [(PLAIN,), (PLAIN, STAGED), (PLAIN, WARMER), (PLAIN, replace(STAGED, post=WARMER.post))],
                         ids=["plain", "stages", "post-steps", "both"])
@pytest.mark.parametrize("painting", [Painting(), Painting(bad=(PROMPTS[1].id,)), Painting(largest=2), Painting(
    largest=1, bad=(PROMPTS[0].id,))], ids=["all is well", "defects", "half of a batch", "a quarter, with defects"])
def test_an_ordinary_run_finds_all_that_another_made(candidates: tuple[Candidate, ...], painting: Painting, tmp_path: Path,
                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    paint_runs(monkeypatch, Bench, painting)
    declared = suite(*candidates)
    _, first = go(declared, tmp_path / "one", tmp_path / "shared")
    made = painting.batches
    done, second = go(declared, tmp_path / "two", tmp_path / "shared")
    assert {name: getattr(one, "sampled", one) for name, one in done.items()} == {c.name: 0 for c in candidates}
    # One at a time for the noise floor of the baseline, whose images are in batches.
    assert painting.batches - made <= 4
    assert of(first, Sample, Intermediate, Defect) == of(second, Sample, Intermediate, Defect)
    assert {(fit.candidate, fit.batch_size, fit.why) for fit in first if isinstance(fit, Fit)} == {
        (fit.candidate, fit.batch_size, fit.why) for fit in second if isinstance(fit, Fit)}


def notes(shared: Path) -> list[Path]:
    return sorted(shared.rglob("*.note"))


ROW: dict[str, Any] = {"candidate": "photo", "batch_size": 4, "guided": True, "why": "full"}


@pytest.mark.parametrize("rows", [
    None, 3, "text", [], [None], [[]], [{}], [ROW | {"batch_size": -4}], [ROW | {"batch_size": True}], [ROW | {"batch_size": 1}],
    [ROW | {"batch_size": 10 ** 30}], [ROW | {"guided": 1}], [ROW | {"why": 1}], [ROW | {"asked_bytes": "x"}], [ROW] * 100_000])
def test_a_planted_refusal_that_no_image_is_due_to_changes_nothing(rows: Any, tmp_path: Path,
                                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    painting = Painting(largest=2)
    paint_runs(monkeypatch, Bench, painting)
    go(suite(PLAIN), tmp_path / "one", tmp_path / "shared")
    (note,) = notes(tmp_path / "shared")
    for image in (tmp_path / "shared").rglob("*.image"):
        image.unlink()
    note.write_bytes(seal_note(note.stem, {"refused": rows}, b"")[:1 << 20])
    painting.largest = 64
    done, journal = go(suite(PLAIN), tmp_path / "two", tmp_path / "shared")
    assert (done["photo"].sampled, [r for r in journal if isinstance(r, Fit)]) == (10, [])


def test_a_note_of_a_defect_without_its_image_is_no_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    painting = Painting(bad=(PROMPTS[0].id,))
    paint_runs(monkeypatch, Bench, painting)
    go(suite(PLAIN), tmp_path / "one", tmp_path / "shared")
    for note in notes(tmp_path / "shared"):
        assert not note.with_suffix(".image").exists(), "no version may take it for a usable image"
    painting.bad = ()
    for note in notes(tmp_path / "shared")[:1]:
        note.write_bytes(seal_note(note.stem, {"unusable": ["not a text"]}, b""))
    done, journal = go(suite(PLAIN), tmp_path / "two", tmp_path / "shared")
    assert (done["photo"].sampled, len([r for r in journal if isinstance(r, Defect)])) == (1, 1)


def test_images_that_are_missing_of_a_halved_batch_are_made_in_halves_too(tmp_path: Path,
                                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    painting = Painting(largest=2)
    paint_runs(monkeypatch, Bench, painting)
    both = suite(PLAIN, replace(PLAIN, name="next", model="zoo:anime"))
    _, first = go(both, tmp_path / "one", tmp_path / "shared")
    by_key = {sample.key for sample in first if isinstance(sample, Sample)}
    for image in sorted((tmp_path / "shared").rglob("*.image"))[::2]:
        image.unlink()
    painting.largest = 64
    _, second = go(both, tmp_path / "two", tmp_path / "shared")
    assert {sample.key for sample in second if isinstance(sample, Sample)} == by_key


def test_without_a_cache_nothing_is_asked(tmp_path: Path) -> None:
    assert not SharedImages(open_cache("", (8, 8)), suite(PLAIN)).active


class Here:
    """The keys of a grid on this machine."""

    def shared_key(self, key: str) -> str:
        return key

    def stage_key(self, identity: str) -> str:
        return identity


def refused(size: int, *, guided: bool = True) -> Refusal:
    return Refusal(guided=guided, fit=Fit(candidate="photo", batch_size=size, fits=False, why="full"))


def sizes(of: SharedImages) -> set[tuple[int, bool]]:
    return {(one.fit.batch_size, one.guided) for one in of.refusals(Here(), "weights", 64)}


def test_a_refusal_is_put_beside_those_that_others_put_meanwhile(tmp_path: Path) -> None:
    one, other, third = (SharedImages(open_cache(f"folder:{tmp_path}", (8, 8)), suite(PLAIN)) for _ in range(3))
    one.refuse(Here(), "weights", [refused(16)])
    other.refuse(Here(), "weights", [refused(8)])
    one.refuse(Here(), "weights", [refused(16, guided=False)])
    assert sizes(third) == {(16, True), (8, True), (16, False)}


def test_a_refusal_that_another_process_overwrote_at_the_same_moment_is_put_again(tmp_path: Path,
                                                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    one, other, third = (SharedImages(open_cache(f"folder:{tmp_path}", (8, 8)), suite(PLAIN)) for _ in range(3))
    one.refuse(Here(), "weights", [refused(16)])
    with monkeypatch.context() as before:
        before.setattr(other.cache, "note", lambda _: None)  # read before the first one wrote
        other.refuse(Here(), "weights", [refused(8)])
    assert sizes(third) == {(8, True)}
    assert sizes(one) == sizes(third) == {(16, True), (8, True)}


@pytest.mark.parametrize(("workers", "cache", "named"), [
    ("local:2", "", "--workers"), ("", "folder:x", "--shared-cache"), ("local:2", "folder:x", "--workers and --shared-cache")])
@pytest.mark.parametrize("runtime", ["tensorrt", {"unet": "tensorrt", "vae": "onnxruntime"}])
def test_a_runtime_that_times_its_kernels_is_refused_where_several_processes_make_images(workers: str, cache: str, named: str,
                                                                                         runtime: Any) -> None:
    timed = replace(PLAIN, name="timed", runtime=runtime)
    (problem,) = alone_problems("s", [PLAIN, timed], workers=workers, cache=cache)
    assert "timed" in problem and "'tensorrt'" in problem and f"without {named}, or" in problem
    assert alone_problems("s", [timed], workers="", cache="") == alone_problems("s", [PLAIN], workers=workers, cache=cache) == []


@pytest.mark.parametrize("options", [{"cache": "folder:shared"}, {"workers": "local:2"}])
def test_a_run_checks_for_it_before_the_first_image(options: dict[str, str], tmp_path: Path,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    paint_runs(monkeypatch, Bench)
    monkeypatch.setattr("harness.run.suite_run.refusal", lambda *_: "")
    monkeypatch.setattr("harness.run.suite_run.file_problems", lambda *_: [])
    monkeypatch.chdir(tmp_path)
    run = SuiteRun(suite(replace(PLAIN, runtime="tensorrt")), "s.py", Options(root=tmp_path, runs=tmp_path / "runs", **options),
                   Silent())
    try:
        assert any("'tensorrt' chooses its kernels by timing" in problem for problem in run.preflight())
    finally:
        run.close()
