"""Control networks in a denoising run, against diffusers' own pipelines at the same noise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

from harness import alpha_sweep, control_sweep
from harness.declare import Candidate, Canny, Control, Merge, Prompt
from harness.materialise import MaterialiseError, Prepared, Workbench
from harness.materialise.shape_model import shape_model
from harness.records import Cell
from harness.run.memory_plan import Footprint
from harness.sampling import Denoising, embedded, entered, initial_noise
from tests.control.nets import control_lora, four_files, of_unet, write
from tests.fakes import tiny_grid
from tests.weights.pipelines import SAMPLED, folder_of, theirs

STEPS = 4
SIZE = 32
FAMILIES = SAMPLED


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("controlled")
    for family in FAMILIES:
        pipe = theirs(family)
        folder_of(pipe, root / family)
        for number in (1, 2):
            of_unet(pipe.unet, seed=number).save_pretrained(root / f"{family}-net{number}")
    (root / "files").mkdir()
    other = theirs("sd1")
    for parameter in other.unet.parameters():
        parameter.mul_(0.9)
    folder_of(other, root / "other")
    unet = theirs("sd1").unet
    four_files(of_unet(unet), unet, root / "files")
    write(root / "files" / "lora.safetensors", control_lora(unet))
    for seed, name in enumerate(("a", "b")):
        picture = np.random.default_rng(seed).integers(0, 2, (SIZE, SIZE, 3), dtype=np.uint8) * 255
        Image.fromarray(picture).save(root / f"{name}.png")
    return root


PROMPTS = tuple(Prompt(id=name, text=text, negative="x", pictures={"edges": f"{name}.png", "other": "b.png"})
                for name, text in (("a", "a cat"), ("b", "a dog")))
CELLS = tuple(Cell(prompt=prompt.id, seed=1, guidance=3.0) for prompt in PROMPTS)


def bench_of(root: Path) -> Workbench:
    return Workbench(device="cpu", root=root, steps=STEPS)


def candidate(family: str, *controls: Control, **changes: Any) -> Candidate:
    return Candidate(**{"name": "c", "model": family, "controls": controls, **changes})


def net(family: str, number: int = 1, **changes: Any) -> Control:
    return Control(**{"path": f"{family}-net{number}", "picture": "edges", **changes})


def latents(bench: Workbench, asked: Candidate, cells: tuple[Cell, ...] = CELLS) -> torch.Tensor:
    return run(bench.prepare(asked), cells)


def run(prepared: Prepared, cells: tuple[Cell, ...]) -> torch.Tensor:
    grid = tiny_grid(prompts=PROMPTS, steps=STEPS, sampler="ddim", width=SIZE, height=SIZE)
    denoising = Denoising(prepared.pipeline, grid, cells)
    for phase, stop in zip(prepared.phases, [*(later.first for later in prepared.phases[1:]), STEPS], strict=True):
        denoising.advance(entered(phase, embedded([phase], PROMPTS)), stop)
    return denoising.latents


def by_diffusers(bench: Workbench, family: str, controls: tuple[Control, ...], root: Path, **call: Any) -> torch.Tensor:
    """What diffusers' pipeline makes with the same modules, texts and noise."""
    prepared = bench.prepare(candidate(family))
    live = prepared.pipeline
    (state,) = embedded(prepared.phases, PROMPTS).values()
    nets = [diffusers.ControlNetModel.from_pretrained(root / control.path).eval() for control in controls]
    several = len(nets) > 1
    cells = CELLS[:1] if several else CELLS  # several networks take one map each there
    prompts = PROMPTS[:len(cells)]
    maps = [[Image.open(root / prompt.pictures[str(control.picture)]) for prompt in prompts] for control in controls]
    parts: dict[str, Any] = {
        "vae": live.vae, "unet": live.unet, "controlnet": nets if several else nets[0], "text_encoder": live.text_encoder,
        "tokenizer": live.tokenizer, "scheduler": diffusers.DDIMScheduler.from_config(live.scheduler_config)}
    if family == "sdxl":
        pipe: Any = diffusers.StableDiffusionXLControlNetPipeline(
            **parts, text_encoder_2=live.encoders[1].module, tokenizer_2=live.encoders[1].tokenizer, add_watermarker=False)
        call |= {"pooled_prompt_embeds": torch.stack([one.pooled for one in state.positive.values()][:len(cells)]),
                 "negative_pooled_prompt_embeds": torch.stack([one.pooled for one in state.negative.values()] * len(cells))}
    else:
        pipe = diffusers.StableDiffusionControlNetPipeline(**parts, safety_checker=None, feature_extractor=None,
                                                           requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    grid = tiny_grid(prompts=PROMPTS, steps=STEPS, sampler="ddim", width=SIZE, height=SIZE)
    scales = [control.weight for control in controls]
    return pipe(
        prompt_embeds=torch.stack([one.states for one in state.positive.values()][:len(cells)]),
        negative_prompt_embeds=torch.stack([one.states for one in state.negative.values()] * len(cells)), guidance_scale=3.0,
        image=[own[0] for own in maps] if several else maps[0], controlnet_conditioning_scale=scales if several else scales[0],
        height=SIZE, width=SIZE, num_inference_steps=STEPS, latents=initial_noise(live, grid, cells), output_type="latent",
        **call).images


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("controls", "call"), [
    (({"weight": 0.8},), {}),
    (({"weight": 0.7}, {"number": 2, "picture": "other", "weight": 0.4}), {}),
    (({"guess": True},), {"guess_mode": True}),
    (({"start": 0.25, "end": 0.75},), {"control_guidance_start": 0.25, "control_guidance_end": 0.75}),
])
def test_controls_are_those_of_diffusers(family: str, controls: tuple[dict[str, Any], ...], call: dict[str, Any],
                                         root: Path) -> None:
    declared = tuple(net(family, **control) for control in controls)
    bench = bench_of(root)
    expected = by_diffusers(bench, family, declared, root, **call)
    ours = latents(bench, candidate(family, *declared), CELLS[:len(expected)])
    assert float((ours - expected).abs().max() / expected.abs().max()) <= 2e-5
    assert not torch.allclose(ours, latents(bench, candidate(family), CELLS[:len(expected)]), rtol=1e-2)


