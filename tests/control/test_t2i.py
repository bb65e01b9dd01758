"""T2I-Adapters in a denoising run, against diffusers' own pipelines at the same noise."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image
from torch._dynamo.utils import counters

from harness.control.reading import read_control
from harness.declare import Control, Ensemble, Relay, Stage
from harness.declare.guiding import STAGE_BEFORE
from harness.declare.picture_file import read_picture
from harness.materialise import MaterialiseError, Workbench
from harness.materialise.shape_model import shape_model
from harness.run.memory_plan import Footprint
from harness.sampling import Later, batches, embedded, initial_noise, sample
from harness.weights.safetensors_header import ModelFileError
from tests.control.adapters import FORMS, adapter, flat_names, light_names, pipeline_of
from tests.control.nets import of_unet, write
from tests.control.test_sampling import CELLS, PROMPTS, SIZE, STEPS, bench_of, candidate, latents
from tests.fakes import tiny_grid
from tests.weights.pipelines import folder_of


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("adapters")
    for family in ("sd1", "sdxl"):
        pipe = pipeline_of(family)
        folder_of(pipe, root / family)
        of_unet(pipe.unet).save_pretrained(root / f"{family}-net")
    for (family, form) in FORMS:
        net = adapter(family, form)
        net.save_pretrained(root / f"{family}-{form}")
        adapter(family, form, seed=8).save_pretrained(root / f"{family}-{form}-2")
        write(root / f"{family}-{form}.safetensors", net.state_dict())
        flat = (light_names if form == "light" else flat_names)(net.state_dict())
        write(root / f"{family}-{form}-original.safetensors", flat)
        torch.save({name: tensor.clone() for name, tensor in flat.items()}, root / f"{family}-{form}.pth")
    adapter(in_channels=1).save_pretrained(root / "sd1-gray")
    for name, colours in (("a", (3,)), ("b", ())):  # the second is gray
        picture = np.random.default_rng(1).integers(0, 256, (SIZE, SIZE, *colours), dtype=np.uint8)
        Image.fromarray(picture).save(root / f"{name}.png")
    return root


def t2i(path: str = "sd1-full", **changes: Any) -> Control:
    return Control(**{"path": path, "picture": "edges", **changes})


def by_diffusers(root: Path, family: str, controls: tuple[Control, ...], **call: Any) -> torch.Tensor:
    """What diffusers' pipeline makes with the same modules, texts and noise."""
    prepared = bench_of(root).prepare(candidate(family))
    live = prepared.pipeline
    (state,) = embedded(prepared.phases, PROMPTS).values()
    nets = [diffusers.T2IAdapter.from_pretrained(root / control.path).eval() for control in controls]
    pictures = []
    for control, net in zip(controls, nets, strict=True):
        files = [root / prompt.pictures[str(control.picture)] for prompt in PROMPTS]
        mode = "L" if net.config.in_channels == 1 else "RGB"
        pictures.append([Image.fromarray(read_picture(file)).convert(mode) for file in files])
    parts: dict[str, Any] = {
        "vae": live.vae, "unet": live.unet, "adapter": diffusers.MultiAdapter(nets) if len(nets) > 1 else nets[0],
        "text_encoder": live.text_encoder,
        "tokenizer": live.tokenizer, "scheduler": diffusers.DDIMScheduler.from_config(live.scheduler_config)}
    if family == "sdxl":
        pipe: Any = diffusers.StableDiffusionXLAdapterPipeline(
            **parts, text_encoder_2=live.encoders[1].module, tokenizer_2=live.encoders[1].tokenizer)
        call |= {"pooled_prompt_embeds": torch.stack([one.pooled for one in state.positive.values()]),
                 "negative_pooled_prompt_embeds": torch.stack([one.pooled for one in state.negative.values()] * 2)}
    else:
        pipe = diffusers.StableDiffusionAdapterPipeline(**parts, safety_checker=None, feature_extractor=None,
                                                        requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    grid = tiny_grid(prompts=PROMPTS, steps=STEPS, sampler="ddim", width=SIZE, height=SIZE)
    weights = [control.weight for control in controls]
    made: torch.Tensor = pipe(
        prompt_embeds=torch.stack([one.states for one in state.positive.values()]),
        negative_prompt_embeds=torch.stack([one.states for one in state.negative.values()] * 2), guidance_scale=3.0,
        image=pictures if len(nets) > 1 else pictures[0], adapter_conditioning_scale=weights if len(nets) > 1 else weights[0],
        height=SIZE, width=SIZE, num_inference_steps=STEPS, latents=initial_noise(live, grid, CELLS), output_type="latent",
        **call).images
    return made


def difference(ours: torch.Tensor, expected: torch.Tensor) -> float:
    return float((ours - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize(("family", "controls"), [
    ("sd1", (t2i(weight=0.8),)), ("sd1", (t2i("sd1-light", weight=0.8),)), ("sd1", (t2i("sd1-gray", picture="other"),)),
    ("sdxl", (t2i("sdxl-full", weight=0.8),)),
    ("sd1", (t2i(weight=0.7), t2i("sd1-full-2", picture="other", weight=0.4))),
    ("sdxl", (t2i("sdxl-full", weight=0.7), t2i("sdxl-full-2", picture="other", weight=0.4))),
], ids=lambda value: value if isinstance(value, str) else " and ".join(control.path for control in value))
def test_adapters_are_those_of_diffusers(family: str, controls: tuple[Control, ...], root: Path) -> None:
    expected = by_diffusers(root, family, controls)
    ours = latents(bench_of(root), candidate(family, *controls))
    assert difference(ours, expected) <= 2e-5
    assert difference(latents(bench_of(root), candidate(family)), expected) > 1e-2


def test_an_adapter_beside_a_control_network_adds_to_the_same_unet(root: Path) -> None:
    """Diffusers has no pipeline of both: each alone is checked above and in test_sampling, and the U-Net adds both."""
    bench, net = bench_of(root), Control(path="sd1-net", picture="other", weight=0.5)
    both = latents(bench, candidate("sd1", t2i(), net))
    torch.testing.assert_close(both, latents(bench, candidate("sd1", net, t2i())), rtol=0, atol=0)
    for alone in (net, t2i()):
        assert difference(latents(bench, candidate("sd1", alone)), both) > 1e-2
    for idle in ((t2i(weight=0), net), (net,)):
        torch.testing.assert_close(latents(bench, candidate("sd1", *idle)), latents(bench, candidate("sd1", net)), rtol=0, atol=0)


def test_a_part_of_the_steps_is_that_of_diffusers(root: Path) -> None:
    expected = by_diffusers(root, "sdxl", (t2i("sdxl-full"),), adapter_conditioning_factor=0.5)
    assert difference(latents(bench_of(root), candidate("sdxl", t2i("sdxl-full", end=0.5))), expected) <= 2e-5


def test_each_picture_is_run_once_and_alone(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[tuple[int, ...]] = []
    forward = diffusers.T2IAdapter.forward

    def counted(self: Any, x: torch.Tensor) -> Any:
        sizes.append(tuple(x.shape))
        return forward(self, x)

    monkeypatch.setattr(diffusers.T2IAdapter, "forward", counted)
    seeds = (*CELLS, replace(CELLS[0], seed=2))
    made = latents(bench_of(root), candidate("sd1", t2i()), seeds)
    assert sizes == [(1, 3, SIZE, SIZE)] * 2
    turned = latents(bench_of(root), candidate("sd1", t2i()), seeds[::-1])
    torch.testing.assert_close(turned.flip(0), made, rtol=0, atol=0)
    alone = latents(bench_of(root), candidate("sd1", t2i()), seeds[:1])
    torch.testing.assert_close(alone, made[:1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("form", FORMS, ids=" ".join)
def test_one_adapter_samples_alike_in_every_layout(form: tuple[str, str], root: Path) -> None:
    family, name = form[0], "-".join(form)
    made = [latents(bench_of(root), candidate(family, t2i(f"{name}{ending}")), CELLS[:1])
            for ending in ("", ".safetensors", "-original.safetensors", ".pth")]
    for other in made[1:]:
        torch.testing.assert_close(other, made[0], rtol=0, atol=0)


def test_relays_ensembles_and_number_formats_work_with_an_adapter(root: Path) -> None:
    bench, plain = bench_of(root), latents(bench_of(root), candidate("sd1", t2i()))
    same = (Relay(models=("sd1", "sd1"), at=(0.5,)), Ensemble(models=("sd1", "sd1"), weights=(0.5, 0.5)))  # type: ignore[arg-type]
    for model in same:
        torch.testing.assert_close(latents(bench, candidate(model, t2i())), plain, rtol=0, atol=0)  # type: ignore[arg-type]
    for mode in ("bf16", "int8_weight_only"):
        own = latents(bench, candidate("sd1", t2i(), quantization=mode))
        assert not torch.equal(own, plain)
        assert float((own - plain).abs().mean()) < 0.2 * float(plain.abs().mean())


def test_identity_and_coverage_are_by_content(root: Path) -> None:
    bench = bench_of(root)
    identities = [bench.weights(candidate("sd1", *controls)).identity for controls in (
        (t2i("sd1-full"),), (t2i("sd1-full-2"),), (), (t2i(weight=0.5),))]
    assert len(set(identities)) == len(identities)
    (row,) = [row for row in bench.prepare(candidate("sd1", t2i("sd1-full.pth"))).coverage if row.component == "control"]
    assert set(row.keys["applied"]) == set(flat_names(adapter().state_dict()))
    assert any("T2I-Adapter" in note for note in row.notes)


def test_a_plan_of_memory_counts_the_adapter_and_its_features(root: Path) -> None:
    bench, grid = bench_of(root), tiny_grid(prompts=PROMPTS, steps=STEPS, width=SIZE, height=SIZE)
    plain, adapted, idle = (Footprint(shape_model(asked, bench), grid, "cpu").need(2) for asked in (
        candidate("sd1"), candidate("sd1", t2i()), candidate("sd1", t2i(weight=0))))
    weights = sum(parameter.nbytes for parameter in adapter().parameters())
    features = 2 * 2 * 4 * (8 * 16 * 16 + 16 * 8 * 8 + 16 * 4 * 4)  # two pictures, both halves, float32
    assert adapted.weights["control networks"] == weights
    assert adapted.step - plain.step - weights >= features
    assert idle.peak == plain.peak


@pytest.mark.parametrize(("state", "words"), [
    (lambda: {**adapter().state_dict(), "adapter.body.0.lost.weight": torch.zeros(2)}, "adapter.body.0.lost.weight"),
    (lambda: {name: one for name, one in adapter().state_dict().items() if name != "adapter.body.1.resnets.0.block2.bias"},
     "'adapter.body.1.resnets.0.block2.bias' [16] is missing"),
    (lambda: {**adapter().state_dict(), "adapter.conv_in.weight": torch.zeros(8, 7, 3, 3)}, "reads 7 channels"),
    (lambda: {**flat_names(adapter().state_dict()), "body.0.block2.weight": torch.zeros(8, 8, 3, 3)},
     "'body.0.block2.weight' is [8, 8, 3, 3], not [8, 8, 1, 1]"),
    (lambda: {**flat_names(adapter().state_dict()), "body.2.down_opt.op.weight": torch.zeros(8, 8, 3, 3)}, "early T2I-Adapter"),
    (lambda: {name: one for name, one in adapter().state_dict().items() if "conv_in" not in name},
     "'adapter.conv_in.weight' is missing"),
    (lambda: {name: one * float("nan") for name, one in adapter().state_dict().items()}, "NaN"),
    (lambda: {name: one.int() for name, one in adapter().state_dict().items()}, "floating-point"),
    (lambda: adapter("sd1", "light").state_dict() | {"adapter.body.0.out_conv.weight": torch.zeros(9)}, "four dimensions"),
])
def test_a_damaged_adapter_is_refused_with_its_file_and_key(state: Any, words: str, tmp_path: Path, root: Path) -> None:
    write(tmp_path / "t2i.safetensors", state())
    with pytest.raises(ModelFileError, match=re.escape(words)) as refused:
        bench_of(root).prepare(candidate("sd1", t2i(str(tmp_path / "t2i.safetensors"))))
    assert "t2i.safetensors" in str(refused.value)


def test_an_adapter_of_another_family_is_refused_with_its_features_and_the_units_of_the_model(root: Path) -> None:
    with pytest.raises(ModelFileError, match=r"features of 8 channels at 1/4, .* the U-Net takes 8 channels at 1/2, "):
        bench_of(root).inspect(candidate("sd1", t2i("sdxl-full")))
    with pytest.raises(ModelFileError, match="does not fit the U-Net of sdxl"):
        bench_of(root).inspect(candidate("sdxl", t2i("sd1-light")))


def test_guess_and_sizes_that_the_adapter_cannot_be_given_are_refused(root: Path) -> None:
    with pytest.raises(MaterialiseError, match="no guess mode; remove guess"):
        bench_of(root).inspect(candidate("sd1", t2i(guess=True)))
    odd = tiny_grid(prompts=PROMPTS, steps=STEPS, width=SIZE + 2, height=SIZE)
    with pytest.raises(ModelFileError, match=r"multiples of 4, and the images are 34 x 32"):
        Workbench.for_grid(odd, device="cpu", root=root).inspect(candidate("sdxl", t2i("sdxl-full")))
    Workbench.for_grid(odd, device="cpu", root=root).inspect(candidate("sd1", t2i()))


def test_a_folder_that_contradicts_its_tensors_is_refused(tmp_path: Path, root: Path) -> None:
    folder = Path(shutil.copytree(root / "sd1-full", tmp_path / "net"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "adapter_type": "light_adapter"}))
    with pytest.raises(ModelFileError, match=r"light_adapter.* a full adapter"):
        bench_of(root).inspect(candidate("sd1", t2i(str(folder))))


def test_the_names_of_an_adapter_nested_in_a_checkpoint_are_read(tmp_path: Path) -> None:
    torch.save({"adapter": {name: one.clone() for name, one in flat_names(adapter().state_dict()).items()}}, tmp_path / "a.pth")
    assert read_control(tmp_path / "a.pth").named.whole.keys() == adapter().state_dict().keys()


@pytest.mark.parametrize("control", [t2i(), Control(path="sd1-net", picture="edges")], ids=["T2I-Adapter", "ControlNet"])
def test_a_compiled_unet_is_controlled_as_the_eager_one_and_compiled_once(control: Control, root: Path,
                                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    # Graphs are captured as for the compiler, and run as they are: no compiler is needed, and latents are equal.
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    monkeypatch.setattr("harness.runtimes.compiling.shutil.which", lambda _: "c++")
    bench, graphs = bench_of(root), []
    for weight in (0.8, 0.4):
        asked = candidate("sd1", replace(control, weight=weight))
        before = counters["stats"]["unique_graphs"]
        made = latents(bench, replace(asked, runtime="compiled"))
        graphs.append(counters["stats"]["unique_graphs"] - before)
        torch.testing.assert_close(made, latents(bench_of(root), asked), rtol=0, atol=0)
    assert graphs[0] > 0
    assert graphs[1] == 0


def test_an_adapter_of_a_later_stage_follows_the_picture_that_each_image_begins_from(
        root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.Tensor] = []
    forward = diffusers.T2IAdapter.forward
    monkeypatch.setattr(diffusers.T2IAdapter, "forward", lambda self, x: (seen.append(x), forward(self, x))[1])
    own = tiny_grid(prompts=PROMPTS, seeds=(1,), guidance_scales=(3,), steps=STEPS, sampler="ddim", width=SIZE, height=SIZE,
                    batch_size=2)
    asked = candidate("sd1", stages=(Stage(model="sd1", strength=0.9, controls=(t2i(picture=STAGE_BEFORE),)),))
    prepared = Workbench.for_grid(own, device="cpu", root=root).prepare(asked)
    first: list[Any] = []
    later = Later(stages=prepared.stages, beside=lambda cells, name, images: first.append(images))
    texts = embedded(prepared.phases, PROMPTS, steps=STEPS) | embedded(prepared.stages[0].phases, PROMPTS, steps=STEPS)
    ((_, finished),) = sample(prepared.phases, own, batches(own), texts, later=later)
    assert finished.shape == (2, SIZE, SIZE, 3)
    assert len(seen) == 2
    for given, picture in zip(seen, first[0], strict=True):
        torch.testing.assert_close(given[0].permute(1, 2, 0) * 255, torch.from_numpy(picture).float())
