"""What is said of a keyword that a declaration or a sweep does not have: the nearest ones, and where it belongs."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import fields
from typing import Final

from harness.declare import Candidate, Sampling, guide_sweeps, model_sweeps, sweeps
from harness.declare.from_plain import DECLARATIONS
from harness.declare.nearest import closest, did_you_mean
from harness.declare.sampling_sweep import sampling_sweep

_UNEXPECTED: Final = re.compile(r"^(?:(\w+)\.__init__|(\w+))\(\) got an unexpected keyword argument '(\w+)'")
_SWEEPS: Final = {function.__name__: function for function in (
    sweeps.adapter_files, sweeps.adapter_grid, sweeps.adapter_sweep, sweeps.alpha_sweep, sweeps.block_sweep, sampling_sweep,
    sweeps.sweep, model_sweeps.ensemble_sweep, model_sweeps.relay_sweep,
    guide_sweeps.control_sweep, guide_sweeps.reference_sweep)}
_OF_CANDIDATES: Final = ("sweep", "_grid", "_files")
"""Ends of the names of functions that give candidates."""


def after_unknown_keyword(error: BaseException) -> str:
    """The end of Python's message about an unknown keyword of a declaration or a sweep; empty for any other error."""
    match = _UNEXPECTED.match(str(error)) if isinstance(error, TypeError) else None
    if match is None:
        return ""
    name, keyword = match[1] or match[2], match[3]
    if name in DECLARATIONS:
        of_sampling = {spec.name for spec in fields(Sampling)}
        if keyword in of_sampling and "sampling" in {spec.name for spec in fields(DECLARATIONS[name])}:
            return f"; {keyword!r} is a field of Sampling, so give sampling=Sampling({keyword}=...)"
        return f"; {did_you_mean(keyword, [spec.name for spec in fields(DECLARATIONS[name])])}"
    function = _SWEEPS.get(name) or _called(name, error)
    if function is None:
        return ""
    known = list(inspect.signature(function).parameters)
    of_candidates = name.endswith(_OF_CANDIDATES) and keyword in {spec.name for spec in fields(Candidate)}
    if of_candidates and not closest(keyword, known, cutoff=0.8):
        return (f"; {keyword!r} is a field of Candidate, so set it with dataclasses.replace: "
                f"[replace(c, {keyword}=...) for c in {name}(...)]")
    return f"; {did_you_mean(keyword, known)}"


def _called(name: str, error: BaseException) -> Callable[..., object] | None:
    """The function of harness that the file in which the error arose knows by this name."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    function = trace.tb_frame.f_globals.get(name) if trace is not None else None
    return function if inspect.isfunction(function) and function.__module__.startswith("harness.") else None
