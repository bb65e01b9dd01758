"""What the page costs with ten thousand pictures: seconds to build it, its size, the first paint and the switch of an axis.
`python tests/benchmarks/page.py [--images N] [--side PIXELS] [--folder DIR]` prints them; it needs Playwright and Chromium."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np
from PIL import Image

from harness.declare import Candidate, Checkpoint, Grid, Merge, Prompt, Suite, plain
from harness.records import Cell, Coverage, Journal, Measurement, Sample, sample_key
from tests.reports import synthetic

ALPHAS = tuple(round(0.1 * i, 1) for i in range(10))
SCALES = (2.0, 3.0, 5.0, 7.5, 12.0)
ROUNDS = 7
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]


def suite(images: int) -> Suite:
    """10 alphas x 5 guidance scales x as many prompts as make `images` with two seeds."""
    prompts = tuple(Prompt(id=f"p{i:03d}", text=f"a painting of a dress in the manner of painter no. {i}",
                           split="confirm" if i % 3 == 2 else "select") for i in range(max(2, images // 100)))
    a, b = Checkpoint(path="zoo:photo"), Checkpoint(path="zoo:anime")
    candidates = tuple(Candidate(name=f"alpha={x:g}", model=Merge(a=a, b=b, alpha=x), axes={"alpha": x}) for x in ALPHAS)
    return synthetic.merge_suite(candidates=candidates, gates=(), grid=Grid(
        prompts=prompts, seeds=(1, 2), guidance_scales=SCALES, width=64, height=64))


def picture(x: float, guidance: float, rng: np.random.Generator, side: int) -> Any:
    """A soft background, a coloured figure and a little noise: about as hard to compress as a drawn picture."""
    yy, xx = np.mgrid[0:side, 0:side] / side
    ground = 200 + 40 * np.sin(3 * xx + rng.uniform(0, 6))[..., None] * rng.uniform(0.2, 1, 3)
    inside = (np.hypot(xx - rng.uniform(0.4, 0.6), (yy - 0.55) * 0.8) < 0.22 + 0.1 * rng.uniform())[..., None]
    colour = np.array([220 * (1 - x) + 40 * x, 20 + 9 * guidance, 40 + 180 * x])
    data = np.where(inside, colour * (0.7 + 0.3 * yy[..., None]), ground) + rng.normal(0, 2, (side, side, 1))
    return np.clip(data, 0, 255).astype(np.uint8)


def write(folder: Path, of: Suite, side: int) -> int:
    """The run folder, through the records that a real run writes; returns the number of pictures."""
    (folder / "images").mkdir(parents=True)
    body = {"format": 1, "suite": plain(of), "suite_file": "suites/dress.py", "metrics": synthetic.METRICS, "environment": {},
            "sampling": synthetic.sampling(of), "metric_settings": {"clip_score": synthetic.CLIP}, "not_offered": {},
            "command": ["pytest"], "not_selected": []}
    (folder / "run.json").write_text(json.dumps(body), encoding="utf-8")
    journal, count = Journal(folder / "journal.jsonl"), 0
    for number, candidate in enumerate(of.candidates):
        weights = synthetic.announced(candidate)
        found: list[Any] = [weights, Coverage(candidate=candidate.name, stage="merge", component="unet", keys={"merged": ("a",)})]
        for p in of.grid.prompts:
            for seed in of.grid.seeds:
                for g in of.grid.guidance_scales:
                    rng = np.random.default_rng([number, int(p.id[1:]), seed, int(10 * g)])
                    cell = Cell(prompt=p.id, seed=seed, guidance=g)
                    key = sample_key(weights.identity, cell, (p.text, p.negative), synthetic.sampling(of))
                    path = f"images/{candidate.name}/{p.id}-seed{seed}-cfg{g:g}-{key[:8]}.png"
                    (folder / path).parent.mkdir(exist_ok=True)
                    Image.fromarray(picture(ALPHAS[number], g, rng, side)).save(folder / path, compress_level=1)
                    values = synthetic.planted(synthetic.Place(ALPHAS[number], g, rng))
                    said: dict[str, Any] = {"sample": key, "candidate": candidate.name, "cell": cell, "version": 1}
                    found += [
                        Sample(key=key, candidate=candidate.name, cell=cell, path=path,
                               sha256=hashlib.sha256((folder / path).read_bytes()).hexdigest()),
                        Measurement(metric="clip_score", values={"clip_score": values.pop("clip_score")},
                                    setting=synthetic.CLIP, **said),
                        Measurement(metric="palette", values={"palette_drift": values.pop("palette_drift")},
                                    labels={"dominant": "red" if ALPHAS[number] < 0.5 else "blue"}, **said),
                        Measurement(metric="exposure", values=values, **said)]
                    count += 1
        journal.add(found, sync=False)
    return count


def browse(page: Path) -> dict[str, float]:
    """Milliseconds in Chromium from file://: first paint, until the explorer stands, switching axes, scrolling a step."""
    from playwright.sync_api import sync_playwright

    chromium = next(found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name)))
    times: dict[str, list[float]] = {}
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=FLAGS)
        for _ in range(ROUNDS):
            tab = browser.new_page(viewport={"width": 1280, "height": 900})
            tab.goto(page.as_uri())
            tab.wait_for_selector("html[data-ready]", state="attached", timeout=60_000)
            for name, code in (("first paint", "performance.getEntriesByName('first-paint')[0].startTime"),
                               ("first contentful paint", "performance.getEntriesByName('first-contentful-paint')[0].startTime"),
                               ("pictures there", "performance.getEntriesByName('pictures')[0].startTime"),
                               ("figures there", "performance.getEntriesByName('figures')[0].startTime")):
                times.setdefault(name, []).append(tab.evaluate(code))
            tab.locator("#explorer").scroll_into_view_if_needed()
            for name, code in (("switch rows to prompts", _SWITCH % ("rows", "'prompt'")),
                               ("switch to all in one grid", _SWITCH % ("rows", "'prompt and seed'")),
                               ("switch columns to alpha and CFG", _SWITCH % ("columns", "'alpha and CFG'")),
                               ("scroll to the middle", _SCROLL)):
                times.setdefault(name, []).append(tab.evaluate(code))
            times.setdefault("elements of the grid", []).append(tab.locator("#explorer-canvas *").count())
            tab.close()
        browser.close()
    return {name: statistics.median(found) for name, found in times.items()}


