"""The pick's recipe as `sweetspot merge` reads it, so that what a page recommends can be made."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass, replace
from typing import Any, Final

from harness.declare import Alphas, Candidate, Checkpoint, Ensemble, Fused, Relay, plain
from harness.declare.candidate_words import described
from harness.declare.mixed import spelled
from reports import formatting as words
from reports.read.run import Run
from reports.verdict.candidates import label

BEYOND_THE_MODEL: Final = ("stages", "controls", "references", "inpaint", "post")
"""The fields of a candidate that no recipe of a model holds."""


def recipe_section(run: Run, pick: str | None) -> dict[str, str] | None:
    """`text` is the pick's recipe as JSON, `one_file` whether `sweetspot merge` can write it, and `notes` what it does not hold;
    None where nothing was merged or picked. Of a candidate of several stages or with pictures it is the whole candidate."""
    if pick is None:
        return None
    candidate = run.candidate(pick)
    if any(getattr(candidate, name) for name in BEYOND_THE_MODEL):
        return {"one_file": "", "text": json.dumps(short(replace(candidate, axes={})), indent=1, ensure_ascii=True),
                "name": label(run, pick), "notes": words.visible(
                    f"No model file holds all of this candidate, which is made so: {'; '.join(described(candidate))}. The suite "
                    "as declared has it.")}
    model, notes = _whole(candidate)
    if isinstance(model, str | Checkpoint):
        return None
    if candidate.quantization != "fp32":
        mode = words.visible(spelled(candidate.quantization))
        notes.append(f"It is written in full precision; {mode} is made of it when it is loaded.")
    if candidate.emphasis or candidate.aesthetic:
        notes.append("The treatment of the prompts' embedding is no part of a model file; the suite as declared has it.")
    if any(prompt.adapters for prompt in run.suite.grid.prompts):
        notes.append("The adapters that some prompts bring are no part of it.")
    if isinstance(model, Relay | Ensemble):
        notes.insert(0, words.visible(
            f"This is {'; '.join(described(candidate))}. The models are live together, so no single file holds it; those of them "
            "that are merges can be written one by one."))
    several = isinstance(model, Relay | Ensemble)
    return {"one_file": "" if several else "yes", "text": json.dumps(short(model), indent=1, ensure_ascii=True),
            "name": label(run, pick), "notes": " ".join(notes)}


def _whole(candidate: Candidate) -> tuple[Any, list[str]]:
    """The model with its adapters fused in where that can be; where an adapter comes and goes within a picture it cannot."""
    if not candidate.adapters:
        return candidate.model, []
    if any((a.start, a.end) != (0.0, 1.0) for a in candidate.adapters):
        return candidate.model, ["Its adapters are on for a part of the steps only, so they cannot be fused: the suite as "
                                 "declared has them."]
    if isinstance(candidate.model, Relay | Ensemble):
        return candidate.model, ["Its adapters act in each of its models; the suite as declared has them."]
    return Fused(model=candidate.model, adapters=candidate.adapters), []


def short(value: Any) -> Any:
    """A declaration as the data that a recipe file holds, without the fields that are as they would be anyway."""
    if isinstance(value, Alphas) or not is_dataclass(value):
        return plain(value) if not isinstance(value, list | tuple) else [short(v) for v in value]
    changed = {}
    for field in fields(value):
        content = getattr(value, field.name)
        usual = field.default_factory() if callable(field.default_factory) else field.default
        if content != usual:
            changed[field.name] = {k: short(v) for k, v in content.items()} if isinstance(content, dict) else short(content)
    return {"is": type(value).__name__, **changed}
