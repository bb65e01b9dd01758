"""The integer modes leave the same few layers of SD3's and Flux's transformers as they are that they leave of U-Nets."""

import pytest
import torch

from harness.quantize import QUANTIZATION_MODES
from tests.weights.pipelines import theirs


@pytest.mark.parametrize("family", ["sd3", "flux"])
@pytest.mark.parametrize("mode", ["int8_weight_only", "int4_weight_only"])
def test_the_first_and_last_layers_and_the_embeddings_of_a_transformer_are_kept(family: str, mode: str) -> None:
    transformer = theirs(family).transformer
    report = QUANTIZATION_MODES[mode].apply(transformer)
    layers = {name.removesuffix(".weight") for name in report.quantized}
    blocks = ("transformer_blocks.", "single_transformer_blocks.")
    assert layers
    assert all(name.startswith(blocks) for name in layers), sorted(name for name in layers if not name.startswith(blocks))
    assert isinstance(transformer.proj_out, torch.nn.Linear)
