"""Run folders with planted truth, written through the same records a real run writes. Every test of reports reads them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from harness.declare import Adapter, Candidate, Checkpoint, Control, Gate, Grid, Merge, Prompt, Suite, plain
from harness.declare.effective_grid import grid_of, sampling_block
from harness.declare.picture_uses import PICTURES, parts_in_key
from harness.records import (
    Cell,
    Coverage,
    Failure,
    Finished,
    Journal,
    Latency,
    Measurement,
    Memory,
    Reading,
    Record,
    Sample,
    Weights,
    sample_key,
)
from harness.records.costs import DENOISER_WEIGHTS, MAKING, STORED, STORED_DENOISER, WRITTEN_DENOISER
from tests.reports.synthetic_costs import without_gpu

ALPHAS = (0.0, 0.15, 0.3, 0.45, 0.6, 0.8, 1.0)
SCALES = (1.0, 3.0, 5.0, 8.0, 12.0)
METRICS = {name: {"metric": metric, "unit": unit, "better": better, "definition": definition, "version": 1}
           for name, metric, unit, better, definition in (
    ("clip_score", "clip_score", "points", "higher", "100 x cosine"),
    ("clipped_share", "exposure", "share of pixels", "lower", "a channel at 0 or 255"),
    ("saturation", "exposure", "HSV", "nearer", "mean S"),
    ("palette_drift", "palette", "dE00", "nearer", "against the baseline"),
    ("psnr_db", "psnr", "dB", "higher", "against the baseline"),
    ("exact_match", "psnr", "share", "higher", "equal bytes"),
    ("style_certainty", "styles", "share", "nearer", "by CLIP"))}
STYLES = {"photo": "a photo", "anime": "an anime drawing", "oil": "an oil painting"}
CLIP = "clip-file-hash"
TIMED = "timing-hash"
SUBJECTS = ("dress", "car", "boat", "fish")
GROUNDS = ("white", "gray", "green")


@dataclass(frozen=True)
class Place:
    """What decides a planted picture: the numeric position on the axis, the guidance, and a seeded generator."""

    x: float
    guidance: float
    rng: np.random.Generator


def prompts(select: int = 8, confirm: int = 4, text: Callable[[int], str] | None = None) -> tuple[Prompt, ...]:
    say = text or (lambda i: f"a {SUBJECTS[i % 4]} on a {GROUNDS[i % 3]} background, no. {i}")
    return tuple(Prompt(id=f"p{i:02d}", text=say(i), split="select" if i < select else "confirm")
                 for i in range(select + confirm))


SMALL = Grid(prompts=prompts(2, 2), seeds=(1,), guidance_scales=(3.0,), width=32, height=32)


def merge_suite(**changes: Any) -> Suite:
    a, b = Checkpoint(path="zoo:photo"), Checkpoint(path="zoo:anime")
    fields: dict[str, Any] = {
        "name": "dress", "baseline": "alpha=0", "styles": STYLES, "description": "Two parents and their mixtures.",
        "candidates": tuple(Candidate(name=f"alpha={x:g}", model=Merge(a=a, b=b, alpha=x), axes={"alpha": x}) for x in ALPHAS),
        "grid": Grid(prompts=prompts(), seeds=(1, 2), guidance_scales=SCALES, width=32, height=32),
        "gates": (Gate(value="clip_score", at_least=20.0), Gate(value="clipped_share", at_most=0.5),
                  Gate(value="clip_score", not_worse_than="baseline", margin=0.5), Gate(value="coverage", at_most=0),
                  Gate(value="seconds_per_image", at_most=1.0), Gate(value="peak_bytes", at_most=4e9)),
    }
    return Suite(**{**fields, **changes})


def adapter_suite() -> Suite:
    base = Checkpoint(path="zoo:base")
    made = tuple(Candidate(name=f"weight={w:g}", model=base, adapters=(Adapter(path="zoo:sketch", weight=w),), axes={"weight": w})
                 for w in (0.0, 0.5, 1.0, 1.5))
    return merge_suite(name="sketch", candidates=made, baseline="weight=0")


def quantization_suite() -> Suite:
    model = Merge(a="zoo:photo", b="zoo:anime", alpha=0.4)
    made = tuple(Candidate(name=q, model=model, quantization=q) for q in ("fp32", "bf16", "int8", "int4"))
    return merge_suite(name="precision", candidates=made, baseline="fp32",
                       grid=Grid(prompts=prompts(), seeds=(1, 2), guidance_scales=(3.0,), width=32, height=32),
                       gates=(Gate(value="psnr_db", at_least=30.0, candidates=("bf16", "int8", "int4")),))


def controlled_suite(**changes: Any) -> Suite:
    """Two candidates, both with a control, on prompts that have a picture each."""
    every = merge_suite(grid=replace(SMALL, seeds=(1, 2), prompts=tuple(
        replace(prompt, pictures={"edges": f"{prompt.id}.png"}) for prompt in SMALL.prompts)))
    control = Control(path="zoo:control-edges", picture="edges")
    return replace(every, **{"candidates": tuple(replace(c, controls=(control,)) for c in every.candidates[:4:3]), **changes})


def planted(place: Place) -> dict[str, float]:
    """CLIP peaks at x = 0.45 and still rises slowly with guidance; clipping rises steeply beyond guidance 5."""
    g = place.guidance
    own = np.random.default_rng([round(1000 * place.x), round(10 * g), int(place.rng.integers(1 << 30))])
    clip = 30 - 14 * (place.x - 0.45) ** 2 - 4 / g + 0.10 * g + place.rng.normal(0, 0.6) + own.normal(0, 0.5)
    clipped = 0.02 + 0.004 * max(0.0, g - 5) ** 1.6 + abs(place.rng.normal(0, 0.002))
    return {"clip_score": clip, "clipped_share": clipped, "saturation": min(1.0, 0.35 + 0.03 * g), "palette_drift": 30 * place.x}


def level(place: Place) -> dict[str, float]:
    """No candidate differs: the same image whatever x is (an A/A run)."""
    return planted(Place(0.0, place.guidance, place.rng))


def write_run(folder: Path, suite: Suite, truth: Callable[[Place], dict[str, float]] = planted,
              extra: Callable[[Candidate], list[Record]] | None = None, **head: Any) -> Path:
    """Writes a run folder; noise depends on prompt, seed and guidance and half of it is shared by all candidates."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    body = {"format": 1, "suite": plain(suite), "suite_file": "suites/dress.py", "metrics": METRICS,
            "environment": {"python": "3.11.9", "device": "cpu", "packages": {"torch": "2.9"}}, "started": "2026-01-02T03:04:05Z",
            "sampling": sampling(suite), "metric_settings": {"clip_score": CLIP}, "not_offered": {},
            "command": ["pytest", "suites/", "--benchmark"], "clip_definition": "100 x cosine, zoo:clip", "not_selected": []}
    (folder / "run.json").write_text(json.dumps({**body, **head}), encoding="utf-8")
    journal = Journal(folder / "journal.jsonl")
    for number, candidate in enumerate(suite.candidates):
        journal.add(candidate_records(folder, suite, candidate, (number, truth), head.get(PICTURES)))
        journal.add(extra(candidate) if extra else [])
    return folder


