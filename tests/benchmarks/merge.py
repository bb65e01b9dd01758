"""How fast a plain merge is, as ratios to what the disk allows, all measured in one run; nothing decides a test.

    python tests/benchmarks/merge.py --size sd15 --folder /some/disk/with/10/GB
    python tests/benchmarks/merge.py --size sdxl --folder /some/disk/with/30/GB
    python tests/benchmarks/merge.py --size sd15 --folder ... --sd-mecha     (installs sd-mecha in an environment of its own)

The files hold random float16 values under the names of Stable Diffusion 1.5 or SDXL. The floor is reading both files,
copying one and syncing the copy. Every figure is the median of --rounds, contenders take turns, and the page cache is
warm. Peak memory is what the kernel says of the whole process, less what a process has that only imports torch (and ends
without taking it apart, which takes more). Processor seconds are those of a process and of all that it started: on a busy machine
they tell more than the clock.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ALPHA = "0.3"
MECHA = """
import sys, torch, sd_mecha
a, b, out = sys.argv[1:4]
recipe = sd_mecha.weighted_sum(sd_mecha.model(a), sd_mecha.model(b), alpha=0.3)
sd_mecha.merge(recipe, output=out, merge_device="cpu", merge_dtype=torch.float32, output_dtype=torch.float16)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=("sd15", "sdxl"), default="sd15")
    parser.add_argument("--folder", type=Path, required=True, help="where the files are made; kept for the next time")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sd-mecha", action="store_true", help="also time sd-mecha 1.1.8")
    parser.add_argument("--shuffled", action="store_true", help="also time inputs whose tensors lie in another order")
    parser.add_argument("--generic", action="store_true", help="also time the same tensors under names of no known architecture")
    parser.add_argument("--live", action="store_true", help="also time the merge into live weights against a copy")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    a, b = (model_file(given.folder, given.size, seed) for seed in (1, 2))
    out = given.folder / "out.safetensors"
    contenders: dict[str, Callable[[], Measured]] = {
        "floor: cat a b > /dev/null; cp a out; sync out": lambda: run(
            ["bash", "-c", f"cat {a} {b} > /dev/null; cp {a} {out}; sync {out}"], out),
        "sweetspot merge": lambda: ours(a, b, out),
        "sweetspot merge, torch imported before": lambda: ours(a, b, out, "import torch; "),
        "import torch": lambda: run([sys.executable, "-c", "import torch, os; os._exit(0)"], None),
    }
    if given.shuffled:
        sa, sb = shuffled(a), shuffled(b)
        contenders["sweetspot merge, shuffled inputs"] = lambda: ours(sa, sb, out)
    if given.generic:
        ga, gb = generic(a), generic(b)
        contenders["sweetspot merge, unknown architecture"] = lambda: ours(ga, gb, out)
    if given.sd_mecha:
        python = mecha_environment(given.folder)
        contenders["sd-mecha 1.1.8 (does not sync)"] = lambda: run([str(python), "-c", MECHA, str(a), str(b), str(out)], out)
    results: dict[str, list[Measured]] = {name: [] for name in contenders}
    for _ in range(given.rounds):
        for name, contender in contenders.items():
            warm(a, b)
            results[name].append(contender())
    table(results, next(iter(contenders)))
    inspection(a, given.rounds)
    if given.live:
        live(a, b, given.rounds)


class Measured:
    """Wall and processor seconds and peak resident bytes of one process."""

    def __init__(self, seconds: float, peak: int, processor: float) -> None:
        self.seconds, self.peak, self.processor = seconds, peak, processor


def run(command: list[str], out: Path | None) -> Measured:
    """One process, timed from outside; its output file is removed first, so that nobody overwrites in place."""
    if out is not None:
        for left in out.parent.glob(out.name + "*"):
            left.unlink()
    # An installed package has its bytecode beside it, so the timed processes may write it too.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command} failed with {process.returncode}")
    return Measured(seconds, usage.ru_maxrss * 1024, usage.ru_utime + usage.ru_stime)


