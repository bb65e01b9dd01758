"""What is built in for Stable Diffusion 2 and XL: sizes, tokenizers, and what a file says or shows of its prediction."""

import json
from types import SimpleNamespace

import pytest
import torch
from accelerate import init_empty_weights

from harness.weights import (
    ModelFileError,
    build_pipeline,
    clip_tokenizer,
    open_model,
    random_sdxl,
    shape_pipeline,
    single_file_layout,
)
from harness.weights.header import data_bytes, encode_header, lay_out
from harness.weights.ldm import unet_to_ldm, vae_to_ldm
from harness.weights.live_module import KINDS, empty, refuse_disagreement
from harness.weights.live_pipeline import CONFIGS, _encoders
from harness.weights.naming import openclip_name
from harness.weights.prediction import measured_prediction
from harness.weights.tokenizer import OPENCLIP_PAD
from tests.weights.pipelines import single_file_of, theirs

SIZES = {
    "sd2": {"unet": (686, 865_910_724), "vae": (248, 83_653_863), "text_encoder": (372, 340_387_840)},
    "sdxl": {"unet": (1680, 2_567_463_684), "vae": (248, 83_653_863), "text_encoder": (196, 123_060_480),
             "text_encoder_2": (517, 694_659_840)}}


def built_in(family, component):
    return empty(component, CONFIGS / family / component / "config.json", family)


@pytest.mark.parametrize("family", SIZES)
def test_built_in_configs_have_the_published_sizes(family):
    found = {component: built_in(family, component).state_dict() for component in KINDS[family]}
    assert {c: (len(state), sum(t.numel() for t in state.values())) for c, state in found.items()} == SIZES[family]
    assert len(unet_to_ldm(found["unet"])) == SIZES[family]["unet"][0]
    assert len(vae_to_ldm(found["vae"])) == 248


def test_the_second_encoder_of_sdxl_fills_the_389_weights_of_its_single_file():
    keys = list(built_in("sdxl", "text_encoder_2").state_dict())
    assert len({openclip_name(key).name for key in keys}) == 389


def test_the_unet_of_stable_diffusion_2_has_heads_of_64_channels():
    heads = {module.to_q.out_features // module.heads for name, module in built_in("sd2", "unet").named_modules()
             if name.endswith("attn1")}
    assert heads == {64}


@pytest.mark.parametrize("prompt", ["a red ball!", "", "naïve café!! 3.14"])
def test_openclip_prompts_get_the_rows_that_open_clip_gives(prompt):
    from open_clip.tokenizer import SimpleTokenizer

    row = clip_tokenizer(OPENCLIP_PAD)(prompt, padding="max_length", truncation=True)["input_ids"]
    assert row == SimpleTokenizer()([prompt])[0].tolist()


@pytest.fixture
def unspoken(tmp_path, monkeypatch, copied_folder):
    """A tiny SD2 single file that says nothing of its prediction, while its configs are the built-in ones."""
    folder = copied_folder("sd2", tmp_path / "sd2")
    monkeypatch.setattr("harness.weights.live_pipeline.CONFIGS", tmp_path)
    return single_file_of(folder, tmp_path / "m.safetensors")


@pytest.mark.parametrize("said", ["epsilon", "v_prediction"])
def test_an_unspoken_prediction_of_stable_diffusion_2_is_measured_and_noted(unspoken, monkeypatch, said):
    monkeypatch.setattr("harness.weights.live_pipeline.measured_prediction", lambda *_: said)
    made = build_pipeline(open_model(unspoken))
    assert made.scheduler_config["prediction_type"] == said
    assert f"that of {said}" in made.notes[0]


def test_a_header_is_believed_before_the_built_in_config_and_a_given_folder_before_it(tmp_path, unspoken, copied_folder):
    path = single_file_of(tmp_path / "sd2", tmp_path / "v.safetensors", {"modelspec.prediction_type": "v"})
    given = copied_folder("sd2", tmp_path / "given" / "sd2")
    alone, beside = build_pipeline(open_model(path)), build_pipeline(open_model(path), given)
    assert (alone.scheduler_config["prediction_type"], beside.scheduler_config["prediction_type"]) == ("v_prediction", "epsilon")
    assert [note.rpartition(", and ")[2].split()[0] for note in (alone.notes[0], beside.notes[0])] == ["v_prediction", "epsilon"]


def test_markers_turn_the_built_in_sdxl_into_a_v_model(tmp_path, monkeypatch, copied_folder):
    folder = copied_folder("sdxl", tmp_path / "sdxl")
    monkeypatch.setattr("harness.weights.live_pipeline.CONFIGS", tmp_path)
    path = single_file_of(folder, tmp_path / "m.safetensors", v_pred=torch.zeros(0), ztsnr=torch.zeros(0))
    made = build_pipeline(open_model(path))
    assert (made.scheduler_config["prediction_type"], made.scheduler_config["rescale_betas_zero_snr"]) == ("v_prediction", True)
    assert len(made.notes) == 2


def unet_that(answer):
    class Unet:
        config = SimpleNamespace(in_channels=4, out_channels=4, cross_attention_dim=8)
        conv_in = SimpleNamespace(weight=torch.zeros(1))

        def __call__(self, noise, step, encoder_hidden_states):
            assert step == 999
            return SimpleNamespace(sample=answer(noise))
    return Unet()