def sampling(suite: Suite) -> dict[str, Any]:
    """The block of run.json that sample keys are made with."""
    grid = suite.grid
    return {"sampler": grid.sampler, "steps": grid.steps, "width": grid.width, "height": grid.height,
            "batch_size": grid.batch_size, "device": "cpu", "version": 1}


def announced(candidate: Candidate, **changes: Any) -> Weights:
    """What the runs written here say of a candidate's weights."""
    fields: dict[str, Any] = {
        "candidate": candidate.name, "identity": hashlib.sha256(candidate.name.encode()).hexdigest()[:16],
        "inputs": {"photo.safetensors": "ab" * 32}, "declared": candidate.key, "setting": TIMED}
    return Weights(**{**fields, **changes})


def position(candidate: Candidate) -> float:
    """From 0 to 1 or so; 40 steps are 1."""
    return next((float(v) / (40 if axis == "steps" else 1) for axis, v in candidate.axes.items() if not isinstance(v, str)), 0.45)


def candidate_records(folder: Path, suite: Suite, candidate: Candidate,
                      plan: tuple[int, Callable[[Place], dict[str, float]]],
                      contents: Mapping[str, str] | None = None) -> list[Record]:
    number, truth = plan
    weights = announced(candidate)
    found: list[Record] = [weights]
    for p in suite.grid.prompts:
        for seed in suite.grid.seeds:
            for g in grid_of(suite, candidate).guidance_scales:
                place = Place(position(candidate), g, np.random.default_rng([int(p.id[1:]), seed, int(g * 10)]))
                cell = Cell(prompt=p.id, seed=seed, guidance=g)
                key = sample_key(weights.identity, cell, parts_in_key(candidate, p, frozenset(), contents or {}),
                                 sampling_block(sampling(suite), suite, candidate))
                found.extend(_image(folder, candidate, (cell, key), (number, place, truth)))
    found.append(Coverage(candidate=candidate.name, stage="merge", component="unet",
                          keys={"merged": ("a.weight", "b.weight"), "copied": (), "unmatched": ()}, notes=("cast to fp32",)))
    base = 0.18 + 0.002 * number
    rounds = tuple(base + 0.001 * i for i in range(6))
    seconds = {"total": rounds, **{phase: tuple(share * r for r in rounds)
                                   for phase, share in (("text", 0.1), ("denoise", 0.7), ("decode", 0.2))}}
    found.append(Latency(candidate=candidate.name, batch_size=1, warmup_rounds=1, guidance=suite.grid.guidance_scales[0],
                         seconds=seconds, setting=TIMED, yardstick=(0.010,) * 6))
    found.append(Memory(candidate=candidate.name, setting=TIMED, readings=(
        Reading(name="nvml_device_peak_bytes", unit="bytes", value=None, why_missing="no NVIDIA device"),
        Reading(name="process_rss_peak_bytes", unit="bytes", value=8e8 + 1e6 * number),
        Reading(name=MAKING + "process_rss_peak_bytes", unit="bytes", value=9e8 + 1e6 * number),
        Reading(name=STORED, unit="bytes", value=4e8), Reading(name=STORED_DENOISER, unit="bytes", value=3e8),
        Reading(name=DENOISER_WEIGHTS, unit="weights", value=1.5e8),
        Reading(name=WRITTEN_DENOISER, unit="bytes", value=3e8))))
    found.extend(without_gpu(candidate.name, TIMED))
    found.append(Finished(candidate=candidate.name, identity=weights.identity, sampled=1, reused=0, seconds=1.0))
    return found


