"""The tiny pipelines with perturbed-attention guidance: the parts of the class without it."""

from __future__ import annotations

from collections.abc import Mapping

from tests.tiny_pipelines.named import NAMED
from tests.tiny_pipelines.others import OTHERS
from tests.tiny_pipelines.row import Tiny

_WITHOUT = ("HunyuanDiTPipeline", "PixArtSigmaPipeline", "SanaPipeline", "StableDiffusion3Pipeline", "StableDiffusionPipeline",
            "StableDiffusionXLPipeline")
PERTURBED: Mapping[str, Tiny] = {name.replace("Pipeline", "PAGPipeline"): (NAMED | OTHERS)[name] for name in _WITHOUT}