def test_a_weight_of_zero_is_no_control_bit_for_bit(root: Path) -> None:
    bench = bench_of(root)
    plain = latents(bench, candidate("sd1"))
    assert torch.equal(plain, latents(bench, candidate("sd1", net("sd1", weight=0))))
    assert not torch.equal(plain, latents(bench, candidate("sd1", net("sd1", weight=0.1))))


def test_a_control_acts_in_its_steps_alone(root: Path) -> None:
    bench = bench_of(root)
    assert [phase.first for phase in bench.prepare(candidate("sd1", net("sd1", end=0.5))).phases] == [0, 2]
    with pytest.raises(MaterialiseError, match=r"control 'sd1-net1' from 0\.3 to 0\.4 is active in none of the 4 steps"):
        bench.prepare(candidate("sd1", net("sd1", start=0.3, end=0.4)))


def test_each_picture_of_a_batch_follows_its_own_map(root: Path) -> None:
    bench = bench_of(root)
    asked = candidate("sd1", net("sd1"))
    both = latents(bench, asked)
    for place, cell in enumerate(CELLS):
        torch.testing.assert_close(both[place:place + 1], latents(bench, asked, (cell,)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("layout", ["folder", "original.safetensors", "prefixed.safetensors", "pickled.pth", "bare.safetensors"])
def test_every_layout_samples_alike(layout: str, root: Path) -> None:
    bench = bench_of(root)
    one, other = (latents(bench, candidate("sd1", net("sd1", path=f"files/{name}"))) for name in ("folder", layout))
    assert torch.equal(one, other)


@pytest.mark.parametrize(("name", "follows"), [("difference.safetensors", True), ("lora.safetensors", True),
                                               ("original.safetensors", False)])
def test_networks_that_change_the_model_follow_its_merge(name: str, follows: bool, root: Path) -> None:
    bench = bench_of(root)
    weights = []
    for alpha in (0.0, 1.0):
        merged = candidate(Merge(a="sd1", b="other", alpha=alpha), net("sd1", path=f"files/{name}"))  # type: ignore[arg-type]
        (control,) = bench.prepare(merged).pipeline.controls
        weights.append(control.network.state_dict()["down_blocks.0.resnets.0.conv1.weight"].clone())
    assert torch.equal(*weights) is not follows


def test_adapters_quantization_and_runtimes_work_beside_a_control(root: Path) -> None:
    bench = bench_of(root)
    plain = latents(bench, candidate("sd1", net("sd1")))
    for mode in ("bf16", "int8_weight_only"):
        own = latents(bench, candidate("sd1", net("sd1"), quantization=mode))
        assert not torch.equal(own, plain)
        assert float((own - plain).abs().mean()) < 0.2 * float(plain.abs().mean())


def test_edges_made_here_are_recorded_with_library_and_thresholds(root: Path) -> None:
    rows = bench_of(root).prepare(candidate("sd1", net("sd1", picture=Canny(of="edges", low=5)))).coverage
    (row,) = [row for row in rows if row.component == "control"]
    assert any("scipy" in note and "thresholds 5 and 25" in note for note in row.notes)
    assert any(name.startswith("controlnet_cond_embedding.") for name in row.keys["applied"])


def test_the_identity_has_the_networks_content_and_not_its_name(root: Path) -> None:
    bench = bench_of(root)
    (root / "copy").mkdir(exist_ok=True)
    for file in (root / "sd1-net1").iterdir():
        (root / "copy" / file.name).write_bytes(file.read_bytes())
    identities = [bench.weights(candidate("sd1", *controls)).identity for controls in (
        (), (net("sd1"),), (net("sd1", path="copy"),), (net("sd1", number=2),), (net("sd1", weight=0.5),),
        (net("sd1", picture=Canny(of="edges")),))]
    assert identities[1] == identities[2]
    assert len(set(identities)) == len(identities) - 1


def test_controls_of_transformers_are_refused_by_their_family(tmp_path: Path, root: Path) -> None:
    folder_of(theirs("flux"), tmp_path / "flux")
    with pytest.raises(MaterialiseError, match=r"controls are supported for U-Nets .*family flux"):
        bench_of(tmp_path).inspect(candidate("flux", net("sd1", path=str(root / "sd1-net1"))))


def test_a_network_of_another_family_is_refused_with_its_first_tensors(root: Path) -> None:
    with pytest.raises(ValueError, match="does not fit the U-Net of sd1"):
        bench_of(root).inspect(candidate("sd1", net("sdxl")))




def test_a_plan_of_memory_counts_the_networks_and_what_they_compute(root: Path) -> None:
    bench = bench_of(root)
    grid = tiny_grid(prompts=PROMPTS, steps=STEPS, width=SIZE, height=SIZE)
    plain, controlled, idle = (Footprint(shape_model(asked, bench), grid, "cpu").need(2) for asked in (
        candidate("sd1"), candidate("sd1", net("sd1")), candidate("sd1", net("sd1", weight=0))))
    assert controlled.weights["control networks"] == sum(
        parameter.nbytes for parameter in diffusers.ControlNetModel.from_pretrained(root / "sd1-net1").parameters())
    assert controlled.step - plain.step > controlled.weights["control networks"]
    assert idle.peak == plain.peak


def test_a_control_sweep_begins_without_the_control() -> None:
    control = Control(path="net", picture="edges", weight=3)
    plain, half = control_sweep("m", control, (0, 0.5))
    assert (plain.name, plain.controls, plain.axes) == ("control=0", (), {"control": 0.0})
    assert (half.name, half.controls[0].weight, half.axes) == ("control=0.5", 0.5, {"control": 0.5})
    of_merges = control_sweep(alpha_sweep("a", "b", (0, 1)), control, (0, 1))
    assert [one.name for one in of_merges][1] == "alpha=0 control=1"
    with pytest.raises(ValueError, match="axis 'control' already"):
        control_sweep(of_merges, control, (1,))


def test_a_network_that_is_kept_for_another_weight_does_not_belong_to_a_candidate_of_weight_0(root: Path) -> None:
    bench = bench_of(root)
    (running,) = bench.prepare(candidate("sd1", net("sd1"))).pipeline.controls
    (idle,) = bench.prepare(candidate("sd1", net("sd1", weight=0))).pipeline.controls
    assert (running.network is None, idle.network) == (False, None)
