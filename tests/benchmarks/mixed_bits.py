"""A Mixed by the sensitivity of layers beside the same bits by chance, in dB on held-out prompts of the zoo. Run by hand:
`python -m tests.benchmarks.mixed_bits --bits 6 7`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import gettempdir

from harness.commands.sensitivity_text import verdict_lines
from harness.declare import Suite
from harness.declare.load_suite import load_suite
from harness.run.progress import Bar
from harness.sensitivity import PICTURES, PROBE, Gauging, chosen, drawn, judged, measured, mixed_of, subject_of, uniform

MEASURED_SUITE = Path(__file__).parents[2] / "suites" / "quantization.py"


def compare(bits: Sequence[float], modes: tuple[str, str], kind: str, draws: int, seeds: int, prompts: int) -> None:
    """Prints the verdict for each budget. Errors are kept in a file, so that a second call measures no layer again."""
    suite = load_suite(MEASURED_SUITE)
    assert isinstance(suite, Suite)
    subject = subject_of(replace(suite, grid=replace(suite.grid, seeds=tuple(range(1, seeds + 1)))), "fp32", "cpu", Path.cwd())
    bar = Bar(0, unit="steps")
    bar.start()
    out = Path(gettempdir()) / f"mixed-bits-{kind}-{prompts}-{seeds}.json"
    found = measured(subject, modes, Gauging(kind=kind, prompts=subject.prompts("select")[:prompts]), out, bar)
    recipes = {f"{of:g} bits": chosen(found.layers, of) for of in bits}
    by_chance = {f"{of:g} bits by chance {seed}": drawn(found.layers, of, seed) for of in bits for seed in range(1, draws + 1)}
    choices = {**recipes, **by_chance}
    bar.expect(1 + len(choices) + len(modes))
    results = judged(subject, {**{name: mixed_of(choice) for name, choice in choices.items()}, **{mode: mode for mode in modes}},
                     subject.prompts("confirm"), bar)
    bar.stop()
    reached = {name: choice.bits for name, choice in choices.items()} | {mode: uniform(found.layers, mode).bits for mode in modes}
    for recipe in recipes:
        prefix = f"{recipe} by chance"
        listed = {name: of for name, of in results.items() if name == recipe or name.startswith(prefix) or name in modes}
        print("\n".join(verdict_lines(listed, reached, recipe, prefix)), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bits", type=float, nargs="+", default=[6.0])
    parser.add_argument("--modes", nargs=2, default=["int4_weight_only", "int8_weight_only"])
    parser.add_argument("--kind", choices=[PROBE, PICTURES], default=PROBE)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--prompts", type=int, default=4)
    given = parser.parse_args()
    compare(given.bits, tuple(given.modes), given.kind, given.draws, given.seeds, given.prompts)
