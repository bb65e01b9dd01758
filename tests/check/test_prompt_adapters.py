"""LoRAs and textual inversions that prompts name are found in the adapter folder and become adapters of every candidate, or of
their prompts."""

from __future__ import annotations

import ast
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from harness import Adapter, Alphas, Prompt, Sampling, Suite, zoo
from harness.check import problems, remarks, with_prompt_adapters
from harness.declare.prompt_groups import groups_of
from tests.fakes import plain_candidate, tiny_grid, tiny_suite

MANUAL = Path(__file__).parents[2] / "docs" / "prompts.md"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two LoRAs of one name, one more, one that changes a text encoder, and a textual inversion."""
    for place in ("loras/sketch.safetensors", "loras/style/ink.safetensors", "loras/old/ink.safetensors"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(zoo.resolve("zoo:sketch"), tmp_path / place)
    shutil.copy(zoo.resolve("zoo:sketch-word"), tmp_path / "loras/graphite.safetensors")
    layer = "lora_te_text_model_encoder_layers_0_mlp_fc1"
    unet = "lora_unet_down_blocks_0_attentions_0_proj_in"
    save_file({f"{name}.{part}.weight": torch.ones(shape) for name in (layer, unet)
               for part, shape in (("lora_down", (2, 8)), ("lora_up", (8, 2)))}, tmp_path / "loras/both.safetensors")
    return tmp_path


def suite(*texts: str, negative: str = "", **grid: Any) -> Suite:
    prompts = tuple(Prompt(id=f"p{number}", text=text, negative=negative) for number, text in enumerate(texts))
    return tiny_suite(candidates=(plain_candidate(), plain_candidate("base", model="zoo:base")), baseline="photo",
                      grid=tiny_grid(**{"prompts": prompts, "syntax": "a1111", "adapter_folder": "loras", **grid}))


def adapters(root: Path, declared: Suite) -> tuple[Adapter, ...]:
    resolved = with_prompt_adapters(declared, root)
    assert all(c.adapters == resolved.candidates[0].adapters for c in resolved.candidates)
    return resolved.candidates[0].adapters


@pytest.mark.parametrize(("tag", "expected"), [
    ("<lora:sketch:0.8>", Adapter(path="loras/sketch.safetensors", weight=0.8)),
    ("<lora:style/ink>", Adapter(path="loras/style/ink.safetensors")),
    ("<lora:both:0.5:0.9>", Adapter(path="loras/both.safetensors", blocks=Alphas(default=0.9, parts={"text_encoder": 0.5}))),
    ("<lora:sketch:0.5:0.9>", Adapter(path="loras/sketch.safetensors", weight=0.9))])
def test_a_tag_of_all_prompts_is_an_adapter_of_every_candidate(tag: str, expected: Adapter, root: Path) -> None:
    declared = suite(f"a cat {tag}", f"{tag} a dog")
    assert problems(declared, root) == []
    resolved = with_prompt_adapters(declared, root)
    assert adapters(root, declared) == (expected,)
    assert [prompt.text for prompt in resolved.grid.prompts] == ["a cat", "a dog"]
    assert {c.key for c in resolved.candidates}.isdisjoint(c.key for c in declared.candidates)


def test_a_resolved_suite_is_not_resolved_again(root: Path) -> None:
    once = with_prompt_adapters(suite("a graphite cat <lora:sketch:0.8>"), root)
    assert len(once.candidates[0].adapters) == 2
    assert with_prompt_adapters(once, root) == once
    assert problems(once, root) == []


@pytest.mark.parametrize("both", ["<lora:sketch:0.8> <lora:both:0.5>", "<lora:both:0.5><lora:sketch:0.8>"])
def test_different_tags_are_adapters_of_their_prompts_in_one_order(both: str, root: Path) -> None:
    declared = suite("a cat <lora:sketch:0.8>", f"a dog {both}", "an owl", "a fox <lora:sketch:0.8>")
    assert problems(declared, root) == []
    resolved = with_prompt_adapters(declared, root)
    assert resolved.candidates == declared.candidates
    sketch, other = Adapter(path="loras/sketch.safetensors", weight=0.8), Adapter(path="loras/both.safetensors", weight=0.5)
    assert [p.adapters for p in resolved.grid.prompts] == [(sketch,), (sketch, other), (), (sketch,)]
    assert [p.text for p in resolved.grid.prompts] == ["a cat", "a dog", "an owl", "a fox"]
    groups = groups_of(resolved.candidates[0], resolved.grid.prompts)
    assert [group.prompts for group in groups] == [("p0", "p3"), ("p1",), ("p2",)]
    assert with_prompt_adapters(resolved, root) == resolved


def test_what_a_prompt_brings_is_checked_like_what_a_candidate_has(root: Path) -> None:
    own = suite("a cat", "a dog")

    def listed(adapter: Adapter, *candidates_own: Adapter) -> list[str]:
        prompts = (own.grid.prompts[0], replace(own.grid.prompts[1], adapters=(adapter,)))
        return problems(replace(own, grid=replace(own.grid, prompts=prompts), candidates=tuple(
            replace(c, adapters=candidates_own) for c in own.candidates)), root)

    sketch = Adapter(path="loras/sketch.safetensors")
    assert listed(sketch) == []
    for adapter, words in ((replace(sketch, path="loras/gone.safetensors"), "gone.safetensors"),
                           (replace(sketch, weight=1e9), "weight is"), (replace(sketch, start=0.9, end=0.1), "start is 0.9")):
        (problem,) = listed(adapter)
        assert "prompt 'p1'" in problem
        assert words in problem
    (problem,) = listed(sketch, sketch)
    assert "with the adapters of prompt 'p1'" in problem
    assert "is given 2 times" in problem


@pytest.mark.parametrize(("text", "syntax", "found"), [
    ("a graphite cat", "a1111", True), ("a (graphite:1.2) cat", "a1111", True), ("graphites", "a1111", False),
    ("a sketch", "a1111", False), ("embedding:graphite, a cat", "comfyui", True), ("a graphite cat", "comfyui", False)])
def test_a_textual_inversion_is_named_by_its_file(text: str, syntax: str, found: bool, root: Path) -> None:
    expected = (Adapter(path="loras/graphite.safetensors"),) if found else ()
    assert adapters(root, suite(text, syntax=syntax)) == expected
    assert adapters(root, suite("a cat", negative=text, syntax=syntax)) == expected


@pytest.mark.parametrize("own", [None, Sampling(steps=30)])
def test_a_textual_inversion_is_found_at_whichever_step_its_name_comes(own: Sampling | None, root: Path) -> None:
    declared = suite("a [cat:graphite cat:25]", steps=30 if own is None else 20)
    declared = replace(declared, candidates=tuple(replace(c, sampling=own) for c in declared.candidates))
    assert problems(declared, root) == []
    assert adapters(root, declared) == (Adapter(path="loras/graphite.safetensors"),)


def test_any_file_of_a_folder_of_embeddings_is_an_inversion(root: Path) -> None:
    (root / "loras/Embeddings").mkdir()
    (root / "loras/Embeddings/easynegative.pt").write_bytes(b"x")
    (root / "loras/badhands.pt").write_bytes(b"x")
    expected = (Adapter(path="loras/Embeddings/easynegative.pt"),)
    assert adapters(root, suite("a cat", negative="easynegative, badhands")) == expected


@pytest.mark.parametrize(("texts", "grid", "words"), [
    (["a <lora:sketc:1>"], {}, ["'sketc'", "'loras'", "'sketch'"]),
    (["a <lora:ink:1>"], {}, ["'ink'", "several files", "loras/old/ink.safetensors", "loras/style/ink.safetensors", "'old/ink'"]),
    (["a <lora:sketch:1>"], {"adapter_folder": ""}, ["<lora:sketch:...>", "adapter_folder='...'"]),
    (["a <lora:sketch:1>"], {"adapter_folder": "lora"}, ["adapter_folder 'lora' is not a folder"]),
    (["a cat", "a <lora:sketc:1>"], {}, ["'sketc'", "'loras'", "'sketch'"]),
    (["a cat", "a <lora:sketch:0.4> <lora:sketch:0.4>"], {}, ["prompt 'p1'", "'sketch' is named by two tags"]),
    (["embedding:graphit"], {"syntax": "comfyui"}, ["prompt 'p0': embedding:graphit", "'graphite'"]),
    (["a cat"], {"syntax": "plain"}, ["adapter_folder is 'loras'", "no prompt has a syntax"]),
    (["a <lora:sketch:1>"], {"syntax": "comfyui"}, ["applies a LoRA in A1111"])])
def test_what_cannot_be_found_is_said_with_what_is_there(texts: list[str], grid: dict[str, Any], words: list[str],
                                                        root: Path) -> None:
    listed = problems(suite(*texts, **grid), root)
    assert [word for word in words if word not in listed[0]] == []
    assert with_prompt_adapters(suite(*texts, **grid), root).candidates == suite(*texts).candidates


@pytest.mark.parametrize("name", ["../secret/x", "{root}/secret/x", "loras/../secret/x", "./sketch", "sketch.safetensors", "*",
                                  ".hidden"])
def test_a_tag_names_no_file_outside_of_the_folder(name: str, root: Path) -> None:
    for place in ("secret/x.safetensors", "loras/.hidden.safetensors"):
        (root / place).parent.mkdir(exist_ok=True)
        shutil.copy(zoo.resolve("zoo:sketch"), root / place)
    declared = suite(f"a cat <lora:{name.format(root=root)}:1>")
    (problem,) = problems(declared, root)
    assert "no file of the name" in problem
    assert adapters(root, declared) == ()


def test_files_that_a_folder_cannot_tell_apart_are_to_be_renamed(root: Path) -> None:
    (root / "loras/sketch.pt").write_bytes(b"x")
    (problem,) = problems(suite("a cat <lora:sketch:1>"), root)
    assert "rename or remove one of them" in problem


def test_the_example_of_the_manual_can_be_run(tmp_path: Path) -> None:
    code = re.search(r"```python\n(.*?)```", MANUAL.read_text(encoding="utf-8"), re.DOTALL)
    assert code is not None
    (tmp_path / "models/loras").mkdir(parents=True)
    shutil.copy(zoo.resolve("zoo:sketch"), tmp_path / "models/loras/ink.safetensors")
    shutil.copy(zoo.resolve("zoo:sketch-word"), tmp_path / "models/loras/easynegative.safetensors")
    *first, last = ast.parse(code[1]).body
    names: dict[str, Any] = {}
    exec(compile(ast.Module(body=first, type_ignores=[]), "prompts.md", "exec"), names)
    assert isinstance(last, ast.Expr)
    grid = eval(compile(ast.Expression(body=last.value), "prompts.md", "eval"), names)
    declared = tiny_suite(grid=replace(grid, steps=20))
    assert problems(declared, tmp_path) == []
    assert len(adapters(tmp_path, declared)) == 2


def test_an_adapter_that_is_declared_and_named_is_given_twice(root: Path) -> None:
    declared = suite("a cat <lora:sketch:0.8>")
    twice = replace(declared, candidates=tuple(replace(c, adapters=(Adapter(path="loras/sketch.safetensors"),))
                                               for c in declared.candidates))
    assert any("is given 2 times" in line for line in problems(twice, root))


@pytest.mark.parametrize("link", [Path.symlink_to, Path.hardlink_to])
def test_tags_that_name_one_file_by_two_names_are_refused(link: Callable[[Path, Path], None], root: Path) -> None:
    link(root / "loras/pencil.safetensors", root / "loras/sketch.safetensors")
    declared = suite("a cat <lora:sketch:0.4> <lora:pencil:0.4>")
    assert any("'loras/sketch.safetensors' is given 2 times" in line for line in problems(declared, root))


def test_an_inversion_that_a_candidate_has_by_another_name_is_not_given_again(root: Path) -> None:
    (root / "word.safetensors").symlink_to(root / "loras/graphite.safetensors")
    own = Adapter(path="word.safetensors")
    declared = suite("a graphite cat")
    declared = replace(declared, candidates=tuple(replace(c, adapters=(own,)) for c in declared.candidates))
    assert adapters(root, declared) == (own,)


@pytest.mark.parametrize(("text", "near"), [
    ("a graphit cat", "graphite"), ("a (graphte:1.2) cat", "graphite"), ("a graphite cat", ""), ("a graph", ""),
    ("a sketchh", "")])
def test_a_word_that_is_nearly_a_textual_inversion_is_pointed_out(text: str, near: str, root: Path) -> None:
    listed = [line for line in remarks(suite(text), root) if "did you mean" in line]
    assert [f"the textual inversion {near!r}" in line for line in listed] == [True] * bool(near)


@pytest.mark.parametrize("place", ["loras/badhands.pt", "loras/negative/badhands.bin", "loras/badhands.safetensors"])
def test_an_inversion_of_any_format_is_found_wherever_it_is_in_the_folder(place: str, root: Path) -> None:
    (root / place).parent.mkdir(exist_ok=True)
    save = save_file if place.endswith(".safetensors") else torch.save
    save({"emb_params": torch.ones(2, 768)}, root / place)
    assert adapters(root, suite("a cat", negative="badhands")) == (Adapter(path=place),)


def test_a_file_that_cannot_be_used_is_named_where_a_word_is_its_name(root: Path) -> None:
    (root / "loras/badhands.pt").write_bytes(b"<html>404</html>")
    listed = remarks(suite("a cat", negative="badhands, sketch"), root)
    assert len(listed) == 1
    assert "'badhands' is read as words" in listed[0]
    assert "badhands.pt" in listed[0]


def test_an_inversion_with_the_name_of_an_ordinary_word_is_pointed_out(root: Path) -> None:
    shutil.copy(zoo.resolve("zoo:sketch-word"), root / "loras/bad-hands-5.safetensors")
    declared = suite("a Graphite cat", negative="bad-hands-5")
    listed = remarks(declared, root)
    assert [line.count("loras/graphite.safetensors") for line in listed] == [1]
    own = tuple(replace(c, adapters=(Adapter(path="loras/graphite.safetensors"),)) for c in declared.candidates)
    assert remarks(replace(declared, candidates=own), root) == []
    assert remarks(suite("a sketch of a cat <lora:sketch:0.8>"), root) == []
    (root / "loras/graphite.safetensors").rename(root / "loras/pencil-v2.safetensors")
    assert remarks(declared, root) == []


def test_a_widespread_inversion_is_given_by_the_folder_or_as_an_adapter(root: Path) -> None:
    in_folder, plain = suite("a cat", negative="easynegative"), suite("an easynegative cat", syntax="plain", adapter_folder="")
    assert "put its file into the Grid's adapter_folder" in remarks(in_folder, root)[0]
    assert "give the candidates an Adapter with its file" in remarks(plain, root)[0]
    shutil.copy(zoo.resolve("zoo:sketch-word"), root / "loras/EasyNegative.safetensors")
    own = (Adapter(path="loras/EasyNegative.safetensors"),)
    for declared in (in_folder, replace(plain, candidates=tuple(replace(c, adapters=own) for c in plain.candidates))):
        assert remarks(declared, root) == []
        assert problems(declared, root) == []
