"""Writes a safetensors file atomically, with the same bytes for the same tensors. Large merges are streamed instead (see
`stream`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from harness.weights.files import ModelFileError
from harness.weights.header import data_bytes, encode_header, lay_out
from harness.weights.pickles import torch_word
from harness.weights.stream import OutputFile, remove_abandoned

if TYPE_CHECKING:
    from torch import Tensor

SUFFIX: Final = ".safetensors"


def save_single_file(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], *, keep_old: bool = False,
                     check: Callable[[Path], None] = lambda _: None) -> Path | None:
    """Writes the tensors, in their dtypes, to a temporary file in the folder of `path`, syncs it to disk, lets `check` read it
    and renames it.

    Raises ModelFileError, before anything is written, for a path without .safetensors, a dtype that the format lacks, or
    too little disk space. A crash leaves the old file. With `keep_old` a replaced file is kept under a .bak name, which is
    returned.
    """
    refuse_suffix(path)
    words = {name: torch_word(path, name, tensor) for name, tensor in tensors.items()}
    spans = lay_out([(name, words[name], tuple(tensor.shape)) for name, tensor in tensors.items()])
    header = encode_header(spans, {"format": "pt", **metadata})
    remove_abandoned(path)
    output = OutputFile(path, len(header) + data_bytes(spans), direct=False)
    try:
        for name, span in spans.items():
            output.write(len(header) + span.begin, bytes_of(tensors[name]))
        return output.commit(header, keep_old=keep_old, check=check)
    except BaseException:
        output.abort()
        raise


def bytes_of(tensor: Tensor) -> memoryview:
    """The values of a tensor as bytes, without a copy if it is contiguous and on the CPU."""
    import torch

    flat = tensor.detach().to("cpu").contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data if flat.numel() else memoryview(b"")


def refuse_suffix(path: Path) -> None:
    """Raises ModelFileError for a path that does not end in .safetensors."""
    if path.suffix != SUFFIX:
        raise ModelFileError(f"{path}: models are only written as .safetensors; choose a path that ends in .safetensors.")
