"""Processor seconds of the U-Net in every exported runtime beside eager, in turns in one run, and what a new alpha takes.

    python tests/benchmarks/runtimes.py [--rounds 12] [--batches 1 16] [--full-size]

`forward` is the median over that of eager at each batch size. `refresh` is in copies of the weights: the seconds until an
executor has new weights, over those of copying them once; `guard` is in forwards at batch 2. With --full-size a U-Net of Stable
Diffusion 1.5's size is exported too, and its seconds and the peak of memory are given. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from harness.materialise.exported import Exported
from harness.materialise.live_model import Frame
from harness.quantize import QuantizeReport
from harness.runtimes import RUNTIMES
from harness.runtimes.exporting import export
from harness.runtimes.graph_cache import Graphs
from harness.weights import build_pipeline, open_model
from harness.weights.live_module import empty
from harness.weights.live_pipeline import SD1_CONFIGS
from harness.weights.placing import slots
from harness.zoo import resolve

SIZE = (8, 8)


def seconds(work: Callable[[], Any]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def medians(contenders: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Median processor seconds, the contenders in turns."""
    for work in contenders.values():
        work()
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, work in contenders.items():
            taken[name].append(seconds(work))
    return {name: statistics.median(of) for name, of in taken.items()}


def inputs(unet: Any, count: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(count)
    return {"sample": torch.randn(count, unet.config.in_channels, *SIZE, generator=generator), "timestep": torch.tensor(500.0),
            "encoder_hidden_states": torch.randn(count, 77, unet.config.cross_attention_dim, generator=generator)}


def measured(rounds: int, batches: list[int], folder: Path) -> dict[str, Any]:
    pipeline = build_pipeline(open_model(resolve("zoo:photo")), resolve("zoo:config"))
    unet = pipeline.unet
    frame = Frame(pipeline=pipeline, live={"unet": slots(unet, unet.state_dict())}, entered="plain",
                  cast=QuantizeReport(quantized=(), kept=()))
    graphs = Graphs(folder=folder)
    names = [name for name, row in RUNTIMES.items() if row.exported and not row.why_not("cpu")]
    executed = {name: Exported(name=name, row=RUNTIMES[name], frame=frame, graphs=graphs, device="cpu") for name in names}
    for one in executed.values():
        one.enter("plain", SIZE)
    figures: dict[str, Any] = {"export_seconds": round(next(iter(graphs.seconds.values()), 0.0), 1), "forward": {}, "refresh": {},
                               "guard": {}}
    with torch.inference_mode():
        for count in batches:
            given = inputs(unet, count)
            taken = medians({"eager": lambda given=given: unet(**given), **{
                name: lambda one=one, given=given: one(**given) for name, one in executed.items()}}, rounds)
            figures["forward"][count] = {name: round(of / taken["eager"], 3) for name, of in taken.items()}
            figures["forward"][count]["eager seconds"] = round(taken["eager"], 4)
        forward = medians({"eager": lambda: unet(**inputs(unet, 2))}, rounds)["eager"]
    copy = medians({"copy": lambda: [tensor.clone() for tensor in unet.state_dict().values()]}, rounds)["copy"]
    for name, one in executed.items():
        graph, executor = one._executors[SIZE]
        weights = dict(unet.state_dict())
        figures["refresh"][name] = round(medians({name: lambda executor=executor, weights=weights: executor.refresh(
            weights, "again")}, 5)[name] / copy, 1)
        guard = medians({name: lambda one=one, graph=graph, executor=executor: one._compare(graph, executor, SIZE)}, 5)[name]
        figures["guard"][name] = round(guard / forward, 2)
    return figures


def full_size() -> dict[str, Any]:
    unet = empty("unet", SD1_CONFIGS / "unet" / "config.json")
    taken = seconds(lambda: export(unet, "float32", (64, 64)))
    return {"seconds": round(taken, 1), "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--full-size", action="store_true")
    options = parser.parse_args()
    figures: dict[str, Any] = {}
    if options.full_size:  # first, so that the peak is its own
        figures["full_size_export"] = full_size()
    with tempfile.TemporaryDirectory() as folder:
        figures |= measured(options.rounds, options.batches, Path(folder))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
