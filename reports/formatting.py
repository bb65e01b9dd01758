"""Numbers, names and colours as readers see them: units, n and intervals."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from harness.records import text as harmless
from reports.statistics.intervals import SHARES, Estimate

TITLES: Final = {
    "objective": "Objective", "clip_score": "CLIP score", "clipped_share": "Clipped pixels",
    "saturation": "Saturation", "palette_left": "Left the usual colour", "palette_drift": "Palette drift",
    "psnr_db": "PSNR", "exact_match": "Exact matches", "overexposed_share": "Over-exposed pixels",
    "underexposed_share": "Under-exposed pixels", "chroma": "Chroma", "tokens_dropped": "Tokens dropped",
    "coverage": "Keys lost", "failures": "Failures", "seconds_per_image": "Seconds per image", "peak_bytes": "Peak memory",
    "edge_jaggedness": "Edge jaggedness", "luma_sd": "Contrast (SD of luma)", "style_certainty": "Certainty of the look",
    "ssim": "SSIM", "rating": "Rating by people", "preferred": "Duels won",
    "failure_rate": "Failure rate", "identities": "Identities broken", "desirability": "Desirability",
}
PERCENT: Final = SHARES
visible: Final = harmless.visible
COLOURS: Final = {
    "red": "#d7263d", "orange": "#f08a24", "yellow": "#f2c91d", "green": "#2e9e4f", "blue": "#2563eb",
    "purple": "#7e3ab8", "pink": "#ef6fa8", "brown": "#8a5a33", "black": "#1c1c1f", "white": "#f7f7f4",
    "gray": "#8b8f96", "grey": "#8b8f96", "cyan": "#18b6c9", "teal": "#12817f", "magenta": "#cc2fb4",
    "cream": "#efe3c2", "skin": "#e0b08c", "glass": "#b9d7e0", "none": "#c9ccd1",
}
UNKNOWN_COLOUR: Final = "#b3a9c4"


def title(value: str) -> str:
    """The reader's name of a value; an unknown one is its own name with spaces."""
    return TITLES.get(value, visible(value).replace("_", " "))


def number(value: float | None, name: str = "") -> str:
    """A number in its unit's usual precision, by value name; None and NaN are "not measured"."""
    if value is None or math.isnan(value):
        return "not measured"
    if name in PERCENT:
        return f"{_minus(f'{100 * value:.1f}')} %"
    if name == "peak_bytes":
        return size(value)
    if name == "seconds_per_image":
        return duration(value)
    return _minus(f"{value:.3f}" if name == "saturation" else f"{value:.2f}") + _unit(name)


def _unit(name: str) -> str:
    return {"psnr_db": " dB", "palette_drift": " dE00"}.get(name, "")


def signed(value: float | None, name: str = "") -> str:
    """As `number`, with a sign in front of positive values: for differences."""
    said = number(value, name)
    return said if value is None or value <= 0 or math.isnan(value) else f"+{said}"


def interval(low: float | None, high: float | None, name: str = "") -> str:
    """An interval as "[0.4, 1.9]", in the unit of `number`; "no interval" when there is none."""
    if low is None or high is None:
        return "no interval"
    return f"[{number(low, name)}, {number(high, name)}]"


def estimate(of: Estimate, name: str = "", *, difference: bool = False) -> str:
    """Mean, 95 % interval and n in one phrase: "78.20 [77.10, 79.30], 8 prompts, 16 images"."""
    if of.mean is None:
        return f"not measured: {of.why}"
    mean = signed(of.mean, name) if difference else number(of.mean, name)
    counted = "pairs" if difference else "images"
    return f"{mean} {interval(of.low, of.high, name)}, {plural(of.prompts, 'prompt')}, {of.pairs} {counted}"


def duration(seconds: float) -> str:
    """Seconds as "2.41 ms", "18.4 ms", "184 ms" or "2.41 s"."""
    if seconds >= 0.9995:
        return f"{seconds:.2f} s"
    return f"{1000 * seconds:.{0 if seconds >= 0.09995 else 1 if seconds >= 0.009995 else 2}f} ms"


def size(count: float) -> str:
    """Bytes as "412 MiB" or "6.91 GiB" (powers of 1024)."""
    if abs(count) >= 2**30:
        return _minus(f"{count / 2**30:.2f} GiB")
    return _minus(f"{count / 2**20:.0f} MiB" if abs(count) >= 10 * 2**20 else f"{count / 2**20:.2f} MiB")


def reading(name: str) -> str:
    """A memory probe's name for readers: "nvml_device_peak_bytes" is "NVML, whole device"."""
    known = {"nvml_device": "NVML, whole device", "nvml_process": "NVML, this process", "torch_allocated": "torch, allocated",
             "torch_reserved": "torch, reserved", "rss": "process RSS", "stored": "stored weights",
             "over_idle": "NVML, beyond what was in use before loading", "driver_reserved": "kept by the driver for itself"}
    return next((said for key, said in known.items() if key in name), visible(name))


def series(name: str) -> str:
    """A timeline's line for readers: "device_used" is "VRAM, whole device"."""
    return {"device_used": "VRAM, whole device", "process_used": "VRAM, this process",
            "process_rss": "process RSS"}.get(name, visible(name))


def plural(count: int, noun: str) -> str:
    """ "1 prompt", "2 prompts". """
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def listed(names: list[str], most: int = 6) -> str:
    """ "a, b and c"; beyond `most` the rest is counted: "a, b and 7 more". """
    shown = names if len(names) <= most else [*names[:most - 1], f"{len(names) - most + 1} more"]
    return shown[0] if len(shown) == 1 else " and ".join((", ".join(shown[:-1]), shown[-1])) if shown else "none"


def lab_to_hex(lab: tuple[float, float, float]) -> str:
    """CIELAB (D65, L in 0..100) as an sRGB hex colour, clipped to the gamut (CIE 15:2004, IEC 61966-2-1)."""
    fy = (lab[0] + 16) / 116
    f = np.array([fy + lab[1] / 500, fy, fy - lab[2] / 200])
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * [0.95047, 1.0, 1.08883]
    matrix = np.array([[3.2404542, -1.5371385, -0.4985314], [-0.9692660, 1.8760108, 0.0415560],
                       [0.0556434, -0.2040259, 1.0572252]])
    linear = np.clip(matrix @ xyz, 0, 1)
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return "#" + "".join(f"{round(255 * float(c)):02x}" for c in srgb)


def _minus(text: str) -> str:
    """A true minus sign, and none before a rounded zero."""
    return (text if text.strip("-0. %dBE") else text.replace("-", "")).replace("-", "−")
