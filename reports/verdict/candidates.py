"""What a suite's candidates are to each other: the axis they sweep, the parents and controls among them, their labels."""

from __future__ import annotations

from typing import Final

from harness.declare import Merge, Suite
from harness.declare.candidate_names import parts_of_name
from harness.declare.listing import brief
from harness.declare.swept_axis import varies_fidelity
from reports import formatting as words
from reports.read.roles import axis_of, controls
from reports.read.run import Run

_NOT_OFFERED: Final = " is not offered on "
_LONGEST: Final = 240
_ALONE: Final = "transformer"
"""The one component of a model that the pipeline of its folder samples: what else an image needs is from A's folder."""

__all__ = ["axis_of", "controls", "label", "label_with_role", "not_run", "parents", "present", "role_label", "varies_fidelity"]


def label(run: Run, name: str) -> str:
    """A candidate in words: "alpha 0.35" on a numeric axis, its visible name otherwise; axis values must tell it apart. A name
    that says more than this value, as "strength=0.4 control=1", is itself. KeyError for a name that the suite does not have."""
    value = run.axis_values.get(run.candidate(name).name)
    return words.visible(name) if value is None or len(parts_of_name(name)) > 1 else f"{run.axis} {value:g}"


def label_with_role(run: Run, name: str) -> str:
    """As `label`, with the role of a control: "alpha 0 (parent A)"."""
    role = role_label(run, name)
    return f"{label(run, name)} ({role})" if role else label(run, name)


def role_label(run: Run, name: str) -> str:
    """The role of a control in words, empty for others. A merge is called parent B only if all of its parts are B's: "B's unet"
    where the others are still A's, also where a folder gives them."""
    role, model = run.roles.get(name, ""), run.candidate(name).model
    if not role.startswith("parent") or not isinstance(model, Merge):
        return role
    rows = [row for row in run.coverage if row.candidate == name and row.stage == "merge" and row.component not in model.take]
    merged = [row.component for row in rows if row.keys.get("merged") or row.keys.get("merged_in_part")]
    if role != "parent A" and merged and (len(merged) < len(rows) or merged == [_ALONE]):
        role = f"{role[-1]}'s {' and '.join(merged)}"
    return f"{role}, another {' and '.join(model.take)}" if model.take else role


def parents(suite: Suite) -> tuple[str, ...]:
    """Controls that are no mixture: alpha 0 and 1, or the model without the adapter."""
    return tuple(n for n, role in controls(suite).items() if role.startswith(("parent", "without")))


def present(run: Run) -> list[str]:
    """Names of candidates that have images, by axis value when there is one, else as declared."""
    with_images = set(run.images["candidate"])
    sampled = [c for c in run.suite.candidates if c.name in with_images]
    axis = run.axis
    if axis is not None:
        sampled.sort(key=lambda c: float(c.axes[axis]))
    return [c.name for c in sampled]


def not_run(run: Run) -> str:
    """The candidates without images that the device does not offer, in words: "fp16 not run (not offered on cpu: no kernels)". An
    empty string where there are none."""
    refused, with_images = run.head.get("not_offered", {}), set(run.images["candidate"])
    labels: dict[str, list[str]] = {}
    for candidate in run.suite.candidates:
        if candidate.name in refused and candidate.name not in with_images:
            # What to do about it is said among what is missing.
            what, said, why = str(refused[candidate.name]).partition("; ")[0].partition(_NOT_OFFERED)
            labels.setdefault(f"{_NOT_OFFERED.strip()} {why}" if said else what, []).append(label(run, candidate.name))
    return "; ".join(f"{words.listed(names)} not run ({words.visible(brief(why.rstrip('.'), _LONGEST)).removeprefix('is ')})"
                     for why, names in labels.items())
