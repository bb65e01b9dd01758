"""Wherever a suite may name the file of a model it may give its address on the hub: a row for every such field."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
import re
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType

import pytest

import harness.declare
from harness import (
    Adapter,
    AestheticGradient,
    Candidate,
    Checkpoint,
    Control,
    Ensemble,
    Fused,
    Merge,
    Prompt,
    Reference,
    Relay,
    Stage,
    Suite,
    zoo,
)
from harness.check import problems, resolved
from harness.declare.pose import Pose
from harness.hub import addresses
from harness.hub.pinning import CLIPS, CONFIGS, WHOLE
from harness.materialise.content_identity import weights_of_candidate
from harness.materialise.library import Library
from tests.fakes import tiny_grid, tiny_suite
from tests.hub.filled_cache import COMMIT, fill

PHOTO, ADAPTER, CLIP = "hub:o/n:photo.safetensors", "hub:o/n:sketch.safetensors", "hub:o/n:clip.safetensors"
CONTROL, REFERENCE, CONFIG = "hub:o/n:control-edges.safetensors", "hub:o/n:image-prompt.safetensors", "hub:o/configs"
COMPANION = "hub:o/companion"


PICTURED = tiny_grid(prompts=(Prompt(id="p", text="a star", pictures={"edges": "zoo:picture-star-1"}),))


def of(**fields: object) -> Callable[[], Suite]:
    return lambda: tiny_suite(clip="zoo:clip", grid=PICTURED, baseline="a", candidates=(
        Candidate(name="a", **{"model": "zoo:photo", **fields}),))  # type: ignore[arg-type]


def of_suite(**fields: object) -> Callable[[], Suite]:
    return lambda: dataclasses.replace(of()(), **fields)  # type: ignore[arg-type]


def given(path: str, config: str | None = "zoo:config") -> Checkpoint:
    return Checkpoint(path=path, config=config)


A = given(PHOTO)


def referring(**fields: object) -> Callable[[], Suite]:
    return of(references=(Reference(**{"path": "zoo:image-prompt", "picture": "edges", **fields}),))  # type: ignore[arg-type]


PLACES = {
    "Candidate.model": (PHOTO, of(model=PHOTO)),
    "Checkpoint.path": (PHOTO, of(model=A)),
    "Checkpoint.config": (CONFIG, of(model=given("zoo:photo", CONFIG))),
    "Checkpoint.base": (COMPANION, of(model=Checkpoint(path="zoo:photo", base=COMPANION))),
    "Merge.a": (PHOTO, of(model=Merge(a=A, b="zoo:anime", alpha=0.5))),
    "Merge.b": (PHOTO, of(model=Merge(a="zoo:anime", b=PHOTO, alpha=0.5))),
    "Merge.c": (PHOTO, of(model=Merge(a="zoo:anime", b="zoo:base", c=PHOTO, alpha=0.5, method="add_difference"))),
    "Merge.more": (PHOTO, of(model=Merge(a="zoo:anime", b="zoo:base", more=(PHOTO,), weights=(1, 1, 1),
                                         method="weighted_average"))),
    "Merge.take": (PHOTO, of(model=Merge(a="zoo:anime", b="zoo:base", alpha=0.5, take={"vae": PHOTO}))),
    "Fused.model": (PHOTO, of(model=Fused(model=A, adapters=(Adapter(path="zoo:sketch"),)))),
    "Fused.adapters": (ADAPTER, of(model=Fused(model="zoo:photo", adapters=(Adapter(path=ADAPTER),)))),
    "Relay.models": (PHOTO, of(model=Relay(models=("zoo:anime", A), at=(0.5,)))),
    "Ensemble.models": (PHOTO, of(model=Ensemble(models=("zoo:anime", A), weights=(0.5, 0.5)))),
    "Candidate.adapters": (ADAPTER, of(adapters=(Adapter(path=ADAPTER),))),
    "Candidate.controls": (CONTROL, of(controls=(Control(path=CONTROL, picture="edges"),))),
    "Candidate.references": (REFERENCE, referring(path=REFERENCE)),
    "Reference.encoder": (CLIP, referring(encoder=f"ViT-B-32:{CLIP}")),
    "Reference.encoder, a folder": ("hub:o/encoder", referring(encoder="hub:o/encoder")),
    "AestheticGradient.path": ("hub:o/n:a.safetensors", of(aesthetic=AestheticGradient(path="hub:o/n:a.safetensors"))),
    "AestheticGradient.clip": (CLIP, of(aesthetic=AestheticGradient(path="a.safetensors", clip=f"ViT-B-32:{CLIP}"))),
    "Stage.model": (PHOTO, of(stages=(Stage(model=A, strength=0.5),))),
    "Stage.adapters": (ADAPTER, of(stages=(Stage(strength=0.5, adapters=(Adapter(path=ADAPTER),)),))),
    "Prompt.adapters": (ADAPTER, lambda: dataclasses.replace(of()(), grid=tiny_grid(prompts=(
        Prompt(id="p", text="a star", adapters=(Adapter(path=ADAPTER),)),)))),
    "Suite.clip": (CLIP, of_suite(clip=f"ViT-B-32:{CLIP}")),
    "Suite.clip, a repository": ("hub:o/n:open_clip_model.safetensors", of_suite(clip="hub:o/n")),
    "Pose.detector": ("hub:o/n:d.safetensors", of_suite(pose=Pose(folder="poses", detector="hub:o/n:d.safetensors"))),
}
BUILT_IN = [place for place in PLACES if not place.startswith(("AestheticGradient", "Suite", "Pose", "Reference", "Merge.more"))]
"""Rows whose files the built-in models give."""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    return tmp_path / "hub"


@pytest.mark.parametrize("place", PLACES)
def test_an_address_that_the_cache_does_not_have_is_refused_with_the_command_that_fetches_it(place: str, cache: Path) -> None:
    address, declared = PLACES[place]
    suite = declared()
    assert [str(one) for one in addresses(suite)] == [address]
    wrong = [text for text in problems(suite, cache.parent) if f"sweetspot fetch {address};" in text]
    assert len(wrong) == 1
    assert "suite 'tiny'" in wrong[0]
    assert "--allow-download" in wrong[0]


@pytest.mark.parametrize("place", BUILT_IN)
def test_an_address_in_the_cache_is_the_file_at_its_commit(place: str, cache: Path, tiny_pipeline: Callable[[str], Path]) -> None:
    fill(cache, {f"{name}.safetensors": zoo.resolve(f"zoo:{name}") for name in (
        "photo", "sketch", "control-edges", "image-prompt")})
    folders = {"o/configs": zoo.resolve("zoo:config")}
    if place == "Checkpoint.base":
        folders["o/companion"] = tiny_pipeline("StableDiffusionPipeline")
    for repository, folder in folders.items():
        fill(cache, {file.relative_to(folder).as_posix(): file for file in folder.rglob("*") if file.is_file()}, repository)
    suite = resolved(PLACES[place][1](), cache.parent)
    assert [one.revision for one in addresses(suite)] == [COMMIT]
    assert [text for text in problems(suite, cache.parent) if "fetch" in text] == []


@pytest.mark.parametrize(("base", "phrases"), [
    ("zoo:config", 0), ("zoo:confg", 1), ("zoo:photo", 1), ("nowhere", 1)])
def test_a_base_is_a_folder_below_the_root_or_a_built_in_one(base: str, phrases: int, tmp_path: Path) -> None:
    wrong = problems(of(model=Checkpoint(path="zoo:photo", base=base))(), tmp_path)
    assert len([text for text in wrong if f"{base!r}" in text]) == phrases


def test_two_spellings_of_a_file_are_one_content(cache: Path) -> None:
    at = fill(cache, {"photo.safetensors": zoo.resolve("zoo:photo"), "sketch.safetensors": zoo.resolve("zoo:sketch")})
    identities = {weights_of_candidate(Candidate(name="a", model=given(f"{where}photo.safetensors"), adapters=(
        Adapter(path=f"{where}sketch.safetensors"),)), Library(cache.parent)).identity
        for where in ("hub:o/n:", "hub:o/n@main:", f"hub:o/n@{COMMIT}:", f"{at}/")}
    assert len(identities) == 1


def test_a_file_that_is_given_by_its_path_and_by_its_address_is_given_twice(cache: Path) -> None:
    at = fill(cache, {"sketch.safetensors": zoo.resolve("zoo:sketch")})
    suite = of(adapters=(Adapter(path=ADAPTER), Adapter(path=str(at / "sketch.safetensors"))))()
    assert any("is given 2 times" in text for text in problems(suite, cache.parent))


TEXTS = {
    "Candidate": "name quantization precision runtime", "Gate": "value not_worse_than",
    "Prompt": "id text negative split tags syntax",
    "Grid": "sampler negative syntax long_prompts adapter_folder", "Canny": "of", "Control": "picture kind",
    "Reference": "picture", "Inpaint": "picture mask", "Blocks": "preset convention", "Merge": "method missing dtype precision",
    "Relay": "vae", "Ensemble": "texts", "Emphasis": "method", "Objective": "maximise", "Penalty": "metric",
    "Constraint": "metric", "Mixed": "default",
    "Desirability": "metric", "Pose": "folder", "ColourTransfer": "to method", "Upscale": "method",
    "Stage": "prompt negative through resize colour", "Suite": "name baseline description", "Budget": "refine",
    "Sampling": "sampler schedule",
}
"""The texts of declarations that name no file of a model."""


def test_every_text_of_a_declaration_is_a_model_or_known_to_be_none() -> None:
    known = MappingProxyType({name: set(texts.split()) for name, texts in TEXTS.items()})
    undecided = []
    for module in pkgutil.iter_modules(harness.declare.__path__):
        for name, kind in vars(importlib.import_module(f"harness.declare.{module.name}")).items():
            if dataclasses.is_dataclass(kind) and isinstance(kind, type) and hasattr(kind, "__post_init__"):
                decided = (*WHOLE, *CONFIGS, *CLIPS, *known.get(name, ()))
                undecided += [f"{name}.{field.name}" for field in dataclasses.fields(kind)
                              if re.match(r"(str|Model|Recipe)\b", str(field.type)) and field.name not in decided]
    assert undecided == []
