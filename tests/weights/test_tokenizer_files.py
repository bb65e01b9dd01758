"""A tokenizer whose vocabulary is missing is refused; transformers would make one that reads all texts alike."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness import Candidate, Grid, Prompt
from harness.materialise import Workbench
from harness.weights import ModelFileError, tokenizer_files
from harness.weights.tokenizer_files import tokenizer_of
from tests.tiny_pipelines import tokenizers

VOCABULARIES = ("tokenizer.json", "vocab.json", "merges.txt")
MAKERS = {name: getattr(tokenizers, name) for name in (
    "clip_tokenizer", "t5_tokenizer", "gemma_tokenizer", "llama_tokenizer", "llama3_tokenizer", "qwen_tokenizer",
    "mistral_tokenizer", "mistral_processor", "qwen3_vl_processor")}
TEXT = "a red cat"


@pytest.mark.parametrize("name", MAKERS)
def test_a_saved_tokenizer_is_read_and_refused_without_its_vocabulary(name: str, tmp_path: Path) -> None:
    saved: Any = MAKERS[name]()
    saved.save_pretrained(tmp_path)
    assert ids(tokenizer_of(type(saved), tmp_path)) == ids(saved)
    for file in VOCABULARIES:
        (tmp_path / file).unlink(missing_ok=True)
    with pytest.raises(ModelFileError, match=str(tmp_path)):
        tokenizer_of(type(saved), tmp_path)


def test_a_tokenizer_of_bytes_needs_no_vocabulary(tmp_path: Path) -> None:
    saved = tokenizers.byt5_tokenizer()
    saved.save_pretrained(tmp_path)
    assert ids(tokenizer_of(type(saved), tmp_path)) == ids(saved)


def test_words_and_merges_are_a_vocabulary_together_alone(tmp_path: Path) -> None:
    saved = tokenizers.clip_tokenizer(length=24)
    saved.save_pretrained(tmp_path)
    whole = json.loads((tmp_path / "tokenizer.json").read_text())
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "vocab.json").write_text(json.dumps(whole["model"]["vocab"]))
    with pytest.raises(ModelFileError, match=str(tmp_path)):
        tokenizer_of(type(saved), tmp_path)
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    assert ids(tokenizer_of(type(saved), tmp_path)) == ids(saved)


def test_pieces_without_the_package_that_reads_them_name_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = tokenizers.t5_tokenizer()
    saved.save_pretrained(tmp_path)
    monkeypatch.setattr(tokenizer_files, "find_spec", lambda _: None)
    (tmp_path / "spiece.model").write_bytes(b"pieces")
    assert ids(tokenizer_of(type(saved), tmp_path)) == ids(saved)  # tokenizer.json has them too, as the refusal advises
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(ModelFileError, match=r"spiece\.model.*sweetspot\[sentencepiece\]"):
        tokenizer_of(type(saved), tmp_path)


@pytest.mark.parametrize(("name", "tokenizer", "sampler"), [
    ("StableDiffusionPipeline", "tokenizer", "ddim"), ("StableDiffusionXLPipeline", "tokenizer_2", "ddim"),
    ("FluxPipeline", "tokenizer_2", "flow_euler"), ("PixArtSigmaPipeline", "tokenizer", "own"),
    ("Flux2Pipeline", "tokenizer", "own")])
def test_a_folder_whose_tokenizer_is_empty_is_refused(name: str, tokenizer: str, sampler: str, tmp_path: Path,
                                                      tiny_pipeline: Callable[[str], Path]) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_pipeline(name), folder)
    (folder / tokenizer / "tokenizer.json").unlink()
    grid = Grid(prompts=(Prompt(id="p", text=TEXT),), seeds=(0,), steps=2, width=32, height=32, sampler=sampler,
                guidance_scales=(1.0,))
    with pytest.raises(ModelFileError, match=str(folder / tokenizer)):
        Workbench.for_grid(grid, device="cpu", root=tmp_path).inspect(Candidate(name="m", model="model"))


def ids(tokenizer: Any) -> list[int]:
    return list(getattr(tokenizer, "tokenizer", tokenizer)(TEXT)["input_ids"])
