"""The texts that image files carry beside their pixels: PNG chunks, and EXIF in PNG, WebP and JPEG files. No pixel is decoded,
and what is read is bounded."""

from __future__ import annotations

import os
import struct
import warnings
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, Final

PICTURES: Final = (".png", ".webp", ".jpg", ".jpeg")
"""How the names of image files end that can carry a prompt."""
PNG: Final = b"\x89PNG\r\n\x1a\n"
MOST_TEXT: Final = 16 << 20
"""Bytes of text in one picture: a workflow of a thousand nodes takes one megabyte."""
_MOST_PARTS: Final = 100_000
_EXIF_MARK: Final = b"Exif\0\0"
_EXIF_IFD, _USER_COMMENT = 0x8769, 0x9286
_EXIF_TAGS: Final = {0x010E: "ImageDescription", 0x010F: "Make", 0x0110: "Model", 0x0131: "Software"}
USER_COMMENT: Final = "UserComment"
_COMMENT_CODES: Final = {b"ASCII\0\0\0": "ascii", b"UNICODE\0": "utf-16", b"JIS\0\0\0\0\0": "iso2022_jp", b"\0" * 8: "utf-8"}


def texts_of(path: Path) -> dict[str, str]:
    """{name: text} of an image file: the text chunks of a PNG by their keywords, of EXIF the UserComment and the texts of
    the first directory by the names of their tags. Where a name is given twice the last counts, as in the tools.

    Raises ValueError, without the file's name, if the file is of another kind, ends too early or holds too much text.
    """
    # A pipe would keep the reader waiting for ever.
    if not path.is_file():
        raise ValueError("not a file" if path.exists() else "no such file")
    with path.open("rb") as file:
        start = file.read(12)
        file.seek(0)
        if start.startswith(PNG):
            texts, exif = _of_png(file)
        elif start[:4] == b"RIFF" and start[8:] == b"WEBP":
            texts, exif = {}, _of_webp(file)
        elif start[:2] == b"\xff\xd8":
            texts, exif = {}, _of_jpeg(file)
        else:
            raise ValueError("not a PNG, WebP or JPEG image")
    return {**_of_exif(exif), **texts}


def with_texts(png: bytes, texts: Mapping[str, str]) -> bytes:
    """A PNG with texts as chunks before its pixels: tEXt for Latin-1, else iTXt, as Pillow and the tools write them."""
    end_of_header = len(PNG) + 25
    if not png.startswith(PNG) or png[12:16] != b"IHDR" or len(png) < end_of_header:
        raise ValueError("not a PNG that begins with its header")
    return png[:end_of_header] + b"".join(_chunk(name, text) for name, text in texts.items()) + png[end_of_header:]


def _chunk(name: str, text: str) -> bytes:
    keyword = name.encode("latin-1")
    if not 1 <= len(keyword) <= 79 or b"\0" in keyword:
        raise ValueError(f"{name!r} cannot name a text chunk; expected 1 to 79 characters of Latin-1")
    try:
        kind, body = b"tEXt", keyword + b"\0" + text.encode("latin-1")
    except UnicodeError:
        kind, body = b"iTXt", keyword + b"\0\0\0\0\0" + text.encode("utf-8", "replace")
    return len(body).to_bytes(4) + kind + body + zlib.crc32(kind + body).to_bytes(4)


def _read(file: BinaryIO, size: int) -> bytes:
    """Exactly `size` bytes, at most MOST_TEXT."""
    if size > MOST_TEXT:
        raise ValueError(f"holds more than {MOST_TEXT >> 20} MiB of text")
    data = file.read(size)
    if len(data) < size:
        raise ValueError("ends in the middle of the file; copy it again")
    return data


def _of_png(file: BinaryIO) -> tuple[dict[str, str], bytes]:
    """The texts and the EXIF block of a PNG; chunks after the pixels count too."""
    file.seek(len(PNG))
    texts, exif, room = dict[str, str](), b"", MOST_TEXT
    for _ in range(_MOST_PARTS):
        size, kind = struct.unpack(">I4s", _read(file, 8))
        if kind == b"IEND":
            return texts, exif
        if kind in (b"tEXt", b"zTXt", b"iTXt", b"eXIf"):
            body = _read(file, size)
            if kind == b"eXIf":
                exif = body
            elif (named := _named(kind, body, room)) is not None:
                texts[named[0]] = named[1]
                room -= len(named[1])
            size = 0
        _skip(file, size + 4)
    raise ValueError(f"has more than {_MOST_PARTS:,} parts")


def _skip(file: BinaryIO, size: int) -> None:
    # Seeking goes past the end of a file without a word.
    if file.tell() + size > os.fstat(file.fileno()).st_size:
        raise ValueError("ends in the middle of the file; copy it again")
    file.seek(size, os.SEEK_CUR)


