"""`sweetspot fetch` against a small hub of the test's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from open_clip import factory, pretrained
from safetensors.torch import save

from harness.cli import main
from harness.hub import cached
from harness.metrics.clip import load_scorer
from tests.hub.small_hub import COMMIT, only_hub
from tests.metrics.conftest import TINY, new_tiny_clip


@pytest.fixture
def requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Those that a hub with one CLIP model had; open_clip knows the model as tiny-test/own."""
    weights = save({name: tensor.contiguous() for name, tensor in new_tiny_clip().state_dict().items()})
    monkeypatch.setitem(factory._MODEL_CONFIGS, "tiny-test", TINY)
    monkeypatch.setitem(pretrained._PRETRAINED, "tiny-test", {"own": pretrained._pcfg(hf_hub="owner/tiny/"),
                                                              "gone": pretrained._pcfg(hf_hub="owner/gone/")})
    with only_hub({"owner/tiny/open_clip_model.safetensors": weights}, tmp_path / "hub", monkeypatch) as hub:
        yield hub.requests


def test_a_clip_model_is_fetched_once_with_its_size_and_scores_from_then_on(requests: list[str],
                                                                            capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fetch", "clip", "tiny-test/own"]) == 0
    out = capsys.readouterr().out
    assert "kB) to" in out or "MB) to" in out
    assert "clip='tiny-test/own'" in out
    assert sum("/resolve/" in request and request.startswith("GET") for request in requests) == 1
    at = cached("owner/tiny", "open_clip_model.safetensors")
    assert at is not None
    assert at.commit == COMMIT
    assert load_scorer("tiny-test/own").name == "tiny-test"
    assert main(["fetch", "clip", "tiny-test/own"]) == 0
    assert "fetching" not in capsys.readouterr().out
    assert sum("/resolve/" in request and request.startswith("GET") for request in requests) == 1


def test_an_address_of_the_hub_is_fetched_and_its_place_is_said(requests: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fetch", "hub:owner/tiny@main:open_clip_model.safetensors"]) == 0
    assert Path(capsys.readouterr().out.splitlines()[-1]).is_file()


@pytest.mark.parametrize(("words", "code", "part"), [
    (["clip", "tiny-test/owm"], 2, "did you mean 'own'"), (["clip", "tiny-tes/own"], 2, "unknown open_clip architecture"),
    (["clip", "ViT-B-32"], 2, "expected ARCHITECTURE/TAG"), (["clip", "tiny-test/gone"], 1, "could not be listed"),
    (["hub:owner/tiny"], 1, "Name a file of it: open_clip_model.safetensors"), (["hub:owner"], 2, "expected 'clip'"),
    (["hub:owner/tiny:x.bin"], 1, "not a .safetensors file"),
    (["models/x"], 2, "expected 'clip'")])
def test_what_cannot_be_fetched_is_refused(words: list[str], code: int, part: str, requests: list[str],
                                           capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fetch", *words]) == code
    assert part in capsys.readouterr().err
    assert not any("/resolve/" in request for request in requests)


def test_nothing_is_asked_for_offline(requests: list[str], monkeypatch: pytest.MonkeyPatch,
                                      capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert main(["fetch", "clip", "tiny-test/own"]) == 1
    assert "HF_HUB_OFFLINE" in capsys.readouterr().err
    assert requests == []


def test_some_clip_models_are_listed_with_size_and_licence_and_nothing_is_asked_for(requests: list[str],
                                                                                     capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fetch", "clip"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "605.14 MB" in lines[0]
    assert "Apache-2.0" in lines[0]
    assert lines[-1].endswith("sweetspot fetch clip ViT-B-32/openai")
    assert requests == []


def test_every_recommended_model_is_one_that_a_suite_may_name() -> None:
    from harness.check.clip import name_problem
    from harness.commands.fetch import RECOMMENDED
    from harness.metrics.clip_reference import parsed

    for tag, *_ in RECOMMENDED:
        given = parsed(tag)
        assert given is not None
        assert name_problem(given) == ""
