"""The CLIP model of a suite is checked before any work: whose models it scores, its architecture, and its file by the header."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from harness import Candidate, Checkpoint, Fused, Merge
from harness.check import problems
from harness.check.clip import expected_shapes
from harness.declare import plain, restore
from harness.metrics.clip import ScorerError, load_scorer
from reports.read.run import load_run
from reports.verdict.cells import caveats
from tests.fakes import tiny_suite
from tests.metrics.conftest import TINY, new_tiny_clip
from tests.reports import synthetic


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    from open_clip import factory

    monkeypatch.setitem(factory._MODEL_CONFIGS, "tiny-test", TINY)


def said(root: Path, model: object, **changes: object) -> str:
    (root / "own.safetensors").touch()
    candidate = Candidate(name="mine", model=model)  # type: ignore[arg-type]
    return "\n".join(problems(tiny_suite(candidates=(candidate,), baseline="mine", **changes), root))


OWN = ["own.safetensors", Checkpoint(path="own.safetensors"), Merge(a="zoo:photo", b="own.safetensors", alpha=0.5),
       Merge(a=Merge(a="zoo:photo", b="own.safetensors", alpha=0.5), b="zoo:anime", alpha=0.5),
       Fused(model="own.safetensors", adapters=()),
       Merge(a="zoo:photo", b="zoo:anime", alpha=0.5, take={"vae": "own.safetensors"})]


@pytest.mark.parametrize("model", OWN)
def test_the_toy_scores_no_other_models_unless_it_is_asked_to(tmp_path: Path, model: object) -> None:
    text = said(tmp_path, model)
    assert "candidate 'mine' is made of 'own.safetensors'" in text
    assert "sweetspot fetch clip ViT-B-32/openai" in text
    assert "clip='ViT-B-32/openai'" in text
    assert "toy" not in said(tmp_path, model, clip="zoo:clip")


def test_the_toy_scores_the_built_in_models_and_none_where_no_metric_asks(tmp_path: Path) -> None:
    assert problems(tiny_suite(), tmp_path) == []
    assert "toy" not in said(tmp_path, "own.safetensors", metrics=("exposure",))


def test_a_suite_that_names_no_clip_is_the_same_declaration_as_before() -> None:
    suite = tiny_suite()
    assert plain(suite)["clip"] == "zoo:clip"
    assert restore(plain(suite)) == suite


def test_scores_of_the_toy_on_other_models_are_the_first_caveat(tmp_path: Path) -> None:
    run = load_run(synthetic.write_run(tmp_path, synthetic.merge_suite()))
    run = replace(run, suite=replace(run.suite, candidates=tuple(replace(c, model="zoo:photo") for c in run.suite.candidates)))
    assert not any("toy" in caveat for caveat in caveats(run, ()))
    own = replace(run.suite, candidates=tuple(replace(c, model="own.safetensors") for c in run.suite.candidates))
    assert "toy" in caveats(replace(run, suite=own), ())[0]


def test_pictures_of_an_older_run_below_guidance_1_are_a_caveat(tmp_path: Path) -> None:
    run = load_run(synthetic.write_run(tmp_path, synthetic.merge_suite()))
    low = replace(run.suite, grid=replace(run.suite.grid, guidance_scales=(0, 0.5, 3)))
    assert "CFG 0, 0.5 are drawn from the negative prompts" in caveats(replace(run, suite=low), ())[0]
    assert not any("negative prompts" in caveat for caveat in caveats(run, ()))


@pytest.mark.parametrize("name", ["ViT-B-32-quickgelu", "ViT-S-32", "ViT-L-14-336", "RN50", "coca_ViT-B-32", "tiny-test"])
def test_the_expected_shapes_are_those_of_open_clips_own_model(name: str) -> None:
    import open_clip

    config = dict(open_clip.get_model_config(name))
    custom, several = config.pop("custom_text", False), "multimodal_cfg" in config
    with torch.device("meta"):
        model = (open_clip.CoCa if several else open_clip.CustomTextCLIP if custom else open_clip.CLIP)(**config)
    shapes = {key.removeprefix("text."): tuple(value.shape) for key, value in model.state_dict().items()}
    expected = expected_shapes(open_clip.get_model_config(name))
    assert len(expected) >= 3
    assert expected == {key: shapes[key] for key in expected}


def weights() -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in new_tiny_clip().state_dict().items()}


@pytest.mark.parametrize(("architecture", "change", "words"), [
    ("ViTB32", {}, "unknown open_clip architecture 'ViTB32'; did you mean 'ViT-B-32'"),
    ("ViT-B-16-SigLIP", {}, "tokenizer of ViT-B-16-SigLIP would have to be downloaded"),
    ("ViT-B-32", {}, "is not a ViT-B-32 of open_clip: it has no transformer.resblocks.11.ln_1.weight"),
    ("tiny-test", {"visual.positional_embedding": torch.zeros(17, 32)}, "shape (17, 32), and (5, 32) is expected"),
    ("tiny-test", {"visual.proj": None}, "it has no visual.proj"),
    ("tiny-test", {"visual.proj": torch.zeros(32, 16).to(torch.float8_e4m3fn)}, "stored as F8_E4M3"),
    ("tiny-test", {"text_model.x": torch.zeros(1)}, "named as in transformers"),
])
def test_a_file_that_is_not_of_its_architecture_is_named_before_any_work(tmp_path: Path, architecture: str, words: str,
                                                                        change: dict[str, torch.Tensor | None]) -> None:
    changed = {name: tensor for name, tensor in (weights() | change).items() if tensor is not None}
    save_file(changed, tmp_path / "clip.safetensors")
    assert words in said(tmp_path, "zoo:photo", clip=f"{architecture}:clip.safetensors")


@pytest.mark.parametrize(("name", "data", "words"), [
    ("none.safetensors", None, "clip file 'none.safetensors' does not exist"),
    ("x.safetensors", b"", "an empty file"), ("m.pt", b"\x80\x02}.", "a pickle"),
    ("", None, "expected 'zoo:clip'"), ("folder", None, "a folder")])
def test_a_file_that_is_none_is_named(tmp_path: Path, name: str, data: bytes | None, words: str) -> None:
    (tmp_path / "folder").mkdir()
    if data is not None:
        (tmp_path / name).write_bytes(data)
    assert words in said(tmp_path, "zoo:photo", clip=f"tiny-test:{name}")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_half_weights_are_accepted_and_score_on_a_cpu(tmp_path: Path, dtype: torch.dtype) -> None:
    file = tmp_path / "clip.safetensors"
    save_file({name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in weights().items()}, file)
    assert said(tmp_path, "zoo:photo", clip="tiny-test:clip.safetensors") == ""
    scores = load_scorer(f"tiny-test:{file}").scores(np.zeros((1, 32, 32, 3), dtype=np.uint8), ["a"])
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("reference", ["tiny-test:models/own.safetensors", "tiny-test:../own.safetensors"])
def test_a_relative_path_is_below_the_suites_root_for_the_check_and_for_the_scorer(reference: str, tmp_path: Path,
                                                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere" / "deep"
    for folder in (root / "models", elsewhere):
        folder.mkdir(parents=True)
    save_file(weights(), (root / reference.partition(":")[2]).resolve())
    monkeypatch.chdir(elsewhere)
    assert said(root, "zoo:photo", clip=reference) == ""
    assert load_scorer(reference, root=root).name == "tiny-test"
    assert "does not exist" in said(elsewhere, "zoo:photo", clip=reference)
    with pytest.raises(ScorerError):
        load_scorer(reference, root=elsewhere)
