"""The steps of a promotion: all checks first, then save and verify the file, then publish it with its record. Until the last
step only a hidden temporary file is written."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from blake3 import blake3

from harness.declare import Candidate, plain, short_hash
from harness.declare.candidate_words import cache_phrases, saver_phrases
from harness.declare.prompt_texts import texts_in_key
from harness.materialise import Workbench, declared_wider
from harness.probes.device import device_problem
from harness.promotion.eligibility import (
    refuse_changed_inputs,
    refuse_changed_suite,
    refuse_faulty_suite,
    refuse_prompts_adapters,
    refuse_unfit,
)
from harness.promotion.errors import PromotionError
from harness.promotion.export import SavedFile, as_one_file, save_as_measured
from harness.promotion.file_hashes import Weighed, weigh
from harness.promotion.gather import Evidence
from harness.promotion.models_folder import Models
from harness.promotion.named_copy import named_copy, refuse_copy
from harness.promotion.record_files import PROMOTION, RECORD_FORMAT, Version
from harness.promotion.record_parts import cells_part, figures_part, verdict_part
from harness.promotion.resampling import Resampled, resample
from harness.promotion.verifying import made_from, now
from harness.records import sync_folder
from harness.records.regular_files import lies_below
from harness.run.overflow import IN_BF16
from harness.version import __version__
from reports.read.prompts import pictures_of, prompts_of


@dataclass(frozen=True, kw_only=True)
class Promotion:
    """A promotion: its record, its weights, the new baseline, and sentences on how it was checked."""

    version: Version
    weights: Path
    baseline: Path
    notes: tuple[str, ...]


def promote(evidence: Evidence, name: str, models: Models, *, policy: str, suite_file: Path | None = None,
            copy_to: Path | None = None) -> Promotion:
    """Promotes the candidate of `evidence` as `name`. Relative paths of the suite start at the working directory, as in the run.
    `copy_to` is the path of a copy of the weights.

    Raises PromotionError, or the ValueError of something that cannot be read or made, naming suite, candidate, gate or file;
    nothing is published then.
    """
    root = Path.cwd()
    models.folder(name)
    models.baseline(evidence.suite.name)
    if copy_to is not None:
        refuse_copy(copy_to)
        if inside := next((at for at in (models.objects, models.root) if lies_below(copy_to, at)), None):
            raise PromotionError(f"--copy-to {copy_to}: this is inside {inside}, where only promoted versions are kept. Give a "
                                 "path outside")
    refuse_unfit(evidence, policy, first=not models.baseline(evidence.suite.name).exists())
    refuse_changed_suite(evidence, suite_file, root)
    refuse_prompts_adapters(evidence)
    device = _device(evidence)
    declared = next(c for c in evidence.suite.candidates if c.name == evidence.candidate)
    bench = Workbench.for_grid(evidence.suite.grid, device=device, root=root)
    refuse_changed_inputs(evidence, bench.content_for)
    refuse_faulty_suite(evidence, root)
    declared = declared_wider(declared, evidence.identity, evidence.head.get(IN_BF16))
    file = as_one_file(declared, bench)
    if bench.weights(declared).identity != evidence.identity:
        raise PromotionError(f"suite {evidence.suite.name!r}, candidate {declared.name!r}: this version of Sweetspot makes other "
                             "weights from the same files and declaration. Run the suite again")
    staged = models.staged()
    try:
        saved = save_as_measured(file, device, bench, staged, name)
        again = resample(evidence, saved.candidate, device, root, rounded=_rounding(declared, file, saved))
        notes = (*_notes(evidence), *not_in_the_file(declared), saved.comparison, again.outcome)
        weighed = weigh(staged)
        data = _record(evidence, policy, weighed, staged, (declared, file, saved, again))
        with named_copy(staged, weighed, copy_to), models.locked():
            weights = _publish(staged, weighed, models)
            version = models.append(name, data)
            baseline = models.write_baseline(version)
            models.make_current(name, version.number)
    finally:
        staged.unlink(missing_ok=True)
    return Promotion(version=version, weights=weights, baseline=baseline, notes=notes)


def _device(evidence: Evidence) -> str:
    """The device of the run, if this machine has it."""
    device = evidence.head.get("environment", {}).get("device")
    if problem := device_problem(device):
        raise PromotionError(f"suite {evidence.suite.name!r} was measured on {device!r} ({evidence.folder / 'run.json'}): "
                             f"{problem}. Promote on the machine that measured it")
    assert isinstance(device, str)  # anything else is a problem
    return device


def _notes(evidence: Evidence) -> tuple[str, ...]:
    """Notes for the user: the candidate is not the recommended one, or a gate was inconclusive."""
    pick, tied = evidence.recommendation.pick, evidence.candidate in evidence.recommendation.tied_candidates
    notes = [] if evidence.candidate == pick else [
        f"note: the recommendation is {pick!r}; {evidence.candidate!r} is {'tied with it' if tied else 'not tied with it'}"]
    notes += [f"note: gate {r.gate!r} is inconclusive ({r.reason}) and was allowed" for r in evidence.verdicts
             if r.status == "inconclusive"]
    return tuple(notes)


def not_in_the_file(candidate: Candidate) -> tuple[str, ...]:
    """A note on how the candidate was run, which no file of weights holds."""
    phrases = (*saver_phrases(candidate), *cache_phrases(candidate))
    return (f"note: the file holds the weights alone; candidate {candidate.name!r} was measured with them {', '.join(phrases)}, "
            "which whoever uses the file sets again",) if phrases else ()


def _rounding(declared: Candidate, file: Candidate, saved: SavedFile) -> str:
    """Why images from the file may differ from the run's by rounding; empty if they must be equal."""
    if file is not declared:
        return "the adapters are now fused into the weights"
    return "the CPU, which wrote the file, rounds other last bits than the GPU" if saved.rounded else ""


