"""Candidates whose components are quantized each by itself, and whose layers are in different modes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from harness import Adapter, Candidate, Merge, Mixed
from harness.declare import plain, restore
from harness.materialise.library import MaterialiseError
from harness.materialise.shape_model import shape_model
from harness.materialise.workbench import Prepared, Workbench
from harness.quantize import stored_bytes
from harness.text.embedding import embed

UP4 = Mixed(default="int8_weight_only", keys={"up_blocks.*": "int4_weight_only"})


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    return Workbench(device="cpu", root=tmp_path_factory.mktemp("bench"), steps=4)


def photo(quantization: Any, **more: Any) -> Candidate:
    return Candidate(name="c", model="zoo:photo", quantization=quantization, **more)


def tensors(module: Any) -> dict[str, torch.Tensor]:
    return {name: tensor.dequantize() if hasattr(tensor, "dequantize") and hasattr(tensor, "qdata") else tensor.clone()
            for name, tensor in module.state_dict().items()}


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def states(prepared: Prepared) -> torch.Tensor:
    return embed(prepared.pipeline.encoders[0], "a red ball").states


def by_component(prepared: Prepared) -> dict[str, str]:
    return {row.component: row.stage for row in prepared.coverage if row.stage.startswith("quantize")}


@pytest.mark.parametrize("mode", ["int8_weight_only", "gguf_q5_1", "nf4", "sdnq_uint4"])
def test_mixed_of_one_mode_and_a_mapping_of_the_denoiser_have_the_bits_of_the_mode(bench: Workbench, mode: str) -> None:
    alone = tensors(bench.prepare(photo(mode)).pipeline.unet)
    for same in (Mixed(default=mode), Mixed(default="fp32", keys={"*": mode}), {"unet": mode}, {"unet": Mixed(default=mode)}):
        assert equal(tensors(bench.prepare(photo(same)).pipeline.unet), alone)


def test_two_spellings_of_one_mode_make_the_same_pictures_once(bench: Workbench) -> None:
    assert bench.weights(photo({"unet": "nf4"})).identity == bench.weights(photo("nf4")).identity
    assert bench.weights(photo({"unet": "fp32"})).identity == bench.weights(photo("fp32")).identity
    for mixed in (Mixed(default="nf4"), Mixed(default="fp32", keys={"*": "nf4"})):
        assert bench.weights(photo(mixed)).identity == bench.weights(photo("nf4")).identity
    one, other = {"vae": "nf4"}, {"vae": Mixed(default="nf4"), "unet": "fp32"}
    assert bench.weights(photo(one)).identity == bench.weights(photo(other)).identity != bench.weights(photo("fp32")).identity


def test_each_layer_has_its_mode_and_the_last_pattern_that_matches_counts(bench: Workbench) -> None:
    mixed = Mixed(default="int8_weight_only", keys={"up_blocks.*": "int4_weight_only", "up_blocks.1.*": "fp32", "*.to_k.weight":
                                                    "nf4"})
    unet = bench.prepare(photo(mixed)).pipeline.unet
    stored = {path: layer.quantized.format for path, layer in unet.named_modules() if hasattr(layer, "quantized")}
    assert stored["up_blocks.0.resnets.0.conv1"] == "int4"
    assert "up_blocks.1.resnets.0.conv1" not in stored
    assert {kind for path, kind in stored.items() if path.endswith("to_k")} == {"nf4"}
    assert stored["mid_block.resnets.0.conv1"] == "int8"


@pytest.mark.parametrize("mode", ["sdnq_int8", "sdnq_uint4"])
def test_weights_are_those_of_the_alpha_that_is_declared_and_adapters_act(bench: Workbench, mode: str) -> None:
    def stored(alpha: float, *adapters: Adapter) -> dict[str, torch.Tensor]:
        model = Merge(a="zoo:photo", b="zoo:anime", alpha=alpha)
        return tensors(bench.prepare(replace(photo(mode), model=model, adapters=adapters)).pipeline.unet)

    first, middle, again = stored(0), stored(0.5), stored(0)
    assert equal(first, again)
    assert not equal(first, middle)
    assert equal(first, tensors(bench.prepare(photo(mode)).pipeline.unet))
    adapted = stored(0, Adapter(path="zoo:sketch"))
    assert {name: tensor for name, tensor in adapted.items() if "lora_" in name}
    base = {name.replace(".base_layer", ""): tensor for name, tensor in adapted.items() if "lora_" not in name}
    assert equal(base, first)
    assert equal(stored(0), first)


def test_a_quantized_text_encoder_gives_other_embeddings_which_no_other_candidate_shares(bench: Workbench) -> None:
    unquantized = bench.prepare(photo("fp32"))
    plain_states, plain_identity = states(unquantized), unquantized.phases[0].branches[0].text_identity
    prepared = bench.prepare(photo({"text_encoder": "nf4"}))
    assert by_component(prepared) == {"text_encoder": "quantize nf4", "unet": "quantize fp32"}
    assert prepared.phases[0].branches[0].text_identity != plain_identity
    error = (states(prepared) - plain_states).norm() / plain_states.norm()
    assert 0.001 < error < 0.5
    again = bench.prepare(photo("fp32"))
    assert torch.equal(states(again), plain_states)
    assert again.phases[0].branches[0].text_identity == plain_identity


def test_a_quantized_vae_decodes_nearly_alike_and_leaves_the_next_candidate_its_own(bench: Workbench) -> None:
    latents = torch.randn(1, bench.prepare(photo("fp32")).pipeline.vae.config.latent_channels, 8, 8,
                          generator=torch.Generator().manual_seed(0))

    def decoded(quantization: Any) -> torch.Tensor:
        with torch.inference_mode():
            decoding: torch.Tensor = bench.prepare(photo(quantization)).pipeline.vae.decode(latents).sample
        return decoding

    plain_picture, quantized_picture = decoded("fp32"), decoded({"vae": "int8_weight_only"})
    assert 0 < (quantized_picture - plain_picture).norm() / plain_picture.norm() < 0.1
    assert torch.equal(decoded("fp32"), plain_picture)


@pytest.mark.parametrize("quantization", [{"text_encoder": "nf4", "vae": "gguf_q8_0", "unet": UP4}, "fp8_weight_only", UP4,
                                          {"text_encoder": "sdnq_int8", "vae": "sdnq_float8_e4m3fn", "unet": "sdnq_uint4"}])
def test_the_memory_plan_counts_the_bytes_that_the_weights_then_take(bench: Workbench, quantization: Any) -> None:
    planned = shape_model(photo(quantization), bench)
    parts = bench.prepare(photo(quantization)).pipeline.parts
    assert planned.weights == {part: stored_bytes(module) for part, module in parts.items()}


@pytest.mark.parametrize(("quantization", "facts"), [
    ({"text_encoder_2": "nf4"}, ["'text_encoder_2'", "'text_encoder', 'unet', 'vae'"]),
    ({"transformer": "nf4"}, ["'transformer'", "'unet'"]),
    (Mixed(default="nf4", keys={"up_bloks.*": "fp32"}), ["unet", "'up_bloks.*' matches no weight"]),
    ({"vae": Mixed(default="nf4", keys={"conv_in.weight": "fp32"})}, ["vae", "'conv_in.weight' matches no weight"]),
    (Mixed(default="fp32", keys={"conv_in.*": "nf4"}), ["only weights that no mode quantizes", "'conv_in.weight'"])])
def test_what_is_not_in_the_model_is_refused_by_name_before_any_image(bench: Workbench, quantization: Any,
                                                                      facts: list[str]) -> None:
    with pytest.raises(MaterialiseError) as refused:
        bench.inspect(photo(quantization))
    assert all(fact in str(refused.value) for fact in facts), refused.value


def test_a_declaration_comes_back_from_its_data_with_the_order_of_the_patterns() -> None:
    candidate = photo({"vae": "nf4", "unet": Mixed(default="nf4", keys={"z*": "fp32", "a*": "int8_weight_only"})})
    again = restore(plain(candidate))
    assert again.key == candidate.key
    assert list(again.quantization["unet"].keys) == ["z*", "a*"]
    swapped = Mixed(default="nf4", keys={"a*": "int8_weight_only", "z*": "fp32"})
    assert photo(swapped).key != photo(Mixed(default="nf4", keys={"z*": "fp32", "a*": "int8_weight_only"})).key
