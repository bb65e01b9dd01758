"""Tiny random diffusers pipelines on disk, by the name of their class, built without a network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from tests.tiny_pipelines.named import NAMED
from tests.tiny_pipelines.others import OTHERS
from tests.tiny_pipelines.perturbed import PERTURBED
from tests.tiny_pipelines.row import Tiny, write_tiny
from tests.tiny_pipelines.unets import UNETS

TINY: Mapping[str, Tiny] = NAMED | OTHERS | PERTURBED | UNETS
BUILDERS: Mapping[str, Callable[[Path], None]] = {name: partial(write_tiny, name, row)
                                                  for name, row in TINY.items() if not row.reason}
