"""Each option of a suite on a model that its own pipeline samples: in effect, or refused before the first image."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from harness import Adapter, Candidate, Checkpoint, Control, Ensemble, Fused, Merge, Prompt, Reference, Relay, Sampling
from harness.cli import main
from harness.declare import AestheticGradient, DeepCache, Emphasis, Inpaint, Stage
from harness.materialise import Workbench
from tests.own_pipelines.own_bench import apart, grid_for, sampled

NAME = "PixArtSigmaPipeline"
QWEN = "QwenImagePipeline"
Folder = Callable[[str], Path]


def refusal(folder: Path, name: str, grid: Mapping[str, Any], candidate: Mapping[str, Any]) -> str:
    """What the workbench says against a candidate; "" if nothing."""
    declared = grid_for(name, **grid)
    try:
        Workbench.for_grid(declared, device="cpu", root=folder).inspect(
            Candidate(**{"name": "m", "model": str(folder), **candidate}))
    except ValueError as error:
        return str(error)
    return ""


REFUSED: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any], str]] = {
    "schedule": ({"sampler": "euler", "sampling": Sampling(schedule="karras")}, {}, "schedule"),
    "eta": ({"sampler": "ddim", "sampling": Sampling(eta=0.5)}, {}, "eta"),
    "clip_skip": ({"sampler": "euler", "sampling": Sampling(clip_skip=2)}, {}, "clip_skip"),
    "guidance_rescale": ({"sampler": "euler", "sampling": Sampling(guidance_rescale=0.5)}, {}, "guidance_rescale"),
    "guidance_start": ({"sampler": "euler", "sampling": Sampling(guidance_start=0.5)}, {}, "guidance_start"),
    "guidance_end": ({"sampler": "euler", "sampling": Sampling(guidance_end=0.5)}, {}, "guidance_end"),
    "clip_skip of a candidate": ({"sampler": "euler"}, {"sampling": Sampling(clip_skip=2)}, "clip_skip"),
    "shift": ({"sampling": Sampling(shift=3.0)}, {}, "shift"),
    "sampler": ({"sampler": "flow_euler"}, {}, "'own'"),
    "low_memory": ({"low_memory": ("tiled_decoding",)}, {}, "low_memory"),
    "batch_size": ({"batch_size": "fit"}, {}, "batch_size"),
    "size": ({"width": 36}, {}, "divisible by 8"),
    "long text": ({"prompts": (Prompt(id="p", text="word " * 400),)}, {}, "too long"),
    "long negative": ({"prompts": (Prompt(id="p", text="cat", negative="word " * 400),)}, {}, "too long"),
    "runtime": ({}, {"runtime": "compiled"}, "eager"),
    "emphasis": ({}, {"emphasis": Emphasis(weights={"cat": 1.2})}, "emphasis"),
    "savers": ({}, {"savers": ("tome",)}, "savers"),
    "step cache": ({}, {"step_cache": DeepCache(interval=2)}, "step cache"),
    "stages": ({}, {"stages": (Stage(strength=0.5),)}, "stage"),
    "ema": ({}, {"model": "EMA"}, "EMA"),
}


@pytest.mark.parametrize("option", REFUSED)
def test_what_the_pipeline_does_not_take_is_refused_before_the_first_image(option: str, tiny_pipeline: Folder) -> None:
    grid, candidate, words = REFUSED[option]
    folder = tiny_pipeline(NAME)
    if candidate.get("model") == "EMA":
        candidate = {"model": Checkpoint(path=str(folder), ema=True)}
    assert words in refusal(folder, NAME, grid, candidate)


def _adapter(path: str, **fields: Any) -> Mapping[str, Any]:
    return {"adapters": (Adapter(path=path, **fields),)}


OF_FILES: Mapping[str, tuple[Callable[[str], Mapping[str, Any]], str]] = {
    "adapters for some of the steps": (lambda path: _adapter(path, start=0.5), "some of the steps"),
    "control": (lambda path: {"controls": (Control(path=path, picture="edges"),)}, "controls"),
    "reference": (lambda path: {"references": (Reference(path=path, picture="photo"),)}, "references"),
    "inpaint": (lambda _: {"inpaint": Inpaint(picture="photo", mask="mask", strength=1.0)}, "inpaint"),
    "aesthetic": (lambda path: {"aesthetic": AestheticGradient(path=path)}, "aesthetic"),
}


@pytest.mark.parametrize("option", OF_FILES)
def test_what_acts_on_u_nets_of_known_families_is_refused(option: str, tiny_pipeline: Folder, tmp_path: Path) -> None:
    fields, words = OF_FILES[option]
    file = tmp_path / "lora.safetensors"
    save_file(low_rank(tiny_pipeline(QWEN)), file)
    assert words in refusal(tiny_pipeline(QWEN), QWEN, {}, fields(str(file)))


@pytest.mark.parametrize("kind", [
    lambda path: Relay(models=(path, path), at=(0.5,)), lambda path: Ensemble(models=(path, path), weights=(0.5, 0.5))])
def test_models_that_share_their_latents_are_refused(kind: Callable[[str], Any], tiny_pipeline: Folder) -> None:
    assert NAME in refusal(tiny_pipeline(NAME), NAME, {}, {"model": kind(str(tiny_pipeline(NAME)))})


def test_nothing_is_refused_of_a_plain_candidate(tiny_pipeline: Folder) -> None:
    assert refusal(tiny_pipeline(NAME), NAME, {}, {}) == ""


def test_the_samplers_that_a_refusal_names_are_taken(tiny_pipeline: Folder) -> None:
    said = refusal(tiny_pipeline(NAME), NAME, {"sampler": "flow_euler"}, {})
    fitting = re.findall(r"'(\w+)'", said.partition("expected")[2])
    assert {"own", "euler", "dpmpp_2m", "ddim"} <= set(fitting)
    for sampler in fitting:
        assert refusal(tiny_pipeline(NAME), NAME, {"sampler": sampler}, {}) == ""


@pytest.mark.parametrize(("name", "grid"), [
    (NAME, {"sampler": "euler"}), (NAME, {"steps": 3}), (NAME, {"width": 40}),
    (QWEN, {"sampler": "flow_euler", "sampling": Sampling(shift=7.0)})])
def test_what_is_taken_changes_the_images(name: str, grid: Mapping[str, Any], tiny_pipeline: Folder) -> None:
    plain, other = (sampled(tiny_pipeline(name), grid_for(name, seeds=(0,), **fields)) for fields in ({}, grid))
    assert all(plain[cell].shape != other[cell].shape or (plain[cell] != other[cell]).any() for cell in plain)


def test_a_named_sampler_that_is_the_folders_own_gives_the_same_images(tiny_pipeline: Folder) -> None:
    grids = [grid_for(QWEN, seeds=(0,), sampler=sampler) for sampler in ("own", "flow_euler")]
    own, named = (sampled(tiny_pipeline(QWEN), grid) for grid in grids)
    assert apart(own, named) == 0


def test_a_negative_text_and_guidance_change_the_guided_images_alone(tiny_pipeline: Folder) -> None:
    texts = [(Prompt(id="p", text="a red cat", negative=negative),) for negative in ("", "blur")]
    one, other = (sampled(tiny_pipeline(QWEN), grid_for(QWEN, prompts=prompts)) for prompts in texts)
    assert all(bool((one[cell] == other[cell]).all()) == (cell.guidance == 1) for cell in one)


def test_merged_adapted_and_quantized_weights_are_what_is_sampled(tiny_pipeline: Folder, tmp_path: Path) -> None:
    folder, grid = tiny_pipeline(QWEN), grid_for(QWEN, seeds=(0,))
    other = another(folder, tmp_path)
    lora = tmp_path / "lora.safetensors"
    save_file(low_rank(folder), lora)
    plain, merged, adapted, quantized, whole = (sampled(folder, grid, **fields) for fields in (
        {}, {"model": Merge(a=str(folder), b=str(other), alpha=0.5)}, {"adapters": (Adapter(path=str(lora), weight=0.8),)},
        {"quantization": "sdnq_int4"}, {"model": Merge(a=str(folder), b=str(other), alpha=1.0)}))
    for changed in (merged, adapted, quantized):
        assert apart(plain, changed) > 2
    assert apart(whole, sampled(other, grid)) == 0


def another(folder: Path, root: Path) -> Path:
    """A copy of a folder with other weights in its transformer."""
    import shutil

    copied = root / "other"
    shutil.copytree(folder, copied)
    file = copied / "transformer" / "diffusion_pytorch_model.safetensors"
    drawing = torch.Generator().manual_seed(1)
    tensors = {name: tensor + 0.2 * torch.randn(tensor.shape, generator=drawing) for name, tensor in load_file(file).items()}
    save_file(tensors, file, metadata={"format": "pt"})
    return copied


def low_rank(folder: Path) -> dict[str, torch.Tensor]:
    """A LoRA of the attention of a folder's transformer, by the names of its modules."""
    drawing = torch.Generator().manual_seed(2)
    tensors = {}
    for name, weight in load_file(folder / "transformer" / "diffusion_pytorch_model.safetensors").items():
        if name.endswith("attn.to_q.weight"):
            module = f"transformer.{name.removesuffix('.weight')}"
            tensors[f"{module}.lora_A.weight"] = torch.randn((2, weight.shape[1]), generator=drawing)
            tensors[f"{module}.lora_B.weight"] = torch.randn((weight.shape[0], 2), generator=drawing)
    return tensors


