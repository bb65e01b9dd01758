"""How a refusal spells a way out: in Python for suites, as flags and options for the command line, in TOML for recipe files."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable
from typing import Final, Literal

Speech = Literal["python", "flags", "recipe"]

KEEP_A: Final = 'missing="keep_a"'
FORCE_PREDICTION: Final = 'force=("prediction",)'
FORCE_EMA: Final = 'force=("ema",)'
EMA: Final = "ema=True"
DEFAULT_ZERO: Final = "default=0"
AS_FP16: Final = 'dtype="fp16"'

_FIXED: Final = {KEEP_A: ("--missing keep_a", 'missing = "keep_a"'),
                 FORCE_PREDICTION: ("--force prediction", 'force = ["prediction"]'),
                 FORCE_EMA: ("--force ema", 'force = ["ema"]'), EMA: ("'#ema' after its name", "ema = true"),
                 DEFAULT_ZERO: ("--alpha 0", "default = 0"), AS_FP16: ("--dtype fp16", 'dtype = "fp16"')}
_PARTS: Final = re.compile(r"parts=(\((?:'\w+', ?)*(?:'\w+')?,?\))")
_TAKE: Final = re.compile(r"take=(\{'\w+': (?:'[^']*'|\"[^\"]*\")\})")
_WORDS: Final = (
    (re.compile(r"\bas c\b"), "with --c"), (re.compile(r"\bin more\b"), "with --more"), (re.compile(r"\bto more\b"), "to --more"),
    (re.compile(r"\bgive base=\.\.\."), "give --alpha (BASE)"),
    (re.compile(r"\bGive values, or a Gradient\b"), "Give --blocks, or --gradient"),
    (re.compile(r"\bgive a Gradient, or Alphas with keys\b"), "give --gradient, or --alpha-key"),
    (re.compile(r"\bgive (alpha|beta)=\.\.\."), r"give --\1"), (re.compile(r"\b[Oo]ut of parts\b"), "out of --parts"),
    (re.compile(r"\bin the merge's parts\b"), "with --parts"), (re.compile(r"\bfrom parts\b"), "from --parts"))
"""Phrases of refusals about merges, and what to type instead."""
_OPTIONS: Final = (
    (re.compile(r"say Grid\(\.\.\., adapter_folder='\.\.\.'\)"), "give --adapter-folder FOLDER"),
    (re.compile(r"give the grid syntax='a1111' or syntax='comfyui', or remove adapter_folder"),
     "give --syntax a1111 or --syntax comfyui, or leave out --adapter-folder"),
    (re.compile(r"say (?:Prompt|Grid)\(\.\.\., syntax='(\w+)'\)"), r"give --syntax \1"),
    (re.compile(r"say (?:Prompt|Grid)\(\.\.\., syntax='(\w+)' or syntax='(\w+)'\)"), r"give --syntax \1 or --syntax \2"),
    (re.compile(r", with the folder of the file as the Grid's adapter_folder"), ", with --adapter-folder FOLDER"),
    (re.compile(r", and for a file of prompts read_prompts\(file, syntax=\.\.\.\)"), ""),
    (re.compile(r"say Prompt\(\.\.\., literal=True(?:, syntax='')?\)"), "say literal = true in a .toml file of prompts"))
"""Phrases of refusals about prompts, and what to give to `sweetspot try` and `init`, which write the suite."""


def as_options(text: str) -> str:
    """A refusal of a suite that a command writes, with its ways out as the options of that command."""
    for pattern, words in _OPTIONS:
        text = pattern.sub(words, text)
    return text


def parts(names: tuple[str, ...]) -> str:
    """The parts of a merge, as a suite spells them."""
    return f"parts={names!r}"


def take(part: str, model: str) -> str:
    """A component taken whole, as a suite spells it."""
    return f"take={ {part: model}!r}"


def in_speech(text: str, speech: Speech) -> str:
    """A message with its ways out in the words of whoever reads it."""
    if speech == "python":
        return text
    for python, (flag, toml) in _FIXED.items():
        text = text.replace(python, flag if speech == "flags" else toml)
    text = _replaced(_PARTS, text, lambda names: f"--parts {','.join(names)}" if speech == "flags" else
                     f"parts = {json.dumps(list(names))}")
    text = _replaced(_TAKE, text, lambda taken: " ".join(
        f"--take {part}={model}" if speech == "flags" else f"take = {{ {part} = {json.dumps(model)} }}"
        for part, model in taken.items()))
    for pattern, words in _WORDS if speech == "flags" else ():
        text = pattern.sub(words, text)
    return text


def _replaced(pattern: re.Pattern[str], text: str, spelled: Callable[..., str]) -> str:
    return pattern.sub(lambda match: spelled(ast.literal_eval(match[1])), text)
