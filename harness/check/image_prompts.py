"""Problems of a candidate's references, apart from their files and pictures: numbers, blocks and the image encoder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path

from harness.check.acting import acting_problems, given_twice
from harness.check.alphas import Range, alpha_problems
from harness.check.clip import clip_problems
from harness.check.files import hub_problems
from harness.check.values import parts_of_objective
from harness.declare import Reference, Suite
from harness.declare.picture_uses import measured_reference
from harness.declare.syntax.parsed import LARGEST_WEIGHT
from harness.hub import address_of
from harness.metrics.clip_reference import is_tagged
from harness.records.values import AGREEMENT


def image_prompt_problems(references: Collection[Reference], root: Path) -> Iterator[str]:
    """One phrase per problem of the references of a stage."""
    for reference in references:
        yield from (f"reference {reference.path!r}: {phrase}" for phrase in _reference(reference, root))
    for path in given_twice(references):
        yield (f"reference {path!r} is given one picture twice at the same steps; give it once, with the sum of the weights, or "
               "for other steps")


def agreement_problems(suite: Suite) -> Iterator[str]:
    """A value that compares images of one reference picture, where the suite asks for it and has no two of any."""
    asked = {*parts_of_objective(suite.objective), *(gate.value for gate in suite.gates)}
    reference = measured_reference(suite)
    if AGREEMENT.name not in asked or reference is None or len(suite.grid.seeds) > 1:
        return
    shown = Counter((prompt.pictures.get(reference.picture), prompt.split) for prompt in suite.grid.prompts)
    if not any(count > 2 and file is not None for (file, _), count in shown.items()):
        yield (f"{AGREEMENT.name!r} compares the images of one reference picture with each other, and no picture has two to "
               "compare; give the grid two seeds or more, or three prompts of one split the same picture")


def image_prompt_remarks(suite: Suite) -> Iterator[str]:
    """A metric that has no reference picture."""
    if "likeness" in suite.metrics and measured_reference(suite) is None:
        yield ("metric 'likeness' compares images with the reference picture of their prompt, and no candidate has a reference, "
               "so it cannot be measured; give one a reference, or remove the metric")


def _reference(reference: Reference, root: Path) -> Iterator[str]:
    yield from acting_problems(reference)
    if not reference.picture.strip():
        yield "picture is empty; name one of Prompt.pictures"
    if reference.blocks is not None:
        yield from alpha_problems(reference.blocks, Range(word="blocks", whose="a reference", low=-LARGEST_WEIGHT,
                                                          high=LARGEST_WEIGHT))
    yield from _encoder(reference.encoder, root)


def _encoder(encoder: str, root: Path) -> Iterator[str]:
    if not encoder or encoder == "zoo:clip":
        return
    if (address := address_of(encoder)) is not None and address.is_folder:
        yield from (f"encoder {encoder!r}: {phrase}" for phrase in hub_problems(encoder))
    elif ":" in encoder or is_tagged(encoder):
        yield from (phrase.replace("clip", "encoder", 1) for phrase in clip_problems(encoder, root, scores=False))
    elif not (root / encoder).is_dir():
        yield (f"encoder {encoder!r} is not a folder below {root}; expected 'ARCHITECTURE:file', a transformers folder, or "
               "nothing for the suite's CLIP")
    elif not (root / encoder / "config.json").is_file():
        yield (f"encoder {encoder!r} holds no config.json; expected the folder of a CLIP image encoder, as transformers saves it")
