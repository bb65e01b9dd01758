"""What a file is by its first bytes, never by its suffix: a file of tensors, or something else with a name and a way out."""

from __future__ import annotations

import stat
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SAFETENSORS: Final = "safetensors"
PICKLE: Final = "pickle"
GGUF: Final = "GGUF"
_MOST_HEADER: Final = 100_000_000
_HEAD: Final = 512
_ZIP: Final = b"PK\x03\x04"
_PICKLES: Final = tuple(b"\x80" + bytes([protocol]) for protocol in range(2, 6))
_NAMED: Final = {SAFETENSORS: (".safetensors", ".sft"), PICKLE: (".ckpt", ".pt", ".pth", ".bin", ".pti"),
                 GGUF: (".gguf",)}
_CALLED: Final = {SAFETENSORS: "a safetensors file", PICKLE: "a pickle", GGUF: "a GGUF file"}
_DOWNLOAD: Final = "Download it again."
_LOGIN: Final = "Download the file again; the link may need a login."
_UNPACK: Final = "Unpack it, and give the model file in it."
_UNQUANTIZED: Final = "Give the unquantized model as .safetensors."
_OTHER_LIBRARY: Final = "Convert it to .safetensors with the library that wrote it."
_PICTURE: Final = "It may contain a textual inversion: save the embedding as .safetensors."
_MAGIC: Final = (
    (b"version https://git-lfs", "a Git LFS pointer, not the weights", "Run `git lfs pull` or download the file itself."),
    (b"ggjt", "a GGML file, which is quantized", _UNQUANTIZED), (b"tjgg", "a GGML file, which is quantized", _UNQUANTIZED),
    (b"lmgg", "a GGML file, which is quantized", _UNQUANTIZED),
    (b"\x89PNG", "an image (PNG)", _PICTURE), (b"\xff\xd8\xff", "an image (JPEG)", "Give the model file instead."),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file (Keras)", _OTHER_LIBRARY), (b"\x93NUMPY", "a NumPy array", _OTHER_LIBRARY),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK), (b"Rar!\x1a\x07", "a RAR archive", _UNPACK),
    (b"\x1f\x8b", "a gzip archive", _UNPACK), (b"\xfd7zXZ\x00", "an xz archive", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "a zstd archive", _UNPACK), (b"PK\x05\x06", "an empty zip archive", _DOWNLOAD),
    (b"%PDF", "a PDF document", "Give the model file instead."),
    (b"MZ", "a program for Windows", "Do not run it. Give the model file instead."),
)
"""First bytes, what a file with them is, and what to do."""


@dataclass(frozen=True, kw_only=True)
class Content:
    """What a file is: SAFETENSORS, PICKLE or GGUF, which can be opened, or "" with its name in words and what to do."""

    kind: str = ""
    what: str = ""
    advice: str = ""


def content_of(path: Path) -> Content:
    """What the file or link is. A folder, a missing file, a link to nowhere and a file that cannot be read have no kind."""
    try:
        return _content_of(path)
    except OSError as error:
        return Content(what=f"could not be read ({error.strerror})", advice="Check the file and its permissions.")


def _content_of(path: Path) -> Content:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        if path.is_symlink():
            return Content(what=f"a link to {path.readlink()}, which does not exist", advice=_DOWNLOAD)
        return Content(what="no such file", advice="Check the path.")
    except NotADirectoryError:
        return Content(what="no such file", advice="Check the path.")
    if stat.S_ISDIR(mode):
        return Content(what="a folder", advice="Give the file in it.")
    if not stat.S_ISREG(mode):
        return Content(what="a device or pipe, not a file", advice="Give the path of a file.")
    with path.open("rb") as file:
        head = file.read(_HEAD)
    return _zip(path) if head.startswith(_ZIP) else _of_head(head)


def trouble_of(content: Content) -> str:
    """Why it cannot be a file of tensors, and what to do: "a web page, not the weights; ..."; "" for one that can be."""
    return "" if content.kind else f"{content.what}; expected a file of tensors. {content.advice}"


