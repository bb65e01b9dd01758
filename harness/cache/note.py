"""Notes of a shared cache: small signed JSON beside the images, for what is known of images besides their pixels."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import Any, Final

from harness.cache.entry import EntryError
from harness.records.signed_json import digest_of, is_signed, object_of, signed_text

LARGEST_NOTE: Final = 1 << 16
"""In bytes. A note is a few sentences."""
_FORMAT: Final = 1


def seal_note(key: str, content: Mapping[str, Any], secret: bytes) -> bytes:
    """The entry of a note: its content and its key with a digest of both, and under a secret with their HMAC-SHA-256."""
    note = {"note": _FORMAT, "key": key, "content": dict(content)}
    return signed_text({**note, **({"signature": _signature(note, secret)} if secret else {})}).encode(
        "utf-8", "backslashreplace")  # half a surrogate pair, which JSON escapes alike


def unseal_note(key: str, entry: bytes, secret: bytes) -> dict[str, Any]:
    """The content of a note. Raises EntryError unless it is whole, of this version, belongs to `key` and, under a secret, was
    signed with it."""
    if len(entry) > LARGEST_NOTE:
        raise EntryError("larger than any note")
    try:
        note = object_of(entry)
    except ValueError as error:
        raise EntryError(f"a note that cannot be read ({error})") from None
    if not is_signed(note):
        raise EntryError("a note that was changed")
    unsigned = {name: value for name, value in note.items() if name not in ("digest", "signature")}
    signature = note.get("signature")
    if secret and not (isinstance(signature, str) and signature.isascii()
                       and hmac.compare_digest(signature, _signature(unsigned, secret))):
        raise EntryError("a note without a signature, or made with another secret")
    content = note.get("content")
    if note.get("note") != _FORMAT or note.get("key") != key or not isinstance(content, dict):
        raise EntryError("a note of another version or another image")
    return content


def _signature(note: Mapping[str, Any], secret: bytes) -> str:
    return hmac.new(secret, digest_of(note).encode(), "sha256").hexdigest()
