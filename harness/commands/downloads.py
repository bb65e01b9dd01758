"""--allow-download, the option of commands that read files of the Hugging Face hub."""

from __future__ import annotations

import argparse
from typing import TypeVar

from harness.commands.terminal import say
from harness.hub import availability

_Any = TypeVar("_Any")


def add_download(parser: argparse._ActionsContainer) -> None:
    """The option that allows downloads."""
    parser.add_argument("--allow-download", action="store_true",
                        help="fetch what the cache of Hugging Face does not have of hub: addresses (default: refuse it)")


def available(declared: _Any, *, allow_download: bool) -> _Any:
    """The declaration with each address of the hub at its commit, fetched if that is allowed. Raises HubError."""
    return availability.available(declared, allow_download=allow_download, say=say)
