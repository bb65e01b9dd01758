"""How fast adapters are fused, added up and switched, as ratios to a floor measured in the same run; nothing decides a test.

    python tests/benchmarks/adapters.py fusing
    python tests/benchmarks/adapters.py summing --sample 3
    python tests/benchmarks/adapters.py switching
    python tests/benchmarks/adapters.py all --rounds 5

fusing:    a LoRA of rank 32 for the 264 modules that kohya's trainer adapts in Stable Diffusion 1.5 (192 of the U-Net, 72 of
           the text encoder) into weights in memory, against copying those weights once.
summing:   two LoRAs of rank 32 for SDXL's U-Net, cut to rank 32: through the factors' QR against torch.linalg.svd of the dense
           sum. The dense way is timed on the first modules of every shape and counted up to all of them, which the table says.
switching: from one resident style to another on a U-Net of Stable Diffusion 1.5's size, by strengths and by activation.

Weights are random; contenders take turns, every figure is the median of --rounds. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from harness.adapters import Change, Factors, attach, set_weight
from harness.adapters.live_plan import AdapterPlan

if TYPE_CHECKING:
    import torch

RANK, STRENGTH = 32, 0.8
ENDS = (".to_q", ".to_k", ".to_v", ".to_out.0", ".ff.net.0.proj", ".ff.net.2", ".proj_in", ".proj_out")
Shape = tuple[int, ...]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("fusing", "summing", "switching", "all"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sample", type=int, default=1, help="summing: how many modules of every shape are taken apart densely")
    parser.add_argument("--threads", type=int, help="torch's threads (default: its own choice)")
    given = parser.parse_args()
    import torch

    if given.threads:
        torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    found: dict[str, Any] = {"threads": torch.get_num_threads(), "rounds": given.rounds}
    with torch.no_grad():
        if given.what in ("fusing", "all"):
            found["fusing"] = fusing(given.rounds)
        if given.what in ("summing", "all"):
            found["summing"] = summing(given.rounds, given.sample)
        if given.what in ("switching", "all"):
            found["switching"] = switching(given.rounds)
    print(json.dumps(found))


def sd15_modules() -> dict[str, Shape]:
    """The 264 modules and their weights' shapes."""
    from tests.benchmarks.shapes import single_file_shapes

    names = {name.removesuffix(".weight"): shape for name, (_, shape) in single_file_shapes("sd15").items()
             if name.endswith(".weight")}
    ends = (*ENDS, ".q_proj", ".k_proj", ".v_proj", ".out_proj", ".fc1", ".fc2")
    made = {name: shape for name, shape in names.items() if len(shape) > 1 and name.endswith(ends)
            and not name.startswith("first_stage_model.")}
    words = sum(name.startswith("cond_stage_model.") for name in made)
    if (len(made) - words, words) != (192, 72):
        raise SystemExit(f"{len(made) - words} modules of the U-Net and {words} of the text encoder; expected 192 and 72")
    return made


def lora(path: str, shape: Shape) -> Change:
    import torch

    down, up = torch.randn(RANK, *shape[1:]) * 0.02, torch.randn(shape[0], RANK, *(1 for _ in shape[2:])) * 0.02
    return Change(component="unet", path=path, kind="lora", tensors={"down": down, "up": up}, rank=RANK, scale=0.5)


