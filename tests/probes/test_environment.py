"""What a run writes about its machine."""

import json
import subprocess

import pytest

from harness.probes import environment


def test_the_environment_is_json_and_names_versions():
    import torch

    facts = json.loads(json.dumps(environment("cpu")))
    assert facts["packages"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert facts["flags"]["deterministic_algorithms"] in (True, False)
    assert facts["cores"] >= 1
    assert facts["device_name"] == "CPU"


def test_a_commit_and_its_dirt_are_found(tmp_path):
    def git(*words):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], cwd=tmp_path, check=True,
                       capture_output=True)

    git("init")
    git("commit", "--allow-empty", "-m", "first")
    assert environment(folder=tmp_path)["git_dirty"] is False
    (tmp_path / "new").write_text("x")
    assert environment(folder=tmp_path)["git_dirty"] is True
    assert len(environment(folder=tmp_path)["git_commit"]) == 40


def test_no_repository_is_a_reason(tmp_path):
    facts = environment(folder=tmp_path)
    assert "git_commit" not in facts
    assert "not a git repository" in facts["missing"]["git_commit"]


@pytest.mark.gpu
def test_the_gpu_is_described_by_its_uuid():
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    facts = environment("cuda")
    assert facts["device_uuid"].startswith("GPU-")
    assert facts["device_total_bytes"] > 0