def ours(a: Path, b: Path, out: Path, before: str = "") -> Measured:
    """The whole command, as a user types it, interpreter start and sync included; U-Net, text encoders and VAE."""
    start = f"{before}import sys; from harness.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", start, "merge", "--a", str(a), "--b", str(b), "--alpha", ALPHA, "-o", str(out),
               "--parts", parts_of(a)]
    return run(command, out)


def parts_of(a: Path) -> str:
    from harness.weights.structural import open_any

    return ",".join(open_any(a).components)


def warm(*files: Path) -> None:
    for file in files:
        with file.open("rb", buffering=0) as opened:
            buffer = bytearray(1 << 24)
            while opened.readinto(buffer):
                pass


def table(results: dict[str, list[Measured]], floor: str) -> None:
    base = statistics.median(m.seconds for m in results[floor])
    torch_peak = statistics.median(m.peak for m in results["import torch"])
    print(f"{'':50} {'median s':>9} {'range':>15} {'x floor':>8} {'processor s':>12} {'peak MB':>9} {'beyond torch':>13}")
    for name, measured in results.items():
        seconds = [m.seconds for m in measured]
        peak = statistics.median(m.peak for m in measured)
        processor = statistics.median(m.processor for m in measured)
        memory = f"{peak / 1e6:9.0f} {(peak - torch_peak) / 1e6:13.0f}" if name != floor else ""
        print(f"{name:50} {statistics.median(seconds):9.2f} {min(seconds):7.2f}-{max(seconds):<7.2f} "
              f"{statistics.median(seconds) / base:8.2f} {processor:12.2f} {memory}")


def inspection(file: Path, rounds: int) -> None:
    """`sweetspot inspect` of the file, less the start of an interpreter."""
    bare = statistics.median(run([sys.executable, "-c", "pass"], None).seconds for _ in range(rounds))
    whole = statistics.median(run([sys.executable, "-m", "harness.cli", "inspect", str(file)], None).seconds
                              for _ in range(rounds))
    print(f"inspect of {file.stat().st_size / 1e9:.2f} GB: {whole - bare:.2f} s beyond interpreter start ({bare:.3f} s)")


def live(a: Path, b: Path, rounds: int) -> None:
    """A re-merge of the U-Net into live float32 weights against a plain copy of as many bytes, on as many threads."""
    import torch

    from harness.declare import Merge
    from harness.materialise import Library, plan_recipe
    from harness.merge import Target, write_live

    library = Library(Path())
    files = {str(path): library.open(checkpoint(str(path))) for path in (a, b)}
    tensors = {name: file.tensors("unet") for name, file in files.items()}
    alive = {key: torch.empty(tensor.shape, dtype=torch.float32) for key, tensor in tensors[str(a)].items()}
    # Ones, since pages of zeros that were never written are not read from memory at all.
    other = {key: torch.ones(tensor.shape, dtype=torch.float32) for key, tensor in tensors[str(a)].items()}
    pool = ThreadPoolExecutor(len(os.sched_getaffinity(0)), initializer=torch.set_num_threads, initargs=(1,))
    merging, copying = [], []
    for number in range(rounds + 1):
        plan = plan_recipe(Merge(a=str(a), b=str(b), alpha=0.2 + 0.1 * number), library)
        targets = [Target(key=key, expression=plan.parts["unet"].keys[key], dtype="F16", live=alive[key]) for key in alive]
        started = time.perf_counter()
        write_live(targets, lambda source: tensors[source.model][source.key])
        merging.append(time.perf_counter() - started)
        started = time.perf_counter()
        list(pool.map(lambda key: alive[key].copy_(other[key]), alive))
        copying.append(time.perf_counter() - started)
    size = sum(tensor.numel() * 4 for tensor in alive.values())
    merge, copy = statistics.median(merging[1:]), statistics.median(copying[1:])
    print(f"re-merge of {size / 1e9:.2f} GB of live float32 weights: {merge:.2f} s, copy of as many bytes: {copy:.2f} s, "
          f"ratio {merge / copy:.2f}")


