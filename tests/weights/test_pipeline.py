"""Files become live modules only when config and tensors agree; nothing is left random, and prompts get CLIP's own ids."""

import pytest
import torch
from safetensors.torch import save_file

from harness.weights import ModelFileError, build_pipeline, ldm, open_model, random_sd1, sd1_tokenizer, shape_pipeline
from harness.weights.live_module import empty
from harness.weights.live_pipeline import SD1_CONFIGS
from tests.weights.tiny import tiny

TINY = tiny(2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    TINY.write_configs(folder / "config")
    TINY.write(folder)
    return folder


@pytest.mark.parametrize("layers", [1, 2])
def test_a_file_becomes_the_modules_that_wrote_it(tmp_path, layers):
    model = tiny(layers, ("CrossAttnDownBlock2D", "DownBlock2D"), torch.float16)
    pipeline = build_pipeline(open_model(model.write(tmp_path)), model.write_configs(tmp_path / "config"), "cpu")
    for component in ("unet", "vae", "text_encoder"):
        module, state = getattr(pipeline, component), getattr(model, component)
        assert all(torch.equal(tensor, state[name].float()) for name, tensor in module.state_dict().items())
        assert not module.training
        assert not any(p.requires_grad or p.is_meta or p.dtype != torch.float32 for p in module.parameters())


def test_the_live_modules_compute(folder):
    pipeline = build_pipeline(open_model(folder / "model.safetensors"), folder / "config")
    ids = torch.tensor(pipeline.tokenizer(["a red ball"], padding="max_length")["input_ids"])
    text = pipeline.text_encoder(ids).last_hidden_state
    noise = pipeline.unet(torch.ones(1, 4, 8, 8), torch.tensor(1), text).sample
    assert text.shape == (1, 77, 12)
    assert torch.isfinite(pipeline.vae.decode(noise).sample).all()


def test_changing_the_live_modules_leaves_the_opened_model_alone(tmp_path, folder):
    torch.save(TINY.file(), tmp_path / "m.ckpt")
    for path in (tmp_path / "m.ckpt", folder / "model.safetensors"):
        model = open_model(path)
        build_pipeline(model, folder / "config").unet.conv_in.weight.zero_()
        assert torch.equal(model.tensors("unet")["conv_in.weight"], TINY.unet["conv_in.weight"])


@pytest.mark.parametrize("key", ["model.diffusion_model.out.2.bias", "first_stage_model.quant_conv.bias",
                                 "cond_stage_model.transformer.text_model.final_layer_norm.bias"])
def test_one_missing_tensor_is_refused_and_named(tmp_path, folder, key):
    save_file({name: tensor.contiguous() for name, tensor in TINY.file().items() if name != key},
              tmp_path / "m.safetensors")
    with pytest.raises(ModelFileError, match=r"bias' \[\d+\] is missing"):
        build_pipeline(open_model(tmp_path / "m.safetensors"), folder / "config")


def test_a_config_of_another_size_is_refused_with_both_shapes(folder):
    with pytest.raises(ModelFileError, match=r"unet and its config in .* differ in \d+ tensors"):
        build_pipeline(open_model(folder / "model.safetensors"), None)


def test_a_file_without_a_vae_is_refused(tmp_path, folder):
    save_file({k: t for k, t in TINY.file().items() if not k.startswith(ldm.VAE_PREFIX)}, tmp_path / "m.safetensors")
    with pytest.raises(ModelFileError, match="has no vae, only unet, text_encoder"):
        build_pipeline(open_model(tmp_path / "m.safetensors"), folder / "config")


def test_markers_override_the_scheduler_config_and_are_noted(tmp_path, folder):
    path = TINY.write(tmp_path, v_pred=torch.zeros(0), ztsnr=torch.zeros(0))
    pipeline = build_pipeline(open_model(path), folder / "config")
    assert pipeline.scheduler_config["prediction_type"] == "v_prediction"
    assert pipeline.scheduler_config["rescale_betas_zero_snr"] is True
    assert len(pipeline.notes) == 2


def test_the_built_in_configs_have_the_sizes_of_stable_diffusion_1_5():
    shapes = {part: empty(part, SD1_CONFIGS / part / "config.json").state_dict() for part in
              ("unet", "vae", "text_encoder")}
    counts = {part: (len(state), sum(t.numel() for t in state.values())) for part, state in shapes.items()}
    assert counts == {"unet": (686, 859_520_964), "vae": (248, 83_653_863), "text_encoder": (196, 123_060_480)}
    ldm.unet_to_ldm(shapes["unet"])
    assert ldm.unet_to_ldm(shapes["unet"])["up_blocks.3.attentions.2.proj_out.bias"] == "output_blocks.11.1.proj_out.bias"


PROMPTS = ["a photo of a red ball", "Don't STOP; 3.14 -- naïve café!", "", "東京の夜景, 4k", "it's we're  <lora:x:0.5> _a_b_",
           "🦊 fox (masterpiece:1.2), [bad]", "x" * 60]


@pytest.mark.parametrize("prompt", PROMPTS)
def test_prompts_get_the_ids_that_open_clip_gives(prompt):
    from open_clip.tokenizer import SimpleTokenizer

    theirs = SimpleTokenizer()
    ours = sd1_tokenizer()(prompt)["input_ids"]
    assert ours == [theirs.sot_token_id, *theirs.encode(prompt), theirs.eot_token_id]


def test_prompts_are_padded_and_cut_to_77_tokens():
    rows = sd1_tokenizer()(["a ball", "ball " * 100], padding="max_length", truncation=True)["input_ids"]
    assert [len(row) for row in rows] == [77, 77]
    assert rows[0][4:] == [49407] * 73
    assert rows[1][-1] == 49407


def test_random_weights_follow_their_seed_and_keep_activations_finite(folder, monkeypatch):
    monkeypatch.setattr("harness.weights.live_pipeline.CONFIGS", folder)
    (folder / "sd1").symlink_to(folder / "config")
    first, again, other = (random_sd1(seed, torch.float32) for seed in (1, 1, 2))
    assert torch.equal(first.unet.conv_in.weight, again.unet.conv_in.weight)
    assert not torch.equal(first.unet.conv_in.weight, other.unet.conv_in.weight)
    text = first.text_encoder(torch.arange(77)[None]).last_hidden_state
    assert torch.isfinite(first.unet(torch.ones(1, 4, 8, 8), 1, text).sample).all()


def test_a_diffusers_folder_is_built_with_its_own_configs_and_tokenizer(tmp_path):
    TINY.write_configs(tmp_path)
    for part, name in (("unet", "diffusion_pytorch_model"), ("vae", "diffusion_pytorch_model"), ("text_encoder", "model")):
        save_file(getattr(TINY, part), tmp_path / part / f"{name}.safetensors")
    sd1_tokenizer().save_pretrained(tmp_path / "tokenizer")
    pipeline = build_pipeline(open_model(tmp_path))
    assert torch.equal(pipeline.unet.conv_in.weight, TINY.unet["conv_in.weight"])
    assert pipeline.tokenizer("a ball")["input_ids"] == sd1_tokenizer()("a ball")["input_ids"]


@pytest.mark.parametrize("config", ["{broken", "[]", '{"block_out_channels": [8], "down_block_types": ["NoBlock"]}'])
def test_a_config_no_module_can_be_made_of_is_refused(tmp_path, folder, config):
    TINY.write_configs(tmp_path)
    (tmp_path / "unet" / "config.json").write_text(config)
    with pytest.raises(ModelFileError, match=r"config\.json"):
        build_pipeline(open_model(folder / "model.safetensors"), tmp_path)


def test_inspecting_finds_what_building_would_without_weights(tmp_path, folder, monkeypatch):
    key = "model.diffusion_model.out.2.bias"
    save_file({n: t.contiguous() for n, t in TINY.file().items() if n != key}, tmp_path / "m.safetensors")
    good, bad = open_model(folder / "model.safetensors"), open_model(tmp_path / "m.safetensors")
    monkeypatch.setattr("harness.weights.model.ModelFile.tensors", lambda *_: pytest.fail("weights were read"))
    shape_pipeline(good, folder / "config")
    with pytest.raises(ModelFileError, match=r"unet and its config in .* differ in 1 tensors.*is missing"):
        shape_pipeline(bad, folder / "config")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_no_numbers_are_refused_with_component_and_key(tmp_path, folder, value):
    tensors = {name: tensor.clone() for name, tensor in TINY.file().items()}
    tensors["model.diffusion_model.out.2.bias"][0] = value
    save_file({n: t.contiguous() for n, t in tensors.items()}, tmp_path / "m.safetensors")
    with pytest.raises(ModelFileError, match=r"unet: 1 tensors hold NaN or infinite values: 'conv_out\.bias'"):
        build_pipeline(open_model(tmp_path / "m.safetensors"), folder / "config")


@pytest.mark.gpu
def test_a_random_pipeline_of_full_size_computes_on_a_gpu():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    pipeline = random_sd1(0, torch.float16, "cuda")
    text = torch.zeros(1, 77, 768, dtype=torch.float16, device="cuda")
    latents = torch.ones(1, 4, 64, 64, dtype=torch.float16, device="cuda")
    assert torch.isfinite(pipeline.unet(latents, 1, text).sample).all()
