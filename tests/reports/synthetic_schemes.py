"""A run of candidates that combine models and pictures: its suite, and records of what each costs."""

from __future__ import annotations

from dataclasses import replace

from harness.declare import Candidate, Ensemble, Merge, Relay, Suite
from harness.declare.guiding import Control, Reference
from harness.declare.post_steps import Lut, Upscale
from harness.declare.stages import Stage
from harness.records import Latency, Memory, Reading, Record
from harness.records.costs import MAKING, STORED, STORED_DENOISER
from tests.reports import synthetic

MIB = 2**20
NIGHT = Stage(model="zoo:anime", strength=0.5, prompt="{prompt}, <i>night</i>")
CANDIDATES = (
    Candidate(name="alone", model="zoo:photo"),
    Candidate(name="merge", model=Merge(a="zoo:photo", b="zoo:anime", alpha=0.4)),
    Candidate(name="both", model=Ensemble(models=("zoo:photo", "zoo:anime"), weights=(0.5, 0.5))),
    Candidate(name="both 0.3", model=Ensemble(models=("zoo:photo", "zoo:anime"), weights=(0.7, 0.3))),
    Candidate(name="turns", model=Relay(models=("zoo:photo", "zoo:anime"), at=(0.4,))),
    Candidate(name="night", model="zoo:photo", stages=(NIGHT,)),
    Candidate(name="graded", model="zoo:photo", stages=(NIGHT,), post=(Lut("teal.cube", strength=0.5), Upscale(factor=1))),
    Candidate(name="edges", model="zoo:photo", controls=(Control(path="edges.safetensors", picture="edges", weight=0.8),),
              references=(Reference(path="ip.bin", picture="face"),)),
)
STORED_MIB = {"alone": 10, "merge": 10, "both": 16, "both 0.3": 16, "turns": 16, "night": 15, "graded": 15, "edges": 14}
SECONDS = {"both": 0.38, "both 0.3": 0.40, "night": 0.27, "graded": 0.28}


def suite() -> Suite:
    prompts = tuple(replace(p, pictures={"edges": f"maps/{p.id}.png", "face": f"faces/{p.id}.png"})
                    for p in synthetic.SMALL.prompts)
    return synthetic.merge_suite(name="schemes", candidates=CANDIDATES, baseline="alone", gates=(),
                                 grid=replace(synthetic.SMALL, prompts=prompts))


def costs(candidate: Candidate) -> list[Record]:
    """Weights and peaks as a GPU reads them, and the phases of every stage."""
    stored, seconds = STORED_MIB[candidate.name] * MIB, SECONDS.get(candidate.name, 0.2)
    shares = {"text": 0.1, "denoise": 0.7, "decode": 0.2}
    if candidate.stages:
        shares = {"text": 0.1, "denoise": 0.4, "stage 2 begin": 0.05, "stage 2 text": 0.05, "stage 2 denoise": 0.25,
                  "decode": 0.15}
    if candidate.post:
        shares["post"] = 0.01
    rounds = tuple(seconds + 0.001 * i for i in range(6))
    readings = (Reading(name="over_idle_peak_bytes", unit="bytes", value=stored + 30 * MIB),
                Reading(name=MAKING + "over_idle_peak_bytes", unit="bytes", value=stored + 35 * MIB),
                Reading(name=STORED, unit="bytes", value=stored),
                Reading(name=STORED_DENOISER, unit="bytes", value=stored - 4 * MIB))
    return [Latency(candidate=candidate.name, batch_size=1, warmup_rounds=1, guidance=3.0, setting=synthetic.TIMED,
                    yardstick=(0.010,) * 6, seconds={"total": rounds, **{
                        phase: tuple(share * r for r in rounds) for phase, share in shares.items()}}),
            Memory(candidate=candidate.name, readings=readings, setting=synthetic.TIMED)]
