"""Files of `torch.save`, read as data alone: the archive and the instructions of the pickle are checked first, then torch reads
it as weights only, and what comes out is turned into plain dictionaries, lists and tensors."""

from __future__ import annotations

import io
import re
import warnings
import zipfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final

from harness.weights.pickle_opcodes import MAGIC, PICKLE_LIMIT, Checker, DamagedPickleError, PickleError

_ZIP: Final = b"PK\x03\x04"
_CUT: Final = ("unexpected EOF", "might be corrupted")
"""What torch says of the older format where it ends too early."""
_WRAPPED: Final = ("_rebuild_wrapper_subclass", "'torchao.")
_MOST_RECORDS: Final = 100_000
_MOST_VALUES: Final = 1_000_000
_DEEPEST: Final = 64


def read_pickle(path: Path, *, mapped: bool = False, second: Callable[[Path], Any] | None = None) -> Any:
    """What a file of `torch.save` holds, in dictionaries, lists, tuples and tensors without anything of their own.

    With `mapped` the tensors stay on the disk until they are used, where the format allows. `second` is a reader for what torch
    does not read though the check allows it. Nothing in the file is executed. PickleError says why a file is not read; OSError.
    """
    import torch

    check_pickle(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of protocols that torch does not write, in words for those who write them
            # torch reads a path by its suffix, an open file by its content; only a path can be mapped.
            mapped = mapped and _head(path) == _ZIP and not path.name.endswith(".safetensors")
            with nullcontext(path) if mapped else path.open("rb") as source:
                content = torch.load(source, map_location="cpu", weights_only=True, mmap=mapped)
        return _Plain().of(content)
    except (OSError, PickleError):
        raise
    except Exception as error:  # the unpickler raises whatever the bytes provoke
        refused = _reason(error)
    if any(word in refused for word in _CUT):
        raise DamagedPickleError(refused)
    if second is None:
        raise PickleError(refused)
    try:
        return _Plain().of(second(path))
    except OSError:
        raise
    except Exception as error:  # as above; torch's words say more of a file that is damaged
        raise PickleError(str(error) if isinstance(error, PickleError) and str(error) else refused) from None


def advice(error: PickleError) -> str:
    """What to do about a file that was refused with this error, as a sentence."""
    text = str(error)
    if any(word in text for word in _WRAPPED):
        return "Its tensors are those of a quantizing library such as torchao: give the unquantized model."
    return "Convert it to .safetensors if you trust its source."


def check_pickle(path: Path) -> None:
    """PickleError for a file of torch whose reading could take more time or memory than its size explains, run code, or look
    beyond its own bytes; for one that is not of `torch.save`, too."""
    if _head(path) != _ZIP:
        _check_older(path)
        return
    data, stored = _archive(path)
    Checker(stored).check(io.BytesIO(data))


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(len(_ZIP))


def _archive(path: Path) -> tuple[bytes, dict[str, int]]:
    """The pickle in an archive, and the bytes of each storage by its key."""
    try:
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
            if wrong := _wrong_archive(archive, path.stat().st_size):
                raise PickleError(wrong)
            (pickled,) = (record for record in records if record.filename.lower().rpartition("/")[2] == "data.pkl")
            folder = pickled.filename.removesuffix("data.pkl") + "data/"
            stored = {record.filename.removeprefix(folder): record.file_size for record in records
                      if record.filename.startswith(folder)}
            return archive.read(pickled), stored
    except (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError, RuntimeError) as error:
        if isinstance(error, PickleError):
            raise
        raise DamagedPickleError(f"its archive is damaged: {' '.join(str(error).split())[:100]!a}") from None


def _wrong_archive(archive: zipfile.ZipFile, size: int) -> str:
    """What is wrong with an archive of `size` bytes, empty when nothing is. torch writes every record as it is, one after
    another; a compressed record of a megabyte may unfold into a gigabyte."""
    records = archive.infolist()
    names = [record.filename.lower() for record in records]
    pickles = [record for record in records if record.filename.lower().rpartition("/")[2] == "data.pkl"]
    if len(records) > _MOST_RECORDS:
        return f"it has {len(records)} records, more than {_MOST_RECORDS}"
    if any(record.compress_type != zipfile.ZIP_STORED or record.flag_bits & 1 for record in records):
        return "its records are compressed or encrypted, which torch never does"
    if len(set(names)) != len(names) or sum(record.file_size for record in records) > size:
        return "two of its records are in one place or under one name"
    if len(pickles) != 1:
        return f"it has {len(pickles)} records named data.pkl; expected one"
    # Another start or a comment lets two readers see two archives in one file.
    if archive.comment or min(record.header_offset for record in records) != 0:
        return "it does not start with its first record, or ends with a comment"
    length = pickles[0].file_size
    return f"its data.pkl has {length} bytes, more than {PICKLE_LIMIT}" if length > PICKLE_LIMIT else ""


def _check_older(path: Path) -> None:
    """The format before torch 1.6: a number, a version, the system, the values, the keys of the storages, and their numbers."""
    with path.open("rb") as file:
        stream = io.BytesIO(file.read(PICKLE_LIMIT))
    if Checker({}).check(stream).literal != MAGIC:
        raise PickleError("it is not a file of torch.save")
    for _ in range(2):
        Checker({}).check(stream)
    values = Checker(None)
    values.check(stream)
    keys = Checker({}).check(stream)
    # torch leaves a storage that is not listed as the memory happened to be.
    if keys.kind != "list" or {str(key.literal) for key in keys.parts} != values.declared.keys():
        raise PickleError("its list of storages is not the one that its tensors need")
    if sum(values.declared.values()) > path.stat().st_size:
        raise PickleError("its tensors need more bytes than the file has")


def _reason(error: Exception) -> str:
    """What torch refused, without its advice: it is to switch the protection off."""
    text = str(error)
    if match := re.search(r"GLOBAL ([\w.]*\w)", text):
        return f"it refers to {match[1][:100]!r}, which could run code"
    if "weights_only" in text or "WeightsUnpickler" in text:
        return "its content is not a plain state dict"
    return f"{type(error).__name__}: {' '.join(text.split())[:200]!a}"


class _Plain:
    """Turns what a pickle made into plain values: a file can hide the methods of its dictionaries and tensors."""

    def __init__(self) -> None:
        self.count = 0

    def of(self, value: Any, depth: int = 0) -> Any:
        self.count += 1
        if depth > _DEEPEST:
            raise PickleError(f"its values are nested more than {_DEEPEST} deep, or contain themselves")
        if self.count > _MOST_VALUES:
            raise PickleError(f"it holds more than {_MOST_VALUES} values")
        if isinstance(value, dict):
            return {key: self.of(item, depth + 1) for key, item in dict.items(value)}
        if isinstance(value, tuple):
            return tuple(self.of(item, depth + 1) for item in tuple.__iter__(value))
        if isinstance(value, list):
            return [self.of(item, depth + 1) for item in list.__iter__(value)]
        return _detached(value)


def _detached(value: Any) -> Any:
    import torch

    return torch.Tensor.detach(value) if isinstance(value, torch.Tensor) else value