@pytest.mark.parametrize(("prompt", "words"), [
    (Prompt(id="p", text="a (red:1.2) cat", syntax="a1111"), "plain text"),
    (Prompt(id="p", text="a [cat:dog:0.5]", syntax="a1111"), "plain text")])
def test_markup_that_no_pipeline_follows_is_refused(prompt: Prompt, words: str, tiny_pipeline: Folder) -> None:
    from harness.run.prompt_reading import PromptReadings

    grid, candidate = grid_for(NAME, prompts=(prompt,)), Candidate(name="m", model=str(tiny_pipeline(NAME)))
    reading = PromptReadings().of(candidate, grid, Workbench.for_grid(grid, device="cpu", root=Path("/")))
    assert reading is not None
    assert words in reading.problem


def test_a_text_that_one_of_several_encoders_cuts_off_is_taken_and_said(tiny_pipeline: Folder) -> None:
    from harness.run.prompt_reading import PromptReadings

    name = "HunyuanDiTPipeline"
    prompts = (Prompt(id="whole", text="cat"), Prompt(id="cut", text="word " * 20))
    grid, candidate = grid_for(name, prompts=prompts), Candidate(name="m", model=str(tiny_pipeline(name)))
    reading = PromptReadings().of(candidate, grid, Workbench.for_grid(grid, device="cpu", root=Path("/")))
    assert reading is not None
    assert reading.problem == ""
    assert reading.row.keys == {"whole": ("whole (prompt)",), "shortened_in_part": ("cut (prompt)",)}


