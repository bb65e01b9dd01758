"""ADAPTER_FORMATS: reads adapter files into exact changes per module, and attaches those that live layers support.

`kinds` has the arithmetic, `algebra` combines adapters, `writing` writes files."""

from harness.adapters.attach import activate, attach, detach, live_plan, set_weight
from harness.adapters.change import Change, Reading, Shapes
from harness.adapters.formats import FORMATS as ADAPTER_FORMATS
from harness.adapters.live_plan import STATUSES, AdapterError, AdapterPlan, Factors
from harness.adapters.reading import Recognised, read_changes, recognise_file

__all__ = ["ADAPTER_FORMATS", "STATUSES", "AdapterError", "AdapterPlan", "Change", "Factors", "Reading", "Recognised", "Shapes",
           "activate", "attach", "detach", "live_plan", "read_changes", "recognise_file", "set_weight"]