_PAINTED = """
  const shown = [...document.querySelectorAll('#explorer-canvas img')];
  await Promise.all(shown.map(image => image.decode()));
  await new Promise(resolve => requestAnimationFrame(() => setTimeout(resolve)));
  return performance.now() - start; }"""
_SWITCH = """async () => { const select = document.getElementById('explorer-%s');
  select.value = [...select.options].find(option => option.text === %s).value;
  const start = performance.now();
  select.dispatchEvent(new Event('change'));""" + _PAINTED
_SCROLL = """async () => { const view = document.getElementById('explorer'); const start = performance.now();
  view.scrollTo(view.scrollWidth / 2, view.scrollHeight / 2);
  await new Promise(resolve => requestAnimationFrame(() => requestAnimationFrame(resolve)));""" + _PAINTED


def main() -> None:
    """Writes, builds, browses, prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--side", type=int, default=64)
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp(dir=options.folder, prefix="page-"))
    count = write(root / "dress", suite(options.images), options.side)
    print(f"{count} pictures of {options.side} pixels; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    # Started as `sweetspot report` starts it, so that imports count as well.
    code = ("import sys, time; t = time.perf_counter(); from pathlib import Path; from reports import write_page; "
            "i = time.perf_counter() - t; write_page(Path(sys.argv[1])); print(f'{i:.2f} s of imports, ' "
            "f'{time.perf_counter() - t:.2f} s in all, {time.process_time():.2f} s of the processor')")
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code, str(root / "dress")], check=True, capture_output=True, text=True,
                          cwd=Path(__file__).parents[2])
    page = root / "dress" / "report.html"
    print(f"build: {done.stdout.strip()} ({time.perf_counter() - started:.2f} s with the start of Python)")
    print(f"size: {page.stat().st_size / 1e6:.2f} MB")
    for name, value in browse(page).items():
        print(f"{name}: {value:.0f}{'' if name.startswith('elements') else ' ms'} (median of {ROUNDS} visits)")
    shutil.rmtree(root)


if __name__ == "__main__":
    main()
