"""Messages between a driver and the processes that it started, on a socket that nobody else has: a length, and a pickle."""

from __future__ import annotations

import pickle
import struct
from typing import Any, Final

_LENGTH: Final = struct.Struct(">Q")
PICKLING_ERRORS: Final = (pickle.PicklingError, TypeError, AttributeError)
"""What pickle raises for an object that cannot be sent."""


def packed(message: object) -> bytes:
    """A message as it is sent."""
    data = pickle.dumps(message, protocol=5)
    return _LENGTH.pack(len(data)) + data


class Incoming:
    """Puts messages together from the parts that arrive."""

    def __init__(self) -> None:
        self._came = bytearray()

    def take(self, part: bytes) -> list[bytes]:
        """The messages that are complete with this part, not yet unpacked."""
        self._came += part
        complete = []
        while len(self._came) >= _LENGTH.size:
            end = _LENGTH.size + _LENGTH.unpack_from(self._came)[0]
            if len(self._came) < end:
                break
            with memoryview(self._came) as whole:
                complete.append(bytes(whole[_LENGTH.size:end]))
            del self._came[:end]
        return complete


def unpacked(message: bytes) -> Any:
    """What was sent. Only for messages of processes of our own: unpacking executes what they say."""
    return pickle.loads(message)