def test_a_timing_divides_the_call_into_text_steps_and_decoding(tiny_pipeline: Folder) -> None:
    from harness.probes.clock import Stopwatch
    from harness.sampling import batches, time_one
    from tests.own_pipelines.own_bench import prepared

    grid, watch = grid_for(NAME, guidance_scales=(3.0,)), Stopwatch()
    made = prepared(Candidate(name="m", model=str(tiny_pipeline(NAME))), grid)
    with watch.phase("total"):
        time_one(made.phases, grid, batches(grid)[0][0], watch)
    spent = watch.seconds
    assert {"text", "denoise", "decode", "total"} == set(spent)
    assert all(seconds > 0 for seconds in spent.values())
    assert sum(spent.values()) - spent["total"] <= spent["total"]


def test_an_adapter_of_a_text_encoder_is_refused_with_the_command_that_leaves_it_out(
        tiny_pipeline: Folder, tmp_path: Path) -> None:
    weights = {f"{part}.lora_{side}.weight": torch.ones((4, 32) if side == "A" else (32, 4)) for side in "AB" for part in (
        "transformer.transformer_blocks.0.attn.to_q", "text_encoder.layers.0.self_attn.q_proj")}
    save_file(weights, tmp_path / "both.safetensors")
    model = str(tiny_pipeline(QWEN))
    both, fused = ({"adapters": (Adapter(path=str(tmp_path / "both.safetensors")),)},
                   {"model": Fused(model=model, adapters=(Adapter(path=str(tmp_path / "both.safetensors")),))})
    for declared in (both, fused):
        command = re.search(r"sweetspot (adapter convert .*) -o OUTPUT", refusal(Path(model), QWEN, {}, declared))
        assert command is not None
    assert main([*shlex.split(command[1]), "--layout", "peft", "-o", str(tmp_path / "one.safetensors")]) == 0
    one = {"adapters": (Adapter(path=str(tmp_path / "one.safetensors")),)}
    assert refusal(Path(model), QWEN, {}, one) == ""


@pytest.mark.parametrize("mode", ["int8_weight_only", "int8_dynamic", "fp8_weight_only", "nf4"])
def test_a_quantized_denoiser_computes_in_16_bits(mode: str, tiny_pipeline: Folder) -> None:
    folder = tiny_pipeline(QWEN)
    images = sampled(folder, grid_for(QWEN, seeds=(0,), guidance_scales=(1.0,)), quantization=mode, precision="bf16")
    assert all(image.std() > 0 for image in images.values())


def test_noise_that_a_scheduler_adds_is_each_images_own(tiny_pipeline: Folder, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    shutil.copytree(tiny_pipeline(QWEN), folder)
    config = folder / "scheduler" / "scheduler_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "stochastic_sampling": True}))
    together, alone = (sampled(folder, grid_for(QWEN, steps=4, guidance_scales=(1.0,), batch_size=size)) for size in (4, 1))
    assert together.keys() == alone.keys()
    assert apart(together, alone) <= 1


def test_an_adapter_beside_a_text_encoder_is_refused(tiny_pipeline: Folder, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    shutil.copytree(tiny_pipeline(QWEN), folder)
    (folder / "text_encoder" / "adapter_config.json").write_text("{}")
    assert "adapter_config.json" in refusal(folder, QWEN, {}, {})
