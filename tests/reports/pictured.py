"""A run folder in which no two pictures are equal, so that a page that shows the wrong one is found out by its hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from PIL import Image

from harness.declare import Candidate, Checkpoint, Grid, Merge, Prompt, Suite, plain
from harness.records import Cell, Journal, Measurement, Sample, sample_key
from tests.reports import synthetic

Sampled: TypeAlias = Callable[[int, Cell], bool]
LONG = "a dress, " * 1200
TEXTS = (*synthetic.HOSTILE, LONG, "فستان أحمر على خلفية بيضاء", "'quotes' \"of\" `all` $(kinds)", "👗" * 40)


def suite(candidates: int = 3, scales: int = 3, prompts: int = 11, seeds: int = 2) -> Suite:
    """alpha x CFG x prompts that try everything a page could choke on."""
    a, b = Checkpoint(path="zoo:photo"), Checkpoint(path="zoo:anime")
    steps = [round(i / (candidates - 1), 3) for i in range(candidates)]
    return synthetic.merge_suite(
        name="dress", gates=(), description="<b>no markup</b>",
        candidates=tuple(Candidate(name=f"alpha={x:g}", model=Merge(a=a, b=b, alpha=x), axes={"alpha": x}) for x in steps),
        grid=Grid(prompts=tuple(Prompt(id=f"p{i:03d}", text=TEXTS[i % len(TEXTS)] + f" {i}",
                                       split="confirm" if i % 3 == 2 else "select") for i in range(prompts)),
                  seeds=tuple(range(1, seeds + 1)), guidance_scales=tuple(1.5 + 2 * i for i in range(scales)),
                  width=32, height=32))


def path_of(candidate: str, cell: Cell) -> str:
    return f"images/{candidate}/{cell.prompt}-seed{cell.seed}-cfg{cell.guidance:g}.png"


def write_run(folder: Path, of: Suite, sampled: Sampled = lambda number, cell: True) -> Path:
    """Writes the pictures of the sampled cells: two flat halves whose colours the cell decides."""
    body = {"format": 1, "suite": plain(of), "suite_file": "suites/dress.py", "metrics": synthetic.METRICS, "environment": {},
            "sampling": synthetic.sampling(of), "metric_settings": {"clip_score": synthetic.CLIP}, "not_offered": {},
            "command": ["pytest", "--exact"], "not_selected": []}
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps(body), encoding="utf-8")
    found: list[Any] = []
    for number, candidate in enumerate(of.candidates):
        weights = synthetic.announced(candidate)
        found.append(weights)
        (folder / "images" / candidate.name).mkdir(parents=True)
        for p in of.grid.prompts:
            for seed in of.grid.seeds:
                for g in of.grid.guidance_scales:
                    cell = Cell(prompt=p.id, seed=seed, guidance=g)
                    if not sampled(number, cell):
                        continue
                    key = sample_key(weights.identity, cell, (p.text, p.negative), synthetic.sampling(of))
                    colours = np.frombuffer(hashlib.sha256(f"{candidate.name} {cell}".encode()).digest()[:6], dtype=np.uint8)
                    data = np.repeat(np.repeat(colours.reshape(2, 1, 3), 16, axis=0), 32, axis=1)
                    file = folder / path_of(candidate.name, cell)
                    Image.fromarray(data).save(file)
                    score = 30.0 - number + float(colours[0]) / 256
                    found += [Sample(key=key, candidate=candidate.name, cell=cell, path=path_of(candidate.name, cell),
                                     sha256=hashlib.sha256(file.read_bytes()).hexdigest()),
                              Measurement(sample=key, candidate=candidate.name, cell=cell, metric="clip_score", version=1,
                                          values={"clip_score": score}, setting=synthetic.CLIP),
                              Measurement(sample=key, candidate=candidate.name, cell=cell, metric="exposure", version=1,
                                          values={"clipped_share": 0.01, "saturation": 0.4})]
    Journal(folder / "journal.jsonl").add(found, sync=False)
    return folder
