"""The tokenizer of Stable Diffusion 1, built offline from the word list that open_clip packages.
`pipeline.py` calls it where a model brings no tokenizer of its own, as single files never do.
"""

from __future__ import annotations

import gzip
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

from harness.weights.files import ModelFileError

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

TOKENS: Final = 49408
_WORD_LIST: Final = "bpe_simple_vocab_16e6.txt.gz"


def sd1_tokenizer() -> CLIPTokenizer:
    """CLIP's byte-pair tokenizer of 49408 tokens, 77 per prompt, padded with the end token.

    The vocabulary is, in this order: 256 bytes, the same 256 at the end of a word, 48894 merges, start and end.
    """
    from transformers import CLIPTokenizer

    with gzip.open(_word_list(), "rt", encoding="utf-8") as file:
        lines = file.read().split("\n")
    letters = _byte_letters()
    merges = [(left, right) for left, right in (line.split() for line in lines[1:TOKENS - 2 * len(letters) - 1])]
    words = [*letters, *(letter + "</w>" for letter in letters), *(left + right for left, right in merges),
             "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={word: number for number, word in enumerate(words)}, merges=merges, model_max_length=77)


def _byte_letters() -> list[str]:
    """A printable letter for each byte, in CLIP's order: those that print stand for themselves, the rest follow."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = 256 - len(printable)
    return [chr(code) for code in (*printable, *range(256, 256 + others))]


def _word_list() -> Path:
    # Importing open_clip would import torchvision and timm for the sake of a file's path.
    spec = find_spec("open_clip")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (path := Path(folder) / _WORD_LIST).is_file():
            return path
    raise ModelFileError(f"{_WORD_LIST}: not found in the installed open_clip; expected open-clip-torch 3.2 or later. "
                         "Install it, or give the model a folder with a tokenizer.")