def _image(folder: Path, candidate: Candidate, of: tuple[Cell, str], plan: tuple[int, Place, Any]) -> list[Record]:
    (cell, key), (number, place, truth) = of, plan
    values = truth(place)
    named = place.x + 0.2 * place.rng.uniform(-1, 1) * (place.guidance > 8)
    dominant = "red" if named < 0.35 else "purple" if named < 0.7 else "blue"
    path = f"images/{number}-{cell.prompt}-{cell.seed}-{cell.guidance:g}.png"
    data = _picture(place)
    Image.fromarray(data).save(folder / path)
    lab = {"red": [45, 66, 42, 0.6], "purple": [38, 48, -46, 0.6], "blue": [44, 22, -70, 0.6]}[dominant]
    sample = Sample(key=key, candidate=candidate.name, cell=cell, path=path,
                    sha256=hashlib.sha256((folder / path).read_bytes()).hexdigest())
    said = {"sample": key, "candidate": candidate.name, "cell": cell, "version": 1}
    fidelity = {"psnr_db": {"bf16": 56.0, "int8": 48.0, "int4": 26.0}.get(candidate.quantization, 0.0)}
    if candidate.axes or candidate.quantization == "fp32":
        psnr = Measurement(metric="psnr", values={"exact_match": 1.0}, missing={"psnr_db": "exact match"}, **said)
    else:
        psnr = Measurement(metric="psnr", values={"exact_match": 0.0, **fidelity}, **said)
    loss = 3.0 if candidate.quantization == "int4" else 0.0
    score = {"clip_score": values["clip_score"] - loss}
    return [sample, psnr, Measurement(metric="clip_score", values=score, setting=CLIP, **said),
            Measurement(metric="styles", values={"style_certainty": max(place.x, 0.9 - place.x)}, labels={"style": "photo"},
                        details={"leanings": {"photo": 0.9 - 0.8 * place.x, "anime": 0.8 * place.x, "oil": 0.1}}, **said),
            Measurement(metric="exposure", values={k: values[k] for k in ("clipped_share", "saturation")}, **said),
            Measurement(metric="palette", values={"palette_drift": values["palette_drift"]}, labels={"dominant": dominant},
                        details={"clusters": [lab, [93, 0, 2, 0.4]]}, **said)]


def _picture(place: Place) -> Any:
    data = np.full((32, 32, 3), 236, dtype=np.uint8)
    yy, xx = np.mgrid[0:32, 0:32]
    inside = np.abs(xx - 16) < 3 + yy * 0.35
    strength = min(1.0, 0.55 + place.guidance / 24)
    colour = np.array([205 * (1 - place.x) + 40 * place.x, 40, 45 * (1 - place.x) + 215 * place.x])
    data[inside & (yy > 7) & (yy < 29)] = np.clip(128 + (colour - 128) * strength, 0, 255)
    return data


def failing(name: str) -> Callable[[Candidate], list[Record]]:
    """Adds a Failure, in the journal after all else, of one candidate."""
    said = Failure(candidate=name, stage="sample", error="OutOfMemoryError", message="CUDA: \x1b[31mno memory")
    return lambda c: [said] if c.name == name else []


HOSTILE = ("</script><script>document.title='owned'</script>", '"><img src=x onerror="document.title=1">',
           "\x1b[31mred\x1b[0m dress", "\u202etxet desrever\u202c", "emoji 👩‍🎨 and \u2028 a line", "=cmd|' /C calc'!A0",
           "[link](https://example.org) | ![i](//x/y.png)")


def hostile_suite() -> Suite:
    """Prompts that try to act on a page, a terminal, a spreadsheet or a Markdown reader."""
    chosen = prompts(5, 2, text=lambda i: HOSTILE[i])
    grid = Grid(prompts=chosen, seeds=(1,), guidance_scales=(3.0, 8.0), width=32, height=32)
    return merge_suite(name="<b>suite</b>", grid=grid, description="</title><script>alert(1)</script>")
