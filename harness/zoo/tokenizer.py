"""A small CLIP byte-pair tokenizer: 512 byte symbols, the merges that make every known word one token, and two special tokens.

The training stages write its files once; the same merges then load in transformers' CLIPTokenizer and in open_clip's
SimpleTokenizer with equal ids.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

START, END = "<|startoftext|>", "<|endoftext|>"
CONTEXT = 24
"""Tokens per prompt, both ends included (77 in the full-size models)."""


def byte_symbols() -> list[str]:
    """The 256 printable symbols for bytes in CLIP's order: printable bytes are their own symbols, the others start at U+0100."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return [chr(code) for code in printable] + [chr(256 + i) for i in range(256 - len(printable))]


def learn_merges(words: Sequence[str]) -> list[tuple[str, str]]:
    """Byte-pair encoding to the end: merges the commonest pair (ties: first in the alphabet) until each word is one symbol."""
    spelled = [[*word[:-1], word[-1] + "</w>"] for word in words]
    merges: list[tuple[str, str]] = []
    while True:
        pairs = Counter((left, right) for parts in spelled for left, right in pairwise(parts))
        if not pairs:
            return merges
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        spelled = [_merge(parts, best) for parts in spelled]


def _merge(parts: list[str], pair: tuple[str, str]) -> list[str]:
    merged: list[str] = []
    for symbol in parts:
        if merged and (merged[-1], symbol) == pair:
            merged[-1] += symbol
        else:
            merged.append(symbol)
    return merged


def vocabulary(merges: Sequence[tuple[str, str]]) -> dict[str, int]:
    """Symbol to id, in CLIP's order: bytes, bytes that end a word, merges, start, end."""
    symbols = byte_symbols()
    words = symbols + [symbol + "</w>" for symbol in symbols] + [left + right for left, right in merges] + [START, END]
    return {word: i for i, word in enumerate(words)}


def write_tokenizer(merges: Sequence[tuple[str, str]], folder: Path) -> None:
    """Writes vocab.json, merges.txt, tokenizer_config.json, special_tokens_map.json (transformers) and bpe.txt.gz (open_clip)."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"{left} {right}" for left, right in merges]
    _write_json(folder / "vocab.json", vocabulary(merges))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(lines) + "\n", encoding="utf-8")
    special = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
    _write_json(folder / "special_tokens_map.json", special)
    config = {**special, "tokenizer_class": "CLIPTokenizer", "model_max_length": CONTEXT, "do_lower_case": True}
    _write_json(folder / "tokenizer_config.json", config)
    # No newline at the end: open_clip would count the empty last line as one more merge and shift the special ids.
    packed = gzip.compress(("#version: 0.2\n" + "\n".join(lines)).encode(), mtime=0)
    (folder / "bpe.txt.gz").write_bytes(packed)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def load_clip_tokenizer(folder: Path) -> Any:
    """open_clip's SimpleTokenizer over bpe.txt.gz: callable, texts to int64 ids of shape (texts, 24), padded with 0."""
    from open_clip.tokenizer import SimpleTokenizer

    return SimpleTokenizer(bpe_path=str(folder / "bpe.txt.gz"), context_length=CONTEXT)


def load_text_tokenizer(folder: Path) -> Any:
    """transformers' CLIPTokenizer over vocab.json and merges.txt: pads with the end token, as Stable Diffusion 1 does."""
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(str(folder))


def add_word(tokenizer: Any, word: str, count: int) -> str:
    """Adds `word` as a token to transformers' tokenizer, and word_1, word_2 ... for further vectors, as diffusers names them.
    Returns the text to write instead of the word: all tokens, separated by blanks. Their ids follow the last known one."""
    tokens = [word, *(f"{word}_{i}" for i in range(1, count))]
    tokenizer.add_tokens(tokens)
    return " ".join(tokens)
