"""Prints the BLAKE3 of each file named on the command line, one per line. It runs as a separate process, so that a long
import does not hold its interpreter lock, and imports nothing from the project.
"""

import sys
from pathlib import Path

from blake3 import blake3

_AT_ONCE = 1 << 20
"""Small enough to stay in the cache between reading and hashing."""


def main() -> None:
    buffer = bytearray(_AT_ONCE)
    for name in sys.argv[1:]:
        digest = blake3()
        with Path(name).open("rb", buffering=0) as file:
            while count := file.readinto(buffer):
                digest.update(memoryview(buffer)[:count])
        print(digest.hexdigest(), flush=True)


if __name__ == "__main__":
    main()