def _named(kind: bytes, body: bytes, room: int) -> tuple[str, str] | None:
    """Keyword and text of a text chunk; None for one without them."""
    keyword, separator, rest = body.partition(b"\0")
    if not separator:
        return None
    encoding, packed = "latin-1", kind == b"zTXt"
    if packed:
        rest = rest[1:]  # the method, of which there is one
    elif kind == b"iTXt":
        encoding, packed = "utf-8", rest[:1] == b"\1"
        *_, rest = rest[2:].split(b"\0", 2)
    if packed:
        rest = _inflated(rest, room)
    if len(rest) > room:
        raise ValueError(f"holds more than {MOST_TEXT >> 20} MiB of text")
    return keyword.decode("latin-1"), rest.decode(encoding, "replace")


def _inflated(data: bytes, room: int) -> bytes:
    inflate = zlib.decompressobj()
    try:
        text = inflate.decompress(data, room + 1)
    except zlib.error as error:
        raise ValueError(f"holds a compressed text that cannot be read ({error})") from error
    return text


def _of_webp(file: BinaryIO) -> bytes:
    """The EXIF block of a WebP file; empty if it has none."""
    file.seek(12)
    for _ in range(_MOST_PARTS):
        head = file.read(8)
        if not head:
            return b""
        if len(head) < 8:
            break
        kind, size = struct.unpack("<4sI", head)
        if kind == b"EXIF":
            return _read(file, size)
        _skip(file, size)
        file.seek(size % 2, os.SEEK_CUR)
    raise ValueError("ends in the middle of the file; copy it again")


def _of_jpeg(file: BinaryIO) -> bytes:
    """The EXIF block of a JPEG file, which comes before the pixels; empty if it has none."""
    file.seek(2)
    for _ in range(_MOST_PARTS):
        mark = _read(file, 2)
        if mark[0] != 0xFF:
            raise ValueError("has damaged parts before its pixels")
        if mark[1] == 0xFF:  # padding
            file.seek(-1, os.SEEK_CUR)
            continue
        if mark[1] in (0xDA, 0xD9):
            return b""
        size = int.from_bytes(_read(file, 2)) - 2
        if size < 0:
            raise ValueError("has damaged parts before its pixels")
        if mark[1] == 0xE1:
            body = _read(file, size)
            if body.startswith(_EXIF_MARK):
                return body
        else:
            _skip(file, size)
    raise ValueError(f"has more than {_MOST_PARTS:,} parts")


def _of_exif(block: bytes) -> dict[str, str]:
    """The texts of an EXIF block, a small TIFF file in either byte order."""
    if not block:
        return {}
    from PIL import Image

    exif = Image.Exif()
    try:
        with warnings.catch_warnings():  # of damaged entries; what can be read is read
            warnings.simplefilter("ignore")
            exif.load(block if block.startswith(_EXIF_MARK) else _EXIF_MARK + block)
            values: list[tuple[str, object]] = [(name, exif.get(tag)) for tag, name in _EXIF_TAGS.items()]
            values.append((USER_COMMENT, exif.get_ifd(_EXIF_IFD).get(_USER_COMMENT)))
    except Exception as error:  # Pillow raises what the damaged bytes lead to
        raise ValueError(f"its EXIF block cannot be read ({type(error).__name__})") from error
    little = (exif.endian or "<") == "<"
    return {name: text for name, value in values if (text := _text(value, little=little))}


def _text(value: object, *, little: bool) -> str:
    """A value of EXIF as text: a UserComment begins with eight bytes that name its encoding."""
    if isinstance(value, str):
        return value.rstrip("\0")
    if not isinstance(value, bytes):
        return ""
    encoding = _COMMENT_CODES.get(value[:8])
    body = value if encoding is None else value[8:]
    if encoding == "utf-16":
        return "".join(_utf16(body, little=little)).rstrip("\0")
    return body.decode(encoding or "utf-8", "replace").rstrip("\0")


def _utf16(body: bytes, *, little: bool) -> Iterator[str]:
    """UTF-16 of a UserComment. Its byte order should be that of the TIFF block, but A1111 (piexif) always writes big-endian, so
    the order that gives more characters of Latin scripts counts."""
    if body[:2] in (b"\xff\xfe", b"\xfe\xff"):
        yield body.decode("utf-16", "replace")
        return
    high_first, low_first = sum(not byte for byte in body[::2]), sum(not byte for byte in body[1::2])
    if high_first != low_first:
        little = low_first > high_first
    yield body[:len(body) // 2 * 2].decode("utf-16-le" if little else "utf-16-be", "replace")
