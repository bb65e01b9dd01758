"""The known architectures are recognised by their names in every spelling, and what is not one of them is not."""

from __future__ import annotations

import pytest

from harness.weights.architectures import ARCHITECTURES, PREFIXES, beside, recognise
from harness.weights.safetensors_header import StoredTensor
from tests.weights.architecture_names import DIFFUSERS, MODELS, SPELLINGS, Shapes, tensors_of

UNTESTED = {"unCLIP", "Wan Animate", "Sana-Video", "LTX-2"}
"""Recognised for messages by one name that they have; their files are merged like all others."""


def stored(shapes: Shapes, prefix: str = "") -> dict[str, StoredTensor]:
    return {prefix + name: StoredTensor(dtype="BF16", shape=shape) for name, shape in shapes.items()}


@pytest.mark.parametrize(("name", "by"), SPELLINGS)
def test_a_model_is_recognised_in_each_spelling_under_each_prefix(name: str, by: str) -> None:
    for prefix in ("", *PREFIXES):
        found = recognise(stored(tensors_of(name, by), prefix))
        assert found is not None
        assert found.name == name
        assert len(MODELS[name]) == 1 or found.names.by.endswith(DIFFUSERS) == (by == DIFFUSERS)


@pytest.mark.parametrize(("name", "by"), SPELLINGS)
def test_its_layers_are_among_its_names_in_the_order_of_the_row(name: str, by: str) -> None:
    shapes = tensors_of(name, by)
    found = recognise(stored(shapes))
    assert found is not None
    assert any(tensor.startswith(f"{found.names.layers[-1]}.0.") for tensor in shapes)
    assert not beside(shapes)


def test_every_row_and_variant_has_its_names_here() -> None:
    named = {name for row in ARCHITECTURES for name in ([one.name for one in row.variants] or [row.name])}
    assert named - MODELS.keys() == UNTESTED


@pytest.mark.parametrize(("names", "what"), [
    (("vae.decoder.up.0.block.0.conv1.weight", "first_stage_model.encoder.conv_in.weight"), "a VAE"),
    (("decoder.up_blocks.0.resnets.0.conv1.weight", "quant_conv.weight"), "a VAE"),
    (("text_encoders.qwen3_4b.transformer.model.layers.0.mlp.up_proj.weight",), "a text encoder"),
    (("text_encoder.model.embed_tokens.weight", "model.layers.0.self_attn.q_proj.weight"), "a text encoder"),
    (("llm.lm_head.weight", "encoder.block.0.layer.0.SelfAttention.q.weight"), "a text encoder")])
def test_what_could_be_another_component_is_found_among_the_names_of_a_denoiser(names: tuple[str, ...], what: str) -> None:
    assert beside([*names, "blocks.0.attn.q.weight"]) == {what: list(names)}
