"""Every family gives the pictures that diffusers' own pipeline of the same weights gives, from a folder and from a file."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from diffusers import DDIMScheduler

from harness.quantize import QUANTIZATION_MODES
from harness.weights import (
    Call,
    added_conditions,
    build_pipeline,
    call_pipeline,
    embed_text,
    latent_shape,
    open_model,
    unscaled,
    with_part,
)
from tests.weights.pipelines import CALLED, FAMILIES, SAMPLED, folder_of, reread, single_file_of, theirs

TEXTS, NEGATIVES = ("a dog!", "fox"), ("", "bad hat")
WIDTH, HEIGHT, STEPS = 24, 16, 3


@pytest.fixture(scope="module")
def pipes(saved_folder):
    """{family: (diffusers' pipeline, its folder)}"""
    folders = {family: saved_folder(family) for family in (*FAMILIES, "flux-schnell")}
    return {family: (reread(folder), folder) for family, folder in folders.items()}


def noise_for(pipeline, width=WIDTH, height=HEIGHT):
    shape = latent_shape(pipeline, width, height)
    return torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in (5, 6)])


def embed(encoders, text):
    """The states of all encoders side by side, and the pooled embedding or None: what `layer` and `pooled` mean."""
    states, pooled = [], None
    for encoder in encoders:
        out = encoder.module(torch.tensor(encoder.tokenizer([text], padding="max_length", truncation=True).input_ids),
                             output_hidden_states=True)
        states.append(out.last_hidden_state[0] if encoder.layer == "last" else out.hidden_states[-2][0])
        pooled = out.text_embeds[0] if encoder.pooled else pooled
    return torch.cat(states, dim=-1), pooled


def picture(pipeline, guidance):
    """Three steps of DDIM and the decoder: what sampling does with a pipeline, as plainly as it can be said."""
    scheduler = DDIMScheduler.from_config(pipeline.scheduler_config)
    scheduler.set_timesteps(STEPS)
    texts = [embed(pipeline.encoders, text) for text in (*NEGATIVES, *TEXTS)]
    states = torch.stack([state for state, _ in texts])
    pooled = torch.stack([one for _, one in texts]) if pipeline.family == "sdxl" else None
    added = added_conditions(pipeline, pooled, WIDTH, HEIGHT)
    latents = noise_for(pipeline)
    for step in scheduler.timesteps:
        low, high = pipeline.unet(torch.cat([latents] * 2), step, states, added_cond_kwargs=added).sample.chunk(2)
        latents = scheduler.step(low + guidance * (high - low), step, latents).prev_sample
    return pixels(pipeline, latents)


def pixels(pipeline, latents):
    return (pipeline.vae.decode(unscaled(pipeline, latents)).sample / 2 + 0.5).clamp(0, 1)


def asked(pipeline, pipe, **options):
    return pipe(prompt=list(TEXTS), latents=noise_for(pipeline), num_inference_steps=STEPS, width=WIDTH, height=HEIGHT,
                output_type="pt", **options).images


@pytest.mark.parametrize("family", SAMPLED)
def test_the_states_of_a_text_are_those_of_diffusers(pipes, family):
    pipe, folder = pipes[family]
    pipeline = build_pipeline(open_model(folder))
    options = {} if family == "sdxl" else {"num_images_per_prompt": 1}
    for text in ("a dog!", "", "far too long to fit in"):
        found = pipe.encode_prompt(text, device="cpu", do_classifier_free_guidance=False, **options)
        state, pooled = embed(pipeline.encoders, text)
        assert torch.equal(state, found[0][0])
        if family == "sdxl":
            # One matrix times one vector: the last bit depends on where the vector lies in memory.
            torch.testing.assert_close(pooled, found[2][0], atol=1e-6, rtol=0)
        else:
            assert pooled is None


@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize("family", SAMPLED)
def test_a_whole_picture_is_that_of_diffusers(pipes, tmp_path, family, single):
    pipe, folder = pipes[family]
    path = single_file_of(folder, tmp_path / "m.safetensors") if single else folder
    pipeline = build_pipeline(open_model(path), folder)
    expected = asked(pipeline, pipe, guidance_scale=4.0, negative_prompt=list(NEGATIVES))
    assert float(expected.std()) > 0.05
    torch.testing.assert_close(picture(pipeline, 4.0), expected, atol=1e-4, rtol=0)


def test_the_sizes_of_an_image_are_given_as_diffusers_gives_them(pipes):
    pipe, folder = pipes["sdxl"]
    found = added_conditions(build_pipeline(open_model(folder)), torch.ones(3, 22), 640, 512)
    expected = pipe._get_add_time_ids((512, 640), (0, 0), (512, 640), torch.float32, text_encoder_projection_dim=22)
    assert torch.equal(found["time_ids"], expected.repeat(3, 1))
    assert torch.equal(found["text_embeds"], torch.ones(3, 22))


