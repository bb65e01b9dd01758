"""Post-steps change images after they are sampled: nothing is sampled for them, and the raw picture is kept."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness import Candidate, Suite
from harness.cleaning.run_images import clean_run
from harness.declare import Lut, PostStep, Temperature, Upscale
from harness.records import Defect, Finished, Intermediate, Measurement, Sample
from harness.sampling import from_png
from tests.fakes import PROMPTS, plain_candidate, tiny_grid, tiny_suite
from tests.painted import paint_runs
from tests.post.test_luts import cube
from tests.run.test_images import finished, go, records

BLACK = [(0.0, 0.0, 0.0)] * 8


@pytest.fixture
def painted(monkeypatch: pytest.MonkeyPatch) -> None:
    paint_runs(monkeypatch)


def night(strength: float, name: str = "") -> Candidate:
    return plain_candidate(name or f"night={strength:g}", post=(Lut("night.cube", strength=strength),))


def suite(*candidates: Candidate, **changes: object) -> Suite:
    return tiny_suite(**{"candidates": candidates, "baseline": candidates[0].name, "gates": (), "metrics": ("exposure",),
                         "grid": tiny_grid(prompts=PROMPTS[:3]), **changes})


def pictures(root: Path, record: object) -> np.ndarray:
    assert isinstance(record, Sample | Intermediate)
    return from_png((root / "runs" / "tiny" / record.path).read_bytes())


@pytest.mark.usefixtures("painted")
@pytest.mark.parametrize("plain_first", [True, False])
def test_a_sweep_of_a_table_samples_each_picture_once(tmp_path: Path, plain_first: bool) -> None:
    cube(tmp_path, "LUT_3D_SIZE 2", BLACK)
    candidates = (plain_candidate(), night(0.5), night(1)) if plain_first else (night(0.5), night(1), plain_candidate())
    done = go(tmp_path, suite(*candidates))
    assert [finished(done, one.name)[0] for one in candidates] == [6, 0, 0]
    finals = {(one.candidate, one.cell): pictures(tmp_path, one) for one in records(tmp_path, Sample)}  # type: ignore[attr-defined]
    raws = [one for one in records(tmp_path, Intermediate) if one.candidate == "night=0.5"]  # type: ignore[attr-defined]
    assert len(raws) == 6
    for raw in raws:
        assert (pictures(tmp_path, raw) == finals["photo", raw.cell]).all()  # type: ignore[attr-defined]
        assert np.abs(finals["night=0.5", raw.cell] - pictures(tmp_path, raw) / 2).max() <= 0.5  # type: ignore[attr-defined]
        assert not finals["night=1", raw.cell].any()  # type: ignore[attr-defined]
    assert {one.candidate for one in records(tmp_path, Measurement)} == {one.name for one in candidates}  # type: ignore[attr-defined]


@pytest.mark.usefixtures("painted")
def test_another_table_under_the_same_name_makes_other_images_and_samples_none(tmp_path: Path) -> None:
    cube(tmp_path, "LUT_3D_SIZE 2", BLACK)
    assert finished(go(tmp_path, suite(night(1))), "night=1") == (6, 0)
    cube(tmp_path, "LUT_3D_SIZE 2", [(1.0, 1.0, 1.0)] * 8)
    assert finished(go(tmp_path, suite(night(1))), "night=1")[0] == 0
    latest = {one.cell: one for one in records(tmp_path, Sample)}  # type: ignore[attr-defined]
    assert all((pictures(tmp_path, one) == 255).all() for one in latest.values())


@pytest.mark.usefixtures("painted")
def test_a_lost_raw_picture_is_made_again(tmp_path: Path) -> None:
    cube(tmp_path, "LUT_3D_SIZE 2", BLACK)
    go(tmp_path, suite(night(1)))
    raw = records(tmp_path, Intermediate)[0]
    (tmp_path / "runs" / "tiny" / raw.path).unlink()  # type: ignore[attr-defined]
    assert finished(go(tmp_path, suite(night(1))), "night=1") == (1, 5)
    assert (tmp_path / "runs" / "tiny" / raw.path).exists()  # type: ignore[attr-defined]


@pytest.mark.usefixtures("painted")
def test_a_second_run_reuses_all_and_a_fresh_one_samples(tmp_path: Path) -> None:
    cube(tmp_path, "LUT_3D_SIZE 2", BLACK)
    declared = suite(plain_candidate(), night(1))
    go(tmp_path, declared)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.png")}
    assert finished(go(tmp_path, declared), "night=1") == (0, 6)
    assert finished(go(tmp_path, declared, fresh=True), "night=1")[0] == 6
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.png")}.items() >= before.items()


@pytest.mark.usefixtures("painted")
def test_the_shared_cache_holds_raw_pictures(tmp_path: Path) -> None:
    cube(tmp_path, "LUT_3D_SIZE 2", BLACK)
    shared = f"folder:{tmp_path / 'cache'}"
    go(tmp_path, suite(plain_candidate()), cache=shared)
    other = tmp_path / "other"
    other.mkdir()
    cube(other, "LUT_3D_SIZE 2", BLACK)
    assert finished(go(other, suite(night(1)), cache=shared), "night=1")[0] == 0
    assert len(records(other, Intermediate)) == 6


@pytest.mark.parametrize("step", [Upscale(factor=2), Temperature(max_kelvin=4000)])
def test_sampled_images_have_the_post_steps_and_their_time(tmp_path: Path, step: PostStep) -> None:
    declared = suite(plain_candidate(post=(step,)), grid=tiny_grid(prompts=PROMPTS[:1]), metrics=("exposure", "psnr"))
    done = go(tmp_path, declared)
    assert isinstance(done["photo"], Finished), done
    (final,) = records(tmp_path, Sample)[:1]
    (raw,) = (one for one in records(tmp_path, Intermediate) if one.sample == final.key)  # type: ignore[attr-defined]
    size = 2 if isinstance(step, Upscale) else 1
    assert pictures(tmp_path, final).shape == (size * 64, size * 64, 3)
    assert pictures(tmp_path, raw).shape == (64, 64, 3)
    again = go(tmp_path, replace(declared, candidates=(replace(declared.candidates[0], post=()),)))
    assert finished(again) == (0, 2)
    assert not records(tmp_path, Defect)


@pytest.mark.usefixtures("painted")
def test_cleaning_keeps_the_raw_pictures_of_declared_candidates_and_removes_those_of_others(tmp_path: Path) -> None:
    cube(tmp_path, "LUT_3D_SIZE 2", BLACK)
    go(tmp_path, suite(plain_candidate(), night(1), night(0.5)))
    # The raw pictures lie in the folder of a candidate that is declared no longer.
    go(tmp_path, suite(night(1)))
    clean_run(tmp_path / "runs" / "tiny", {})
    assert len(list(tmp_path.rglob("*.png"))) == 12
    assert finished(go(tmp_path, suite(night(1))), "night=1") == (0, 6)
    go(tmp_path, suite(plain_candidate("anime", model="zoo:anime")))
    clean_run(tmp_path / "runs" / "tiny", {})
    assert len(list(tmp_path.rglob("*.png"))) == 6
