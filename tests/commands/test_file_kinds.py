"""Models of every family in every form: they are read to the same values, and every command uses them or names why not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from harness import Candidate, Checkpoint, Merge
from harness.check import model_problems
from harness.cli import main
from harness.materialise import Workbench
from harness.weights.relayout import in_diffusers_names
from harness.weights.structural import open_any
from tests.commands.file_kinds import ALONE, ENCODERS, FAMILIES, WHOLE, State, cells, model, write

TYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp8": torch.float8_e4m3fn}
ADAPTED = ("single file", "folder", "shards", "ckpt", "fp16", "fp8", "scaled fp8", "EMA",
           *(form for form in ALONE if "vae" not in form))
"""Forms that differ in more than the name of a file."""
FOLDERS = ("folder", "variant fp16", "shards", "links", "bin", "no model_index")
EXACT = {"rtol": 1e-6, "atol": 1e-6}


def parts_of(family: str, form: str, seed: int = 1) -> Mapping[str, State]:
    """What a model in this form holds, in diffusers' names and float32."""
    m = model(family, seed)
    inside = [ALONE[form][0].replace("denoiser", m.denoiser)] if form in ALONE else list(m.parts)
    dtype = TYPES.get(form, torch.float32)

    def stored(name: str, t: torch.Tensor) -> torch.Tensor:
        if form == "scaled fp8" and t.ndim == 2 and name.endswith(".weight"):
            return (t / 2).to(torch.float8_e4m3fn).float() * 2
        return t.to(dtype).float()

    return {part: {plain(name): stored(name, t) if form != "scaled fp8" or part == m.denoiser else t
                   for name, t in m.parts[part].items()} for part in inside}


def plain(name: str) -> str:
    """The name in a CLIP as transformers 5 spells it for both of its classes."""
    return name.removeprefix("text_model.")


def opened(path: Path) -> Mapping[str, State]:
    file = in_diffusers_names(open_any(path))
    return {part: {plain(name): t.float() for name, t in file.tensors(part).items()} for part in file.components}


def same(one: Mapping[str, State], two: Mapping[str, State], **tolerance: float) -> None:
    """The same tensors in the same components; a text encoder alone may be called by another number."""
    if len(one) == len(two) == 1 and all(part in ENCODERS for part in (*one, *two)):
        one = dict(zip(two, one.values(), strict=True))
    assert {part: sorted(state) for part, state in one.items()} == {part: sorted(state) for part, state in two.items()}
    for part, state in two.items():
        for name, t in state.items():
            torch.testing.assert_close(one[part][name].reshape(t.shape), t, **(tolerance or EXACT), msg=f"{part} {name}")


@pytest.mark.parametrize(("family", "form"), list(cells()))
def test_every_form_of_every_family_is_read_to_the_same_values(tmp_path: Path, family: str, form: str) -> None:
    same(opened(write(family, form, tmp_path)), parts_of(family, form))


def turns() -> list[tuple[str, str]]:
    """Every form with one family, in turns."""
    having = {form: [family for family, other in cells() if other == form] for form in (*WHOLE, *ALONE)}
    return [(families[turn % len(families)], form) for turn, (form, families) in enumerate(having.items())]


def run(*words: object) -> None:
    assert main([str(word) for word in words]) == 0, words


def parts_word(family: str, form: str) -> str:
    return ALONE[form][0].replace("denoiser", model(family, 1).denoiser) if form in ALONE else "all"


def mean(one: Mapping[str, State], two: Mapping[str, State]) -> Mapping[str, State]:
    """What a merge at alpha 0.5 holds of the components of the first."""
    return {part: {name: (t + two[part][name]) / 2 for name, t in state.items()} for part, state in one.items()}


def rounding(form: str) -> Mapping[str, float]:
    eps = torch.finfo(TYPES[form]).eps if form in TYPES else 1e-6
    return {"rtol": eps, "atol": eps}


