"""Prints the BLAKE3 of each file named on the command line, one a line. `hashing.py` runs this file in a process of its
own, which shares no interpreter lock with a long import; it therefore imports nothing of the project.
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
