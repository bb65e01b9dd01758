"""`sweetspot plan` says what fits, without a GPU and without reading a weight."""

import json
import re
from pathlib import Path

import pytest

from harness.cli import main
from harness.weights.model import ModelFile

SUITE = """
from harness import Candidate, Grid, Prompt, Suite
SUITE = Suite(name="s", baseline="plain", grid=Grid(prompts=(Prompt(id="p", text="a red circle"),), seeds=(1,),
    guidance_scales=(4.0,), steps=4, width=64, height=64, batch_size={batch}), candidates=(
    Candidate(name="plain", model="zoo:photo"), Candidate(name="other", model="zoo:anime"){more}))
"""
INT8 = ', Candidate(name="int8", model="zoo:photo", quantization="int8_weight_only")'


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def suite(batch: object = 4, more: str = "") -> str:
    Path("s.py").write_text(SUITE.format(batch=batch, more=more))
    return "s.py"


def test_candidates_that_need_the_same_are_planned_once_and_no_weight_is_read(
        monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(ModelFile, "tensors", None)
    assert main(["plan", suite(more=INT8), "--memory", "6GiB", "--json"]) == 0
    plain, int8 = json.loads(capsys.readouterr().out)["candidates"]
    assert (plain["names"], int8["names"]) == (["plain", "other"], ["int8"])
    assert plain["number_format"] == "fp16"
    assert int8["weights"]["unet"] < plain["weights"]["unet"]
    one, four = plain["batches"]
    assert one["step"] < four["step"]


def test_what_does_not_fit_has_a_way_out_that_works(capsys: pytest.CaptureFixture[str]) -> None:
    main(["plan", suite(64), "--memory", "6GiB", "--json"])
    needed = json.loads(capsys.readouterr().out)["candidates"][0]["batches"]
    between = f"{(needed[0]['in_all'] + needed[1]['in_all']) // 2}B"
    assert main(["plan", suite(64), "--memory", between]) == 1
    output = capsys.readouterr().out
    batch = min(map(int, re.findall(r"it fits with batch_size=(\d+)", output)))
    assert 1 <= batch < 64
    assert main(["plan", suite(batch), "--memory", between]) == 0


@pytest.mark.parametrize(("arguments", "expected"), [
    (["--memory", "much"], "12GiB"), (["--memory", "0"], "12GiB"), (["--device", "gpu"], "unknown device 'gpu'"),
    (["--device", "cuda"], "--memory 12GiB")])
def test_what_cannot_be_planned_is_refused(arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = main(["plan", suite(), *arguments])
    except SystemExit as end:
        code = int(end.code or 0)
    assert code == 2
    assert expected in capsys.readouterr().err


def test_a_candidate_whose_file_is_absent_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    Path("s.py").write_text(SUITE.format(batch=4, more="").replace("zoo:anime", "absent.safetensors"))
    assert main(["plan", "s.py", "--memory", "6GiB"]) == 2
    assert "absent.safetensors" in capsys.readouterr().err


def test_the_cpu_is_planned_with_its_own_memory(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", suite(), "--device", "cpu"]) == 0
    assert "free now on cpu" in capsys.readouterr().out


def test_the_largest_batch_of_the_plan_is_what_a_fitted_one_can_be(capsys: pytest.CaptureFixture[str]) -> None:
    for device, largest in (("cpu", 16), ("cuda", 64)):
        main(["plan", suite(), "--device", device, "--memory", "64GiB", "--json"])
        assert {row["largest_batch"] for row in json.loads(capsys.readouterr().out)["candidates"]} == {largest}


def test_a_suite_file_that_is_absent_is_said_to_be(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "absent.py", "--memory", "6GiB"]) == 2
    assert "absent.py does not exist" in capsys.readouterr().err


def test_how_candidates_combine_models_is_said_beside_what_they_need(capsys: pytest.CaptureFixture[str]) -> None:
    both = ', Candidate(name="both", model=Ensemble(models=("zoo:photo", "zoo:anime"), weights=(0.5, 0.5)))'
    Path("s.py").write_text(f"from harness import Ensemble\n{SUITE.format(batch=1, more=both)}")
    main(["plan", "s.py", "--memory", "1GiB", "--json"])
    rows = json.loads(capsys.readouterr().out)["candidates"]
    assert {name: row["schemes"] for row in rows for name in row["names"]} == {"plain": [], "other": [], "both": ["ensemble"]}
    main(["plan", "s.py", "--memory", "1GiB"])
    assert re.search(r"^both: .*ensemble$", capsys.readouterr().out, re.MULTILINE)


def test_image_prompts_are_counted_and_a_suite_with_them_can_fit(capsys: pytest.CaptureFixture[str]) -> None:
    text = SUITE.format(batch=4, more="").replace("import Candidate", "import Candidate, Reference")
    text = text.replace('text="a red circle"', 'text="a fish", pictures={"face": "zoo:picture-fish-3"}')
    Path("s.py").write_text(text.replace('name="other", model="zoo:anime"', 'name="other", model="zoo:photo", references=('
                                         'Reference(path="zoo:image-prompt", picture="face"),)'))
    assert main(["plan", "s.py", "--memory", "6GiB", "--json"]) == 0
    rows = {name: row for row in json.loads(capsys.readouterr().out)["candidates"] for name in row["names"]}
    assert set(rows["other"]["weights"]) - set(rows["plain"]["weights"]) == {"image prompts"}
    assert rows["other"]["batches"][0]["step"] > rows["plain"]["batches"][0]["step"]


def test_what_encoding_takes_is_shown_where_a_stage_begins_from_pictures(capsys: pytest.CaptureFixture[str]) -> None:
    staged = SUITE.replace("import Candidate", "import Stage, Candidate").replace(
        'model="zoo:anime"', 'model="zoo:anime", stages=(Stage(strength=0.5, through="pixels"),)')
    Path("s.py").write_text(staged.format(batch=4, more=""))
    assert main(["plan", "s.py", "--memory", "6GiB"]) == 0
    plain, other = capsys.readouterr().out.split("\n\n")[1:3]
    assert ("encoding pictures" in plain, "encoding pictures" in other) == (False, True)
