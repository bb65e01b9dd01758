"""What does it cost to combine models? One model, a merge, two stages, an ensemble, a relay, a control and a reference, of the
same two checkpoints and the same pictures."""

from harness import Candidate, Control, Ensemble, Gate, Grid, Merge, Prompt, Reference, Relay, Stage, Suite

BOTH = ("zoo:photo", "zoo:anime")
SUBJECTS = ("fish", "star", "car", "tree", "cat", "house", "boat", "flower", "heart", "cup", "ball", "dress")

SUITE = Suite(
    name="schemes",
    description="The zoo's photo and anime checkpoints, combined in every way there is.",
    candidates=(
        Candidate(name="photo", model=BOTH[0]),
        Candidate(name="merge", model=Merge(a=BOTH[0], b=BOTH[1], alpha=0.5)),
        Candidate(name="two stages", model=BOTH[0], stages=(Stage(model=BOTH[1], strength=0.5),)),
        Candidate(name="ensemble", model=Ensemble(models=BOTH, weights=(0.5, 0.5))),
        Candidate(name="relay", model=Relay(models=BOTH, at=(0.5,))),
        Candidate(name="edges", model=BOTH[0], controls=(Control(path="zoo:control-edges", picture="edges"),)),
        Candidate(name="like", model=BOTH[0], references=(Reference(path="zoo:image-prompt", picture="like", weight=0.5),)),
    ),
    baseline="photo",
    grid=Grid(
        prompts=tuple(
            Prompt(id=subject, text=f"a {subject} on a white background", split="select" if number < 8 else "confirm",
                   pictures={"edges": f"zoo:edges-{subject}-{number}", "like": f"zoo:picture-{subject}-{number}"})
            for number, subject in enumerate(SUBJECTS)),
        seeds=(1,), guidance_scales=(3,), steps=20, width=64, height=64, batch_size=12,
    ),
    metrics=("clip_score", "palette", "exposure"),
    latency_rounds=5,
    gates=(
        Gate(value="coverage"),
        Gate(value="failures", at_most=0),
    ),
)
