"""What a U-Net predicts stays said with it: in markers and header of a file, whichever model gives the U-Net, and in a suite."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from harness import Adapter, Alphas, Candidate, Fused, Merge
from harness.declare import Model
from harness.materialise import MaterialiseError, Workbench
from harness.materialise.library import Library
from harness.materialise.saving import save
from harness.weights import ModelFileError
from tests.materialise.models import folder, parent, planned, write
from tests.weights import real_names as real

V_PRED = {"v_pred": torch.zeros(0), "ztsnr": torch.zeros(0)}
V, SCHEDULE = "v_prediction", {"_class_name": "EulerDiscreteScheduler", "num_train_timesteps": 1000}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """eps and eps2 state nothing, v and v2 have markers; v.ckpt is v as a pickle."""
    root = tmp_path_factory.mktemp("kinds")
    for seed, name in enumerate(("eps", "eps2", "v", "v2")):
        markers = V_PRED if name.startswith("v") else {}
        write(root / f"{name}.safetensors", {**parent(seed, torch.float16, "sdxl"), **markers})
    torch.save({**parent(2, torch.float16, "sdxl"), **V_PRED, "edm_vpred.sigma_max": torch.tensor(120.0)}, root / "v.ckpt")
    return root


def folder_of(root: Path, name: str, family: str = "sdxl", **scheduler: object) -> str:
    path = folder(root / name, 7, torch.float16, family)
    (path / "scheduler").mkdir()
    (path / "scheduler" / "scheduler_config.json").write_text(json.dumps({**SCHEDULE, **scheduler}))
    return name


def stated(root: Path, model: Model, out: Path) -> tuple[set[str], str]:
    """The markers of the file that a recipe becomes, and the prediction in its header."""
    path = save(planned(root, model), Library(root), out, "title").path
    with safe_open(path, framework="pt") as file:
        known = {"v_pred", "ztsnr", "edm_vpred.sigma_max"}
        return known & set(file.keys()), (file.metadata() or {}).get("modelspec.prediction_type", "")


def text_merge(a: Model, b: Model, **changes: object) -> Merge:
    return Merge(a=a, b=b, alpha=0.5, parts=("text_encoder",), **changes)  # type: ignore[arg-type]


E, E2, W, W2 = (f"{name}.safetensors" for name in ("eps", "eps2", "v", "v2"))


@pytest.mark.parametrize(("model", "markers", "prediction"), [
    (text_merge(E, E2, take={"unet": W}), {"v_pred", "ztsnr"}, "v"),
    (text_merge(W, W2, take={"unet": E}), set(), ""),
    (text_merge(E, E2, take={"unet": "v.ckpt"}), {"v_pred", "ztsnr", "edm_vpred.sigma_max"}, "v"),
    (text_merge(E, W), set(), ""),
    (text_merge(W, E), {"v_pred", "ztsnr"}, "v"),
    (Merge(a=E, b=W, c=W2, method="add_difference", alpha=0.5), set(), ""),
    (Merge(a=W, b=W2, alpha=0.5), {"v_pred", "ztsnr"}, "v"),
    (Merge(a=E, b=E2, alpha=0.5), set(), ""),
    # At alpha 1 the U-Net is B's, to the bit, and so is what it predicts; a text encoder may be merged beside it.
    (Merge(a=E, b=W, alpha=1.0, force=("prediction",)), {"v_pred", "ztsnr"}, "v"),
    (Merge(a=W, b=E, alpha=1.0, force=("prediction",)), set(), ""),
    (Merge(a=E, b=W, alpha=Alphas(default=1.0, parts={"text_encoder": 0.5}), parts=("unet", "text_encoder"),
           force=("prediction",)), {"v_pred", "ztsnr"}, "v"),
    (Merge(a=Merge(a=E, b=W, alpha=1.0, force=("prediction",)), b=E2, alpha=0.0, force=("prediction",)),
     {"v_pred", "ztsnr"}, "v"),
    (Merge(a=E, b=W, alpha=0.9, force=("prediction",)), set(), ""),
])
def test_a_file_states_the_prediction_of_the_model_that_gives_its_u_net(root, tmp_path, model, markers, prediction) -> None:
    assert stated(root, model, tmp_path / "out.safetensors") == (markers, prediction)


@pytest.mark.parametrize(("family", "scheduler", "markers"), [
    ("sdxl", {"prediction_type": V, "rescale_betas_zero_snr": True}, {"v_pred", "ztsnr"}),
    ("sdxl", {"prediction_type": V}, {"v_pred"}),
    ("sdxl", {"prediction_type": "epsilon"}, set()),
    ("sd1", {"prediction_type": V}, {"v_pred"}),
    ("sd2", {"prediction_type": V}, set()),
])
def test_a_file_made_from_a_folder_says_what_the_folders_scheduler_says(tmp_path, family, scheduler, markers) -> None:
    name = folder_of(tmp_path, "model", family, **scheduler)
    found, prediction = stated(tmp_path, name, tmp_path / "out.safetensors")
    assert (found, prediction) == (markers, "v" if scheduler["prediction_type"] == V else "epsilon")


def test_the_u_net_of_a_folder_given_alone_has_the_folders_scheduler(tmp_path) -> None:
    name = folder_of(tmp_path, "model", prediction_type=V, rescale_betas_zero_snr=True)
    (tmp_path / name / "model_index.json").write_text('{"_class_name": "StableDiffusionXLPipeline"}')
    assert stated(tmp_path, f"{name}/unet", tmp_path / "out.safetensors") == ({"v_pred", "ztsnr"}, "v")


def test_folders_and_files_of_one_noise_schedule_merge_and_of_two_do_not(tmp_path) -> None:
    zero = folder_of(tmp_path, "zero", prediction_type=V, rescale_betas_zero_snr=True)
    other = folder_of(tmp_path, "other", prediction_type=V)
    write(tmp_path / "v.safetensors", {**parent(3, torch.float16, "sdxl"), **V_PRED})
    assert planned(tmp_path, Merge(a=zero, b="v.safetensors", alpha=0.5)).total
    for b in (other, "v.safetensors"):
        a = zero if b == other else other
        with pytest.raises(MaterialiseError, match=r"noise schedules .*ztsnr"):
            planned(tmp_path, Merge(a=a, b=b, alpha=0.5))


def test_a_folder_with_edm_noise_levels_is_not_written_without_them(tmp_path) -> None:
    name = folder_of(tmp_path, "edm", _class_name="EDMEulerScheduler", prediction_type=V)
    with pytest.raises(ModelFileError, match=r"edm_vpred\.sigma_max"):
        planned(tmp_path, name)


@pytest.mark.parametrize("b", [text_merge(E, E2, take={"unet": W}), W])
def test_a_u_net_that_a_nested_merge_took_counts_as_what_it_is(root, b) -> None:
    with pytest.raises(MaterialiseError, match=r"eps2\.safetensors: epsilon; v\.safetensors: v_prediction"):
        planned(root, Merge(a=E2, b=b, alpha=0.5))


def test_a_suite_does_not_sample_a_taken_u_net_by_another_models_schedule(root) -> None:
    bench = Workbench(device="cpu", root=root)
    with pytest.raises(MaterialiseError, match=r"v\.safetensors \(v_prediction, markers: v_pred, ztsnr\).*eps\.safetensors"):
        bench.inspect(Candidate(name="c", model=text_merge(E, E2, take={"unet": W})))


@pytest.mark.parametrize(("model", "trained", "noted"), [
    (E, "v", True), (W, "epsilon", True), (W, "v", False), (E, "epsilon", False), (E, "", False),
    (text_merge(E, E2, take={"unet": W}), "epsilon", True), (text_merge(E, E2, take={"unet": W}), "v", False)])
def test_an_adapter_that_was_trained_on_another_prediction_is_noted(root, model, trained, noted) -> None:
    weight = parent(0, torch.float16, "sdxl")["model.diffusion_model.middle_block.1.transformer_blocks.0.attn1.to_q.weight"]
    stem = "lora_unet_middle_block_1_transformer_blocks_0_attn1_to_q"
    write(root / "l.safetensors", {f"{stem}.lora_down.weight": torch.ones(1, weight.shape[1]),
                                   f"{stem}.lora_up.weight": torch.ones(weight.shape[0], 1)},
          {"modelspec.prediction_type": trained} if trained else None)
    notes = planned(root, Fused(model=model, adapters=(Adapter(path="l.safetensors"),))).notes
    assert any("was trained on a model with" in note for note in notes) == noted


def test_a_suite_does_not_sample_bs_u_net_as_a_says(root) -> None:
    with pytest.raises(MaterialiseError, match=r"U-Net is that of v\.safetensors .*eps\.safetensors says"):
        Workbench(device="cpu", root=root).inspect(
            Candidate(name="b", model=Merge(a=E, b=W, alpha=1.0, force=("prediction",))))


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """U-Nets of Stable Diffusion 2 that state nothing, but for `says`: ends and a block. ComfyUI takes a wide tensor for v."""
    root = tmp_path_factory.mktemp("second")
    shapes = {key: (2, 1024) if key.endswith(("attn2.to_k.weight", "attn2.to_v.weight")) else shape
              for key, shape in real.diffusers_shapes("sd2", "unet").items() if key.startswith(("conv_", "up_blocks.3."))}
    shapes["conv_in.weight"] = (2, 4, 1, 1)
    names = real.single_file_names("sd2", "unet")
    for seed, (name, spread) in enumerate({"base": 0.03, "base2": 0.08, "v": 0.11, "v2": 0.2, "says": 0.2, "none": 0.0}.items()):
        tensors = {f"model.diffusion_model.{names[key]}": tensor for key, tensor in real.drawn(shapes, seed).items()}
        tensors[TELLS] = spread * torch.tensor([-1.0, 1.0])
        if name == "none":
            del tensors[TELLS]
        write(root / f"{name}.safetensors", tensors, {"modelspec.prediction_type": "epsilon"} if name == "says" else None)
    return root


TELLS = "model.diffusion_model.output_blocks.11.1.transformer_blocks.0.norm1.bias"


@pytest.mark.parametrize(("a", "b", "refused"), [
    ("base", "base2", False), ("v", "v2", False), ("base", "v", True), ("v2", "base2", True),
    ("says", "base", False), ("says", "v", True), ("none", "v", False)])
def test_two_models_of_stable_diffusion_2_that_state_nothing_are_told_apart_by_their_values(second, a, b, refused) -> None:
    recipe = Merge(a=f"{a}.safetensors", b=f"{b}.safetensors", alpha=0.5, missing="keep_a")
    if not refused:
        planned(second, recipe)
        return
    with pytest.raises(MaterialiseError, match=rf"different predictions \({a}\.safetensors: .*norm1\.bias.*force="):
        planned(second, recipe)
    assert planned(second, replace(recipe, force=("prediction",)))