def test_a_prediction_is_measured_by_what_is_left_of_the_noise(tmp_path):
    image = torch.randn(1, 4, 64, 64, generator=torch.Generator().manual_seed(1))
    said = [measured_prediction(tmp_path, unet_that(answer), {}) for answer in (
        lambda noise: 0.98 * noise + 0.1 * image, lambda noise: 0.07 * noise - 0.7 * image, lambda noise: -image)]
    assert said == ["epsilon", "v_prediction", "v_prediction"]
    for unclear in (lambda noise: noise + image, lambda noise: -noise, torch.zeros_like):
        with pytest.raises(ModelFileError, match=r"correlation (-?[01]\.\d\d|nan)\b.*scheduler_config\.json"):
            measured_prediction(tmp_path, unet_that(unclear), {})


def test_random_sdxl_follows_its_seed_and_gives_finite_answers(tmp_path, monkeypatch, copied_folder):
    folder = copied_folder("sdxl", tmp_path / "sdxl")
    for tokenizer in ("tokenizer", "tokenizer_2"):
        assert json.loads((folder / tokenizer / "tokenizer_config.json").read_text())["model_max_length"] == 9
    monkeypatch.setattr("harness.weights.live_pipeline.CONFIGS", tmp_path)
    first, again, other = (random_sdxl(seed, torch.float32) for seed in (1, 1, 2))
    weights = [p.parts["text_encoder_2"].text_projection.weight for p in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    added = {"text_embeds": torch.ones(1, 22), "time_ids": torch.ones(1, 6)}
    assert torch.isfinite(first.unet(torch.ones(1, 4, 8, 8), 1, torch.ones(1, 9, 32), added_cond_kwargs=added).sample).all()


def test_an_encoder_with_projection_computes_what_that_of_transformers_does():
    from transformers import CLIPTextModelWithProjection

    from harness.weights.clip_with_projection import ProjectedClip

    reference: CLIPTextModelWithProjection = theirs("sdxl").text_encoder_2
    with init_empty_weights():
        names = set(ProjectedClip(reference.config).state_dict())
    assert {n.removeprefix("text_model.") for n in reference.state_dict()} == names
    ours = ProjectedClip(reference.config).eval()
    ours.load_state_dict({n.removeprefix("text_model."): t for n, t in reference.state_dict().items()})
    ids = torch.tensor([[188, 3, 189, 0, 0, 0, 0, 0, 0]])
    found, expected = ours(ids, output_hidden_states=True), reference(ids, output_hidden_states=True)
    assert torch.equal(found.text_embeds, expected.text_embeds)
    assert all(map(torch.equal, found.hidden_states, expected.hidden_states))


def sparse(path, tensors):
    """A safetensors file of these (name, dtype, shape) that takes no room on the disk: all its values are holes, read as 0."""
    spans = lay_out(tensors)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(encode_header(spans, {}))
        file.truncate(file.tell() + data_bytes(spans))
    return path


@pytest.mark.parametrize(("family", "count"), [("sd2", 686 + 248 + 280), ("sdxl", 1680 + 248 + 197 + 389)])
def test_a_single_file_of_full_size_agrees_with_the_built_in_configs(tmp_path, family, count):
    for component in KINDS[family]:
        stem = "model" if component.startswith("text") else "diffusion_pytorch_model"
        sparse(tmp_path / "folder" / component / f"{stem}.safetensors",
               [(name, "F16", tuple(t.shape)) for name, t in built_in(family, component).state_dict().items()])
    layout = single_file_layout(open_model(tmp_path / "folder"))
    model = open_model(sparse(tmp_path / "m.safetensors", [(p.name, p.dtype, p.shape) for p in layout]))
    assert (model.family, len(layout)) == (family, count)
    shape_pipeline(model)


def test_the_last_layer_of_stable_diffusion_2_is_no_part_of_its_pipeline(tmp_path):
    before = "cond_stage_model.model."
    text = [(openclip_name(key).name, "F16", (3072, 1024) if openclip_name(key).third is not None else tuple(t.shape))
            for key, t in built_in("sd2", "text_encoder").state_dict().items()]
    last = [(name.replace(".22.", ".23."), dtype, shape) for name, dtype, shape in text if ".22." in name]
    tensors = {(before + name, dtype, shape) for name, dtype, shape in (*text, *last, ("text_projection", "F16", (1024, 1024)))
               if not name.endswith("in_proj_bias")} | {
        (f"{before}transformer.resblocks.{n}.attn.in_proj_bias", "F16", (3072,)) for n in range(24)}
    model = open_model(sparse(tmp_path / "m.safetensors", sorted(tensors)))
    refuse_disagreement(model, "text_encoder", built_in("sd2", "text_encoder"), tmp_path)
    assert (model.family, len(model.known_extras)) == ("sd2", 12 + 1)


@pytest.mark.parametrize(("family", "pads"), [("sd1", [49407]), ("sd2", [0]), ("sdxl", [49407, 0])])
def test_a_single_file_gets_the_padding_that_its_encoders_were_trained_with(family, pads):
    parts = {component: built_in(family, component) for component in KINDS[family]}
    encoders = _encoders(family, parts, CONFIGS / family)
    rows = [e.tokenizer("a ball!", padding="max_length")["input_ids"] for e in encoders]
    assert [row[5:] for row in rows] == [[pad] * 72 for pad in pads]
    assert all(row[3:5] == [256, 49407] for row in rows)
