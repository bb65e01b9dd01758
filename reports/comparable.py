"""What may be compared between two runs, or a run and a baseline file, and why not: one rule for gates, comparisons and trends.

Pictures are equal or not by their bytes alone. Values are compared where the same prompts were sampled with the same settings and
measured alike, and no picture that prompts are given is another one; another device or batch size changes last bits, not meaning,
and is said beside the values. Costs are compared on one machine with one torch, for images of the same size and steps. See
docs/decisions/017.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from harness.declare import short_hash
from harness.declare.component_runtimes import PACKAGES, Runtimes, runtimes_in
from harness.declare.effective_grid import sampling_block
from harness.records.baseline_file import Baseline
from harness.records.values import derivation
from reports.read.run import Run

DEVICE_MODEL: Final = "device_model"
LAST_BITS: Final = ("batch_size", "device", DEVICE_MODEL)
"""Sampling settings that change the last bits of an image and not what it shows."""
TIMED_BY: Final = ("sampler", "steps", "width", "height", "guidance_start", "guidance_end")
"""Sampling settings that decide how long an image takes; outside of guidance the denoiser does half of the work."""
MACHINE: Final = ("device", "device_name", "cpu", "cuda", "driver", "torch_threads", "packages.torch")
"""Facts of an environment that decide what an image costs."""
PICTURED_BY: Final = ("device_name", "cpu", "cpu_capability", "cuda", "cudnn", *(f"packages.{name}" for name in (
    "torch", "diffusers", "transformers", "peft", "torchao")), "variables", "threads_per_operation")
"""Facts of an environment that decide the last bits of an image, beside its flags."""


NOT_INSTALLED: Final = "not installed"
Conditions: TypeAlias = tuple[Mapping[str, Any], Mapping[str, Any]]
"""The environment and the sampling block of a run, or of a baseline file."""
Pictures: TypeAlias = Mapping[str, Mapping[str, str]]
"""The contents of the pictures that prompts have, by identifier and name."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a value was measured with: the metric, its versions, the hash of its settings, and for a paired metric the reference
    candidate: its key, the hashes of its input files and, where it is on record, the identity of its weights."""

    metric: str
    versions: tuple[Any, ...]
    setting: str = ""
    paired: bool = False
    reference: Mapping[str, Any] = field(default_factory=dict)


def sampled_as(run: Run, name: str) -> Mapping[str, Any]:
    """The sampling block of a candidate's images: the run's, with what the candidate says itself."""
    return sampling_block(run.head.get("sampling", {}), run.suite, run.candidate(name))


def sampled_otherwise(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """The sampling settings for which no image of the one is the pair of an image of the other, with both values; empty where
    there are none."""
    return _differing(before, after, sorted({*before, *after} - set(LAST_BITS)))


def last_bits(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """The sampling settings that change the last bits of images alone, with both values; empty where these are the same."""
    # The model of a GPU is on record where images are made on one, and since a version.
    return _differing(before, after, [name for name in LAST_BITS if name != DEVICE_MODEL or (name in before and name in after)])


def costs_otherwise(before: Conditions, after: Conditions, runtimes: Iterable[Runtimes] = ()) -> str:
    """What makes the costs of two runs incomparable, with both values: facts of the machine, versions of what executes the
    candidates, or settings that decide the work for an image; empty where the costs may be compared. `runtimes` are those of the
    candidates that are compared."""
    then, now = ({name: _fact(environment, name) for name in MACHINE} for environment, _ in (before, after))
    return ", ".join(filter(None, (_differing(then, now, MACHINE), executed_otherwise(before[0], after[0], runtimes),
                                   _differing(before[1], after[1], TIMED_BY))))


def executed_otherwise(before: Mapping[str, Any], after: Mapping[str, Any], runtimes: Iterable[Runtimes]) -> str:
    """The packages of built-in runtimes whose versions differ between two environments, with both; empty where none does."""
    names = _packages_of(runtimes)
    then, now = ({name: _package(environment, name) for name in names} for environment in (before, after))
    return _differing(then, now, names)


def _packages_of(runtimes: Iterable[Runtimes]) -> tuple[str, ...]:
    """The facts of an environment that say the versions of the packages of runtimes."""
    return tuple(dict.fromkeys(f"packages.{package}" for runtime in runtimes for name in runtimes_in(runtime)
                               for package in PACKAGES.get(name, ())))


def _package(environment: Mapping[str, Any], name: str) -> Any:
    """The version of a package. One that an earlier version of the product did not ask for was not used by it either."""
    return _fact(environment, name) or NOT_INSTALLED


def pictured_otherwise(run: Run) -> str:
    """What differs between the environments that the images of a run were made in, with all values and how many images each has;
    empty where nothing that can change a picture does. Images of versions that did not record it may be of any session."""
    earlier = run.head.get("earlier_environments")
    sessions = {short_hash(one): one for one in (*(earlier if isinstance(earlier, list) else ()), run.environment)
                if isinstance(one, Mapping)}
    used = {digest: one for digest, one in sessions.items() if run.written_in.get(digest) or run.written_in.get("")}
    # How a sum is shared out among threads shows in its last bits.
    threaded = ["torch_threads"] if any(one.get("threads_per_operation") != 1 for one in used.values()) else []
    flags = sorted({f"flags.{name}" for one in used.values() if isinstance(one.get("flags"), Mapping) for name in one["flags"]})
    executed_by = _packages_of(candidate.runtime for candidate in run.suite.candidates)
    differing = []
    for name in (*PICTURED_BY, *executed_by, *flags, *threaded):
        counts: Counter[str] = Counter()
        for digest, one in used.items():
            counts[_said(_fact(one, name))] += run.written_in.get(digest, 0)
        if len(counts) > 1:
            counted = {} if run.written_in.get("") else {value: f" ({count} images)" for value, count in counts.items()}
            differing.append(f"{_in_words(name)} {' and '.join(value + counted.get(value, '') for value in counts)}")
    return ", ".join(differing)


def measured_otherwise(before: Measured, after: Measured) -> str:
    """Why two measurements of a value are not the same measurement; empty where they are."""
    if before.versions != after.versions:
        return f"measured by version {_listed(before.versions)} and {_listed(after.versions)} of {after.metric}"
    if before.setting != after.setting:
        return (f"measured with another setting of {after.metric} (for example another CLIP model): "
                f"{before.setting or 'none'} and {after.setting or 'none'}")
    known = before.reference.keys() & after.reference.keys()
    if after.paired and (not known or any(before.reference[name] != after.reference[name] for name in known)):
        return "taken against another baseline candidate, or other files of it"
    return ""


def measured_in(run: Run, value: str) -> Measured:
    """What a run measured a value with."""
    row, weights = run.row(value), run.weights.get(run.suite.baseline)
    reference = {} if weights is None else {
        "key": run.candidate(run.suite.baseline).key, "inputs": sorted(weights.inputs.values()), "identity": weights.identity}
    return Measured(metric=row.metric, versions=tuple(run.versions_behind(value)), paired=row.paired, reference=reference,
                    setting=str(run.head.get("metric_settings", {}).get(row.metric, "")))


def measured_in_file(baseline: Baseline, run: Run, value: str) -> Measured | None:
    """What a value of a baseline file was measured with, by the metric that it has in `run`; None where the file has not that
    metric."""
    row = run.row(value)
    if row.metric not in baseline.metrics:
        return None
    versions = [baseline.metrics[row.metric]]
    if row.origin == "derived" and row.name in baseline.metrics:
        versions.append(derivation(baseline.metrics[row.name]))
    return Measured(metric=row.metric, versions=tuple(versions), paired=row.paired, reference=baseline.reference,
                    setting=str(baseline.settings.get(row.metric, "")))


def same_prompts(before: Mapping[str, tuple[str, str]], after: Mapping[str, tuple[str, str]],
                 pictures: tuple[Pictures, Pictures]) -> set[str]:
    """The identifiers of prompts whose text and negative text are the same in both, and no picture another one."""
    return {name for name, texts in after.items() if before.get(name) == texts} - other_pictures(*pictures)


def other_pictures(before: Pictures, after: Pictures) -> set[str]:
    """The identifiers of prompts with a picture of other content than before. A picture that is used in one of the two alone says
    nothing: it came or went with its candidates, and the others do not depend on it."""
    return {name for name, own in after.items()
            if any(before.get(name, {}).get(picture, content) != content for picture, content in own.items())}


def _differing(before: Mapping[str, Any], after: Mapping[str, Any], names: Iterable[str]) -> str:
    """"steps 20 and 30" for each of the names that is not the same in both."""
    return ", ".join(f"{_in_words(name)} {_said(before.get(name))} and {_said(after.get(name))}"
                     for name in names if before.get(name) != after.get(name))


def _fact(environment: Mapping[str, Any], name: str) -> Any:
    """A fact of an environment by its dotted name; of a device its kind, since the number says nothing of the model."""
    value: Any = environment
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return str(value).partition(":")[0] if name == "device" and value is not None else value


def _in_words(name: str) -> str:
    return name.removeprefix("packages.").removeprefix("flags.").replace("_", " ")


def _said(value: Any) -> str:
    return "not stated" if value is None else str(value)


def _listed(versions: tuple[Any, ...]) -> str:
    return ", ".join(map(str, versions))
