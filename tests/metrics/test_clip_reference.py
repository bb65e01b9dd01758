"""References to CLIP models: tags of open_clip in a local cache, and how their pictures are prepared."""

import json
import socket
import subprocess
import sys

import numpy as np
import open_clip
import pytest
import torch
from open_clip import factory, pretrained
from PIL import Image
from safetensors.torch import save_file

from harness.metrics import clip_reference
from harness.metrics.clip import ScorerError, load_scorer
from harness.metrics.clip_reference import USUAL, ClipReferenceError, Pixels, parsed, pixels_of, weights_of
from tests.metrics.conftest import TINY, new_tiny_clip

COMMIT = "0123456789abcdef" * 2 + "01234567"
HALF = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "interpolation": "bilinear", "resize_mode": "squash"}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache with weights of "tiny-test", which open_clip knows by two tags."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setitem(factory._MODEL_CONFIGS, "tiny-test", TINY)
    monkeypatch.setitem(factory._MODEL_CONFIGS, "tiny-test-quickgelu", TINY | {"quick_gelu": True})
    rows = {"half": pretrained._pcfg(hf_hub="owner/tiny/", **HALF),
            "quick": pretrained._pcfg(hf_hub="owner/tiny/weights.bin", quick_gelu=True),
            "absent": pretrained._pcfg(hf_hub="owner/other/")}
    monkeypatch.setitem(pretrained._PRETRAINED, "tiny-test", rows)
    monkeypatch.setitem(pretrained._PRETRAINED, "tiny-test-quickgelu", {"quick": rows["quick"]})
    monkeypatch.setattr(clip_reference, "architectures", lambda: {"tiny-test": None, "tiny-test-quickgelu": None})
    folder = tmp_path / "hub" / "models--owner--tiny"
    (folder / "snapshots" / COMMIT).mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(COMMIT)
    for name in ("open_clip_model.safetensors", "weights.safetensors"):
        save_file(new_tiny_clip().state_dict(), folder / "snapshots" / COMMIT / name)
    return folder


def test_a_tag_is_scored_as_open_clip_scores_it_and_no_request_leaves(cache, monkeypatch):
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("a request left"))
    picture = np.random.default_rng(0).integers(0, 256, (48, 80, 3), dtype=np.uint8)
    for tag in ("half", "quick"):
        scorer = load_scorer(f"tiny-test/{tag}")
        quick = {"quick_gelu": True} if tag == "quick" else {}
        model = open_clip.CLIP(**TINY, **quick).eval()
        model.load_state_dict(new_tiny_clip().state_dict())
        row = pretrained.get_pretrained_cfg("tiny-test", tag)
        prepare = open_clip.image_transform(32, is_train=False, **{name: row[name] for name in HALF})
        with torch.inference_mode():
            seen = model.encode_image(prepare(Image.fromarray(picture))[None])
            read = model.encode_text(open_clip.get_tokenizer("tiny-test")(["a red ball"]))
        expected = 100 * torch.cosine_similarity(seen, read).item()
        assert scorer.scores(picture[None], ["a red ball"])[0] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("reference", "words"), [
    ("tiny-test/absent", "sweetspot fetch clip tiny-test/absent"), ("tiny-test/hal", "did you mean 'half'"),
    ("tiny-test-quickgelu/half", "write 'tiny-test/half'")])
def test_a_tag_without_weights_says_what_to_do(cache, reference, words):
    with pytest.raises(ScorerError, match=words):
        load_scorer(reference)


@pytest.mark.parametrize("ref", ["", "../../x", "z" * 40, COMMIT[:39], COMMIT + "0"])
def test_a_cache_with_a_broken_ref_gives_the_newest_snapshot(cache, ref):
    (cache / "refs" / "main").write_text(ref)
    assert weights_of("tiny-test/half") == str(cache / "snapshots" / COMMIT / "open_clip_model.safetensors")


def test_a_file_is_prepared_for_as_its_tag_its_repository_or_its_config_says(cache, tmp_path):
    file = tmp_path / "mine.safetensors"
    with pytest.raises(ClipReferenceError, match="'tiny-test/half:mine'"):
        pixels_of(parsed("tiny-test:mine"), file)
    assert pixels_of(parsed("tiny-test/half:mine"), file) == Pixels(**HALF)
    assert pixels_of(parsed("tiny-test:x"), tmp_path / "tiny-half.safetensors") == Pixels(**HALF)
    assert pixels_of(parsed("tiny-test:x"), cache / "snapshots" / COMMIT / "open_clip_model.safetensors") == Pixels(**HALF)
    assert pixels_of(parsed("tiny-test-quickgelu:x"), file) == USUAL
    assert pixels_of(parsed("nobody-knows:x"), file) == USUAL
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"preprocess_cfg": {"mean": [0, 0, 0], "std": [1, 1, 1]}}))
    assert pixels_of(parsed("tiny-test:x"), file).std == (1, 1, 1)


@pytest.mark.parametrize("config", ["", "[]", "{", '{"preprocess_cfg": 3}', '{"preprocess_cfg": {"mean": [0]}}',
                                    '{"preprocess_cfg": {"std": [0, 0, 0]}}', "[" * 100_000])
def test_a_broken_config_beside_a_file_is_left_out(cache, tmp_path, config):
    (tmp_path / "open_clip_config.json").write_text(config)
    assert pixels_of(parsed("tiny-test-quickgelu:x"), tmp_path / "mine.safetensors") == USUAL


@pytest.mark.parametrize("text", ["", "ViT-B-32", "ViT-B-32:", "ViT-B-32/", "ViT-B-32/:x", ":x", "a/b/c", "a/b/c:x", "/b"])
def test_other_texts_are_no_reference(text):
    assert parsed(text) is None


def test_the_tables_are_read_without_open_clip_and_are_its_own():
    code = ("import json, sys\n"
            "from pathlib import Path\n"
            "from harness.check.clip import clip_problems\n"
            "from harness.metrics.clip_reference import pretrained\n"
            "said = [*clip_problems('ViT-B32/openai', Path()), *clip_problems('ViT-B-32/opnai', Path())]\n"
            "table = {name: {tag: dict(row) for tag, row in rows.items()} for name, rows in pretrained().items()}\n"
            "print(json.dumps([said, table, sorted({'torch', 'open_clip', 'huggingface_hub'} & set(sys.modules))]))")
    said, table, loaded = json.loads(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout)
    assert ("did you mean 'ViT-B-32'" in said[0], "did you mean 'openai'" in said[1], loaded) == (True, True, [])
    assert table == json.loads(json.dumps(pretrained._PRETRAINED))


def test_every_tag_that_was_trained_with_quickgelu_names_an_architecture_with_it():
    for name, tag in open_clip.list_pretrained():
        if pretrained.get_pretrained_cfg(name, tag).get("quick_gelu", False):
            model = parsed(f"{name}/{tag}").model
            assert open_clip.get_model_config(model)["quick_gelu"] is True
