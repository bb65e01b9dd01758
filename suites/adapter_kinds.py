"""The same pencil-sketch look learnt as a LoRA, a LoHa, a LoKr and a DoRA: how strong should each kind be?"""

from pathlib import Path

from harness import Adapter, Candidate, Gate, Grid, Suite, read_prompts

KINDS = {"LoRA": "zoo:sketch", "LoHa": "zoo:sketch-loha", "LoKr": "zoo:sketch-lokr", "DoRA": "zoo:sketch-dora"}

SUITE = Suite(
    name="adapter_kinds",
    description="One look on the zoo's base checkpoint, learnt by four kinds of adapter, each at three weights.",
    candidates=[
        Candidate(name="none", model="zoo:base", axes={"kind": "none"}),
        # A weight of 1 means something else for each kind, so the weight is no common axis that could be averaged over.
        *(Candidate(name=f"{kind} {weight:g}", model="zoo:base", adapters=(Adapter(path=path, weight=weight),),
                    axes={"kind": kind}) for kind, path in KINDS.items() for weight in (0.5, 1, 1.5)),
    ],
    baseline="none",
    grid=Grid(
        # Every other prompt: weights differ far more than prompts do, and adapter_weights asks for all of them.
        prompts=read_prompts(Path(__file__).with_name("zoo_sketch_prompts.toml"))[::2],
        seeds=(1,),
        guidance_scales=(3,),
        sampler="dpmpp_2m", steps=10, width=64, height=64, batch_size=5,
    ),
    metrics=("clip_score", "palette", "exposure"),
    latency_rounds=1,
    gates=(Gate(value="coverage"), Gate(value="failures", at_most=0)),
)
