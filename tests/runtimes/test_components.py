"""VAEs and text encoders as graphs: what eager computes, with exactly the weights that were given, however a text is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL

from harness.declare.syntax import parse
from harness.runtimes import RUNTIMES, Graph, Runtime, adopt_runtime
from harness.runtimes.entry import Entry, Size
from harness.runtimes.graph_cache import Graphs
from harness.runtimes.guard import distance, guard_inputs
from harness.runtimes.text_entry import text_entry
from harness.runtimes.vae_entry import DECODER, ENCODER
from harness.text import PLAIN, Treatment, Word, embed
from harness.text.encoder_forward import clip_skip_problem, states_by_layer
from harness.text.tokens import Layout
from harness.weights import TextEncoder
from tests.runtimes.conftest import offered
from tests.tiny_pipelines.text_encoders import clip
from tests.tiny_pipelines.tokenizers import clip_tokenizer

NEAR = 2e-5
TOKENS = 9


def small_vae() -> AutoencoderKL:
    torch.manual_seed(0)
    vae = AutoencoderKL(down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
                        block_out_channels=(4, 8), layers_per_block=1, norm_num_groups=2, sample_size=16)
    for parameter in vae.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return vae.eval().requires_grad_(False)


def small_encoder(component: str) -> TextEncoder:
    """SD1's, which takes its last layer, or the second of SDXL, which takes the penultimate one and pools."""
    torch.manual_seed(1)
    second = component == "text_encoder_2"
    module = clip(20 if second else 12, 3, projected=second).eval().requires_grad_(False)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return TextEncoder(component=component, module=module, tokenizer=clip_tokenizer("!" if second else "<|endoftext|>"),
                       layer="penultimate" if second else "last", pooled=second)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A component, how it is called, and what PyTorch computes of the same inputs."""

    module: Any
    entry: Entry
    size: Size
    eager: Callable[[dict[str, torch.Tensor]], torch.Tensor]

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        return {name: tensor for name, tensor in self.module.state_dict().items() if self.entry.takes(name)}


def layout(given: dict[str, torch.Tensor]) -> Layout:
    """The guard's text, with its one vector as that of a word."""
    [place] = given["replaced"][0, :, 0].nonzero()[:, 0].tolist()
    word = Word(component="", token="w", vectors=given["vectors"][0, place:place + 1])
    return Layout(ids=tuple(given["ids"][0].tolist()), rows=((place, word, 0),), weights=(), dropped=(), occurring=frozenset())


def case(name: str) -> Case:
    if name in ("decoder", "encoder"):
        vae = small_vae()
        return Case(module=vae, size=(4, 6) if name == "decoder" else (8, 12), entry=DECODER if name == "decoder" else ENCODER,
                    eager=lambda given: vae.decode(given["sample"]).sample if name == "decoder" else
                    vae.encode(given["sample"]).latent_dist.mode())
    encoder = small_encoder(name)
    return Case(module=encoder.module, size=(TOKENS,), entry=text_entry(normed=encoder.layer == "last", pooled=encoder.pooled),
                eager=lambda given: states_by_layer(encoder, encoder.module, layout(given)))


@pytest.fixture(params=["decoder", "encoder", "text_encoder", "text_encoder_2"])
def component(request: pytest.FixtureRequest) -> Case:
    return case(request.param)


def opened(runtime: str, of: Case, graphs: Graphs) -> tuple[Any, Graph]:
    graph = graphs.of(of.module, "float32", of.size, of.entry)
    open_ = RUNTIMES[offered(runtime)].open
    assert open_ is not None
    return open_(graph, "cpu"), graph


@pytest.fixture(params=["onnxruntime", "onnxruntime_live", "openvino"])
def runtime(request: pytest.FixtureRequest) -> Iterator[str]:
    yield offered(request.param)


def test_there_and_back_is_that_of_eager_each_time(runtime: str, component: Case, graphs: Graphs) -> None:
    executor, graph = opened(runtime, component, graphs)
    given = guard_inputs(graph, component.entry, component.module.config, component.size, torch.device("cpu"))
    outputs, weights = [], component.weights
    with torch.inference_mode():
        for factor in (1.0, 1.3, 1 / 1.3):
            for tensor in weights.values():
                tensor.mul_(factor)
            executor.refresh(weights, str(factor))
            outputs.append(executor(given).clone())
            assert distance(outputs[-1], component.eager(given)) < NEAR
    assert distance(outputs[0], outputs[1]) > 0.01
    assert distance(outputs[2], outputs[0]) < 1e-4


