"""METRICS: arrays in, per-image values out.

The run calls each row's `measure` with one candidate's ImageSet and journals the scores.
"""

from __future__ import annotations

from typing import Final

from harness.metrics.clip_score import measure_clip_score
from harness.metrics.contract import ImageScore, ImageSet, Metric, ValueSpec
from harness.metrics.exposure import measure_exposure
from harness.metrics.palette import measure_palette
from harness.metrics.psnr import measure_psnr
from harness.metrics.ssim import measure_ssim
from harness.metrics.structure import measure_structure
from harness.metrics.styles import measure_styles

METRICS: Final[dict[str, Metric]] = {
    "clip_score": Metric(
        measure=measure_clip_score, version=2, paper="https://arxiv.org/abs/2104.08718",
        values=(
            ValueSpec("clip_score", "points", "higher", "100 x cosine of image and prompt embedding, not clamped"),
            ValueSpec("tokens_dropped", "tokens", "lower", "prompt tokens beyond the context, which CLIP did not read"),
        )),
    "psnr": Metric(
        measure=measure_psnr, version=1, paired=True, paper="https://en.wikipedia.org/wiki/Peak_signal-to-noise_ratio",
        values=(
            ValueSpec("psnr_db", "dB", "higher", "10 log10(255^2 / MSE) to the baseline's image, on 8-bit RGB"),
            ValueSpec("exact_match", "share", "higher", "1 where the image equals the baseline's bit for bit"),
        )),
    "ssim": Metric(
        measure=measure_ssim, version=1, paired=True, paper="https://doi.org/10.1109/TIP.2003.819861",
        values=(ValueSpec("ssim", "share", "higher", "mean structural similarity to the baseline's image, 1 where equal"),)),
    "palette": Metric(
        measure=measure_palette, version=2, paired=True, paper="https://doi.org/10.1023/A:1026543900054",
        values=(
            ValueSpec("palette_drift", "dE00", "lower", "earth mover's distance to the baseline's k-means palette"),
            ValueSpec("chroma", "C*ab", "nearer", "mean distance of the pixels from gray in CIE Lab"),
        )),
    "exposure": Metric(
        measure=measure_exposure, version=1,
        values=(
            ValueSpec("overexposed_share", "share", "lower", "pixels with any channel at 254 or more"),
            ValueSpec("underexposed_share", "share", "lower", "pixels with any channel at 1 or less"),
            ValueSpec("clipped_share", "share", "lower", "pixels with any channel at 254 or more, or at 1 or less"),
            ValueSpec("saturation", "share", "nearer", "mean saturation of HSV over the pixels"),
        )),
    "structure": Metric(
        measure=measure_structure, version=1, paper="https://doi.org/10.1023/A:1008009714131",
        values=(
            ValueSpec("edge_jaggedness", "share", "lower", "1 - mean structure-tensor coherence of edge pixels; 0 is clean"),
            ValueSpec("luma_sd", "levels", "nearer", "standard deviation of the pixels' luma, in 8-bit levels"),
        )),
    "styles": Metric(
        measure=measure_styles, version=1, paper="https://arxiv.org/abs/2103.00020",
        values=(ValueSpec("style_certainty", "share", "nearer", "probability of the likeliest of the suite's styles, by CLIP"),)),
}

CLIP_METRICS: Final = frozenset({"clip_score", "styles"})
"""Those that need the suite's CLIP model."""

__all__ = ["CLIP_METRICS", "METRICS", "ImageScore", "ImageSet", "Metric", "ValueSpec"]
