"""What was measured is what is promoted, kept, verified and gone back to; a whole life on a tiny suite that really ran."""

import json
from pathlib import Path

from safetensors import safe_open

from harness.declare.picture_texts import picture_text
from harness.weights import content_hash

PROMOTE = ("promote", "alpha=0.5", "--run", "runs/tiny", "--as", "blend")


def record(number: int, name: str = "blend") -> dict:
    return json.loads(Path(f"models/{name}/records/{number:04d}.json").read_text())


def weights(number: int) -> Path:
    return Path("models/objects") / f"{record(number)['weights']['blake3']}.safetensors"


def test_a_merge_lives_through_promotion_tampering_a_second_version_and_rollback(work, sweetspot):
    work()
    code, out, err = sweetspot(*PROMOTE)
    assert (code, err) == (0, "")
    assert "re-sampled images are equal to the run's, bit for bit" in out
    assert content_hash(weights(1)) == record(1)["weights"]["blake3"]
    code, out, _ = sweetspot("verify", str(weights(1)))
    assert code == 0
    assert "blend version 1 (current): candidate 'alpha=0.5' of suite 'tiny'" in out
    assert "1 passed" in out

    assert sweetspot("promote", "alpha=1", "--run", "runs/tiny", "--as", "blend")[0] == 0
    assert Path("models/blend/current").read_text() == "0002\n"
    assert json.loads(Path("models/baselines/tiny.json").read_text())["candidate"] == "alpha=1"
    assert "not current, that is version 2" in sweetspot("verify", str(weights(1)))[1]

    code, out, _ = sweetspot("rollback", "blend")
    assert (code, Path("models/blend/current").read_text()) == (0, "0001\n")
    assert json.loads(Path("models/baselines/tiny.json").read_text())["candidate"] == "alpha=0.5"
    code, out, _ = sweetspot("history", "blend")
    lines = out.splitlines()
    assert (code, [line[0] for line in lines]) == (0, ["*", " ", " "])
    assert "alpha=0.5 of tiny; objective " in lines[0]
    assert lines[0].endswith(record(1)["weights"]["blake3"])
    assert "rollback to version 1" in lines[2]
    assert sweetspot("rollback", "blend", "--to", "2")[0] == 0
    assert Path("models/blend/current").read_text() == "0002\n"
    assert sweetspot("verify", "blend")[0] == 0


def test_the_record_says_what_the_run_and_the_header_say(work, sweetspot):
    work()
    sweetspot(*PROMOTE)
    kept, head = record(1), json.loads(Path("runs/tiny/run.json").read_text())
    with safe_open(weights(1), framework="pt") as file:
        metadata = file.metadata()
    assert kept["recipe"] == json.loads(metadata["sweetspot.recipe"])
    assert kept["inputs"]["photo.safetensors"]["blake3"] == content_hash(Path("parents/photo.safetensors"))
    assert kept["environment"] == head["environment"]
    assert kept["commit"] == head["environment"].get("git_commit", kept["commit"])
    assert kept["metrics"]["clip_score"] == head["metrics"]["clip_score"]["version"]
    assert kept["verdicts"] == [{"gate": "coverage", "candidate": "alpha=0.5", "status": "passed", "observed": 0, "low": 0,
                                 "high": 0, "limit": "at most 0", "reason": "every key is accounted for"}]
    assert (kept["previous"], kept["replaces"], kept["resampled"]["cells"]) == (None, 0, 4)


def test_a_candidate_that_is_sampled_in_its_own_way_is_sampled_so_again_and_the_record_says_how(work, sweetspot):
    work()
    code, out, err = sweetspot("promote", "few", "--run", "runs/tiny", "--as", "few")
    assert (code, err) == (0, ""), out
    kept = record(1, "few")
    assert (kept["sampling"]["steps"], kept["sampled_as"]["steps"]) == (2, 1)
    assert json.loads(Path("models/baselines/tiny.json").read_text())["sampled_as"] == kept["sampled_as"]
    assert kept["resampled"]["equal"] == kept["resampled"]["cells"]
    assert {row[2] for row in kept["cells"]["rows"]} == {7.0}
    assert sweetspot("images", "runs/tiny", "--candidate", "few", "--to", "pictures")[0] == 0
    assert {(picture.steps, picture.guidance) for picture in map(picture_text, Path("pictures").iterdir())} == {(1, 7.0)}


def test_the_baseline_holds_every_cell_of_the_candidate(work, sweetspot):
    work()
    sweetspot(*PROMOTE)
    cells = json.loads(Path("models/baselines/tiny.json").read_text())["cells"]
    journal = [json.loads(line) for line in Path("runs/tiny/journal.jsonl").read_text().splitlines()]
    scores = {m["sample"]: m["values"]["clip_score"] for m in journal
              if m["kind"] == "measurement" and m["metric"] == "clip_score" and m["candidate"] == "alpha=0.5"}
    place = cells["columns"].index("clip_score")
    assert len(cells["rows"]) == 10
    assert {row[3]: row[place] for row in cells["rows"]} == scores


def test_the_same_candidate_again_is_a_version_with_the_same_weights(work, sweetspot):
    work()
    sweetspot(*PROMOTE)
    sweetspot(*PROMOTE)
    assert record(1)["weights"]["blake3"] == record(2)["weights"]["blake3"]
    assert record(2)["previous"] == {"number": 1, "digest": record(1)["digest"]}
    assert [at.name for at in Path("models/objects").iterdir()] == [weights(1).name]


def test_adapters_at_run_time_are_fused_and_the_rounding_is_said(work, sweetspot):
    work()
    code, out, err = sweetspot("promote", "adapted", "--run", "runs/tiny", "--as", "sketch", "--objects", "weights")
    assert (code, err) == (0, "")
    kept = record(1, "sketch")
    assert "rounding, because the adapters are now fused into the weights" in out
    assert kept["resampled"]["mean_levels"] < 0.2
    assert kept["recipe"]["is"] == "Fused"
    assert kept["weights"]["fused_adapters"] == 1
    assert (Path("weights") / f"{kept['weights']['blake3']}.safetensors").is_file()
    assert sweetspot("verify", "sketch", "--objects", "weights")[0] == 0
