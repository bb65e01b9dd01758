"""Numbers, names and colours as readers see them: units, n and intervals."""

from __future__ import annotations

import math
import re
from typing import Final

import numpy as np

from harness.records import ValueSpec
from harness.records import harmless_text as harmless
from harness.records.costs import MAKING
from reports.statistics.intervals import Estimate
from reports.statistics.settling import Needed

visible: Final = harmless.visible
COLOURS: Final = {
    "red": "#d7263d", "orange": "#f08a24", "yellow": "#f2c91d", "green": "#2e9e4f", "blue": "#2563eb",
    "purple": "#7e3ab8", "pink": "#ef6fa8", "brown": "#8a5a33", "black": "#1c1c1f", "white": "#f7f7f4",
    "gray": "#8b8f96", "grey": "#8b8f96", "cyan": "#18b6c9", "teal": "#12817f", "magenta": "#cc2fb4",
    "cream": "#efe3c2", "skin": "#e0b08c", "glass": "#b9d7e0", "none": "#c9ccd1",
}
FAR: Final = 10
"""Times the prompts that are there, from which a number of prompts is a very rough one."""
_OF_A_STAGE: Final = re.compile(r"stage ([1-9]\d{0,3}) (.+)")
UNKNOWN_COLOUR: Final = "#b3a9c4"


def title(value: ValueSpec) -> str:
    """The reader's name of a value."""
    return visible(value.title)


def number(number: float | None, value: ValueSpec | None = None) -> str:
    """A number as its value is written, with two digits where it is of no value; None and NaN are "not measured"."""
    return bare(number, value) + (visible(value.symbol) if value is not None and _measured(number) else "")


def bare(number: float | None, value: ValueSpec | None = None) -> str:
    """As `number`, without the symbol of the unit."""
    if number is None or math.isnan(number):
        return "not measured"
    if value is None or value.display == "number":
        return _minus(f"{number:.{2 if value is None else value.digits}f}")
    if value.display == "percent":
        return percent(number)
    return size(number) if value.display == "bytes" else duration(number)


def percent(share: float) -> str:
    """A share as "4.2 %"."""
    return f"{_minus(f'{100 * share:.1f}')} %"


def _measured(number: float | None) -> bool:
    return number is not None and not math.isnan(number)


def signed(difference: float | None, value: ValueSpec | None = None) -> str:
    """As `number`, with a sign in front of positive numbers: for differences."""
    text = number(difference, value)
    return text if difference is None or difference <= 0 or math.isnan(difference) else f"+{text}"


def interval(low: float | None, high: float | None, value: ValueSpec | None = None) -> str:
    """An interval as "[0.4, 1.9]", in the unit of `number`; "no interval" when there is none."""
    if low is None or high is None:
        return "no interval"
    return f"[{number(low, value)}, {number(high, value)}]"


def estimate(of: Estimate, value: ValueSpec | None = None, *, difference: bool = False) -> str:
    """Mean, 95 % interval and n in one phrase: "78.20 [77.10, 79.30], 8 prompts, 16 images"."""
    if of.mean is None:
        return f"not measured: {of.why}"
    mean = signed(of.mean, value) if difference else number(of.mean, value)
    counted = "pairs" if difference else "images"
    return f"{mean} {interval(of.low, of.high, value)}, {plural(of.prompts, 'prompt')}, {of.pairs} {counted}"


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
    if name.startswith(MAKING):
        return f"{reading(name.removeprefix(MAKING))}, to make"
    known = {"nvml_device": "NVML, whole device", "nvml_process": "NVML, this process", "torch_allocated": "torch, allocated",
             "torch_reserved": "torch, reserved", "rss": "process RSS", "stored_denoiser": "weights of the denoiser",
             "stored": "weights of all parts",
             "over_idle": "NVML, beyond what was in use before loading", "driver_reserved": "kept by the driver for itself"}
    return next((said for key, said in known.items() if key in name), visible(name))


def series(name: str) -> str:
    """A timeline's line for readers: "device_used" is "VRAM, whole device"."""
    return {"device_used": "VRAM, whole device", "process_used": "VRAM, this process",
            "process_rss": "process RSS"}.get(name, visible(name))


def stage_and_phase(name: str) -> tuple[int, str]:
    """The stage that a timed phase is of, and what it does there: "stage 2 denoise" is (2, "denoise"). Those of the first stage
    have no number in their names."""
    number = _OF_A_STAGE.fullmatch(name)
    return (int(number[1]), number[2]) if number else (1, name)


def phase(name: str) -> str:
    """A timed phase for readers: "stage 2 begin" is "stage 2, picture handed over"."""
    stage, what = stage_and_phase(name)
    known = {"begin": "picture handed over", "post": "post-steps"}
    said = known.get(what, visible(what))
    return f"stage {stage}, {said}" if stage > 1 else said


def plural(count: int, noun: str) -> str:
    """ "1 prompt", "2 prompts". """
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def settled(needed: Needed, noun: str = "prompt") -> str:
    """How many prompts it takes and how many there are, as exact as it is known: with two digits, or one where that is far from
    what is there; and that a number beyond the largest is not worth it."""
    if not needed.sayable:
        return f"cannot be said from {plural(needed.there, noun)}"
    return f"{enough(needed, noun)} (now {needed.there:,})" + ("" if needed.prompts else ": too close to be worth it")


def enough(needed: Needed, noun: str = "") -> str:
    """As `settled`, the number alone."""
    prompts = needed.prompts
    if prompts is None:
        return f"more than {needed.most:,}{f' {noun}s' if noun else ''}"
    far = prompts > FAR * needed.there
    digits = 1 if far else 2
    count = max(int(float(f"{prompts:.{digits}g}")), needed.there + 1)
    return f"{'very roughly' if far else 'about'} {count:,}{f' {noun}s' if noun else ''}"


def shortened(text: str, most: int) -> str:
    """At most so many characters, the last of them an ellipsis where some are cut off."""
    return text if len(text) <= most else f"{text[:most - 1]}…"


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
