"""KINDS, the table of adapter kinds."""

from __future__ import annotations

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
from harness.declare.nearest import did_you_mean

KINDS: Final[dict[str, AdapterKind]] = {
    "lora": LORA, "loha": LOHA, "lokr": LOKR, "full": FULL, "norm": NORM, "glora": GLORA, "ia3": IA3, "oft": OFT, "boft": BOFT}


def kind_of(change: Change) -> AdapterKind:
    """The row of a change's kind. Raises AdapterError, with the nearest known name, for an unknown kind."""
    if change.kind in KINDS:
        return KINDS[change.kind]
    raise AdapterError(f"{change.component} {change.path}: unknown adapter kind {change.kind!r}; "
                       f"{did_you_mean(change.kind, KINDS)}")
