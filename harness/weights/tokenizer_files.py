"""Tokenizers of a model's folder, refused without their vocabulary: transformers makes one of a few tokens in silence then, which
reads all texts alike."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from harness.weights.files import ModelFileError

_WHOLE: Final = ("tokenizer.json", "tokenizer.*.json", "*.tiktoken", "tekken.json")
"""Files that hold all of a tokenizer, whatever its class."""
_SENTENCEPIECE: Final = "*.model"


def tokenizer_of(kind: Any, folder: Path) -> Any:
    """The tokenizer in a folder, or the processor that holds one. Raises ModelFileError."""
    pieces = sorted(folder.glob(_SENTENCEPIECE))
    whole = any(any(folder.glob(pattern)) for pattern in _WHOLE)
    if pieces and not whole and find_spec("sentencepiece") is None:
        raise ModelFileError(f"{folder}: its vocabulary is {pieces[0].name}, which only the package sentencepiece reads. Install "
                             "it (pip install 'sweetspot[sentencepiece]'), or add the tokenizer.json of the same tokenizer.")
    try:
        loaded = kind.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # libraries raise errors of many types for a truncated or missing file
        raise ModelFileError(f"{folder}: no {kind.__name__} can be built from this folder ({error}). Download it "
                             "again.") from error
    names: Mapping[str, str] = getattr(getattr(loaded, "tokenizer", loaded), "vocab_files_names", {})
    if names and not whole and not pieces and (missing := _missing(names, folder)):
        raise ModelFileError(f"{folder}: has no {missing}, so the tokenizer knows no words; expected the one that the text "
                             "encoder was trained with. Download the folder again.")
    return loaded


def _missing(names: Mapping[str, str], folder: Path) -> str:
    """The files of a vocabulary that the folder lacks; "" if it has all of them."""
    parts = [file for role, file in names.items() if role != "tokenizer_file"]
    absent = [file for file in parts if not (folder / file).is_file()]
    if parts and not absent:
        return ""
    return " or ".join(filter(None, (names.get("tokenizer_file", ""), " and ".join(absent))))
