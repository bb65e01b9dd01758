"""The text of a first suite, and its file, which is kept and never taken from under an editor."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.first_suite.extent import ROUNDS, Extent
from harness.first_suite.given_files import GivenModel, UnfitFileError
from harness.first_suite.prompts import BESIDE, Prompts
from harness.first_suite.python_text import numbers, quoted
from harness.first_suite.questions import Question
from harness.records.atomic import write_atomically

MARK: Final = "# Unedited as long as this is its checksum: "
COMMAND: Final = "# From: "
MATCHING: Final = "# Files that its patterns match: "
SIZES: Final = {"sd1": 512, "sd2": 512, "sdxl": 1024, "sd3": 1024, "flux": 1024}
STEPS: Final = {"sd1": 20, "sd2": 20, "sdxl": 25, "sd3": 28, "flux": 20}
ENOUGH: Final = 0.5
"""Points of the objective below which a difference is not worth more images, to somebody who tries."""
ZOO_SIZE, ZOO_STEPS, ZOO_BATCH = 64, 10, 6
"""Batches of six, the prompts of a first look, keep several cores busy."""
WIDEST: Final = 120


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The size of images, the steps and the batch size; the last is a number or "fit"."""

    size: int
    steps: int
    batch_size: int | str


def shape_for(model: GivenModel, device: str, size: int | None, steps: int | None) -> Shape:
    """The sizes that a family is made for, where none are given."""
    if model.built_in:
        return Shape(size=ZOO_SIZE if size is None else size, steps=ZOO_STEPS if steps is None else steps, batch_size=ZOO_BATCH)
    usual = 768 if model.family == "sd2" and model.v_prediction else SIZES[model.family]
    return Shape(size=usual if size is None else size, steps=STEPS[model.family] if steps is None else steps,
                 batch_size=2 if device == "cpu" else "fit")


@dataclass(frozen=True, kw_only=True)
class FirstSuite:
    """Everything that its text says. `matching` are the files behind the patterns of the command."""

    question: Question
    prompts: Prompts
    extent: Extent
    shape: Shape
    family: str
    clip: str
    minutes: float
    adapter_folder: str
    command: Sequence[str]
    matching: Sequence[str] = ()

    def text(self) -> str:
        """The Python file, with its checksum."""
        modules = [*dict.fromkeys((*self.prompts.modules, *self.question.modules))]
        body = "\n".join((
            f'"""{self.question.asks} Edit it as you like. It runs with: pytest THIS_FILE --benchmark"""', "",
            *(f"{line}\n" if line == modules[-1] else line for line in modules),
            *_import(self._words()), "",
            "SUITE = Suite(", *(f"    {line}" for line in self._fields()), ")", "",
            f"{COMMAND}{_command(self.command)}", *([f"{MATCHING}{_command(self.matching)}"] if self.matching else []), ""))
        return f"{body}{MARK}{_checksum(body)}\n"

    def _words(self) -> set[str]:
        words = {"Gate", "Grid", "Suite", *self.question.words, *self.prompts.words}
        if self.extent.first:
            words |= {"Budget", "Objective", "Penalty"}
        return words | {"BASELINE"}

    def _fields(self) -> list[str]:
        question, extent, shape = self.question, self.extent, self.shape
        sampler = "flow_euler" if self.family in ("sd3", "flux") else "dpmpp_2m"
        fields = [f"name={quoted(question.name)}", f"candidates={question.source(extent.values)}",
                  f"baseline={quoted(question.baseline)}",
                  f"grid=Grid(prompts={self.prompts.source},\n"
                  f"          seeds={numbers(range(1, extent.seeds + 1))}, guidance_scales={numbers(extent.scales)},\n"
                  f"          sampler={quoted(sampler)}, steps={shape.steps}, width={shape.size}, height={shape.size}, "
                  f"batch_size={quoted(shape.batch_size) if isinstance(shape.batch_size, str) else shape.batch_size}"
                  f"{f',{chr(10)}          adapter_folder={quoted(self.adapter_folder)}' if self.adapter_folder else ''})"]
        if question.metrics:
            fields.append(f"metrics=({', '.join(map(quoted, question.metrics))})")
        if self.clip != "zoo:clip" or "Checkpoint(" in fields[1]:
            fields.append(f"clip={quoted(self.clip)}")
        fields.append(f"latency_rounds={ROUNDS}")
        if extent.first:
            prefer = ", ".join(f"{quoted(axis)}: {quoted(side)}" for axis, side in question.prefer.items())
            refine = f", refine={quoted(question.refine)}, finest=0.1" if question.refine else ""
            fields += [f'objective=Objective(penalties=[Penalty(metric="clipped_share", weight=100, allowance=0.05)]'
                       f"{f',{chr(10)}                    prefer={{{prefer}}}' if prefer else ''})",
                       f"budget=Budget(first_prompts={extent.first}, step_prompts={extent.first}, enough={ENOUGH}{refine}, "
                       f"minutes={self.minutes:g})"]
        fields.append('gates=[Gate(value="coverage"), Gate(value="clipped_share", not_worse_than=BASELINE, margin=0.1)]')
        return [line for field in fields for line in f"{field},".split("\n")]


def _import(words: set[str]) -> list[str]:
    ordered = sorted(words, key=lambda word: (not word.isupper(), not word[0].isupper(), word))
    line = f"from harness import {', '.join(ordered)}"
    return [line] if len(line) <= WIDEST else ["from harness import (", *(f"    {word}," for word in ordered), ")"]


def _command(words: Sequence[str]) -> str:
    """A command line in which no name can end the comment."""
    return " ".join(word if re.fullmatch(r"[\w./:-]+", word, re.ASCII) else ascii(word) for word in words)


def _checksum(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()[:16]


def is_unedited(text: str) -> bool:
    """Whether a file is as it was written."""
    body, mark, rest = text.rpartition(MARK)
    return bool(mark) and rest.strip() == _checksum(body)


def said_of(text: str, what: str) -> str:
    """What the comment line that begins with `what` says, such as the command that a file was written for; empty if there is
    none."""
    return next((line.removeprefix(what) for line in text.splitlines() if line.startswith(what)), "")


def existing(path: Path, command: Sequence[str], matching: Sequence[str] = ()) -> bool:
    """Whether the file exists as the same command wrote it for the same files, so that it may run again. Raises UnfitFileError
    for one that was edited, or that something else wrote."""
    if not path.exists():
        return False
    try:
        text = path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise UnfitFileError(f"{path} exists and cannot be read ({error}); give another file with --to") from None
    if not is_unedited(text):
        raise UnfitFileError(f"{path} exists, and is not as it was written; nothing was changed. Run it with: pytest {path} "
                             "--benchmark, or give another file with --to")
    return (said_of(text, COMMAND), said_of(text, MATCHING)) == (_command(command), _command(matching))


def write(path: Path, suite: FirstSuite) -> None:
    """Writes the file, and that of its prompts beside it if there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if suite.prompts.file is not None:
        beside = path.parent / BESIDE
        if not beside.exists():
            write_atomically(beside, suite.prompts.file.read_bytes())
    write_atomically(path, suite.text().encode())


