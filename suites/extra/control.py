"""How much of the picture, how much of the words? A merge with an edge ControlNet at six weights. Three of the twelve prompts
name another subject than their picture shows, so obeying the picture has a price."""

from harness import DESIRABILITY, Control, Desirability, Gate, Grid, Merge, Objective, Prompt, Suite, control_sweep

SAID_AND_SHOWN = (
    ("red fish", "fish"), ("blue star", "star"), ("green car", "car"), ("yellow tree", "tree"), ("orange cat", "cat"),
    ("purple house", "house"), ("red star", "boat"), ("blue car", "flower"), ("pink heart", "heart"), ("blue boat", "boat"),
    ("green ball", "ball"), ("yellow fish", "cup"),
)
"""What the words name, and what the picture shows: the last four confirm."""

SUITE = Suite(
    name="control",
    description="The zoo's photo and anime merged at 0.5, with the edge ControlNet at weights from 0 to 2.",
    candidates=control_sweep(Merge(a="zoo:photo", b="zoo:anime", alpha=0.5), Control(path="zoo:control-edges", picture="edges"),
                             weights=(0, 0.25, 0.5, 0.75, 1, 2)),
    baseline="control=0",
    grid=Grid(
        prompts=tuple(
            Prompt(id=f"{said.replace(' ', '-')}-as-{shown}", text=f"a {said} on a white background",
                   split="select" if number < 8 else "confirm", pictures={"edges": f"zoo:edges-{shown}-{number}"})
            for number, (said, shown) in enumerate(SAID_AND_SHOWN)),
        seeds=(1, 2), guidance_scales=(3,), steps=10, width=64, height=64, batch_size=12,
    ),
    metrics=("clip_score", "control_edges", "edges", "exposure"),
    objective=Objective(maximise=DESIRABILITY, penalties=(), desirabilities=(
        Desirability(metric="clip_score", worst=20, best=80), Desirability(metric="control_f1", worst=0.2, best=0.85))),
    latency_rounds=3,
    gates=(
        Gate(value="coverage"),
        Gate(value="failures", at_most=0),
    ),
)
