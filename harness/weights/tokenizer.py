"""The tokenizers of CLIP text encoders, built offline from the word list that open_clip packages."""

from __future__ import annotations

import gzip
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

from harness.weights.files import ModelFileError

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

TOKENS: Final = 49408
END: Final = "<|endoftext|>"
OPENCLIP_PAD: Final = "!"
"""The token with id 0, with which OpenCLIP pads prompts; OpenAI's CLIP pads with the end token."""
_WORD_LIST: Final = "bpe_simple_vocab_16e6.txt.gz"


def sd1_tokenizer() -> CLIPTokenizer:
    """The tokenizer of Stable Diffusion 1: CLIP's, padded with the end token."""
    return clip_tokenizer(END)


def clip_tokenizer(pad: str) -> CLIPTokenizer:
    """CLIP's byte-pair tokenizer of 49408 tokens, 77 per prompt, padded with the token `pad`.

    The vocabulary is, in this order: 256 bytes, the same 256 at the end of a word, 48894 merges, start and end.
    """
    from transformers import CLIPTokenizer

    with gzip.open(_word_list(), "rt", encoding="utf-8") as file:
        lines = file.read().split("\n")
    letters = _byte_letters()
    merges = [(first, right) for first, right in (line.split() for line in lines[1:TOKENS - 2 * len(letters) - 1])]
    words = [*letters, *(letter + "</w>" for letter in letters), *(first + right for first, right in merges),
             "<|startoftext|>", END]
    tokenizer = CLIPTokenizer(vocab={word: number for number, word in enumerate(words)}, merges=merges, model_max_length=77)
    # As a constructor argument it would become a special token, and an exclamation mark in a prompt would become padding.
    tokenizer.pad_token = pad
    return tokenizer


def _byte_letters() -> list[str]:
    """A printable letter for each byte, in CLIP's order: printable bytes are their own letters, the others follow."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = 256 - len(printable)
    return [chr(code) for code in (*printable, *range(256, 256 + others))]


def _word_list() -> Path:
    # Importing open_clip only to find its file would import torchvision and timm.
    spec = find_spec("open_clip")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (path := Path(folder) / _WORD_LIST).is_file():
            return path
    raise ModelFileError(f"{_WORD_LIST}: not found in the installed open_clip; expected open-clip-torch 3.2 or later. "
                         "Install it, or give the model a folder with a tokenizer.")
