"""Every family, in its authors' names, in diffusers' names and as a folder, goes through every command that reads models: the
real key lists with small tensors, and the right numbers at the end."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from harness.cli import main
from tests.weights import real_names as real

State = dict[str, torch.Tensor]
TAKEN = ("sd1", "flux", "sd3")
SPELLINGS = ("original", "diffusers", "folder")
ROWS = [*((family, spelling) for family in ("sd1", "flux", "sd3") for spelling in SPELLINGS), ("sd2", "folder"),
        ("sdxl", "original")]
"""XL models and Stable Diffusion 2 share all but their names with Stable Diffusion 1, and have the more of these."""


def denoiser(family: str, seed: int, original: bool) -> State:
    """A denoiser in one of both spellings. Those of two seeds differ in their matrices alone."""
    if family in real.TRANSFORMERS:
        shapes = real.original_shapes(family)
        state = _drawn(shapes, seed)
        return state if original else real.in_diffusers(family, state)
    state = _drawn(real.diffusers_shapes(family, "unet"), seed)
    names = real.single_file_names(family, "unet")
    return {f"model.diffusion_model.{names[name]}": t for name, t in state.items()} if original else state


def _drawn(shapes: dict[str, tuple[int, ...]], seed: int) -> State:
    common, own = real.drawn(shapes, 1), real.drawn(shapes, seed)
    return {name: own[name] if len(shape) in (2, 4) else common[name] for name, shape in shapes.items()}


def vae(seed: int, original: bool) -> State:
    state = real.drawn(real.diffusers_shapes("sd1", "vae"), seed + 100)
    names = real.single_file_names("sd1", "vae")
    return {f"first_stage_model.{names[name]}": t[:, :, None, None] if ".attentions.0.to_" in name and t.ndim == 2 else t
            for name, t in state.items()} if original else state


def write(folder: Path, family: str, spelling: str, seed: int) -> Path:
    """A model of the spelling: a file with a VAE, a file of the denoiser alone, or a folder with a VAE."""
    path = folder / f"{spelling}{seed}"
    if spelling == "folder":
        part = "transformer" if family in real.TRANSFORMERS else "unet"
        for name, state in ((part, denoiser(family, seed, original=False)), ("vae", vae(seed, original=False))):
            (path / name).mkdir(parents=True)
            save_file(state, path / name / "diffusion_pytorch_model.safetensors")
        (path / "model_index.json").write_text(json.dumps({"_class_name": "Some"}))
        return path
    tensors = denoiser(family, seed, spelling == "original") | (vae(seed, original=True) if spelling == "original" else {})
    save_file(tensors, path.with_suffix(".safetensors"))
    return path.with_suffix(".safetensors")


def run(*words: object) -> None:
    assert main([str(word) for word in words]) == 0, words


@pytest.mark.parametrize(("family", "spelling"), ROWS)
def test_models_are_inspected_merged_and_replayed(tmp_path: Path, family: str, spelling: str) -> None:
    other = SPELLINGS[(SPELLINGS.index(spelling) + 1) % 3]
    a, b = write(tmp_path, family, spelling, 2), write(tmp_path, family, other, 3)
    run("inspect", a, b)
    run("merge", "--a", a, "--b", b, "--alpha", 0.5, "-o", tmp_path / "half.safetensors")
    run("replay", tmp_path / "half.safetensors", "-o", tmp_path / "again.safetensors")
    assert (tmp_path / "half.safetensors").read_bytes() == (tmp_path / "again.safetensors").read_bytes()
    made = load_file(tmp_path / "half.safetensors")
    one, two = (canonical(family, denoiser(family, seed, original=True)) for seed in (2, 3))
    halves = canonical(family, {name: t for name, t in made.items() if not name.startswith(("first_stage_model.", "vae."))})
    assert halves.keys() == one.keys()
    for name in halves:
        torch.testing.assert_close(halves[name], (one[name] + two[name]) / 2, msg=str(name))


def canonical(family: str, tensors: State) -> dict[object, torch.Tensor]:
    """By rows of the original layout, whatever the spelling."""
    if family in real.TRANSFORMERS:
        shapes, rows = real.diffusers_rows(family)
        bare = {name.removeprefix("model.diffusion_model."): t for name, t in tensors.items()}
        own = set(bare) <= set(shapes)
        return {rows[name, row] if own else (name, row): t[row].flatten() for name, t in bare.items()
                for row in range(t.shape[0])}
    back = {f"model.diffusion_model.{theirs}": ours for ours, theirs in real.single_file_names(family, "unet").items()}
    return {back.get(name, name): t.flatten() for name, t in tensors.items()}


@pytest.mark.parametrize("spelling", ["original", "folder"])
@pytest.mark.parametrize("family", TAKEN)
def test_a_component_is_taken_whole(tmp_path: Path, family: str, spelling: str) -> None:
    a, b = write(tmp_path, family, spelling, 2), write(tmp_path, family, "original", 3)
    run("merge", "--a", a, "--b", b, "--alpha", 0.5, "--take", f"vae={b}", "-o", tmp_path / "o.safetensors")
    made = load_file(tmp_path / "o.safetensors")
    for name, tensor in vae(3, original=True).items():
        key = name if name in made else name.replace("first_stage_model.", "vae.")
        assert torch.equal(made[key], tensor), name


@pytest.mark.parametrize(("family", "spelling"), ROWS)
def test_an_adapter_is_extracted_converted_added_up_and_fused(tmp_path: Path, family: str, spelling: str) -> None:
    other = SPELLINGS[(SPELLINGS.index(spelling) + 1) % 3]
    base, tuned = write(tmp_path, family, spelling, 2), write(tmp_path, family, other, 3)
    lora, parts = tmp_path / "kohya.safetensors", ("--parts", "transformer" if family in real.TRANSFORMERS else "unet")
    run("adapter", "extract", "--base", base, "--tuned", tuned, "--error", 0, "--dtype", "fp32", *parts, "-o", lora)
    for layout in ("peft", "comfyui"):
        run("adapter", "convert", "--model", base, lora, "--layout", layout, "--dtype", "fp32", "-o",
            tmp_path / f"{layout}.safetensors")
    both = [f"{tmp_path / layout}.safetensors=0.5" for layout in ("peft", "comfyui")]
    run("adapter", "merge", "--model", base, *both, "--dtype", "fp32", "-o", tmp_path / "sum.safetensors")
    expected = canonical(family, denoiser(family, 3, original=True))
    for name in ("kohya", "sum"):
        run("merge", "--a", base, "--adapter", f"{tmp_path / name}.safetensors=1", "-o", tmp_path / "fused.safetensors")
        fused = {key: t for key, t in load_file(tmp_path / "fused.safetensors").items()
                 if not key.startswith(("first_stage_model.", "vae."))}
        for key, rows in canonical(family, fused).items():
            torch.testing.assert_close(rows, expected[key], rtol=1e-4, atol=1e-4, msg=f"{name} {key}")