def test_each_weight_by_itself_arrives(component: Case, graphs: Graphs) -> None:
    executor, graph = opened("onnxruntime_live", component, graphs)
    given = guard_inputs(graph, component.entry, component.module.config, component.size, torch.device("cpu"))
    generator, weights = torch.Generator().manual_seed(3), component.weights
    assert set(graph.weights) == set(weights)
    with torch.inference_mode():
        executor.refresh(weights, "plain")
        plain = executor(given).clone()
        for name, tensor in weights.items():
            before = tensor.clone()
            tensor.add_(torch.randn(tensor.shape, generator=generator))
            after = executor(given)
            assert distance(after, component.eager(given)) < NEAR, name
            # A softmax does not see the bias of keys.
            assert distance(after, plain) > 10 * NEAR or name.endswith(("to_k.bias", "k_proj.bias")), name
            tensor.copy_(before)


def test_a_vae_takes_any_number_of_pictures_each_by_itself(runtime: str, graphs: Graphs) -> None:
    of = case("decoder")
    executor, _ = opened(runtime, of, graphs)
    executor.refresh(of.weights, "a")
    latents = torch.randn(5, 4, *of.size, generator=torch.Generator().manual_seed(2))
    alone = torch.cat([executor({"sample": one[None].contiguous()}).clone() for one in latents])
    assert alone.shape == (5, 3, 8, 12)
    assert torch.equal(alone, executor({"sample": latents}))


TEXTS = ("a cat", "", "a (red:1.4) cat [dim]", "many words that do not fit into one chunk of nine tokens", "a sks dog")
WORD = torch.randn(2, 12, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("name", ["text_encoder", "text_encoder_2"])
def test_texts_are_read_as_by_the_module_itself(runtime: str, name: str, graphs: Graphs) -> None:
    encoder = small_encoder(name)
    of = case(name)
    executor, _ = opened(runtime, of, graphs)
    executor.refresh(of.weights, "a")
    executed = replace(encoder, executed=lambda ids, vectors, replaced: executor(
        {"ids": ids, "vectors": vectors, "replaced": replaced}))
    words = (Word(component="text_encoder", token="sks", vectors=WORD),)
    skips = [layers for layers in (2, 3) if not clip_skip_problem(encoder, layers)]
    treatments = (PLAIN, Treatment(words=words), Treatment(weights={"cat": 1.5}),
                  Treatment(weights={"cat": 0.5}, method="comfyui"), *(Treatment(words=words, clip_skip=one) for one in skips))
    for text in (*TEXTS, parse("a (cat:1.3)", "a1111").spans(1)[0].text):
        for treatment in treatments:
            made, expected = (embed(one, text, treatment) for one in (executed, encoder))
            assert distance(made.states, expected.states) < NEAR, (text, treatment)
            assert (made.pooled is None) == (expected.pooled is None)
            assert expected.pooled is None or distance(made.pooled, expected.pooled) < NEAR
            assert made.occurring == expected.occurring


def test_a_layer_that_is_not_there_is_refused_as_by_the_module_itself(graphs: Graphs) -> None:
    encoder = replace(small_encoder("text_encoder"), executed=lambda *_: torch.zeros(1, 0))
    with pytest.raises(ValueError, match="expected 1 to 3"):
        embed(encoder, "a cat", Treatment(clip_skip=4))


def test_what_a_runtime_executes_of_a_model_is_in_its_row() -> None:
    able = {name for name, row in RUNTIMES.items() if row.executes("vae") and row.executes("text_encoder_2")}
    assert able == {"onnxruntime", "onnxruntime_live", "openvino"}  # what is left in eager is in no row's hands
    assert all(row.executes(part) for row in RUNTIMES.values() for part in ("unet", "transformer", "denoiser"))
    refused = partial(adopt_runtime, "mine:ROW")
    for row, fact in ((Runtime(description="", apply=lambda module: module, components=frozenset({"vae"})), "denoiser alone"),
                      (Runtime(description="", open=RUNTIMES["openvino"].open, components=frozenset({"vea"})), "vea"),
                      (Runtime(description="", open=RUNTIMES["openvino"].open, components=frozenset()), "expected some of")):
        with pytest.raises(ValueError, match=fact):
            refused(row)
