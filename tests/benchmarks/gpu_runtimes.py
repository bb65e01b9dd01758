"""One forward of the zoo's U-Net on a GPU: eager, compiled, ONNX Runtime, and TensorRT with and without refit, in turns in one
run, in float32 and float16.

    python tests/benchmarks/gpu_runtimes.py [--rounds 30] [--batches 2 32] [--device cuda:0]

`forward` are medians in milliseconds, by CUDA's events. `seconds` are those of building and of giving new weights. `guard` are
the errors beside eager for alpha 0, 0.5 and 0; all must be below 1e-4 in float32 and 2e-2 in float16. `nvml_peak_bytes` is the
highest reading of the process while one contender runs at the largest batch, beside what torch has allocated. A contender that
cannot be used says why under `missing`. On a machine without a GPU the script says in one sentence what is missing and exits with
1. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from threading import local
from typing import Any

import torch

from harness.probes.nvml import answer, find_gpu
from harness.runtimes import RUNTIMES, Graph
from harness.runtimes.graph_cache import Graphs
from harness.runtimes.guard import distance
from harness.runtimes.tensor_rt import TensorRt, settled, why_not
from harness.runtimes.tensor_rt_plan import build_plan
from harness.weights import build_pipeline, open_model
from harness.zoo import resolve
from tests.benchmarks.runtimes import SIZE, inputs

ALPHAS = (0.0, 0.5, 0.0)


class WithoutRefit(TensorRt):
    """An engine that keeps its weights, built for each candidate: what a refit costs is shown beside it."""

    def refresh(self, weights: Any, identity: str) -> None:
        self.holds = ""
        given = {name: tensor.cpu() for name, tensor in weights.items()}
        with settled(self._device):
            self._contexts = local()
            plan = build_plan(self._trt, self._log, self._graph, given, refit=False)
            self._engine = self._runtime.deserialize_cuda_engine(plan)
        self.holds = identity


def missing(device: str) -> dict[str, str]:
    """Why a contender cannot be used here."""
    reasons = {"compiled": RUNTIMES["compiled"].why_not(device), "onnxruntime": RUNTIMES["onnxruntime"].why_not(device),
               "tensorrt": why_not(device), "tensorrt without refit": why_not(device)}
    return {name: reason for name, reason in reasons.items() if reason}


def timed(work: Callable[[], Any], device: str) -> float:
    torch.cuda.synchronize(device)
    started = time.perf_counter()
    work()
    torch.cuda.synchronize(device)
    return time.perf_counter() - started


def milliseconds(work: Callable[[], Any]) -> float:
    event: Any = torch.cuda.Event
    before, after = event(enable_timing=True), event(enable_timing=True)
    before.record()
    work()
    after.record()
    after.synchronize()
    return float(before.elapsed_time(after))


def medians(contenders: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Median milliseconds, the contenders in turns, after three calls of each."""
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for work in contenders.values():
        for _ in range(3):
            work()
    for _ in range(rounds):
        for name, work in contenders.items():
            taken[name].append(milliseconds(work))
    return {name: round(statistics.median(of), 3) for name, of in taken.items()}


class Measured:
    """The figures of one number format."""

    def __init__(self, dtype: str, device: str, graphs: Graphs, lacking: dict[str, str]) -> None:
        self.dtype, self.device = dtype, device
        self.unet = _unet("zoo:photo").to(device, getattr(torch, dtype))
        self.ends = [_unet(name).to(device).state_dict() for name in ("zoo:photo", "zoo:anime")]
        self.graph: Graph = graphs.of(self.unet, dtype, SIZE)
        opened: dict[str, Callable[[], Any]] = {
            "onnxruntime": lambda: _opened("onnxruntime", self.graph, device), "tensorrt": lambda: TensorRt(self.graph, device),
            "tensorrt without refit": lambda: WithoutRefit(self.graph, device)}
        self.executors = {name: open_() for name, open_ in opened.items() if name not in lacking}
        self.modules: dict[str, Any] = {"eager": self.unet}
        if "compiled" not in lacking and (apply := RUNTIMES["compiled"].apply) is not None:
            self.modules["compiled"] = apply(self.unet)

    def given(self, count: int) -> dict[str, torch.Tensor]:
        return {name: tensor.to(self.device, torch.float32 if name == "timestep" else getattr(torch, self.dtype))
                for name, tensor in inputs(self.unet, count).items()}

    def contenders(self, count: int) -> dict[str, Callable[[], Any]]:
        given = self.given(count)
        return {**{name: partial(_sample, module, given) for name, module in self.modules.items()},
                **{name: partial(one, given) for name, one in self.executors.items()}}

    def merges(self) -> dict[str, Any]:
        """The seconds of each change of the weights, the first of which builds, and the error beside eager after it."""
        seconds: dict[str, list[float]] = {name: [] for name in self.executors}
        errors: dict[str, list[float]] = {name: [] for name in [*self.executors, *self.modules] if name != "eager"}
        for alpha in ALPHAS:
            self.unet.load_state_dict({name: torch.lerp(tensor, self.ends[1][name], alpha)
                                       for name, tensor in self.ends[0].items()})
            weights = self.unet.state_dict()
            for name, one in self.executors.items():
                seconds[name].append(round(timed(partial(one.refresh, weights, "merge"), self.device), 3))
            work = self.contenders(2)
            eager = work["eager"]().float()
            for name, of in errors.items():
                of.append(distance(work[name]().float(), eager))
        return {"seconds": seconds, "guard": errors}

    def peaks(self, count: int) -> dict[str, Any]:
        """The driver's bytes of this process while each runs alone. Engines of all contenders are in memory, so that only the
        differences to eager's say something."""
        gpu = find_gpu(self.device)
        if isinstance(gpu, str):
            return {"missing": gpu}
        figures = {}
        for name, work in self.contenders(count).items():
            readings = []
            for _ in range(5):
                work()
                torch.cuda.synchronize(self.device)
                readings.append(answer(gpu.process_used_bytes))
            bytes_ = [reading for reading in readings if isinstance(reading, int)]
            figures[name] = {"nvml_peak_bytes": max(bytes_) if bytes_ else readings[0],
                             "torch_allocated_bytes": torch.cuda.memory_allocated(self.device)}
        return figures


def _sample(module: Any, given: dict[str, torch.Tensor]) -> torch.Tensor:
    output: torch.Tensor = module(**given).sample
    return output


def _unet(name: str) -> Any:
    return build_pipeline(open_model(resolve(name)), resolve("zoo:config")).unet.eval().requires_grad_(False)


def _opened(name: str, graph: Graph, device: str) -> Any:
    open_ = RUNTIMES[name].open
    assert open_ is not None
    return open_(graph, device)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--batches", type=int, nargs="+", default=[2, 32])
    parser.add_argument("--device", default="cuda:0")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print(f"torch finds no CUDA device, which these measurements need; {why_not(options.device) or 'tensorrt imports'}.")
        return 1
    # What TensorRT and ONNX Runtime compute in float32 is compared with float32, not with TF32.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    lacking = missing(options.device)
    figures: dict[str, Any] = {"gpu": torch.cuda.get_device_name(options.device), "torch": torch.__version__, "missing": lacking}
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        graphs = Graphs(folder=Path(folder))
        for dtype in ("float32", "float16"):
            one = Measured(dtype, options.device, graphs, lacking)
            figures[dtype] = one.merges() | {
                "forward": {count: medians(one.contenders(count), options.rounds) for count in options.batches},
                "memory": one.peaks(max(options.batches))}
            print(dtype, json.dumps(figures[dtype]), flush=True)
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
