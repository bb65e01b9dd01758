"""How strongly should a reference picture count? An image prompt at several weights, between its look and the prompt's words."""

from harness import BASELINE, DESIRABILITY, Desirability, Gate, Grid, Objective, Prompt, Reference, Suite, reference_sweep

SUBJECTS = ("ball", "star", "heart", "tree", "house", "car", "fish", "flower", "cup", "boat", "cat", "dress")


def prompt(subject: str, number: int, split: str, text: str) -> Prompt:
    """A prompt that names a subject, and a picture that shows it in a colour that the text leaves open."""
    return Prompt(id=f"{subject}-{split}", text=text, split=split, pictures={"look": f"zoo:picture-{subject}-{number}"})


SUITE = Suite(
    name="reference",
    description="The zoo's image prompt on its base: each prompt names a subject, and its reference shows one in a colour.",
    candidates=reference_sweep("zoo:base", Reference(path="zoo:image-prompt", picture="look"), weights=(0, 0.25, 0.5, 0.75, 1)),
    baseline="reference=0",
    grid=Grid(
        prompts=(*(prompt(subject, 3 * n % 8, "select", f"a {subject}") for n, subject in enumerate(SUBJECTS)),
                 *(prompt(subject, 8 + 5 * n % 8, "confirm", f"a simple {subject}") for n, subject in enumerate(SUBJECTS))),
        seeds=(1, 2), guidance_scales=(3,), steps=10, width=64, height=64, batch_size=24,
    ),
    metrics=("clip_score", "likeness", "exposure"),
    objective=Objective(maximise=DESIRABILITY, penalties=(), desirabilities=(
        Desirability(metric="clip_score", worst=60, best=75), Desirability(metric="likeness", worst=50, best=95))),
    latency_rounds=3,
    gates=(
        Gate(value="coverage"),
        Gate(value="failures", at_most=0),
        Gate(value="likeness", at_least=80),
        Gate(value="clip_score", not_worse_than=BASELINE, margin=12),
    ),
)