def call_of(pipeline, negatives, guidance, steps):
    return Call(positive=tuple(embed_text(pipeline, text) for text in TEXTS),
                negative=tuple(embed_text(pipeline, text) for text in negatives) if guidance != 1 else (),
                negatives=negatives, guidance=guidance, steps=steps, width=WIDTH, height=HEIGHT)


@pytest.mark.parametrize("guidance", [1.0, 4.0])
@pytest.mark.parametrize("family", [*CALLED, "flux-schnell"])
def test_a_called_family_gives_the_pictures_of_its_seeds(pipes, family, guidance):
    pipe, folder = pipes[family]
    pipeline = build_pipeline(open_model(folder))
    negatives = ("", "") if family == "flux" else NEGATIVES
    call = call_of(pipeline, negatives, guidance, STEPS)
    latents = call_pipeline(pipeline, call, noise_for(pipeline))
    options = {"sd3": {"guidance_scale": guidance, "negative_prompt": list(NEGATIVES)}, "flux": {"guidance_scale": guidance},
               "flux-schnell": {"true_cfg_scale": guidance, "negative_prompt": list(NEGATIVES), "max_sequence_length": 256}}
    expected = pipe(prompt=list(TEXTS), generator=[torch.Generator().manual_seed(seed) for seed in (5, 6)], output_type="pt",
                    num_inference_steps=STEPS, width=WIDTH, height=HEIGHT, **options[family]).images
    assert float(expected.std()) > 0.05
    torch.testing.assert_close(pixels(pipeline, latents), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("family", CALLED)
def test_a_called_pipeline_follows_changed_weights_and_exchanged_parts(pipes, family):
    pipeline = build_pipeline(open_model(pipes[family][1]))
    assert pipeline.called.transformer is pipeline.denoiser
    call = call_of(pipeline, ("", ""), 2.0, 1)
    first, noise = call_pipeline(pipeline, call, noise_for(pipeline)), noise_for(pipeline)
    pipeline.encoders[-1].module.get_input_embeddings().weight.zero_()
    second = call_pipeline(pipeline, call_of(pipeline, ("", ""), 2.0, 1), noise)
    other = build_pipeline(open_model(pipes[family][1])).denoiser
    for parameter in other.parameters():
        parameter.zero_()
    exchanged = with_part(pipeline, "transformer", other)
    third = call_pipeline(exchanged, call, noise)
    assert exchanged.called.transformer is other
    assert not torch.equal(first, second)
    assert torch.equal(third, noise)


def test_stable_diffusion_3_does_without_its_t5_encoder(tmp_path):
    pipe = theirs("sd3")
    pipe.register_modules(text_encoder_3=None, tokenizer_3=None)
    pipeline = build_pipeline(open_model(folder_of(pipe, tmp_path)))
    pipe = reread(tmp_path, "text_encoder_3", "tokenizer_3")
    call = call_of(pipeline, NEGATIVES, 3.0, STEPS)
    expected = asked(pipeline, pipe, guidance_scale=3.0, negative_prompt=list(NEGATIVES))
    torch.testing.assert_close(pixels(pipeline, call_pipeline(pipeline, call, noise_for(pipeline))), expected, atol=1e-4, rtol=0)


def test_what_a_called_family_would_ignore_is_refused(pipes):
    flux, sd3 = (build_pipeline(open_model(pipes[family][1])) for family in ("flux", "sd3"))
    call = Call(positive=(), negative=(), negatives=("bad",), guidance=2.0, steps=1, width=16, height=16)
    weaker = replace(call, negatives=("",), guidance=0.5)
    with pytest.raises(ValueError, match="negative text 'bad': this Flux transformer is guidance-distilled"):
        call_pipeline(flux, call, torch.zeros(1, 4, 8, 8))
    with pytest.raises(ValueError, match=r"guidance 0\.5: .*\bsd3\b.*\b1 or more"):
        call_pipeline(sd3, weaker, torch.zeros(1, 4, 8, 8))


@pytest.mark.parametrize(("family", "odd"), [("sdxl", 23), ("sd3", 22), ("flux", 22)])
def test_latents_have_the_shape_that_the_family_takes(pipes, family, odd):
    pipeline = build_pipeline(open_model(pipes[family][1]))
    assert latent_shape(pipeline, WIDTH, HEIGHT) == (4, 8, 12)
    with pytest.raises(ValueError, match="expected multiples of"):
        latent_shape(pipeline, odd, HEIGHT)


@pytest.mark.parametrize("family", CALLED)
def test_a_called_family_takes_a_transformer_in_half_precision(pipes, family):
    pipeline = build_pipeline(open_model(pipes[family][1]))
    smaller = deepcopy(pipeline.denoiser)
    QUANTIZATION_MODES["bf16"].apply(smaller)
    call = call_of(pipeline, ("", ""), 1.0, 1)
    full, half = (call_pipeline(p, call, noise_for(pipeline)) for p in (pipeline, with_part(pipeline, "transformer", smaller)))
    assert not torch.equal(full, half)
    torch.testing.assert_close(half, full, atol=0.3 * float(full.std()), rtol=0)
