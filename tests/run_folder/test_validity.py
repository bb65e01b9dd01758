"""What the ledger would not do again is exactly what the reports count, whatever the journal went through."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from harness.declare import Suite
from harness.records import (
    Cell,
    Coverage,
    Defect,
    Failure,
    Finished,
    Fit,
    Journal,
    Latency,
    Measurement,
    Memory,
    NoiseFloor,
    Record,
    Sample,
    Weights,
    sample_key,
)
from harness.records.images import IDENTITIES
from harness.records.reusable import LatestRecords, is_timed_alike, smaller_batches
from harness.run_folder.ledger import Ledger
from reports.read.current_records import Standing, sift
from tests.reports import synthetic

GRID = replace(synthetic.SMALL, prompts=synthetic.SMALL.prompts[:2], seeds=(1,), guidance_scales=(3.0,), batch_size=4)
EVERY = synthetic.merge_suite(grid=GRID)
SUITE: Suite = replace(EVERY, candidates=EVERY.candidates[:2], baseline=EVERY.candidates[0].name)
NAMES = tuple(c.name for c in SUITE.candidates)
CELLS = tuple(Cell(prompt=p.id, seed=1, guidance=3.0) for p in GRID.prompts)
SAMPLING = synthetic.sampling(SUITE)
METRICS = {"exposure": False, "psnr": True}
"""{metric: whether it is taken against the baseline's image}"""
HEAD = {"sampling": SAMPLING, "metric_settings": {}, "metrics": {
    value: {"metric": metric, "version": 1, "unit": "", "better": "higher", "definition": ""}
    for value, metric in (("luma_sd", "exposure"), ("psnr_db", "psnr"))}}


def key(identity: str, cell: Cell, size: int) -> str:
    prompt = next(p for p in GRID.prompts if p.id == cell.prompt)
    return sample_key(identity, cell, (prompt.text, prompt.negative), {**SAMPLING, "batch_size": size})


def weights(name: str, draw: random.Random) -> Weights:
    declared = next(c.key for c in SUITE.candidates if c.name == name)
    return Weights(candidate=name, identity=draw.choice("ij"), inputs={}, declared=declared, setting=draw.choice("st"))


def one(draw: random.Random) -> Record:
    """A record of any kind that a run writes, of any candidate, with any identity and setting."""
    name, cell, setting = draw.choice(NAMES), draw.choice(CELLS), draw.choice("st")
    any_key = key(draw.choice("ij"), cell, draw.choice((4, 2, 1)))
    metric = draw.choice(tuple(METRICS))
    reference = key(draw.choice("ij"), cell, 4) if METRICS[metric] else ""
    keys = {draw.choice(("merged", "missing_in_a")): ("k",)}
    return draw.choice((
        lambda: weights(name, draw),
        lambda: sampled(name, cell, any_key, draw.choice("xxxy")), lambda: sampled(name, cell, any_key, "x"),
        lambda: sampled(name, cell, key("i", cell, 4), "x"), lambda: sampled(name, cell, key("j", cell, 4), "x"),
        lambda: Measurement(sample=any_key, candidate=name, cell=cell, metric=metric, version=draw.choice((1, 1, 2)),
                            values={"luma_sd": 1.0}, reference=reference, setting=draw.choice(("", "", "other"))),
        lambda: Coverage(candidate=name, stage="merge", component=draw.choice(("unet", "vae")), keys=keys, of=2),
        lambda: Coverage(candidate=name, stage=IDENTITIES, component="", keys={"held": ("k",)}),
        lambda: Latency(candidate=name, batch_size=1, warmup_rounds=1, guidance=3.0, seconds={"total": (1.0,)}, setting=setting),
        lambda: Memory(candidate=name, readings=(), setting=setting),
        lambda: Fit(candidate=name, batch_size=draw.choice((4, 2, 1)), fits=draw.random() < 0.3, setting=setting),
        lambda: NoiseFloor(candidate=name, cell=cell, batch_size=draw.choice((4, 8)), largest_levels=1, changed_share=0.1,
                           setting=draw.choice("ij")),
        lambda: Failure(candidate=name, stage="sample", error="E", message="m"),
        lambda: Finished(candidate=name, identity=draw.choice("ij"), sampled=1, reused=0, seconds=1.0),
        lambda: Defect(candidate=name, cell=cell, sample=any_key, why="NaN")))()


def sampled(name: str, cell: Cell, of: str, content: str) -> Sample:
    return Sample(key=of, candidate=name, cell=cell, path=f"images/{of}.png", sha256=hashlib.sha256(content.encode()).hexdigest())


@pytest.fixture(params=range(40))
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    """The ledger of a random journal whose images are on the disk as they were made last; every candidate is announced."""
    draw = random.Random(request.param)
    records = [one(draw) for _ in range(draw.choice((20, 60, 200)))] + [weights(name, draw) for name in NAMES]
    (tmp_path / "images").mkdir()
    for record in records:
        if isinstance(record, Sample):
            content = next(c for c in "xy" if hashlib.sha256(c.encode()).hexdigest() == record.sha256)
            (tmp_path / record.path).write_text(content)
    Journal(tmp_path / "journal.jsonl").add(records)
    opened = Ledger(tmp_path)
    yield opened
    opened.close()


def at_hand(ledger: Ledger, name: str) -> set[Cell]:
    """The cells that a run would not sample again."""
    absent = list(CELLS)
    for size in (4, *smaller_batches(4, ledger.fits(name))):
        absent = ledger.missing(name, [(cell, key(ledger.identity(name), cell, size)) for cell in absent])
    return set(CELLS) - set(absent)


def counted(ledger: Ledger) -> Standing:
    return sift(Journal(ledger.journal.path).read()[0], SUITE, HEAD)


def test_the_images_that_count_are_those_at_hand(ledger: Ledger) -> None:
    present = {name: at_hand(ledger, name) for name in NAMES}
    samples = counted(ledger).samples
    assert {name: {cell for owner, cell in samples if owner == name} for name in NAMES} == present
    assert all(ledger.samples[place] == sample for place, sample in samples.items())


def test_the_measurements_that_count_are_those_that_would_not_be_made_again(ledger: Ledger) -> None:
    for name in NAMES:
        at_hand(ledger, name)
    standing = counted(ledger)
    mine = {(m.sample, m.candidate, m.metric) for m in standing.measurements}
    for (name, cell), sample in standing.samples.items():
        baseline = standing.samples.get((SUITE.baseline, cell))
        for metric, paired in METRICS.items():
            reference = baseline.key if paired and baseline is not None else ""
            assert ((sample.key, name, metric) in mine) == ledger.measured(metric, 1, "", [(sample, reference)]), (cell, metric)


def test_what_belongs_to_a_candidate_counts_where_it_would_not_be_made_again(ledger: Ledger) -> None:
    standing = counted(ledger)
    for name in NAMES:
        rows = [row for row in standing.coverage if row.candidate == name]
        merged = [row for row in rows if row.stage != IDENTITIES]
        assert ledger.covered(name) == (len(merged) == 2)
        assert ledger.tried(name) == (len(merged) < len(rows))
        assert ledger.latency(name) == (standing.latency.get(name) if name in standing.memory else None)
        assert ledger.has_floor(name, ledger.identity(name), 4) == any(floor.candidate == name for floor in standing.floors)
        alike = [fit for fit in ledger.fits(name) if is_timed_alike(fit, standing.weights[name])]
        assert alike == [fit for fit in standing.fits if fit.candidate == name]


def test_the_index_tells_the_same_as_the_journal(ledger: Ledger) -> None:
    present = {name: at_hand(ledger, name) for name in NAMES}
    ledger.close()
    again = Ledger(ledger.folder)
    assert {name: at_hand(again, name) for name in NAMES} == present
    for name in NAMES:
        assert (again.fits(name), again.latency(name), again.covered(name), again.tried(name)) == (
            ledger.fits(name), ledger.latency(name), ledger.covered(name), ledger.tried(name))
    again.close()


def test_a_refusal_that_was_taken_back_lets_no_smaller_batch_count() -> None:
    refused = Fit(candidate="a", batch_size=4, fits=False)
    latest = LatestRecords([refused, replace(refused, fits=True)])
    assert smaller_batches(4, latest.of(Fit, "a")) == []


def test_other_weights_void_what_was_known_of_the_old_ones_and_the_same_weights_void_failures_alone() -> None:
    first = Weights(candidate="a", identity="i", inputs={})
    rows: list[Record] = [Coverage(candidate="a", stage="merge", component="unet", keys={}, of=1),
                          Fit(candidate="a", batch_size=4, fits=False),
                          Failure(candidate="a", stage="sample", error="E", message="m")]
    assert LatestRecords([first, *rows, first]).records() == [*rows[:2], first]
    other = replace(first, identity="j")
    assert LatestRecords([first, *rows, other]).records() == [other]


def test_a_latency_takes_back_the_refusal_of_one_image_and_no_other() -> None:
    fits = [Fit(candidate="a", batch_size=size, fits=False) for size in (4, 1)]
    timed = Latency(candidate="a", batch_size=1, warmup_rounds=1, guidance=3.0, seconds={"total": (1.0,)})
    assert LatestRecords([*fits, timed]).records() == [fits[0], timed]


@pytest.mark.parametrize(("batch_size", "refused", "sizes"), [
    (8, (), []), (8, (8,), [4]), (8, (8, 4), [4, 2]), (8, (8, 4, 2, 1), [4, 2, 1]), (1, (1,), []), (6, (6,), [3])])
def test_smaller_batches_are_halves_down_to_half_of_the_smallest_refused(batch_size: int, refused: tuple[int, ...],
                                                                         sizes: list[int]) -> None:
    assert smaller_batches(batch_size, [Fit(candidate="a", batch_size=size, fits=False) for size in refused]) == sizes
