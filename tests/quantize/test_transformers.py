"""The integer modes leave the same few layers of SD3's and Flux's transformers as they are that they leave of U-Nets."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from harness import Candidate
from harness.materialise.content_identity import _versions
from harness.materialise.library import Library
from harness.quantize import QUANTIZATION_MODES
from tests.materialise.tiny_dit import flux
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


def test_records_made_before_are_not_those_of_a_transformer_that_keeps_them(tmp_path: Path) -> None:
    """Of the integer modes alone, and of transformers alone: U-Nets kept theirs before."""
    save_file(flux(1), tmp_path / "flux.safetensors")
    library, treatment = Library(tmp_path), "kept layers of flow models"
    candidates = [Candidate(name="a", model="flux.safetensors", quantization=mode) for mode in ("int4_weight_only", "bf16")]
    candidates.append(Candidate(name="b", model="zoo:base", quantization="int4_weight_only"))
    assert [treatment in _versions(candidate, library) for candidate in candidates] == [True, False, False]