def _publish(staged: Path, weighed: Weighed, models: Models) -> Path:
    """Moves the weights to the path of their hash. An intact file there is kept; a damaged one is replaced."""
    path = models.object(weighed.blake3)
    if path.is_symlink() or not path.is_file() or weigh(path).blake3 != weighed.blake3:
        staged.replace(path)
        sync_folder(path.parent)
    return path


def _record(evidence: Evidence, policy: str, weighed: Weighed, file: Path,
            stages: tuple[Candidate, Candidate, SavedFile, Resampled]) -> dict[str, Any]:
    """The record, without the fields that the models folder fills in."""
    declared, fused, saved, again = stages
    rec = evidence.recommendation
    suite, environment = evidence.suite, dict(evidence.head.get("environment", {}))
    commit = environment.get("git_commit") or f"not known: {environment.get('missing')}"
    metrics = {str(spec.get("metric")): spec.get("version") for spec in evidence.head.get("metrics", {}).values()}
    # Derivations of version 1 were not on record: a file that does not name one holds values of that version.
    metrics |= {name: spec.version for name, spec in evidence.run.values.items()
                if spec.origin == "derived" and spec.metric in metrics and spec.version != 1}
    reference = next(c for c in suite.candidates if c.name == suite.baseline)
    pictures = pictures_of(evidence.run, [declared.name, reference.name])
    prompts = [[p.id, *texts_in_key(p), p.split, *([pictures[p.id]] if p.id in pictures else [])] for p in suite.grid.prompts]
    return {
        "format": RECORD_FORMAT, "kind": PROMOTION, "date": now(), "sweetspot": __version__, "candidate": declared.name,
        "axes": dict(declared.axes), "runtime": plain(declared.runtime),
        **({"run_with": run_with} if (run_with := [*saver_phrases(declared), *cache_phrases(declared)]) else {}),
        "suite": {"name": suite.name, "hash": short_hash(plain(suite)),
                  "prompts_blake3": blake3(repr(prompts).encode(errors="replace")).hexdigest(),
                  "run_started": str(evidence.head.get("started", ""))},
        "weights": {"blake3": weighed.blake3, "header_blake3": weighed.header_blake3, "data_blake3": weighed.data_blake3,
                    "bytes": weighed.size, "identity": evidence.identity, "tensors": saved.tensors,
                    "fused_adapters": 0 if fused is declared else len(declared.adapters),
                    **({"rounded_tensors": saved.rounded} if saved.rounded else {})},
        **made_from(file),
        "sampling": evidence.head["sampling"],
        **({} if declared.sampling is None else {"sampled_as": dict(evidence.sampled_as)}),
        "metrics": metrics, "metric_settings": evidence.head.get("metric_settings", {}),
        "policy": policy, "guidance": rec.guidance, "pick": rec.pick, "tied": list(rec.tied_candidates),
        "verdicts": [verdict_part(verdict) for verdict in evidence.verdicts],
        "figures": figures_part(evidence),
        "resampled": asdict(again), "environment": environment, "commit": commit,
        "prompts": {name: list(texts) for name, texts in prompts_of(evidence.run).items()},
        **({"pictures": pictures} if pictures else {}),
        "reference": {"key": reference.key, "inputs": sorted(evidence.inputs.get(reference.name, {}).values())},
        "cells": cells_part(evidence)}
