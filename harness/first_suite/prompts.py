"""The prompts of a first suite: the user's, the built-in models' own, or the built-in set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from harness.check.prompt_markup import markup_problems
from harness.declare import Prompt
from harness.declare.prompt_files import read_prompts
from harness.declare.prompt_sets import prompt_set
from harness.declare.syntax import SYNTAXES, syntax_named
from harness.first_suite.given_files import UnfitFileError
from harness.first_suite.python_text import quoted

ZOO: Final = Path(__file__).parent.parent / "zoo" / "prompts.toml"
"""Twenty prompts of the subjects and colours that the built-in models know."""
BESIDE: Final = "zoo_prompts.toml"
"""The name of that file beside a suite."""
FEWEST: Final = 4
"""Prompts that can be divided into two to choose on and two to confirm with."""


@dataclass(frozen=True, kw_only=True)
class Prompts:
    """Prompts as Python text, and how many there are in each split. `file` is one that is written beside the suite."""

    source: str
    select: int
    confirm: int
    words: tuple[str, ...]
    modules: tuple[str, ...] = ()
    file: Path | None = None
    syntax: str = ""

    @property
    def says(self) -> str:
        """In words."""
        read = f", read in the syntax of {self.syntax}" if self.syntax else ""
        count = self.select + self.confirm
        confirmed = f"{self.confirm} to confirm with" if self.confirm else "none to confirm the choice with"
        return f"{count} prompt{'s' if count > 1 else ''}{read}: {self.select} to choose on, {confirmed}"


def prompts_for(given: str, built_in: bool, count: int | None = None, syntax: str = "", beside: Path | None = None) -> Prompts:
    """The prompts of the file `given`; without one those that the models know, or `count` of the built-in set. In the folder
    `beside` there may be a file of the former, which is kept and used. Raises UnfitFileError for a file that cannot be read."""
    if given:
        return _of_file(given, syntax_named(syntax))
    if built_in:
        file = beside / BESIDE if beside is not None and (beside / BESIDE).exists() else ZOO
        try:
            listed = read_prompts(file)
        except (OSError, ValueError) as error:
            raise UnfitFileError(f"{file} exists and cannot be used ({error}); mend it, move it away, or give a file in another "
                                 "folder with --to") from None
        return _counted(listed, f'read_prompts(Path(__file__).with_name("{BESIDE}"))', ("read_prompts",),
                        ("from pathlib import Path",), file)
    listed = prompt_set(count=count)
    return _counted(listed, f"prompt_set({'' if count is None else f'count={count}'})", ("prompt_set",))


def _of_file(given: str, syntax: str) -> Prompts:
    try:
        listed = read_prompts(given, syntax=syntax) if syntax else read_prompts(given)
    except (OSError, ValueError) as error:
        raise UnfitFileError(f"--prompts: {error}") from None
    if not syntax and _has_markup(listed):
        fitting = next((name for name in SYNTAXES if name and not _has_markup([replace(p, syntax=name) for p in listed])), "")
        if fitting:
            return _of_file(given, fitting)
    read = f"read_prompts({quoted(given)}{f', syntax={quoted(syntax)}' if syntax else ''})"
    if any(prompt.split == "confirm" for prompt in listed) or len(listed) < FEWEST:
        return replace(_counted(listed, read, ("read_prompts",)), syntax=syntax)
    # All are in one split; taken in turns, the choice can be confirmed on prompts that had no part in it.
    half = len(listed) // 2
    return Prompts(source=f'[replace(p, split=("select", "confirm")[i % 2]) for i, p in enumerate({read})]',
                   select=len(listed) - half, confirm=half, syntax=syntax, words=("read_prompts",),
                   modules=("from dataclasses import replace",))


def _has_markup(listed: Sequence[Prompt]) -> bool:
    """Whether a prompt has markup that its syntax does not know."""
    return any(problem for prompt in listed for problem in markup_problems(prompt))


def _counted(listed: Sequence[Prompt], source: str, words: tuple[str, ...], modules: tuple[str, ...] = (),
             file: Path | None = None) -> Prompts:
    select = sum(prompt.split == "select" for prompt in listed)
    return Prompts(source=source, select=select, confirm=len(listed) - select, words=words, modules=modules, file=file)
