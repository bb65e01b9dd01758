"""No family's pipeline has a weight that its file does not hold, and what cannot be sampled says so before it is read."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from harness.weights import ModelFileError, build_pipeline, open_model, shape_pipeline
from harness.weights.model import ModelFile, TensorInfo
from harness.weights.refusals import refuse_family
from tests.weights.pipelines import FAMILIES, SAMPLED, single_file_of

LAST = {"sd1": "text_encoder", "sd2": "unet", "sdxl": "text_encoder_2", "sd3": "text_encoder_3", "flux": "transformer"}


@pytest.fixture
def folder(request, tmp_path, copied_folder):
    return copied_folder(request.param, tmp_path / request.param)


def weights_of(folder, component):
    return next(path for path in (folder / component).iterdir() if path.suffix == ".safetensors")


def edit(path, change):
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
    change(tensors)
    save_file(tensors, path)


@pytest.mark.parametrize("folder", FAMILIES, indirect=True)
def test_live_modules_hold_all_tensors_as_float32_under_the_names_of_the_file(folder):
    model = open_model(folder)
    pipeline = build_pipeline(model)
    assert set(pipeline.parts) == set(model.components)
    for component, part in pipeline.parts.items():
        live = part.state_dict(keep_vars=True)
        assert all(torch.equal(live[name], tensor) and live[name].dtype == torch.float32
                   for name, tensor in model.tensors(component).items())
        assert not part.training
        assert not any(tensor.is_meta or tensor.requires_grad for tensor in live.values())


@pytest.mark.parametrize("folder", FAMILIES, indirect=True)
def test_a_missing_tensor_of_any_family_is_named_before_weights_are_read(folder, monkeypatch):
    family = folder.name
    path = weights_of(folder, LAST[family])
    name = next(n for n in load_file(path) if n.endswith(("final_layer_norm.weight", "conv_out.bias", "proj_out.bias")))
    edit(path, lambda tensors: tensors.pop(name))
    monkeypatch.setattr("harness.weights.model.ModelFile.tensors", lambda *_: pytest.fail("weights were read"))
    for ask in (shape_pipeline, build_pipeline):
        with pytest.raises(ModelFileError, match=rf"{LAST[family]} and its config .* differ in 1 tensors: .* is missing"):
            ask(open_model(folder))


@pytest.mark.parametrize("folder", FAMILIES, indirect=True)
def test_a_nan_in_any_family_is_named(folder):
    edit(weights_of(folder, LAST[folder.name]), lambda tensors: next(iter(tensors.values())).view(-1)[:1].fill_(float("nan")))
    with pytest.raises(ModelFileError, match=f"{LAST[folder.name]}: 1 tensors hold NaN"):
        build_pipeline(open_model(folder))


@pytest.mark.parametrize("folder", ["flux"], indirect=True)
def test_the_second_name_of_a_tied_embedding_is_the_same_tensor(folder):
    encoder = build_pipeline(open_model(folder)).parts["text_encoder_2"]
    live = encoder.state_dict(keep_vars=True)
    live["shared.weight"].fill_(7)
    assert live["encoder.embed_tokens.weight"] is live["shared.weight"]
    assert encoder.get_input_embeddings().weight.unique().tolist() == [7]


@pytest.mark.parametrize("folder", ["sdxl"], indirect=True)
def test_an_sdxl_file_without_vae_says_what_a_whole_model_is(folder, tmp_path):
    single = single_file_of(folder, tmp_path / "m.safetensors")
    edit(single, lambda tensors: [tensors.pop(n) for n in list(tensors) if n.startswith("first_stage_model.")])
    with pytest.raises(ModelFileError, match="has no vae, only unet, text_encoder, text_encoder_2"):
        shape_pipeline(open_model(single), folder)


@pytest.mark.parametrize("folder", ["sdxl"], indirect=True)
def test_a_file_of_another_size_than_the_built_in_configs_is_refused(folder, tmp_path):
    with pytest.raises(ModelFileError, match=r"unet and its config in .*sdxl differ in \d+ tensors"):
        shape_pipeline(open_model(single_file_of(folder, tmp_path / "m.safetensors")))


@pytest.mark.parametrize("family", ["flux", "sd3"])
def test_a_single_file_of_a_transformer_asks_for_a_folder(tmp_path, family):
    path = tmp_path / "m.safetensors"
    model = ModelFile(path=path, family=family, layout="", metadata={}, components={}, other={}, files={path: None})
    with pytest.raises(ModelFileError, match=rf"single file of the family {family}.*'m.safetensors', base='FOLDER'\)"):
        refuse_family(model)


def test_a_transformer_that_reads_another_picture_is_refused(tmp_path):
    layers = {name: TensorInfo(source=name, file=tmp_path, dtype="F32", shape=shape)
              for name, shape in (("x_embedder.weight", (8, 384)), ("proj_out.weight", (64, 8)))}
    model = ModelFile(path=tmp_path, family="flux", layout="diffusers", metadata={}, components={"transformer": layers}, other={},
                      files={}, channels=384)
    with pytest.raises(ModelFileError, match=r"384 values .* 64"):
        refuse_family(model)


@pytest.mark.parametrize(("folder", "component", "key", "what"), [
    ("sd1", "vae", "latents_mean", "latents_mean"), ("sdxl", "scheduler", "EDMEulerScheduler", "scheduler is EDMEulerScheduler"),
    ("flux", "scheduler", "DDIMScheduler", "expected FlowMatchEulerDiscreteScheduler")], indirect=["folder"])
def test_configs_of_models_that_work_otherwise_are_refused(folder, component, key, what):
    path = folder / component / ("scheduler_config.json" if component == "scheduler" else "config.json")
    change = {"_class_name": key} if component == "scheduler" else {key: [0.0] * 4}
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ModelFileError, match=what):
        shape_pipeline(open_model(folder))


@pytest.mark.parametrize("folder", ["sdxl"], indirect=True)
def test_parts_of_different_models_are_refused_with_both_widths(folder):
    config = folder / "text_encoder" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"hidden_size": 16, "intermediate_size": 32}))
    wider = {name: torch.zeros([16 if n == 12 else 32 if n == 24 else n for n in tensor.shape])
             for name, tensor in load_file(weights_of(folder, "text_encoder")).items()}
    save_file(wider, weights_of(folder, "text_encoder"))
    with pytest.raises(ModelFileError, match=r"width of the text states: the denoiser takes 32, .*gives 36"):
        shape_pipeline(open_model(folder))


@pytest.mark.parametrize("folder", SAMPLED, indirect=True)
def test_a_config_cannot_name_code_to_fetch(folder):
    path = folder / "text_encoder" / "config.json"
    config = json.loads(path.read_text()) | {"auto_map": {"AutoModel": "evil--x.Y"}, "_attn_implementation": "evil/kernel",
                                             "attn_implementation": "evil/kernel"}
    path.write_text(json.dumps(config))
    encoder = build_pipeline(open_model(folder)).text_encoder
    assert encoder.config._attn_implementation in ("sdpa", "eager")
    assert not hasattr(encoder.config, "auto_map")


@pytest.mark.parametrize("folder", ["flux"], indirect=True)
@pytest.mark.parametrize("broken", [False, True])
def test_a_tokenizer_that_is_missing_or_broken_is_named(folder, broken):
    for file in (folder / "tokenizer_2").iterdir():
        file.write_text("{") if broken else file.unlink()
    if not broken:
        (folder / "tokenizer_2").rmdir()
    with pytest.raises(ModelFileError, match="tokenizer_2"):
        shape_pipeline(open_model(folder))
