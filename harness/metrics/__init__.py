"""METRICS: functions from image arrays to values per image. One row describes a metric and each of its values."""

from __future__ import annotations

from typing import Final

from harness.declare.rows import Rows
from harness.metrics.clip_score import NO_LENGTH, measure_clip_score
from harness.metrics.contract import ImageScore, ImageSet, Metric
from harness.metrics.edges import NO_EDGES_IN_BOTH, NO_LINES, NO_OTHER_MAP, measure_control_edges, measure_edges
from harness.metrics.exposure import measure_exposure
from harness.metrics.likeness import NO_OTHER, NO_REFERENCE, measure_likeness
from harness.metrics.ms_ssim import measure_ms_ssim
from harness.metrics.palette import measure_palette
from harness.metrics.pose import NO_OTHER_POSE, measure_pose
from harness.metrics.psnr import IDENTICAL, measure_psnr
from harness.metrics.ssim import measure_ssim
from harness.metrics.structure import NO_EDGES, measure_structure
from harness.metrics.styles import measure_styles
from harness.metrics.user_metrics import adopt_metric
from harness.records import ValueSpec
from harness.records.values import PLACES

METRICS: Final[Rows[Metric]] = Rows({
    "clip_score": Metric(
        measure=measure_clip_score, version=2, needs_clip=True, paper="https://arxiv.org/abs/2104.08718",
        values=(
            ValueSpec(name="clip_score", title="CLIP score", unit="points", better="higher", low=-100.0, high=100.0,
                      shown=PLACES,
                      definition="100 x cosine of image and prompt embedding, not clamped; the mean of a longer prompt's parts"),
            ValueSpec(name="tokens_dropped", title="Tokens dropped", unit="tokens", better="lower", low=0.0, shown=(),
                      definition="prompt tokens that CLIP did not read; 0, as longer prompts are scored in parts",
                      undefined=NO_LENGTH),
        )),
    "psnr": Metric(
        measure=measure_psnr, version=1, paper="https://en.wikipedia.org/wiki/Peak_signal-to-noise_ratio",
        values=(
            ValueSpec(name="psnr_db", title="PSNR", unit="dB", better="higher", low=0.0, paired=True, symbol=" dB",
                      definition="10 log10(255^2 / MSE) to the baseline's image, on 8-bit RGB", shown=("figure",),
                      undefined=IDENTICAL),
            ValueSpec(name="exact_match", title="Exact matches", unit="share", better="higher", kind="flag", paired=True,
                      display="percent", definition="1 where the image equals the baseline's bit for bit", shown=()),
        )),
    "ssim": Metric(
        measure=measure_ssim, version=1, paper="https://doi.org/10.1109/TIP.2003.819861",
        values=(
            ValueSpec(name="ssim", title="SSIM", unit="share", better="higher", kind="share", paired=True, shown=(),
                      definition="mean structural similarity to the baseline's image, 1 where equal"),
        )),
    "ms_ssim": Metric(
        measure=measure_ms_ssim, version=1, paper="https://doi.org/10.1109/ACSSC.2003.1292216",
        values=(
            ValueSpec(name="ms_ssim", title="MS-SSIM", unit="share", better="higher", kind="share", paired=True, shown=(),
                      definition="structural similarity to the baseline's image at five scales, 1 where equal"),
        )),
    "palette": Metric(
        measure=measure_palette, version=2, paper="https://doi.org/10.1023/A:1026543900054",
        values=(
            ValueSpec(name="palette_drift", title="Palette drift", unit="dE00", better="lower", low=0.0, paired=True,
                      symbol=" dE00", definition="earth mover's distance to the baseline's k-means palette", shown=("caption",)),
            ValueSpec(name="chroma", title="Chroma", unit="C*ab", better="nearer", low=0.0, shown=(),
                      definition="mean distance of the pixels from gray in CIE Lab"),
        )),
    "exposure": Metric(
        measure=measure_exposure, version=1,
        values=(
            ValueSpec(name="overexposed_share", title="Over-exposed pixels", unit="share", better="lower", kind="share",
                      display="percent", definition="pixels with any channel at 254 or more", shown=()),
            ValueSpec(name="underexposed_share", title="Under-exposed pixels", unit="share", better="lower", kind="share",
                      display="percent", definition="pixels with any channel at 1 or less", shown=()),
            ValueSpec(name="clipped_share", title="Clipped pixels", unit="share", better="lower", kind="share", display="percent",
                      definition="pixels with any channel at 254 or more, or at 1 or less",
                      shown=PLACES),
            ValueSpec(name="saturation", title="Saturation", unit="share", better="nearer", kind="share", digits=3,
                      definition="mean saturation of HSV over the pixels", shown=("column", "figure", "caption")),
        )),
    "structure": Metric(
        measure=measure_structure, version=1, paper="https://doi.org/10.1023/A:1008009714131",
        values=(
            ValueSpec(name="edge_jaggedness", title="Edge jaggedness", unit="share", better="lower", kind="share", shown=(),
                      definition="1 - mean structure-tensor coherence of edge pixels; 0 is clean", undefined=NO_EDGES),
            ValueSpec(name="luma_sd", title="Contrast (SD of luma)", unit="levels", better="nearer", low=0.0, high=127.5,
                      shown=(), definition="standard deviation of the pixels' luma, in 8-bit levels"),
        )),
    "control_edges": Metric(
        measure=measure_control_edges, version=1, uses_pictures=True, paper="https://doi.org/10.1109/TPAMI.1986.4767851",
        values=(
            ValueSpec(name="control_f1", title="Control obeyed (edge F1)", unit="share", better="higher", kind="share",
                      definition="F1 of the image's edges with the lines of its control map, within 0.4 % of the short side, at "
                                 "least 1 pixel", shown=PLACES, undefined=NO_LINES),
            ValueSpec(name="control_f1_chance", title="Control obeyed by chance", unit="share", better="nearer", kind="share",
                      shown=(), definition="the same with the control map of the next prompt", undefined=NO_OTHER_MAP),
            ValueSpec(name="edge_density", title="Edge density", unit="share", better="nearer", kind="share", shown=(), digits=3,
                      definition="pixels that are edges (Canny, thresholds 10 and 25 levels per pixel)"),
        )),
    "edges": Metric(
        measure=measure_edges, version=1, paper="https://doi.org/10.1109/TPAMI.1986.4767851",
        values=(
            ValueSpec(name="edge_f1", title="Edges kept (F1)", unit="share", better="higher", kind="share", paired=True,
                      shown=("figure", "caption"), undefined=NO_EDGES_IN_BOTH,
                      definition="F1 of the image's edges with those of the baseline's image, within 0.4 % of the short side, at "
                                 "least 1 pixel"),
        )),
    "likeness": Metric(
        measure=measure_likeness, version=2, needs_clip=True, uses_pictures=True, paper="https://arxiv.org/abs/2208.12242",
        values=(
            ValueSpec(name="likeness", title="Likeness to the reference", unit="points", better="higher", low=-100.0, high=100.0,
                      shown=PLACES, undefined=NO_REFERENCE,
                      definition="100 x cosine of the CLIP embeddings of the image and of its prompt's reference picture"),
            ValueSpec(name="likeness_margin", title="Likeness before other references", unit="points", better="higher",
                      low=-200.0, high=200.0, shown=(), undefined=NO_OTHER,
                      definition="likeness less the mean of that to the references of the other prompts"),
            ValueSpec(name="reference_recognised", title="Reference recognised", unit="share", better="higher", kind="flag",
                      display="percent", shown=("column",), undefined=NO_OTHER,
                      definition="1 where no reference of another prompt is as near to the image as its own"),
        )),
    "pose": Metric(
        measure=measure_pose, version=1, uses_poses=True, paper="https://doi.org/10.1109/ICCV.2017.48",
        values=(
            ValueSpec(name="pose_oks", title="Pose obeyed (OKS)", unit="share", better="higher", kind="share", shown=PLACES,
                      definition="object keypoint similarity (COCO) of the wanted persons and those that a detector finds; 0 for "
                                 "a person that is not found"),
            ValueSpec(name="pose_oks_chance", title="Pose obeyed by chance", unit="share", better="nearer", kind="share",
                      shown=(), definition="the same with the pose of the next prompt", undefined=NO_OTHER_POSE),
            ValueSpec(name="pose_persons", title="Persons found", unit="persons", better="nearer", low=0.0, shown=(),
                      definition="persons that the detector finds with a score of at least 0.5"),
        )),
    "styles": Metric(
        measure=measure_styles, version=1, needs_clip=True, uses_styles=True, paper="https://arxiv.org/abs/2103.00020",
        values=(
            ValueSpec(name="style_certainty", title="Certainty of the look", unit="share", better="nearer", kind="share",
                      shown=(), definition="probability of the likeliest of the suite's styles, by CLIP"),
        )),
}, word="metric", kind=Metric, group="sweetspot.metrics", adopt=adopt_metric)

__all__ = ["METRICS", "ImageScore", "ImageSet", "Metric", "ValueSpec"]