def checkpoint(path: str) -> object:
    from harness.declare import Checkpoint

    return Checkpoint(path=path)


def model_file(folder: Path, size: str, seed: int) -> Path:
    """A single file of the family's names and shapes, float16, normal values of the size that weights have."""
    import torch

    from harness.weights.header import data_bytes, encode_header, lay_out
    from harness.weights.stream import OutputFile

    path = folder / f"{size}-{seed}.safetensors"
    if path.exists():
        return path
    from tests.benchmarks.shapes import single_file_shapes

    spans = lay_out([(name, dtype, shape) for name, (dtype, shape) in single_file_shapes(size).items()])
    header = encode_header(spans, {"format": "pt"})
    output = OutputFile(path, len(header) + data_bytes(spans), direct=False)
    generator = torch.Generator().manual_seed(seed)
    for span in spans.values():
        count = 1
        for length in span.shape:
            count *= length
        values = torch.arange(count) if span.dtype == "I64" else (torch.randn(count, generator=generator) * 0.03).half()
        output.write(len(header) + span.begin, memoryview(values.view(torch.uint8).numpy()))
    output.commit(header)
    return path


def shuffled(path: Path) -> Path:
    """The same tensors in another order in the file."""
    import json
    import random
    import struct

    target = path.with_name(path.stem + "-shuffled.safetensors")
    if target.exists():
        return target
    with path.open("rb") as file:
        length = struct.unpack("<Q", file.read(8))[0]
        entries = json.loads(file.read(length))
        metadata = entries.pop("__metadata__", {})
        names = list(entries)
        random.Random(0).shuffle(names)
        position, header = 0, {}
        for name in names:
            begin, end = entries[name]["data_offsets"]
            header[name] = {**entries[name], "data_offsets": [position, position + end - begin]}
            position += end - begin
        text = json.dumps({"__metadata__": metadata, **header}).encode()
        text = text.ljust(-(-len(text) // 8) * 8)
        with target.open("wb") as output:
            output.write(struct.pack("<Q", len(text)) + text)
            for name in names:
                begin, end = entries[name]["data_offsets"]
                file.seek(8 + length + begin)
                shutil.copyfileobj(_Limited(file, end - begin), output, 1 << 22)
    return target


def generic(path: Path) -> Path:
    """The same tensors in the same order under names that tell no architecture."""
    from harness.weights import read_header
    from harness.weights.header import encode_header, lay_out

    target = path.with_name(path.stem + "-generic.safetensors")
    if target.exists():
        return target
    stored, _ = read_header(path)
    names = {f"stack.{number}.kernel": tensor for number, tensor in enumerate(stored.values()) if tensor.dtype == "F16"}
    spans = lay_out([(name, tensor.dtype, tensor.shape) for name, tensor in names.items()])
    with path.open("rb") as file, target.open("wb") as output:
        output.write(encode_header(spans, {"format": "pt"}))
        for name in spans:
            file.seek(names[name].offset or 0)
            shutil.copyfileobj(_Limited(file, names[name].bytes), output, 1 << 22)
    return target


class _Limited:
    """A file that ends after so many bytes."""

    def __init__(self, file: object, left: int) -> None:
        self.file, self.left = file, left

    def read(self, size: int) -> bytes:
        data = self.file.read(min(size, self.left))  # type: ignore[attr-defined]
        self.left -= len(data)
        return bytes(data)


def mecha_environment(folder: Path) -> Path:
    """A virtual environment with sd-mecha, made once; it takes some minutes."""
    python = folder / "sd-mecha" / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder / "sd-mecha")], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", "torch", "numpy", "sd-mecha==1.1.8"], check=True)
    return python


if __name__ == "__main__":
    if resource.getpagesize() != 4096:
        print("note: pages are not 4096 bytes here")
    main()