def misnamed(path: Path, kind: str) -> str:
    """A warning for a file whose suffix says another kind than its content; "" otherwise, also without a suffix."""
    if not any(path.suffix.lower() in suffixes for other, suffixes in _NAMED.items() if other != kind):
        return ""
    return f"the file is called {path.suffix} but is {_CALLED[kind]}, and was read as one"


def _of_head(head: bytes) -> Content:
    """What a file with these first bytes is."""
    if not head:
        return Content(what="an empty file", advice=_DOWNLOAD)
    length = struct.unpack("<Q", head[:8])[0] if len(head) >= 8 else 0
    # A header of 0x280 bytes starts like a pickle of protocol 2, so what follows the length decides.
    if head[8:9] == b"{" and length <= _MOST_HEADER:
        return Content(kind=SAFETENSORS)
    if head.startswith(_PICKLES):
        return Content(kind=PICKLE)
    if head.startswith(b"GGUF"):
        return Content(kind=GGUF)
    return _of_magic(head) or _text(head) or _unknown(head, length)


def _of_magic(head: bytes) -> Content | None:
    """What the fixed bytes of a known format say; None without any."""
    rows = [(head.startswith(magic), what, advice) for magic, what, advice in _MAGIC]
    rows += [
        (not head.strip(b"\0"), f"an unfinished download: its first {len(head)} bytes are zero", _DOWNLOAD),
        (head[257:262] == b"ustar", "a tar archive", _UNPACK),
        (head[:4] == b"RIFF" and head[8:12] == b"WEBP", "an image (WebP)", "Give the model file instead."),
        (head[:1] == b"\x08" and head[2:3] == b"\x12" and (b"onnx" in head or b"pytorch" in head), "an ONNX file",
         "Give the model from which it was made."),
        (head[4:8] == b"TFL3", "a TensorFlow Lite file", _OTHER_LIBRARY)]
    return next((Content(what=what, advice=advice) for fits, what, advice in rows if fits), None)


def _unknown(head: bytes, length: int) -> Content:
    if head[8:9] == b"{":
        return Content(what=f"not a safetensors file: its first 8 bytes give a header of {length} bytes, and {_MOST_HEADER} are "
                            "allowed", advice=_DOWNLOAD)
    return Content(what=f"a damaged file, or one of an unknown kind (its first bytes are {head[:8].hex(' ')})",
                   advice="Download it again, or convert it to .safetensors.")


def _text(head: bytes) -> Content | None:
    """What a text is: a web page, JSON, or a message of a server; None for other bytes."""
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if start.lower().startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<script", b"<!--")):
        return Content(what="a web page, not the weights", advice=_LOGIN)
    try:
        text = head.decode() if len(head) < _HEAD else head[:-3].decode(errors="strict")
    except UnicodeDecodeError:
        return None
    if any(ord(letter) < 32 and letter not in "\t\r\n" for letter in text):
        return None
    if start[:1] in (b"{", b"["):
        return Content(what="a JSON text, not the weights", advice="Give the file of tensors that belongs to it.")
    return Content(what=f"a text, not the weights: {' '.join(text.split())[:60]!a}", advice=_LOGIN)


def _zip(path: Path) -> Content:
    """torch's archives hold data.pkl; other zip files are named by what they hold."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError, RuntimeError):
        # The pickle reader says what is wrong with a damaged archive.
        return Content(kind=PICKLE)
    ends = {name.lower().rpartition("/")[2] for name in names}
    if "constants.pkl" in ends and any("/code/" in name for name in names):
        return Content(what="a TorchScript program, which would have to be run to be read",
                       advice="Give the model's weights as .safetensors.")
    if "data.pkl" in ends:
        return Content(kind=PICKLE)
    if names and all(name.endswith(".npy") for name in names):
        return Content(what="an archive of NumPy arrays (.npz)", advice=_OTHER_LIBRARY)
    return Content(what="a zip archive without torch's data.pkl", advice=_UNPACK)