def medians(contenders: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Seconds of each, the contenders by turns, after one round that does not count."""
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, contender in contenders.items():
            started = time.perf_counter()
            contender()
            if number:
                taken[name].append(time.perf_counter() - started)
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


def table(title: str, seconds: dict[str, float], floor: str) -> None:
    print(f"{title:80} {'median s':>10} {'x floor':>8}")
    for name, took in seconds.items():
        print(f"  {name:78} {took:10.4f} {took / seconds[floor]:8.2f}")


def fusing(rounds: int) -> dict[str, float]:
    import torch

    from harness.adapters.kinds import changed_weight, delta
    from harness.merge import Altered, Source, Target, write_live

    modules = sd15_modules()
    weights = {name: torch.randn(shape) * 0.02 for name, shape in modules.items()}
    halves = {name: weight.half() for name, weight in weights.items()}
    live = {name: torch.empty_like(weight) for name, weight in weights.items()}
    changes = {name: lora(name, shape) for name, shape in modules.items()}

    def copy(source: dict[str, torch.Tensor]) -> None:
        for name, weight in source.items():
            live[name].copy_(weight)

    def fuse() -> None:
        for name, change in changes.items():
            changed_weight(change, weights[name], STRENGTH, out=live[name])

    def dense() -> None:
        for name, change in changes.items():
            live[name].copy_(weights[name] + STRENGTH * delta(change, weights[name]))

    def altered(change: Change) -> Callable[[torch.Tensor], torch.Tensor]:
        return lambda base: changed_weight(change, base, STRENGTH)

    def targets(dtype: str) -> list[Target]:
        return [Target(key=name, dtype="F32", live=live[name], expression=Altered(
            input=Source(model="m", component="unet", key=name, dtype=dtype), said=(name,), alter=altered(change)))
            for name, change in changes.items()]

    single, half = targets("F32"), targets("F16")
    floor = "floor: copying the weights, float32 to float32"
    seconds = medians({
        floor: lambda: copy(weights),
        "fusing, float32 to float32": fuse,
        "dense delta, then added and copied": dense,
        "copying the weights, float16 to float32": lambda: copy(halves),
        "write_live (what a candidate does), float16 to float32": lambda: write_live(half, lambda source: halves[source.key]),
        "write_live (what a candidate does), float32 to float32": lambda: write_live(single, lambda source: weights[source.key]),
    }, rounds)
    exact = max(float((changed_weight(change, weights[name], STRENGTH) - changed_weight(
        change, weights[name].double(), STRENGTH)).norm() / weights[name].double().norm())
                for name, change in list(changes.items())[::20])
    count = sum(weight.numel() for weight in weights.values())
    table(f"fusing rank {RANK} into {len(modules)} modules of SD 1.5, {count / 1e6:.0f} million weights", seconds, floor)
    print(f"  largest relative error of a module in float32: {exact:.1e}")
    return {**seconds, "largest relative error": exact}


def summing(rounds: int, sample: int) -> dict[str, float]:
    import torch

    from harness.adapters.algebra import Cut, combine
    from harness.adapters.algebra.combine import dense_sum

    shapes = sdxl_modules()
    counts = Counter(shapes.values())
    cut = Cut(rank=RANK)
    parts = {name: [(lora(name, shape), 0.7), (lora(name, shape), 0.4)] for name, shape in shapes.items()}
    chosen = {shape: [name for name in shapes if shapes[name] == shape][:sample] for shape in counts}

    def ours() -> None:
        for name, shape in shapes.items():
            combine(parts[name], shape, cut)

    seconds = medians({"through the factors' QR, all modules": ours}, rounds)
    dense_seconds, apart = 0.0, 0.0
    for shape, names in chosen.items():
        taken = []
        for name in names:
            matrix = dense_sum(parts[name], shape).flatten(1).float()
            started = time.perf_counter()
            values = torch.linalg.svd(matrix, full_matrices=False).S
            taken.append(time.perf_counter() - started)
            made, _ = combine(parts[name], shape, cut)
            # up and down each hold the root of a singular value in every column and row.
            own = made.tensors["up"].double().flatten(1).norm(dim=0) * made.tensors["down"].double().flatten(1).norm(dim=1)
            apart = max(apart, float(((own - values[:RANK].double()) / own).abs().max()))
        dense_seconds += statistics.mean(taken) * counts[shape]
    seconds[f"dense torch.linalg.svd, counted up from {sum(map(len, chosen.values()))} modules"] = dense_seconds
    floor = next(iter(seconds))
    table(f"two LoRAs of rank {RANK} to rank {RANK}, {len(shapes)} modules of SDXL in {len(counts)} shapes", seconds, floor)
    print(f"  dense is {dense_seconds / seconds[floor]:.0f} times slower; singular values differ by {apart:.1e}, relative")
    return {**seconds, "times faster": dense_seconds / seconds[floor], "singular values apart": apart}


def sdxl_modules() -> dict[str, Shape]:
    """The U-Net's modules that kohya's trainer adapts."""
    from accelerate import init_empty_weights
    from diffusers import UNet2DConditionModel

    from tests.benchmarks.shapes import SDXL_UNET

    with init_empty_weights():
        state = UNet2DConditionModel(**SDXL_UNET).state_dict()
    return {name.removesuffix(".weight"): tuple(tensor.shape) for name, tensor in state.items()
            if name.endswith(".weight") and name.removesuffix(".weight").endswith(ENDS)}


def switching(rounds: int) -> dict[str, float]:
    """Only the switch is timed, not the sampling that follows it."""
    from harness.adapters import activate

    unet, modules = _unet()
    live = {"unet": unet}
    for name in ("one", "two"):
        attach(_plan(modules), live, name, 1.0 if name == "one" else 0.0)
    style = [0]

    def by_strength() -> None:
        style[0] = 1 - style[0]
        set_weight(live, "one", float(style[0]))
        set_weight(live, "two", float(1 - style[0]))

    def by_activation() -> None:
        style[0] = 1 - style[0]
        activate(live, ["one" if style[0] else "two"])

    def copy() -> None:
        for weight, held in zip(weights, kept, strict=True):
            held.copy_(weight)

    weights = [unet.get_submodule(path).base_layer.weight for path in modules]
    kept = [weight.clone() for weight in weights]
    floor = "floor: copying the adapted weights once, as switching fused styles must"
    seconds = medians({floor: copy, "set_weight on both styles": by_strength, "activate the other style": by_activation}, rounds)
    table(f"switching between two resident LoRAs of rank {RANK} in {len(modules)} modules of SD 1.5's U-Net", seconds, floor)
    return seconds


def _unet() -> tuple[Any, dict[str, Shape]]:
    from diffusers import UNet2DConditionModel

    from harness.weights.live_pipeline import SD1_CONFIGS

    unet = UNet2DConditionModel.from_config(json.loads((SD1_CONFIGS / "unet" / "config.json").read_text())).eval()
    return unet, {name: tuple(module.weight.shape) for name, module in unet.named_modules() if name.endswith(ENDS)}


def _plan(modules: dict[str, Shape]) -> AdapterPlan:
    from harness.adapters.kinds import additive_factors

    factors: dict[tuple[str, str], Factors] = {}
    for path, shape in modules.items():
        found = additive_factors(lora(path, shape), shape)
        assert found is not None  # a plain LoRA has factors
        factors["unet", path] = found
    return AdapterPlan(source="benchmark", format="kohya", factors=factors, keys={})


if __name__ == "__main__":
    main()
