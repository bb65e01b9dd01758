"""KINDS, the table of what an adapter can be; `applying.py` looks changes up in it."""

from __future__ import annotations

import difflib
from typing import Final

from harness.adapters.change import Change
from harness.adapters.kinds.full import FULL, NORM
from harness.adapters.kinds.glora import GLORA, IA3
from harness.adapters.kinds.kind import AdapterKind
from harness.adapters.kinds.loha import LOHA
from harness.adapters.kinds.lokr import LOKR
from harness.adapters.kinds.lora import LORA
from harness.adapters.kinds.oft import BOFT, OFT
from harness.adapters.live_plan import AdapterError

KINDS: Final[dict[str, AdapterKind]] = {
    "lora": LORA, "loha": LOHA, "lokr": LOKR, "full": FULL, "norm": NORM, "glora": GLORA, "ia3": IA3, "oft": OFT, "boft": BOFT}


def kind_of(change: Change) -> AdapterKind:
    """The row of a change's kind; an unknown one raises AdapterError with the nearest known name."""
    if change.kind in KINDS:
        return KINDS[change.kind]
    near = difflib.get_close_matches(change.kind, KINDS, n=1, cutoff=0.0)[0]
    raise AdapterError(f"{change.component} {change.path}: unknown adapter kind {change.kind!r}; did you mean {near!r}?")
