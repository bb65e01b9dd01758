"""Entries of a shared cache: a PNG with its hash, and the checks that it must pass before it is used."""

from __future__ import annotations

import hashlib
import hmac
import zlib
from typing import Final

_MAGIC: Final = b"sweetspot image 1\n"
_DIGEST: Final = 32
_PNG: Final = b"\x89PNG\r\n\x1a\n"
_PLAIN_RGB: Final = b"\x08\x02\x00\x00\x00"
"""Eight bits, RGB, deflate, the five filters, not interlaced: the only kind of PNG that the harness writes."""


class EntryError(ValueError):
    """An entry that differs from what was stored; the message says how."""


def seal(key: str, data: bytes, secret: bytes) -> bytes:
    """The entry of an image: a mark, 32 bytes of SHA-256 over key and data (HMAC-SHA-256 under a secret), the data."""
    return _MAGIC + _digest(key, data, secret) + data


def unseal(key: str, entry: bytes, secret: bytes, size: tuple[int, int]) -> bytes:
    """The PNG of an entry. Raises EntryError unless it is whole, belongs to `key`, and decodes to `size` (width, height)."""
    if not entry.startswith(_MAGIC):
        raise EntryError("not an entry of this cache")
    head = len(_MAGIC) + _DIGEST
    data = entry[head:]
    if not hmac.compare_digest(entry[len(_MAGIC):head], _digest(key, data, secret)):
        raise EntryError("hash differs" if not secret else "hash differs, or was made with another secret")
    check_png(data, size)
    return data


def largest(size: tuple[int, int]) -> int:
    """The largest size in bytes of an entry for an image of (width, height); deflate makes noise slightly longer."""
    raw = (size[0] * 3 + 1) * size[1]
    return len(_MAGIC) + _DIGEST + raw + raw // 100 + 65536


def check_png(data: bytes, size: tuple[int, int]) -> None:
    """Raises EntryError unless `data` is a whole PNG of 8-bit RGB, of `size` (width, height), as the harness writes it.

    Only IHDR, IDAT and IEND are allowed, so no other feature of a decoder can be reached; at most the declared number of
    bytes is inflated.
    """
    if not data.startswith(_PNG):
        raise EntryError("not a PNG")
    place, kinds, packed = len(_PNG), [], []
    while place < len(data):
        length = int.from_bytes(data[place:place + 4])
        end = place + 8 + length
        kind, body, check = data[place + 4:place + 8], data[place + 8:end], data[end:end + 4]
        if len(check) != 4 or zlib.crc32(kind + body) != int.from_bytes(check):
            raise EntryError("a damaged PNG")
        kinds.append(kind)
        if kind == b"IHDR" and body != size[0].to_bytes(4) + size[1].to_bytes(4) + _PLAIN_RGB:
            raise EntryError(f"not an 8-bit RGB image of {size[0]} x {size[1]}")
        if kind == b"IDAT":
            packed.append(body)
        place = end + 4
    if kinds != [b"IHDR", *[b"IDAT"] * len(packed), b"IEND"] or not packed:
        raise EntryError("a PNG with other parts than the harness writes")
    _check_pixels(b"".join(packed), size)


def _check_pixels(packed: bytes, size: tuple[int, int]) -> None:
    row, rows = size[0] * 3 + 1, size[1]
    inflate = zlib.decompressobj()
    try:
        raw = inflate.decompress(packed, row * rows + 1)
    except zlib.error as error:
        raise EntryError(f"pixels that cannot be inflated ({error})") from error
    if len(raw) != row * rows or not inflate.eof or inflate.unused_data or max(raw[::row]) > 4:
        raise EntryError("a PNG without the pixels that it declares")


def _digest(key: str, data: bytes, secret: bytes) -> bytes:
    signed = _MAGIC + key.encode() + b"\n" + data
    return hmac.digest(secret, signed, "sha256") if secret else hashlib.sha256(signed).digest()
