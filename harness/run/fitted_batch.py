"""The batch size of a grid that asks for what fits: chosen once for a run folder and a model of device."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from harness.declare import Suite
from harness.declare.effective_grid import largest_image
from harness.declare.grid import FIT
from harness.materialise import Workbench
from harness.probes.available import DeviceMemory, device_memory
from harness.run.memory_plan import LARGEST_BATCH, Footprint, Planned, planned
from harness.run.run_json import FITTED_BATCH
from harness.run_folder.ledger import RunFolderError


def with_fitted_batch(suite: Suite, bench: Workbench, before: Mapping[str, Any],
                      memory: DeviceMemory | None = None) -> tuple[Suite, Mapping[str, Any] | None]:
    """The suite with a number as its batch size, and what run.json says of a choice; None if the suite declares a number.

    `before` is the earlier run.json, and `memory` that of a device that this process has not. The choice for the same
    families and size of images holds for later sessions on the same model of device. Raises RunFolderError on another one: its
    images would have another batch size, and count as others.
    """
    if suite.grid.batch_size != FIT:
        return suite, None
    here = memory or device_memory(bench.device)
    width, height = largest_image(suite)
    asked = {"families": _families(suite, bench), "width": width, "height": height}
    earlier = before.get(FITTED_BATCH)
    if isinstance(earlier, Mapping) and {name: earlier.get(name) for name in asked} == asked and _is_size(earlier):
        if earlier.get("device") != here.name:
            raise RunFolderError(
                f"batch_size {FIT!r} was resolved to {earlier['batch_size']} on {str(earlier.get('device'))!r}, and this device "
                f"is {here.name!r}, whose images have other last bits. Declare batch_size={earlier['batch_size']} to sample all "
                "images again on this device in the same batches, or run with --fresh to choose again")
        chosen = dict(earlier)
    else:
        rows = planned(suite, suite.candidates, bench)
        chosen = {"device": here.name, **asked, "batch_size": fitting_batch(rows, suite, here.free)}
    return replace(suite, grid=replace(suite.grid, batch_size=chosen["batch_size"])), chosen


def fitting_batch(rows: list[Planned], suite: Suite, memory: int) -> int:
    """The largest batch with which all candidates that can be planned fit into `memory` bytes. At least 1: what does not fit then
    is refused in the run, as with any declared number."""
    sizes = [row.footprint.largest_batch(memory, suite.grid.low_memory) for row in rows if isinstance(row.footprint, Footprint)]
    return max(1, min(sizes, default=1))


def _is_size(earlier: Mapping[str, Any]) -> bool:
    size = earlier.get("batch_size")
    return isinstance(size, int) and not isinstance(size, bool) and 1 <= size <= LARGEST_BATCH


def _families(suite: Suite, bench: Workbench) -> list[str]:
    families = set()
    for candidate in suite.candidates:
        with suppress(ValueError, OSError):  # said in the preflight
            families.add(bench.family(candidate))
    return sorted(families)
