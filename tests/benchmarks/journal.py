"""What the journal costs: per image while a run writes, and at a restart with a hundred thousand finished images.
`python tests/benchmarks/journal.py --folder DIR [--images N]` prints it; the disk of DIR is what is measured."""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from harness.declare import Prompt
from harness.records import Cell, Journal, Measurement, Sample, write_atomically
from harness.run.batch_packing import GridKeys
from harness.run_folder.ledger import Ledger

METRICS = ("psnr", "clip_score", "palette", "exposure")
CANDIDATES = 10
BATCH = 16
SETTING = {"sampler": "dpmpp_2m", "steps": 20, "width": 64, "height": 64, "batch_size": BATCH, "device": "cpu", "version": 1}


def images_of(cells: Sequence[Cell], keys: dict[Cell, str], candidate: str) -> list[tuple[Sample, bytes]]:
    """One file of about 9 kB, as a picture of 64 x 64 has, for every cell; its bytes are random, and the same every time."""
    made = []
    for cell in cells:
        data = hashlib.shake_128(keys[cell].encode()).digest(9000)
        path = f"images/{candidate}/{cell.prompt}-seed{cell.seed}-cfg{cell.guidance:g}-{keys[cell][:8]}.png"
        made.append((Sample(key=keys[cell], candidate=candidate, cell=cell, path=path,
                            sha256=hashlib.sha256(data).hexdigest()), data))
    return made


def old_way(folder: Path, images: Sequence[tuple[Sample, bytes]]) -> None:
    """Every file synced by itself, and the journal after each batch."""
    journal = Journal(folder / "journal.jsonl")
    for start in range(0, len(images), BATCH):
        batch = images[start:start + BATCH]
        for sample, data in batch:
            write_atomically(folder / sample.path, data)
        journal.add([sample for sample, _ in batch])


def bare(folder: Path, images: Sequence[tuple[Sample, bytes]]) -> None:
    """Plain files, nothing synced: what no journal can be cheaper than."""
    for sample, data in images:
        path = folder / sample.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def with_ledger(folder: Path, images: Sequence[tuple[Sample, bytes]]) -> None:
    """As a run does it: a batch at a time."""
    ledger = Ledger(folder)
    for start in range(0, len(images), BATCH):
        ledger.store(images[start:start + BATCH])
    ledger.close()


def milliseconds(way: Callable[[Path, Sequence[tuple[Sample, bytes]]], None], root: Path,
                 images: Sequence[tuple[Sample, bytes]]) -> float:
    """Milliseconds per image of one way in a new folder."""
    folder = Path(tempfile.mkdtemp(dir=root))
    started = time.perf_counter()
    way(folder, images)
    took = time.perf_counter() - started
    shutil.rmtree(folder)
    return took / len(images) * 1000


def recognise(folder: Path, keys: GridKeys, cells: Sequence[Cell], *, verify: bool = False) -> str:
    """Seconds (and those of the processor) until a new session knows that every image is whole and every metric measured."""
    started, busy = time.perf_counter(), time.process_time()
    ledger = Ledger(folder, verify=verify)
    for number in range(CANDIDATES):
        name = f"alpha={number}"
        assert ledger.missing(name, keys.of(f"weights {number}").items()) == []
        samples = [ledger.samples[name, cell] for cell in cells]
        assert all(ledger.measured(metric, 1, "", ((s, "") for s in samples)) for metric in METRICS)
    said = f"{time.perf_counter() - started:.2f} s ({time.process_time() - busy:.2f} s of the processor)"
    ledger.close()
    return said


def main() -> None:
    """Writes, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--images", type=int, default=100_000)
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp(dir=options.folder, prefix="journal-"))
    disk = os.statvfs(root)
    print(f"disk: {options.folder} on device {root.stat().st_dev}, {disk.f_frsize * disk.f_blocks / 1e9:.0f} GB; "
          f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    prompts = [Prompt(id=f"p{n}", text=f"prompt number {n}") for n in range(100)]
    cells = [Cell(prompt=p.id, seed=s, guidance=7.5) for p in prompts for s in range(options.images // CANDIDATES // 100)]
    keys = GridKeys(cells, {p.id: (p.text, p.negative) for p in prompts}, SETTING)
    few = images_of(cells[:2048], keys.of("weights 0"), "alpha=0")
    medians: list[float] = []
    for way in (bare, old_way, with_ledger):
        milliseconds(way, root, few[:64])
        rounds = sorted(milliseconds(way, root, few) for _ in range(3))
        medians.append(rounds[1])
        print(f"{way.__name__:>12}: {rounds[1]:.3f} ms per image, {rounds[1] / medians[0]:.1f} x bare "
              f"(median of 3 rounds of {len(few)}; {rounds[0]:.3f} to {rounds[2]:.3f})")
    folder = root / "run"
    started = time.perf_counter()
    making = 0.0
    ledger = Ledger(folder)
    for number in range(CANDIDATES):
        name, before = f"alpha={number}", time.perf_counter()
        images = images_of(cells, keys.of(f"weights {number}"), name)
        making += time.perf_counter() - before
        for start in range(0, len(images), BATCH):
            ledger.store(images[start:start + BATCH])
        for metric in METRICS:
            ledger.add([Measurement(sample=s.key, candidate=name, cell=s.cell, metric=metric, version=1,
                                    values={metric: 30.5123456, "other": 0.123456}) for s, _ in images])
    ledger.close()
    count = len(cells) * CANDIDATES
    took = time.perf_counter() - started - making
    print(f"{count} images and {count * len(METRICS)} measurements: {took / count * 1000:.3f} ms per image, {took:.0f} s in all; "
          + ", ".join(f"{name} {(folder / name).stat().st_size / 1e6:.0f} MB" for name in ("journal.jsonl", "journal.index")))
    fresh = [GridKeys(cells, {p.id: (p.text, p.negative) for p in prompts}, SETTING) for _ in range(5)]
    for said in ("index and stats", "again"):
        print(f"restart, {said}: {recognise(folder, fresh.pop(), cells)}")
    with (folder / "journal.jsonl").open("ab") as file:
        file.write(b"\n")
    print(f"restart, journal longer than the index: {recognise(folder, fresh.pop(), cells)}")
    print(f"restart, every image hashed (--verify): {recognise(folder, fresh.pop(), cells, verify=True)}")
    (folder / "journal.index").unlink()
    print(f"restart, no index (journal parsed, images hashed): {recognise(folder, fresh.pop(), cells)}")
    shutil.rmtree(root)


if __name__ == "__main__":
    main()
