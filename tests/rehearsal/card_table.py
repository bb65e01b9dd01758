"""Prints the table of docs/gpu.md: which batches of each model fit onto cards of which memory, as planned.

    python -m tests.rehearsal.card_table
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from harness import Candidate
from harness.declare import Grid, Prompt
from harness.declare.grid import LOW_MEMORY
from harness.materialise import Workbench
from harness.materialise.shape_model import shape_model
from harness.run.memory_plan import Footprint
from harness.samplers import FLOW_FAMILIES
from tests.rehearsal.full_configs import FULL, full_configs
from tests.rehearsal.full_size import sparse_folder
from tests.rehearsal.gpu import GIB

CARDS: Final = (6, 8, 12, 16, 24)
MODELS: Final = {"SD1.5, 512 x 512": ("sd1", 512), "SDXL, 1024 x 1024": ("sdxl", 1024),
                 "SD3.5 medium, 1024 x 1024": ("sd3", 1024), "Flux.1, 1024 x 1024": ("flux", 1024)}
FORMATS: Final = ("", "int8_weight_only", "int4_weight_only")
STEPS: Final = ("", "t", "t v", "t v d")


def cell(footprint: Footprint, card: int) -> str:
    """The largest batch, with the fewest measures with which one image fits."""
    for count, letters in enumerate(STEPS):
        if batch := footprint.largest_batch(card * GIB, tuple(LOW_MEMORY)[:count], most=16):
            return f"{batch} {letters}".strip()
    return "–"


def main() -> None:
    """Prints the rows."""
    print(f"| | | {' | '.join(f'{card} GB' for card in CARDS)} |\n|---|---|{'---|' * len(CARDS)}")
    with TemporaryDirectory() as name:
        for title, (family, size) in MODELS.items():
            folder = Path(name) / family
            configs = full_configs(family, Path(name) / f"{family}-configs") if family in FULL else None
            sparse_folder(folder / "model", family, configs)
            grid = Grid(prompts=(Prompt(id="p", text="a"),), seeds=(1,), guidance_scales=(4.0,), steps=20, width=size,
                        height=size, sampler="flow_euler" if family in FLOW_FAMILIES else "dpmpp_2m")
            bench = Workbench(device="cuda", root=folder, steps=20)
            for mode in FORMATS:
                candidate = Candidate(name="m", model="model", **({"quantization": mode} if mode else {}))  # type: ignore[arg-type]
                footprint = Footprint(shape_model(candidate, bench), grid, "cuda")
                word = bench.in_its_format(candidate).quantization
                print(f"| {title} | `{word}` | {' | '.join(cell(footprint, card) for card in CARDS)} |", flush=True)


if __name__ == "__main__":
    main()