@pytest.mark.parametrize(("family", "form"), turns())
def test_a_model_of_any_form_is_merged_and_made_again(tmp_path: Path, family: str, form: str) -> None:
    a, b = write(family, form, tmp_path / "a"), write(family, form, tmp_path / "b", seed=2)
    out, again = tmp_path / "out.safetensors", tmp_path / "again.safetensors"
    run("inspect", a, b)
    run("merge", "--a", a, "--b", b, "--alpha", 0.5, "--parts", parts_word(family, form), "-o", out)
    same(opened(out), mean(parts_of(family, form), parts_of(family, form, 2)), **rounding(form))
    run("replay", out, "--models", a.parent, "--models", b.parent, "-o", again)
    assert out.read_bytes() == again.read_bytes()


@pytest.mark.parametrize(("family", "form"), turns())
def test_a_model_of_any_form_is_b_and_c_and_gives_a_component(tmp_path: Path, family: str, form: str) -> None:
    a, out = write(family, "single file", tmp_path / "a"), tmp_path / "out.safetensors"
    b, c = write(family, form, tmp_path / "b", seed=2), write(family, form, tmp_path / "c", seed=3)
    merged = parts_word(family, form).replace("all", model(family, 1).denoiser)
    taken = ["--take", f"vae={c}"] if form in WHOLE else []
    run("merge", "--a", a, "--b", b, "--c", c, "--method", "add_difference", "--alpha", 0.5, "--parts", merged, *taken, "-o", out)
    one, two, three = (parts_of(family, kind, seed) for kind, seed in (("single file", 1), (form, 2), (form, 3)))
    expected = {**one, merged: {name: t + (two[merged][name] - three[merged][name]) / 2 for name, t in one[merged].items()}}
    same(opened(out), expected | ({"vae": three["vae"]} if taken else {}), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("family", "form"), [turn for turn in turns() if turn[1] in ADAPTED])
def test_an_adapter_is_extracted_from_and_fused_into_a_model_of_any_form(tmp_path: Path, family: str, form: str) -> None:
    base, tuned = write(family, form, tmp_path / "a"), write(family, form, tmp_path / "b", seed=2)
    part = parts_word(family, form).replace("all", "text_encoder")
    only = ("--parts", part) if form in WHOLE else ()
    lora, other, both, small, out = (tmp_path / f"{name}.safetensors" for name in ("lora", "other", "both", "small", "out"))
    run("adapter", "extract", "--base", base, "--tuned", tuned, "--error", 0, "--dtype", "fp32", "--layout", "comfyui", *only,
        "-o", lora)
    run("adapter", "convert", "--model", base, lora, "--layout", "comfyui", "--dtype", "fp32", "-o", other)
    run("adapter", "merge", "--model", base, f"{lora}=0.5", f"{other}=0.5", "--dtype", "fp32", "--layout", "comfyui",
        "-o", both)
    run("adapter", "resize", "--model", base, lora, "--rank", 1, "--layout", "comfyui", "-o", small)
    run("merge", "--a", base, "--adapter", f"{both}=1", "-o", out)
    made = opened(out)
    same(made if form in ALONE else {part: made[part]}, {part: parts_of(family, form, 2)[part]},
         rtol=max(1e-3, rounding(form)["rtol"]), atol=max(1e-3, rounding(form)["atol"]))


@pytest.mark.parametrize(("family", "form"), [(FAMILIES[turn % 5], form) for turn, form in enumerate(FOLDERS * 2)])
def test_a_suite_takes_a_folder_of_any_form_as_a_model_and_as_a_parent(tmp_path: Path, family: str, form: str) -> None:
    a, b = write(family, form, tmp_path / "a"), write(family, form, tmp_path / "b", seed=2)
    file = write(family, "single file", tmp_path / "c", seed=3)
    bench = Workbench(device="cpu", root=tmp_path)
    for given in (str(a), Checkpoint(path=str(file), config=str(a)), Merge(a=str(a), b=str(b), alpha=0.5),
                  Merge(a=str(a), b=str(file), alpha=0.5)):
        assert list(model_problems(given, tmp_path)) == []
        bench.inspect(Candidate(name="x", model=given))
