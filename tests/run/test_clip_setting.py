"""What the setting of the CLIP score follows: the weights, their activation, and how pictures are prepared for them."""

from __future__ import annotations

from pathlib import Path

import pytest
from open_clip import factory, pretrained

from harness.declare import short_hash
from harness.run.clip_model import ClipModel
from tests.fakes import tiny_suite
from tests.metrics.conftest import TINY


@pytest.fixture(autouse=True)
def _tags(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(factory._MODEL_CONFIGS, "tiny-test", TINY)
    monkeypatch.setitem(pretrained._PRETRAINED, "tiny-test", {
        "usual": pretrained._pcfg(hf_hub="a/usual/"), "half": pretrained._pcfg(hf_hub="a/half/", mean=(0.5, 0.5, 0.5))})


def setting(clip: str) -> str:
    return ClipModel(tiny_suite(clip=clip), "cpu", Path(), lambda file: f"content of {Path(file).name}", lambda _: None).setting()


def test_the_setting_of_a_file_that_is_prepared_for_as_usual_is_that_of_earlier_versions() -> None:
    usual = short_hash(["tiny-test", "content of x"])
    assert setting("tiny-test/usual:x") == usual
    assert setting("ViT-B-32:x") == short_hash(["ViT-B-32", "content of x"])
    assert setting("zoo:clip") == short_hash(["zoo", "content of zoo:clip"])
    assert setting("tiny-test/half:x") != usual


def test_the_setting_of_a_tag_is_that_of_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    folder = tmp_path / "models--a--usual" / "snapshots" / ("0" * 40)
    folder.mkdir(parents=True)
    (folder / "open_clip_model.safetensors").touch()
    assert setting("tiny-test/usual") == setting("tiny-test/usual:open_clip_model.safetensors")
